"""True and false statements, by topic: built in, or read from CSV files with the columns `statement` and `label`."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from letheon.core.errors import InputError
from letheon.core.rows.sampling import stream_seed


@dataclass(frozen=True)
class Statement:
    """A sentence that is true or false.

    Attributes:
        text: the sentence, with its full stop.
        label: whether it is true.
        group: name shared by statements about one subject.
    """

    text: str
    label: bool
    group: str = ""


CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Austria": "Vienna",
    "Greece": "Athens", "Portugal": "Lisbon", "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima",
    "Poland": "Warsaw", "Hungary": "Budapest", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Iran": "Tehran", "Iraq": "Baghdad",
}  # fmt: skip
SYMBOLS = {
    "hydrogen": "H", "helium": "He", "carbon": "C", "nitrogen": "N", "oxygen": "O", "sodium": "Na", "iron": "Fe",
    "copper": "Cu", "silver": "Ag", "gold": "Au", "lead": "Pb", "tin": "Sn", "zinc": "Zn", "neon": "Ne",
    "calcium": "Ca", "potassium": "K", "silicon": "Si", "sulfur": "S", "chlorine": "Cl", "aluminium": "Al",
}  # fmt: skip
KINDS = {
    "dog": "mammal", "trout": "fish", "eagle": "bird", "ant": "insect", "horse": "mammal", "salmon": "fish",
    "sparrow": "bird", "bee": "insect", "cat": "mammal", "shark": "fish", "owl": "bird", "beetle": "insect",
    "cow": "mammal", "tuna": "fish", "pigeon": "bird", "wasp": "insect", "whale": "mammal", "herring": "fish",
    "swan": "bird", "moth": "insect",
}  # fmt: skip
FORMS = {
    "capitals": ("The capital of {} is {}.", CAPITALS),
    "symbols": ("The chemical symbol of {} is {}.", SYMBOLS),
    "animals": ("The {} is a kind of {}.", KINDS),
}
# Parts of invented names, which no model knows.
BEGIN, MIDDLE, END = (
    ("Vor", "Kel", "Zan", "Mur", "Tel"),
    ("lun", "dro", "vi", "sar", "po"),
    ("dia", "mar", "sk", "via", "ton"),
)


def built_in() -> dict[str, list[Statement]]:
    """Return statements of four topics, half of them true: capitals, chemical symbols, animals, sizes of numbers."""
    found = {name: paired(form, facts) for name, (form, facts) in FORMS.items()}
    draw = random.Random(stream_seed(0, "sizes of numbers"))
    words = ["two", "five", "nine", "twelve", "twenty", "thirty", "forty", "sixty", "seventy", "ninety"]
    sizes = []
    for _ in range(20):
        small, large = sorted(draw.sample(range(len(words)), 2))
        group = f"{small}-{large}"
        sizes.append(Statement(f"{words[large].capitalize()} is larger than {words[small]}.", True, group))
        sizes.append(Statement(f"{words[small].capitalize()} is larger than {words[large]}.", False, group))
    return {**found, "sizes": sizes}


def invented(seed: int = 0, count: int = 40) -> list[Statement]:
    """Return statements about invented countries; labels are drawn by a fair coin, so that nothing is known."""
    draw = random.Random(stream_seed(seed, "invented countries"))
    cities, found = list(CAPITALS.values()), []
    labels = [True, False] * (count // 2)
    draw.shuffle(labels)
    for label in labels:
        name = draw.choice(BEGIN) + draw.choice(MIDDLE) + draw.choice(END)
        found.append(Statement(f"The capital of {name} is {draw.choice(cities)}.", label, name))
    return found


def paired(form: str, facts: Mapping[str, str]) -> list[Statement]:
    """Make a true and a false statement per subject; the false one takes another subject's value."""
    subjects, found = list(facts), []
    for i, subject in enumerate(subjects):
        others = [facts[s] for s in (*subjects[i + 1 :], *subjects[:i]) if facts[s] != facts[subject]]
        found += [Statement(form.format(subject, facts[subject]), True, subject)]
        found += [Statement(form.format(subject, others[0]), False, subject)]
    return found


def read_statements(path: str | Path) -> list[Statement]:
    """Read a CSV file with the columns `statement` and `label` (1 or 0, true or false).

    Raises:
        InputError: a missing column, a label that is neither, or fewer than two statements of a kind.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} could not be read: {error}", "give a CSV file in UTF-8") from None
    found = []
    for number, row in enumerate(rows, 1):
        text, label = (row.get("statement") or "").strip(), (row.get("label") or "").strip().lower()
        if not text or label not in ("0", "1", "true", "false"):
            raise InputError(f"{path}, row {number}: found {row}", "give the columns statement and label (0 or 1)")
        found.append(Statement(text, label in ("1", "true")))
    if min(sum(one.label == kind for one in found) for kind in (True, False)) < 2:
        raise InputError(f"{path} needs two true and two false statements", "add statements")
    return found


def balanced(statements: Sequence[Statement], most: int, seed: int = 0) -> list[Statement]:
    """Draw up to `most` statements, as many true as false ones, in random order."""
    draw = random.Random(stream_seed(seed, "statements"))
    kinds = [[one for one in statements if one.label == kind] for kind in (True, False)]
    each = min(most // 2, *map(len, kinds))
    chosen = [one for kind in kinds for one in draw.sample(kind, each)]
    return draw.sample(chosen, len(chosen))
