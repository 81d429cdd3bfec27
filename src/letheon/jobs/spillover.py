"""`letheon spillover`: read the suite, check, compare refusals, write the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from letheon.audit.spillover.domain_suite import NEUTRAL, DomainSuite
from letheon.audit.spillover.page import save_spillover
from letheon.audit.spillover.spillover import SpilloverReport, check, spillover
from letheon.core.atomic import check_writable


@dataclass(frozen=True)
class SpilloverJob:
    """A comparison of refusals before and after unlearning, as the command line asks for it."""

    before: str
    after: str
    file: Path  # the suite, JSON lines with `domain` and `prompt`
    unlearned: str = ""  # the domain whose refusals were unlearned, empty for the one that lost most
    judge: str = ""  # a model that judges whether answers are sound language, or empty
    position: Literal["last", "mean"] = "last"
    max_new_tokens: int = 64
    out: Path | None = None  # folder of the page, None where nothing is written
    device: str = "auto"

    @cached_property
    def suite(self) -> DomainSuite:
        """The suite, read and checked."""
        return DomainSuite.read(self.file)

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        check(self.suite, self.unlearned, self.before, self.after, *([self.judge] if self.judge else []))
        if self.out is not None:
            check_writable(self.out)
        prompts = {domain: len(self.suite.prompts(domain)) for domain in (*self.suite.domains, NEUTRAL)}
        out = str(self.out) if self.out else None
        return {"before": self.before, "after": self.after, "prompts": prompts, "out": out}

    def work(self) -> SpilloverReport:
        """Check, compare, and write the page where a folder was given."""
        self.plan()
        report = spillover(
            self.before,
            self.after,
            self.suite,
            unlearned=self.unlearned,
            judge=self.judge or None,
            position=self.position,
            max_new_tokens=self.max_new_tokens,
            device=self.device,
        )
        if self.out is not None:
            save_spillover(report, self.out)
        return report
