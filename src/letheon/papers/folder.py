"""The folder that `letheon papers run` writes: outcome, rows, figures, and a page that shows them."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

from jinja2 import Environment

from letheon.core.atomic import atomic_write_text, write_json
from letheon.core.errors import LetheonError
from letheon.papers.catalogue import Outcome, Paper
from letheon.papers.outcome import json_ready, readable

# Figures go in as data URIs of images: a browser runs nothing inside them, and the page stands alone.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ paper.key }}: {{ outcome.verdict }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 400; color: #555; }
td, th { padding: .2rem 1.5rem .2rem 0; vertical-align: top; } img { max-width: 100%; }
.holds { color: #0a6b2d; } .fails { color: #a1150f; } .inconclusive { color: #7a5500; }
</style>
</head>
<body>
<h1>{{ paper.title }}</h1>
<p>{% if paper.arxiv %}arXiv {{ paper.arxiv }}{% endif %}{% if paper.date %}, {{ paper.date }}{% endif %}</p>
<p>{{ outcome.claim }}</p>
<p>Verdict: <strong class="{{ outcome.verdict }}">{{ outcome.verdict }}</strong>
{% if outcome.model %} on model {{ outcome.model }}{% endif %}</p>
<table>
<tr><th scope="row">compared with</th><td>{{ outcome.baselines | join(", ") or "no baseline" }}</td></tr>
{% for name, value in measured.items() %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table>
{% for name, source in figures.items() %}<figure><img src="{{ source }}" alt="{{ name }}">
<figcaption>{{ name }}</figcaption></figure>
{% endfor %}</body>
</html>
"""


def write_outcome(outcome: Outcome, paper: Paper, folder: Path) -> None:
    """Write `outcome.json`, `rows.json` (where there are rows), one SVG per figure, and `index.html`.

    Raises:
        LetheonError: a figure's name is not fit for a file name, or a file cannot be written.
    """
    for title, svg in outcome.figures.items():
        name = re.sub(r"[ ,]+", "-", title)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise LetheonError(
                f"paper {paper.key!r} names a figure {name!r}",
                "use letters, digits, - and _: it becomes a file name",
            )
        atomic_write_text(folder / f"{name}.svg", svg)
    write_json(folder / "outcome.json", outcome.to_json())
    if outcome.rows:
        write_json(folder / "rows.json", json_ready(outcome.rows))
    atomic_write_text(folder / "index.html", html_page(outcome, paper))


def html_page(outcome: Outcome, paper: Paper) -> str:
    """One self-contained page; every value is escaped."""
    short = outcome.to_json()
    more = ("primary", "beside", "checks", "interval", "seeds", "seconds", "rule")
    measured = {**short["measured"], **{name: short[name] for name in more if short[name]}}
    figures = {
        name: "data:image/svg+xml;base64," + b64encode(svg.encode()).decode() for name, svg in outcome.figures.items()
    }
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            paper=paper,
            outcome=outcome,
            measured={name: readable(value) for name, value in measured.items()},
            figures=figures,
        )
    )
