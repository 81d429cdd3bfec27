"""The catalogue of papers: each with its citation, claim, badge, and recorded result.

`catalogue.toml` holds the citations and claims; the file `<key>.py` beside it (dashes become underscores) measures the
claim with `reproduce(scale, found)` and is imported only when it is run, so that listing papers loads no torch.

A third party adds papers by an entry point of the group `letheon.papers`. Its value is the dotted name of a package
that holds a `catalogue.toml` of the same form and one module per paper:

    [project.entry-points."letheon.papers"]
    mine = "my_package.papers"

Badges are computed and never typed. They rest on two data files beside this one: `evidence.json`, written by
the test suite from the tests that passed, and `results.json`, written by `record` from a finished run.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import time
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from letheon import __version__
from letheon.core.atomic import read_json, write_json
from letheon.core.errors import InputError, LetheonError, nearest
from letheon.core.runs import utc_now, versions
from letheon.papers.outcome import MODEL, OLD_RULE, RULE, TIES_DECIDED, Outcome, Scale, Verdict, check_recordable

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
    "is_current",
    "rule_of",
]

FOLDER = Path(__file__).parent
EVIDENCE = FOLDER / "evidence.json"
RESULTS = FOLDER / "results.json"
LIKE_OURS = "write its [[paper]] tables like those of letheon/papers/catalogue.toml"

Badge = Literal["planned", "untested", "runs", "reconstructed", "faithful", "reproduced"]
MethodBadge = Literal["untested", "runs", "reconstructed", "faithful"]


@dataclass(frozen=True)
class Paper:
    """One paper of the catalogue.

    Attributes:
        number: its place in the catalogue, from 1.
        key: its name on the command line.
        title: the published title.
        room: where the method lives under `letheon`.
        gives: what a user gets from it.
        claim: the inequality that the reproduction tests, in words.
        date: month of the first version, ISO yyyy-mm, where known.
        arxiv: identifier without version, where known.
        authors: names in the published order; empty where not known.
        abstract: the paper's content in our own words.
        links: name -> address of code or data.
        methods: registry names of its methods; empty when it has none (a benchmark, a layer, a probe).
        inferred: what of the method had to be inferred because neither equations nor code were public; empty otherwise.
        seeds: number of seeds at the fast scale: eight where a seed costs less than a minute, five elsewhere.
        full: whether there is a full scale; a paper that runs at one scale says so.
        pretrained: the scales at which the claim is measured on a pretrained model, which another one may replace; the
            other scales train models of their own.
        module: dotted name of the module whose `reproduce` measures the claim; empty while the paper is planned.
    """

    number: int
    key: str
    title: str
    room: str
    gives: str
    claim: str
    date: str | None = None
    arxiv: str | None = None
    authors: tuple[str, ...] = ()
    abstract: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    inferred: str = ""
    seeds: int = 8
    full: bool = True
    pretrained: tuple[str, ...] = ()
    module: str = ""

    @property
    def planned(self) -> bool:
        """Whether nothing can be run yet."""
        return not self.module

    def reproduce(self, scale: Scale) -> Outcome:
        """Measure the claim at a scale, by the module `self.module`.

        Raises:
            InputError: the paper is planned, or its module does not name the primary parts of the claim.
        """
        from letheon.papers.kit.findings import Findings  # loads numpy and scipy, which a listing does without

        if self.planned:
            raise InputError(f"paper {self.key!r} is planned and cannot be run", "see letheon papers")
        module = importlib.import_module(self.module)
        if not hasattr(module, "PRIMARY"):
            raise InputError(
                f"{self.module} does not name the primary parts of its claim",
                "set PRIMARY to the names of the parts that `reproduce` decides",
            )
        found, started = Findings(primary=tuple(module.PRIMARY)), time.monotonic()
        module.reproduce(scale, found)
        return found.outcome(self.key, self.claim, scale, time.monotonic() - started)


@dataclass(frozen=True)
class Evidence:
    """Names (of methods, or keys of papers without methods) whose marked tests have all passed."""

    contract: frozenset[str] = frozenset()
    oracle: frozenset[str] = frozenset()


def read_catalogue(package: str) -> list[Paper]:
    """The papers that a package's `catalogue.toml` names.

    Args:
        package: dotted name of an importable package; a paper's module is `<package>.<key>` with underscores.

    Raises:
        InputError: the package has no `catalogue.toml`, or an entry lacks a field or has an unknown one.
    """
    place = files(package)
    try:
        entries = tomllib.loads((place / "catalogue.toml").read_text(encoding="utf-8"))["paper"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"package {package} has no readable catalogue.toml: {error}", LIKE_OURS) from None
    return [_read_entry(entry, package, place) for entry in entries]


def _read_entry(entry: Mapping[str, Any], package: str, place: Traversable) -> Paper:
    name = str(entry.get("key", "")).replace("-", "_")
    lists = {key: tuple(entry[key]) for key in ("authors", "methods", "pretrained") if key in entry}
    module = f"{package}.{name}" if (place / f"{name}.py").is_file() else ""
    try:
        return Paper(**{**entry, **lists}, module=module)
    except TypeError as error:
        raise InputError(f"catalogue.toml of {package}, paper {name!r}: {error}", LIKE_OURS) from None


@cache
def _discovered() -> tuple[Paper, ...]:
    packages = ["letheon.papers", *(point.value for point in entry_points(group="letheon.papers"))]
    entries = [entry for package in packages for entry in read_catalogue(package)]
    for key, times in Counter(entry.key for entry in entries).items():
        if times > 1:
            raise InputError(f"two papers have the key {key!r}", "rename the one that an entry point adds")
    return tuple(sorted(entries, key=lambda entry: entry.number))


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
    """The evidence of the last recorded run of the test suite."""
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
    reconstructed  its oracle tests pass, but parts of the method had to be inferred (`Paper.inferred`)
    faithful    every method (for a paper without methods: the paper) has passed its oracle tests
    reproduced  and the recorded verdict, under the present rule, is "holds"
    """
    evidence = read_evidence() if evidence is None else evidence
    results = read_results() if results is None else results
    if paper.planned:
        return "planned"
    if not evidence.contract.issuperset(paper.methods):
        return "untested"
    if not evidence.oracle.issuperset(paper.methods or (paper.key,)):
        return "runs"
    if paper.inferred:
        return "reconstructed"
    result = results.get(paper.key, {})
    return "reproduced" if result.get("verdict") == "holds" and is_current(result) else "faithful"


