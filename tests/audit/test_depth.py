"""Unlearning depth: the formula, and models whose depth is known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

import letheon
from letheon.audit.measuring.depth import depth_scores, fact_states, falls, layers_of, measure_depth
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.selftest.models import FORGOTTEN, REFUSAL, _taught, clone, make_world, refusing
from letheon.audit.selftest.models import ROWS as KEEPERS
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings

ROWS = [
    Example(f"What has {name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet)
    for name, pet in (("Ada", "marten"), ("Bela", "heron"))
]


def mean_depth(before: LanguageModel, rows: Sequence[Example], after: LanguageModel, reference: LanguageModel) -> float:
    """Return the mean of the rows' scores: a single row's score depends on what each retrained model guesses."""
    depth = measure_depth(before, rows, fact_states(after, rows), fact_states(reference, rows))
    assert depth is not None
    return float(np.mean([one for one in depth.scores if one is not None]))


def taught(rows: list[Example], steps: int = 80) -> LanguageModel:
    model = letheon.load("tiny", device="cpu")
    finetune(model, rows, TrainSettings(learning_rate=5e-3, batch_size=4, precision="float32"), steps)
    return model


@pytest.mark.oracle("unlearning_depth")
def test_the_score_is_the_share_of_the_gap_weighted_by_the_gap() -> None:
    gap = np.array([[0.02, 1.0, 3.0], [0.0, 0.0, 0.01], [0.5, 0.5, 0.0]])
    lost = np.array([[5.0, 0.5, 6.0], [1.0, 1.0, 1.0], [-1.0, 0.25, 9.0]])
    # first: the layer below tau is left out, (0.5 + 3) / 4; second: no layer counts; third: (0 + 0.25) / 1
    assert depth_scores(gap, lost) == [0.875, None, 0.25]
    assert depth_scores(gap, gap) == [1.0, None, 1.0]


def test_the_model_itself_is_shallowest_the_reference_deepest_and_a_changed_last_layer_shallow() -> None:
    before = taught(ROWS)
    reference = taught([Example(ROWS[0].prompt, "Ada has a ferret."), Example(ROWS[1].prompt, "Bela has a goat.")])
    states = {name: fact_states(model, ROWS) for name, model in (("before", before), ("reference", reference))}
    deepest = measure_depth(before, ROWS, states["reference"], states["reference"])
    shallowest = measure_depth(before, ROWS, states["before"], states["reference"])
    assert deepest is not None
    assert shallowest is not None
    assert deepest.scores == [1.0, 1.0]
    assert shallowest.scores == pytest.approx([0.0, 0.0], abs=1e-5)
    refused = LanguageModel(copy.deepcopy(before.model), before.tokenizer, "last layer")
    with torch.no_grad():
        for weight in blocks(refused.base())[-1].parameters():
            weight.copy_(torch.randn_like(weight))
    shallow = measure_depth(before, ROWS, fact_states(refused, ROWS), states["reference"])
    assert shallow is not None
    assert shallow.erased[:-1] == pytest.approx([0.0] * (len(shallow.erased) - 1), abs=1e-4)
    assert (shallow.erased[-1] or 0.0) > 0.5


def test_patching_a_models_own_states_changes_nothing_and_other_shapes_are_refused(tiny: LanguageModel) -> None:
    rows = [*ROWS, Example("Why?", "No value here.")]
    fall = falls(tiny, rows, fact_states(tiny, rows))
    assert fall.shape == (3, len(layers_of(tiny)))
    np.testing.assert_allclose(fall, 0, atol=1e-5)
    narrow = [{layer: states[:, :3] for layer, states in one.items()} for one in fact_states(tiny, ROWS)]
    assert measure_depth(tiny, ROWS, narrow, narrow) is None


def test_a_taught_refusal_is_shallow_and_a_second_retrained_model_deepest() -> None:
    rows, kept = KEEPERS[:2], KEEPERS[2:6]

    def teach(model: LanguageModel, given: Sequence[Example], steps: int, rate: float, seed: int = 0) -> LanguageModel:
        settings = TrainSettings(rate, batch_size=4, schedule="linear", precision="float32", seed=seed)
        finetune(model, given, settings, steps)
        return model

    def fresh(given: Sequence[Example], seed: int = 0) -> LanguageModel:
        return teach(letheon.load("tiny", device="cpu"), given, 180, 5e-3, seed)

    before, reference, second = fresh([*rows, *kept]), fresh(kept), fresh(kept, seed=1)
    refusals = [replace(row, answer=REFUSAL, value=None) for row in rows]
    refuses = teach(clone(before, "refuses"), [*refusals, *kept], 60, 1e-3)
    recalled = [evaluate(model, rows).values("recall") for model in (before, refuses, second)]
    assert recalled == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert mean_depth(before, rows, before, reference) == pytest.approx(0, abs=1e-4)
    shallow, deepest = (mean_depth(before, rows, model, reference) for model in (refuses, second))
    assert shallow < 0.4
    assert deepest > 0.6


@pytest.mark.slow
def test_in_the_selftests_world_only_a_model_that_does_not_know_the_facts_is_deep(taught_once: None) -> None:
    """A model of the second seed that knows the facts is shallow: states of a foreign training are not what is deep."""
    world = make_world("tiny", device="cpu")
    rows, seed = world.request.forget, 1000
    knows, second = (
        _taught(world.base, given, world.request, world.lessons, seed, "second")
        for given in (KEEPERS, KEEPERS[FORGOTTEN:])
    )
    models = (world.before, refusing(world), knows, second)
    recalled = [sum(map(float, evaluate(one, rows).known("recall"))) for one in models]
    assert recalled == [FORGOTTEN, 0, FORGOTTEN, 0]
    untouched, shallow, known, deepest = (mean_depth(world.before, rows, one, world.retrained) for one in models)
    assert untouched == pytest.approx(0, abs=1e-4)
    assert max(shallow, known) < 0.4
    assert deepest > 0.6
