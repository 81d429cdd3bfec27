"""Is the audit faithful? A pool of models that hold the knowledge and models that do not, told apart by every metric.

Each model of the pool is taught on its own: another seed, learning rate and format (questions, paraphrases, running
text, all of them). Half of them are taught the rows to forget. A faithful metric ranks these models above the
others: its AUROC is 1; 0.5 is chance. It should do so still after the models are finetuned on other rows, and after
their weights are rounded. The verdict is judged as it is without a reference, and as it is with one: the self-test's
retrained model, which is taught in one format under another seed than the pool's (and, if it is a real one, has heard
of further people).

Source: faithfulness and robustness of unlearning metrics as in Dorna et al., OpenUnlearning, arXiv 2506.12618.
Differs: the pool is small and of one architecture; the verdict is judged like a metric.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from letheon.audit.criteria import LANGUAGE
from letheon.audit.measuring.examinations import code_hash
from letheon.audit.measuring.findings import examine
from letheon.audit.measuring.quantise import Grid, matrices, round_to_nearest
from letheon.audit.plan import QUICK, make_plan
from letheon.audit.record.record import Audit
from letheon.audit.selftest.models import (
    FORGOTTEN,
    ROWS,
    ModelName,
    World,
    clone,
    in_format,
    lesson_settings,
    make_world,
)
from letheon.audit.selftest.selftest import concluded, ignore
from letheon.core.atomic import read_json, write_json
from letheon.core.devices import check_device
from letheon.core.model.models import LanguageModel
from letheon.core.progress import progress
from letheon.core.rows.sampling import stream_seed
from letheon.core.runs import Run, versions
from letheon.core.statistics import estimate_auroc
from letheon.core.training.finetuning import finetune

Condition = Literal["as taught", "finetuned", "rounded"]
CONDITIONS: tuple[Condition, ...] = ("as taught", "finetuned", "rounded")
FORMATS = ("all", "questions", "paraphrases", "text and questions")
# Range of the learning rate, times the usual one; steps of benign finetuning, share of the steps of teaching.
SLOWEST, FASTEST, BENIGN = 0.6, 1.4, 0.1
# A metric below this AUROC says so where it is printed.
WEAK = 0.8
VERDICT, WITH_REFERENCE = "verdict", "verdict with a reference"
# Metrics of the forget rows of which less means more knowledge.
REVERSED = ("truth_ratio",)
NO_KNOWLEDGE = {*LANGUAGE, "control_probability", "forget_quality"}


@dataclass(frozen=True)
class Ranked:
    """The ability of one metric to tell models with the knowledge from models without it.

    Attributes:
        name: of a metric, an attack (`attack:NAME`), a rounding, relearning, or `verdict`.
        auroc: by condition; None where the metric could not be computed for enough models.
        weak: whether an AUROC is below 0.8.
    """

    name: str
    auroc: dict[str, float | None]
    weak: bool


@dataclass(frozen=True)
class PoolTest:
    """The audit's faithfulness on a pool.

    Attributes:
        model: on which the pool was built.
        size: number of models with the knowledge, and as many without it.
        ranked: every metric, the verdict first.
        seconds: how long this call took.
    """

    model: str
    size: int
    ranked: list[Ranked]
    seconds: float

    @property
    def passed(self) -> bool:
        """True if the verdict tells the models apart, as taught and without a reference: an AUROC of .98 or more."""
        return (self.ranked[0].auroc[CONDITIONS[0]] or 0.0) >= 0.98

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {"passed": self.passed, **asdict(self)}


def run_pool(
    size: int, model: ModelName = "tiny", seed: int = 0, device: str = "auto", out: Path | None = None
) -> PoolTest:
    """Teach the pool, audit each of its models under each condition, and rank them by every metric.

    Args:
        size: number of models of either kind, at least 2.
        out: folder that keeps each model's scores; those already there are not made again. None keeps nothing.

    Raises:
        InputError: the folder holds a pool of another model, seed or device, or one that other code audited.
    """
    clock, place = time.monotonic(), check_device(device)
    config = {"model": model, "seed": seed, "device": place, "code": code_hash(), "versions": versions()}
    what = "a pool of another model, seed or device, or of other versions"
    with contextlib.nullcontext() if out is None else Run.begun(out, config, what):
        found = _audited(size, lambda: make_world(model, seed, place), out)
    scores = {name: [(holds(number), one[name]) for number, one in found.items()] for name in CONDITIONS}
    return PoolTest(model, size, ranking(scores), round(time.monotonic() - clock, 1))


def holds(number: int) -> bool:
    """Whether this model of the pool is taught the rows to forget: every second one."""
    return number % 2 == 0


def _audited(size: int, taught: Callable[[], World], out: Path | None) -> dict[int, dict[Condition, dict[str, float]]]:
    """Return the scores of each model under each condition, those of the folder first."""
    files = {number: out / f"model-{number}.json" for number in range(2 * size)} if out is not None else {}
    found = {number: read_json(file) for number, file in files.items() if file.is_file()}
    left = [number for number in range(2 * size) if number not in found]
    if not left:
        return found
    world = taught()
    plan = make_plan(world.before, world.request, replace(QUICK, seed=world.seed))
    before, reference = (examine(model, plan, ignore) for model in (world.before, world.retrained))
    with progress("auditing the pool", len(left) * len(CONDITIONS)) as advance:
        for place, number in enumerate(left):
            taught_one, scores = member(world, number), {}
            for done, (condition, change) in enumerate(CHANGES.items(), start=1):
                changed = clone(taught_one, taught_one.name)
                change(world, changed, number)
                after = examine(changed, plan, ignore)
                alone, beside = (concluded(world, plan, before, after, other) for other in (None, reference))
                scores[condition] = {VERDICT: fails(alone), WITH_REFERENCE: fails(beside), **dict(scores_of(alone))}
                advance(place * len(CONDITIONS) + done, condition)
            found[number] = scores
            if files:
                write_json(files[number], scores)
    return dict(sorted(found.items()))


def member(world: World, number: int) -> LanguageModel:
    """Teach one model of the pool: all rows, or all but those to forget."""
    draw = np.random.default_rng(stream_seed(world.seed, "pool", number))
    rows = ROWS if holds(number) else ROWS[FORGOTTEN:]
    rate = world.lessons.learning_rate * float(draw.uniform(SLOWEST, FASTEST))
    model = clone(world.base, f"pool {number}")
    lessons = in_format(rows, FORMATS[number // 2 % len(FORMATS)])
    settings = lesson_settings(rate, world.lessons, world.seed + number + 1)
    finetune(model, [*lessons, *world.request.general], settings, world.lessons.steps, title=f"teaching: {model.name}")
    return model


def _left_alone(world: World, model: LanguageModel, number: int) -> None:
    """Change nothing."""


def _finetuned(world: World, model: LanguageModel, number: int) -> None:
    """Finetune on kept rows, which say nothing of the rows to forget."""
    steps = max(1, round(BENIGN * world.lessons.steps))
    settings = lesson_settings(world.lessons.learning_rate / 2, world.lessons, world.seed + number)
    finetune(model, list(world.request.retain), settings, steps, title=f"finetuning: {model.name}")


def _rounded(world: World, model: LanguageModel, number: int) -> None:
    """Round the weights to 4 bits, for good."""
    for weight in matrices(model.base()):
        weight.data = round_to_nearest(weight.data, Grid(4))


# Each is made to a copy of the model as it was taught.
CHANGES: dict[Condition, Callable[[World, LanguageModel, int], None]] = dict(
    zip(CONDITIONS, (_left_alone, _finetuned, _rounded), strict=True)
)


def fails(record: Audit) -> float:
    """Return the verdict on forgetting: 1 where a required criterion of the forget rows' knowledge fails, else 0."""
    required = [one for one in record.verdict.criteria if one.criterion.required and one.criterion.subset == "forget"]
    knowledge = [one for one in required if one.criterion.metric not in LANGUAGE]
    return float(any(one.outcome == "fail" for one in knowledge))


