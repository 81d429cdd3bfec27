"""The cost of replay: rows drawn from memories and the floating-point operations of their passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from letheon.retain.learner import Learner
from letheon.retain.memory import Memory
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.fpf import FPF


@dataclass(frozen=True)
class ReplayCost:
    """The cost of replay in a run so far.

    Attributes:
        rows: rows drawn from memory.
        forward, backward: floating-point operations of their passes; a multiplication and its addition count as two.
    """

    rows: int
    forward: float
    backward: float


def replay_cost(learner: Learner) -> ReplayCost:
    """Return the cost of all rows drawn at random from memories, each differentiated for the weights that it trains."""
    memories = {
        id(one): one for part in learner.strategy.parts for one in vars(part).values() if isinstance(one, Memory)
    }
    fpf: FPF | None = learner.strategy.find(FPF)
    finetuned = fpf.replayed if fpf is not None else 0
    every_step = sum(memory.drawn for memory in memories.values()) - finetuned
    parts = [(every_step, learner.weights)] + ([(finetuned, fpf.chosen(learner))] if fpf is not None else [])
    row = learner.train_rows(learner.stream.tasks[0]).part(0, 1)
    forward = backward = 0.0
    for rows, parameters in parts:
        if rows:
            one, other = pass_operations(learner, row, parameters)
            forward, backward = forward + rows * one, backward + rows * other
    return ReplayCost(every_step + finetuned, forward, backward)


def pass_operations(learner: Learner, rows: TaskRows, parameters: Sequence[nn.Parameter]) -> tuple[float, float]:
    """Count floating-point operations of matrix products and convolutions, forward and backward to some weights."""
    from torch.utils.flop_counter import FlopCounterMode

    with learner.evaluating(), FlopCounterMode(display=False) as counter:
        loss = learner.loss(learner.outputs(rows), rows)
        forward = counter.get_total_flops()
        torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return float(forward), float(counter.get_total_flops() - forward)
