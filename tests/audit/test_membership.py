"""The six membership attacks on hand-worked tokens and models, and row by row against the field's own evaluator."""

from __future__ import annotations

import math
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

import letheon
from letheon.audit.measuring.membership import (
    Membership,
    answer_tokens,
    attack,
    gradient_norms,
    loss,
    membership,
    membership_scores,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    zlib_score,
)
from letheon.core.atomic import is_whole, read_json
from letheon.core.model.models import LanguageModel, cache_folder, load
from letheon.core.rows.examples import Example, read_examples
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "tofu_golden"
FIELDS_NAMES = {
    "loss": "mia_loss",
    "zlib": "mia_zlib",
    "min_k": "mia_min_k",
    "min_k_plus_plus": "mia_min_k_plus_plus",
}
LOGP = np.log([0.5, 0.25, 0.125, 0.5, 0.5])


@pytest.mark.oracle("membership_loss")
def test_loss_is_the_mean_negative_log_probability() -> None:
    assert loss(LOGP) == pytest.approx(math.log(2) * (1 + 2 + 3 + 1 + 1) / 5)


@pytest.mark.oracle("membership_zlib")
def test_zlib_divides_the_loss_by_the_bytes_that_are_left_of_the_text() -> None:
    text = "no no no no no no no no no no"
    assert zlib_score(LOGP, text) == pytest.approx(loss(LOGP) / len(zlib.compress(text.encode())))
    other = "Quartz sphinx, judge my vow!?"  # as long, and nothing in it repeats
    assert zlib_score(LOGP, other) < zlib_score(LOGP, text)


@pytest.mark.oracle("membership_min_k")
def test_min_k_is_the_mean_over_the_least_likely_tokens() -> None:
    assert min_k(LOGP, k=0.4) == pytest.approx(2.5 * math.log(2))  # the two of five: 1/8 and 1/4
    assert min_k(LOGP, k=0.39) == pytest.approx(3 * math.log(2))  # 1.95 tokens are one
    assert min_k(LOGP, k=0.01) == pytest.approx(3 * math.log(2))  # never none
    assert min_k(LOGP, k=1.0) == pytest.approx(loss(LOGP))
    assert min_k([]) == 0


@pytest.mark.oracle("membership_min_k_plus_plus")
def test_min_k_plus_plus_measures_in_deviations_of_what_is_usual_there() -> None:
    # Worked by hand: (log p - mean) / deviation is -1, -2, 0, 3; of four tokens the lowest one (0.4 of 4) is -2.
    assert min_k_plus_plus([-2.0, -5.0, -1.0, 1.0], [-1, -1, -1, -2], [1, 4, 1, 1]) == pytest.approx(2)
    # A certain model has no deviation: the field's least variance stands in.
    assert min_k_plus_plus([-0.002], [-0.001], [0.0]) == pytest.approx(1)


@pytest.mark.oracle("membership_reference")
def test_reference_is_the_log_likelihood_ratio_per_token() -> None:
    assert reference_score(LOGP, LOGP) == 0
    assert reference_score(np.log([0.5, 0.5]), np.log([0.25, 0.25])) == pytest.approx(-math.log(2))


def test_privleak_is_the_move_from_the_retrained_models_miss() -> None:
    assert privleak(1.0, 0.5) == pytest.approx(-100)
    assert privleak(0.6, 0.6) == 0
    assert privleak(0.4, 0.6) == pytest.approx(50)
    assert privleak(0.5) == 0


def test_an_attack_is_its_curve_and_the_area_under_it() -> None:
    found = attack("loss", [1.0, 2.0, 4.0], [3.0, 4.0, 5.0, 6.0])
    # Of twelve pairs the non-member scores higher in ten, and one is a tie: 10.5 / 12.
    assert found.auroc.value == pytest.approx(10.5 / 12)
    assert found.roc[0] == (0, 0)
    assert found.roc[-1] == (1, 1)
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in zip(found.roc, found.roc[1:], strict=False))
    assert area == pytest.approx(10.5 / 12)
    assert found.auroc.low is not None
    assert found.auroc.high is not None
    assert found.auroc.low < 10.5 / 12 < found.auroc.high


def test_the_moments_are_those_of_the_whole_vocabulary(tiny: LanguageModel, rows: list[Example]) -> None:
    """Against a plain forward pass without any of the savings, in float64."""
    found = answer_tokens(tiny, rows)
    for row, tokens in zip(rows, found, strict=True):
        encoded = tiny.encoder().encode(row)
        with torch.inference_mode():
            logits = tiny.base()(torch.tensor([encoded.ids])).logits[0].double()
        every = functional.log_softmax(logits[encoded.start - 1 : -1], -1)
        mean = (every.exp() * every).sum(-1)
        variance = (every.exp() * (every - mean[:, None]) ** 2).sum(-1)
        own = every.gather(1, torch.tensor(encoded.ids[encoded.start :])[:, None])[:, 0]
        for ours, plain in ((tokens.logp, own), (tokens.mean, mean), (tokens.variance, variance)):
            np.testing.assert_allclose(ours, plain.numpy(), rtol=1e-4, atol=1e-4)


def test_the_last_label_is_left_out_only_where_it_is_an_end_of_turn(tiny: LanguageModel) -> None:
    row, text = answer_tokens(tiny, [Example("Who?", "Ann."), Example("", "Ann Lee keeps it.")])
    assert len(row.inner(row.logp)) == len(row.logp) - 1
    assert len(text.inner(text.logp)) == len(text.logp)