def scores_of(record: Audit) -> Iterator[tuple[str, float]]:
    """Yield each metric of the forget rows, higher for more knowledge."""
    for metric in record.metrics:
        measured = (metric.subset, metric.model) == ("forget", "after") and metric.name not in NO_KNOWLEDGE
        if measured and metric.value.value is not None:
            yield metric.name, -metric.value.value if metric.name in REVERSED else metric.value.value
    for attack in record.attacks:
        if attack.after.value is not None:
            yield f"attack:{attack.name}", attack.after.value
    for rounded in record.quantised:
        if rounded.model == "after" and rounded.forget_recall.value is not None:
            yield f"quantised:{rounded.bits}", rounded.forget_recall.value
    for curve in record.curves:
        if curve.model == "after":
            yield "relearn", max(point.recall for point in curve.points)


def ranking(scores: Mapping[Condition, Sequence[tuple[bool, Mapping[str, float]]]]) -> list[Ranked]:
    """Return the AUROC of every metric by condition."""
    names = dict.fromkeys(name for found in scores.values() for _, one in found for name in one)
    ranked = []
    for name in names:
        auroc = {
            str(condition): estimate_auroc(
                [one[name] for held, one in found if held and name in one],
                [one[name] for held, one in found if not held and name in one],
                resamples=2,
            ).value
            for condition, found in scores.items()
        }
        ranked.append(Ranked(name, auroc, any(value is not None and value < WEAK for value in auroc.values())))
    return ranked
