"""The probability of a fact by its words, and whether an answer says a value."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.word_probability import fact_probabilities, fact_probability, texts_of, words_of


def told(tokens: list[Any]) -> Any:
    """A tokenizer whose tokens are told, and stand for their own text."""
    texts = [token.decode(errors="replace") if isinstance(token, bytes) else token for token in tokens]
    return SimpleNamespace(
        convert_ids_to_tokens=lambda ids: [tokens[i] for i in ids],
        decode=lambda ids: "".join(texts[i] for i in ids).replace("\u0120", " ").replace("\u2581", ""),
    )


def probability(tokens: list[Any], chances: list[float]) -> float:
    everything = torch.ones(len(tokens), dtype=torch.bool)
    return fact_probability(told(tokens), torch.arange(len(tokens)), torch.tensor(chances).log(), everything)


@pytest.mark.parametrize(
    ("tokens", "chances", "expected"),
    [
        (["\u0120D", "ur", "ham"], [0.5, 1e-9, 1e-9], 0.0),  # another name begins with a D
        (["\u0120New", "\u0120York"], [0.4, 0.2], 0.3),
        (["\u2581New", "\u2581York"], [0.4, 0.2], 0.3),
        ([b" New", b" York"], [0.4, 0.2], 0.3),
        (["\u0120in", "land"], [0.9, 0.4], 0.6),
        (['\u0120"', "Blue", "\u0120Door", '"'], [1e-6, 0.9, 0.5, 1e-6], 0.7),  # without its quotation marks
        (["\u0120Seattle", ","], [0.97, 1e-6], 0.97),
        (["北", "京"], [0.9, 1e-6], 0.45),  # a letter is a word
        (["\ufffd", "\ufffd"], [0.9, 0.9], 0.9),  # parts of letters
        (["1", "9"], [0.1, 0.1], 0.0),  # a guess
        (["1", "9"], [0.15, 0.15], 0.05),
        (["199"], [0.001], 0.0),
        (["\u0120", "1", "9"], [0.99, 0.1, 0.1], 0.0),
        (["\u0120$", "5", "2"], [0.99, 0.1, 0.1], 0.0),
        (["4", "5", "%"], [0.1, 0.1, 0.99], 0.0),
        (["4", "th"], [0.2, 0.2], 0.2),
        (["$"], [0.6], 0.6),  # nothing but a sign
    ],
)
def test_a_fact_is_as_likely_as_its_words(tokens: list[Any], chances: list[float], expected: float) -> None:
    assert probability(tokens, chances) == pytest.approx(expected, abs=1e-5)


def test_no_number_is_not_hidden_and_nothing_is_nothing() -> None:
    assert math.isnan(probability(["a"], [math.nan]))
    nothing = torch.zeros(1, dtype=torch.bool)
    assert fact_probability(told(["a"]), torch.zeros(1, dtype=torch.long), torch.zeros(1), nothing) == 0.0


def test_what_stands_between_words_parts_them() -> None:
    assert words_of(["a", ",", "b"], [True, False, True]) == [[0], [2]]
    assert words_of(["Jean", "-", "Cl", "aude"], [True] * 4) == [[0], [2, 3]]


def test_a_batch_has_one_probability_per_row(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    rows = encoder.encode_all(
        [Example("Who?", "It was Bob.", value="Bob"), Example("Where?", "In Rome.", value="Rome")]
    )
    with torch.no_grad():
        scores = score(tiny, encoder.collate(rows, [0, 1]))
    alone = [fact_probabilities(tiny.tokenizer, score(tiny, encoder.collate([row], [0])))[0] for row in rows]
    assert fact_probabilities(tiny.tokenizer, scores) == pytest.approx(alone, rel=1e-4)
    mine = scores.row == 1
    by_hand = float(scores.logp[mine & scores.value].mean().exp())  # one word
    assert alone[1] == pytest.approx(by_hand, rel=1e-4)


def test_texts_keep_the_space_before_a_word() -> None:
    assert texts_of(told(["\u2581New", "ton", "\u0120Hill"]), [0, 1, 2]) == [" New", "ton", " Hill"]


def test_parts_of_a_letter_belong_to_the_word_around_them() -> None:
    part = "\ufffd"
    assert words_of([" Dvo", part, part, "\u00e1k"], [True] * 4) == [[0, 1, 2, 3]]
    assert words_of([part, part, part, "\u4eac", "\u5e02"], [True] * 5) == [[0, 1, 2], [3], [4]]
    # the second half of a letter, certain once the first is said, does not keep a word that is gone
    assert probability([part, part, part], [1e-4, 1.0, 1.0]) == pytest.approx(1e-4, rel=1e-3)
    assert probability([" Dvo", part, part], [1e-6, 1e-2, 1.0]) == pytest.approx(1e-4, rel=1e-3)
