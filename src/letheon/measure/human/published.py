"""Agreement of estimates that others have published with human norms: a table in which each column is one read-out.

The table has a column of words, columns of human norms, and columns of estimates; cells that hold no number are counted
as unparsed. Nothing is asked of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.errors import InputError, nearest
from letheon.core.statistics import Estimate, rank_correlation
from letheon.measure.human.agreement import both, pearson
from letheon.measure.human.norms import MISSING, read_table_of_words


@dataclass(frozen=True)
class Agreement:
    """Agreement of one column of estimates with one human norm.

    Attributes:
        rho, r: rank and product-moment correlation with their intervals.
        error: mean absolute error; None where the estimates are on another scale.
        parsed: number of words with an estimate and a human rating.
        unparsed: number of words whose estimate is no number.
    """

    estimates: str
    norm: str
    rho: Estimate
    r: Estimate
    error: float | None
    parsed: int
    unparsed: int


def agreement(rows: Sequence[Mapping[str, Any]], estimates: str, norm: str) -> Agreement:
    """Compute the agreement of a column with a norm.

    Raises:
        InputError: no row has such a column.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in (estimates, norm):
        if name not in names:
            raise InputError(f"the table has no column {name!r}", nearest(name, names))
    ours, theirs = ([_number(row.get(name)) for row in rows] for name in (estimates, norm))
    known = both(ours, theirs)
    error = float(np.abs(np.subtract(*known)).mean()) if known[0] else None
    unparsed = sum(value is None for value in ours)
    return Agreement(estimates, norm, rank_correlation(*known), pearson(*known), error, len(known[0]), unparsed)


def read_agreements(path: str | Path, columns: Sequence[str], norms: Sequence[str]) -> list[Agreement]:
    """Compute the agreement of every column of estimates with every norm of a file."""
    rows = read_table_of_words(path)
    return [agreement(rows, column, norm) for column in columns for norm in norms]


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
