"""Paper `u-can`: the log and its habits, distances, the arms, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.core.rows.examples import Example
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
    for arm in (*paper.ARMS, *paper.TRAINED):
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
    assert {paper.compared(runs, arm).level for arm in paper.BASELINES} == {0.1}
    result = judged(runs)
    assert result.verdict == verdict
    assert result.measured["recall@10 on the retained, attenuation minus hard pruning"] == pytest.approx(
        sum(kept) / len(kept) - 0.3
    )
    assert paper.figures(runs)["curves"].startswith("<svg")


def test_a_level_that_an_arm_never_reaches_is_inconclusive() -> None:
    runs = {0: run(0.4), 1: [one for one in run(0.4) if one.arm != "random dimensions"]}
    assert paper.compared(runs, "random dimensions").level is None
    assert paper.compared(runs, "NPO").level == pytest.approx(0.1)
    assert judged(runs).verdict == "inconclusive"


def test_a_level_above_half_of_the_recall_decides_nothing() -> None:
    def shallow(kept: float) -> list[paper.Point]:
        return [one for one in run(kept) if one.arm != "NPO"] + [point("NPO", 0.3, 0.3)]

    result = judged({seed: shallow(kept) for seed, kept in enumerate((0.4, 0.45) * 5)})
    unmet = {name for name, met in result.checks.items() if not met}
    assert unmet == {"NPO is read at half of the recall or deeper"}
    assert result.verdict == "inconclusive"


def test_an_original_that_knows_hardly_more_than_a_retrained_one_decides_nothing() -> None:
    def ignorant(kept: float) -> list[paper.Point]:
        return [point("retrained", 0.3, 0.5) if one.arm == "retrained" else one for one in run(kept)]

    runs = {seed: (ignorant if seed == 3 else run)(kept) for seed, kept in enumerate((0.4, 0.45) * 5)}
    result = judged(runs)
    assert [name for name, met in result.checks.items() if not met] == [
        "every original knows what is forgotten: twice the retrained one's recall"
    ]
    assert result.verdict == "inconclusive"


def test_training_ends_where_nearly_all_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    recalls = iter([0.5, 0.3, 0.04, 0.02])  # of the original, and after 2, 4, 6 steps

    def measured(world: Any, model: Any, arm: str, strength: str = "") -> paper.Point:
        return point(arm, next(recalls), 0.4, strength)

    def forget(model: Any, request: Any, recipe: str, *, on_step: Any, steps: int, **options: Any) -> None:
        for step in range(1, steps + 1):
            if on_step(model, step):
                return

    monkeypatch.setattr(paper, "measured_point", measured)
    monkeypatch.setattr(paper, "forget", forget)
    monkeypatch.setattr(paper, "copy_of", lambda model: model)
    rows = [Example("i1", "i2"), Example("i2", "i3")]
    model: Any = None
    points = paper.trained(recommender.World(rows[:1], rows[1:], model, model, [], []), "NPO", 1e-3, 0)
    assert [(one.strength, one.forget["recall@10"]) for one in points] == [("step 2", 0.3), ("step 4", 0.04)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_a_synthetic_log() -> None:
    outcome = catalogue.paper("u-can").reproduce(Scale(seeds=(0, 1)))
    assert outcome.measured["units attenuated for a forget set drawn at random, mean"] < 10
    assert {part["verdict"] for part in outcome.primary.values()} <= {"holds", "fails", "inconclusive"}
