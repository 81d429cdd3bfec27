"""The survey's table: one working method per family of unlearning, how it is run, and how its model is measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from letheon.audit.measuring.extraction import extraction_likelihood
from letheon.audit.measuring.membership import membership
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore, score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.memorisation import exact_memorization
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.guards import Guardrail, InContext
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.sequences.sharding import Sharded, ShardSettings, ensemble_probability
from letheon.papers.common.small_llama import accuracy, copy_of, world_settings
from letheon.papers.common.tofu_mini import World, paraphrased, train
from letheon.papers.kit.findings import means
from letheon.probe.erasure import erased, fit_eraser

# Methods that take steps end at this forget probability, or after this number of steps.
LEVEL, MOST_STEPS = 0.25, 60
RELEARN_STEPS, RELEARN_RATE = 4, 3e-4
LAYER = 2  # LEACE erases from the output of this layer


@dataclass(frozen=True)
class Member:
    """A method of the table.

    Attributes:
        family, sub: the survey's family and sub-family.
        guarantee: `exact`, `exact for linear probes`, `empirical` or `none`.
        recipe: as `letheon forget` takes it; empty for a method that is no recipe.
        rate: learning rate.
        doses: values for the `{}` in the recipe of a one-shot edit, weakest first.
    """

    name: str
    family: str
    sub: str
    guarantee: str
    recipe: str = ""
    rate: float = 3e-4
    doses: tuple[float, ...] = ()


SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)  # shares of a layer's neurons to be pruned
GLOBAL, LOCAL = "global weight modification", "local weight modification"
ARCHITECTURE, INPUT = "architecture modification", "input/output modification"
MEMBERS = (
    Member("retraining", GLOBAL, "retraining from scratch", "exact"),
    Member("SISA", GLOBAL, "data sharding", "exact"),
    Member("gradient ascent", GLOBAL, "gradient ascent and variants", "empirical", "gradient_ascent"),
    Member("gradient difference", GLOBAL, "gradient ascent and variants", "empirical", "grad_diff"),
    Member("NPO", GLOBAL, "preference", "empirical", "npo"),
    Member("DPO", GLOBAL, "preference", "empirical", "dpo:alternates=perturbed"),
    Member("UNDIAL", GLOBAL, "knowledge distillation", "empirical", "undial", 1e-3),
    Member("RMU", LOCAL, "representation misdirection", "empirical", "rmu:layer=2", 1e-3),
    Member("task vector", LOCAL, "task vectors", "empirical", "task_vector:scale={}", doses=(1, 2, 4, 8, 16)),
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
    "relearned probability",
    "seconds",
    "share of weights moved",
)


class Bench:
    """One seed's world and models; runs and measures every member on them."""

    def __init__(self, world: World, request: Request, blank: LanguageModel, full: LanguageModel, seed: int) -> None:
        self.world, self.request, self.blank, self.full, self.seed = world, request, blank, full, seed

    def run(self, member: Member, began: float) -> dict[str, float]:
        """Run a member and measure its model; `began` is the time when it was called."""
        special: dict[str, Callable[[], dict[str, float]]] = {
            "retraining": self._retrained,
            "SISA": self._sharded,
            "LEACE": self._erased,
            "in-context": self._in_context,
            "guardrail": self._filtered,
        }
        if member.name in special:
            return special[member.name]()
        model = self._forgotten(member)
        return self.measured(model, time.monotonic() - began)

    def _forgotten(self, member: Member) -> LanguageModel:
        for dose in member.doses or (0.0,):
            model = self._after(member, member.recipe.format(dose))
            if probability(model, self.request.forget) <= LEVEL:
                break
        return model

    def _after(self, member: Member, recipe: str) -> LanguageModel:
        def at_level(model: LanguageModel, steps: int) -> str | None:
            gone = steps % 3 == 0 and probability(model, self.request.forget) <= LEVEL
            return "forgotten" if gone else None

        training = TrainSettings(member.rate, batch_size=8, precision="float32", seed=self.seed)
        steps = 6 if member.doses else MOST_STEPS
        model = copy_of(self.full)
        return forget(
            model, self.request, recipe, on_step=at_level, steps=steps, training=training, collapse=False
        ).model

    def _retrained(self) -> dict[str, float]:
        began, model = time.monotonic(), copy_of(self.blank)
        train(model, self.world.known(forgotten=False), self.seed)
        return self.measured(model, time.monotonic() - began)

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
        states, labels = concept_states(self.full, self.request, everywhere=True)
        eraser = fit_eraser(states, labels)
        seconds = time.monotonic() - began
        with erased(self.full, LAYER, eraser):
            return self.measured(self.full, seconds)

    def _in_context(self) -> dict[str, float]:
        """Generated answers have the context; extraction and membership ask the model without it."""
        context = InContext(self.request, others=2, seed=self.seed)
        prompts = [row.prompt for row in self.request.forget]
        began = time.monotonic()
        answers = context.answer(self.full, prompts, max_new_tokens=20)
        measured = self.measured(self.full, time.monotonic() - began)
        plain = generate(self.full, prompts, max_new_tokens=20)
        changed = sum(a != b for a, b in zip(answers, plain, strict=True)) / len(plain)
        return measured | {"answers changed": changed, "forget recall of answers": recall(answers, self.request.forget)}

    def _filtered(self) -> dict[str, float]:
        began = time.monotonic()
        prompts = [row.prompt for row in self.request.forget]
        answers = Guardrail(self.request).answer(self.full, prompts, max_new_tokens=20)
        measured = self.measured(self.full, time.monotonic() - began)
        return measured | {"forget recall of answers": recall(answers, self.request.forget)}

    def measured(self, model: LanguageModel, seconds: float) -> dict[str, float]:
        """The columns of the table, and the accuracy of a linear probe for the concept."""
        forget, retain = self.request.forget, self.request.retain
        scores = scored(model, forget)
        memorised = [exact_memorization(score.correct) for score in scores]
        retained = [score.logp for score in scored(model, retain)]
        extracted = [value for value in extraction_likelihood(model, forget) if value is not None]
        answers = generate(model, [row.prompt for row in forget], max_new_tokens=20)
        return {
            "forget probability": float(np.mean([score.probability for score in scores])),
            "extraction likelihood": float(np.mean(extracted)),
            "memorisation accuracy": float(np.mean([value for value in memorised if value is not None])),
            "membership AUROC": membership(model, forget, self.request.holdout)["loss"].auroc.value or 0.0,
            "paraphrase probability": probability(model, [paraphrased(row) for row in forget]),
            "retain perplexity": float(np.exp(-np.mean(np.concatenate(retained)))),
            "retain accuracy": accuracy(model, retain),
            "forget recall of answers": recall(answers, forget),
            "relearned probability": self._relearned(model),
            "seconds": seconds,
            "share of weights moved": moved_share(self.full, model),
            "probe accuracy": probe_accuracy(model, self.request, self.seed),
        }

    def _relearned(self, model: LanguageModel) -> float:
        """Probability of every second forget answer after a few steps of training on the others."""
        copy = copy_of(model)
        training = TrainSettings(RELEARN_RATE, batch_size=8, precision="float32", seed=self.seed)
        finetune(copy, self.request.forget[::2], training, RELEARN_STEPS, title="relearning")
        return probability(copy, self.request.forget[1::2])


