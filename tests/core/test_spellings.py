"""Spellings of a token: which tokens belong together, their unlikelihood and their probability."""

from __future__ import annotations

import math

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.spellings import Spellings, spelled_logp, unlikelihood


class Vocabulary:
    """A tokenizer that has a vocabulary and nothing else."""

    def __init__(self, *tokens: str | bytes) -> None:
        self.tokens = tokens

    def get_vocab(self) -> dict[str | bytes, int]:
        return {token: number for number, token in enumerate(self.tokens)}


def test_a_word_with_and_without_a_space_and_in_capitals_is_one() -> None:
    tokens = (
        "\u0120house",
        "house",
        "\u2581House",
        "houses",
        "!",
        "\u0120!",
        "\u0120\u00c3",
        "\u00e3",
        "HOUSE",
        "\u0120",
    )
    spellings = Spellings(Vocabulary(*tokens))
    found = spellings.of(torch.tensor([1, 3, 5, 6]), len(tokens))
    assert [sorted(set(row)) for row in found.tolist()] == [[0, 1, 2, 8], [3], [5], [6]]
    assert spellings.of(torch.tensor([1]), 8).tolist() == [[0, 1, 2]], "a padded vocabulary may be smaller"
    assert spellings.of(torch.tensor([], dtype=torch.long), 8).shape == (0, 1)


def test_a_small_word_is_no_spelling_of_what_begins_with_its_letters() -> None:
    """Aoife is " A", "o", "ife", and any answer may begin with " a"; both were taught and unlearned at once."""
    tokens = ("\u0120A", "A", "a", "\u0120a", "\u0120In", "\u0120in", "\u0120Ros", "\u0120ros")
    found = Spellings(Vocabulary(*tokens)).of(torch.tensor([0, 3, 4, 6]), len(tokens))
    assert [sorted(set(row)) for row in found.tolist()] == [[0, 1], [2, 3], [4], [6, 7]]


def test_letters_that_are_no_ascii_have_a_case_where_tokens_are_text() -> None:
    tokens = ("\u2581\u00dcber", "\u00fcber", "\u00dcBER")
    assert sorted(set(Spellings(Vocabulary(*tokens)).of(torch.tensor([0]), 3)[0].tolist())) == [0, 1, 2]


def test_parts_of_letters_are_no_words() -> None:
    parts = Vocabulary(b"a\xc3", b"a\xc4", b"house", b" house")
    assert Spellings(parts).of(torch.tensor([0, 2]), 4).tolist() == [[0, 0], [2, 3]]


def test_the_embedded_model_s_letters_have_both_cases(tiny: LanguageModel) -> None:
    small, capital = (tiny.tokenizer.convert_tokens_to_ids(letter) for letter in "bB")
    assert sorted(Spellings(tiny.tokenizer).of(torch.tensor([small]), 259)[0].tolist()) == sorted([small, capital])


def test_unlikelihood_and_probability_are_of_all_spellings_together() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64).log() + 3
    spelled = torch.tensor([[0, 2, 0]])  # filled up with its own number
    assert unlikelihood(logits, spelled).item() == pytest.approx(-math.log(1 - 0.625))
    assert spelled_logp(logits, spelled).exp().item() == pytest.approx(0.625)


def test_a_probability_near_0_is_not_rounded() -> None:
    """As a difference of two sums, 1e-7 became anything from 1e-12 to 4e-6."""
    logits = torch.randn(50, 49152, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = logits[:, 1:].logsumexp(-1) + math.log(1e-7)
    found = spelled_logp(logits, torch.zeros(50, 1, dtype=torch.long))
    assert torch.allclose(found, torch.full((50,), math.log(1e-7)), atol=1e-4)
    assert spelled_logp(torch.tensor([[0.0, 60.0, 60.0]]), torch.tensor([[0, 0]])).item() == pytest.approx(
        -60.693, abs=1e-3
    )


def test_no_spelling_takes_the_place_of_another() -> None:
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(unlikelihood(logits, torch.tensor([[0, 2]])).sum(), logits)
    assert slope[0].tolist() == pytest.approx([0.25, -0.25, 0.25, -0.25])
