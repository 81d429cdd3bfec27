"""A mail server on this machine that keeps what it gets."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import pytest

aiosmtpd = pytest.importorskip("aiosmtpd.controller")


@contextmanager
def mail_server() -> Iterator[tuple[str, list[EmailMessage]]]:
    """Give the address of a server and the list of mails that it has received."""
    mails: list[EmailMessage] = []

    async def handle_data(server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert envelope.rcpt_tos == [message["To"]]
        mails.append(message)
        return "250 OK"

    controller = aiosmtpd.Controller(SimpleNamespace(handle_DATA=handle_data), hostname="127.0.0.1", port=0)
    # the controller connects to its own port before it says that it is ready, so the port is chosen first
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        controller.port = free.getsockname()[1]
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{controller.port}", mails
    finally:
        controller.stop()
