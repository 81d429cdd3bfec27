"""`letheon probe binding`: draw lists, sweep the layers, fit the mixture, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.probe.binding.interventions import (
    EFFECTS,
    Patched,
    Prompts,
    answered_group,
    copied_shares,
    interchange,
)
from letheon.probe.binding.mixture import LEAST_CELLS, Fit, cell_means, fit_mixture
from letheon.probe.binding.tasks import (
    SCHEMAS,
    Counterfactual,
    Schema,
    answer_ids,
    draw_pairs,
    encode_groups,
    fitted_to,
    with_absent_answer,
)
from letheon.probe.record import Cell, Check, ProbeReport, Table, above_zero, at_least, at_most, halves
from letheon.report.plots import lines

LEAST_PAIRS = 16
# Most pairs in which a state may give the answer by itself, and least share of the three mechanisms, at a layer that
# counts as looking up.
COPIED, BOUND = 0.25, 0.5
MECHANISMS = ("positional", "lexical", "reflexive")


@dataclass(frozen=True)
class BindingSettings:
    """The size of the probe of binding.

    Attributes:
        task: `boxes` (the apple is in Box C) or `foods` (Ann loves jam).
        groups: number of groups per list, at least 4.
        pairs: lists drawn; the ones that the model answers wrongly are left out.
        stride: distance of the layers of the sweep.
        seed: seed of the lists and of the split into cells.
    """

    task: str = "boxes"
    groups: int = 5
    pairs: int = 200
    stride: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in SCHEMAS:
            raise InputError(f"task {self.task!r}", nearest(self.task, list(SCHEMAS)) or "one of " + ", ".join(SCHEMAS))
        if self.groups < 4 or self.pairs < 1 or self.stride < 1:
            raise InputError("groups, pairs or stride out of range", "groups from 4, pairs and stride from 1 on")


def encode_pairs(model: LanguageModel, schema: Schema, pairs: Sequence[Counterfactual]) -> Prompts:
    """Encode pairs; those whose length differs from the most common one are left out (capital letters, rare words)."""
    lists = [(one.original, one.changed, with_absent_answer(schema, one)) for one in pairs]
    rows = [tuple(encode_groups(model, schema, groups) for groups in three) for three in lists]
    lengths = [tuple(map(len, three)) for three in rows]
    usual = max(set(lengths), key=lengths.count)
    keep = [i for i, length in enumerate(lengths) if length == usual]
    unbound = [lists[i][2] for i in keep]
    return Prompts(
        torch.tensor([rows[i][0] for i in keep]),
        torch.tensor([rows[i][1] for i in keep]),
        torch.tensor([answer_ids(model, pairs[i].original) for i in keep]),
        torch.tensor([(pairs[i].p, pairs[i].k, pairs[i].r, pairs[i].q) for i in keep]),
        torch.tensor([rows[i][2] for i in keep]),
        torch.tensor([answer_ids(model, one)[one.asked] for one in unbound]),
    )


def answered_pairs(model: LanguageModel, prompts: Prompts) -> list[int]:
    """Return the pairs that the model answers rightly both in x and in x'."""
    ours = answered_group(model, prompts.original, prompts.candidates)
    theirs = answered_group(model, prompts.changed, prompts.candidates)
    wanted = prompts.pointers.tolist()
    return [i for i, (_, _, r, q) in enumerate(wanted) if ours[i] == q and theirs[i] == r]


def bound_share(patched: Patched) -> float:
    """Return the share of the three mechanisms together."""
    return sum(patched.shares()[name] for name in MECHANISMS)


def best_layer(sweep: Mapping[int, Patched], copied: Mapping[int, float]) -> int:
    """Choose the layer at which the three mechanisms together have the largest share, the lowest one of equals.

    A layer whose state already gives the answer without the binding (`copied_shares`) in more than one pair of four is
    left out: there a copied answer would count as reflexive.
    """
    pointing = [layer for layer in sweep if copied[layer] <= COPIED]
    return max(pointing or sweep, key=lambda layer: (round(bound_share(sweep[layer]), 3), -layer))


@dataclass(frozen=True)
class Lookup:
    """The sweep on one half of the pairs, the layer that it chooses, and the other half's answers at that layer.

    Attributes:
        layer: the chosen layer.
        sweep, copied: effects and shares of copied answers by layer, on the first half.
        held_out: pairs of the second half.
        patched, copied_there: their effects and share of copied answers at the chosen layer.
    """

    layer: int
    sweep: dict[int, Patched]
    copied: dict[int, float]
    held_out: Prompts
    patched: Patched
    copied_there: float


def look_up(model: LanguageModel, prompts: Prompts, stride: int = 1, first: int = 0) -> Lookup:
    """Choose the layer on the even pairs, or on the first ones, and measure it on the others.

    Args:
        first: number of pairs that choose; 0 takes the even ones.
    """
    depth, numbers = len(blocks(model.base())), range(len(prompts.original))
    parts = (numbers[:first], numbers[first:]) if first else halves(numbers)
    chosen, rest = (prompts.select(part) for part in parts)
    layers = range(0, depth, stride)
    sweep, copied = interchange(model, chosen, layers), copied_shares(model, chosen, layers)
    layer = best_layer(sweep, copied)
    return Lookup(
        layer, sweep, copied, rest, interchange(model, rest, [layer])[layer],
        copied_shares(model, rest, [layer])[layer],
    )  # fmt: skip


