"""A chat model with a memory behind the interface of OpenAI's chat completions, for clients on this machine.

The conversation of a request is the header `X-Letheon-Session`, else the field `user`, else the server's own session.
The last message is the turn that is answered and stored; what was said before comes from the memory, by its policy.
Only the first request of a conversation has its earlier messages read as well. One answer is written at a time.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Receive, Scope, Send

from letheon.core.errors import InputError, LetheonError
from letheon.recall.conversation import Answers, Conversation
from letheon.recall.entries import Entry
from letheon.recall.erasure import erased_from
from letheon.recall.memory import Memory
from letheon.recall.refusals import Guard, Refused, error_body

SESSION_HEADER = "X-Letheon-Session"
LONGEST_SESSION = 200  # characters
MOST_WAITING = 16  # requests that wait for their answer
REFUSED = ("tools", "functions", "stop", "logprobs", "response_format", "audio")  # what would change the answer


@dataclass(frozen=True)
class Serving:
    """What a server answers with.

    Attributes:
        name: the model's name in the interface.
        memory: stores the turns and builds the context.
        answering: makes the function that answers, with a largest number of new tokens.
        budget: tokens of the context.
        max_new_tokens: longest answer, in tokens; a request may ask for less.
        system: the system prompt; a request's own system messages follow it.
        request_bytes: longest request.
        token: a secret that every request must bear; without one, requests must name this machine as their host.
    """

    name: str
    memory: Memory
    answering: Callable[[int], Answers]
    budget: int = 1500
    max_new_tokens: int = 200
    system: str = ""
    request_bytes: int = 1_000_000
    token: str = ""


@dataclass(frozen=True)
class _Asked:
    """One request for an answer."""

    query: str
    earlier: tuple[tuple[str, str], ...]
    system: str
    session: str
    max_new_tokens: int
    stream: bool
    with_usage: bool


class _Stream(StreamingResponse):
    """A stream of events after which something is closed, however it ends."""

    def __init__(self, events: AsyncIterator[str], closing: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that is gone ends them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.closing()


def application(serving: Serving) -> FastAPI:
    """Return the application with `/v1/models` and `/v1/chat/completions`."""
    app = FastAPI(title="letheon", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, token=serving.token)
    completions = _Completions(serving)
    model = {"id": serving.name, "object": "model", "created": int(time.time()), "owned_by": "letheon"}

    async def models() -> Any:
        return {"object": "list", "data": [model]}

    async def one_model(name: str) -> Any:
        if name != serving.name:
            raise _no_model(name)
        return model

    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", one_model, methods=["GET"])
    app.add_api_route("/v1/chat/completions", completions.answer, methods=["POST"], response_model=None)
    handlers: dict[Any, Any] = {
        Refused: lambda _, error: error.response(),
        InputError: lambda _, error: Refused(400, str(error)).response(),
        LetheonError: lambda _, error: Refused(500, str(error)).response(),
        Exception: lambda _, error: Refused(500, f"{type(error).__name__}: {error}").response(),
        HTTPException: lambda _, error: Refused(error.status_code, str(error.detail)).response(),
        StarletteHTTPException: lambda _, error: Refused(error.status_code, str(error.detail)).response(),
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


class _Completions:
    """The answers of one server, one at a time."""

    def __init__(self, serving: Serving) -> None:
        self.serving, self.turn, self.waiting = serving, asyncio.Lock(), 0

    async def answer(self, request: Request) -> Response:
        """Answer a request, whole or as a stream of events."""
        asked = read_request(await self._body(request), request.headers.get(SESSION_HEADER), self.serving)
        if self.waiting >= MOST_WAITING:
            raise Refused(429, f"{self.waiting} requests are waiting", code="rate_limit_exceeded")
        self.waiting += 1
        try:
            await self.turn.acquire()
        finally:
            self.waiting -= 1
        talk = Conversation(
            self.serving.answering(asked.max_new_tokens),
            self.serving.memory.in_session(asked.session),
            self.serving.budget,
            "\n".join(filter(None, (self.serving.system, asked.system))),
        )
        pieces = _said(talk, asked)

        async def close() -> None:
            try:
                await run_in_threadpool(pieces.close)
            finally:
                self.turn.release()

        try:
            first = await run_in_threadpool(
                next, pieces, ""
            )  # errors before the first piece have a status of their own
        except BaseException:
            with anyio.CancelScope(shield=True):
                await close()
            raise
        made = _Made(self.serving, talk, first)
        if asked.stream:
            return _Stream(made.events(pieces, asked.with_usage), close)
        try:
            return JSONResponse(made.whole(first + await run_in_threadpool("".join, pieces)))
        finally:
            with anyio.CancelScope(shield=True):
                await close()

    async def _body(self, request: Request) -> Any:
        """Read the body's JSON, as far as the limit.

        A web page can send JSON across origins only under another content type; those are refused.
        """
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the content type must be application/json")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.serving.request_bytes:
                raise Refused(413, f"the request is longer than {self.serving.request_bytes} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is no JSON: {error}") from None


class _Made:
    """The objects of the interface that one answer is sent in."""

    def __init__(self, serving: Serving, talk: Conversation, first: str) -> None:
        self.serving, self.talk, self.first = serving, talk, first
        self.common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": serving.name}

    def usage(self, reply: str) -> dict[str, int]:
        """Return the tokens of the context and of the answer, as the memory counts them."""
        count = self.serving.memory.count
        prompt = self.talk.last.tokens if self.talk.last else 0
        answer = count(reply) - count("")  # without what a template puts around it
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def whole(self, reply: str) -> dict[str, Any]:
        """Return the answer in one object."""
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.talk.finish}
        return {**self.common, "object": "chat.completion", "choices": [choice], "usage": self.usage(reply)}

    def _event(self, delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _line({**self.common, "object": "chat.completion.chunk", "choices": [choice]})

    async def events(self, pieces: Generator[str, None, None], with_usage: bool) -> AsyncIterator[str]:
        """Yield the answer's events; one that breaks off ends with an error."""
        reply = self.first
        yield self._event({"role": "assistant", "content": ""})
        try:
            if self.first:
                yield self._event({"content": self.first})
            async for piece in iterate_in_threadpool(pieces):
                reply += piece
                if piece:
                    yield self._event({"content": piece})
        except Exception as error:
            yield _line(error_body(str(error), 500))
            return
        yield self._event({}, self.talk.finish)
        if with_usage:
            chunk = {**self.common, "object": "chat.completion.chunk", "choices": [], "usage": self.usage(reply)}
            yield _line(chunk)
        yield "data: [DONE]\n\n"


