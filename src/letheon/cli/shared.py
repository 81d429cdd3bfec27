"""What the verbs share: headings of the help, groups of options, and the order of plan, work and show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperOption

from letheon.cli.options import Group, attribute_docs, expanded
from letheon.core.parallel import Parallel
from letheon.core.processes import is_main_process, leave_the_job
from letheon.core.progress import be_quiet
from letheon.core.tracking import UNTRACKED, Tracking
from letheon.jobs.options import (
    AuditCriteria,
    AuditOptions,
    AuditScope,
    ContinuationOptions,
    Devices,
    EarlierChange,
    LedgerAccess,
    Machine,
    MethodOptions,
    RequestFiles,
    RunFolders,
)
from letheon.printing.cells import show_plan

ROWS, METHOD, TRAINING, AUDIT, OUTPUT = "The rows", "The method", "The training", "The audit", "The output"
CONTINUED, LEDGER = "Learning on after the deletion", "The ledger"
NOT_A_PASS = 3
Result_co = TypeVar("Result_co", covariant=True)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Printing:
    """How the command prints.

    Attributes:
        quiet: show no progress bars.
        as_json: print one JSON object on standard output, and nothing else.
        dry_run: check everything, print what would be done, write nothing.
    """

    quiet: bool = field(default=False, metadata={"spellings": ("--quiet", "-q")})
    as_json: bool = field(default=False, metadata={"spellings": ("--json",)})
    dry_run: bool = field(default=False, metadata={"spellings": ("--dry-run",)})


def option(words: str, panel: str, *spellings: str, **further: Any) -> Any:
    """Return typer's description of an option: its help, and the heading that it stands under."""
    return typer.Option(*spellings, help=words, rich_help_panel=panel, **further)


Rows = Annotated[RequestFiles, Group(ROWS)]
Method = Annotated[MethodOptions, Group(METHOD)]
Earlier = Annotated[EarlierChange, Group(METHOD)]
Criteria = Annotated[AuditCriteria, Group(AUDIT)]
Audited = Annotated[AuditOptions, Group(AUDIT)]
Scope = Annotated[AuditScope, Group(AUDIT)]
Continued = Annotated[ContinuationOptions, Group(CONTINUED)]
Where = Annotated[Machine, Group(OUTPUT)]
Shown = Annotated[Printing, Group(OUTPUT)]
Together = Annotated[Devices, Group(OUTPUT)]


@dataclass(frozen=True)
class TrackedFolders(RunFolders, Tracking):
    """The folder of a run, and where its metrics are copied to."""


@dataclass(frozen=True)
class TrackedParallel(Parallel, Tracking):
    """Several runs at once, and where their metrics are copied to."""


Tracked = Annotated[Tracking, Group(OUTPUT)]
AtOnce = Annotated[Parallel, Group(OUTPUT)]
AtOnceTracked = Annotated[TrackedParallel, Group(OUTPUT)]
Folders = Annotated[TrackedFolders, Group(OUTPUT)]
Access = Annotated[LedgerAccess, Group(LEDGER)]

Model = Annotated[str, typer.Argument(help="smollm2, tiny, a Hugging Face id, a folder, or a PEFT adapter's folder.")]
Learner = Annotated[
    str,
    typer.Argument(
        help="A language model, or mlp (mlp=100-100) for the streams of images; mlp/no-bias has a head without bias."
    ),
]
Stream = Annotated[
    str,
    typer.Option(
        help=escape(
            "A TOML file of text tasks ([[task]] name, train, test) or of your own images (images, tasks), "
            "split-digits, permuted-digits, rotated-digits, split-mnist=FILE; /task or /domain after a split stream's "
            "name sets the scenario."
        ),
        rich_help_panel=ROWS,
    ),
]
Json = Annotated[bool, typer.Option("--json", help=attribute_docs(Printing)["as_json"], rich_help_panel=OUTPUT)]
Place = Annotated[
    Path | None, typer.Option("--ledger", help=attribute_docs(LedgerAccess)["ledger"], rich_help_panel=LEDGER)
]
Processes = Annotated[int, option(attribute_docs(Devices)["processes"], OUTPUT)]
Device = Annotated[str, option("Where the model runs: auto, cpu, cuda, ...", OUTPUT)]


class Job(Protocol[Result_co]):
    """A job of `letheon.jobs`: `plan` checks everything that needs no model, `work` does it."""

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""

    def work(self) -> Result_co:
        """Check the options and do the work."""


class Command(TyperCommand):
    """A command whose option --help stands among the options of the output."""

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        """Return the option --help, in the last panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = OUTPUT
        return option


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of a group of commands, by its own name if none is given."""
    return lambda function: group.command(name, cls=Command)(expanded(function))


def verb(page: str | None) -> Callable[[Callable[..., None]], typer.Typer]:
    """Make a function the command of a verb, with its file's docstring as the help page."""

    def made(function: Callable[..., None]) -> typer.Typer:
        app = typer.Typer(add_completion=False)
        app.command(cls=Command, help=escape(page or ""))(expanded(function))
        return app

    return made


def perform(
    job: Job[Made],
    shown: Printing,
    show: Callable[[Made, bool], None],
    tracking: Tracking = UNTRACKED,
    *,
    together: bool = False,
) -> Made | None:
    """Print the plan on a dry run; else do the work, show its result and return it.

    Args:
        tracking: where the first process copies the metrics to.
        together: whether the processes of a launched job share the work; else the first does it and the others end.
    """
    be_quiet(shown.quiet or not is_main_process())
    if shown.dry_run or not together:
        if not is_main_process():
            return None
        leave_the_job()
    if is_main_process():
        tracking.begin()
    if shown.dry_run:
        show_plan(job.plan(), shown.as_json)
        return None
    try:
        result = job.work()
    finally:
        tracking.end()
    if is_main_process():
        show(result, shown.as_json)
    return result


def exit_with(record: Any) -> None:
    """Leave with an exit code of its own where there is an audit and its verdict is not a pass."""
    if record is not None and record.verdict.outcome != "pass":
        raise typer.Exit(NOT_A_PASS)
