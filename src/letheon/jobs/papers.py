"""`letheon papers run`: the scale at which a claim is measured; several papers, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import check_writable
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.core.parallel import ALONE, Parallel, run_tasks
from letheon.core.tasks import Ended, Task
from letheon.papers import catalogue
from letheon.papers.catalogue import Paper, Scale, paper, papers
from letheon.papers.folder import write_outcome
from letheon.papers.outcome import MODEL, check_recordable

FULL_SEEDS = 5
ALL = "all"


@dataclass(frozen=True)
class PaperJob:
    """The measurement of a paper's claim.

    Attributes:
        key: key, number or arXiv identifier.
        full: the full scale, else the one that takes minutes.
        seeds: number of seeds; 0 takes the paper's own (eight where a seed is cheap, else five).
        model: what `letheon.load` takes; another one than the recorded model where the claim allows it.
    """

    key: str
    full: bool = False
    seeds: int = 0
    device: str = "cpu"
    model: str = MODEL

    @property
    def scale(self) -> Scale:
        """The scale with its seeds, its device and its model.

        Raises:
            InputError: the full scale is asked for and the paper has one scale, or the claim takes no other model.
        """
        entry = paper(self.key)
        if self.full and not entry.full:
            raise InputError(f"paper {entry.key!r} has one scale", "leave out --full")
        seeds = self.seeds or (FULL_SEEDS if self.full else entry.seeds)
        scale = Scale("full" if self.full else "fast", tuple(range(seeds)), self.device, self.model)
        check_model(entry, scale)
        return scale

    def plan(self) -> dict[str, Any]:
        """Check that the paper can be run and return what would be done."""
        entry = paper(self.key)
        if entry.planned:
            raise InputError(f"paper {entry.key!r} is planned and cannot be run", "see letheon papers")
        scale = self.scale
        check_loadable(scale.model)
        of_model = {"model": scale.model} if scale.name in entry.pretrained else {}
        return {"key": entry.key, "scale": scale.name, "seeds": list(scale.seeds), **of_model}


def check_model(entry: Paper, scale: Scale) -> None:
    """Refuse another model than the recorded one where a scale of the paper measures none.

    Raises:
        InputError: the message says why.
    """
    if scale.model == MODEL or scale.name in entry.pretrained:
        return
    if entry.pretrained:
        raise InputError(
            f"paper {entry.key!r} trains models of its own at the fast scale", "add --full, or leave out --model"
        )
    raise InputError(
        f"the claim of paper {entry.key!r} is about models that it trains itself or about published data",
        "leave out --model; papers that take one: " + ", ".join(one.key for one in papers() if one.pretrained),
    )


@dataclass(frozen=True)
class PapersJob:
    """The measurement of several papers' claims, each in a process of its own.

    Attributes:
        keys: keys, numbers or arXiv identifiers; `all` takes every paper that can be run.
        full: the full scale; of all papers, where there is one.
        record: store the results in the catalogue.
        out: folder that gets one folder per paper.
        model: as in `PaperJob`; of all papers, those that take another one.
    """

    keys: Sequence[str]
    full: bool = False
    seeds: int = 0
    device: str = "cpu"
    record: bool = False
    out: Path = Path("letheon-papers")
    parallel: Parallel = ALONE
    model: str = MODEL

    def _chosen(self) -> list[Paper]:
        everything = ALL in self.keys
        chosen = [entry for entry in papers() if self._of_all(entry)] if everything else map(paper, self.keys)
        return list({entry.key: entry for entry in chosen}.values())

    def _of_all(self, entry: Paper) -> bool:
        scale = "full" if self.full and entry.full else "fast"
        return not entry.planned and (self.model == MODEL or scale in entry.pretrained)

    def jobs(self) -> list[PaperJob]:
        """Return the measurement of each paper."""
        everything = ALL in self.keys
        return [
            PaperJob(entry.key, self.full and (entry.full or not everything), self.seeds, self.device, self.model)
            for entry in self._chosen()
        ]

    def plan(self) -> dict[str, Any]:
        """Check the papers and return what would be done."""
        check_writable(self.out)
        if self.record:
            check_recordable(self.model)
        return {"papers": [job.plan() for job in self.jobs()], "jobs": self.parallel.jobs, "out": str(self.out)}

    def work(self) -> dict[str, Ended]:
        """Measure every paper; return by its key the entry for the catalogue, or the problem that ended it."""
        self.plan()
        tasks = [
            Task(job.key, f"{__name__}:measure", {**job.__dict__, "out": str(self.out / job.key)})
            for job in self.jobs()
        ]
        ended = run_tasks(tasks, self.parallel)
        for key, one in ended.items():
            if self.record and not one.problem:
                catalogue.store(key, one.value)
        return ended


def measure(key: str, full: bool, seeds: int, device: str, model: str, out: str) -> dict[str, Any]:
    """Measure a paper's claim in a process of its own, write its folder, and return the entry for the catalogue."""
    entry, scale = paper(key), PaperJob(key, full, seeds, device, model).scale
    outcome = entry.reproduce(scale)
    write_outcome(outcome, entry, Path(out))
    return catalogue.entry_of(outcome, scale)
