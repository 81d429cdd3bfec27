"""Items of the battery: reading, and items of our own in the style of its six tracks, whose keys can be computed.

The texts of the paper's tracks T1 to T5 are not in its repository. The generated items follow the paradigms that its
labels name [inferred]; they are no copy, and their scores are not the paper's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.core.rows.sampling import stream_seed

TRACKS = ("T1", "T2", "T3", "T4", "T5", "T6")
NOUNS = ("blicket", "dax", "wug", "toma", "fep", "zorp", "gazzer", "modi", "koba", "pilk", "sarn", "lorp")
SHAPES = ("round", "square", "star-shaped", "flat", "long", "pointed")
COLOURS = ("red", "blue", "green", "yellow", "white", "black")
THINGS = ("dog", "cup", "shoe", "ball", "spoon", "chair", "car", "book", "hat", "apple")
# Words with two meanings: a sentence that primes one, that meaning, the other.
HOMOGRAPHS = (
    ("We walked along the river and sat down on the bank.", "bank", "land beside water", "house for money"),
    ("She paid her salary in at the bank.", "bank", "house for money", "land beside water"),
    ("At night the zoo keeper feeds the bat.", "bat", "flying animal", "stick for hitting balls"),
    ("He swung the bat and missed the ball.", "bat", "stick for hitting balls", "flying animal"),
    ("The telescope shows a star that is far away.", "star", "body in the sky", "famous actor"),
    ("Reporters waited for the star outside the cinema.", "star", "famous actor", "body in the sky"),
    ("The tree is old, and its bark is rough.", "bark", "outside of a trunk", "sound of a dog"),
    ("The bark behind the gate woke the child.", "bark", "sound of a dog", "outside of a trunk"),
    ("Write the letter with a pen.", "pen", "tool for writing", "fence for animals"),
    ("The sheep are in their pen.", "pen", "fence for animals", "tool for writing"),
)
UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Item:
    """A question with two or more options, one of which is right.

    Attributes:
        id, track, type: its name, `T1` to `T6`, and its kind.
        prompt: the question without its options.
        options: the options, shown as A, B, ...
        key: index of the right one.
        fields: what else is known of it (difficulty, ratio, domain).
    """

    id: str
    track: str
    type: str
    prompt: str
    options: tuple[str, ...]
    key: int
    fields: tuple[tuple[str, str], ...] = ()

    def shown(self) -> str:
        """Return the question with its lettered options."""
        lines = [f"{letter(i)}) {option}" for i, option in enumerate(self.options)]
        return "\n".join([self.prompt, *lines])


def letter(index: int) -> str:
    """Return the letter of an option."""
    return chr(ord("A") + index)


def read_items(path: str) -> list[Item]:
    """Read JSON lines {"id", "track", "type", "prompt", "options", "key"}; further fields are kept as text.

    Raises:
        InputError: a row lacks a field, has fewer than two or equal options, or a key that is none of them.
    """
    found = [_item(row, f"{path}, row {number}") for number, row in read_rows(path)]
    if not found:
        raise InputError(f"{path} holds no rows", "give a file with at least one row")
    names = [item.id for item in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: two items have the id {twice!r}", "give each item its own id")
    return found


def _item(row: Any, where: str) -> Item:
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {short(row)}, not an object", "write each item as an object")
    for name in ("id", "track", "prompt"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise InputError(f"{where}, field {name!r}: found {short(row.get(name))}, not a non-empty text", "fill it")
    if row["track"] not in TRACKS:
        raise InputError(f"{where}, field 'track': found {short(row['track'])}", f"one of: {', '.join(TRACKS)}")
    options, key = row.get("options"), row.get("key")
    texts = options if isinstance(options, list) and all(isinstance(one, str) for one in options) else []
    if not 2 <= len(texts) <= 26 or len(set(texts)) < len(texts):
        raise InputError(f"{where}, field 'options': found {short(options)}", "give 2 to 26 different texts")
    if isinstance(key, str) and key.upper() in [letter(i) for i in range(len(texts))]:
        key = ord(key.upper()) - ord("A")
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(texts):
        raise InputError(f"{where}, field 'key': found {short(key)}", "give the right option's letter or number from 0")
    known = ("id", "track", "type", "prompt", "options", "key")
    fields = tuple((str(name), str(value)) for name, value in row.items() if name not in known and value is not None)
    return Item(row["id"], row["track"], str(row.get("type") or ""), row["prompt"], tuple(texts), key, fields)


Made = tuple[str, str, str, str, Mapping[str, str]]  # type, prompt, right option, wrong option, fields


def own_items(per_track: int = 20, seed: int = 0) -> list[Item]:
    """Generate items for every track; the right option is A in half of each track's items."""
    items = []
    for track, make in MAKERS.items():
        draw = random.Random(stream_seed(seed, f"items {track}"))
        for number in range(per_track):
            kind, prompt, right, wrong, fields = make(draw, number)
            key = number % 2
            options = (right, wrong) if key == 0 else (wrong, right)
            name = f"{track.lower()}-{number:03d}"
            items.append(Item(name, track, kind, prompt, options, key, tuple(fields.items())))
    return items


