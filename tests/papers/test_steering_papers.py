"""The steering papers: what decides, and that their small worlds and measures are what they say."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.papers import austeer, lineas, moral_direction, mote, refusal_tokens
from letheon.papers.common.deeds import CHOOSING_DONTS, CHOOSING_DOS, JUDGED_DONTS, JUDGED_DOS
from letheon.papers.common.small_llama import small_llama
from letheon.papers.common.steering_worlds import POLITE, RUDE, refusal_world, style_world
from letheon.papers.kit.findings import Findings
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


class Anything(dict[str, Any]):
    """A row in which every metric that is not given is 0.5."""

    def __missing__(self, name: str) -> float:
        return 0.5


BETTER: list[tuple[ModuleType, dict[str, float], dict[str, float]]] = [
    (lineas, {"loss lineas": -1.0, "loss sparse": -0.5}, {"loss lineas": 1.0}),
    (mote, {"top: refusals": 0.1, "top: other tasks": 0.48, "top on: log refusal": 0.9}, {"top: refusals": 0.9}),
    (austeer, {"austeer": 0.8}, {"austeer": 0.2}),
    (refusal_tokens, {"auroc": 0.9, "f1": 0.9, "own change": 0.9}, {"auroc": 0.2}),
    (moral_direction, {"moral direction": 0.8}, {"moral direction": 0.2}),
]


@pytest.mark.parametrize(("paper", "good", "bad"), BETTER, ids=[one[0].__name__ for one in BETTER])
def test_the_primary_parts_decide_and_no_others(
    paper: ModuleType, good: dict[str, float], bad: dict[str, float]
) -> None:
    for values, verdict in ((good, "holds"), (bad, "fails")):
        found = Findings()
        rows = [Anything({name: value + 0.001 * i for name, value in values.items()}) for i in range(5)]
        paper.judge(rows, found)
        assert tuple(found.parts) == paper.PRIMARY
        assert found.verdict == verdict


def test_the_styles_differ_in_their_words_alone() -> None:
    world = style_world(100, steps=1, count=8)
    for rows, words in ((world.fit.toward, POLITE), (world.fit.away, RUDE)):
        assert all(sum(word in words for word in row.answer.split()) == 2 for row in rows)
    assert {row.answer for row in world.fit.toward}.isdisjoint(row.answer for row in world.fit.away)


def test_held_out_places_are_no_others() -> None:
    world = refusal_world(100)
    places = [
        {row.subject for row in rows}
        for rows in (world.sensitive, world.held_sensitive, world.benign, world.held_benign)
    ]
    assert sum(map(len, places)) == len(set().union(*places)) == 24
    assert refusal_world(100) == world


def test_balanced_accuracy_by_hand() -> None:
    rows = [Example("a", "yes"), Example("b", "yes"), Example("c", "no")]
    assert austeer.balanced_accuracy(torch.tensor([1.0, -1.0, -2.0]), rows) == 0.75


def test_released_scores_are_read_in_either_order(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("0.5,Help People\n-0.5,kill\n0.1,eat\n")
    (tmp_path / "study.csv").write_text("Action,Score\nhelp people,1.0\nkill,0.0\neat,0.6\nfly,0.5\n")
    scores, study = (moral_direction.read_scores(tmp_path / name) for name in ("scores.csv", "study.csv"))
    expected = np.corrcoef([0.1, 0.5, -0.5], [0.6, 1.0, 0.0])[0, 1]
    assert moral_direction.correlation(scores, study) == pytest.approx(expected)


@pytest.mark.oracle("moral-direction")
@pytest.mark.skipif(not (DATA / "mort_nmi").is_dir(), reason="the released scores are not there: set LETHEON_DATA")
def test_the_released_scores_agree_with_people_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHEON_DATA", str(DATA))
    found = moral_direction.released_correlations()
    assert found["released r, regional"] == pytest.approx(0.815, abs=5e-4)
    assert found["released r, global"] == pytest.approx(0.838, abs=5e-4)


def test_sparse_maps_are_compared_with_as_many_of_the_dense_ones_coordinates() -> None:
    world = style_world(100, steps=1, count=8, held_out=12)
    assert len(world.held_out.toward) == 12
    site = Site(0, "mlp_input")
    shape = Shape.of(world.model)
    width = world.model.width
    dense = Steering({site: Displacement(shift=torch.arange(width).float())}, shape, "dense")
    sparse = Steering({site: Displacement(shift=(torch.arange(width) < 3).float())}, shape, "sparse")
    kept = lineas.cut(world, dense, sparse).maps[site]
    assert kept.support().nonzero().flatten().tolist() == [width - 3, width - 2, width - 1]
    assert lineas.log_loss(world, dense, 0.0) == lineas.log_loss(world, None)
    assert lineas.log_loss(world, dense) > lineas.log_loss(world, None)


def test_whole_blocks_are_steered_in_every_way(tiny_contrast: tuple[LanguageModel, Contrast]) -> None:
    ways = list(austeer.whole_blocks(*tiny_contrast))
    assert len(ways) == len({(name, strength) for name, _, strength in ways})
    assert len(ways) == austeer.LAYERS * (len(austeer.BLOCK_STRENGTHS) * (1 + austeer.HEADS) + 2 * len(austeer.GAINS))
    shifts = [one for name, one, _ in ways if name == "head 1 of layer 2"]
    (made,) = shifts[0].maps.values()
    assert made.shift is not None
    assert made.shift.nonzero().flatten().tolist() == list(range(16, 32))


@pytest.fixture
def tiny_contrast() -> tuple[LanguageModel, Contrast]:
    rows = austeer.questions(100)
    return small_llama(rows, 100, layers=4, width=64, heads=4), austeer.contrast_of(rows[:6])


def phrases(count: int, shift: float, seed: int) -> moral_direction.Phrases:
    """Phrases whose dos and don'ts differ by `shift` along the first coordinate of every layer, and in nothing else."""
    draw = np.random.default_rng(seed)
    labels = np.r_[np.ones(count, int), np.zeros(count, int)]
    states = draw.normal(size=(2, 2 * count, 8))
    states[:, :, 0] += shift * labels
    return moral_direction.Phrases(labels, states, states, draw.integers(3, 6, 2 * count))


