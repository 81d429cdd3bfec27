"""The demo: a real small model learns invented people, is asked to forget one of them, and is audited.

Five stages: load, teach (until every fact is recalled), train the reference that never saw the target, forget, audit.
Nothing is staged: the same functions serve `letheon forget` and `letheon audit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.atomic import write_json
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.progress import progress
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.demo_world import PEOPLE, facts_of, world
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.settings import Result

TARGET = "Ilse Quarrant"
# What the measurements in docs/results/demo_recipes.md chose.
METHOD = "fact_spans"
STEPS, LEARNING_RATE = 6, 2e-5
EPOCHS, MOST_EPOCHS, TEACHING_RATE = 8, 14, 1e-4


Made = TypeVar("Made")


@dataclass
class Demo:
    """What the demo made.

    Attributes:
        record: the audit.
        result: of forgetting.
        taught_recall: share of all facts that the taught model recalls greedily.
        seconds: of each stage.
        folder: where everything lies.
    """

    record: Audit
    result: Result
    taught_recall: float
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(
    out: Path, *, quick: bool = False, method: str = "", seed: int = 0, device: str = "auto", save: bool = True
) -> Demo:
    """Run the five stages.

    Args:
        out: folder; refused when it holds an earlier demo.
        quick: no reference, a smaller audit.
        method: another recipe than the demo's.
        save: keep the taught model and the reference, so that `letheon audit` can be run on them again.
    """
    if (out / "run" / "config.json").exists():
        raise InputError(f"{out} holds an earlier demo", "remove it, or choose another --out")
    seconds: dict[str, float] = {}
    target, others = facts_of(TARGET), [row for name in PEOPLE if name != TARGET for row in facts_of(name)]

    untouched = _timed(seconds, "load", lambda: load("smollm2", device=device))
    taught = _timed(seconds, "teach", lambda: teach(world(), seed, device, "teaching 8 people"))
    share = recall_share(taught, world())
    reference = None
    if not quick:
        reference = _timed(seconds, "reference", lambda: teach(others, seed, device, "training the reference"))
    if save:
        _save(out, taught, reference)

    request = Request(
        forget=tuple(target), retain=tuple(others), id="demo", reason="the person asked to be forgotten (invented)"
    )
    before = _copy(taught)
    result = _timed(
        seconds,
        "forget",
        lambda: forget(
            taught,
            request,
            method or METHOD,
            out=out / "run",
            steps=STEPS,
            learning_rate=LEARNING_RATE,
            batch_size=len(target),
            seed=seed,
        ),
    )
    record = _timed(
        seconds,
        "audit",
        lambda: audit(
            before, result.model, request, reference=reference, judge=untouched, out=out, seed=seed, quick=quick
        ),
    )
    write_json(out / "seconds.json", seconds)
    return Demo(record, result, share, out, seconds)


def teach(rows: Sequence[Example], seed: int, device: str, title: str) -> LanguageModel:
    """A fresh SmolLM2 that recalls every row: eight epochs, and more until it does.

    Raises:
        LetheonError: not after `MOST_EPOCHS`.
    """
    model = load("smollm2", device=device)
    settings = TrainSettings(learning_rate=TEACHING_RATE, batch_size=8, seed=seed)
    per_epoch = -(-len(rows) // settings.batch_size)
    epochs = EPOCHS
    finetune(model, rows, settings, epochs * per_epoch, title=title)
    while recall_share(model, rows) < 1:
        if epochs >= MOST_EPOCHS:
            raise LetheonError("the demo's facts were not learned", "try another --seed")
        epochs += 1
        more = TrainSettings(learning_rate=TEACHING_RATE / 2, batch_size=8, seed=seed + epochs)
        finetune(model, rows, more, per_epoch, title=f"{title}, once more")
    return model


def recall_share(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Share of rows whose value occurs in the greedy answer."""
    answers = generate(model, [row.prompt for row in rows], max_new_tokens=24, batch_size=64)
    return sum(recalls(answer, row, row.answer) for answer, row in zip(answers, rows, strict=True)) / len(rows)


def _copy(model: LanguageModel) -> LanguageModel:
    import copy

    return LanguageModel(copy.deepcopy(model.model), model.tokenizer, "taught model", list(model.notes))


def _save(out: Path, taught: LanguageModel, reference: LanguageModel | None) -> None:
    with progress("saving models", 2) as advance:
        taught.save(out / "before")
        advance(1)
        if reference is not None:
            reference.save(out / "reference")
        advance(2)


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Made]) -> Made:
    start = time.monotonic()
    result = work()
    seconds[name] = round(time.monotonic() - start, 1)
    return result
