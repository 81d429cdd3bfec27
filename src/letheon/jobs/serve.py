"""`letheon serve`: a model with a memory behind OpenAI's interface."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from letheon.core.errors import InputError
from letheon.jobs.chat import ChatJob

TOKEN = "LETHEON_TOKEN"  # the environment variable of the token
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        host: the address that it listens on.
        port: the port; 0 takes a free one.
        expose: allow an address that other machines reach; LETHEON_TOKEN must then hold a token of 16 characters.
        max_request_bytes: longest request, in bytes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    expose: bool = False
    max_request_bytes: int = 1_000_000


@dataclass(frozen=True)
class ServeJob:
    """A server to be started."""

    chat: ChatJob
    settings: ServeSettings

    def __post_init__(self) -> None:
        host, token = self.settings.host, os.environ.get(TOKEN, "")
        if not _is_loopback(host):
            if not self.settings.expose:
                raise InputError(
                    f"{host} can be reached from other machines", "use 127.0.0.1, or allow it with --expose"
                )
            if len(token) < SHORTEST_TOKEN:
                problem = f"{host} is open to other machines, and {TOKEN} holds {len(token)} characters"
                raise InputError(problem, f"set {TOKEN} to a secret of at least {SHORTEST_TOKEN} characters")

    def run(self, started: Callable[[str], None]) -> None:
        """Serve until the process is interrupted.

        Args:
            started: called with the server's address once it listens.

        Raises:
            InputError: the packages of the extra `serve` are missing, or the port is taken.
        """
        try:
            import uvicorn

            from letheon.recall.server import Serving, application
        except ImportError as error:
            raise InputError(f"the server needs {error.name}", "pip install 'letheon[serve]'") from None
        given, chat = self.settings, self.chat.settings
        config = uvicorn.Config("", host=given.host, port=given.port, log_level="warning", timeout_graceful_shutdown=3)
        try:
            listener = config.bind_socket()
        except SystemExit:
            raise InputError(f"port {given.port} of {given.host} cannot be used", "give another --port") from None
        with listener:
            ready = self.chat.ready()
            with ready.memory:
                serving = Serving(
                    ready.name, ready.memory, ready.answering, chat.budget, chat.max_new_tokens, chat.system,
                    given.max_request_bytes, os.environ.get(TOKEN, ""),
                )  # fmt: skip
                config.app = application(serving)
                listener.listen()  # requests wait from here on
                port = listener.getsockname()[1]
                started(f"http://{f'[{given.host}]' if ':' in given.host else given.host}:{port}/v1")
                signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the memory is closed
                with suppress(KeyboardInterrupt):  # uvicorn raises the signal again that ended it
                    uvicorn.Server(config).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
