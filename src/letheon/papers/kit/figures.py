"""Courses of reproductions as points of line figures; `lines` draws them."""

from __future__ import annotations

from collections.abc import Sequence

from letheon.report.plots import lines

__all__ = ["lines", "mean_course"]


def mean_course(courses: Sequence[Sequence[float]], every: int = 1) -> list[tuple[float, float]]:
    """(step, mean over seeds), from courses with one value after every `every` steps, as long as the shortest one."""
    return [(float(i * every), sum(values) / len(values)) for i, values in enumerate(zip(*courses, strict=False), 1)]
