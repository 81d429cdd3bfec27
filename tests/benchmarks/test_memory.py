"""The benchmark of memories: files in their released formats, scores by hand, figures of every policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.dialogues import Question, abstains, answer_f1, read_dialogues, token_f1
from benchmarks.memory import POLICIES, evidence

from letheon.core.errors import InputError
from letheon.recall.embedders import HashedWords


def longmemeval(number: str, **changes: Any) -> dict[str, Any]:
    """A question in LongMemEval's format, written for this test."""
    filler = [
        [{"role": "user", "content": f"Tell me of ship {i}."}, {"role": "assistant", "content": "It sails."}]
        for i in range(9)
    ]
    told = [
        {"role": "user", "content": "My locker code is 7391.", "has_answer": True},
        {"role": "assistant", "content": "Noted."},
    ]
    return {
        "question_id": number,
        "question_type": "single-session-user",
        "question": "What is my locker code?",
        "answer": 7391,
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": [f"s{i}" for i in range(10)],
        "haystack_dates": [f"2023/05/{29 - i} (Sat) 10:00" for i in range(10)],  # newest first, as in the oracle file
        "haystack_sessions": [*filler, told],
        "answer_session_ids": ["s9"],
    } | changes


LOCOMO = {
    "conversation": {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ann", "dia_id": "D1:1", "text": "I keep bees and grow figs."},
            {"speaker": "Bob", "dia_id": "D1:2", "text": "I like trams."},
        ],
    },
    "qa": [
        {"question": "What does Ann keep?", "answer": "bees, figs", "evidence": ["D1:1"], "category": 1},
        {"question": "What does Bob keep?", "adversarial_answer": "bees", "evidence": ["D1:1"], "category": 5},
    ],
}


def test_longmemeval_is_read_in_the_order_of_time_and_its_evidence_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "longmemeval_s.json"
    file.write_text(json.dumps([longmemeval("q1"), longmemeval("q2_abs", question="What is my sister's name?")]))
    first, second = read_dialogues(file)
    assert first.turns[0].text == "(2023/05/20 (Sat) 10:00) user: My locker code is 7391."
    assert len(first.turns) == 20
    (question,) = first.questions
    assert (question.answers, question.evidence, question.answerable) == (("7391",), {1}, True)
    (question,) = second.questions
    assert (question.answers, question.evidence, question.answerable) == ((), set(), False)
    figures = evidence([first, second], HashedWords(), budget=60)
    assert set(figures) == set(POLICIES)
    assert figures["words"]["evidence_recall"] == 1
    assert figures["window"]["evidence_recall"] == 0
    assert all(row["tokens"] <= 60 and row["ms"] > 0 for row in figures.values())
    assert figures["words"]["abstention_auroc"] == 1


def test_locomo_is_read_and_a_model_is_scored(tmp_path: Path) -> None:
    file = tmp_path / "locomo10.json"
    file.write_text(json.dumps([LOCOMO]))
    (dialogue,) = read_dialogues(file)
    assert dialogue.turns[1].text == "(1:56 pm on 8 May, 2023) Bob: I like trams."
    assert [(one.answers, one.evidence, one.answerable) for one in dialogue.questions] == [
        (("bees", "figs"), {1}, True), ((), {1}, False),
    ]  # fmt: skip

    def answering(messages: list[dict[str, str]]) -> str:
        known = "I keep bees" in messages[0]["content"] and "Ann" in messages[-1]["content"]
        return "The bees" if known else "No information available."

    figures = evidence([dialogue], HashedWords(), 160, answering)["fused"]
    assert (figures["answer_f1"], figures["abstained"], figures["false_abstained"]) == (0.5, 1.0, 0.0)
    assert "abstained" not in evidence([dialogue], HashedWords(), 160, answering, limit=1)["fused"]


@pytest.mark.parametrize(
    "content", ["{", "{}", "[{}]", '[{"haystack_sessions": []}]', '[{"conversation": 3, "qa": []}]']
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        list(read_dialogues(file))


def test_scores_by_hand() -> None:
    assert token_f1("The bees, and a tram!", "bee trams") == 1
    assert token_f1("bees in a hive", "bees") == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))
    assert token_f1("", "bees") == 0
    two = Question("?", ("bees", "figs"), frozenset(), "1", True)
    assert answer_f1("figs, bees", two) == 1
    assert answer_f1("bees", two) == 0.5
    assert abstains("I don't know.")
    assert abstains("No information available")
    assert not abstains("It is known: bees.")


def test_mem0_is_measured_on_the_same_turns_where_it_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "longmemeval_s.json"
    file.write_text(json.dumps([longmemeval("q1")]))
    pytest.importorskip("mem0", reason="pip install mem0ai")
    figures = evidence(list(read_dialogues(file)), HashedWords(), budget=60, mem0=True)["mem0"]
    assert figures["evidence_recall"] == 1
    assert 0 < figures["tokens"] <= 60


def test_mem0_that_is_missing_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "longmemeval_s.json"
    file.write_text(json.dumps([longmemeval("q1")]))
    monkeypatch.setitem(sys.modules, "mem0", None)
    with pytest.raises(InputError, match="Mem0 cannot be imported"):
        evidence(list(read_dialogues(file)), HashedWords(), budget=60, mem0=True)
