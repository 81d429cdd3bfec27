"""The check of training in shards: processes that share the weights must end where one process does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.core.processes import is_main_process
from letheon.core.registry import Kind
from letheon.core.training.settings import TrainSettings
from letheon.core.training.sharding import running
from letheon.forget.placement import check_shards as refuse_shards
from letheon.forget.run import forget
from letheon.testing.pool import Processes
from letheon.testing.samples import sample_request
from letheon.testing.trial import TRAINING, demand, recipe_of

# Largest difference of a gradient's entry, relative to its largest entry; see `checks.SPLIT_TOLERANCE`.
GRADIENTS = 1e-5
BFLOAT16 = 2.0**-8  # the same where the weights below have eight bits: their relative rounding
# Weights may differ by this multiple of what other micro-batches in one process change, and by LEAST in any case: Adam
# turns the rounding of an entry near zero into a step of full size, in the one as in the other.
NOISE, LEAST = 10.0, 1e-6
# Five rows of eight in micro-batches of two: the last batch has three rows, and one process has less to do.
RUN: dict[str, Any] = {**TRAINING, "learning_rate": 1e-5, "batch_size": 5, "micro_batch_size": 2, "steps": 3, "seed": 4}


def check_shards(processes: Processes, name: str, kind: Kind, options: Mapping[str, Any]) -> str:
    """Two processes that share the weights take the steps of one, or the method is refused before a model is loaded.

    Returns:
        `refused: REASON`, or the largest differences.

    Raises:
        CheckFailed: gradients of the first step, or weights after three, differ by more than rounding.
    """
    recipe = recipe_of(name, kind, options)
    try:
        refuse_shards(recipe, TrainSettings(), load("tiny", device="cpu").model)
    except InputError as error:
        return f"refused: {error.problem}"
    return compare_with_one(processes, str(recipe), "tiny")


def compare_with_one(processes: Processes, method: str, start: str, **options: Any) -> str:
    """Run a method from a model by one process and by several in shards; return the largest differences.

    Args:
        options: settings of the runs beside those of `RUN`.

    Raises:
        CheckFailed: gradients of the first step, or weights after three, differ by more than rounding.
    """
    one, control = (trained(method, start, {**options, "micro_batch_size": size}) for size in (2, 1))
    two = processes.run(trained, method, start, options)[0]
    demand(set(one["weights"]) == set(two["weights"]), "several processes end with other weights than one")
    scale = max(float(tensor.abs().max()) for tensor in one["gradients"].values())
    gradients = largest_difference(one["gradients"], two["gradients"]) / scale
    moved, noise = (largest_difference(one["weights"], other["weights"]) for other in (two, control))
    said = f"gradients {gradients:.1e} of the largest entry, weights {moved:.1e} (other micro-batches {noise:.1e})"
    rounding = largest_difference(one["gradients"], control["gradients"]) / scale  # above GRADIENTS in bfloat16 only
    least = BFLOAT16 if options.get("base") == "bfloat16" else GRADIENTS
    small = gradients <= max(least, 2 * rounding)
    demand(small, f"shards change the first step: {said}", "reduce over shards: loop.sharding.total")
    demand(moved <= max(NOISE * noise, LEAST), f"shards change the result: {said}", "reduce: loop.sharding.total")
    return said


def trained(method: str, start: str, options: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Run a method, in shards where there are several processes; return first gradients and last weights, by name."""
    gradients: dict[str, Tensor] = {}
    steps = 0

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps > 1:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        shards = running()
        for number, parameter in enumerate(parameters):
            name = list(shards.parameters)[number] if shards is not None else ""
            whole = parameter.grad if shards is None else shards.whole(name, parameter.grad)
            if whole is not None:
                gradients[str(number)] = whole.clone()

    with register_optimizer_step_pre_hook(take):
        model = forget(start, sample_request(), method, shard="on", **{**RUN, **options}).model
    weights = {name: p.detach() for name, p in model.model.named_parameters()} if is_main_process() else {}
    return {"gradients": gradients, "weights": weights}


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the largest difference of an entry between tensors of the same names; NaN if an entry is NaN."""
    return float(torch.stack([(one[name] - other[name]).abs().max().double() for name in one]).max())
