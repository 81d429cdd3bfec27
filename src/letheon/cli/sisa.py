"""Train in shards from which rows can be removed exactly (SISA), remove rows, and ask the shards together.

letheon sisa train BASE --rows rows.jsonl --out shards/; letheon sisa forget shards/ --rows gone.jsonl
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from letheon.cli.options import Given
from letheon.cli.shared import METHOD, OUTPUT, ROWS, TRAINING, Device, Shown, command, option, perform
from letheon.core.training.settings import TrainSettings
from letheon.forget.sequences.sharding import ShardSettings
from letheon.printing.cells import show_facts

sisa = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

# What fine-tuning a shard does not read.
UNREAD = ("base", "attention", "offload", "gradient_checkpointing", "shard", "checkpoint_seconds", "checkpoint_steps")
Shape = Annotated[dict[str, Any], Given(ShardSettings, panel=METHOD, without=("base", "seed"))]
Training = Annotated[dict[str, Any], Given(TrainSettings, panel=TRAINING, without=UNREAD)]
Folder = Annotated[Path, typer.Argument(help="The folder of the shards.")]
Rows = Annotated[str, option("A file of rows, or a Hugging Face data set as ORG/NAME:CONFIG:SPLIT.", ROWS)]


@command(sisa)
def train(
    base: Annotated[str, typer.Argument(help="The model that every shard begins from; it never saw the rows.")],
    *,
    rows: Rows,
    shape: Shape,
    training: Training,
    out: Annotated[Path, option("Folder of the shards.", OUTPUT)] = Path("shards"),
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Train the shards.

    letheon sisa train smollm2 --rows rows.jsonl --shards 4 --slices 2 --epochs 4 --learning-rate 1e-4 --out shards/
    """
    from letheon.jobs.sisa import TrainShards

    perform(TrainShards(base, rows, out, shape, training, device), shown, show_facts)


@command(sisa)
def forget(folder: Folder, *, rows: Rows, device: Device = "auto", shown: Shown) -> None:
    """Remove rows: their shards are trained again from the slice before, as if the rows had never been there.

    letheon sisa forget shards/ --rows gone.jsonl
    """
    from letheon.jobs.sisa import ForgetRows

    perform(ForgetRows(folder, rows, device), shown, show_facts)


@command(sisa)
def ask(folder: Folder, *, rows: Rows, device: Device = "auto", shown: Shown) -> None:
    """Read the probability of answers from the shards together.

    letheon sisa ask shards/ --rows rows.jsonl
    """
    from letheon.jobs.sisa import AskShards

    perform(AskShards(folder, rows, device), shown, show_facts)
