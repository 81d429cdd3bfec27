"""Mail: addresses that are checked, and sending through an SMTP server."""

from __future__ import annotations

import os
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from letheon.core.errors import InputError, LetheonError

SERVER, PASSWORD, SENDER = "LETHEON_SMTP", "LETHEON_SMTP_PASSWORD", "LETHEON_MAIL_FROM"  # names in the environment
TIMEOUT = 20.0  # seconds
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


def check_address(text: str) -> str:
    """Return a mail address without the white space around it.

    Raises:
        InputError: the text is no plain address `name@host`; line breaks, quotes and lists are refused.
    """
    address = text.strip(" ")
    if len(address) > 254 or not _ADDRESS.fullmatch(address) or ".." in address:
        raise InputError(f"{text[:80]!r} is no mail address", "give one plain address such as me@example.org")
    return address


@dataclass(frozen=True)
class Server:
    """An SMTP server.

    Attributes:
        host: its name.
        port: its port.
        tls: whether the connection begins encrypted (`smtps`); otherwise STARTTLS is used where it is offered.
        user: name to log in with; empty for no login.
        password: password of that name; never printed.
    """

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, address: str) -> Server:
        """Read `smtp://user:password@host:port` or `smtps://...`; the environment may give the password instead.

        Raises:
            InputError: the address is of another form; the message leaves the address out, as it may hold a password.
        """
        try:
            parts = urlsplit(address)
            tls, port = parts.scheme == "smtps", parts.port
        except ValueError:
            parts, tls, port = urlsplit(""), False, None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise InputError(
                "the mail server's address has another form", "write smtp://user@host:587 or smtps://user@host"
            )
        password = unquote(parts.password or "") or os.environ.get(PASSWORD, "")
        return cls(parts.hostname, port or (465 if tls else 25), tls, unquote(parts.username or ""), password)

    def send(self, message: EmailMessage) -> None:
        """Send a message to the addresses of its header To.

        Raises:
            LetheonError: the server cannot be reached, refuses, or would get the password unencrypted.
        """
        context = ssl.create_default_context()
        try:
            with (
                smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT, context=context)
                if self.tls
                else smtplib.SMTP(self.host, self.port, timeout=TIMEOUT)
            ) as connection:
                connection.ehlo()
                encrypted = self.tls
                if not encrypted and connection.has_extn("starttls"):
                    connection.starttls(context=context)
                    connection.ehlo()
                    encrypted = True
                if self.user:
                    if not encrypted and self.host not in LOOPBACK:
                        raise LetheonError(
                            f"{self.host} offers no encryption", "use smtps://, or a server with STARTTLS"
                        )
                    connection.login(self.user, self.password)
                connection.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise LetheonError(f"{self.host} refused the login ({error.smtp_code})", f"set {PASSWORD}") from None
        except smtplib.SMTPResponseException as error:
            raise LetheonError(
                f"{self.host} refused the mail ({error.smtp_code})", "check sender and recipient"
            ) from None
        except smtplib.SMTPRecipientsRefused:
            raise LetheonError(f"{self.host} refused the recipient", "check the address") from None
        except (OSError, smtplib.SMTPException) as error:
            reason = str(error) if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException) else ""
            raise LetheonError(
                f"{self.host}:{self.port} could not be used to send mail{reason and f' ({reason})'}",
                "check the server's address",
            ) from None


def server_of_environment() -> Server | None:
    """Return the mail server that LETHEON_SMTP names, or None if mail is not set up."""
    address = os.environ.get(SERVER, "")
    return Server.parse(address) if address else None


def sender() -> str:
    """Return the sender's address: LETHEON_MAIL_FROM, or `letheon@` this machine.

    Raises:
        InputError: LETHEON_MAIL_FROM is no address.
    """
    given = os.environ.get(SENDER, "")
    if given:
        return check_address(given)
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()).strip("-") or "localhost"
    return f"letheon@{host}"
