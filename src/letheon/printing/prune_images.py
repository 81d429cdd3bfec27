"""The output of `letheon prune-images`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from letheon.forget.images.record import PrunedImages, conclusions
from letheon.forget.images.saving import PAGE, RECORD
from letheon.printing.cells import cell, new_table, print_files, print_json, print_notes


def show_pruned(result: PrunedImages, folder: Path, as_json: bool) -> None:
    """Print how much was pruned, how alike the images are, and what that does not show."""
    if as_json:
        print_json(result.to_json())
        return
    console, summary = Console(), result.summary()
    table = new_table("Correlation of pixels, mean over prompts (95 % interval)", "images", *summary)
    for name in summary["memorised"]:
        table.add_row(name, *(cell(found.get(name)) for found in summary.values()))
    console.print(table)
    console.print(
        f"pruned: {result.share:.2%} of {len(result.density)} matrices, {result.share_of_all:.2%} of the denoiser"
    )
    for sentence in conclusions(result):
        console.print(Text(sentence))
    print_notes(
        console,
        [
            *result.notes,
            "changed images are no proof of forgetting; in this project's own measurement, of a small model of digits, "
            "random masks did as well",
        ],
    )
    print_files(console, folder / PAGE, folder / RECORD)
