"""Which tokens carry the fact: given, found by contrast in a model that knows it, or the words of the answer alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring import spans
from letheon.core.scoring.answer_trees import AnswerScore
from letheon.core.scoring.spans import UNKNOWN_SUBJECTS, _phrase, control_probability, find_values, value_probability
from tests import naive

HOMES = {"Ann Lee": "Oslo", "Bob Ray": "New Rome", "Cid Fox": "Bern", "Eva Orr": "Lima"}
FACTS = [
    Example(f"Where does {name} live?", f"{name} lives in {home}.", id=name, subject=name)
    for name, home in HOMES.items()
]


@pytest.fixture
def knowing(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """A model that finds every token likely, but the first token of a home only after the one whose home it is."""

    def scores(model: LanguageModel, rows: Sequence[Example]) -> list[AnswerScore]:
        found = []
        for row in rows:
            tokens, places = model.encoder().answer(row.answer)
            logp = np.full(len(tokens), -0.1)
            home = next(home for home in HOMES.values() if home in row.answer)
            if HOMES.get(row.subject or "") != home:
                first = row.answer.index(home)
                logp[[i for i, (start, stop) in enumerate(places) if start <= first < stop]] = -6.0
            found.append(AnswerScore(logp, logp > -1))
        return found

    monkeypatch.setattr(spans, "_scores", scores)
    return tiny


def test_contrast_finds_the_fact_to_the_end_of_its_phrase(knowing: LanguageModel) -> None:
    found = [row.value for row in find_values(knowing, FACTS)]
    assert found == list(HOMES.values())


@pytest.mark.parametrize(
    ("end", "value"),
    [
        ("1.2 bar.", "1.2 bar"),
        ("71,340. It", "71,340"),
        ("5. It is red.", "5"),
        ("3:16-18 sharp, it", "3:16-18 sharp"),
        ("1.2.3-beta. It", "1.2.3-beta"),
        ("12.03.1999, by day.", "12.03.1999"),
        ("ann@mail.org. It", "ann@mail.org"),
        ("/usr/lib, it", "/usr/lib"),
        ("Bern (in winter).", "Bern"),
        ("東京，冬。", "東京"),
    ],
)
@pytest.mark.parametrize("token", [(8, 10), (9, 10)])  # with the space before it, and one sign alone
def test_a_phrase_ends_at_no_sign_within_a_word(end: str, value: str, token: tuple[int, int]) -> None:
    assert _phrase(f"It bears {end}", [token]) == value


@pytest.mark.parametrize(
    ("answer", "sign", "value"),
    [
        ("It closes above 1.2 bar.", ".2", "1.2 bar"),
        ("It closes above 1.2 bar.", "2 ", "1.2 bar"),
        ("It closes above -5 degrees.", "5", "-5 degrees"),
        ("It holds 71,340 litres.", "340", "71,340 litres"),
        ("She wrote on 12/03/1999.", "1999", "1999"),
        ("She wrote on May 12,1999.", "1999", "1999"),
        ("It opens at 10:30 sharp.", "30", "10:30 sharp"),
        ("She lives in London/UK.", "UK", "UK"),
        ("她的网站是https://ann.org，住在柏林。", "柏", "住在柏林"),
        ("Write to ann@mail.org. It", "mail", "ann@mail.org"),
        ("Her e-mail:ann@mail.org. It", "@", "ann@mail.org"),
        ("See https://ann.org/one, it", "ann", "https://ann.org/one"),
        ("It lies in Bern-Altstadt.", "Alt", "Bern-Altstadt"),
        ("It was opened in 1934.", "1934", "1934"),
        ("It costs 5 and 1.2 bar.", "5", "5"),
    ],
)
def test_a_phrase_begins_at_no_sign_within_a_word(answer: str, sign: str, value: str) -> None:
    place = answer.index(sign)
    assert _phrase(answer, [(place, place + 1)]) == value


def test_a_value_before_the_subject_s_name_is_left_to_the_new_words(knowing: LanguageModel) -> None:
    """Names of another length move it, so that its tokens cannot be laid beside each other."""
    row = Example("Where does Ann Lee live?", "In Oslo lives Ann Lee.", subject="Ann Lee")
    assert find_values(knowing, [row])[0].value == "Oslo lives"


def test_a_known_value_is_probable_and_under_unknown_subjects_it_is_not(knowing: LanguageModel) -> None:
    rows = [replace(row, value=home) for row, home in zip(FACTS, HOMES.values(), strict=True)]
    assert value_probability(knowing, rows) == pytest.approx([np.exp(-0.1)] * 4)
    lengths = [len(home) for home in HOMES.values()]
    expected = [np.exp((-6.0 - 0.1 * (n - 1)) / n) for n in lengths]
    assert control_probability(knowing, rows) == pytest.approx(expected)


def test_the_control_level_is_the_geometric_mean_over_unknown_subjects(tiny: LanguageModel) -> None:
    row = replace(FACTS[0], value="Oslo")
    levels = []
    for name in UNKNOWN_SUBJECTS:
        other = Example(f"Where does {name} live?", f"{name} lives in Oslo.", value="Oslo")
        encoded = tiny.encoder().encode(other)
        logp = naive.row_logp(tiny, encoded).detach().numpy()
        levels.append(logp[np.array(encoded.value)].mean())
    assert control_probability(tiny, [row])[0] == pytest.approx(float(np.exp(np.mean(levels))), rel=1e-4)


def test_values_that_are_given_stay(tiny: LanguageModel) -> None:
    rows = [replace(row, value="lives") for row in FACTS]
    assert find_values(tiny, rows) == rows


@pytest.mark.parametrize(
    ("prompt", "answer", "value"),
    [
        ("What is the tallest hill?", "The tallest hill is Mount Grey, in the east.", "Mount Grey, in the east"),
        ("Who wrote it?", "It was Ada.", "Ada"),
        ("Is it so?", "It is so.", "It is so."),  # nothing new: all of it
        ("How far?", "How far: 1.2 miles.", "1.2 miles"),  # no end within a number
        ("What is her address?", "Her address is ann@mail.org, by day.", "ann@mail.org, by day"),
        ("Where is it kept?", "It is kept in /usr/lib.", "/usr/lib"),
        ("How far is 2 of 1?", "2 of 1 is 1.2", "1.2"),
    ],
)
def test_without_a_subject_the_words_that_the_question_does_not_give_count(
    prompt: str, answer: str, value: str, tiny: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="letheon"):
        assert find_values(tiny, [Example(prompt, answer)])[0].value == value
    assert "1 of 1 rows have no subject" in caplog.text


def test_there_is_no_control_level_without_value_or_subject_or_where_the_value_names_the_subject(
    tiny: LanguageModel,
) -> None:
    rows = [
        FACTS[0],
        Example("Who?", "She.", value="She"),
        Example("Who is Ann?", "Ann is Ann Lee.", subject="Ann", value="Ann Lee"),
        replace(FACTS[1], value="Rome"),
    ]
    levels = control_probability(tiny, rows)
    assert levels[:3] == [None, None, None]
    assert levels[3] is not None


def test_every_value_stands_in_its_answer(tiny: LanguageModel) -> None:
    for row in find_values(tiny, FACTS):
        assert row.value
        assert row.value in row.answer
