"""`letheon selftest`: audit planted models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from letheon.audit.selftest.selftest import SelfTest, run_selftest
from letheon.core.model.models import check_device
from letheon.jobs.options import Machine


@dataclass(frozen=True)
class SelfTestJob:
    """The self-test of the audit on one small model. It writes nothing."""

    model: Literal["tiny", "smollm2"]
    machine: Machine

    def plan(self) -> dict[str, Any]:
        """Return what would be done."""
        return {"model": self.model, **asdict(self.machine)}

    def work(self) -> SelfTest:
        """Build the models, audit each, and compare the verdicts with the right ones."""
        return run_selftest(self.model, self.machine.seed, check_device(self.machine.device))
