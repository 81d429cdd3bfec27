"""`letheon probe binding`: draw lists, sweep the layers, fit the mixture, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.probe.binding.interventions import (
    EFFECTS,
    Patched,
    Prompts,
    answered_group,
    interchange,
)
from letheon.probe.binding.mixture import Fit, cell_means, fit_mixture
from letheon.probe.binding.tasks import (
    SCHEMAS,
    Counterfactual,
    Groups,
    Schema,
    answer_ids,
    draw_pairs,
    encode_groups,
    fitted_to,
)
from letheon.probe.record import Cell, Check, ProbeReport, Table, at_least, at_most, halves
from letheon.report.plots import lines

LEAST_PAIRS = 8
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
    rows = [(encode_groups(model, schema, one.original), encode_groups(model, schema, one.changed)) for one in pairs]
    lengths = [(len(a), len(b)) for a, b in rows]
    usual = max(set(lengths), key=lengths.count)
    keep = [i for i, length in enumerate(lengths) if length == usual]
    return Prompts(
        torch.tensor([rows[i][0] for i in keep]),
        torch.tensor([rows[i][1] for i in keep]),
        torch.tensor([answer_ids(model, pairs[i].original) for i in keep]),
        torch.tensor([(pairs[i].p, pairs[i].k, pairs[i].r, pairs[i].q) for i in keep]),
    )


def answered_pairs(model: LanguageModel, prompts: Prompts) -> list[int]:
    """Return the pairs that the model answers rightly both in x and in x'."""
    ours = answered_group(model, prompts.original, prompts.candidates)
    theirs = answered_group(model, prompts.changed, prompts.candidates)
    wanted = prompts.pointers.tolist()
    return [i for i, (_, _, r, q) in enumerate(wanted) if ours[i] == q and theirs[i] == r]


def without_answer(
    model: LanguageModel, schema: Schema, pairs: Sequence[Counterfactual]
) -> Int[Tensor, "pairs length"]:
    """Encode x' with an answer that x does not hold: a pointer to it leads nowhere, a copied answer still shows."""
    rows = []
    for one in pairs:
        absent = next(word for word in schema.answers if word not in {answer for _, answer in one.original.pairs})
        changed = list(one.changed.pairs)
        changed[one.p] = (changed[one.p][0], absent)
        rows.append(encode_groups(model, schema, Groups(tuple(changed), one.p)))
    return torch.tensor(rows)


def best_layer(sweep: dict[int, Patched]) -> int:
    """Choose the layer at which the three mechanisms together have the largest share, the lowest one of equals.

    An answer that has been copied into the state already counts as reflexive; `without_answer` tells the two apart.
    """
    return max(sweep, key=lambda layer: (round(sum(sweep[layer].shares()[name] for name in MECHANISMS), 3), -layer))


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
    prompts = prompts.select(keep)
    depth = len(blocks(model.base()))
    sweep = interchange(model, prompts, sorted({*range(0, depth, settings.stride), depth}))
    layer = best_layer({number: one for number, one in sweep.items() if number < depth})
    cells = [(p, k, r) for p, k, r, _ in prompts.pointers.tolist()]
    means = cell_means(cells, sweep[layer].distribution)
    fit = fit_mixture(means, seed=settings.seed) if len(means) >= 10 else None
    shares = sweep[layer].shares()
    main = max(MECHANISMS, key=lambda name: shares[name])
    headline = (
        f"At layer {layer} of {depth} the last token's state points mostly by the {main} mechanism: positional "
        f"{shares['positional']:.0%}, lexical {shares['lexical']:.0%}, reflexive {shares['reflexive']:.0%}; "
        f"{len(keep)} of {len(keep) / share:.0f} lists were answered."
    )
    return ProbeReport(
        probe="binding",
        model=model.name,
        headline=headline,
        tables=[_by_position(prompts, sweep[layer]), *([_fit_table(fit)] if fit else [])],
        checks=[answered, *_checks(prompts, sweep[layer], fit)],
        figures=_figures(prompts, sweep, sweep[layer]),
        values={
            "layer": layer,
            "sweep": {str(number): one.shares() for number, one in sweep.items()},
            "mixture": {name: value.tolist() for name, value in fit.mixture.state_dict().items()} if fit else None,
            "similarity": fit.similarity if fit else None,
            "cells": len(means),
        },
        seconds=time.monotonic() - started,
    )


def _by_position(prompts: Prompts, patched: Patched) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for p in range(prompts.candidates.shape[1]):
        mine = [e for e, pointer in zip(patched.effects, prompts.pointers.tolist(), strict=True) if pointer[0] == p]
        if mine:
            rows.append((str(p), *(mine.count(name) / len(mine) for name in EFFECTS), len(mine)))
    return Table("Effects by the position that is pointed to", ("group", *EFFECTS, "pairs"), rows)


def _fit_table(fit: Fit) -> Table:
    rows = [*fit.similarity.items(), ("groups permuted", fit.permuted)]
    title = f"Similarity of the mixture and its ablations on {fit.cells[2]} held-out cells (1 − JSD in bits)"
    return Table(title, ("model", "similarity"), list(rows))


def _checks(prompts: Prompts, patched: Patched, fit: Fit | None) -> list[Check]:
    parts = list(halves(patched.effects))
    gaps = [
        abs(parts[0].count(name) / len(parts[0]) - parts[1].count(name) / max(1, len(parts[1]))) for name in EFFECTS
    ]
    checks = [
        at_most("largest difference of an effect's share between halves of the pairs", max(gaps), 0.15),
        at_least("probability of the list's answers among all tokens", float(patched.mass.mean()), 0.5),
    ]
    if fit:
        rivals = max(value for name, value in fit.similarity.items() if name != "full")
        checks += [
            at_least("similarity of the full mixture on held-out cells", fit.similarity["full"], 0.9),
            at_least("full mixture minus its best ablation", fit.similarity["full"] - rivals, 0.0),
            at_most(
                "full mixture with the groups permuted, minus uniform", fit.permuted - fit.similarity["uniform"], 0.0
            ),
        ]
    return checks


def _figures(prompts: Prompts, sweep: dict[int, Patched], chosen: Patched) -> dict[str, str]:
    by_layer = {
        str(name): [(float(layer), one.shares()[name]) for layer, one in sorted(sweep.items())] for name in EFFECTS
    }
    rows = _by_position(prompts, chosen).rows
    by_position = {
        str(name): [(float(str(row[0])), float(row[1 + i] or 0.0)) for row in rows] for i, name in enumerate(EFFECTS)
    }
    return {
        "Effects by layer": lines(by_layer, "layer", "share", "Share of each effect by the layer of the intervention"),
        "Effects by position": lines(by_position, "group", "share", "Share of each effect by the position pointed to"),
    }
