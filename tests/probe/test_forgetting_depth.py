"""Forgetting depth: ratios and distances by hand, probes on planted answers, rows refused by number, a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.scoring.answer_trees import score_answers
from letheon.probe import forgetting_depth as depth
from letheon.probe.choices import (
    Choice,
    answered,
    forget_ratio,
    option_probabilities,
    read_choices,
    relabelled,
)
from letheon.probe.forgetting_depth import distances, forgetting_depth, probe_accuracy, untrained, variability

ROWS = [
    Choice(f"Is half of number {number} odd?", ("no", "yes"), number // 2 % 2, f"g{number // 2}")
    for number in range(24)
]


# Rows


def test_rows_are_read_with_the_right_option_as_text_or_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [
        {"prompt": "a?", "options": ["x", "y"], "gold": "y", "group": "one"},
        {"prompt": "b?", "options": ["x", "y", "z"], "gold": 0},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert read_choices(file) == [Choice("a?", ("x", "y"), 1, "one"), Choice("b?", ("x", "y", "z"), 0)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": " ", "options": ["x", "y"], "gold": 0}, "row 2, field 'prompt'"),
        ({"prompt": "a", "options": ["x"], "gold": 0}, "row 2, field 'options'"),
        ({"prompt": "a", "options": ["x", "x"], "gold": 0}, "row 2, field 'options'"),
        ({"prompt": "a", "options": ["x", "y"], "gold": 2}, "row 2, field 'gold'"),
        ({"prompt": "a", "options": ["x", "y"], "gold": True}, "row 2, field 'gold'"),
        ({"prompt": "a", "options": ["x", "y"], "gold": "z"}, "row 2, field 'gold'"),
        (["a"], "row 2"),
    ],
)
def test_bad_rows_are_refused_with_their_number(tmp_path: Path, row: object, words: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "b", "options": ["x", "y"], "gold": 0}\n' + json.dumps(row))
    with pytest.raises(InputError) as error:
        read_choices(file)
    assert words in error.value.problem


def test_random_answers_are_fixed_and_carry_no_information() -> None:
    many = [Choice(f"{i}?", ("a", "b", "c", "d"), i % 4) for i in range(2000)]
    said = relabelled(many, "random", 3)
    assert said == relabelled(many, "random", 3) != relabelled(many, "random", 4)
    right = np.mean([row.answer == one.answer for row, one in zip(said, many, strict=True)])
    assert right == pytest.approx(0.25, abs=0.03)  # three standard errors of 2,000 draws
    answers = [row.answer for row in said]
    assert {answers.count(option) for option in "abcd"} == {500}, "the labels teach no bias"
    flipped, true = relabelled(many, "flipped"), relabelled(many, "true")
    assert not any(row.answer == one.answer for row, one in zip(flipped, many, strict=True))
    assert all(row.answer == one.answer for row, one in zip(true, many, strict=True))


# Measures


@pytest.mark.oracle("unforgettable")
def test_option_probabilities_are_the_softmax_of_summed_log_probabilities(tiny: LanguageModel) -> None:
    row = Choice("What is it?", ("a cat", "no"), 0)
    logps = [float(score.logp.sum()) for score in score_answers(tiny, [(row.prompt, row.options)])[0]]
    (found,) = option_probabilities(tiny, [row])
    assert found == pytest.approx(torch.tensor(logps).softmax(0).numpy(), abs=1e-6)


@pytest.mark.oracle("unforgettable")
def test_measures_and_ratio_by_hand() -> None:
    rows = [Choice("a", ("x", "y"), 0), Choice("b", ("x", "y"), 1)]
    before = answered(rows, [np.array([0.9, 0.1]), np.array([0.2, 0.8])])
    after = answered(rows, [np.array([0.6, 0.4]), np.array([0.7, 0.3])])
    assert (before.accuracy.value, after.accuracy.value) == (1.0, 0.5)
    assert after.gold_probability == pytest.approx((0.6 + 0.3) / 2)
    assert after.confidence == pytest.approx((0.6 + 0.7) / 2)
    assert after.from_uniform == pytest.approx((0.1 + 0.2) / 2)
    assert after.commonest == 1.0  # it says x to both: near chance in accuracy, and a collapse
    assert forget_ratio(before, after) == 1.0
    assert forget_ratio(before, before) == 0.0
    assert forget_ratio(after, after) is None  # nothing was known


@pytest.mark.oracle("unforgettable")
def test_variability_and_distances_by_hand() -> None:
    states = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert variability(states) == pytest.approx(1 / 5)  # squared distances 1 and 1, squared norms 1 and 9
    assert variability(torch.ones(3, 2)) == 0
    assert distances(torch.tensor([[2.0, 2.0]]), states).tolist() == pytest.approx([4 / 5])


# Probes


def planted(answers: dict[tuple[int, ...], float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of states: noise, and noise with a number in one coordinate."""

    def states(model: LanguageModel, rows: list[tuple[int, ...]], **_: object) -> torch.Tensor:
        noise = torch.randn(2, len(rows), 6, generator=torch.Generator().manual_seed(0))
        noise[1, :, 2] += torch.tensor([8.0 * answers[tuple(row)] for row in rows])
        return noise

    monkeypatch.setattr(depth, "token_states", states)


