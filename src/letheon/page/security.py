"""What protects the site: this machine's names only, tokens in forms, a size limit, headers, served folders."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE, FIELD, HEADER = "letheon_token", "token", "X-Letheon-Token"
LARGEST_BODY = 20_000_000  # bytes of a form with its uploads
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# The key in the address shows the right to do it: a mail program sends it with nothing of this site's (RFC 8058).
KEYED = frozenset({"/unsubscribe"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """The middleware around the site.

    It refuses requests under any other name than this machine's (DNS rebinding), unsafe requests that another origin
    sends, and bodies over the limit; it writes the security headers on every answer.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = HOSTS, largest: int = LARGEST_BODY) -> None:
        self.app, self.hosts, self.largest = app, hosts, largest
        self._too_large = f"The upload is larger than {largest / 1e6:.0f} MB."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                fresh = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if fresh else "no-store")
            await send(message)

        app = self._refusal(scope) or self.app
        await app(scope, self._limited(receive), guarded_send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return PlainTextResponse("This site answers under this machine's own name only.", 400)
        origin = headers.get("origin")
        keyed = scope["path"] in KEYED  # a key of the link is right enough, also where another name is passed on
        if scope["method"] not in SAFE and not keyed and origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("Another site sent this form.", 403)
        length = headers.get("content-length", "0")
        too_large = not length.isdecimal() or int(length) > self.largest
        return PlainTextResponse(self._too_large, 413) if too_large else None

    def _limited(self, receive: Receive) -> Receive:
        """Count a body that comes without a length."""
        total = 0

        async def limited() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.largest:
                raise HTTPException(413, self._too_large)
            return message

        return limited


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def token_of(request: Request) -> str:
    """The token of this browser's cookie, or a new one that the answer sets."""
    if not hasattr(request.state, "token"):
        request.state.token = request.cookies.get(COOKIE) or secrets.token_urlsafe(32)
    return str(request.state.token)


async def check_token(request: Request) -> None:
    """Refuse an unsafe request whose form (field `token`) or header does not repeat the cookie's token.

    Raises:
        HTTPException: 403.
    """
    if request.method in SAFE or request.url.path in KEYED:
        return
    given = request.headers.get(HEADER)
    if given is None:
        given = str((await request.form()).get(FIELD, ""))
    cookie = request.cookies.get(COOKIE, "")
    if not cookie or not secrets.compare_digest(given.encode(), cookie.encode()):
        raise HTTPException(403, "The form has expired. Load the page again.")


def inside(folder: Path, name: str) -> Path:
    """The file `name` in a folder that is served.

    Raises:
        HTTPException: 404, where the name leads out of the folder (also by a link) or names nothing.
    """
    try:
        root = folder.resolve()
        path = (root / name).resolve()
        served = path.is_relative_to(root) and path.exists()
    except (OSError, ValueError):
        served = False
    if not served:
        raise HTTPException(404)
    return path
