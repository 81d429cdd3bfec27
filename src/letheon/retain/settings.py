"""How a stream is learned: the options that every strategy shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.registry import Checked
from letheon.core.training.settings import Precision, Shard


@dataclass(frozen=True)
class LearnSettings(
    Checked,
    positive=("epochs", "batch_size", "rank", "evaluate_rows"),
    not_negative=("learning_rate", "momentum", "weight_decay", "evaluate_every", "checkpoint_steps"),
):
    """Settings of continual learning, shared by every strategy.

    The command line shows each line below as the help of an option.

    Attributes:
        epochs: passes over the rows of each task; 1 is the online protocol, in which every row is seen once.
        batch_size: new rows per step; the command line takes 8 for a language model, unless it is given.
        optimizer: `auto` takes adamw for a language model and sgd for another network; `adamw8bit` holds adamw's
            moments in 2 instead of 8 bytes per weight, rounded.
        learning_rate: learning rate; 0 takes 1e-5 for a language model (2e-4 for its adapter), else 0.1 for sgd and
            1e-3 for the other optimizers.
        momentum: momentum of sgd.
        weight_decay: weight decay of the optimizer.
        clip: largest norm of the gradient, which is scaled down to it; none scales nothing, and 0 takes 1.0 for a
            language model and none for another network.
        adapter: trained weights of a language model: `full` trains all, `lora` a low-rank adapter.
        rank: rank of the adapter.
        evaluate_every: steps between evaluations during training; 0 evaluates after each task only.
        evaluate_rows: largest number of test rows per task in evaluations during training (always the same rows).
        precision: number format of a language model's matrix products in training.
        attention: attention implementation of a language model during the run: one of transformers' (`sdpa`, `eager`,
            `flash_attention_2`), or `hyper` or `far`, which are approximate beyond 2,048 and 1,536 tokens; empty
            takes the model's own.
        shard: put a language model's weights, gradients, moments and what a strategy holds per weight in shards over
            all processes (FSDP2) instead of holding them whole in each: `auto` does so where these (from 20 bytes per
            weight; 4 with an adapter) do not fit one device. One process has no shards.
        seed: root of all random streams.
        checkpoint_seconds: seconds between checkpoints; 0 writes none by time.
        checkpoint_steps: steps between checkpoints; 0 writes none by steps.
    """

    epochs: int = 1
    batch_size: int = 32
    optimizer: Literal["auto", "sgd", "adam", "adamw", "adamw8bit"] = "auto"
    learning_rate: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 0.0
    adapter: Literal["full", "lora"] = "full"
    rank: int = 8
    evaluate_every: int = 0
    evaluate_rows: int = 1000
    precision: Precision = "float32"
    attention: str = ""
    shard: Shard = "auto"
    seed: int = 0
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0
