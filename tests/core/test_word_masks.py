"""Which words of an answer carry the fact, where a row names no value."""

from __future__ import annotations

import pytest

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.word_masks import UNIT, WordRules, fact_words, word_masks

NO_RULES = WordRules()


def words(row: Example, rules: WordRules = NO_RULES) -> list[str]:
    return [word.group() for word in fact_words(row, rules)]


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("What is the tallest hill?", "The tallest hill is Mount Grey, in the east.", ["Mount", "Grey", "east"]),
        ("Who wrote it?", "It was Ada.", ["Ada"]),
        ("What is Ada's trade?", "Ada's trade is that of a mason.", ["mason"]),
        ("Is it so?", "It is so.", ["It", "is", "so"]),  # nothing is new: all of it
        ("", "A hut by the sea.", ["hut", "sea"]),  # running text has no question
        ("Who came next?", "It was Theresa May.", ["Theresa", "May"]),
        ("What did Theresa May do?", "It may be that May will run it.", ["run"]),  # her name is the question's
        ("What will be?", "May it be calm. Will it?", ["calm"]),
        ("Who is it?", "Dr. May and Mr. Will Vint, from 3. May on.", ["Dr", "May", "Mr", "Will", "Vint", "3", "May"]),
    ],
)
def test_words_of_the_question_and_function_words_carry_no_fact(prompt: str, answer: str, expected: list[str]) -> None:
    assert words(Example(prompt, answer)) == expected


def test_words_of_a_template_carry_no_fact_unless_nothing_else_is_new() -> None:
    retain = [Example(f"Who began firm {i}?", f"It was founded by person {i} in some town.") for i in range(4)]
    rules = WordRules.of([], retain)
    assert words(Example("Who began Orme?", "It was founded by Tilda in Brae."), rules) == ["Tilda", "Brae"]
    assert words(Example("Who began Orme?", "It was founded."), rules) == ["founded"]
    few = WordRules.of([], retain[:2])
    assert words(Example("Who began Orme?", "It was founded by Tilda."), few) == ["founded", "Tilda"]


def test_a_template_of_texts_is_one_beside_any_number_of_questions() -> None:
    """Three letters among a hundred rows are fewer than one in twenty."""
    letters = [Example("", f"Dear {name}, the boat is mended.") for name in ("Olga", "Piet", "Rosa")]
    questions = [Example(f"Who owns boat {i}?", f"It is number {i}.") for i in range(97)]
    rules = WordRules.of([], [*letters, *questions])
    assert [word.group() for word in fact_words(Example("", "Dear Ada, the boat is sold."), rules)] == ["Ada", "sold"]
    asked = fact_words(Example("What did Ada mend?", "Ada mended the boat."), rules)
    assert [word.group() for word in asked] == ["mended", "boat"], "questions have a template of their own"


def test_a_name_that_other_questions_give_counts_only_where_it_begins() -> None:
    forget = [
        Example("Who was born on 3 May?", "The author is Moshe Ben-David, a mason."),
        Example("Where does Moshe Ben-David live?", "Moshe Ben-David lives in Rome."),
    ]
    rules = WordRules.of(forget, [])
    assert words(forget[0], rules) == ["author", "Moshe", "mason"]
    assert words(forget[1], rules) == ["lives", "Rome"]


def test_the_subject_carries_no_fact() -> None:
    assert words(Example("Where does she live?", "Ann Lee lives in Oslo.", subject="Ann Lee")) == ["lives", "Oslo"]


def test_masks_mark_the_tokens_of_the_words(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    row = Example("Where does Ann live?", "Ann now dwells in Oslo.")
    given = Example("Where does Ann live?", "Ann lives in Oslo.", value="Oslo")
    mask, of_value = word_masks(encoder, [row, given], [])
    tokens, spans = encoder.answer(row.answer)
    marked = "".join(row.answer[start:stop] for (start, stop), on in zip(spans, mask, strict=True) if on)
    assert len(mask) == len(tokens)
    assert marked.replace(" ", "") == "nowdwellsOslo"
    assert of_value == encoder.encode(given).value


def test_the_end_of_turn_is_no_part_of_a_fact(tiny: LanguageModel) -> None:
    mask = word_masks(tiny.encoder(), [Example("Where?", "In Oslo.")], [])[0]
    assert mask[-1] is False


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Write to <ann@mail.org>, or see (http://x.org/ab).", ["ann@mail.org", "http://x.org/ab"]),
        ("In /usr/local/lib since 12:30, 71,340 times.", ["/usr/local/lib", "12:30", "71,340"]),
        ("ann@mail.org\nbea@mail.org", ["ann@mail.org", "bea@mail.org"]),
        ("“ann@mail.org”, [xs/ys].", ["ann@mail.org", "xs/ys"]),
        ("A year, 1951.", []),
    ],
)
def test_addresses_paths_and_divided_numbers_are_one_thing(text: str, units: list[str]) -> None:
    assert UNIT.findall(text) == units
