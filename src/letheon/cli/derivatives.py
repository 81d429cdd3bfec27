"""`letheon ledger derivative`: copies of a model, and what they still hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from letheon.cli.app import Device, DryRun, Json, print_json
from letheon.cli.ledger import Key, Place, ledger_app, opened, say, table_of
from letheon.core.errors import InputError

derivative_app = typer.Typer(
    help="Adapters, merges, GGUF files made from a model: they hold deleted data until they are replaced.",
    no_args_is_help=True,
)
ledger_app.add_typer(derivative_app, name="derivative")

Kind = Literal["adapter", "merge", "gguf", "quantised", "other"]
KindOption = Annotated[Kind, typer.Option(help="What it is.")]
Parent = Annotated[
    str, typer.Option(help="The model it was made from, or the hash of a model's weights or of another derivative.")
]


@derivative_app.command("add")
def derivative_add(
    path: Annotated[Path, typer.Argument(help="Its file, or a folder with safetensors files.")],
    parent: Parent,
    kind: KindOption = "other",
    ledger: Place = None,
    key: Key = None,
    device: Device = "auto",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Record a copy that was made from a model.

    letheon ledger derivative add model-q4.gguf --kind gguf --parent run/model
    """
    from letheon.audit.ledger import derivatives

    with opened(ledger, key) as found:
        made = derivatives.describe(path, kind, parent, device)
        if not dry_run:
            derivatives.add(found, made)
    say(made.model_dump(), as_json, dry_run)


@derivative_app.command("list")
def derivative_list(ledger: Place = None, as_json: Json = False) -> None:
    """The copies in use, and which deleted requests each still holds.

    letheon ledger derivative list
    """
    from letheon.audit.ledger.derivatives import standing

    with opened(ledger) as found:
        rows: list[dict[str, Any]] = [
            {**one.derivative.model_dump(), "entry": one.sequence, "holds": one.holds}
            for one in standing(found.entries())
        ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["holds"] = "STILL HOLDS " + ", ".join(row["holds"]) if row["holds"] else "nothing that was deleted"
    table_of("Derivatives in use", ("entry", "kind", "path", "sha256", "holds"), rows)


@derivative_app.command("replace")
def derivative_replace(
    old: Annotated[str, typer.Argument(help="The beginning of its hash, or its path as it was recorded.")],
    by: Annotated[Path | None, typer.Option(help="What took its place; without it, it was withdrawn.")] = None,
    parent: Parent = "",
    kind: KindOption = "other",
    ledger: Place = None,
    key: Key = None,
    device: Device = "auto",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Record that a copy was replaced by another, or withdrawn.

    letheon ledger derivative replace old.gguf --by new.gguf --kind gguf --parent run/model
    """
    from letheon.audit.ledger import derivatives

    if (by is None) != (not parent):
        raise InputError("--by and --parent go together", "give both, or neither where the copy was withdrawn")
    with opened(ledger, key) as found:
        new = derivatives.describe(by, kind, parent, device) if by is not None else None
        replaced = derivatives.find_standing(found, old)
        if not dry_run:
            derivatives.replace(found, replaced, new)
    say({"replaced": replaced.derivative.sha256, "by": new.sha256 if new else None}, as_json, dry_run)
