"""The command line's frame: the application, options that many commands share, exit codes, and how errors are told.

Exit codes: 0 done; 1 it went wrong in a way that is not the input's; 2 bad input, nothing was written; 3 done, and the
audit's verdict is not a pass; 4 training could not go on, the last good state is kept; 75 interrupted, resumable;
130 interrupted, nothing kept.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from letheon.core.errors import InputError, LetheonError

app = typer.Typer(
    help="Edit, protect and examine what neural networks remember.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 bad input, 3 verdict is not a pass, 4 training stopped, "
    "75 interrupted and resumable, 130 interrupted.",
)

NOT_A_PASS, INTERRUPTED = 3, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Root of all random streams.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Ledger = Annotated[
    str,
    typer.Option(
        envvar="LETHEON_LEDGER",
        show_envvar=False,
        help="Folder of a ledger that gets an entry; default $LETHEON_LEDGER, else none.",
    ),
]
Reference = Annotated[
    str,
    typer.Option(
        help="A model trained without the forget rows: the negative control. Where none was retrained, proxy:BASE "
        "trains a stand-in now: an adapter on BASE, which never saw the forget rows, from the retain rows alone."
    ),
]
Model = Annotated[str, typer.Argument(help="smollm2, tiny, a Hugging Face id, a folder, or a PEFT adapter's folder.")]


def quieten(quiet: bool) -> None:
    """No progress bars, where that was asked for."""
    from letheon.core.progress import be_quiet

    be_quiet(quiet)


def exit_with(record: Any) -> None:
    """Leave with a code of its own where an audit did not pass."""
    if record is not None and record.verdict.outcome != "pass":
        raise typer.Exit(NOT_A_PASS)


def print_json(value: Any) -> None:
    """A value as indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def main() -> None:
    """Entry point: run the command; say what went wrong, as JSON too where that was asked for; leave with its code."""
    import logging

    from typer.exceptions import TyperException

    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    try:
        code = app(standalone_mode=False)
    except LetheonError as error:
        _fail(error.problem, error.remedy, error.exit_code)
    except TyperException as error:
        _fail(getattr(error, "message", None) or str(error), "see letheon COMMAND --help", InputError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was kept", "run it again", INTERRUPTED)
    except OSError as error:
        _fail(str(error), "check the path, and whether it can be written", LetheonError.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        _fail("out of memory", "use a smaller --micro-batch-size, or a scope such as @lora", LetheonError.exit_code)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(problem: str, remedy: str, code: int) -> None:
    if "--json" in sys.argv:
        print_json({"error": {"problem": problem, "remedy": remedy, "code": code}})
    typer.secho(f"error: {problem}", fg="red", err=True)
    if remedy:
        typer.echo(f"       {remedy}", err=True)
    sys.exit(code)
