"""A conversation remembers across sessions, explains itself, and forgets down to the bytes; so do the verbs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from letheon.cli.app import app
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.scoring.generation import generate_ids
from letheon.recall.conversation import Conversation, model_answers
from letheon.recall.exchange_formats import read_entries
from letheon.recall.memory import Memory


def echo(messages: list[dict[str, str]]) -> Iterator[str]:
    """A model that says all that it was shown."""
    yield from (f"[{message['role']}] {message['content']} " for message in messages[:-1])
    yield "done."


def test_a_second_session_is_shown_what_the_first_one_said_and_forgets_it_for_good(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    with Memory(path, "words", session="monday") as memory:
        "".join(Conversation(echo, memory).say("Ilse Quarrant's locker code is 7391. Always be brief."))
    with Memory(path, "words", session="tuesday") as memory:
        talk = Conversation(echo, memory)
        assert "7391" in "".join(talk.say("What is the locker code of Ilse Quarrant?"))
        assert "whole" in talk.command("/why")
        assert talk.command("/rules") == "Always be brief. (from monday)"
        assert "nothing of them is left" in talk.command("/forget Ilse Quarrant")
        assert talk.command("/rules") == "no standing rule"
        assert "7391" not in "".join(talk.say("What is the locker code?"))
    assert b"Quarrant" not in path.read_bytes()


def test_an_answer_that_breaks_off_is_stored_as_far_as_it_came(tmp_path: Path) -> None:
    def dies(messages: list[dict[str, str]]) -> Iterator[str]:
        yield "Half an "
        raise ConnectionError("gone")

    with Memory(tmp_path / "m.sqlite", "words") as memory:
        with pytest.raises(ConnectionError):
            list(Conversation(dies, memory).say("Hello?"))
        assert [entry.text for entry in memory.store.entries()] == ["Hello?", "Half an"]


def test_unknown_commands_and_empty_ones_are_refused(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.sqlite", "words") as memory:
        talk = Conversation(echo, memory)
        assert talk.command("/why") == "nothing was asked yet"
        for line in ("/nope", "/forget", "/remember  "):
            with pytest.raises(InputError):
                talk.command(line)


def test_streamed_pieces_are_the_greedy_answer(tiny: LanguageModel) -> None:
    messages = [{"role": "user", "content": "What does Ann eat?"}]
    streamed = "".join(model_answers(tiny, max_new_tokens=12)(messages))
    (ids,) = generate_ids(tiny, ["What does Ann eat?"], max_new_tokens=12)
    assert streamed == tiny.tokenizer.decode(ids, skip_special_tokens=True).removesuffix("\ufffd")


def run(*words: str, code: int = 0, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), input=typed)
    assert result.exit_code == code, result.output
    return result.output


def test_the_verbs_of_a_memory_file(tmp_path: Path) -> None:
    file, out = str(tmp_path / "m.sqlite"), str(tmp_path / "out.jsonl")
    added = run("memory", "add", file, "Ilse keeps bees.", "--subject", "Ilse", "--embedder", "words", "--json")
    assert json.loads(added) == {"id": 1, "memories": 1}
    run("memory", "add", file, "Bread is baked at dawn.")
    assert json.loads(run("memory", "search", file, "bees", "--json"))[0]["text"] == "Ilse keeps bees."
    assert "Ilse keeps bees." in run("memory", "list", file, "--subject", "ilse")
    run("memory", "export", file, out)
    assert [json.loads(line)["text"] for line in Path(out).read_text(encoding="utf-8").splitlines()][
        1
    ] == "Bread is baked at dawn."
    assert json.loads(run("memory", "forget", file, "--subject", "Ilse", "--json"))["proven"] is True
    assert json.loads(run("memory", "import", file, out, "--json"))["memories"] == 3
    typed = "Hel\x1b[31mlo.\n/memories\n"
    talked = run("chat", "tiny", "--memory", file, "--budget", "200", "--max-new-tokens", "4", typed=typed)
    assert "turn of user: Hel␛[31mlo." in talked
    assert "\x1b" not in talked


def test_memories_of_other_programs_are_read_and_broken_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    lines = [
        {"memory": "Likes tea.", "user_id": "ann", "created_at": "2026-01-02T03:04:05+00:00"},
        {"type": "human", "data": {"content": "Hello."}},
        {"type": "ai", "data": {"content": "Hi."}},
        {"page_content": "A page.", "metadata": {"source": "a.txt"}},
        {"text": "Ours.", "role": "user", "kind": "turn", "subject": "ann"},
        {"text": "Derived.", "kind": "belief"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    entries = read_entries(file)
    assert [(entry.text, entry.role, entry.subject) for entry in entries] == [
        ("Likes tea.", "user", "ann"), ("Hello.", "user", None), ("Hi.", "assistant", None),
        ("A page.", "user", None), ("Ours.", "user", "ann"),
    ]  # fmt: skip
    assert entries[0].created == 1767323045.0
    null = ('{"text": "a", "subject": 3}', '{"type": null, "data": {"content": "a"}}')
    for broken in ("{", "[]", '{"text": 3}', '{"memory": ""}', '{"type": "human"}', *null):
        file.write_text('{"text": "fine"}\n' + broken)
        with pytest.raises(InputError, match="line 2"):
            read_entries(file)
