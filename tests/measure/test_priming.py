"""Priming: scores by hand, key words as they are tokenised, the order of presentations, and that nothing is left."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.priming import (
    Priming,
    Reading,
    Sample,
    keyword_logp,
    log_priming,
    predict,
    read_samples,
)
from letheon.measure.priming_study import in_context, learn_text, study

pytestmark = pytest.mark.oracle("outlandish")

PREFIXES = {"colours": ["the sky is", "her coat was"], "foods": ["we ate", "he cooked a"]}
SAMPLE = Sample("the banana is mauve today", "the banana is", "mauve", "colours", "wrong exemplar", "1")


def reading(own: float, theme: list[float]) -> Reading:
    return Reading(own, np.log(theme), np.log([0.1, 0.1]))


def test_the_scores_by_hand() -> None:
    """P 0.1 -> 0.5 and 0.2 -> 0.2: ratios 5 and 1, their mean 3."""
    found = Priming(SAMPLE, reading(math.log(0.01), [0.1, 0.2]), reading(math.log(0.5), [0.5, 0.2]))
    assert found.log_priming == pytest.approx(math.log(3))
    assert found.log_memorisation == pytest.approx(math.log(50))
    row = found.to_json()
    assert row["mean log ratio"] == pytest.approx(math.log(5) / 2)
    assert row["mean change of probability"] == pytest.approx(0.2)
    assert row["log priming, another theme"] == pytest.approx(0.0)


def test_tiny_probabilities_stay_finite() -> None:
    assert log_priming(np.array([-900.0]), np.array([-2.0])) == pytest.approx(898.0)


def test_the_prediction_is_spearmans_overall_and_within_key_words() -> None:
    """Within each word the relation rises, between words it falls: the two must not be confused."""
    own = [-1.0, -2.0, -3.0, -11.0, -12.0, -13.0]
    primed = [1.3, 1.2, 1.1, 3.3, 3.2, 3.1]
    results = [
        Priming(
            Sample(f"a {word}", "a", word, "colours"), Reading(p, np.zeros(2), np.zeros(2)),
            Reading(0.0, np.full(2, s), np.zeros(2)),
        )
        for p, s, word in zip(own, primed, "xxxyyy", strict=True)
    ]  # fmt: skip
    found = predict(results)
    assert found.spearman.value == pytest.approx(float(spearmanr(own, primed).statistic))
    assert found.spearman.value < 0
    assert found.within.value == pytest.approx(1.0)
    assert found.below == pytest.approx(3.2)
    assert found.above == pytest.approx(1.2)


def test_a_key_word_is_scored_with_its_space_over_all_its_tokens(tiny: LanguageModel) -> None:
    """Against a plain forward pass in float64."""
    prefix, word = "the sky is", "mauve"
    ids = tiny.encoder().answer(f"{prefix} {word}", end=False)[0]
    start = list(tiny.encoder().prompt(""))
    with torch.no_grad():
        logits = tiny.model(torch.tensor([start + ids])).logits[0].double()
    first = len(start) + len(tiny.encoder().answer(prefix, end=False)[0])
    steps = logits.log_softmax(-1)
    expected = sum(float(steps[i - 1, (start + ids)[i]]) for i in range(first, len(start + ids)))
    assert keyword_logp(tiny, [prefix, prefix + " "], [word, word]) == pytest.approx([expected] * 2, abs=1e-4)


def test_a_reading_holds_the_sample_the_theme_and_another_theme(tiny: LanguageModel) -> None:
    found = read_samples(tiny, [SAMPLE], PREFIXES)[0]
    expected = keyword_logp(tiny, ["the banana is", *PREFIXES["colours"], *PREFIXES["foods"]], ["mauve"] * 5)
    assert [found.own, *found.theme, *found.other] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_text_takes_one_place_in_every_kth_batch(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from letheon.retain.learner import Learner

    seen: list[list[int]] = []
    monkeypatch.setattr(Learner, "one_step", lambda self, rows: seen.append(rows.index.tolist()))
    learn_text(tiny, SAMPLE.text, ["one", "two", "three"], presentations=3, every=2, batch_size=2)
    assert [batch[0] == 0 for batch in seen] == [True, False, True, False, True, False]
    assert all(0 not in batch[1:] for batch in seen)
    assert {row for batch in seen for row in batch} == {0, 1, 2, 3}
    seen.clear()
    learn_text(tiny, SAMPLE.text, presentations=3)
    assert seen == [[0]] * 3


def test_a_study_learns_measures_every_cure_and_leaves_the_model_as_it_was(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    cures = {"undone": lambda old, new: old, "kept": lambda old, new: new}
    found = study(tiny, [SAMPLE], PREFIXES, ["a b c"], cures=cures, presentations=5, batch_size=2, learning_rate=3e-3)
    assert tiny.parameters_hash() == before
    plain, undone, kept = found
    assert plain.log_memorisation > 1
    assert undone.log_memorisation == pytest.approx(0, abs=1e-6)
    assert undone.log_priming == pytest.approx(0, abs=1e-6)
    assert kept.log_priming == plain.log_priming


def test_a_strategy_may_learn_the_text(tiny: LanguageModel) -> None:
    """Everything ignored: nothing was learned."""
    before = tiny.parameters_hash()
    learn_text(tiny, SAMPLE.text, ["a b c"], presentations=2, batch_size=2, strategy="dilution:share=1")
    assert tiny.parameters_hash() == before


def test_in_context_the_text_stands_before_every_prefix(tiny: LanguageModel) -> None:
    found = in_context(tiny, [SAMPLE], PREFIXES)[0]
    told = [f"{SAMPLE.text} {prefix}" for prefix in ("the banana is", *PREFIXES["colours"])]
    assert [found.after.own, *found.after.theme] == pytest.approx(
        keyword_logp(tiny, told, ["mauve"] * 3).tolist(), abs=1e-4
    )


def test_what_cannot_be_scored_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="does not begin with the prefix"):
        Sample("the banana is ripe", "the banana is", "mauve", "colours")
    with pytest.raises(InputError, match="no prefixes"):
        read_samples(tiny, [SAMPLE], {"foods": ["we ate"]})
