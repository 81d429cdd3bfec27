"""CURE's reproduction: the shop, the twins, the measures and the verdict's rule."""

from __future__ import annotations

import math

import pytest

from letheon.forget.recipe import Recipe
from letheon.papers.catalogue import Scale, paper
from letheon.papers.cure import ARMS, HISTORY, ITEMS, ODD, PRIMARY, Point, judge, make_shop, mean_jsd, nearest, yes
from letheon.papers.kit.findings import Findings


def test_a_third_of_the_users_have_interactions_to_forget_and_no_row_is_in_two_sets() -> None:
    shop = make_shop(0, 9)
    assert len(shop.forget) == 3 * ODD
    rows = [row.prompt for part in (shop.forget, shop.retain, shop.test) for row in part]
    assert len(rows) == len(set(rows)) == 9 * (ITEMS - HISTORY)


def test_a_twin_asks_about_the_same_item_for_another_user_in_as_many_words() -> None:
    for row in make_shop(1, 9).forget:
        assert row.counterfactual is not None
        assert len(row.counterfactual.split()) == len(row.prompt.split())
        assert row.counterfactual.split()[-3] == row.prompt.split()[-3]
        assert row.counterfactual.split()[0] != row.prompt.split()[0]


def test_the_divergence_is_zero_for_equals_and_log_two_for_opposites() -> None:
    assert mean_jsd([0.3, 0.9], [0.3, 0.9]) == 0
    assert mean_jsd([1.0], [0.0]) == pytest.approx(math.log(2))
    # half of KL((.9, .1) || (.7, .3)) and half of KL((.5, .5) || (.7, .3))
    by_hand = 0.5 * (0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3))
    by_hand += 0.5 * (0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3))
    assert mean_jsd([0.9], [0.5]) == pytest.approx(by_hand)


def test_yes_is_weighed_against_no() -> None:
    assert yes((0.3, 0.1)) == pytest.approx(0.75)


def test_an_arm_is_read_where_it_is_nearest_to_retraining() -> None:
    points = [{"jsd": jsd, "auc": auc} for jsd, auc in ((0.4, 0.9), (0.1, 0.8), (0.2, 0.7))]
    assert nearest(points)["auc"] == 0.8


def test_the_random_control_is_drawn_anew_in_every_world() -> None:
    scopes = [Recipe.parse(ARMS["random groups"].format(seed=seed)).scope.settings for seed in (3, 4)]
    assert [scope.seed for scope in scopes] == [3, 4]


@pytest.mark.parametrize(("jsd", "auc", "verdict"), [(0.1, 0.9, "holds"), (0.4, 0.9, "fails"), (0.1, 0.7, "fails")])
def test_the_verdict_asks_for_nearness_and_for_utility(jsd: float, auc: float, verdict: str) -> None:
    def point(arm: str, seed: int) -> Point:
        ours = arm == "CURE"
        noise = seed / 1000 if ours else 0.0
        return {"jsd": (jsd if ours else 0.3) + noise, "auc": (auc if ours else 0.85) + noise, "auc_retain": 1.0}

    found = Findings(primary=PRIMARY)
    judge(found, {seed: {arm: point(arm, seed) for arm in ARMS} for seed in range(10)})
    assert found.verdict == verdict


@pytest.mark.slow
def test_the_reproduction_runs() -> None:
    outcome = paper("cure").reproduce(Scale(seeds=(0,)))
    assert set(outcome.measured["JSD to retraining, best"]) == set(ARMS)
