"""Requests that the server refuses, and the errors that it answers them with."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send


class Refused(Exception):
    """A request that is answered with an error of the interface."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def response(self) -> JSONResponse:
        """Return the error in the interface's shape."""
        return JSONResponse(error_body(self.message, self.status, self.param, self.code), self.status)


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error in the interface's shape."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Guard:
    """Refuses requests from elsewhere: another host's name (DNS rebinding), a web page's origin, a missing token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401 or 403."""
        refused = self._refused(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refused.response() if refused else self.app)(scope, receive, send)

    def _refused(self, headers: Headers) -> Refused | None:
        origin = headers.get("origin")
        if origin and not _is_local(origin):
            return Refused(403, f"requests of pages of {origin} are refused")
        if self.token:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            same = hmac.compare_digest(given.encode(), self.token.encode())
            return None if same else Refused(401, "the token is missing or wrong", code="invalid_api_key")
        host = headers.get("host", "")
        if not _is_local(f"//{host}"):
            return Refused(403, f"the host {host!r} is not this machine; use http://127.0.0.1")
        return None


def _is_local(url: str) -> bool:
    """Whether an address names this machine: localhost, 127.0.0.0/8 or ::1."""
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:  # no address, or brackets that do not close
        return False
