"""Paper `u-can`: the log and its habits, distances, the arms, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.papers import catalogue
from letheon.papers import u_can as paper
from letheon.papers.common import recommender
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale, Verdict


def test_the_habit_to_be_forgotten_shares_some_categories_and_owns_others() -> None:
    usual, kept, gone = recommender.habits(seed=0)
    assert len(usual) == recommender.ITEMS
    assert len(set(kept) & set(gone)) == recommender.SHARED * recommender.SIZE
    assert len(set(gone) - set(kept)) == recommender.PRIVATE * recommender.SIZE
    assert set(usual) == set(kept) | set(gone)
    for habit in (kept, gone):
        assert {item for after in habit.values() for item in after} == set(habit)


def test_distances_are_zero_to_itself_and_the_closed_form_otherwise() -> None:
    original, other = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    same = recommender.distances(original, {"original": original, "retrained": original})
    assert same == {"kl": 0.0, "shift": 0.0, "jsd_to_retrained": 0.0}
    found = recommender.distances(other, {"original": original, "retrained": original})
    # KL((½, ½) || (¾, ¼)) = ½ ln(½/¾) + ½ ln(½/¼)
    assert found["kl"] == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), abs=1e-6)
    mixture = (0.625, 0.375)
    halves = [sum(p * math.log(p / m) for p, m in zip(ps, mixture, strict=True)) for ps in ((0.75, 0.25), (0.5, 0.5))]
    assert found["jsd_to_retrained"] == pytest.approx(sum(halves) / 2, abs=1e-6)


def point(arm: str, forget: float, retain: float, strength: str = "") -> paper.Point:
    def ranking(value: float) -> dict[str, float]:
        return {f"{name}@10": value for name in ("recall", "mrr", "ndcg")}

    return paper.Point(arm, strength, ranking(forget), ranking(retain), {"kl": 0.0, "jsd_to_retrained": 0.0})


def test_the_trade_off_is_what_forget_lost_minus_what_retain_lost_in_percent() -> None:
    assert paper.trade_off(point("original", 0.4, 0.5), point("x", 0.1, 0.4)) == pytest.approx(75 - 20)


def run(kept: float) -> list[paper.Point]:
    """Every arm falls to a tenth of the forget recall; attenuation keeps `kept` of retain recall, the others 0.3."""
    points = [point("original", 0.5, 0.5), point("retrained", 0.05, 0.5)]
    points += [point("gradient_ascent", 0.0, 0.1), point("npo", 0.0, 0.2)]
    for arm in paper.ARMS:
        end = kept if arm == "attenuation" else 0.3
        points += [point(arm, 0.3, 0.45, "quantile 0.85, kappa 4.0"), point(arm, 0.05, end)]
    return points


def judged(runs: Any) -> Findings:
    found = Findings()
    paper.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [((0.4, 0.45), "holds"), ((0.2, 0.25), "fails"), ((0.2, 0.4), "inconclusive"), ((0.4,), "inconclusive")],
)
def test_the_claim_is_judged_where_all_arms_have_forgotten_alike(kept: tuple[float, ...], verdict: Verdict) -> None:
    runs = {seed: run(value) for seed, value in enumerate(kept * (5 if len(kept) > 1 else 1))}
    assert paper.compared(runs).level == pytest.approx(0.1)
    result = judged(runs)
    assert result.verdict == verdict
    assert result.measured["recall@10 on the retained, attenuation minus hard pruning"] == pytest.approx(
        sum(kept) / len(kept) - 0.3
    )
    assert paper.figures(runs)["curves"].startswith("<svg")


def test_a_level_that_an_arm_never_reaches_is_inconclusive() -> None:
    runs = {0: run(0.4), 1: [one for one in run(0.4) if one.arm != "random dimensions"]}
    assert paper.compared(runs).level is None
    assert judged(runs).verdict == "inconclusive"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_a_synthetic_log() -> None:
    outcome = catalogue.paper("u-can").reproduce(Scale(seeds=(0, 1)))
    assert outcome.measured["units attenuated for a forget set drawn at random, mean"] < 10
    assert {part["verdict"] for part in outcome.primary.values()} <= {"holds", "fails", "inconclusive"}
