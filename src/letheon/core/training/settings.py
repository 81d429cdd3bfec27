"""Settings of training, shared by every command that trains. Importing them loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.model.formats import Base
from letheon.core.registry import Checked

Precision = Literal["auto", "float32", "bfloat16"]
Shard = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class TrainSettings(
    Checked,
    positive=("learning_rate", "batch_size"),
    not_negative=("micro_batch_size", "warmup_steps", "weight_decay", "checkpoint_steps"),
):
    """Settings of training, shared by every command that trains.

    The command line shows each line below as the help of an option.

    Attributes:
        optimizer: `adamw`; `adamw8bit` (its moments in 2 instead of 8 bytes per weight, rounded); or `sgd` (plain
            gradient steps, without moments).
        learning_rate: learning rate of the optimizer after the warm-up.
        weight_decay: weight decay of the optimizer.
        batch_size: rows per optimizer step (the effective batch); in forgetting these are forget
            rows, and as many retain rows join them.
        micro_batch_size: rows in memory at once; 0 takes the whole batch. The result does not depend on it.
        schedule: the learning rate after the warm-up stays (`constant`) or falls to zero (`linear`).
        warmup_steps: steps over which the learning rate rises linearly.
        clip: largest norm of the gradient, which is scaled down to it; none scales nothing.
        precision: number format of the matrix products; `auto` measures which is faster here. Weights and optimizer
            stay float32.
        base: number format in which the model's weights are held: `float32`; `bfloat16` (half the memory; a LoRA scope
            leaves its adapter in float32, and AdamW has a float32 copy of other weights that move); or, under a LoRA
            scope, `4bit` (an eighth; needs bitsandbytes).
        attention: attention implementation during the run: one of transformers' (`sdpa`, `eager`,
            `flash_attention_2`), or `hyper` or `far`, which are approximate beyond 2,048 and 1,536 tokens; empty
            takes the model's own.
        offload: hold AdamW's states (12 bytes per weight that moves) in the processor's memory and take its step there.
        gradient_checkpointing: run each block again in the backward pass instead of keeping its activations: less
            memory, about a third more time, the same result.
        shard: put weights, gradients and optimizer states in shards over all processes (FSDP2) instead of holding them
            whole in each: `auto` does so where what the method holds per weight (20 bytes; geometric 76, null_space
            49) does not fit one device. One process has no shards.
        seed: root of all random streams.
        checkpoint_seconds: seconds between checkpoints; 0 writes none by time.
        checkpoint_steps: steps between checkpoints; 0 writes none by steps.
    """

    learning_rate: float = 1e-5
    optimizer: Literal["adamw", "adamw8bit", "sgd"] = "adamw"
    weight_decay: float = 0.0
    batch_size: int = 8
    micro_batch_size: int = 0
    schedule: Literal["constant", "linear"] = "constant"
    warmup_steps: int = 0
    clip: float | None = 1.0
    precision: Precision = "auto"
    base: Base = "float32"
    attention: str = ""
    offload: bool = False
    gradient_checkpointing: bool = False
    shard: Shard = "auto"
    seed: int = 0
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0