def test_random_directions_choose_their_layer_and_sign_as_well() -> None:
    choosing, judged = phrases(24, 6.0, 0), phrases(12, 6.0, 1)
    first, other = np.eye(8)[0], np.eye(8)[1]
    assert moral_direction.along(-first, choosing, judged) == 1.0, "the sign is chosen"
    assert 0.2 < moral_direction.along(other, choosing, judged) < 0.8
    assert moral_direction.auroc(np.array([1.0, 0.5, 0.5, 0.0]), np.array([1, 1, 0, 0])) == 0.875
    assert moral_direction.oriented(0.4, 0.3) == 0.7


def test_every_phrase_is_judged_once_and_none_is_chosen_on() -> None:
    given = phrases(96, 0.0, 0)
    parts = given.dealt_out(8)
    assert sorted(np.concatenate(parts)) == list(range(192))
    assert all(given.select(part).labels.sum() == 12 for part in parts)
    choosing, judged = ({*CHOOSING_DOS, *CHOOSING_DONTS}, {*JUDGED_DOS, *JUDGED_DONTS})
    assert choosing.isdisjoint(judged)
    assert len(judged) == 192


def test_questions_to_train_on_are_none_to_choose_or_test_on() -> None:
    world = refusal_tokens.split_world(100)
    parts = [{row.id for row in getattr(world, name)[0]} for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(world.every)
    assert world.wanted("test").sum() == sum(kind is not None for kind in world.test[1])


@pytest.mark.slow
def test_one_seed() -> None:
    world = style_world(100, steps=20)
    ways: dict[str, Any] = {"lineas": ("adam", 0.05), "linear_act": ("causal", "all", 1.0), "mean shift": (1.0,)}
    rates = {"tokens": 3e-3, "without tokens": 3e-3}
    rows = [
        lineas.measured(world, ways, 100),
        mote.measured(mote.prepared(100, 60), 4, 100),
        austeer.measured(100, 60),
        refusal_tokens.measured(100, 60, rates),
    ]
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
