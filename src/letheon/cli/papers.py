"""The papers: list them with badge and verdict, read one, measure its claim.

letheon papers show gu; letheon papers run gu --fast; letheon papers run negative-bias --model MODEL
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import AtOnce, Json, Shown, command, perform
from letheon.core.errors import LetheonError
from letheon.core.progress import be_quiet
from letheon.printing.cells import print_json

papers = typer.Typer(add_completion=False)

Key = Annotated[str, typer.Argument(help="Key, number or arXiv id.")]


@papers.callback(invoke_without_command=True, help=__doc__)
def list_all(
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/papers.md.")] = False,
    results: Annotated[bool, typer.Option("--results", help="Print the tables of docs/results/papers.md.")] = False,
    as_json: Json = False,
) -> None:
    """List the papers where no subcommand is given."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from letheon.papers.page import list_papers, papers_markdown
        from letheon.papers.results_page import results_markdown

        if markdown or results:
            typer.echo(papers_markdown() if markdown else results_markdown())
        else:
            list_papers(as_json)


@papers.command()
def show(context: typer.Context, key: Key, as_json: Json = False) -> None:
    """Show one paper: citation, claim, methods, badge and its reason, recorded result."""
    from letheon.papers.page import show_paper

    show_paper(key, as_json or bool(context.obj))


@command(papers)
def run(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, numbers or arXiv ids; or all.")],
    *,
    full: Annotated[
        bool,
        typer.Option("--full/--fast", help="The full scale, where there is one, or one that takes minutes (--fast)."),
    ] = False,
    seeds: Annotated[int, typer.Option(help="Number of seeds; 0 takes the paper's own, 8 or 5.")] = 0,
    record: Annotated[bool, typer.Option("--record", help="Store the result in the catalogue.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and outcome.json.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    model: Annotated[
        str,
        typer.Option(help="Your own model, where the claim is about a pretrained one: an id or a folder."),
    ] = "smollm2",
    parallel: AtOnce,
    shown: Shown,
) -> None:
    """Measure a paper's claim and say whether it holds; several papers run in processes of their own."""
    from letheon.jobs.papers import ALL, PaperJob, PapersJob
    from letheon.papers.page import run_paper
    from letheon.printing.papers import show_papers

    if len(keys) > 1 or ALL in keys or parallel.ray:
        place = out or Path("letheon-papers")
        several = PapersJob(keys, full, seeds, device, record, place, parallel, model)
        shown = replace(shown, as_json=shown.as_json or bool(context.obj))
        ended = perform(several, shown, lambda found, as_json: show_papers(found, place, as_json))
        if ended and any(one.problem for one in ended.values()):
            raise typer.Exit(LetheonError.exit_code)
        return
    job = PaperJob(keys[0], full, seeds, device, model)
    be_quiet(shown.quiet)
    if shown.dry_run:
        print_json(job.plan())
        return
    job.plan()
    run_paper(keys[0], job.scale, shown.as_json or bool(context.obj), record, out)
