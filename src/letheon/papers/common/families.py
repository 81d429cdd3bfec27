"""The survey's table: one working method per family of unlearning, how it is run, and how its model is measured.

Equal forgetting is the forget probability of a model retrained without the rows: methods that take steps end there, and
one-shot edits are made stronger until they are there. Retained knowledge is read on authors whom no run is shown.
What is left of the facts is read by attribution: how surely the model gives each forgotten author that author's own
value and not another forgotten author's. All of these values were learned together, or (in retraining) none of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from letheon.audit.measuring.extraction import extraction_likelihood
from letheon.audit.measuring.membership import membership
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.memorisation import exact_memorization
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.guards import Guardrail, InContext
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.sequences.sharding import Sharded, ShardSettings, ensemble_probability
from letheon.papers.common.small_llama import accuracy, copy_of, scored, world_settings
from letheon.papers.common.tofu_mini import World, new_model, paraphrased, split_authors, train
from letheon.papers.kit.findings import means
from letheon.papers.kit.tuning import LONGER
from letheon.probe.erasure import concept_states, erased, fit_eraser

MOST_STEPS = 80  # in the search, of a method that takes steps, if it does not forget earlier
RELEARN_STEPS, RELEARN_RATE = 12, 3e-4
LAYER = 2  # LEACE erases from the output of this layer


@dataclass(frozen=True)
class Member:
    """A method of the table.

    Attributes:
        family, sub: the survey's family and sub-family.
        guarantee: `exact`, `exact for linear probes`, `empirical` or `none`.
        recipe: as `letheon forget` takes it; empty for a method that is no recipe.
        rates: learning rates to choose from; empty where nothing is trained.
        doses: values for the `{}` in the recipe of a one-shot edit, weakest first.
    """

    name: str
    family: str
    sub: str
    guarantee: str
    recipe: str = ""
    rates: tuple[float, ...] = ()
    doses: tuple[float, ...] = ()


SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of a layer's neurons to be pruned
SCALES = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of the task vector that is subtracted
RATES, HIGHER = (1e-4, 3e-4, 1e-3), (3e-4, 1e-3, 3e-3)
GLOBAL, LOCAL = "global weight modification", "local weight modification"
ARCHITECTURE, INPUT = "architecture modification", "input/output modification"
MEMBERS = (
    Member("retraining", GLOBAL, "retraining from scratch", "exact"),
    Member("SISA", GLOBAL, "data sharding", "exact"),
    Member("gradient ascent", GLOBAL, "gradient ascent and variants", "empirical", "gradient_ascent", RATES),
    Member("gradient difference", GLOBAL, "gradient ascent and variants", "empirical", "grad_diff", RATES),
    Member("NPO", GLOBAL, "preference", "empirical", "npo", RATES),
    Member("DPO", GLOBAL, "preference", "empirical", "dpo:alternates=perturbed", RATES),
    Member("UNDIAL", GLOBAL, "knowledge distillation", "empirical", "undial", RATES),
    Member("RMU", LOCAL, "representation misdirection", "empirical", "rmu:layer=2", HIGHER),
    Member("task vector", LOCAL, "task vectors", "empirical", "task_vector:scale={}", RATES, SCALES),
    Member("selective pruning", LOCAL, "direct modification", "empirical", "selective_pruning:share={}", doses=SHARES),
    Member("LEACE", ARCHITECTURE, "linear transformation", "exact for linear probes"),
    Member("in-context", INPUT, "direct request", "none"),
    Member("guardrail", INPUT, "output filter", "none"),
)
NUMBERS = (
    "forget probability",
    "extraction likelihood",
    "memorisation accuracy",
    "membership AUROC",
    "paraphrase probability",
    "retain perplexity",
    "retain accuracy",
    "forget recall of answers",
    "attribution",
    "relearned attribution",
    "relearned probability",
    "seconds",
    "share of weights moved",
)


class Bench:
    """One seed's world and models; runs and measures every member on them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        shown, self.others = split_authors(world)
        self.request = Request(forget=world.forget, retain=shown, holdout=world.holdout)
        self.blank = new_model(world, seed)
        self.full = copy_of(self.blank)
        train(self.full, world.known(forgotten=True), seed)
        began, self.retrained = time.monotonic(), copy_of(self.blank)
        train(self.retrained, world.known(forgotten=False), seed)
        self.retraining_seconds = time.monotonic() - began

    @cached_property
    def level(self) -> float:
        """Equal forgetting: the forget probability of the retrained model."""
        return probability(self.retrained, self.request.forget)

    def run(self, member: Member, rate: float | None = None) -> dict[str, float]:
        """Run a member, with a learning rate if it has one, and measure its model."""
        special: dict[str, Callable[[], dict[str, float]]] = {
            "retraining": lambda: self.measured(self.retrained, self.retraining_seconds),
            "SISA": self._sharded,
            "LEACE": self._erased,
            "in-context": self._in_context,
            "guardrail": self._filtered,
        }
        if member.name in special:
            return special[member.name]()
        began = time.monotonic()
        return self.measured(self.forgotten(member, rate, LONGER * MOST_STEPS), time.monotonic() - began)

    def forgotten(self, member: Member, rate: float | None = None, most: int = MOST_STEPS) -> LanguageModel:
        """The model where a method has reached the level, or at its last step (`most`) or strongest dose."""
        for dose in member.doses or (0.0,):
            model = self._after(member, member.recipe.format(dose), rate, most)
            if probability(model, self.request.forget) <= self.level:
                break
        return model

    def _after(self, member: Member, recipe: str, rate: float | None, most: int) -> LanguageModel:
        def at_level(model: LanguageModel, steps: int) -> str | None:
            return "forgotten" if probability(model, self.request.forget) <= self.level else None

        training = TrainSettings(rate or RELEARN_RATE, batch_size=8, precision="float32", seed=self.seed)
        steps, on_step = (6, None) if member.doses else (most, at_level)
        model = copy_of(self.full)
        return forget(
            model, self.request, recipe, on_step=on_step, steps=steps, training=training, collapse=False
        ).model

    def attacked(self, model: LanguageModel) -> dict[str, float]:
        """Forgetting, utility, and what relearning half of the forget rows brings back of the other half."""
        forget = self.request.forget
        relearned = []
        for half in (0, 1):
            copy, asked = copy_of(model), forget[1 - half :: 2]
            training = TrainSettings(RELEARN_RATE, batch_size=8, precision="float32", seed=self.seed)
            finetune(copy, forget[half::2], training, RELEARN_STEPS, title="relearning")
            relearned.append((attribution(copy, asked, forget), probability(copy, asked)))
        attributed, probable = np.mean(relearned, axis=0).tolist()
        return {
            "forget probability": probability(model, forget),
            "retain accuracy": accuracy(model, self.others),
            "attribution": attribution(model, forget, forget),
            "relearned attribution": attributed,
            "relearned probability": probable,
        }

    def _sharded(self) -> dict[str, float]:
        """SISA with two shards of two slices: mean of the shards' measurements, seconds of the deletion alone.

        The forget probability is that of the ensemble, whose token probabilities are the shards' mean.
        """
        training = world_settings(0, batch_size=16)
        with tempfile.TemporaryDirectory() as scratch:
            base = self.blank.save(Path(scratch) / "base")
            settings = ShardSettings(str(base), shards=2, slices=2, epochs=18, scope="everything", seed=self.seed)
            rows = self.world.known(forgotten=True)
            made = Sharded.train(rows, Path(scratch) / "shards", settings, training, device=str(self.full.device))
            began = time.monotonic()
            made.forget(self.request.forget)
            seconds, models = time.monotonic() - began, made.constituents()
        shards = [self.measured(model, seconds) for model in models]
        return means(shards) | {"forget probability": ensemble(models, self.request.forget)}

    def _erased(self) -> dict[str, float]:
        began = time.monotonic()
        states, labels = concept_states(self.full, self.request.forget, self.request.retain, LAYER)
        eraser = fit_eraser(states, labels)
        seconds = time.monotonic() - began
        with erased(self.full, LAYER, eraser):
            return self.measured(self.full, seconds)

    def _in_context(self) -> dict[str, float]:
        """The model behind its context: answers, probabilities and membership are read with it, the rest without."""
        context = InContext(self.request, others=2, seed=self.seed)

        def behind(rows: Sequence[Example]) -> tuple[Example, ...]:
            return tuple(replace(row, prompt=context.prompt(row.prompt)) for row in rows)

        forgotten, unseen = behind(self.request.forget), behind(self.request.holdout)
        began = time.monotonic()
        answers = context.answer(self.full, [row.prompt for row in self.request.forget], max_new_tokens=20)
        seconds = time.monotonic() - began
        return self.measured(self.full, seconds) | {
            "forget recall of answers": recall(answers, self.request.forget),
            "forget probability": probability(self.full, forgotten),
            "membership AUROC": membership(self.full, forgotten, unseen)["loss"].auroc.value or 0.0,
            "retain accuracy": accuracy(self.full, behind(self.others)),
        }

    def _filtered(self) -> dict[str, float]:
        began = time.monotonic()
        prompts = [row.prompt for row in self.request.forget]
        answers = Guardrail(self.request).answer(self.full, prompts, max_new_tokens=20)
        measured = self.measured(self.full, time.monotonic() - began)
        return measured | {"forget recall of answers": recall(answers, self.request.forget)}

    def measured(self, model: LanguageModel, seconds: float) -> dict[str, float]:
        """The columns of the table, and the accuracy of a linear probe for the concept."""
        forget = self.request.forget
        memorised = [exact_memorization(score.correct) for score in scored(model, forget)]
        retained = [score.logp for score in scored(model, self.others)]
        extracted = [value for value in extraction_likelihood(model, forget) if value is not None]
        answers = generate(model, [row.prompt for row in forget], max_new_tokens=20)
        return self.attacked(model) | {
            "extraction likelihood": float(np.mean(extracted)),
            "memorisation accuracy": float(np.mean([value for value in memorised if value is not None])),
            "membership AUROC": membership(model, forget, self.request.holdout)["loss"].auroc.value or 0.0,
            "paraphrase probability": probability(model, [paraphrased(row) for row in forget]),
            "retain perplexity": float(np.exp(-np.mean(np.concatenate(retained)))),
            "forget recall of answers": recall(answers, forget),
            "seconds": seconds,
            "share of weights moved": moved_share(self.full, model),
            "probe accuracy": probe_accuracy(model, self.request, self.seed),
        }


