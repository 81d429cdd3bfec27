"""`letheon papers`: list them, read one, measure its claim."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import DryRun, Json, app, print_json
from letheon.core.errors import InputError

papers_app = typer.Typer(help="The 57 papers: list them, read one, measure its claim.")
app.add_typer(papers_app, name="papers")


@papers_app.callback(invoke_without_command=True)
def papers(context: typer.Context, as_json: Json = False) -> None:
    """List the papers with badge and verdict."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from letheon.papers.page import list_papers

        list_papers(as_json)


@papers_app.command("show")
def papers_show(
    context: typer.Context, key: Annotated[str, typer.Argument(help="Key, number or arXiv id.")], as_json: Json = False
) -> None:
    """One paper: citation, claim, methods, badge and why, recorded result."""
    from letheon.papers.page import show_paper

    show_paper(key, as_json or bool(context.obj))


@papers_app.command("run")
def papers_run(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Key, number or arXiv id.")],
    full: Annotated[bool, typer.Option("--full/--fast", help="The full scale, or the one that takes minutes.")] = False,
    seeds: Annotated[int, typer.Option(help="How many seeds; 0 takes the scale's own.")] = 0,
    record: Annotated[bool, typer.Option("--record", help="Store the result in the catalogue.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and outcome.json.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure a paper's claim and say whether it holds."""
    from letheon.papers.catalogue import Scale, paper
    from letheon.papers.page import run_paper

    scale = Scale("full" if full else "fast", tuple(range(seeds or (5 if full else 3))), device)
    if dry_run:
        entry = paper(key)
        if entry.planned:
            raise InputError(f"paper {entry.key!r} is planned and cannot be run", "see letheon papers")
        print_json({"key": entry.key, "scale": scale.name, "seeds": list(scale.seeds)})
        return
    run_paper(key, scale, as_json or bool(context.obj), record, out)
