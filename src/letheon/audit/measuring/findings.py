"""All measurements of an audit on one model; every model is examined by the same plan.

Models are examined one after another, so that a model given by name need not stay in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from letheon.audit.attacks import attack_model
from letheon.audit.attacks.base import Attempt, Tried
from letheon.audit.attacks.relearning import RelearnPoint, relearn
from letheon.audit.measuring.continued_learning import ContinuedLearning, continue_learning
from letheon.audit.measuring.detection import Detection, detect
from letheon.audit.measuring.evaluate import Evaluation, evaluate, scores_of
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.measuring.no_ops import demand_finite
from letheon.audit.measuring.quantise import Grid, quantised
from letheon.audit.measuring.templates import Template
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import TrainedOn
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import control_probability, value_probability

# Running text is scored in pieces of at most this many tokens.
PIECE = 512

# Called with the name of the stage that is done.
Report = Callable[[str], None]


@dataclass(frozen=True)
class TextScore:
    """A piece of running text: its negative log-likelihood (nats), summed over `tokens` tokens."""

    id: str
    nll: float
    tokens: int


@dataclass(frozen=True)
class Rounded:
    """The forget and retain rows under a rounded model."""

    grid: Grid
    forget: Evaluation
    retain: Evaluation


@dataclass(frozen=True)
class ModelFindings:
    """The measurements of one model; see `AuditPlan` for the rows.

    Attributes:
        attacks: by name, for attacks that fit some of the rows: the answered attempts, or the measurement.
        relearning: curves by training rows: `forgotten` or `unrelated` ones.
        continued: measurements while it learned the plan's stream; None where the plan has none.
        template: the chat template that it came with; None where the models were not asked alike.
    """

    name: str
    sha256: str
    parameters: int
    adapter: bool
    device: str
    notes: list[str]
    forget: Evaluation
    retain: Evaluation
    neighbours: Evaluation
    holdout: Evaluation
    value_probability: list[float | None]
    control_probability: list[float | None]
    general: list[TextScore]
    attacks: dict[str, list[Attempt] | Tried]
    relearning: dict[TrainedOn, list[RelearnPoint]]
    rounded: list[Rounded]
    detection: Detection | None
    continued: ContinuedLearning | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    template: Template | None = None


def examine(model: LanguageModel, plan: AuditPlan, report: Report) -> ModelFindings:
    """Measure one model by the plan.

    Args:
        report: called after each stage with its name.

    Raises:
        LetheonError: the model computes NaN or infinity.
    """
    demand_finite(model, plan.forget)
    clock = _Clock(report)
    settings = plan.settings
    continued = continue_learning(model, plan)  # first: a strategy that cannot work with the model is refused here
    if continued is not None:
        clock("continued learning")
    sets = (plan.forget, plan.retain, plan.neighbours, plan.holdout)
    together = [row for rows in sets for row in rows]  # one batch: the rows are decoded side by side
    limit = settings.max_new_tokens or answer_limit(model, together)
    known = evaluate(model, together, max_new_tokens=limit, batch_size=settings.batch_size)
    said = {id(row.example): row.answer for row in known.rows}
    clock("answers")
    values = value_probability(model, plan.facts)
    controls = control_probability(model, plan.controls)
    clock("values")
    general = text_scores(model, plan.general)
    clock("general text")
    attacks = attack_model(model, plan, limit)
    clock("attacks")
    rounded = [_round(model, plan, grid, limit, said) for grid in settings.grids]
    clock("rounding")
    relearning = _relearn(model, plan)
    clock("relearning")
    detection = detect(model, plan)
    clock("detection")
    parts = iter(known.rows)
    forget, retain, neighbours, holdout = (Evaluation([next(parts) for _ in rows]) for rows in sets)
    return ModelFindings(
        name=model.name,
        sha256=model.parameters_hash(),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        adapter=model.has_adapter,
        device=str(model.device),
        notes=list(model.notes),
        forget=forget,
        retain=retain,
        neighbours=neighbours,
        holdout=holdout,
        value_probability=values,
        control_probability=controls,
        general=general,
        attacks=attacks,
        relearning=relearning,
        rounded=rounded,
        detection=detection,
        continued=continued,
        seconds=clock.seconds,
        template=plan.came_with,
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


STAGES = 7  # calls of the clock for each model, one more where it goes on learning


def _round(model: LanguageModel, plan: AuditPlan, grid: Grid, limit: int, said: dict[int, str | None]) -> Rounded:
    """Measure the rounded model; its answers before rounding are good drafts of those after."""
    rows = [*plan.forget, *plan.rounded]
    drafts = [said[id(row)] for row in rows]
    with quantised(model, grid) as rounded:
        known = evaluate(rounded, rows, drafts=drafts, max_new_tokens=limit, batch_size=plan.settings.batch_size)
    return Rounded(grid, Evaluation(known.rows[: len(plan.forget)]), Evaluation(known.rows[len(plan.forget) :]))


def _relearn(model: LanguageModel, plan: AuditPlan) -> dict[TrainedOn, list[RelearnPoint]]:
    """Relearn some forget rows, and retain rows that say nothing of them; return a curve for each."""
    settings = plan.settings
    rows: dict[TrainedOn, list[Example]] = {"forgotten": plan.trained}
    if settings.thorough:
        rows["unrelated"] = plan.unrelated
    curves: dict[TrainedOn, list[RelearnPoint]] = {}
    for name, trained in rows.items():
        if trained and settings.relearn_steps:
            curves[name] = relearn(
                model,
                trained,
                plan.watched,
                steps=settings.relearn_steps,
                every=1 if name == "forgotten" else 2,
                learning_rate=settings.relearn_learning_rate,
                seed=settings.seed,
                start=next((points[0] for points in curves.values()), None),
            )
    return curves


def text_scores(model: LanguageModel, texts: Sequence[Example]) -> list[TextScore]:
    """Return the negative log-likelihood of running text, in pieces that fit into the model's context.

    The first token of a piece is not scored unless the model has a begin-of-sequence token.
    """
    pieces = [piece for text in texts for piece in _pieces(model, text)]
    scores = scores_of(model, [("", [piece.answer]) for piece in pieces])
    scored = zip(pieces, scores, strict=True)
    return [
        TextScore(piece.id, -float(score.logp.sum()), len(score.logp)) for piece, (score,) in scored if len(score.logp)
    ]


def _pieces(model: LanguageModel, text: Example) -> list[Example]:
    """Cut a text at token boundaries."""
    whole = f"{text.prompt}\n{text.answer}" if text.prompt else text.answer
    spans = model.encoder().answer(whole, end=False)[1]
    size = min(PIECE, model.context_length - 1)
    if len(spans) <= size:
        return [replace(text, prompt="", answer=whole)]
    cuts = [spans[i][0] for i in range(0, len(spans), size)]
    ends = [*cuts[1:], len(whole)]
    parts = [whole[a:b] for a, b in zip(cuts, ends, strict=True)]
    return [replace(text, prompt="", answer=part, id=f"{text.id}-{i}") for i, part in enumerate(parts) if part.strip()]
