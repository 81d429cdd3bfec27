from typing import Any

import pytest

from letheon.core.statistics import MeanTest, mean_test
from letheon.papers.kit import findings


@pytest.fixture
def noise_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a ten-thousandth of noise to values that are equal over seeds: the rule decides nothing on equal values.

    For tests whose made-up runs are the same under every seed.
    """

    def noisy(values: Any, threshold: float = 0.0, **options: Any) -> MeanTest:
        size = max(*map(abs, values), options.get("size", 0.0), 1e-3)
        equal = max(values, default=0.0) - min(values, default=0.0) <= 1e-6 * size
        rocked = [one + (-1) ** i * 1e-4 * size for i, one in enumerate(values)]
        return mean_test(rocked if equal else values, threshold, **options)

    monkeypatch.setattr(findings, "mean_test", noisy)
