"""A model behind an endpoint: a local server that limits rates, times out, talks nonsense and half a JSON."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.measure.asking.endpoint import Endpoint, listed_logp

Behaviour = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def reply(handler: BaseHTTPRequestHandler, text: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    body = text.encode()
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def right(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """Repeat the last turn; list tokens for requests that want them."""
    said = asked["messages"][-1]["content"]
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": f"you said {said}"}}
    if asked.get("logprobs"):
        listed = [{"token": " 3", "logprob": math.log(0.5)}, {"token": "3", "logprob": math.log(0.1)}]
        listed += [{"token": "4", "logprob": math.log(0.25)}, {"token": "the", "logprob": math.log(0.15)}]
        choice["logprobs"] = {"content": [{"token": "3", "top_logprobs": listed}]}
    reply(handler, json.dumps({"choices": [choice]}))


class Server:
    """Behaviours, one per request; the last one stays."""

    def __init__(self) -> None:
        self.behaviours: list[Behaviour] = [right]
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append({**asked, "path": self.path, "key": self.headers.get("Authorization")})
                behaviour = outer.behaviours[0] if len(outer.behaviours) == 1 else outer.behaviours.pop(0)
                behaviour(self, asked)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def endpoint(server: Server, tmp_path: Path, waits: list[float]) -> Endpoint:
    return Endpoint(server.url, "model", tmp_path / "cache", retries=3, timeout=0.3, sleep=waits.append)


def test_answers_come_in_order_and_none_is_asked_twice(
    server: Server, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    asked = [[f"number {i % 5}"] for i in range(8)]
    assert endpoint.answers(asked, 8) == [f"you said number {i % 5}" for i in range(8)]
    assert len(server.asked) == 5
    assert server.asked[0]["path"] == "/v1/chat/completions"
    assert server.asked[0]["temperature"] == 0
    assert server.asked[0]["key"] == "Bearer secret"
    assert endpoint.answers(asked, 8)[0] == "you said number 0"
    assert len(server.asked) == 5
    assert all("secret" not in file.read_text() for file in endpoint.cache.iterdir())
    endpoint.answers([["a", "b", "c"]], 8)
    assert [message["role"] for message in server.asked[-1]["messages"]] == ["user", "assistant", "user"]


def test_rates_timeouts_nonsense_and_half_a_json_are_tried_again(
    server: Server, endpoint: Endpoint, waits: list[float]
) -> None:
    faults: list[Behaviour] = [
        lambda handler, _: reply(handler, "slow down", 429, Retry_After="7"),
        lambda handler, _: time.sleep(0.5),
        lambda handler, _: reply(handler, '{"choices": [{"message": {"content": "half'),
        lambda handler, _: reply(handler, '{"choices": []}'),
        lambda handler, _: reply(handler, "<html>busy</html>", 503),
    ]
    for fault in faults:
        server.behaviours = [fault, right]
        text = f"question {faults.index(fault)}"
        assert endpoint.answers([[text]], 8) == [f"you said {text}"]
    assert waits[0] == pytest.approx(7.875, abs=0.9), "the server's own time counts"
    assert len(waits) == 5


def test_a_server_that_stays_broken_ends_the_run_and_keeps_what_was_paid_for(
    server: Server, endpoint: Endpoint
) -> None:
    endpoint.answers([["first"]], 8)
    server.behaviours = [lambda handler, _: reply(handler, "no", 500)]
    with pytest.raises(LetheonError, match=r"no usable answer in 4 attempts; the last: status 500"):
        endpoint.answers([["first"], ["second"]], 8)
    server.behaviours = [right]
    before = len(server.asked)
    assert endpoint.answers([["first"], ["second"]], 8) == ["you said first", "you said second"]
    assert len(server.asked) == before + 1


def test_a_refusal_is_not_tried_again_and_a_redirect_is_not_followed(server: Server, endpoint: Endpoint) -> None:
    server.behaviours = [lambda handler, _: reply(handler, "no such model", 404)]
    with pytest.raises(InputError, match="status 404: 'no such model'"):
        endpoint.answers([["x"]], 8)
    assert len(server.asked) == 1
    server.behaviours = [lambda handler, _: reply(handler, "", 307, Location="http://127.0.0.1:9/elsewhere")]
    with pytest.raises(InputError, match="status 307"):
        endpoint.answers([["y"]], 8)


def test_options_are_read_from_the_listed_tokens(server: Server, endpoint: Endpoint) -> None:
    found = endpoint.option_logp([(["rate it"], ["1", "3", "4"])])[0]
    assert math.exp(found[1]) == pytest.approx(0.6)
    assert math.exp(found[2]) == pytest.approx(0.25)
    assert found[0] == -math.inf
    assert server.asked[-1]["max_tokens"] == 1
    choice = {
        "logprobs": {"content": [{"top_logprobs": [{"token": "WITH", "logprob": 0.0}, {"token": "", "logprob": 0}]}]}
    }
    assert listed_logp(choice, ["KEEP", "WITHDRAW"]).tolist() == [-math.inf, 0.0]
    assert listed_logp({"logprobs": None}, ["a"]).tolist() == [-math.inf]


def test_an_address_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--endpoint"):
        Endpoint("file:///etc/passwd", "m", tmp_path)
    with pytest.raises(InputError, match="without a model's name"):
        Endpoint("http://127.0.0.1:1/v1", "", tmp_path)
