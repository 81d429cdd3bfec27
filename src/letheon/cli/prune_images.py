"""Prune the weights by which a text-to-image pipeline replays training images, and look at what that changes.

letheon prune-images PIPELINE --prompts memorized.txt --kept kept.txt --out pruned/

PIPELINE is a pipeline of diffusers. Needs the extra: pip install 'letheon[diffusers]'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.options import Group
from letheon.cli.shared import METHOD, OUTPUT, ROWS, Shown, Where, option, perform, verb
from letheon.forget.images.record import PruneSettings


@verb(__doc__)
def prune_images(
    pipeline: Annotated[
        str, typer.Argument(help="A text-to-image pipeline of diffusers in safetensors: a folder, or a hub id.")
    ],
    *,
    prompts: Annotated[
        Path, option("Prompts whose training images come back: one per line, or .jsonl with the field prompt.", ROWS)
    ],
    kept: Annotated[
        Path | None, option("Prompts whose images are to stay as they are, to see what the pruning costs.", ROWS)
    ] = None,
    reference: Annotated[
        Path | None, option("As many prompts that the memorised ones are compared with. Default: empty ones.", ROWS)
    ] = None,
    settings: Annotated[PruneSettings, Group(METHOD)],
    out: Annotated[
        Path, option("Folder of pipeline/, removed.safetensors, images/, images.html, result.json.", OUTPUT)
    ],
    where: Where,
    shown: Shown,
) -> None:
    """Perform the pruning."""
    from letheon.jobs.prune_images import PruneImagesJob
    from letheon.printing.prune_images import show_pruned

    job = PruneImagesJob(pipeline, prompts, out, kept, reference, settings, where)
    perform(job, shown, lambda result, as_json: show_pruned(result, out, as_json))