def probability(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Mean over rows of exp(mean log-probability per answer token)."""
    return float(np.mean([score.probability for score in scored(model, rows)]))


def attribution(model: LanguageModel, rows: Sequence[Example], forget: Sequence[Example]) -> float:
    """Mean probability of a row's value among the forgotten authors' values for the same fact; chance is one in them.

    A row whose value every forgotten author shares is left out.
    """
    others = [
        sorted({one.value or "" for one in forget if _fact(one) == _fact(row)} - {row.value or ""}) for row in rows
    ]
    asked = [(row, values) for row, values in zip(rows, others, strict=True) if values]
    trees = [
        (row.prompt, [row.answer, *(row.answer.replace(row.value or "", other) for other in values)])
        for row, values in asked
    ]
    logps = [torch.tensor([float(one.logp.sum()) for one in scores]) for scores in score_answers(model, trees)]
    return float(np.mean([float(one.softmax(0)[0]) for one in logps]))


def _fact(row: Example) -> str:
    """The name of the fact that a row asks for, from its id "AUTHOR: FACT"."""
    return row.id.rpartition(": ")[2]


def ensemble(models: Sequence[LanguageModel], rows: Sequence[Example]) -> float:
    """The same for an ensemble, whose token probabilities are the mean of the models'."""
    probabilities = ensemble_probability(models, [(row.prompt, row.answer) for row in rows])
    return sum(float(p.log().mean().exp()) for p in probabilities) / len(probabilities)


def recall(answers: Sequence[str], rows: Sequence[Example]) -> float:
    """Share of answers in which the row's value occurs."""
    return sum(str(row.value) in answer for answer, row in zip(answers, rows, strict=True)) / len(rows)


def moved_share(before: LanguageModel, after: LanguageModel) -> float:
    """Share of all weights that differ between two models."""
    pairs = list(zip(before.model.parameters(), after.model.parameters(), strict=True))
    return sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)


def probe_accuracy(model: LanguageModel, request: Request, seed: int) -> float:
    """Balanced accuracy of a linear probe for the concept on the states that it was fitted to; 0.5 is chance.

    Fit and test states are the same because LEACE guarantees that no linear probe beats chance there. They are those
    of all positions, at which it erases.
    """
    states, labels = concept_states(model, request.forget, request.retain, LAYER)
    x, y = states.double().cpu().numpy(), labels[:, 0].cpu().numpy()
    probe = LogisticRegression(max_iter=2000, C=1.0, class_weight="balanced", random_state=seed).fit(x, y)
    return float(balanced_accuracy_score(y, probe.predict(x)))
