"""The papers, and how far each has come: citation, claim, badge, recorded result.

Badges are computed and never typed. They rest on two data files beside this one: `evidence.json`, written by
the test suite from the tests that passed, and `results.json`, written by `record` from a finished run.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from letheon import __version__
from letheon.core.errors import InputError, LetheonError, nearest
from letheon.core.runs import read_json, utc_now, versions, write_json
from letheon.papers.outcome import Outcome, Scale, Verdict, verdict_from_interval

__all__ = [
    "Badge",
    "Evidence",
    "MethodBadge",
    "Outcome",
    "Paper",
    "Scale",
    "Verdict",
    "badge",
    "badge_reason",
    "method_badge",
    "paper",
    "papers",
    "read_evidence",
    "read_results",
    "record",
    "verdict_from_interval",
]

FOLDER = Path(__file__).parent
EVIDENCE = FOLDER / "evidence.json"
RESULTS = FOLDER / "results.json"

Badge = Literal["planned", "untested", "runs", "faithful", "reproduced"]
MethodBadge = Literal["untested", "runs", "faithful"]


@dataclass(frozen=True)
class Paper:
    """One paper of the catalogue.

    Attributes:
        number: its place in the catalogue, from 1.
        key: its name on the command line.
        title: as published.
        date: of the first version, ISO yyyy-mm, where known.
        arxiv: identifier without version, where known.
        room: where the method lives under `letheon`.
        gives: what a user gets from it.
        claim: what `reproduce` measures.
        methods: registry names of its methods; empty when it has none (a benchmark, a layer, a probe).
        reproduce: runs the claim at a scale; None while planned.
    """

    number: int
    key: str
    title: str
    date: str | None
    arxiv: str | None
    room: str
    gives: str
    claim: str
    methods: tuple[str, ...] = ()
    reproduce: Callable[[Scale], Outcome] | None = None


@dataclass(frozen=True)
class Evidence:
    """Names (of methods, or keys of papers without methods) whose marked tests have all passed."""

    contract: frozenset[str] = frozenset()
    oracle: frozenset[str] = frozenset()


@cache
def _discovered() -> tuple[Paper, ...]:
    modules = (importlib.import_module(f"letheon.papers.{name}") for _, name, _ in pkgutil.iter_modules([str(FOLDER)]))
    found = (getattr(module, "PAPER", None) for module in modules)
    return tuple(sorted((entry for entry in found if isinstance(entry, Paper)), key=lambda entry: entry.number))


def papers() -> list[Paper]:
    """Every paper of the catalogue, by number."""
    return list(_discovered())


def paper(name: str | int) -> Paper:
    """The paper with this key, number, or arXiv identifier (with or without `arXiv:` and a version).

    Raises:
        InputError: there is none; the nearest key is suggested.
    """
    wanted = re.sub(r"^arxiv:\s*|(?<=\d{4}\.\d{5})v\d+$", "", str(name).strip().lower()).replace("_", "-")
    for entry in papers():
        if wanted in (entry.key, entry.arxiv) or (wanted.isdecimal() and int(wanted) == entry.number):
            return entry
    raise InputError(f"there is no paper {name!r}", nearest(wanted, [entry.key for entry in papers()]))


def read_evidence() -> Evidence:
    """What the last recorded run of the test suite has shown."""
    stored = read_json(EVIDENCE)
    kinds = (frozenset(name for name, shown in stored[kind].items() if shown) for kind in ("contract", "oracle"))
    return Evidence(*kinds)


def read_results() -> dict[str, dict[str, Any]]:
    """Recorded outcomes by the paper's key."""
    results: dict[str, dict[str, Any]] = read_json(RESULTS)
    return results


def badge(paper: Paper, evidence: Evidence | None = None, results: dict[str, dict[str, Any]] | None = None) -> Badge:
    """How far the paper has come; evidence and results are read from their files unless given.

    planned     nothing can be run yet
    untested    it can be run, but a method of it has not passed the contract battery
    runs        every method of it has passed the contract battery
    faithful    and every method (for a paper without methods: the paper) has passed its oracle tests
    reproduced  and the recorded verdict is "holds"
    """
    evidence = read_evidence() if evidence is None else evidence
    results = read_results() if results is None else results
    if paper.reproduce is None:
        return "planned"
    if not evidence.contract.issuperset(paper.methods):
        return "untested"
    if not evidence.oracle.issuperset(paper.methods or (paper.key,)):
        return "runs"
    return "reproduced" if results.get(paper.key, {}).get("verdict") == "holds" else "faithful"


def badge_reason(
    paper: Paper, evidence: Evidence | None = None, results: dict[str, dict[str, Any]] | None = None
) -> str:
    """Why the paper has its badge: what it has shown, or what the next badge lacks."""
    evidence = read_evidence() if evidence is None else evidence
    results = read_results() if results is None else results
    untested = ", ".join(name for name in paper.methods if name not in evidence.contract)
    unproven = ", ".join(name for name in paper.methods or (paper.key,) if name not in evidence.oracle)
    verdict = results.get(paper.key, {}).get("verdict")
    reasons: dict[Badge, str] = {
        "planned": "nothing can be run yet",
        "untested": f"it can be run; no contract test has passed for: {untested}",
        "runs": f"it can be run; no oracle test has passed for: {unproven}",
        "faithful": "its oracle tests pass; the claim "
        + (f"was measured and the verdict is {verdict!r}" if verdict else "has not been recorded"),
        "reproduced": "its oracle tests pass and the recorded verdict is 'holds'",
    }
    return reasons[badge(paper, evidence, results)]


def method_badge(name: str, evidence: Evidence | None = None) -> MethodBadge:
    """How well a registered method is tested: no contract test, contract test, or oracle test as well."""
    evidence = read_evidence() if evidence is None else evidence
    if name not in evidence.contract:
        return "untested"
    return "faithful" if name in evidence.oracle else "runs"


def record(outcome: Outcome, scale: Scale) -> None:
    """Store an outcome in `results.json`, together with what it was measured on.

    An earlier outcome of that paper is replaced; the file is replaced whole or not at all.

    Raises:
        InputError: the catalogue has no such paper.
        LetheonError: the file cannot be written.
    """
    entry = {
        **outcome.to_json(),
        "versions": {"letheon": __version__}
        | {name: text for name, text in versions().items() if name in ("torch", "transformers", "python")},
        "machine": {"cpu": _processor(), "cores": os.cpu_count(), "device": scale.device},
        "date": utc_now(),
        "scale": scale.name,
    }
    results = read_results() | {paper(outcome.key).key: entry}
    try:
        write_json(RESULTS, dict(sorted(results.items())))
    except OSError as error:
        raise LetheonError(
            f"could not write {RESULTS}: {error.strerror}", "record from a checkout that you can write to"
        ) from error


def _processor() -> str:
    """The processor's name; Linux says it only in /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()
