"""`letheon compare-strategies`: check, then run several strategies on one stream."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.parallel import ALONE, Parallel
from letheon.forget.method_lists import split_methods
from letheon.jobs.learn import Source
from letheon.retain.compare import compare_strategies
from letheon.retain.comparison import StrategyComparison


@dataclass(frozen=True)
class CompareStrategiesJob:
    """A comparison of strategies as the command line asks for it."""

    source: Source
    strategies: str
    seeds: int = 3
    out: Path = Path("strategies")
    device: str = "auto"
    parallel: Parallel = ALONE

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        return self.source.plan(split_strategies(self.strategies), self.out) | {"seeds": self.seeds}

    def work(self) -> StrategyComparison:
        """Run every strategy with every seed and write the table."""
        self.plan()
        return compare_strategies(
            self.source.model,
            self.source.name if self.parallel.several else self.source.stream,
            split_strategies(self.strategies),
            seeds=range(self.seeds),
            out=self.out,
            settings=self.source.settings,
            device=self.device,
            parallel=self.parallel,
        )


def split_strategies(text: str) -> list[str]:
    """Split strategies separated by commas, semicolons or spaces; see `split_methods` for the commas of options.

    >>> split_strategies("naive,replay:capacity=100,batch=5;ewc")
    ['naive', 'replay:capacity=100,batch=5', 'ewc']
    """
    return split_methods(re.sub(r"[;\s]+", ",", text))
