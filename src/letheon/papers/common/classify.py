"""Trains and tests a small classifier, in the same way for every arm of a comparison."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Draws one batch: the model's inputs, and the classes [...] that its logits [..., classes] are compared with.
Draw = Callable[[], tuple[tuple[Tensor, ...], Tensor]]


def fit(model: nn.Module, draw: Draw, *, steps: int, rate: float, weight_decay: float = 0.0) -> float:
    """Train with AdamW and a one-cycle learning rate; return the last tenth's mean cross-entropy (nats)."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        inputs, classes = draw()
        loss = functional.cross_entropy(model(*inputs).flatten(0, -2), classes.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    model.eval()
    last = torch.stack(losses[-max(1, steps // 10) :])
    return float(last.mean())


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: tuple[Tensor, ...], classes: Tensor, batch: int = 250) -> float:
    """Share of the classes [n, ...] that have the largest logit."""
    hits = 0
    for start in range(0, len(classes), batch):
        some = slice(start, start + batch)
        hits += int((model(*(x[some] for x in inputs)).argmax(-1) == classes[some]).sum())
    return hits / classes.numel()
