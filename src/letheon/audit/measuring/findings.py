"""All measurements of an audit on one model; every model is examined by the same plan.

Models are examined one after another, so that a model given by name need not stay in memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from letheon.audit.attacks import in_order, ways_of_attack
from letheon.audit.attacks.base import Attempt, Tried
from letheon.audit.attacks.relearning import RelearnPoint, matrix_sizes, relearn
from letheon.audit.measuring.continued_learning import ContinuedLearning, continue_learning
from letheon.audit.measuring.detection import Detection, detect
from letheon.audit.measuring.evaluate import Evaluation, bare, evaluate, in_parts, scores_of
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.measuring.no_ops import demand_finite
from letheon.audit.measuring.quantise import Grid, quantised
from letheon.audit.measuring.templates import Template
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import TrainedOn
from letheon.core.forks import forks_for
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import control_probability, value_probability
from letheon.core.workers import ALONE, Workers

# Running text is scored in pieces of at most this many tokens.
PIECE = 512

# Called with the name of the stage that is done.
Report = Callable[[str], None]
Piece = Callable[[], Any]


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
        sizes: of each matrix that relearning trains, by its name; see `matrix_sizes`.
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
    sizes: dict[str, float] = field(default_factory=dict)


def examine(model: LanguageModel, plan: AuditPlan, report: Report, workers: Workers = ALONE) -> ModelFindings:
    """Measure one model by the plan.

    Args:
        report: called after each stage with its name.
        workers: the processes that share out the work; each of them calls this and gets all findings. Rows are shared
            out in the parts that a single process would measure one after another; attacks, trainings and whatever is
            measured in one batch go whole to one process. A single process makes copies of itself where they help.

    Raises:
        LetheonError: the model computes NaN or infinity.
    """
    demand_finite(model, plan.forget)
    settings = plan.settings
    sets = (plan.forget, plan.retain, plan.neighbours, plan.holdout)
    together = [row for rows in sets for row in rows]  # one batch: the rows are decoded side by side
    limit = settings.max_new_tokens or answer_limit(model, together)
    learning = {"continued learning": [partial(continue_learning, model, plan)]} if plan.continuation else {}
    work: dict[str, Sequence[Piece]] = {
        **learning,  # first: a strategy that cannot work with the model is refused here
        "relearning": [partial(_relearn, model, plan)],  # the longest pieces stand first
        "answers": [
            partial(evaluate, model, part, max_new_tokens=limit, batch_size=settings.batch_size)
            for part in in_parts(together)
        ],
        "attacks": [partial(one, model, plan, limit) for one in ways_of_attack(plan)],
        "detection": [partial(detect, model, plan)],
        "values": [partial(value_probability, model, plan.facts), partial(control_probability, model, plan.controls)],
        "general text": [partial(text_scores, model, plan.general)],
    }
    clock = _Clock(report, workers if workers.count > 1 else forks_for(model.base()))
    done = clock.run(work)
    known = [row for part in done["answers"] for row in part.rows]
    said = dict(zip(map(id, together), (row.answer for row in known), strict=True))
    done |= clock.run({"rounding": [partial(_round, model, plan, grid, limit, said) for grid in settings.grids]})
    parts = iter(known)
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
        value_probability=done["values"][0],
        control_probability=done["values"][1],
        general=done["general text"][0],
        attacks=in_order(done["attacks"], plan),
        relearning=done["relearning"][0],
        rounded=done["rounding"],
        detection=done["detection"][0],
        continued=done["continued learning"][0] if learning else None,
        seconds=clock.seconds,
        template=plan.came_with,
        sizes=matrix_sizes(model) if settings.relearn_steps else {},
    )


class _Clock:
    """Runs the pieces of stages, reports stages, and keeps how long each took (seconds, over all processes)."""

    def __init__(self, report: Report, workers: Workers) -> None:
        self.report, self.workers = report, workers
        self.seconds: dict[str, float] = {}

    def run(self, work: Mapping[str, Sequence[Piece]]) -> dict[str, list[Any]]:
        """Return the results of each stage's pieces; a stage is reported once this process has done its share of it."""
        of_stage = [stage for stage, pieces in work.items() for _ in pieces]
        calls = [partial(_timed, piece) for pieces in work.values() for piece in pieces]
        left = Counter(of_stage[self.workers.rank :: self.workers.count])
        unreported = list(work)

        def done(number: int) -> None:
            stage = of_stage[number]
            left[stage] -= 1
            if not left[stage]:
                unreported.remove(stage)
                self.report(stage)

        found: dict[str, list[Any]] = {stage: [] for stage in work}
        self.seconds |= dict.fromkeys(work, 0.0)
        for stage, (result, seconds) in zip(of_stage, self.workers.share(calls, done), strict=True):
            found[stage].append(result)
            self.seconds[stage] = round(self.seconds[stage] + seconds, 2)
        for stage in unreported:
            self.report(stage)
        return found


def _timed(piece: Piece) -> tuple[Any, float]:
    began = time.monotonic()
    return piece(), time.monotonic() - began


STAGES = 7  # reports for each model, one more where it goes on learning


def _round(model: LanguageModel, plan: AuditPlan, grid: Grid, limit: int, said: dict[int, str | None]) -> Rounded:
    """Measure the rounded model; its answers before rounding are good drafts of those after."""
    rows = [*plan.forget, *plan.rounded]
    drafts = [said[id(row)] for row in rows]
    with quantised(model, grid) as rounded:
        known = evaluate(rounded, bare(rows), drafts=drafts, max_new_tokens=limit, batch_size=plan.settings.batch_size)
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
