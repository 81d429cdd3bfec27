"""Requests that cannot be served whole: which retain rows stand in the way."""

from __future__ import annotations

from dataclasses import replace

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
        "retain rows k0 state sentence 2 of forget row t0: it cannot be forgotten while they are kept",
        "retain rows k1 state sentence 3 of forget row t0: it cannot be forgotten while they are kept",
    ]


def test_a_kept_text_of_another_village_or_year_states_no_sentence() -> None:
    other_year = Example("", "Ada Orr built its mill in 1802.", id="k0")
    other_village = Example("", "Dunmoor is a village. The ferry is painted green every spring.", id="k1")
    name_alone = Example("", "Pellow lies on the Teign.", id="k2")
    assert conflicts(Request((CHRONICLE,), (other_year, other_village, name_alone))) == []
