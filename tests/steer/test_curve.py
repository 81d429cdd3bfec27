"""The curve: measures by hand, what is recommended and what is not, and the page."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import Estimate, estimate_mean
from letheon.steer.curve import (
    Curve,
    CurveSettings,
    Point,
    collapses,
    kl_divergence,
    measure_curve,
    recommend,
    repetition,
    state_classifier,
    word_classifier,
)
from letheon.steer.curve_page import curve_rows, render_curve
from letheon.steer.method import fit
from letheon.steer.texts import Contrast
from tests.steer.models import contrast

AROUND = (-0.04, 0.02, 0.02, 0.0)
POINT = Point(0.0, Estimate(0.2, 0.1, 0.3, 4), 10.0, 0.0, 0.0, 0.05, rates=tuple(0.2 + d for d in AROUND))


def at(strength: float, target: float, perplexity: float = 10.5, repeated: float = 0.05, wide: float = 1.0) -> Point:
    rates = tuple(target + wide * d for d in reversed(AROUND))
    rate = estimate_mean(rates)
    return replace(POINT, strength=strength, target=rate, perplexity=perplexity, repetition=repeated, rates=rates)


def test_measures_by_hand() -> None:
    before, after = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl_divergence(before, after) == pytest.approx(expected)
    assert repetition("a b c d") == 0.0
    assert repetition("no no no no no") == pytest.approx(2 / 3)


def test_the_strongest_effect_with_small_side_effects_is_recommended() -> None:
    ours = [POINT, at(1.0, 0.6), at(2.0, 0.9, perplexity=25.0), at(3.0, 0.8, repeated=0.6)]
    random = [[POINT, at(1.0, 0.3), at(2.0, 0.3), at(3.0, 0.3)]]
    assert recommend(ours, random, 0.9)[0] == 1.0
    assert [collapses(point, POINT) for point in ours] == [False, False, True, True]
    above = [[POINT, at(1.0, 0.7), at(2.0, 0.3), at(3.0, 0.3)]]
    best, reason = recommend(ours, above, 0.9)
    assert best is None
    assert "random" in reason
    assert "cannot be told apart" in recommend(ours, random, 0.5)[1]


def test_a_difference_that_chance_explains_recommends_nothing() -> None:
    random = [[POINT, at(1.0, 0.22)], [POINT, at(1.0, 0.25)]]
    assert recommend([POINT, at(1.0, 0.3)], random, 0.9)[0] == 1.0
    assert recommend([POINT, at(1.0, 0.3, wide=8.0)], random, 0.9)[0] is None
    assert recommend([POINT, at(1.0, 0.3, wide=8.0)], [], 0.9)[0] is None
    nearer = [[POINT, at(1.0, 0.29)], [POINT, at(1.0, 0.29, wide=4.0)]]
    assert recommend([POINT, at(1.0, 0.3)], nearer, 0.9)[0] is None


def test_without_random_directions_or_with_one_prompt_the_reason_says_so() -> None:
    best, reason = recommend([POINT, at(1.0, 0.6)], [], 0.9)
    assert best == 1.0
    assert "no random direction" in reason
    assert "random" not in recommend([POINT, at(1.0, 0.1)], [], 0.9)[1]
    one = [replace(point, rates=point.rates[:1]) for point in (POINT, at(1.0, 0.9))]
    assert recommend(one, [], 0.9) == (None, "one prompt does not show what is more than chance")


def test_a_perplexity_of_no_number_is_a_collapse_and_never_recommended() -> None:
    broken = at(1.0, 0.9, perplexity=math.nan)
    assert collapses(broken, POINT)
    assert recommend([POINT, broken], [], 0.9)[0] is None


def test_the_classifier_sees_words() -> None:
    texts = Contrast(
        [Example("", f"please do {one}") for one in "abcdefgh"], [Example("", f"do {one}, fool") for one in "abcdefgh"]
    )
    classify, accuracy = word_classifier(texts)
    assert accuracy == 1.0
    kind, rude = classify(["please wait", "wait, fool"])
    assert kind > 0.6 > 0.4 > rude


def test_the_judge_of_states_reads_the_texts_with_the_model(tiny: LanguageModel) -> None:
    texts = Contrast(
        [Example("", f"{one} 111111") for one in "abcdefgh"], [Example("", f"{one} zzzzzz") for one in "abcdefgh"]
    )
    classify, accuracy = state_classifier(tiny, texts)
    assert accuracy == 1.0
    like, unlike, _ = classify(["k 1111111", "k zzzzzzz", ""])
    assert like > 0.6 > 0.4 > unlike
    with pytest.raises(InputError, match="judge"):
        CurveSettings(judge="letters")  # type: ignore[arg-type]  # what a user may write


def test_a_curve_and_its_page(tiny: LanguageModel) -> None:
    settings = CurveSettings((1.0, 40.0), random=1, max_new_tokens=4)
    steering = fit(tiny, contrast(), "mean_difference")
    curve = measure_curve(
        tiny, [steering], contrast(), prompts=["Hi <b>", "Why?"], neutral=["A cat."], settings=settings
    )
    assert [point.strength for point in curve.points] == [0.0, 1.0, 40.0]
    assert curve.points[0].kl == pytest.approx(0.0, abs=1e-6)
    assert curve.points[0] == curve.random[0][0]
    assert curve.points[2].kl > curve.points[1].kl > 0
    assert curve_rows(curve)[0][2] == "-"
    assert curve.points[1].target.value == pytest.approx(sum(curve.points[1].rates) / 2)
    page = render_curve(curve)
    assert page.count("<svg") == 4
    assert "mathdefault" not in page, "a tick is no formula"
    assert "Hi &lt;b&gt;" in page
    assert "The model collapses at 1, 40." in render_curve(replace(curve, collapsed=(1.0, 40.0)))
    assert isinstance(curve, Curve)
    with pytest.raises(InputError, match="finite"):
        CurveSettings((math.inf,))
