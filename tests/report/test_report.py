"""Figures, numbers and text of a page: described, readable, and safe to show."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from tests.audit.specimen import read

from letheon.audit.page import audit_figures
from letheon.audit.page.audit_figures import Attacked
from letheon.audit.page.limits import rule
from letheon.audit.verdict import load_profile
from letheon.report import figures
from letheon.report.numbers import interval, number
from letheon.report.safe_text import clip, duration, moment, visible


def test_characters_that_act_unseen_are_shown() -> None:
    assert visible("a\x00b\x7f\x85\u2066\u200b\ufeff\ud800\U000e0041") == (
        "a␀b␡⟨U+0085⟩⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩\ufffd⟨U+E0041⟩"
    )
    kept = "tabs\t, lines\n, עברית, e\u0301, \U0001f469\u200d\U0001f52c"
    assert visible(kept) == kept
    assert clip("abcdef", 4) == "abcd … (2 more characters)"


def measured(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    """Numbers for a figure, without the record."""
    return SimpleNamespace(value=value, low=low, high=high)


def test_figures_take_plain_numbers_and_any_series() -> None:
    values = {"before": measured(0.9, 0.8, 1.0), "after": measured(None), "our own": measured(0.0)}
    drawn = [
        figures.bars({"first $x_1$ & <b>": values}, "share", "Bars"),
        figures.dots({"first": values}, "share", "Dots"),
        figures.plane({name: (value, value) for name, value in values.items()}, "x", "y", "Plane"),
        figures.curves({"before": [(0, 1.0), (1, 0.5)], "our own": [(0, 0.0), (1, 0.0)]}, "x", "y", "Curves"),
        figures.curves({"after": [(0, 0.0), (2, 0.5)]}, "x", "y", "Half", level=0.5, reached={"after": 2.0}),
        audit_figures.roc({"after": [(0, 0.0), (1, 1.0)]}, {"after": "0.50"}, "ROC"),
        audit_figures.distributions({"before": [0.0, 1e9], "none": [], "one": [1.0]}, "ratio", "Ratios", "equal"),
        audit_figures.distributions({"after": [float(i + 1) for i in range(5000)]}, "ratio", "Many"),
        audit_figures.attack_bars(
            {"Family": [Attacked("a" * 99, values["before"], values["after"], values["before"], 0.5, shows=True)]},
            "AUROC",
            "Attacks",
        ),
    ]
    for svg in drawn:
        assert svg.startswith("<svg")
        assert svg.endswith("</svg>")
        read(svg)
    assert "first $x_1$ &amp; &lt;b&gt;" in drawn[0]
    assert "not computable" in drawn[0]


def test_names_of_points_that_lie_together_stand_in_a_column_each_joined_to_its_point() -> None:
    def joining(points: dict[str, tuple[float, float]]) -> int:
        measures = {name: (measured(x), measured(y)) for name, (x, y) in points.items()}
        return figures.plane(measures, "x", "y", "Plane").count("stroke-width: 0.6; stroke-linecap: square")

    apart = {"before": (1.0, 0.9), "npo": (0.2, 0.3), "simnpo": (0.1, 0.6)}
    alone = joining(apart)
    assert joining(apart | {"kuda": (0.1, 0.6), "rmu": (0.1, 0.6), "ga": (0.1, 0.6)}) - alone == 6


def test_a_figure_is_described_and_follows_the_theme() -> None:
    svg = figures.curves({"after": [(0, 0.0), (4, 0.5)]}, "steps", "recall", 'said "so"')
    assert 'role="img" aria-label="said &quot;so&quot;"' in svg
    assert "var(--after, " in svg
    assert "<text" in svg
    assert svg == figures.curves({"after": [(0, 0.0), (4, 0.5)]}, "steps", "recall", 'said "so"')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not computable"),
        (0, "0"),
        (0.4, "0.40"),
        (1, "1.00"),
        (-2.436, "−2.44"),
        (12.34, "12.3"),
        (1240.4, "1,240"),
        (0.00712, "0.0071"),
        (0.000031, "3.1e−05"),
        (0.0999, "0.10"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_reads_as_from_to() -> None:
    assert interval(measured(0.5, 0.18, 0.74)) == "0.18 to 0.74"
    assert interval(measured(0.5)) == ""


def test_times_and_limits_read_well() -> None:
    assert moment(datetime(2026, 3, 2, 1, 5, tzinfo=UTC)) == "2 March 2026, 01:05 UTC"
    assert [duration(s) for s in (45, 720, 12240)] == ["45 s", "12 min", "3.4 h"]
    criteria = {criterion.metric: criterion for criterion in load_profile("standard").criteria}
    assert rule(criteria["damage"]) == "at most 0.2"
    assert rule(criteria["attack:value_prefix"]) == "at most that of reference; without it, at most 0"
    assert rule(criteria["attack:*"]) == "at most reference + 0.2; without it, at most 0.2"
    assert rule(criteria["value_probability"]) == (
        "at most 2 × control; where the control is loose, at most reference + 0.1; without it, at most 2 × holdout; "
        "without it, at most reference + 0.1; without it, at most 0.5"
    )
