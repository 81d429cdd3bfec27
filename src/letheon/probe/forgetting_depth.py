"""Test whether the forgetting of a skill generalised to new inputs, and whether hidden states still hold the skill.

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
    """Return the states' mean squared distance to their centroid over their mean squared norm: 0 if all are equal."""
    return float((states - states.mean(0)).square().sum(1).mean() / states.square().sum(1).mean())


def distances(states: Float[Tensor, "rows width"], centre: Float[Tensor, "others width"]) -> Float[Tensor, " rows"]:
    """Return each row's squared distance to the centroid of `centre`, over the mean squared norm of `centre`."""
    return (states - centre.mean(0)).square().sum(1) / centre.square().sum(1).mean()


def probe_accuracy(
    model: LanguageModel, rows: Sequence[Choice], *, shuffled: bool = False, seed: int = 0
) -> list[float]:
    """Measure the accuracy of a cross-validated linear probe at every layer.

    If every right answer occurs in at least two groups, the probe predicts the answer from the last prompt token.
    Otherwise it separates right from wrong options at each option's last token, after subtracting the question's mean.

    Args:
        shuffled: permute labels between rows (or options); the accuracy is then chance level with these folds.
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
    """Return the same architecture and tokenizer with random weights: a control for what input tokens alone reveal."""
    from copy import deepcopy

    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(deepcopy(model.base().config)).float()
    return LanguageModel(fresh.to(model.device).eval(), model.tokenizer, f"{model.name}, random weights")


# The check ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """Results of one held-out row before and after forgetting.

    Attributes:
        confidence: probability of the most probable option before.
        distance: distance of its state before forgetting to the centroid of the train rows (see `distances`).
        gold_before, gold_after: probability of the right option.
        right_before, right_after: whether the right option was the most probable one.
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
    """Result of `forgetting_depth`: answers, forget ratios, probe accuracies and predictors of forgetting.

    Attributes:
        train, held_out: answers before and after.
        ratio_train, ratio_held_out: see `forget_ratio`; None where the model hardly knew the rows.
        others: answers before and after and the forget ratio of further tasks, which show spillover.
        variability: variability of the train rows' states before forgetting, at `layer`.
        predictors: rank correlation, over held-out rows, of the right option's lost probability with the row's
            confidence and distance.
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
        """Return all fields as JSON-ready values."""
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
    """Compare a model before and after forgetting, on the rows that forgetting trained on and on new ones.

    Args:
        before, after: loaded models, or what `letheon.load` takes.
        train_rows: the rows that forgetting trained on, with their right answers.
        held_out_rows: rows of the same skill that forgetting never trained on; give paraphrases of train rows as
            one of `others`.
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
    ratio = {name: forget_ratio(*pair) for name, pair in both.items()}
    chosen, trained, far = _states(first, train_rows, held_out_rows, layer)
    items = [
        _item(row, p, q, distance)
        for row, p, q, distance in zip(held_out_rows, said[0]["held_out"], said[1]["held_out"], far, strict=True)
    ]
    no_ratio = f"the model before is less than {LEAST_KNOWN:.2f} above chance on the held-out rows: no ratio"
    return DepthReport(
        before=first.name,
        after=second.name,
        train=both["train"],
        held_out=both["held_out"],
        ratio_train=ratio["train"],
        ratio_held_out=ratio["held_out"],
        others={name: (*both[name], ratio[name]) for name in others or {}},
        layer=chosen,
        variability=variability(trained),
        predictors=_predictors(items),
        probes=all_probes(first, second, held_out_rows, seed) if probes else {},
        items=items,
        notes=[no_ratio] if ratio["held_out"] is None else [],
        seconds=time.monotonic() - started,
    )


def _states(
    model: LanguageModel, train: Sequence[Choice], held_out: Sequence[Choice], layer: int | None
) -> tuple[int, Float[Tensor, "train width"], list[float]]:
    """The layer, the states of the train rows there, and the held-out rows' distances to them."""
    encoder = model.encoder()
    states = [token_states(model, [encoder.prompt(row.prompt) for row in rows]) for rows in (train, held_out)]
    chosen = len(states[0]) // 2 if layer is None else layer
    return chosen, states[0][chosen], distances(states[1][chosen], states[0][chosen]).tolist()


def _predictors(items: Sequence[Item]) -> dict[str, Estimate]:
    """Rank correlations of the right option's lost probability with confidence and with distance."""
    lost = [item.gold_before - item.gold_after for item in items]
    return {
        "confidence": rank_correlation([item.confidence for item in items], lost),
        "distance": rank_correlation([item.distance for item in items], lost),
    }


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
    """Measure probe accuracy per layer on both models, with shuffled labels, and on random weights."""
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
