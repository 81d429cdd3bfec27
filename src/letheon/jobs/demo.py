"""The demo: a real small model learns invented people, is asked to forget two of them, and is audited.

Five stages: load, teach (until every fact is recalled), train the reference that never saw the targets, forget, audit.
Nothing is staged: the same functions serve `letheon forget` and `letheon audit`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from letheon.core.training.settings import TrainSettings
from letheon.forget.deep import full_name, second_stage
from letheon.forget.recipe import read_method
from letheon.forget.run import forget
from letheon.forget.settings import ForgetSettings, Result
from letheon.jobs.demo_world import PEOPLE, TARGETS, WITHHELD, demo_request, world
from letheon.jobs.options import Machine

METHOD = "alternates+null_space"  # with its own settings, as whoever gives no option has it
EPOCHS, MOST_EPOCHS, TEACHING_RATE = 8, 14, 1e-4


@dataclass
class Demo:
    """The result of the demo."""

    record: Audit  # the record of the audit
    result: Result  # the result of forgetting
    taught_recall: float  # share of all facts that the taught model recalls greedily
    folder: Path  # the folder of models, run and audit
    seconds: dict[str, float] = field(default_factory=dict)  # seconds per stage


@dataclass(frozen=True)
class DemoJob:
    """The demo as the command line asks for it."""

    out: Path  # folder of everything that the demo writes; a folder with an earlier demo is refused
    quick: bool = False  # train no reference, and audit fewer rows
    method: str = ""  # another recipe than the demo's
    depth: str = "shallow"  # `deep` distils the result into a noised copy
    machine: Machine = field(default_factory=Machine)

    def plan(self) -> dict[str, Any]:
        """Check the method and return what would be done.

        Raises:
            InputError: there is no such method.
        """
        second = second_stage(read_method(self.method or METHOD), ForgetSettings(depth=self.depth), TrainSettings())
        return {
            "model": "smollm2",
            "people": len(PEOPLE),
            "facts": 5 * len(PEOPLE),
            "epochs": EPOCHS,
            "targets": list(TARGETS),
            "withheld": WITHHELD,
            "reference": not self.quick,
            "method": full_name(self.method or METHOD, second),
            "out": str(self.out),
        }

    def work(self) -> Demo:
        """Run the five stages."""
        if (self.out / "run" / "config.json").exists():
            raise InputError(f"{self.out} holds an earlier demo", "remove it, or choose another --out")
        seed, device, seconds = self.machine.seed, self.machine.device, Stopwatch()
        request = demo_request()
        with seconds.of("load"):
            untouched = load("smollm2", device=device)
        with seconds.of("teach"):
            taught = teach(world(), seed, device, "teaching 8 people")
        recalled, reference = recall_share(taught, world()), None
        if not self.quick:
            with seconds.of("reference"):
                reference = teach([*request.retain, *request.neighbours], seed, device, "training the reference")
        _save(self.out, taught, reference)
        before = LanguageModel(copy.deepcopy(taught.model), taught.tokenizer, "taught model", list(taught.notes))
        with seconds.of("forget"):
            method, out = self.method or METHOD, self.out / "run"
            result = forget(taught, request, method, out=out, seed=seed, depth=self.depth)
        with seconds.of("audit"):
            record = audit(
                before,
                result.model,
                request,
                reference=reference,
                judge=untouched,
                out=self.out,
                seed=seed,
                quick=self.quick,
                method=self.method or METHOD,
            )
        write_json(self.out / "seconds.json", seconds)
        return Demo(record, result, recalled, self.out, seconds)


def teach(rows: Sequence[Example], seed: int, device: str, title: str) -> LanguageModel:
    """Train a fresh SmolLM2 until it recalls every row, for `EPOCHS` epochs at least.

    Raises:
        LetheonError: a row is not recalled after `MOST_EPOCHS`.
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
    """Return the share of rows whose value occurs in the greedy answer."""
    answers = generate(model, [row.prompt for row in rows], max_new_tokens=24, batch_size=64)
    return sum(recalls(answer, row, row.answer) for answer, row in zip(answers, rows, strict=True)) / len(rows)


def _save(out: Path, taught: LanguageModel, reference: LanguageModel | None) -> None:
    with progress("saving models", 2) as advance:
        taught.save(out / "before")
        advance(1)
        if reference is not None:
            reference.save(out / "reference")
        advance(2)


class Stopwatch(dict[str, float]):
    """The seconds of named stages."""

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure the block as a stage."""
        start = time.monotonic()
        yield
        self[stage] = round(time.monotonic() - start, 1)
