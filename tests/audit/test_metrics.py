"""Metrics against numbers worked out by hand, and their traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.audit.measuring.metrics import (
    closer_to_1_better,
    forget_quality,
    model_utility,
    normalised_probability,
    probability,
    true_better,
    truth_ratio,
)
from letheon.core.scoring.memorisation import exact_memorization, extraction_strength
from letheon.core.scoring.overlap import rouge


def test_probability_is_the_geometric_mean_of_the_token_probabilities() -> None:
    assert probability(np.log([0.5, 0.125])) == pytest.approx(0.25)


def test_memorisation_leaves_out_the_end_of_turn() -> None:
    correct = [True, False, True, True, False]  # the last one is the end of turn
    assert exact_memorization(correct) == 0.75
    assert exact_memorization(correct, ends=False) == 0.6
    assert extraction_strength(correct) == 0.5  # two of four tokens must be given
    assert exact_memorization([True]) is None
    assert extraction_strength([True]) is None


def test_extraction_strength_is_zero_when_the_last_token_is_wrong_and_the_fields_form_is_not() -> None:
    wrong_at_last = [True, True, True, False, True]
    assert extraction_strength(wrong_at_last) == 0.0
    assert extraction_strength(wrong_at_last, peer=True) == 0.25
    assert extraction_strength([True] * 5) == extraction_strength([True] * 5, peer=True) == 1.0


@given(st.lists(st.booleans(), min_size=2, max_size=12))
def test_extraction_strength_is_the_longest_right_ending(correct: list[bool]) -> None:
    tokens = correct[:-1]
    endings = [n for n in range(len(tokens) + 1) if all(tokens[len(tokens) - n :])]
    assert extraction_strength(correct) == pytest.approx(max(endings) / len(tokens))
    assert extraction_strength(correct, peer=True) == pytest.approx(max(max(endings), 1) / len(tokens))


def test_truth_ratio_takes_the_geometric_mean_of_the_false_answers() -> None:
    assert truth_ratio(0.5, [0.1, 0.4]) == pytest.approx(0.2 / 0.5)
    assert math.isfinite(truth_ratio(0.0, [0.0, 0.2]))  # a guard, not a division by zero


def test_aggregates_of_truth_ratios() -> None:
    assert closer_to_1_better([0.5, 2.0]) == pytest.approx(0.5)
    assert true_better([0.25, 3.0]) == pytest.approx(0.375)


def test_option_normalised_probability_sums_the_options() -> None:
    assert normalised_probability(0.2, [0.1, 0.1]) == pytest.approx(0.5)


def test_forget_quality_of_a_model_with_itself_is_exactly_one() -> None:
    ratios = [0.2, 0.4, 0.9, 1.3]
    assert forget_quality(ratios, ratios) == 1.0
    assert forget_quality(ratios, [ratio + 5 for ratio in ratios]) == pytest.approx(2 / math.comb(8, 4))


def test_utility_shows_collapse_that_an_arithmetic_mean_hides() -> None:
    assert model_utility([1.0] * 8 + [0.0]) == 0.0
    assert model_utility([0.5] * 9) == pytest.approx(0.5)


def test_rouge_counts_stemmed_words() -> None:
    found = rouge("She was singing songs", "She sings songs")
    assert found.rouge1_recall == 1.0
    assert found.rougeL_recall == 1.0
    assert found.rougeL_f1 == pytest.approx(2 * 0.75 / 1.75)
    assert rouge("", "She sings").rougeL_recall == 0.0
