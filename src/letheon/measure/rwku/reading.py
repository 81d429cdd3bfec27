"""RWKU's data: 200 real people, and for each the probes, member sets, utility sets and forget corpora.

Paper:   Jin et al., RWKU, arXiv 2406.10890. The data are CC BY 4.0 (DOI 10.57967/hf/2448), hub id `jinzhuoran/RWKU`.

Two layouts are read. The builder's has a folder for each target, `1_Stephen_King`, with `forget_level1.json`,
`triviaqa.json`, ... The hub's has a list of records for each set, told apart by their `subject`: from the hub itself,
or from a folder with such tables (`letheon.measure.tables`). A set that a copy lacks is named in `Target.missing`; only
the introduction and the probes of levels 1 and 2 must be there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from letheon.core.errors import InputError, nearest
from letheon.core.rows.examples import Example, read_rows, short
from letheon.measure.rwku.records import (
    Instruction,
    Intro,
    MultipleChoice,
    Pair,
    Probe,
    Reasoning,
    Record,
    Refusal,
    Text,
    Trivia,
    Truthful,
)
from letheon.measure.tables import is_folder, read_table

HUB = "jinzhuoran/RWKU"
WHERE = f"get the data set {HUB} (CC BY 4.0) from the Hugging Face hub and name its folder"

R = TypeVar("R", bound=Record)


class Kind(NamedTuple):
    """A set of records: its file in a target's folder, its configuration and split on the hub, its form."""

    file: str
    config: str
    split: str
    form: type[Record]


def _written(suffix: str, writer: str) -> dict[str, Kind]:
    """The corpora that one model wrote."""
    forms: dict[str, type[Record]] = {"positive": Text, "negative": Text, "pair": Pair, "refusal": Refusal}
    return {
        f"{name}{suffix}": Kind(
            f"{'reject' if name == 'refusal' else name}{suffix}", f"train_{name}_{writer}", "train", form
        )
        for name, form in forms.items()
    }


NEEDED = {
    "intro": Kind("intro", "forget_target", "train", Intro),
    "forget 1": Kind("forget_level1", "forget_level1", "test", Probe),
    "forget 2": Kind("forget_level2", "forget_level2", "test", Probe),
}
EVALUATED = {
    "forget 3": Kind("forget_level3", "forget_level3", "test", Probe),
    "neighbor 1": Kind("neighbor_level1", "neighbor_level1", "test", Probe),
    "neighbor 2": Kind("neighbor_level2", "neighbor_level2", "test", Probe),
    "members": Kind("forget_mia", "mia_forget", "test", Text),
    "retained": Kind("retain_mia", "mia_retain", "test", Text),
    "general": Kind("retain_mmlu", "utility_general", "test", MultipleChoice),
    "reason": Kind("retain_bbh", "utility_reason", "test", Reasoning),
    "truthfulness": Kind("truthful", "utility_truthfulness", "test", Truthful),
    "factuality": Kind("triviaqa", "utility_factuality", "test", Trivia),
    "fluency": Kind("fluency", "utility_fluency", "test", Instruction),
}
CORPORA = {
    "passage": Kind("passage", "train_original_passage", "train", Text),
    **_written("", "llama3"),
    **_written("_phi", "phi3"),
}


@dataclass(frozen=True)
class Target:
    """One person to forget, with every requested set that the copy has."""

    name: str  # as the records write it
    sets: dict[str, tuple[Record, ...]]  # records by the names of `NEEDED`, `EVALUATED` and `CORPORA`
    missing: dict[str, str] = field(default_factory=dict)  # for each set that is not there, why

    def of(self, kind: str, form: type[R]) -> tuple[R, ...]:
        """The records of a set; none where there is no such set."""
        return tuple(row for row in self.sets.get(kind, ()) if isinstance(row, form))

    @property
    def intro(self) -> str:
        """The request in words."""
        return self.of("intro", Intro)[0].intro

    def corpus(self, form: str = "positive") -> list[Example]:
        """A forget corpus as rows.

        `passage` (encyclopaedia), `positive` and `negative` (a model's own biographies, true or invented) are running
        text; `pair` has the true biography as answer and the invented one as its alternative; `refusal` answers
        questions by not knowing. `_phi` after a name takes what Phi-3 wrote instead of LLaMA-3.

        Raises:
            InputError: there is no such corpus, or it was not read.
        """
        if form not in self.sets:
            _corpus(form)
            raise InputError(self.missing.get(form, f"the corpus {form!r} was not read"), f"read it, or {WHERE}")
        return [_example(row, f"{self.name}/{form}/{i}") for i, row in enumerate(self.sets[form])]


def _corpus(form: str) -> Kind:
    if form not in CORPORA:
        raise InputError(f"RWKU has no corpus {form!r}", nearest(form, list(CORPORA)))
    return CORPORA[form]


