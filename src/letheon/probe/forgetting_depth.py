"""Did the forgetting of a skill generalise, and is it deep?

Paper:   Unforgettable Generalization in Language Models, arXiv 2409.02228: a model fine-tuned on a task's inputs with
         random labels becomes random on those inputs; whether it does on new ones differs wildly between tasks. Low
         confidence and low variability of hidden states (weakly) say where it does; linear probes still solve the task.
Differs: the paper's body could not be read; the ratio's normalisation, the layer and the place of the states are
         [inferred]. Ours: predictors for single items beside those for whole tasks; probes keep rows of one group apart
         and have two controls (shuffled labels, a model with random weights).

    from letheon.probe.choices import read_choices

    report = forgetting_depth("before/", "after/", read_choices("trained-on.jsonl"), read_choices("held-out.jsonl"))
    report.ratio_held_out      # 0: only the rows trained on were forgotten; 1: the skill is gone
    report.probes["after"]     # accuracy of a linear probe at each layer: what the states still tell
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.atomic import plain
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.rows.examples import short
from letheon.core.statistics import Estimate, rank_correlation
from letheon.probe.choices import LEAST_KNOWN, Answered, Choice, answered, forget_ratio, option_probabilities
from letheon.probe.linear_probes import cross_validated, token_states

# States -------------------------------------------------------------------------------------------------------------


def variability(states: Float[Tensor, "rows width"]) -> float:
    """Mean squared distance to the centroid (trace of the covariance) over the mean squared norm: 0 all alike."""
    return float((states - states.mean(0)).square().sum(1).mean() / states.square().sum(1).mean())


def distances(states: Float[Tensor, "rows width"], centre: Float[Tensor, "others width"]) -> Float[Tensor, " rows"]:
    """Squared distance of each row to the centroid of others, over the mean squared norm of these."""
    return (states - centre.mean(0)).square().sum(1) / centre.square().sum(1).mean()


def probe_accuracy(
    model: LanguageModel, rows: Sequence[Choice], *, shuffled: bool = False, seed: int = 0
) -> list[float]:
    """Per layer, how often a cross-validated linear probe finds the right answer.

    Where right answers recur (in two groups or more each), the probe reads the answer from the last prompt token. Where
    rows have answers of their own, it tells right from wrong options at each option's last token, centred by question.

    Args:
        shuffled: labels are permuted between rows (or options): what is left is chance with these folds.
    """
    groups = [row.group or f"row {i}" for i, row in enumerate(rows)]
    of: dict[str, set[str]] = {}
    for row, group in zip(rows, groups, strict=True):
        of.setdefault(row.answer, set()).add(group)
    if min(map(len, of.values())) >= 2 and len(of) >= 2:
        return _answer_probe(model, rows, groups, shuffled, seed)
    return _option_probe(model, rows, groups, shuffled, seed)


def _answer_probe(
    model: LanguageModel, rows: Sequence[Choice], groups: Sequence[str], shuffled: bool, seed: int
) -> list[float]:
    names = sorted({row.answer for row in rows})
    labels = [names.index(row.answer) for row in rows]
    if shuffled:
        labels = random.Random(seed).sample(labels, len(labels))
    states = token_states(model, [model.encoder().prompt(row.prompt) for row in rows])
    return [cross_validated(layer, labels, groups, seed=seed).accuracy for layer in states]


def _option_probe(
    model: LanguageModel, rows: Sequence[Choice], groups: Sequence[str], shuffled: bool, seed: int
) -> list[float]:
    encoder, draw = model.encoder(), random.Random(seed)
    owner = [i for i, row in enumerate(rows) for _ in row.options]
    golds = [draw.randrange(len(row.options)) if shuffled else row.gold for row in rows]
    labels = [int(o == golds[i]) for i, row in enumerate(rows) for o in range(len(row.options))]
    ids = [
        (*encoder.prompt(row.prompt), *encoder.answer(option, end=False)[0]) for row in rows for option in row.options
    ]
    states = token_states(model, ids)
    place = torch.tensor(owner)
    counts = torch.bincount(place).float()
    found = []
    for layer in states:
        means = torch.zeros(len(rows), layer.shape[-1]).index_add(0, place, layer) / counts[:, None]
        right = cross_validated(layer - means[place], labels, [groups[i] for i in owner], seed=seed).probability[:, -1]
        chosen = [int(np.argmax(right[np.asarray(owner) == i])) for i in range(len(rows))]
        found.append(float(np.mean([one == gold for one, gold in zip(chosen, golds, strict=True)])))
    return found


def untrained(model: LanguageModel, seed: int = 0) -> LanguageModel:
    """The same architecture and tokenizer with random weights: the control for what the words give away."""
    from copy import deepcopy

    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(deepcopy(model.base().config)).float()
    return LanguageModel(fresh.to(model.device).eval(), model.tokenizer, f"{model.name}, random weights")


# The check ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """What happened to one held-out row.

    Attributes:
        confidence: probability of the most probable option before.
        distance: of its state before to the centroid of the rows trained on (see `distances`).
        gold_before, gold_after: probability of the right option.
        right_before, right_after: whether it was the most probable.
    """

    prompt: str
    confidence: float
    distance: float
    gold_before: float
    gold_after: float
    right_before: bool
    right_after: bool


@dataclass(frozen=True)
class DepthReport:
    """Whether forgetting generalised, where, and what is left in the states.

    Attributes:
        train, held_out: answers before and after.
        ratio_train, ratio_held_out: see `forget_ratio`; None where the model hardly knew the rows.
        others: for further tasks, answers before and after and the ratio: where forgetting spilled.
        variability: of the states before of the rows trained on, at `layer`.
        predictors: rank correlation over held-out rows of what each lost (probability of the right option) with its
            confidence and its distance.
        probes: accuracy by layer on the held-out rows: `before`, `after`, `shuffled` and `untrained` (the controls).
        items: the held-out rows.
    """

    before: str
    after: str
    train: tuple[Answered, Answered]
    held_out: tuple[Answered, Answered]
    ratio_train: float | None
    ratio_held_out: float | None
    others: dict[str, tuple[Answered, Answered, float | None]]
    layer: int
    variability: float
    predictors: dict[str, Estimate]
    probes: dict[str, list[float]]
    items: list[Item]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def forgetting_depth(
    before: LanguageModel | str | Path,
    after: LanguageModel | str | Path,
    train_rows: Sequence[Choice],
    held_out_rows: Sequence[Choice],
    *,
    others: Mapping[str, Sequence[Choice]] | None = None,
    layer: int | None = None,
    probes: bool = True,
    per_token: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> DepthReport:
    """Compare a model before and after something was forgotten, on the rows it was forgotten with and on new ones.

    Args:
        before, after: loaded models, or what `letheon.load` takes.
        train_rows: what forgetting trained on, with the right answers.
        held_out_rows: of the same skill, never trained on in forgetting; give paraphrases of train rows as one of
            `others`.
        others: further tasks by name.
        layer: where variability and distances are measured; the middle one by default.
        probes: fit linear probes at every layer (the slow part on wide models).
        per_token: score options by the mean over their tokens.

    Raises:
        InputError: no rows, or a held-out prompt that was trained on.
    """
    started = time.monotonic()
    _check(train_rows, held_out_rows, before, after)
    sets = {"train": train_rows, "held_out": held_out_rows, **(others or {})}
    first, second = load(before, device=device), load(after, device=device)
    said = [
        {name: option_probabilities(m, rows, per_token=per_token) for name, rows in sets.items()}
        for m in (first, second)
    ]
    both = {name: (answered(rows, said[0][name]), answered(rows, said[1][name])) for name, rows in sets.items()}
    states = {
        name: token_states(first, [first.encoder().prompt(row.prompt) for row in sets[name]])
        for name in ("train", "held_out")
    }
    chosen = len(states["train"]) // 2 if layer is None else layer
    trained = states["train"][chosen]
    far = distances(states["held_out"][chosen], trained).tolist()
    items = [
        _item(row, p, q, distance)
        for row, p, q, distance in zip(held_out_rows, said[0]["held_out"], said[1]["held_out"], far, strict=True)
    ]
    lost = [item.gold_before - item.gold_after for item in items]
    notes = []
    ratio = forget_ratio(*both["held_out"])
    if ratio is None:
        notes.append(f"the model before is less than {LEAST_KNOWN:.2f} above chance on the held-out rows: no ratio")
    return DepthReport(
        before=first.name,
        after=second.name,
        train=both["train"],
        held_out=both["held_out"],
        ratio_train=forget_ratio(*both["train"]),
        ratio_held_out=ratio,
        others={name: (*both[name], forget_ratio(*both[name])) for name in others or {}},
        layer=chosen,
        variability=variability(trained),
        predictors={
            "confidence": rank_correlation([item.confidence for item in items], lost),
            "distance": rank_correlation(far, lost),
        },
        probes=all_probes(first, second, held_out_rows, seed) if probes else {},
        items=items,
        notes=notes,
        seconds=time.monotonic() - started,
    )


def _item(row: Choice, before: np.ndarray, after: np.ndarray, distance: float) -> Item:
    return Item(
        prompt=row.prompt,
        confidence=float(before.max()),
        distance=distance,
        gold_before=float(before[row.gold]),
        gold_after=float(after[row.gold]),
        right_before=int(before.argmax()) == row.gold,
        right_after=int(after.argmax()) == row.gold,
    )


def all_probes(
    before: LanguageModel, after: LanguageModel, rows: Sequence[Choice], seed: int = 0
) -> dict[str, list[float]]:
    """Accuracy by layer of probes on both models, with shuffled labels, and on random weights."""
    return {
        "before": probe_accuracy(before, rows, seed=seed),
        "after": probe_accuracy(after, rows, seed=seed),
        "shuffled": probe_accuracy(after, rows, shuffled=True, seed=seed),
        "untrained": probe_accuracy(untrained(before, seed), rows, seed=seed),
    }


def _check(train: Sequence[Choice], held_out: Sequence[Choice], *models: LanguageModel | str | Path) -> None:
    for name, rows in (("train", train), ("held-out", held_out)):
        if not rows:
            raise InputError(f"no {name} rows", "give at least one")
    trained = {row.prompt for row in train}
    for row in held_out:
        if row.prompt in trained:
            raise InputError(f"held-out row {short(row.prompt)} was trained on", "remove it from one of the two")
    for model in models:
        if not isinstance(model, LanguageModel):
            check_loadable(model)