def _line(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _said(talk: Conversation, asked: _Asked) -> Generator[str, None, None]:
    """Stream the answer; the first request of a conversation stores what was said before it.

    A conversation from which something was erased is none that begins: its client may still hold what was erased.
    """
    memory, now = talk.memory, time.time()
    known = memory.store.entries(session=asked.session) or erased_from(memory.store, asked.session)
    if asked.earlier and not known:
        turns = [Entry(text, role, "turn", asked.session, created=now) for role, text in asked.earlier]
        memory.import_entries(turns, rules=True)
    yield from talk.say(asked.query)


def _no_model(name: Any) -> Refused:
    return Refused(404, f"the model {name!r} does not exist; see /v1/models", "model", "model_not_found")


def read_request(body: Any, session: str | None, serving: Serving) -> _Asked:
    """Read a request's body.

    Raises:
        Refused: names the field that is wrong or not supported.
    """
    if not isinstance(body, dict):
        raise Refused(400, "the body must be an object")
    if body.get("model") != serving.name:
        raise _no_model(body.get("model"))
    for name in REFUSED:
        if body.get(name) not in (None, [], False, {"type": "text"}):
            raise Refused(400, f"{name} is not supported", name)
    if body.get("n") not in (None, 1):
        raise Refused(400, "one answer per request is supported", "n")
    said = _messages(body.get("messages"))
    if not said or said[-1][0] != "user":
        raise Refused(400, "the last message must be a user's", "messages")
    given = (body.get("max_completion_tokens"), body.get("max_tokens"), serving.max_new_tokens)
    limit = next(one for one in given if one is not None)
    if type(limit) is not int or limit < 1:
        raise Refused(400, f"max_tokens is {limit!r}", "max_tokens")
    if body.get("stream") not in (None, False, True):
        raise Refused(400, f"stream is {body['stream']!r}", "stream")
    named = session or body.get("user") or serving.memory.session
    if not isinstance(named, str) or len(named) > LONGEST_SESSION or not named.isprintable():
        raise Refused(400, f"a conversation's name has up to {LONGEST_SESSION} printable characters", "user")
    options = body.get("stream_options")
    return _Asked(
        query=said[-1][1],
        earlier=tuple((role, text) for role, text in said[:-1] if role in ("user", "assistant") and text.strip()),
        system="\n".join(text for role, text in said if role in ("system", "developer")),
        session=named,
        max_new_tokens=min(limit, serving.max_new_tokens),
        stream=body.get("stream") is True,
        with_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _messages(messages: Any) -> list[tuple[str, str]]:
    """Return roles and texts; a message's content is a text or a list of text parts."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise Refused(400, "messages must be a list of objects", "messages")
    said = []
    for number, one in enumerate(messages):
        content = one.get("content")
        if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            content = "\n".join(str(part.get("text", "")) for part in content)
        if one.get("role") not in ("system", "developer", "user", "assistant") or not isinstance(content, str):
            raise Refused(400, f"message {number}: roles and texts are supported", f"messages[{number}]")
        if content.encode(errors="ignore").decode() != content:
            raise Refused(400, f"message {number}: half a surrogate pair is no text", f"messages[{number}]")
        said.append((one["role"], content))
    return said
