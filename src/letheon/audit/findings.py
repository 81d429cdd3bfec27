"""Everything that an audit measures on one model, by the same plan for each of them.

Models are examined one after another, so that a model given by name need not stay in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from letheon.audit.answering import answer_limit
from letheon.audit.attacks import Attempt, RelearnPoint, attack, relearn, split_for_relearning
from letheon.audit.evaluate import Evaluation, evaluate, scores_of
from letheon.audit.quantise import STANDARD_GRIDS, Grid, quantised
from letheon.core.examples import Example
from letheon.core.models import LanguageModel
from letheon.core.sampling import stream_seed
from letheon.core.spans import control_probability, find_values, value_probability
from letheon.forget.request import Request

GENERAL_TEXT = Path(__file__).with_name("general.txt")
# Running text is scored in pieces of at most so many tokens.
PIECE = 512

# Called with what has been done, in a few words.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How much an audit does.

    Attributes:
        retain_rows: of the kept rows and of the neighbours, drawn by the seed where there are more.
        control_rows: forget rows whose value is also scored under unknown subjects.
        rounded_rows: kept rows that are asked of the rounded models.
        general_texts: pieces of general text for the perplexity, from the first on; 0 takes all.
        relearn_steps, relearn_learning_rate: of the relearning attack; no steps, no attack.
        grids: how the weights are rounded.
        max_new_tokens: limit of an answer; None: twice the longest expected answer and 8 more, at most 200.
        batch_size: answers decoded together.
        seed: of draws, intervals and relearning.
    """

    retain_rows: int = 64
    control_rows: int = 64
    rounded_rows: int = 16
    general_texts: int = 8
    relearn_steps: int = 6
    relearn_learning_rate: float = 5e-5
    grids: tuple[Grid, ...] = STANDARD_GRIDS
    max_new_tokens: int | None = None
    batch_size: int = 64
    seed: int = 0


# For a first look: fewer rows, 4 bits only, three steps of relearning.
QUICK = Settings(
    retain_rows=16, control_rows=8, rounded_rows=8, general_texts=4, relearn_steps=3, grids=STANDARD_GRIDS[:1]
)


@dataclass(frozen=True)
class Plan:
    """The rows that every model is asked, fixed before the first of them is measured.

    Attributes:
        forget: all rows to forget, as the request gives them.
        facts: the same with their values: given, or found with the model before.
        controls: those of `facts` that are also scored under unknown subjects.
        retain, neighbours: kept rows, drawn by the seed where there are many.
        rounded: kept rows that are asked of the rounded models.
        general: running text.
        trained, watched: rows of the relearning attack.
        settings: how much is done.
    """

    forget: list[Example]
    facts: list[Example]
    controls: list[Example]
    retain: list[Example]
    neighbours: list[Example]
    rounded: list[Example]
    general: list[Example]
    trained: list[Example]
    watched: list[Example]
    settings: Settings


def make_plan(before: LanguageModel, request: Request, settings: Settings) -> Plan:
    """Draw rows, find values with the model before, split the rows of the relearning attack."""
    forget = list(request.forget)
    retain = draw(request.retain, settings.retain_rows, settings.seed, "retain")
    neighbours = draw(request.neighbours, settings.retain_rows, settings.seed, "neighbours")
    facts = with_values(before, forget)
    trained, watched = split_for_relearning(facts, stream_seed(settings.seed, "relearn"))
    general = list(request.general) or shipped_text()
    return Plan(
        forget=forget,
        facts=facts,
        controls=draw(facts, settings.control_rows, settings.seed, "controls"),
        retain=retain,
        neighbours=neighbours,
        rounded=draw(retain, settings.rounded_rows, settings.seed, "rounded"),
        general=general[: settings.general_texts or None],
        trained=trained,
        watched=watched,
        settings=settings,
    )


def draw(rows: Sequence[Example], most: int, seed: int, stream: str) -> list[Example]:
    """At most so many rows, in their order, drawn by a seed of their own."""
    if len(rows) <= most:
        return list(rows)
    chosen = np.random.default_rng(stream_seed(seed, stream)).choice(len(rows), most, replace=False)
    return [rows[i] for i in sorted(chosen.tolist())]


def with_values(before: LanguageModel, rows: Sequence[Example]) -> list[Example]:
    """Rows with their values found; running text has no question that could tell a value, and stays as it is."""
    asked = [row for row in rows if row.prompt]
    found = dict(zip(map(id, asked), find_values(before, asked), strict=True)) if asked else {}
    return [found.get(id(row), row) for row in rows]


def shipped_text() -> list[Example]:
    """The paragraphs of general prose that come with the package."""
    paragraphs = GENERAL_TEXT.read_text(encoding="utf-8").strip().split("\n\n")
    return [Example("", " ".join(text.split()), id=f"general-{i}") for i, text in enumerate(paragraphs, start=1)]