@pytest.mark.oracle("unforgettable")
def test_a_recurring_answer_is_read_from_the_prompt(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    planted({tuple(tiny.encoder().prompt(row.prompt)): row.gold for row in ROWS}, monkeypatch)
    noise, told = probe_accuracy(tiny, ROWS)
    assert told > 0.9  # 24 rows, each predicted from about 19
    assert noise < 0.85
    assert probe_accuracy(tiny, ROWS, shuffled=True)[1] < 0.85  # 24 guesses


@pytest.mark.oracle("unforgettable")
def test_answers_of_their_own_are_told_by_option(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Choice(f"Name {i}?", (f"red {i}", f"blue {i}", f"green {i}"), i % 3) for i in range(20)]
    encoder = tiny.encoder()
    told = {
        (*encoder.prompt(row.prompt), *encoder.answer(option, end=False)[0]): float(i == row.gold)
        for row in rows
        for i, option in enumerate(row.options)
    }
    planted(told, monkeypatch)
    noise, found = probe_accuracy(tiny, rows)
    assert found == 1.0
    assert noise < 0.7  # a third is chance
    assert probe_accuracy(tiny, rows, shuffled=True)[1] < 0.7


def test_the_untrained_control_has_other_weights_and_the_same_words(tiny: LanguageModel) -> None:
    fresh = untrained(tiny, 1)
    assert fresh.parameters_hash() == untrained(tiny, 1).parameters_hash() != tiny.parameters_hash()
    assert fresh.encoder().prompt("Who?") == tiny.encoder().prompt("Who?")


# The check


def test_a_model_against_itself_has_forgotten_nothing(tiny: LanguageModel) -> None:
    report = forgetting_depth(tiny, tiny, ROWS[:12], ROWS[12:], others={"same": ROWS[:4]})
    assert report.ratio_held_out in (0.0, None)
    assert all(item.gold_before == item.gold_after for item in report.items)
    assert report.probes["before"] == report.probes["after"]
    assert {len(values) for values in report.probes.values()} == {4}
    assert report.predictors["confidence"].value is None  # nobody lost anything
    assert json.loads(json.dumps(report.to_json()))["others"]["same"][2] in (0.0, None)


def test_a_held_out_row_that_was_trained_on_is_refused() -> None:
    with pytest.raises(InputError, match="was trained on"):
        forgetting_depth("nowhere", "nothing", ROWS[:3], ROWS[2:])
    with pytest.raises(InputError, match="no held-out rows"):
        forgetting_depth("nowhere", "nothing", ROWS[:3], [])