def _overhypothesis(draw: random.Random, number: int) -> Made:
    """What holds within known categories (all of one shape) must be carried over to a new noun."""
    first, second, new = draw.sample(NOUNS, 3)
    property_, other = (SHAPES, COLOURS) if number % 4 < 2 else (COLOURS, SHAPES)
    one, two, fresh = draw.sample(property_, 3)
    seen, unseen = draw.sample(other, 2)
    prompt = (
        f"All {first}s are {one}, and they come in every other kind. All {second}s are {two}, and they come in every "
        f"other kind. You see one {new}: it is {fresh} and {seen}. Which of these is also a {new}?"
    )
    right, wrong = f"a thing that is {fresh} and {unseen}", f"a thing that is {one} and {seen}"
    return "second_order", prompt, right, wrong, {"noun": new}


def _calibration(draw: random.Random, number: int) -> Made:
    """A sum that is right or wrong by one digit; difficulty is the number of digits."""
    digits = 1 + number // 2 % 6
    a, b = (draw.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
    true = draw.random() < 0.5
    shown = a + b if true else a + b + draw.choice((-1, 1)) * 10 ** draw.randrange(digits)
    right, wrong = ("TRUE", "FALSE") if true else ("FALSE", "TRUE")
    return "calibration", f"True or false: {a} + {b} = {shown}", right, wrong, {"difficulty": str(digits)}


def _exclusivity(draw: random.Random, number: int) -> Made:
    """A new word names the object that has no name yet."""
    known, label = draw.choice(THINGS), draw.choice(NOUNS)
    prompt = f'On the table lie a {known} and an object that you have never seen. Someone says: "Give me the {label}."'
    if number % 4 < 2:
        return "basic_me", f"{prompt} Which do they mean?", "the object that I have never seen", f"the {known}", {}
    prompt = prompt.replace(label, known)
    return "familiar_label", f"{prompt} Which do they mean?", f"the {known}", "the object that I have never seen", {}


def _attention(draw: random.Random, number: int) -> Made:
    """A sentence primes one meaning of a word with two."""
    sentence, word, right, wrong = HOMOGRAPHS[number % len(HOMOGRAPHS)]
    return "dorsal_primed", f'{sentence} What does "{word}" mean here?', right, wrong, {"stimulus": word}


def _magnitude(draw: random.Random, number: int) -> Made:
    """Two numbers in one of three formats, with a known ratio."""
    kind = ("arabic", "words", "expression")[number // 2 % 3]
    small = draw.randrange(2, 12) if kind == "words" else draw.randrange(20, 900)
    large = (
        draw.randrange(small + 1, 13) if kind == "words" else small + max(1, round(small * draw.choice((0.01, 0.1, 1))))
    )
    if kind == "words":
        right, wrong = UNITS[large - 1], UNITS[small - 1]
    elif kind == "expression":
        right, wrong = f"{large - 7} + 7", f"{small - 5} + 5"
    else:
        right, wrong = str(large), str(small)
    return (
        "format_flexibility",
        "Which number is larger?",
        right,
        wrong,
        {"ratio": f"{large / small:.4f}", "subtype": kind},
    )


def _prospective(draw: random.Random, number: int) -> Made:
    """A product in four tiers, for which help may be asked before answering."""
    tier = number // 2 % 4
    a, b = (draw.randrange(2 * 10**tier, 10 ** (tier + 1)) for _ in range(2))
    wrong = a * b + draw.choice((-10, 10)) * 10 ** draw.randrange(tier + 1)
    fields = {"tier": ("easy", "medium", "hard", "extreme")[tier], "domain": "maths"}
    return "prospective", f"What is {a} times {b}?", str(a * b), str(wrong), fields


MAKERS: dict[str, Callable[[random.Random, int], Made]] = {
    "T1": _overhypothesis,
    "T2": _calibration,
    "T3": _exclusivity,
    "T4": _attention,
    "T5": _magnitude,
    "T6": _prospective,
}
