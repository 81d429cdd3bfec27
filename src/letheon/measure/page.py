"""A bench as one HTML file: the field's table, the plane of forgetting and utility, every score of every model."""

from markupsafe import Markup

from letheon.measure.benchmark import Bench, Score
from letheon.report import figures
from letheon.report.html import render
from letheon.report.numbers import WithInterval

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}


def render_bench(bench: Bench) -> str:
    """The page as HTML text; nothing but the record is read."""
    rows = {one.name: {score.name: score for score in one.scores.scores} for one in bench.models if one.scores}
    every = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    return render(
        "letheon.measure",
        "bench.html.j2",
        bench=bench,
        rows=rows,
        failed=[one for one in bench.models if one.scores is None],
        columns=[name for name in bench.columns if name in every],
        every=every,
        arrows={name: ARROWS[score.better] for scores in rows.values() for name, score in scores.items()},
        figure=Markup(_plane(bench, rows)),
    )


def _plane(bench: Bench, rows: dict[str, dict[str, Score]]) -> str:
    left, kept = bench.plane
    points: dict[str, tuple[WithInterval, WithInterval]] = {
        name: (scores[left].estimate, scores[kept].estimate) for name, scores in rows.items()
    }
    words = f"Forgetting against utility on {bench.benchmark}: {left} of each model against {kept}"
    return figures.plane(points, left, kept, words)
