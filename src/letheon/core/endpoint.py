"""Requests to an OpenAI-compatible endpoint: one answer, or an answer as it is written.

The key is read from the environment variable OPENAI_API_KEY and written nowhere. Requests go out only to the endpoint
that the user names, and redirects are refused.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Mapping
from typing import Any

from letheon.core.errors import InputError, LetheonError

TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_LINE = 1_000_000  # bytes of a line of a stream


class Unusable(Exception):
    """An answer that a further attempt may mend: no connection, a rate limit, text that is not the interface's JSON."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait  # seconds, where the server named them


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that prompts and the key go nowhere but to the address that the user named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: the redirect's status is then reported as an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def check_endpoint(url: str, name: str) -> None:
    """Refuse what is no address of an endpoint.

    Args:
        url: address up to and including the version, such as `http://127.0.0.1:8000/v1`.
        name: the model's name at the endpoint.

    Raises:
        InputError: the address has no scheme or host, or the name is missing.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"--endpoint {url!r}", "give an address such as http://127.0.0.1:8000/v1")
    if not name:
        raise InputError("an endpoint is given without a model's name", "name it: --endpoint-model NAME")


def open_completion(url: str, request: Mapping[str, Any], timeout: float) -> http.client.HTTPResponse:
    """Send a request to `POST {url}/chat/completions` and return the open response.

    Raises:
        InputError: the endpoint refused the request.
        Unusable: a transient failure.
    """
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    address = f"{url.rstrip('/')}/chat/completions"
    asked = urllib.request.Request(address, json.dumps(request).encode(), headers)
    try:
        response: http.client.HTTPResponse = _OPENER.open(asked, timeout=timeout)
        return response
    except urllib.error.HTTPError as error:
        said = repr(error.read(300).decode(errors="replace"))[:200]
        if error.code in TRANSIENT:
            raise Unusable(f"status {error.code}: {said}", _seconds(error.headers.get("Retry-After"))) from None
        remedy = "check --endpoint, the model's name and OPENAI_API_KEY"
        raise InputError(f"{address} refused the request with status {error.code}: {said}", remedy) from None
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise Unusable(f"{type(error).__name__}: {error}") from None


def stream_completion(url: str, request: Mapping[str, Any], timeout: float) -> Generator[str, None, str]:
    """Yield the pieces of an answer as the endpoint writes them; return why it ended, such as `stop` or `length`.

    Raises:
        InputError: the endpoint refused the request.
        LetheonError: the endpoint cannot be reached, or the stream broke off.
    """
    broken = f"{url} broke off the answer"
    try:
        with open_completion(url, {**request, "stream": True}, timeout) as response:
            finish = ""
            while line := response.readline(LONGEST_LINE):
                data = line.strip().removeprefix(b"data:").strip()
                if not line.startswith(b"data:") or not data:
                    continue  # comments, and empty lines between events
                if data == b"[DONE]":
                    return finish or "stop"
                event = json.loads(data)
                if "error" in event:
                    raise LetheonError(f"{broken}: {str(event['error'])[:200]}", "ask again")
                for choice in event["choices"][:1]:
                    if piece := (choice.get("delta") or {}).get("content"):
                        yield str(piece)
                    finish = choice.get("finish_reason") or finish
            if finish:
                return finish
            raise LetheonError(broken, "what came is stored; ask again")
    except Unusable as failure:
        raise LetheonError(f"{url} cannot be used: {failure}", "check that it runs, and ask again") from None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LetheonError(f"{broken}: {type(error).__name__}: {error}", "what came is stored; ask again") from None


def _seconds(text: str | None) -> float | None:
    """Read a Retry-After of seconds; a date, or nothing, gives None."""
    try:
        return max(0.0, float(text or ""))
    except ValueError:
        return None
