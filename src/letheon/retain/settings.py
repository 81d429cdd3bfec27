"""Options of learning a stream that all strategies share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.errors import InputError
from letheon.core.hardware import Precision
from letheon.core.registry import check_settings


@dataclass(frozen=True)
class LearnSettings:
    """Options of learning a stream.

    Attributes:
        epochs: passes over each task's rows; 1 is the online protocol, in which every row comes once.
        batch_size: new rows per step.
        optimizer: `auto` is sgd for an `nn.Module` and adamw for a language model.
        learning_rate: 0 takes 0.1 for sgd, 1e-3 for the others, 1e-5 (adapter: 2e-4) for a language model.
        momentum: momentum of sgd.
        weight_decay: weight decay of every optimizer.
        clip: largest norm of the gradient; None does not clip. 0 is 1.0 for a language model and None for a module.
        adapter: trained weights of a language model: `full` for all, `lora` for a low-rank adapter.
        rank: rank of the adapter.
        evaluate_every: steps between evaluations during training; 0 evaluates after each task only.
        evaluate_rows: largest number of test rows per task in evaluations during training (the same rows every time).
        precision: precision of a language model's matrix products in training.
        seed: seed of all random streams.
        checkpoint_seconds, checkpoint_steps: time and steps between checkpoints, whichever comes first; 0 never.
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