def _example(row: Record, identity: str) -> Example:
    if isinstance(row, Pair):
        true, invented = row.response
        return Example(row.prompt, true, identity, row.subject, perturbed_answers=(invented,))
    if isinstance(row, Refusal):
        return Example("\n".join(filter(None, (row.instruction, row.input))), row.output, identity, row.subject)
    return Example("", row.text if isinstance(row, Text) else "", identity, row.subject)


# The layouts


def read_targets(source: str | Path, name: str = "", corpora: Sequence[str] = ("passage", "positive")) -> list[Target]:
    """Read targets in the order of the data.

    Args:
        source: a folder in either layout, a single target's folder, or a hub id.
        name: one target, as `Stephen King` or `1_Stephen_King`; all of them where it is empty.
        corpora: names of `CORPORA` to read; they are large.

    Raises:
        InputError: no such folder, target, corpus or needed set, or a record that is not of its form.
    """
    kinds = {**NEEDED, **EVALUATED, **{form: _corpus(form) for form in corpora}}
    if not is_folder(source):
        return _from_records(str(source), name, kinds)
    folder = Path(source)
    folders = [folder] if (folder / "intro.json").is_file() else _numbered(folder)
    if not folders:
        return _from_records(str(source), name, kinds)
    matching = [one for one in folders if not name or _plain(one.name) == _plain(name)]
    if not matching:
        known = [_plain(one.name) for one in folders]
        raise InputError(f"{source} has no target {name!r}", nearest(_plain(name), known))
    return [_from_folder(one, kinds) for one in matching]


def _numbered(folder: Path) -> list[Path]:
    folders = [one for one in folder.iterdir() if one.is_dir() and re.match(r"\d+_", one.name)]
    return sorted(folders, key=lambda one: int(one.name.split("_")[0]))


def _plain(name: str) -> str:
    return re.sub(r"^\d+_", "", name).replace("_", " ").strip()


def _from_folder(folder: Path, kinds: dict[str, Kind]) -> Target:
    sets: dict[str, tuple[Record, ...]] = {}
    missing = {}
    for kind, (file, _, _, form) in kinds.items():
        # an excerpt of a long corpus says so in its name: positive_first60.json
        places = (folder / f"{file}.json", *sorted(folder.glob(f"{file}_first*.json")))
        files = [path for path in places if path.is_file()]
        if files:
            sets[kind] = tuple(_record(row, f"{files[0]}, row {n}", form) for n, row in read_rows(files[0]))
        elif kind in NEEDED:
            raise InputError(f"{folder} has no {file}.json", WHERE)
        else:
            missing[kind] = f"{folder.name} has no {file}.json"
    if not sets["intro"]:
        raise InputError(f"{folder / 'intro.json'} holds no record", WHERE)
    return Target(sets["intro"][0].subject, sets, missing)


def _from_records(source: str, name: str, kinds: dict[str, Kind]) -> list[Target]:
    """The hub's layout: every set is read once and dealt out to the targets."""
    targets: dict[str, Target] = {}
    for kind, (_, config, split, form) in kinds.items():
        place, rows, why = _table(source, config, split, needed=kind in NEEDED)
        if kind == "intro":
            targets = _named(source, [_subject(row) for row in rows], name)
        dealt: dict[str, list[Record]] = {one: [] for one in targets}
        for number, row in enumerate(rows, start=1):
            if not (subject := _subject(row)) or subject in dealt:  # a record of nobody is refused
                record = _record(row, f"{place}, row {number}", form)
                dealt[record.subject].append(record)
        for one, records in dealt.items():
            if records:
                targets[one].sets[kind] = tuple(records)
            else:
                targets[one].missing[kind] = why or f"{place} has no record of {one}"
    return list(targets.values())


def _table(source: str, config: str, split: str, *, needed: bool) -> tuple[str, list[dict[str, Any]], str]:
    """Return the place of a set and its rows, or the reason why an optional set is missing."""
    try:
        place, rows = read_table(source, config, (split,), optional=not needed)
    except InputError as error:
        if needed or is_folder(source):
            raise InputError(error.problem, WHERE) from None
        return "", [], error.problem
    return place, rows, "" if place else f"{source} has no table {config}"


def _named(source: str, subjects: Sequence[str], name: str) -> dict[str, Target]:
    wanted = [one for one in dict.fromkeys(subjects) if one and (not name or one == _plain(name))]
    if not wanted:
        raise InputError(f"{source} has no target {name!r}", nearest(_plain(name), list(subjects)))
    return {one: Target(one, {}) for one in wanted}


def _subject(row: dict[str, Any]) -> str:
    """Whose record it is; empty where it does not say (which is refused as it is read)."""
    name = row.get("subject") or row.get("target")
    return name if isinstance(name, str) else ""


def _record(row: Any, where: str, form: type[Record]) -> Record:
    try:
        return form.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}{f', field {place!r}' if place else ''}: {first['msg']}, found {short(first['input'])}",
            f"mend it, or {WHERE}",
        ) from None
