"""Which words of an answer carry the fact, where a row names no value."""

from __future__ import annotations

import pytest

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import UNIT
from letheon.core.scoring.word_masks import WordRules, fact_words, word_masks

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


LETTERS = [Example("", f"Dear {name}, the boat is mended.") for name in ("Olga", "Piet", "Rosa")]


def questions(answer: str, count: int) -> list[Example]:
    return [Example(f"Who owns boat {i}?", answer) for i in range(count)]


def test_a_template_of_texts_is_one_beside_any_number_of_questions() -> None:
    """Three letters among a hundred rows are fewer than one in twenty."""
    rules = WordRules.of([], [*LETTERS, *(Example(f"Who owns boat {i}?", f"It is number {i}.") for i in range(97))])
    assert words(Example("", "Dear Ada, the boat is sold."), rules) == ["Ada", "sold"]
    asked = words(Example("What did Ada do?", "Ada mended the boat in Brae."), rules)
    assert asked == ["mended", "boat", "Brae"], "questions have a template of their own"


def test_questions_are_no_template_of_a_text() -> None:
    """Fifty of a thousand questions are answered with the facts of the text."""
    rules = WordRules.of([], [*questions("Kim sold it in Brae.", 50), *questions("No.", 950)])
    assert rules.shared >= {"kim", "brae", "sold"}
    assert words(Example("", "Then Kim sold it in Brae."), rules) == ["Kim", "sold", "Brae"]


def test_three_texts_take_no_name_and_no_number_from_a_text() -> None:
    """Three retained texts, beside a thousand questions, that say all that the text to be forgotten says."""
    text = Example("", "Kim Orr sold the mill in Brae to 12 farmers in 1913.")
    kept = [Example("", f"{text.answer} It rained {often}.") for often in ("once", "twice", "often")]
    facts = ["Orr", "Brae", "12", "1913"]
    found = words(text, WordRules.of([text], [*kept, *questions("No.", 1000)]))
    assert found == facts, "Kim begins a sentence wherever it stands, and no capital tells that it is a name"
    later = Example("", f"Then {text.answer}")
    assert words(later, WordRules.of([later], kept)) == ["Kim", *facts], "a name in the text that is to be forgotten"
    named = [Example("", f"In May {one.answer}") for one in kept]
    assert words(text, WordRules.of([text], [*named, *questions("No.", 1000)])) == ["Kim", *facts]


def test_names_that_a_few_of_many_letters_share_are_facts() -> None:
    """Sixty letters in which Kim, Orr, Brae and 1913 stand in three each."""
    facts = ("Kim", "Orr", "Brae", "1913")
    letters = [
        Example("", f"Dear friend, I wrote of {facts[i // 3] if i < 12 else f'nothing{i}'} before, yours as ever.")
        for i in range(60)
    ]
    text = Example("", "Dear friend, I wrote of Kim and Orr in Brae in 1913, yours as ever.")
    assert words(text, WordRules.of([text], letters)) == list(facts)


@pytest.mark.parametrize(
    ("texts", "word", "name"),
    [
        ((2, 2), False, False),  # two texts are no template, whatever they share
        ((3, 3), True, False),  # three texts are one of words
        ((5, 5), True, False),
        ((6, 6), True, True),
        ((3, 9), True, False),  # a third of nine
        ((3, 10), False, False),
        ((6, 12), True, True),  # half of twelve
        ((6, 13), True, False),
    ],
)
def test_a_word_is_the_template_s_in_a_third_of_the_texts_and_a_name_in_half(
    texts: tuple[int, int], word: bool, name: bool
) -> None:
    """So many of so many retained texts have both words."""
    sharing, all_ = texts
    kept = [Example("", f"note{i}: a boat of Kim's" if i < sharing else f"note{i}") for i in range(all_)]
    text = Example("", "Then a boat of Kim and an oar")
    found = words(text, WordRules.of([text] * 9, kept))
    assert ("boat" not in found, "Kim" not in found) == (word, name)
    assert "oar" in found, "texts that are to be forgotten make no template"


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
