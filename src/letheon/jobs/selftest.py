"""`letheon selftest`: audit planted models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from letheon.audit.selftest.pool import PoolTest, run_pool
from letheon.audit.selftest.selftest import SelfTest, run_selftest
from letheon.core.atomic import check_writable
from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.jobs.options import Machine


@dataclass(frozen=True)
class SelfTestJob:
    """The self-test of the audit on one small model. It writes nothing but the scores of a pool.

    Attributes:
        model: on which the fakes or the pool are built.
        machine: seed and device.
        pool: number of models of either kind in a pool; 0 tests planted fakes instead.
        out: folder that keeps the scores of a pool's models; a pool begun there is continued.
    """

    model: Literal["tiny", "smollm2"]
    machine: Machine
    pool: int = 0
    out: Path | None = None

    def plan(self) -> dict[str, Any]:
        """Return what would be done.

        Raises:
            InputError: a pool of one model of a kind, which ranks nothing; a folder without a pool, or one that
                cannot be written.
        """
        if self.pool < 0 or self.pool == 1:
            raise InputError(f"--pool {self.pool}", "give two models of either kind, or more; 10 is the usual number")
        if self.out is not None and not self.pool:
            raise InputError("--out without --pool: the planted fakes leave nothing", "give --pool 10, or leave it out")
        if self.out is not None:
            check_writable(self.out)
        out = None if self.out is None else str(self.out)
        return {"model": self.model, "pool": self.pool, "out": out, **asdict(self.machine)}

    def work(self) -> SelfTest | PoolTest:
        """Build the models, audit each, and compare the verdicts with the right ones."""
        self.plan()
        if self.pool:
            return run_pool(self.pool, self.model, self.machine.seed, self.machine.device, self.out)
        return run_selftest(self.model, self.machine.seed, check_device(self.machine.device))
