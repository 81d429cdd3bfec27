"""The demo: a real small model learns invented people, is asked to forget two of them, and is audited.

Five stages: load, teach (until every fact is recalled), train the reference that never saw the targets, forget, audit.
Nothing is staged: the same functions serve `letheon forget` and `letheon audit`. A killed demo is continued by the same
command: what it has taught is kept, and the deletion goes on where it was.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import finish_run
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.atomic import check_writable, is_whole, read_json, write_json
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.deep import full_name, second_stage
from letheon.forget.recipe import read_method
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import ForgetSettings, Result
from letheon.jobs.demo_world import PEOPLE, TARGETS, WITHHELD, demo_request, world
from letheon.jobs.options import Machine

MODEL = "smollm2"
METHOD = "alternates+null_space@mlp"  # with its own settings, as whoever gives no option has it
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

    out: Path  # folder of everything that the demo writes; one with a finished demo, or another, is refused
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
            "model": MODEL,
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
        """Run the five stages; in the folder of a killed demo, those that it had not finished.

        Raises:
            InputError: the folder holds a finished demo, or one with other options.
        """
        self._begin()
        seed, device, seconds = self.machine.seed, self.machine.device, Stopwatch(self.out / "seconds.json")
        request = demo_request()
        with seconds.of("load"):
            untouched = load(MODEL, device=device)
        with seconds.of("teach"):
            taught = self._taught("before", world(), "teaching 8 people", untouched)
        recalled, reference = recall_share(taught, world()), None
        if not self.quick:
            with seconds.of("reference"):
                kept = [*request.retain, *request.neighbours]
                reference = self._taught("reference", kept, "training the reference", untouched)
        before = LanguageModel(copy.deepcopy(taught.model), taught.tokenizer, "taught model", list(taught.notes))
        with seconds.of("forget"):
            result = self._forgotten(taught, request)
        with seconds.of("audit"):
            record = audit(
                before,
                result.model,
                request,
                reference=reference,
                judge=untouched,
                seed=seed,
                quick=self.quick,
                method=self.method or METHOD,
            )
            record = finish_run("", result, record, str(self.out / "before"), self.out) or record
        return Demo(record, result, recalled, self.out, seconds)

    def _begin(self) -> None:
        """Write down what the demo is; continue one that was the same."""
        own, plan = self.out / "demo.json", {**self.plan(), "out": "", "seed": self.machine.seed}
        models = any((self.out / name).exists() for name in ("before", "reference", "run"))
        if (self.out / "report.html").exists() or (models and not own.exists()):
            raise InputError(f"{self.out} holds an earlier demo", "remove it, or choose another --out")
        if own.exists() and read_json(own) != plan:
            problem = f"{self.out} holds a demo that was begun with other options"
            raise InputError(problem, "give the same again to continue it, remove it, or choose another --out")
        check_writable(self.out)
        write_json(own, plan)

    def _taught(self, role: str, rows: Sequence[Example], title: str, untouched: LanguageModel) -> LanguageModel:
        """A model that was taught rows: that of the folder, or a new one, which is saved there."""
        if is_whole(self.out / role):
            saved = load(self.out / role, device=self.machine.device)
            return LanguageModel(saved.model, saved.tokenizer, untouched.name, list(untouched.notes))
        model = teach(rows, self.machine.seed, self.machine.device, title)
        model.save(self.out / role)
        return model

    def _forgotten(self, taught: LanguageModel, request: Request) -> Result:
        out, device = self.out / "run", self.machine.device
        if (out / "config.json").exists():
            name, result = taught.name, resume(out, device, model=taught)
            result.model.name = name
            return result
        return forget(taught, request, self.method or METHOD, out=out, seed=self.machine.seed, depth=self.depth)


def teach(rows: Sequence[Example], seed: int, device: str, title: str) -> LanguageModel:
    """Train a fresh SmolLM2 until it recalls every row, for `EPOCHS` epochs at least.

    Raises:
        LetheonError: a row is not recalled after `MOST_EPOCHS`.
    """
    model = load(MODEL, device=device)
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


class Stopwatch(dict[str, float]):
    """The seconds of named stages, in a file that holds those of earlier, killed starts too."""

    def __init__(self, file: Path) -> None:
        super().__init__(read_json(file) if file.is_file() else {})
        self.file = file

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure the block as a stage, and write it down, ended or not."""
        start, earlier = time.monotonic(), self.get(stage, 0.0)
        try:
            yield
        finally:
            self[stage] = round(earlier + time.monotonic() - start, 1)
            write_json(self.file, self)
