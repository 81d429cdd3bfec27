"""The limits of a criterion in words, as the page of an audit states them."""

from __future__ import annotations

from letheon.audit.criteria import Criterion, Limit


def rule(criterion: Criterion) -> str:
    """Return a criterion's limits as they were fixed: `at most 1.1 × before; without it, at most 20`."""
    first, *others = criterion.limits()
    words = [_limit(first, criterion.comparison)]
    for limit in others:
        when = "where the control is loose" if limit.if_loose else "without it"
        words.append(f"{when}, {_limit(limit, criterion.comparison)}")
    return "; ".join(words)


def _limit(limit: Limit, comparison: str) -> str:
    """Return one limit in words."""
    how, _, source = limit.basis.partition(" ")
    size = f"{limit.threshold:g}"
    if comparison == "within":
        return f"within {size} of {source}"
    start = {"<=": "at most", ">=": "at least"}[comparison]
    if how == "absolute":
        return f"{start} {size}"
    if how == "times":
        return f"{start} {size} × {source}"
    sign = "+" if comparison == "<=" else "−"
    return f"{start} {source} {sign} {size}" if limit.threshold else f"{start} that of {source}"
