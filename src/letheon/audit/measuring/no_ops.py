"""Checks against no-ops: that a deletion, an adapter and a hook change something, and that decoding is sound.

A method that moved no weight, an adapter whose gradient never flowed, a hook that fires on the prompt only, a cache or
a padding side that changes what a model says: each gives figures that look like results. These checks take a handful
of rows and some seconds, and work on any model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.measuring.greedy_answers import first_half
from letheon.audit.measuring.merged_copy import merged_copy
from letheon.core.errors import LetheonError
from letheon.core.model.hooks import count_calls, hooked_modules, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import decode_with_logits
from letheon.core.scoring.likelihood import score

Outcome = Literal["passed", "failed", "not applicable"]
# A row's new tokens with the logits that each was chosen by.
Decoded = tuple[list[int], Float[Tensor, "_ vocabulary"]]

ROWS, NEW_TOKENS = 3, 4
# Largest difference of a logit between two ways to compute it. Float32 sums in another order differ by about 1e-6 of
# the logits, which grow to some tens: 1e-4 of the largest one leaves a digit; a cache or mask fault costs tenths.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """One check: its name, its outcome, and the observation behind it."""

    name: str
    outcome: Outcome
    detail: str


def check_no_ops(before: LanguageModel, after: LanguageModel, rows: Sequence[Example]) -> list[Check]:
    """Run all checks of the model after a deletion, against the model before.

    Args:
        rows: some of the forgotten ones; the first few are asked.
    """
    finite = check_finite(after, rows)
    checks = [weights_moved(before, after), adapter_moved(after), finite]
    starts = _starts(after, rows)
    if finite.outcome == "failed" or not starts:
        reason = "its numbers are not finite" if finite.outcome == "failed" else "no row fits into the context"
        names = ("hooks", "cached decoding", "padding", "batch size")
        return [*checks, *(Check(name, "not applicable", reason) for name in names)]
    together = decode_with_logits(after, starts, NEW_TOKENS)
    return [
        *checks,
        check_hooks(after, starts[0]),
        check_cache(after, starts, together),
        check_padding(after, starts, together),
        check_batch_size(after, starts, together),
    ]


def failures(checks: Iterable[Check]) -> list[str]:
    """Return one sentence per failed check."""
    return [f"Check of the {check.name} failed: {check.detail}." for check in checks if check.outcome == "failed"]


def demand_finite(model: LanguageModel, rows: Sequence[Example]) -> None:
    """Refuse a model that computes NaN or infinity: no measurement of it would mean anything.

    Raises:
        LetheonError: names the weights or the layer.
    """
    check = check_finite(model, rows)
    if check.outcome == "failed":
        raise LetheonError(
            f"{model.name} cannot be audited: {check.detail}",
            "a model with such numbers is destroyed, which is no deletion: make it anew, with a lower learning rate",
        )


# Weights ----------------------------------------------------------------------------------------------------------


def weights_moved(before: LanguageModel, after: LanguageModel) -> Check:
    """Check how many tensors moved, and how far; an adapter counts as part of the weights that it adapts."""
    name = "weights"
    if before.model is after.model:
        return Check(name, "failed", "the models before and after are one object")
    first, second = _weights(before), _weights(after)
    shapes = {key: tensor.shape for key, tensor in first.items()}
    if shapes != {key: tensor.shape for key, tensor in second.items()}:
        odd = sorted(set(first) ^ set(second)) or sorted(k for k in first if first[k].shape != second[k].shape)
        return Check(name, "failed", f"the models have other tensors ({odd[0]} is one): they cannot be compared")
    moved, distance, size = 0, 0.0, 0.0
    for key, tensor in first.items():
        change = second[key].to(tensor.device, tensor.dtype) - tensor
        moved += bool(change.any())  # NaN counts as true
        distance += float(change.float().norm()) ** 2
        size += float(tensor.float().norm()) ** 2
    relative = math.sqrt(distance / size) if size else 0.0
    if moved:
        return Check(name, "passed", f"{moved} of {len(first)} tensors moved, by {relative:.1e} of their norm")
    same = before.parameters_hash() == after.parameters_hash()
    how = "the bytes of all weights are the same" if same else "the bytes differ, but every value is the same"
    return Check(name, "failed", f"no weight moved: {how}")


def _weights(model: LanguageModel) -> dict[str, Tensor]:
    plain = merged_copy(model) if model.has_adapter else model
    return {name: parameter.detach() for name, parameter in plain.model.named_parameters()}


def adapter_moved(model: LanguageModel) -> Check:
    """Check that gradient reached a LoRA adapter: its B matrices start at zero."""
    parts = (".lora_B", ".lora_embedding_B")
    matrices = {name: p for name, p in model.model.named_parameters() if any(part in name for part in parts)}
    if not matrices:
        return Check("adapter", "not applicable", "the model has no LoRA adapter")
    still = [name for name, parameter in matrices.items() if not bool(parameter.detach().any())]
    moved = len(matrices) - len(still)
    detail = f"{moved} of {len(matrices)} B matrices are not zero"
    return Check("adapter", "passed" if moved else "failed", detail + (f" ({still[0]} is)" if still else ""))


def check_finite(model: LanguageModel, rows: Sequence[Example]) -> Check:
    """Check that weights, hidden states and logits are finite; name the weights, or the first layer, that are not."""
    odd = [name for name, p in model.model.named_parameters() if not bool(torch.isfinite(p.detach()).all())]
    if odd:
        more = f" and {len(odd) - 1} more tensors" if len(odd) > 1 else ""
        return Check("numbers", "failed", f"NaN or infinity in the weights {odd[0]}{more}")
    starts = _starts(model, rows)[:1]
    if not starts:
        return Check("numbers", "passed", "all weights are finite; no row was run")
    base = model.base()
    sites = [Site(layer) for layer in range(len(blocks(base)))]
    with torch.inference_mode(), record(base, sites) as states:
        logits = base(torch.tensor(starts, device=model.device), use_cache=False).logits
    for site, state in states.items():
        if not bool(torch.isfinite(state).all()):
            return Check(
                "numbers", "failed", f"layer {site.layer} gives NaN or infinity, though all weights are finite"
            )
    if not bool(torch.isfinite(logits).all()):
        return Check("numbers", "failed", "the logits are NaN or infinite, though every layer is finite")
    return Check("numbers", "passed", "weights, hidden states and logits are finite")


# Decoding ---------------------------------------------------------------------------------------------------------


def _starts(model: LanguageModel, rows: Sequence[Example]) -> list[list[int]]:
    """Return the tokens to decode from: questions or first halves of texts; rows that leave no room are skipped."""
    encoder = model.encoder()
    starts = [
        [*encoder.prompt(row.prompt), *encoder.answer(first_half(model, row), end=False)[0]] for row in rows[:ROWS]
    ]
    return [ids for ids in starts if 0 < len(ids) <= model.context_length - NEW_TOKENS]


def check_hooks(model: LanguageModel, start: Sequence[int]) -> Check:
    """Check that the modules that carry hooks are called once per decoded token."""
    hooked = hooked_modules(model.model)
    if not hooked:
        return Check("hooks", "not applicable", "no module carries a hook")
    with count_calls(hooked) as calls:
        tokens = len(decode_with_logits(model, [start], NEW_TOKENS)[0][0])
    wrong = [name for name in hooked if calls[name] != tokens]
    if not wrong:
        return Check("hooks", "passed", f"{len(hooked)} hooked modules ran once for each of {tokens} decoded tokens")
    return Check("hooks", "failed", f"{wrong[0]} ran {calls[wrong[0]]} times for {tokens} decoded tokens")


def check_cache(model: LanguageModel, starts: Sequence[Sequence[int]], together: Sequence[Decoded]) -> Check:
    """Check that decoding with and without a key/value cache gives the same."""
    plain = decode_with_logits(model, starts, NEW_TOKENS, use_cache=False)
    return _agreement("cached decoding", together, plain, "with and without the cache")


def check_padding(model: LanguageModel, starts: Sequence[Sequence[int]], together: Sequence[Decoded]) -> Check:
    """Check that rows padded on the left (as in decoding) and on the right (as in scoring) give the same logits."""
    rows = [Encoded((*start, *ids), len(start)) for start, (ids, _) in zip(starts, together, strict=True)]
    with torch.inference_mode():
        scores = score(model, model.encoder().collate(rows, device=model.device))
    right = [(ids, scores.logits[scores.row == i]) for i, (ids, _) in enumerate(together)]
    return _agreement("padding", together, right, "padded on the left and on the right")


def check_batch_size(model: LanguageModel, starts: Sequence[Sequence[int]], together: Sequence[Decoded]) -> Check:
    """Check that a row decoded alone gives what it gives in a batch."""
    alone = [decode_with_logits(model, [start], NEW_TOKENS)[0] for start in starts]
    return _agreement("batch size", together, alone, "alone and among others")


def _agreement(name: str, first: Sequence[Decoded], second: Sequence[Decoded], ways: str) -> Check:
    """Compare two ways to decode the same rows, up to the token where they part.

    Where tokens part although the logits agree, two tokens were equally good, which is no fault.
    """
    worst = scale = 0.0
    parted = 0
    for (ids, logits), (others, other) in zip(first, second, strict=True):
        shared = min(len(ids), len(others))
        seen = 1 + next((i for i in range(shared) if ids[i] != others[i]), shared - 1)
        worst = max(worst, float((logits[:seen] - other[:seen]).abs().max()))
        scale = max(scale, float(logits[:seen].abs().max()))
        parted += ids != others
    detail = f"{ways}, logits of up to {scale:.1f} differ by {worst:.1e}; {parted} of {len(first)} answers part"
    return Check(name, "passed" if worst <= TOLERANCE * max(scale, 1.0) else "failed", detail)
