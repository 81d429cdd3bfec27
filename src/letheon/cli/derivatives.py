"""Adapters, merges, GGUF files made from a model: they hold deleted data until they are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import Access, Device, Json, Place, Shown, command, perform
from letheon.jobs.options import DerivativeKind, LedgerAccess
from letheon.printing.cells import show_facts

derivative = typer.Typer(help=__doc__, no_args_is_help=True)

Kind = Annotated[DerivativeKind, typer.Option(help="The kind of the copy.")]
Parent = Annotated[
    str, typer.Option(help="The model it was made from, or the hash of a model's weights or of another derivative.")
]


@command(derivative)
def add(
    path: Annotated[Path, typer.Argument(help="The copy's file, or a folder with safetensors files.")],
    *,
    parent: Parent,
    kind: Kind = "other",
    access: Access,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Record a copy that was made from a model.

    letheon ledger derivative add model-q4.gguf --kind gguf --parent run/model
    """
    from letheon.jobs.derivatives import AddDerivative

    job = AddDerivative(path, parent, kind, access, device)
    perform(job, shown, show_facts)


@derivative.command("list")
def list_standing(ledger: Place = None, as_json: Json = False) -> None:
    """List the copies in use, and the deleted requests that each still holds.

    letheon ledger derivative list
    """
    from letheon.jobs.derivatives import list_derivatives
    from letheon.printing.ledger import show_derivatives

    show_derivatives(list_derivatives(LedgerAccess(ledger)), as_json)


@command(derivative)
def replace(
    old: Annotated[str, typer.Argument(help="The beginning of the copy's hash, or its path as it was recorded.")],
    *,
    by: Annotated[Path | None, typer.Option(help="The copy that took its place; left out, it was withdrawn.")] = None,
    parent: Parent = "",
    kind: Kind = "other",
    access: Access,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Record that a copy was replaced by another, or withdrawn.

    letheon ledger derivative replace old.gguf --by new.gguf --kind gguf --parent run/model
    """
    from letheon.jobs.derivatives import ReplaceDerivative

    job = ReplaceDerivative(old, by, parent, kind, access, device)
    perform(job, shown, show_facts)
