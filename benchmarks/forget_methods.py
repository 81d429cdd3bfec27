"""What the forgetting wing saves: a step that moves only the upper layers, and the cost of K-FADE's factors.

    python -m benchmarks.forget_methods [--json] [--repeats N] [--model smollm2] [--threads N]

`layers20_over_field`: an NPO step in which only layers 20 and above move, their input kept from the first pass, against
the field's step (two passes, full logits, a second model, gradients of all weights). `layers20_over_frozen`: the same
against our own step that runs the frozen layers every time. Both sides give the same gradient and are checked for it.
`kfade_factor_epochs`: the pass that gathers K-FADE's Kronecker factors on the retain rows, in epochs of training all
weights on the same rows (less is better); the eigendecompositions after it, whose cost no row changes, in seconds.
"""

from __future__ import annotations

import time
from dataclasses import replace

from torch import nn

from benchmarks import field
from benchmarks.common import Compared, author_rows, begin, compare, in_turn, parser, show
from benchmarks.duel import Case, Duel, Step, moved
from letheon.core.hardware import keep_freed_memory
from letheon.core.model.models import load
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import blocks
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.likelihood import score
from letheon.forget.curvature.fitting import Covariances, covariances, sampled_passes
from letheon.forget.curvature.kronecker import eigenbasis
from letheon.forget.curvature.linear import linear_layers
from letheon.forget.objectives.npo import NPO

BETA = 0.1


def upper_layers(case: Case) -> tuple[int, dict[str, nn.Parameter]]:
    """The first of the layers that move (20 of SmolLM2's 30, two thirds of any other), and their weights."""
    stack = blocks(case.model.base())
    first = 20 if len(stack) == 30 else 2 * len(stack) // 3
    inside = {id(weight) for block in list(stack)[first:] for weight in block.parameters()}
    return first, {name: weight for name, weight in case.model.base().named_parameters() if id(weight) in inside}


def layer_duels(case: Case) -> dict[str, Duel]:
    """The step from the cache against the field's, and against ours without the cache."""
    objective = case.prepared("reference log-probabilities (npo)", NPO())
    reference = case.frozen_copy()
    first, parameters = upper_layers(case)
    moved(parameters)
    model, pair = case.model, case.halves()
    theirs = Step(case, lambda: field.npo(model.base(), reference, *pair, BETA))
    uncached = Step(case, lambda: objective.terms(model, case.pair).total(), parameters=parameters)
    cached = replace(uncached, frozen=FrozenLayers(first))
    return {
        "layers20_over_field": Duel(theirs, cached, parameters),
        "layers20_over_frozen": Duel(uncached, cached, parameters),
    }


def factor_pass(name: str, repeats: int) -> Compared:
    """Fitting the factors of all MLP matrices, in epochs of training all weights on the same rows."""
    model = load(name)
    rows = model.encoder().encode_all(author_rows() * 4)
    encoder = model.encoder()
    batches = [encoder.collate([rows[i] for i in part], part) for part in by_length([len(r.ids) for r in rows], 8)]
    layers = linear_layers(model.model, model.model.parameters())

    def factors() -> None:
        kept[:] = [covariances(layers, lambda: sampled_passes(model, batches, 0))]

    def epoch() -> None:
        for batch in batches:
            (-batch.mean(score(model, batch).logp, "tokens")).backward()
            model.model.zero_grad(set_to_none=True)

    kept: list[Covariances] = []
    factors()  # warms up
    seconds = in_turn({"epoch": epoch, "factors": factors}, repeats)
    found = compare(seconds["factors"], seconds["epoch"])
    began = time.perf_counter()
    for matrix in (*kept[-1].left.values(), *kept[-1].right.values()):
        eigenbasis(matrix)
    fixed = time.perf_counter() - began
    note = f"{len(layers)} matrices, {len(rows)} rows; eigendecompositions, once: {fixed:.0f} s; less is better"
    return replace(found, note=note)


def main() -> None:
    """Parse, measure, print."""
    options = parser("What the forgetting wing saves.").parse_args()
    begin(options)
    keep_freed_memory()
    duels = layer_duels(Case.load(options.model))
    entries = {name: duel.timed(options.repeats) for name, duel in duels.items()}
    entries["kfade_factor_epochs"] = factor_pass(options.model, min(options.repeats, 2))
    show(entries, f"{options.model}: forgetting methods", options.json)


if __name__ == "__main__":
    main()
