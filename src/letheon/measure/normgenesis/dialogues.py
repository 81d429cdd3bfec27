"""The released dialogues: reading, turns, words of apology, and the phases of a violation that is repaired.

Paper:   Hong, Choi & Kim, NormGenesis, arXiv 2509.18395 (EMNLP 2025).
Source:  bk123477/NormGenesis (CC BY-SA 4.0) for the files' layout. The release has no turn labels, so the phases are
         found by words; the word lists are ours and English [inferred].
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows
from letheon.core.rows.sampling import stream_seed
from letheon.measure.tables import text_of

FIELDS = ("scenario", "situation", "dialogue", "category", "norm")
TURN = re.compile(r"^\W*(?P<speaker>[^\s():：*\[\]][^():：\n]{0,40}?)\W*[:：]\s*(?P<rest>.+)$")
ACTION = re.compile(r"[(（]([^()（）]*)[)）]")
APOLOGY = re.compile(r"\b(sorry|apologi[sz]e|apolog(?:y|ies)|my fault|my bad)\b", re.IGNORECASE)
# The four words whose shares were counted in the release.
COUNTED = re.compile(r"\b(sorry|apologi[sz]e|my fault|my bad)\b", re.IGNORECASE)
ACCEPTANCE = re.compile(
    r"\b(thank(?:s| you)|appreciate|it'?s (?:ok|okay|alright|all right|fine)|no (?:worries|problem)|forgive|accept|"
    r"don'?t worry|means a lot|understand|let'?s move)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Turn:
    """One line of a dialogue: who speaks, what is done in brackets, what is said."""

    speaker: str
    action: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """One record of the release."""

    id: str
    scenario: str
    situation: str
    dialogue: str
    category: str
    norm: str

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The lines with a speaker."""
        return read_turns(self.dialogue)


def read_turns(text: str) -> tuple[Turn, ...]:
    """Read the lines that begin with a speaker; stage directions in brackets are no turns."""
    turns = []
    for line in text.replace("’", "'").splitlines():
        found = TURN.match(line.strip())
        if found is None or line.strip().startswith(("(", "（", "[")):
            continue
        rest = found["rest"]
        said = " ".join(ACTION.sub(" ", rest).split())
        turns.append(Turn(found["speaker"].strip("* "), "; ".join(ACTION.findall(rest)), said))
    return tuple(turns)


def read_dialogues(path: str | Path) -> list[Dialogue]:
    """Read a file of the release.

    Raises:
        InputError: a record lacks a field.
    """
    found = []
    for number, row in read_rows(path):
        where = f"{path}, record {number}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: not an object", f"give the fields {', '.join(FIELDS)}")
        norm = next(
            (name for name in (*FIELDS[-1:], "american_norm", "chinese_norm", "korean_norm") if name in row), "norm"
        )
        texts = [str(row.get(name) or "") for name in FIELDS[:3]]  # the release leaves a few records empty
        named = [text_of(row, name, where) for name in ("category", norm)]
        found.append(Dialogue(f"{Path(path).stem}-{number}", *texts, *named))
    if not found:
        raise InputError(f"{path} holds no records", "give a file of the release")
    return found


def grid(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    """Count records, categories (and the smallest and largest of them), norms, and turns per dialogue."""
    categories: dict[str, int] = {}
    for one in dialogues:
        categories[one.category] = categories.get(one.category, 0) + 1
    return {
        "records": len(dialogues),
        "categories": len(categories),
        "smallest category": min(categories.values()),
        "largest category": max(categories.values()),
        "norms": len({one.norm for one in dialogues}),
        "turns": sum(len(one.turns) for one in dialogues) / len(dialogues),
        "apologies": sum(bool(COUNTED.search(one.dialogue)) for one in dialogues) / len(dialogues),
    }


@dataclass(frozen=True)
class Phases:
    """Where a repair happens, as numbers of turns; None where a phase is missing.

    Attributes:
        violation: the first turn of the one who apologises later.
        reaction: the first turn of another speaker between violation and apology.
        repair: the first apology after a reaction.
        acceptance: the first accepting turn of another speaker after the repair.
    """

    violation: int | None
    reaction: int | None
    repair: int | None
    acceptance: int | None

    @property
    def resolved(self) -> bool:
        """Whether a violation is followed by a reaction, an apology and its acceptance, in this order."""
        return None not in (self.violation, self.reaction, self.repair, self.acceptance)


def phases(turns: Sequence[Turn]) -> Phases:
    """Find the phases of the first repair that is complete, else of the first that has begun.

    The acceptance is among the last third of the turns, where a dialogue that resolves ends.
    """
    best = Phases(None, None, None, None)
    for repair, turn in enumerate(turns):
        if not APOLOGY.search(turn.text):
            continue
        violation = next((i for i in range(repair) if turns[i].speaker == turn.speaker), None)
        others = range(repair if violation is None else violation + 1, repair)
        reaction = next((i for i in others if turns[i].speaker != turn.speaker), None)
        late = range(max(repair + 1, len(turns) - max(2, len(turns) // 3)), len(turns))
        accepted = (i for i in late if turns[i].speaker != turn.speaker and ACCEPTANCE.search(turns[i].text))
        found = Phases(violation, reaction, repair, next(accepted, None))
        if found.resolved:
            return found
        best = best if best.repair is not None else found
    return best


def shuffled_turns(turns: Sequence[Turn], seed: int) -> list[Turn]:
    """Return the turns in another order, a control under which the phases must break."""
    return random.Random(stream_seed(seed, "turns", len(turns))).sample(list(turns), len(turns))


def split_by_norm(dialogues: Sequence[Dialogue], test_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Split into training and test places so that no norm is on both sides."""
    norms = sorted({one.norm for one in dialogues})
    random.Random(stream_seed(seed, "norms")).shuffle(norms)
    held = set(norms[: max(1, round(test_share * len(norms)))])
    train = [i for i, one in enumerate(dialogues) if one.norm not in held]
    return train, [i for i, one in enumerate(dialogues) if one.norm in held]


def type_accuracy(
    kinds: Sequence[Sequence[Dialogue]], *, share: float = 1.0, length: int = 120, seed: int = 0
) -> tuple[float, int]:
    """Tell the kind of a dialogue from its words by TF-IDF and a logistic regression, tested on other norms.

    Args:
        kinds: dialogues by kind (adherence, violation, repaired).
        share: part of each dialogue that is read, from its start.
        length: words that are read at most, so that the length of a kind tells nothing.

    Returns:
        Accuracy, and the number of test dialogues.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    every = [one for kind in kinds for one in kind]
    labels = [number for number, kind in enumerate(kinds) for _ in kind]
    texts = []
    for one in every:
        words = one.dialogue.split()
        whole = words[: max(1, round(share * len(words)))]
        texts.append(" ".join(whole[-length:] if share == 1 else whole[:length]))
    train, test = split_by_norm(every, 0.25, seed)
    model = make_pipeline(TfidfVectorizer(min_df=2), LogisticRegression(C=10, max_iter=500))
    model.fit([texts[i] for i in train], [labels[i] for i in train])
    return float(model.score([texts[i] for i in test], [labels[i] for i in test])), len(test)