@pytest.mark.oracle("membership_gradient_norm")
def test_the_gradient_norm_is_the_mean_over_weights_that_the_loss_depends_on(tiny: LanguageModel) -> None:
    """Against a plain backward pass through transformers' own loss."""
    row = Example("Who keeps the tower?", "Ann Lee.")
    found = gradient_norms(tiny, [row])[0]
    encoded = tiny.encoder().encode(row)
    model = tiny.base()
    for weight in model.parameters():
        weight.requires_grad_(True)
    logits = model(torch.tensor([encoded.ids])).logits[0, encoded.start - 1 : -2]
    functional.cross_entropy(logits, torch.tensor(encoded.ids[encoded.start : -1])).backward()
    norms = [float(weight.grad.norm()) for weight in model.parameters() if weight.grad is not None]
    assert found == pytest.approx(np.mean(norms), rel=1e-4)


def test_the_gradient_norm_leaves_no_trace(tiny: LanguageModel, rows: list[Example]) -> None:
    weights = list(tiny.model.parameters())
    weights[0].requires_grad_(False)
    before = tiny.parameters_hash()
    gradient_norms(tiny, rows[:1])
    assert tiny.parameters_hash() == before
    assert not weights[0].requires_grad
    assert all(weight.grad is None for weight in weights)


@pytest.fixture(scope="module")
def taught() -> tuple[LanguageModel, list[Example], list[Example]]:
    """A tiny model that learned six rows, these, and six like them that it never saw."""
    model = load("tiny", device="cpu")
    members = [Example(f"What is {i}?", f"It is the number {i}.") for i in range(6)]
    others = [Example(f"Who is {i}?", f"That was somebody named {i}.") for i in range(6)]
    finetune(model, members, TrainSettings(learning_rate=3e-3, batch_size=6, precision="float32"), 30)
    return model, members, others


def test_every_attack_tells_members_of_a_model_that_learned_them(
    taught: tuple[LanguageModel, list[Example], list[Example]],
) -> None:
    model, members, others = taught
    found = membership(model, members, others, reference=load("tiny", device="cpu"), gradient_norm=True)
    assert set(found) == {*FIELDS_NAMES, "reference", "gradient_norm"}
    assert {name: each.auroc.value for name, each in found.items()} == dict.fromkeys(found, 1.0)
    assert membership(model, others, members)["loss"].auroc.value == 0
    assert membership(model, members, members)["loss"].auroc.value == pytest.approx(0.5)


def test_scores_do_not_depend_on_the_rows_beside_them(
    taught: tuple[LanguageModel, list[Example], list[Example]],
) -> None:
    model, members, others = taught
    together = membership_scores(model, [*members, *others])
    alone = membership_scores(model, others[2:3])
    for name, values in together.items():
        assert values[len(members) + 2] == pytest.approx(alone[name][0], abs=1e-4)


# Against the field's evaluator ------------------------------------------------------------------------------------

golden = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"golden data not found in {DATA}: set LETHEON_DATA"),
    pytest.mark.skipif(
        not is_whole(cache_folder() / "smollm2-135m-instruct"), reason="the embedded model is not in the cache"
    ),
]


def with_marks(function: Any) -> Any:
    for mark in golden:
        function = mark(function)
    return pytest.mark.parametrize("adapter", [pytest.param("target", marks=pytest.mark.slow), "retain"])(function)


@cache
def model_of(adapter: str) -> LanguageModel:
    return letheon.load(DATA / "adapters" / adapter, device="cpu")


@cache
def attacked(adapter: str) -> dict[str, Membership]:
    members, others = (read_examples(DATA / f"{name}05.jsonl") for name in ("forget", "holdout"))
    return membership(model_of(adapter), members, others)


def expected(adapter: str, metric: str) -> Any:
    return read_json(DATA / "golden.json")["models"][adapter][metric]


def scores_of(found: Any) -> list[float]:
    return [item["score"] for item in found["value_by_index"].values()]


@with_marks
@pytest.mark.parametrize("name", list(FIELDS_NAMES))
def test_scores_and_areas_are_the_evaluators(adapter: str, name: str) -> None:
    ours, theirs = attacked(adapter)[name], expected(adapter, FIELDS_NAMES[name])
    # A certain position has hardly any deviation to divide by: large Min-K%++ scores agree to 1e-4 of themselves.
    np.testing.assert_allclose(ours.members, scores_of(theirs["forget"]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.non_members, scores_of(theirs["holdout"]), rtol=1e-4, atol=1e-4)
    assert ours.auroc.value == pytest.approx(theirs["auc"], abs=1e-12)
    labels = [0] * len(ours.members) + [1] * len(ours.non_members)
    assert ours.auroc.value == pytest.approx(roc_auc_score(labels, [*ours.members, *ours.non_members]), abs=1e-12)


@with_marks
def test_privleak_is_the_evaluators(adapter: str) -> None:
    auroc = attacked(adapter)["min_k"].auroc.value
    assert auroc is not None
    assert privleak(auroc) == pytest.approx(expected(adapter, "privleak")["value"], abs=1e-6)


@with_marks
def test_gradient_norms_are_the_evaluators(adapter: str) -> None:
    rows = read_examples(DATA / "forget05.jsonl")[:2]
    theirs = scores_of(expected(adapter, "mia_gradnorm")["forget"])[:2]
    np.testing.assert_allclose(gradient_norms(model_of(adapter), rows), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@with_marks
def test_areas_of_the_gradient_norm_are_the_evaluators(adapter: str) -> None:
    members, others = (read_examples(DATA / f"{name}05.jsonl") for name in ("forget", "holdout"))
    found = attack(
        "gradient_norm", gradient_norms(model_of(adapter), members), gradient_norms(model_of(adapter), others)
    )
    assert found.auroc.value == pytest.approx(expected(adapter, "mia_gradnorm")["auc"], abs=1e-12)
