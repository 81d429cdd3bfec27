"""How a stream is learned: the options that every strategy shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.errors import InputError
from letheon.core.hardware import Precision
from letheon.core.registry import check_settings


@dataclass(frozen=True)
class LearnSettings:
    """How a stream is learned.

    Attributes:
        epochs: passes over each task's rows; 1 is the online protocol, in which every row is seen once.
        batch_size: new rows of a step.
        optimizer: `auto` is sgd for an `nn.Module` and adamw for a language model.
        learning_rate: 0 takes 0.1 for sgd, 1e-3 for the others, 1e-5 (adapter: 2e-4) for a language model.
        momentum: sgd's.
        weight_decay: of every optimizer.
        clip: largest norm of the gradient; None leaves it. 0 is 1.0 for a language model and none for a module.
        adapter: of a language model: `full` moves its weights, `lora` a low-rank adapter.
        rank: of the adapter.
        evaluate_every: steps between evaluations during training; 0 evaluates after each task only.
        evaluate_rows: most test rows of a task in evaluations during training (always the same ones).
        precision: of a language model's products in training.
        seed: root of all random streams.
        checkpoint_seconds, checkpoint_steps: how often the state is kept (whichever comes first; 0 never).
    """

    epochs: int = 1
    batch_size: int = 32
    optimizer: Literal["auto", "sgd", "adam", "adamw"] = "auto"
    learning_rate: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 0.0
    adapter: Literal["full", "lora"] = "full"
    rank: int = 8
    evaluate_every: int = 0
    evaluate_rows: int = 1000
    precision: Precision = "float32"
    seed: int = 0
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        check_settings(self, positive=("epochs", "batch_size", "rank", "evaluate_rows"))
        for name in ("learning_rate", "momentum", "weight_decay", "evaluate_every", "checkpoint_steps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}: found {getattr(self, name)}", "give 0 or more")
