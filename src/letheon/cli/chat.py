"""Talk with a model that remembers: across days, with standing rules, and with true erasure.

letheon chat smollm2 --memory me.sqlite
letheon chat --endpoint http://127.0.0.1:8000/v1 --model NAME --memory me.sqlite

Inside: /why shows what was remembered and why, /remember TEXT, /forget NAME, /memories, /rules, /quit. With --ledger an
erasure is recorded. Without a terminal the turns are the lines of standard input.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from letheon.cli.options import Group
from letheon.cli.shared import OUTPUT, verb
from letheon.core.errors import LetheonError
from letheon.core.progress import be_quiet
from letheon.jobs.chat import ChatJob, ChatSettings
from letheon.jobs.options import LedgerOption
from letheon.report.safe_text import visible


@verb(__doc__)
def chat(
    model: Annotated[str | None, typer.Argument(help="The model; none where an endpoint is given.")] = None,
    *,
    settings: Annotated[ChatSettings, Group(OUTPUT)],
    recording: Annotated[LedgerOption, Group(OUTPUT)],
) -> None:
    """Read turns, stream answers and carry out commands until the input ends."""
    be_quiet(True)
    talk = ChatJob(model, settings, recording.ledger).open()
    asks = "you> " if sys.stdin.isatty() else ""
    with talk.memory:
        while True:
            try:
                line = input(asks).strip()
            except EOFError:
                return
            if line in ("/quit", "/exit"):
                return
            try:
                if line.startswith("/"):
                    typer.echo(visible(talk.command(line)))
                elif line:
                    for piece in talk.say(line):
                        typer.echo(visible(piece), nl=False)  # a text of others may hold control characters
                    typer.echo()
            except LetheonError as error:  # a command that is none, a turn that is too long, an endpoint that is gone
                typer.echo(f"{error.problem}\n{error.remedy}", err=True)