@dataclass(frozen=True)
class TextScore:
    """A piece of running text: its negative log-likelihood (nats) over so many tokens."""

    id: str
    nll: float
    tokens: int


@dataclass(frozen=True)
class Rounded:
    """What a rounded model knows of the forgotten and of the kept."""

    grid: Grid
    forget: Evaluation
    retain: Evaluation


@dataclass(frozen=True)
class Findings:
    """What was measured on one model; see `Plan` for the rows."""

    name: str
    sha256: str
    parameters: int
    adapter: bool
    device: str
    notes: list[str]
    forget: Evaluation
    retain: Evaluation
    neighbours: Evaluation
    value_probability: list[float | None]
    control_probability: list[float | None]
    general: list[TextScore]
    attacks: dict[str, list[Attempt]]
    relearning: list[RelearnPoint]
    rounded: list[Rounded]
    seconds: dict[str, float] = field(default_factory=dict)


def examine(model: LanguageModel, plan: Plan, report: Report) -> Findings:
    """Measure one model by the plan.

    Args:
        report: called after each stage with its name.
    """
    clock = _Clock(report)
    settings = plan.settings
    together = [*plan.forget, *plan.retain, *plan.neighbours]  # one batch: the rows are decoded side by side
    limit = settings.max_new_tokens or answer_limit(model, together)
    known = evaluate(model, together, max_new_tokens=limit, batch_size=settings.batch_size)
    said = {id(row.example): row.answer for row in known.rows}
    clock("answers")
    values = value_probability(model, plan.facts)
    controls = control_probability(model, plan.controls)
    clock("values")
    general = text_scores(model, plan.general)
    clock("general text")
    attacks = attack(model, plan.forget, plan.facts, max_new_tokens=limit, batch_size=settings.batch_size)
    clock("attacks")
    rounded = [_round(model, plan, grid, limit, said) for grid in settings.grids]
    clock("rounding")
    relearning = _relearn(model, plan)
    clock("relearning")
    kept = len(plan.forget) + len(plan.retain)
    return Findings(
        name=model.name,
        sha256=model.parameters_hash(),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        adapter=model.has_adapter,
        device=str(model.device),
        notes=list(model.notes),
        forget=Evaluation(known.rows[: len(plan.forget)]),
        retain=Evaluation(known.rows[len(plan.forget) : kept]),
        neighbours=Evaluation(known.rows[kept:]),
        value_probability=values,
        control_probability=controls,
        general=general,
        attacks=attacks,
        relearning=relearning,
        rounded=rounded,
        seconds=clock.seconds,
    )


class _Clock:
    """Reports stages and keeps how long each took (seconds)."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now
        self.report(stage)


STAGES = 6  # calls of the clock for each model


def _round(model: LanguageModel, plan: Plan, grid: Grid, limit: int, said: dict[int, str | None]) -> Rounded:
    """Ask the rounded model; what it said before rounding are good guesses of what it says now."""
    rows = [*plan.forget, *plan.rounded]
    drafts = [said[id(row)] for row in rows]
    with quantised(model, grid) as rounded:
        known = evaluate(rounded, rows, drafts=drafts, max_new_tokens=limit, batch_size=plan.settings.batch_size)
    return Rounded(grid, Evaluation(known.rows[: len(plan.forget)]), Evaluation(known.rows[len(plan.forget) :]))


def _relearn(model: LanguageModel, plan: Plan) -> list[RelearnPoint]:
    settings = plan.settings
    if not settings.relearn_steps:
        return []
    return relearn(
        model,
        plan.trained,
        plan.watched,
        steps=settings.relearn_steps,
        learning_rate=settings.relearn_learning_rate,
        seed=settings.seed,
    )


def text_scores(model: LanguageModel, texts: Sequence[Example]) -> list[TextScore]:
    """Negative log-likelihood of running text, in pieces that fit into the model's context.

    The first token of a piece is not judged unless the model has a begin-of-sequence token.
    """
    pieces = [piece for text in texts for piece in _pieces(model, text)]
    scores = scores_of(model, [("", [piece.answer]) for piece in pieces])
    scored = zip(pieces, scores, strict=True)
    return [
        TextScore(piece.id, -float(score.logp.sum()), len(score.logp)) for piece, (score,) in scored if len(score.logp)
    ]


def _pieces(model: LanguageModel, text: Example) -> list[Example]:
    """A text cut at token boundaries."""
    whole = f"{text.prompt}\n{text.answer}" if text.prompt else text.answer
    spans = model.encoder().answer(whole, end=False)[1]
    size = min(PIECE, model.context_length - 1)
    if len(spans) <= size:
        return [replace(text, prompt="", answer=whole)]
    cuts = [spans[i][0] for i in range(0, len(spans), size)]
    ends = [*cuts[1:], len(whole)]
    parts = [whole[a:b] for a, b in zip(cuts, ends, strict=True)]
    return [replace(text, prompt="", answer=part, id=f"{text.id}-{i}") for i, part in enumerate(parts) if part.strip()]
