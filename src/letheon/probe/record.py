"""The result of a probe: tables, checks of its reliability, figures, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from letheon.core.atomic import atomic_write_text, plain, write_json
from letheon.core.statistics import Estimate
from letheon.report.html import environment
from letheon.report.plots import heat_map

Cell = str | int | float | None
FEWEST = 6  # items behind an effect's interval


@dataclass(frozen=True)
class Table:
    """A titled table; a number of None is shown as not computable."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True)
class Check:
    """A check of a probe's reliability: a split-half correlation, or a control.

    Attributes:
        name: what was compared.
        value: the measured number; None if it could not be computed.
        expected: the value of a reliable result, in words.
        passed: whether the value is as expected; None if there is no value.
    """

    name: str
    value: float | None
    expected: str
    passed: bool | None


def at_least(name: str, value: float | None, level: float) -> Check:
    """Make a check that passes from `level` on."""
    return Check(name, value, f"at least {level:g}", None if value is None else value >= level)


def at_most(name: str, value: float | None, level: float) -> Check:
    """Make a check that passes up to `level`."""
    return Check(name, value, f"at most {level:g}", None if value is None else value <= level)


def above_zero(name: str, effect: Estimate) -> Check:
    """Make a check of an effect that passes if its whole 95 % interval lies above 0.

    Fewer than six items pass nothing: no test of their signs could tell them from chance at that level.
    """
    if effect.low is None or effect.high is None or effect.n < FEWEST:
        return Check(name, effect.value, f"an interval above 0, of at least {FEWEST} items", None)
    expected = f"above 0 (95 % interval {effect.low:.3g} to {effect.high:.3g})"
    return Check(name, effect.value, expected, effect.low > 0)


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found in a model.

    Attributes:
        probe: name of the probe.
        model: name of the model.
        base: name of the model that it is compared with; empty if there is none.
        headline: the result in one sentence.
        tables: the numbers to read.
        checks: how reliable the numbers are.
        figures: caption -> SVG text.
        values: everything that was measured, for the JSON file.
        notes: remarks about this run.
        seconds: wall-clock time.
    """

    probe: str
    model: str
    headline: str
    tables: list[Table]
    checks: list[Check]
    base: str = ""
    figures: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all fields but the figures as JSON-ready values."""
        found = {name: value for name, value in asdict(self).items() if name != "figures"}
        return dict(plain(_listed(found)))


def _listed(value: Any) -> Any:
    """Turn tensors and arrays into lists, and numbers that are not finite into None."""
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in value]
    if hasattr(value, "tolist"):
        return _listed(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def render_probe(report: ProbeReport) -> str:
    """Render a report as one self-contained HTML page."""
    figures = {caption: Markup(drawn) for caption, drawn in report.figures.items()}
    return environment("letheon.probe").get_template("probe.html.j2").render(report=report, figures=figures)


def save_probe(report: ProbeReport, folder: Path) -> None:
    """Write NAME.json and NAME.html of a report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{report.probe}.json", report.to_json())
    atomic_write_text(folder / f"{report.probe}.html", render_probe(report))


def layer_head_map(values: torch.Tensor, words: str, *, low: float = 0.0, high: float | None = None) -> str:
    """Draw a [layers, heads] tensor as a heat map; the darkest colour is the largest value by default."""
    layers, heads = values.shape
    top = float(values.max()) if high is None else high
    return heat_map(
        values.tolist(), _names(layers), _names(heads), words, low=low, high=max(top, low + 1e-9)
    )  # fmt: skip


def _names(count: int) -> list[str]:
    """Number every row or column, or every fourth one if there are many."""
    return [str(i) if count <= 12 or i % 4 == 0 else "" for i in range(count)]


def halves(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Split items into those at even and at odd places, for a split-half correlation."""
    return list(items[0::2]), list(items[1::2])