def scored(model: LanguageModel, rows: Sequence[Example]) -> list[AnswerScore]:
    """The score of each row's own answer."""
    return [scores[0] for scores in score_answers(model, [(row.prompt, [row.answer]) for row in rows])]


def probability(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Mean over rows of exp(mean log-probability per answer token)."""
    return float(np.mean([score.probability for score in scored(model, rows)]))


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


def concept_states(model: LanguageModel, request: Request, *, everywhere: bool = False) -> tuple[Any, Any]:
    """Hidden states [n, width], and 1 where the row is a forget row [n, 1].

    Args:
        everywhere: at every token of question and answer but the first (where an eraser of all positions acts), instead
            of at the last token of the question.
    """
    states, labels = [], []
    for label, rows in ((1.0, request.forget), (0.0, request.retain)):
        for row in rows:
            encoder = model.encoder()
            ids = encoder.encode(row).ids if everywhere else encoder.prompt(row.prompt)
            with torch.no_grad(), record(model.base(), [Site(LAYER)]) as seen:
                model.base()(torch.tensor([ids], device=model.device), use_cache=False)
            chosen = seen[Site(LAYER)][0, 1:] if everywhere else seen[Site(LAYER)][0, -1:]
            states.append(chosen)
            labels.append(torch.full((len(chosen), 1), label))
    return torch.cat(states), torch.cat(labels)


def probe_accuracy(model: LanguageModel, request: Request, seed: int) -> float:
    """Balanced accuracy of a linear probe for the concept on the states that it was fitted to; 0.5 is chance.

    Fit and test states are the same because LEACE guarantees that no linear probe beats chance there. They are those
    of all positions, at which it erases.
    """
    states, labels = concept_states(model, request, everywhere=True)
    x, y = states.double().numpy(), labels[:, 0].numpy()
    probe = LogisticRegression(max_iter=2000, C=1.0, class_weight="balanced", random_state=seed).fit(x, y)
    return float(balanced_accuracy_score(y, probe.predict(x)))
