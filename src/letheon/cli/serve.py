"""Serve a model with a memory behind OpenAI's interface, to clients on this machine.

letheon serve smollm2 --memory me.sqlite

Clients speak to http://127.0.0.1:8000/v1 (/chat/completions, also streamed, and /models). The header X-Letheon-Session,
or the field user, names the conversation. Needs the extra: pip install 'letheon[serve]'.
"""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.options import Group
from letheon.cli.shared import OUTPUT, verb
from letheon.core.progress import be_quiet
from letheon.jobs.chat import ChatJob, ChatSettings
from letheon.jobs.serve import ServeJob, ServeSettings


@verb(__doc__)
def serve(
    model: Annotated[str | None, typer.Argument(help="The model; none where an endpoint is given.")] = None,
    *,
    settings: Annotated[ChatSettings, Group(OUTPUT)],
    server: Annotated[ServeSettings, Group("The server")],
) -> None:
    """Serve until interrupted."""
    be_quiet(True)
    ServeJob(ChatJob(model, settings), server).run(lambda address: typer.echo(f"serving {address}"))
