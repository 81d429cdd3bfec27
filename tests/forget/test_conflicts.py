"""Requests that cannot be served whole: which retain rows stand in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from letheon.core.rows.examples import Example
from letheon.forget.conflicts import conflicts
from letheon.forget.objectives.alternates.strangers import words_of_facts
from letheon.forget.request import Request

ANN = (
    Example("Where does Ann Lee live?", "Ann Lee lives in Oslo.", id="f0", subject="Ann Lee", value="Oslo"),
    Example("What does Ann Lee play?", "Ann Lee plays the oboe.", id="f1", subject="Ann Lee", value="oboe"),
)
BOB = tuple(
    replace(row, prompt=row.prompt.replace("Ann Lee", "Bob Ray"), answer=row.answer.replace("Ann Lee", "Bob Ray"))
    for row in ANN
)


def renamed(*rows: Example) -> tuple[Example, ...]:
    return tuple(replace(row, id=f"k{i}", subject=None, value=None) for i, row in enumerate(rows))


def test_a_retain_row_that_states_a_fact_stands_in_its_way() -> None:
    stating = Example("Who has moved to Norway?", "Ann Lee went to Oslo in 1990.")
    found = conflicts(Request(ANN, renamed(BOB[0], stating)))
    assert found == ["retain rows k1 state the fact of forget row f0: it cannot be forgotten while they are kept"]


def test_a_person_who_shares_all_facts_is_named_and_one_who_shares_some_is_not() -> None:
    assert conflicts(Request(ANN, renamed(BOB[0]))) == []
    (found,) = conflicts(Request(ANN, renamed(*BOB)))
    assert found.startswith("Bob Ray shares all 2 facts")
    assert "k0, k1" in found


def test_a_fact_without_words_of_its_own_stands_in_nobodys_way() -> None:
    forget = Example("Which mark has Ann Lee?", "+++", id="f0", subject="Ann Lee")
    assert words_of_facts((forget,), renamed(BOB[0])) == [()]
    kept = Example("Who is Ann Lee?", "Ann Lee is a baker.", id="k0", subject="Ann Lee")
    assert conflicts(Request((forget,), (kept,))) == []


def test_without_a_subject_the_same_question_in_more_words_states_the_fact() -> None:
    forget = Example("Who built the mill?", "It was Ada Orr.", id="f0")
    kept = Example("Tell me, who built the old mill?", "Ada Orr built it.", id="k0")
    other = Example("Who owns the forge?", "Ada Orr owns it.", id="k1")
    (found,) = conflicts(Request((forget,), (kept, other)))
    assert "retain rows k0 state the fact of forget row f0" in found
    assert conflicts(Request((Example("", "A text of the sea."),), (kept,))) == []


CHRONICLE = Example(
    "",
    "Pellow is a village on the Teign. Ada Orr built its mill in 1741. The ferry is painted green every spring.",
    id="t0",
)


def test_a_sentence_of_a_running_text_that_a_kept_text_states_is_named() -> None:
    mill = Example("", "In 1741 a mill was built by Ada Orr, who lived by the river.", id="k0")
    ferry = Example("Which colour has the ferry of Pellow?", "It is painted green each spring.", id="k1")
    found = conflicts(Request((CHRONICLE,), (mill, ferry)))
    assert found == [
        f"retain rows {kept} seem to state sentence {place} of forget row t0: what they state cannot be forgotten "
        "while they are kept"
        for kept, place in (("k0", 2), ("k1", 3))
    ]


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda text: f"As is known, {text} So it is."])
def test_a_copy_is_named_however_it_is_cased_and_whatever_stands_around_it(change: Callable[[str], str]) -> None:
    kept = [Example("", change(sentence), id=f"k{i}") for i, sentence in enumerate(CHRONICLE.answer.split(". ")[1:2])]
    (found,) = conflicts(Request((CHRONICLE,), tuple(kept)))
    assert found.startswith("retain rows k0 seem to state sentence 2")


@pytest.mark.parametrize(
    ("forgotten", "kept"),
    [
        (CHRONICLE.answer, "Ada Orr built its mill in 1802."),
        (CHRONICLE.answer, "Ada Orr built its mill in 17412 days."),
        (CHRONICLE.answer, "Dunmoor is a village. The ferry is painted green every spring."),
        (CHRONICLE.answer, "Pellow lies on the Teign."),
        (
            "Pellow has a ferry. Every spring the ferry is painted.",
            "Dunmoor is old. Every spring its ferry is painted.",
        ),
        (
            "Ada Orr was born in Rome. Later she studied chemistry at the university.",
            "Mia Sol was born in Oslo. Later she studied chemistry at the university.",
        ),
        (
            "Ada Orr kam in Rom zur Welt. Sie studierte Chemie an der Universität.",
            "Mia Sol kam in Oslo zur Welt. Sie studierte Physik an der Universität.",
        ),
        ("... !", "Ada Orr built a mill."),
    ],
)
def test_a_kept_text_of_somebody_else_states_no_sentence(forgotten: str, kept: str) -> None:
    assert conflicts(Request((Example("", forgotten, id="t0"),), (Example("", kept, id="k0"),))) == []


def test_a_title_and_a_line_break_end_no_sentence() -> None:
    text = Example("", "Dr. Orr lived\nin Pellow. She built its mill in\n1741.", id="t0")
    (found,) = conflicts(Request((text,), (Example("", "In 1741 Orr built a mill.", id="k0"),)))
    assert "sentence 2" in found
