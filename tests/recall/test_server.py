"""The server speaks OpenAI's interface to its own client, remembers, and refuses what it must."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel
from letheon.jobs.chat import ChatJob, ChatSettings
from letheon.jobs.serve import ServeJob, ServeSettings
from letheon.recall.conversation import Answers, Conversation, Messages, endpoint_answers, model_answers
from letheon.recall.memory import Memory
from letheon.recall.server import Serving, application

openai = pytest.importorskip("openai")
uvicorn = pytest.importorskip("uvicorn")
testclient = pytest.importorskip("fastapi.testclient")


def saying(messages: Messages) -> Iterator[str]:
    """A model that says what it was shown, in two pieces."""
    yield "I saw: "
    yield " | ".join(message["content"] for message in messages)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "m.sqlite", "words", session="today") as memory:
        yield memory


def serving(memory: Memory, answers: Answers = saying, **further: Any) -> Serving:
    return Serving("small", memory, lambda limit: answers, budget=300, **further)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application on a free port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: bool(server.started))
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def local(app: Any) -> Any:
    """A client in the same process."""
    return testclient.TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def asked(*texts: str, **further: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"model": "small", "messages": messages, **further}


def test_the_official_client_talks_to_a_model_streams_and_hangs_up(memory: Memory, tiny: LanguageModel) -> None:
    assert tiny.tokenizer.chat_template  # the tiny model repeats the prompt's last character
    tiny.tokenizer.chat_template = tiny.tokenizer.chat_template.replace("assistant\n", "assistant:")
    app = application(Serving("small", memory, lambda limit: model_answers(tiny, limit), budget=300))
    with listening(app) as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["small"]
        said = [{"role": "user", "content": "What does Ann eat?"}]
        whole = client.chat.completions.create(model="small", messages=said, max_tokens=8, user="one")
        assert whole.choices[0].finish_reason == "length"
        assert whole.choices[0].message.content
        with client.chat.completions.create(
            model="small", messages=said, max_tokens=8, user="two", stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert chunks[-1].usage.prompt_tokens > 0
        assert chunks[-2].choices[0].finish_reason == "length"
        assert len(pieces) > 3
        with client.chat.completions.create(model="small", messages=said, user="three", stream=True) as stream:
            next(iter(stream))  # and hangs up
        again = client.chat.completions.create(model="small", messages=said, max_tokens=2, user="four")
        assert again.choices[0].finish_reason == "length"  # the turn of the one who left is over
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="other", messages=said)
        with pytest.raises(openai.BadRequestError, match="budget"):
            client.chat.completions.create(model="small", messages=[{"role": "user", "content": "x " * 400}])
    turns = memory.store.entries(session="two")
    assert [entry.text for entry in turns] == ["What does Ann eat?", "".join(pieces).strip()]
    assert turns[0].id in turns[1].sources
    assert memory.store.entries(session="three")[0].text == "What does Ann eat?"


def test_a_client_that_hangs_up_ends_the_answer_and_its_part_is_stored(memory: Memory) -> None:
    ended = threading.Event()

    def endless(messages: Messages) -> Iterator[str]:
        try:
            while True:
                yield "on and "
                time.sleep(0.01)
        finally:
            ended.set()

    with listening(application(serving(memory, endless))) as url:
        connection = http.client.HTTPConnection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        body = json.dumps(asked("Go on.", stream=True))
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        assert connection.getresponse().read(200)
        connection.close()
        assert ended.wait(10)
        until(lambda: len(memory.store) == 2)
    assert memory.store.entries()[1].text.startswith("on and on")


def test_memories_reach_the_model_and_the_conversation_is_named_by_header_or_user(memory: Memory) -> None:
    memory.in_session("monday").observe("The locker code is 7391.")
    client = local(application(serving(memory)))
    reply = client.post(
        "/v1/chat/completions", json=asked("What is the locker code?"), headers={"X-Letheon-Session": "h"}
    )
    assert "7391" in reply.json()["choices"][0]["message"]["content"]
    client.post("/v1/chat/completions", json=asked("Hello.", user="u"))
    client.post("/v1/chat/completions", json=asked("Hello."))
    sessions = [entry.session for entry in memory.store.entries() if entry.role == "user"]
    assert sessions == ["monday", "h", "u", "today"]
    assert memory.store.entries(session="h")[1].sources == (1, 2)


def test_earlier_messages_are_read_once_and_not_again_after_an_erasure(memory: Memory) -> None:
    client = local(application(serving(memory)))
    history = ["Ilse's code is 7391.", "Noted.", "Always be brief.", "Yes.", "What is new?"]
    client.post("/v1/chat/completions", json=asked(*history, user="u"))
    assert [entry.text for entry in memory.store.entries(session="u")][:2] == history[:2]
    assert [rule.text for rule in memory.in_session("u").rules()] == ["Always be brief."]
    memory.forget(subject="Ilse")
    client.post("/v1/chat/completions", json=asked(*history, "Nothing.", "And now?", user="u"))
    assert "7391" not in " ".join(entry.text for entry in memory.store.entries())


def test_a_conversation_that_an_erasure_emptied_does_not_begin_again(memory: Memory) -> None:
    client = local(application(serving(memory)))
    client.post("/v1/chat/completions", json=asked("Ilse's code is 7391.", user="u"))
    memory.forget(subject="Ilse")
    assert memory.store.entries() == []
    client.post("/v1/chat/completions", json=asked("Ilse's code is 7391.", "Noted.", "And now?", user="u"))
    assert [entry.text for entry in memory.store.entries() if entry.role == "user"] == ["And now?"]
    assert b"7391" not in memory.store.path.read_bytes()


def test_errors_have_the_shape_of_the_interface(memory: Memory) -> None:
    client = local(application(serving(memory, request_bytes=2000)))
    path, as_json = "/v1/chat/completions", {"content-type": "application/json"}
    refused = {
        413: client.post(path, json=asked("x" * 3000)),
        415: client.post(path, content=json.dumps(asked("x")), headers={"content-type": "text/plain"}),
        400: client.post(path, content="{", headers=as_json),
        404: client.post(path, json={**asked("x"), "model": "gpt"}),
        405: client.get(path),
    }
    for status, response in refused.items():
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert client.get("/nothing").status_code == 404
    assert client.get("/v1/models/small").json()["id"] == "small"
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    for body in (
        [], asked(), asked("a", "b"), asked("a", n=2), asked("a", tools=[{}]), asked("a", max_tokens=-1),
        asked("a", max_tokens=0), asked("a", max_tokens=True), asked("a", stream="yes"), asked("a\ud800"),
        asked("a", user="\n"), asked("a", user="u" * 201), {"model": "small", "messages": [{"role": "user"}]},
        {"model": "small", "messages": [{"role": "tool", "content": "x"}]}, {"model": "small", "messages": ["x"]},
    ):  # fmt: skip
        response = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert response.status_code == 400, body
        assert response.json()["error"]["message"]
    assert len(memory.store) == 0


def test_an_answer_that_breaks_off_is_an_error_of_the_stream_and_the_next_one_works(memory: Memory) -> None:
    def dies(messages: Messages) -> Iterator[str]:
        yield "Half "
        raise LetheonError("the model is gone")

    client = local(application(serving(memory, dies)))
    for _ in range(2):
        lines = client.post("/v1/chat/completions", json=asked("Hello?", stream=True)).text.strip().split("\n\n")
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["type"] == "server_error"
        whole = client.post("/v1/chat/completions", json=asked("Hello?"))
        assert (whole.status_code, whole.json()["error"]["message"]) == (500, "the model is gone")
    assert [entry.text for entry in memory.store.entries()] == ["Hello?", "Half"] * 4


def test_other_hosts_pages_and_tokens_are_refused(memory: Memory) -> None:
    app = application(serving(memory))
    assert local(app).get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert local(app).get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    for host in ("[x", "", "127.0.0.1.evil.example", "[::2]:8000"):
        assert local(app).get("/v1/models", headers={"Host": host}).status_code == 403
    assert local(app).get("/v1/models", headers={"Origin": "http://[x"}).status_code == 403
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1", "127.0.0.2:8000"):
        assert local(app).get("/v1/models", headers={"Host": host}).status_code == 200
    app = application(serving(memory, token="a secret of mine"))
    assert local(app).get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    bearer = {"Authorization": "Bearer a secret of mine", "Host": "box.lan"}
    assert local(app).get("/v1/models", headers=bearer).status_code == 200


def test_an_address_that_others_reach_needs_leave_and_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ChatJob("tiny", ChatSettings(tmp_path / "m.sqlite", embedder="words", budget=300))
    monkeypatch.delenv("LETHEON_TOKEN", raising=False)
    with pytest.raises(InputError, match="--expose"):
        ServeJob(chat, ServeSettings(host="0.0.0.0"))
    with pytest.raises(InputError, match="LETHEON_TOKEN"):
        ServeJob(chat, ServeSettings(host="0.0.0.0", expose=True))
    monkeypatch.setenv("LETHEON_TOKEN", "0123456789abcdef")
    ServeJob(chat, ServeSettings(host="0.0.0.0", expose=True))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be used"):
            ServeJob(chat, ServeSettings(port=taken.getsockname()[1])).run(print)


def test_a_chat_with_an_endpoint_streams_and_stores_what_came_before_it_died(memory: Memory, tmp_path: Path) -> None:
    def dies(messages: Messages) -> Iterator[str]:
        yield from saying(messages)
        if "die" in messages[-1]["content"]:
            raise LetheonError("the model is gone")

    with Memory(tmp_path / "other.sqlite", "words") as behind, listening(application(serving(behind, dies))) as url:
        talk = Conversation(endpoint_answers(url, "small"), memory, 300)
        assert "".join(talk.say("Hello <|im_end|> there.")) == "I saw: Hello < |im_end|> there."
        assert talk.finish == "stop"
        with pytest.raises(LetheonError, match="broke off"):
            list(talk.say("Now die."))
        with pytest.raises(InputError, match="refused the request with status 404"):
            list(Conversation(endpoint_answers(url, "gpt"), memory, 300).say("Hello."))
        job = ChatJob(None, ChatSettings(tmp_path / "m.sqlite", endpoint=url, endpoint_model="small"))
        assert job.ready().name == "small"
    assert memory.store.entries()[3].text.startswith("I saw:")
    with pytest.raises(LetheonError, match="cannot be used"):
        list(talk.say("Anybody?"))
    with pytest.raises(InputError, match="one model answers"):
        ChatJob("tiny", ChatSettings(tmp_path / "m.sqlite", endpoint=url))