def rule_of(result: Mapping[str, Any]) -> str:
    """Name of the rule that gave a recorded verdict."""
    return str(result.get("rule", OLD_RULE))


def is_current(result: Mapping[str, Any]) -> bool:
    """Say whether the present rule gives a record's verdict: it carries its name, or no equal values decided in it."""
    if rule_of(result) != TIES_DECIDED:
        return rule_of(result) == RULE
    intervals, primary = result.get("interval"), result.get("primary", {})
    by_ties = [
        name
        for name, part in primary.items()
        if part["verdict"] != "inconclusive" and part.get("p") and not (intervals or {}).get(name)
    ]
    return bool(primary) and isinstance(intervals, Mapping) and not by_ties


def badge_reason(
    paper: Paper, evidence: Evidence | None = None, results: dict[str, dict[str, Any]] | None = None
) -> str:
    """The reason for the paper's badge: what has been shown, or what the next badge lacks."""
    evidence = read_evidence() if evidence is None else evidence
    results = read_results() if results is None else results
    untested = ", ".join(name for name in paper.methods if name not in evidence.contract)
    unproven = ", ".join(name for name in paper.methods or (paper.key,) if name not in evidence.oracle)
    result = results.get(paper.key, {})
    measured = "the claim has not been recorded"
    if result:
        by = "" if is_current(result) else f", by an earlier rule ({rule_of(result)})"
        measured = f"the claim was measured and the verdict is {result['verdict']!r}{by}"
    reasons: dict[Badge, str] = {
        "planned": "nothing can be run yet",
        "untested": f"it can be run; no contract test has passed for: {untested}",
        "runs": f"it can be run; no oracle test has passed for: {unproven}",
        "reconstructed": f"its oracle tests pass; inferred: {paper.inferred}; {measured}",
        "faithful": f"its oracle tests pass; {measured}",
        "reproduced": "its oracle tests pass and the recorded verdict is 'holds'",
    }
    return reasons[badge(paper, evidence, results)]


def method_badge(name: str, evidence: Evidence | None = None) -> MethodBadge:
    """How well a registered method is tested: no contract test, contract test, or oracle test as well.

    With an oracle test it is "reconstructed" where parts of it had to be inferred, else "faithful".
    """
    evidence = read_evidence() if evidence is None else evidence
    if name not in evidence.contract:
        return "untested"
    if name not in evidence.oracle:
        return "runs"
    return "reconstructed" if inferred_of(name) else "faithful"


def inferred_of(name: str) -> str:
    """What had to be inferred of a registered method, from its paper's entry; empty if nothing."""
    return next((entry.inferred for entry in papers() if name in entry.methods and entry.inferred), "")


def record(outcome: Outcome, scale: Scale) -> None:
    """Store an outcome in `results.json`, with the versions, the machine and the scale that it was measured on."""
    store(outcome.key, entry_of(outcome, scale))


def entry_of(outcome: Outcome, scale: Scale) -> dict[str, Any]:
    """Make the entry of an outcome that was measured on this machine."""
    return {
        **outcome.to_json(),
        "versions": {"letheon": __version__}
        | {name: text for name, text in versions().items() if name in ("torch", "transformers", "python")},
        "machine": {"cpu": _processor(), "cores": os.cpu_count(), "device": scale.device},
        "date": utc_now(),
        "scale": scale.name,
    }


def store(key: str, entry: dict[str, Any]) -> None:
    """Store the entry of an outcome in `results.json`.

    An earlier outcome of that paper is replaced; the file is replaced whole or not at all.

    Raises:
        InputError: the catalogue has no such paper, or the outcome is of another model than the recorded ones.
        LetheonError: the file cannot be written.
    """
    check_recordable(entry.get("model", MODEL))
    results = read_results() | {paper(key).key: entry}
    try:
        write_json(RESULTS, dict(sorted(results.items())))
    except OSError as error:
        raise LetheonError(
            f"could not write {RESULTS}: {error.strerror}", "record from a checkout that you can write to"
        ) from error


def _processor() -> str:
    """The processor's name, which Linux gives only in /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    line = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return line[1] if line else platform.processor() or platform.machine()