def probe_binding(model: LanguageModel, settings: BindingSettings | None = None) -> ProbeReport:
    """See by which mechanisms a model looks up bound entities."""
    started, settings = time.monotonic(), settings or BindingSettings()
    schema = fitted_to(model, SCHEMAS[settings.task])
    pairs = draw_pairs(schema, settings.groups, settings.pairs, settings.seed)
    prompts = encode_pairs(model, schema, pairs)
    keep = answered_pairs(model, prompts)
    share = len(keep) / len(prompts.original)
    answered = at_least("share of lists answered rightly, with and without the exchange", share, 0.2)
    if len(keep) < LEAST_PAIRS:
        return ProbeReport(
            probe="binding",
            model=model.name,
            headline=f"The model answers {len(keep)} of {len(prompts.original)} lists of {settings.groups} groups: "
            "too few to see how it looks anything up.",
            tables=[],
            checks=[answered],
            values={"answered": len(keep), "lists": len(prompts.original)},
            notes=["Fewer groups, or a larger model, would be answered more often."],
            seconds=time.monotonic() - started,
        )
    depth, found = len(blocks(model.base())), look_up(model, prompts.select(keep), settings.stride)
    cells = [(p, k, r) for p, k, r, _ in found.held_out.pointers.tolist()]
    means = cell_means(cells, found.patched.distribution)
    fit = fit_mixture(means, seed=settings.seed) if len(means) >= LEAST_CELLS else None
    return ProbeReport(
        probe="binding",
        model=model.name,
        headline=_headline(found, depth, f"{len(keep)} of {len(keep) / share:.0f} lists were answered."),
        tables=[_by_position(found), *([_fit_table(fit)] if fit else [])],
        checks=[answered, *_checks(found, fit)],
        figures=_figures(found),
        values={
            "layer": found.layer,
            "sweep": {str(number): one.shares() for number, one in found.sweep.items()},
            "copied": {str(number): value for number, value in found.copied.items()},
            "held out": found.patched.shares(),
            "mixture": {name: value.tolist() for name, value in fit.mixture.state_dict().items()} if fit else None,
            "similarity": fit.similarity if fit else None,
            "cells": len(means),
        },
        seconds=time.monotonic() - started,
    )


def _headline(found: Lookup, depth: int, answered: str) -> str:
    shares = found.patched.shares()
    if bound_share(found.patched) < BOUND:
        return (
            f"No layer's state points to a group before the answer itself is in it: at layer {found.layer} of {depth} "
            f"the three mechanisms have {bound_share(found.patched):.0%} together. {answered}"
        )
    main = max(MECHANISMS, key=lambda name: shares[name])
    return (
        f"At layer {found.layer} of {depth} the last token's state points mostly by the {main} mechanism: positional "
        f"{shares['positional']:.0%}, lexical {shares['lexical']:.0%}, reflexive {shares['reflexive']:.0%}; an answer "
        f"that the list lacks is given in {found.copied_there:.0%}. {answered}"
    )


def _by_position(found: Lookup) -> Table:
    rows: list[tuple[Cell, ...]] = []
    prompts, patched = found.held_out, found.patched
    for p in range(prompts.candidates.shape[1]):
        mine = [e for e, pointer in zip(patched.effects, prompts.pointers.tolist(), strict=True) if pointer[0] == p]
        if mine:
            rows.append((str(p), *(mine.count(name) / len(mine) for name in EFFECTS), len(mine)))
    return Table("Effects by the position that is pointed to", ("group", *EFFECTS, "pairs"), rows)


def _fit_table(fit: Fit) -> Table:
    rows = [*fit.similarity.items(), ("groups permuted", fit.permuted)]
    title = f"Similarity of the mixture and its ablations on {fit.cells[2]} held-out cells (1 − JSD in bits)"
    return Table(title, ("model", "similarity"), list(rows))


def _checks(found: Lookup, fit: Fit | None) -> list[Check]:
    patched = found.patched
    parts = list(halves(patched.effects))
    gaps = [
        abs(parts[0].count(name) / len(parts[0]) - parts[1].count(name) / max(1, len(parts[1]))) for name in EFFECTS
    ]
    checks = [
        at_least("share of the three mechanisms together at the chosen layer", bound_share(patched), BOUND),
        at_most("share of pairs that give an answer which the list lacks", found.copied_there, COPIED),
        at_most("largest difference of an effect's share between halves of the pairs", max(gaps), 0.15),
        at_least("probability of the list's answers among all tokens", float(patched.mass.mean()), 0.5),
    ]
    if fit:
        checks += [
            at_least("similarity of the full mixture on held-out cells", fit.similarity["full"], 0.9),
            above_zero("full mixture minus its best ablation", fit.difference("full", fit.best_ablation)),
            above_zero("uniform minus full mixture with the groups permuted", fit.difference("uniform", "permuted")),
        ]
    return checks


def _figures(found: Lookup) -> dict[str, str]:
    by_layer = {
        str(name): [(float(layer), one.shares()[name]) for layer, one in sorted(found.sweep.items())]
        for name in EFFECTS
    }
    by_layer["copied answer"] = [(float(layer), value) for layer, value in sorted(found.copied.items())]
    rows = _by_position(found).rows
    by_position = {
        str(name): [(float(str(row[0])), float(row[1 + i] or 0.0)) for row in rows] for i, name in enumerate(EFFECTS)
    }
    return {
        "Effects by layer": lines(by_layer, "layer", "share", "Share of each effect by the layer of the intervention"),
        "Effects by position": lines(by_position, "group", "share", "Share of each effect by the position pointed to"),
    }
