"""The frame of the command line: the application, the verbs it lists, exit codes, and how errors are reported.

Exit codes: 0 done; 1 a failure that is not the input's fault; 2 bad input, nothing was written; 3 done, but the audit's
verdict is not a pass; 4 training could not go on, the last good state is saved; 75 interrupted, resumable;
130 interrupted, nothing saved.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer
from typer.core import TyperCommand

from letheon import __version__
from letheon.cli.verbs import VERBS, help_of, load_verb
from letheon.core.errors import InputError, Interrupted, LetheonError
from letheon.core.processes import is_main_process
from letheon.core.variables import STARTED_HERE
from letheon.printing.cells import print_json

INTERRUPTED = 130
# Seconds after which an error of another process than the first counts as its own.
ALONE = 10

app = typer.Typer(
    help="Edit, protect and examine what neural networks remember.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 bad input, 3 verdict is not a pass, 4 training stopped, "
    "75 interrupted and resumable, 130 interrupted.",
)


class Verb(TyperCommand):
    """A verb in the list of verbs. Its file, which may load torch, is imported when the verb is run."""

    def make_context(self, info_name, args, parent=None, **extra):  # type: ignore[no-untyped-def]  # click's own
        """Parse the arguments by the command of the verb's file."""
        return load_verb(str(self.name)).make_context(info_name, args, parent, **extra)


def _placeholder() -> None:
    """Stand for the command of a verb until its file is imported."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(verb, cls=Verb, help=help_of(verb), rich_help_panel=panel)(_placeholder)


def main() -> None:
    """Run the command, report errors (as JSON too with --json), and leave with the exit code."""
    import logging

    from typer.exceptions import TyperException

    level = logging.WARNING if is_main_process() else logging.ERROR  # process 0 warns for all
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=level)
    try:
        code = app(standalone_mode=False)
    except LetheonError as error:
        _fail(error.problem, error.remedy, error.exit_code)
    except TyperException as error:
        if not getattr(error, "message", None) and not str(error):  # a group without a command has shown its help
            sys.exit(InputError.exit_code)
        told = error.format_message() if hasattr(error, "format_message") else str(error)
        _fail(told, "see letheon COMMAND --help", InputError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was saved", "run it again", INTERRUPTED)
    except OSError as error:
        _fail(str(error), "check the path, and whether it can be written", LetheonError.exit_code)
    except (MemoryError, RuntimeError) as error:
        if "third_party/gloo" in str(error) or "NCCL" in str(error):  # the collective operations of a job
            _fail_beside_another(str(error))
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        _fail("out of memory", "use a smaller --micro-batch-size, or a scope such as @lora", LetheonError.exit_code)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail_beside_another(error: str) -> None:
    """Leave because the processes of the job could not work together.

    That another one was killed is reported by the launch, if it is Letheon's own.
    """
    if not any(end in error for end in ("closed by peer", "reset by peer", "Broken pipe")):
        told = error.strip().splitlines()[0]
        _fail(
            f"the processes of this job cannot work together: {told}", "run it in one process", LetheonError.exit_code
        )
    if STARTED_HERE in os.environ:
        sys.exit(LetheonError.exit_code)
    remedy = "continue the run with --resume; without checkpoints, start the command again"
    _fail("another process of this job has ended", remedy, LetheonError.exit_code)


def _fail(problem: str, remedy: str, code: int) -> None:
    if not is_main_process():
        if code in (Interrupted.exit_code, INTERRUPTED):  # all processes stop together
            sys.exit(code)
        time.sleep(ALONE)  # the launcher ends this process first if the main one has failed too and reports it
    if "--json" in sys.argv:
        print_json({"error": {"problem": problem, "remedy": remedy, "code": code}})
    typer.secho(f"error: {problem}", fg="red", err=True)
    if remedy:
        typer.echo(f"       {remedy}", err=True)
    sys.exit(code)
