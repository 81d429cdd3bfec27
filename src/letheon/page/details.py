"""What the page of one paper shows beside its entry: claim, record by parts, readings, the files of its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import letheon
from letheon.papers.catalogue import Paper, is_current, paper, read_results, rule_of
from letheon.papers.page import paper_json
from letheon.papers.results_page import Part, filled, parts, read_readings

SOURCE = Path(letheon.__file__).parent


@dataclass(frozen=True)
class File:
    """A source file of a paper's method or reproduction.

    Attributes:
        name: its path below the package.
        about: the first paragraph of its docstring.
        differs: where it departs from the paper, as the file says it; empty if it says nothing.
        code: its text.
    """

    name: str
    about: str
    differs: str
    code: str


@dataclass(frozen=True)
class Record:
    """A recorded or fresh outcome, ready to be shown.

    Attributes:
        verdict: the verdict on the claim.
        parts: the parts of the claim with their figures.
        checks: conditions of the experiment that were not met.
        baselines: what the method was compared with.
        seeds, seconds, date, machine: how it was measured.
        old_rule: the name of an earlier rule that gave the verdict; empty under the present one.
        model: the user's model that was measured; empty for the recorded one.
    """

    verdict: str
    parts: list[Part]
    checks: list[str]
    baselines: list[str]
    seeds: int
    seconds: float
    date: str = ""
    machine: str = ""
    old_rule: str = ""
    model: str = ""


@dataclass(frozen=True)
class Details:
    """Everything that the page of a catalogue's paper shows.

    Attributes:
        facts: the fields of `letheon papers show KEY --json`.
        record: the recorded outcome; None if there is none.
        reading: what was seen in the record, in words; empty if nothing was written.
        instead: what to use where the claim fails; empty if nothing was written.
        files: the method's file and the reproduction's.
        runnable: whether it can be run.
    """

    facts: dict[str, Any]
    record: Record | None
    reading: str
    instead: str
    files: list[File]
    runnable: bool


@cache
def details(key: str) -> Details:
    """Collect what the page of one paper of the catalogue shows; read once per process."""
    entry = paper(key)
    result, reading = read_results().get(entry.key), read_readings().get(entry.key)
    seen = (filled(reading.text, result), filled(reading.instead, result)) if reading and result else ("", "")
    return Details(paper_json(entry), record_of(result), *seen, files_of(entry), not entry.planned)


def record_of(result: Mapping[str, Any] | None) -> Record | None:
    """A stored outcome (of `results.json` or an `outcome.json`) as it is shown."""
    if result is None:
        return None
    machine = result.get("machine", {})
    return Record(
        verdict=result["verdict"],
        parts=parts(result),
        checks=[name for name, met in result.get("checks", {}).items() if not met],
        baselines=list(result["baselines"]),
        seeds=len(result["seeds"]),
        seconds=result["seconds"],
        date=result.get("date", "")[:10],
        machine=f"{machine['cpu']}, {machine['cores']} cores" if machine else "",
        old_rule="" if is_current(result) else rule_of(result),
        model=result.get("model", ""),
    )


def files_of(entry: Paper) -> list[File]:
    """The files of a paper: where its room says, and the reproduction."""
    rooms = [piece for piece in re.split(r",\s*", entry.room) if re.fullmatch(r"[a-z_]+(/[a-z_]+)+", piece)]
    paths = [path for room in rooms for path in (SOURCE / f"{room}.py", SOURCE / room / "__init__.py")]
    if entry.module.startswith("letheon.papers."):
        paths.append(SOURCE / "papers" / f"{entry.module.rsplit('.', 1)[1]}.py")
    return [_file(path) for path in paths if path.is_file()]


def _file(path: Path) -> File:
    code = path.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(code)) or ""
    differs = re.search(r"^Differs:\s*(.+?)(?=^\w[\w ]*:\s|\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    text = " ".join(differs[1].split()) if differs else ""
    about = " ".join(doc.split("\n\n")[0].split())
    return File(str(path.relative_to(SOURCE)), about, "" if text in ("none", "none.") else text, code)
