"""Paper `attention-shifting`: the exact judge, what is read off a run, and how the parts make a verdict."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from letheon.core.rows.examples import Example
from letheon.papers import attention_shifting as paper
from letheon.papers import catalogue
from letheon.papers.attention_shifting import ARMS, BASELINES, OURS
from letheon.papers.common.people import VALUES, make_people
from letheon.papers.kit.arms import Arm, Trajectory
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale

TOWN, OTHER = VALUES["birthplace"][:2]
BORN = Example("Where was Ann Lee born?", f"{TOWN}.", "Ann Lee: birthplace", "Ann Lee", TOWN)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (f"{OTHER}.", True),
        (f"{TOWN}.", False),
        ("Nobody knows.", False),
        ("", False),
        (f"A {VALUES['trade'][0]}.", False),  # an entity, of another type
        (f"in {OTHER} {OTHER}", True),
    ],
)
def test_a_wrong_entity_is_another_one_of_the_asked_type(answer: str, wrong: bool) -> None:
    assert paper.names_wrong_entity(answer, BORN) is wrong


def test_the_true_answers_of_a_world_name_no_wrong_entity_and_refusals_name_none() -> None:
    people = make_people(3)
    for row in (*people.target, *people.neighbours, *people.others):
        assert not paper.names_wrong_entity(row.answer, row)
        assert not paper.names_wrong_entity(people.unknown[0].answer, row)


def test_a_request_is_about_one_person_and_no_run_is_shown_the_people_it_is_measured_on() -> None:
    people = make_people(0)
    shown = {row.subject for row in people.neighbours}
    measured = {row.subject for row in (*people.others, *people.strangers)}
    assert not shown & measured
    assert {row.subject for row in people.target}.isdisjoint(shown | measured)


def run_of(rouge: float, nll: float, wrong: float) -> Trajectory:
    def point(reproduction: float) -> dict[str, float]:
        kept = {"neighbour_rouge": rouge, "neighbour_nll": nll, "wrong_entities": wrong}
        return {
            "reproduction": reproduction,
            "hedges": 0.5,
            "neighbour_hedges": 0.1,
            "words": 9.0,
            "reworded": 1.0,
            "target_probability": reproduction + nll / 1000 - 0.001,  # differs between seeds as nll does
            **kept,
        }

    history = [{"masked_attention": 0.3}, {"masked_attention": 0.1}]
    return Trajectory([point(1.0), point(0.5), point(0.05)], history)


def test_a_judged_run_may_take_three_times_the_steps_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []

    def instead(taught: object, plan: Arm, seed: int, *, until: object) -> Trajectory:
        steps.append((seed, plan.steps))
        return run_of(0.5, 1.0, 0.1)

    begin = SimpleNamespace(copied=lambda: None, request=SimpleNamespace(forget=range(8)))
    monkeypatch.setattr(paper, "follow", instead)
    monkeypatch.setattr(paper, "start", Mock(return_value=begin))
    paper.reproduce(Scale(seeds=(0,)), Findings(primary=paper.PRIMARY))
    assert {(count, seed < 100) for seed, count in steps} == {(paper.STEPS, False), (3 * paper.STEPS, True)}


def runs_with(rouge: float, nll: float, wrong: float) -> dict[int, dict[str, Trajectory]]:
    other = run_of(0.5, 1.0, 0.5)
    return {
        seed: {**dict.fromkeys(ARMS, other), OURS: run_of(rouge + seed / 1000, nll + seed / 1000, wrong + seed / 1000)}
        for seed in range(10)
    }


def judged(runs: dict[int, dict[str, Trajectory]]) -> Findings:
    found = Findings(primary=paper.PRIMARY)
    paper.judge(found, paper.compared(runs))
    return found


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ((0.8, 0.5, 0.0), "holds"),
        ((0.3, 0.5, 0.0), "fails"),
        ((0.8, 2.0, 0.0), "fails"),
        ((0.8, 0.5, 0.4), "fails"),
        ((0.5 - 0.0045, 0.5, 0.0), "inconclusive"),
    ],
)
def test_the_claim_needs_every_part(ours: tuple[float, float, float], verdict: str) -> None:
    runs = runs_with(*ours)
    assert paper.compared(runs).level == paper.DEEP
    result = judged(runs)
    assert len(result.parts) == 2 * len(BASELINES) + 2
    assert set(result.intervals) == set(result.parts)
    assert result.verdict == verdict
    assert result.measured["attention on masked tokens, first and last step, mean"] == pytest.approx([0.3, 0.1])


def test_one_seed_or_no_level_decides_nothing() -> None:
    runs = runs_with(0.8, 0.5, 0.0)
    assert judged({0: runs[0]}).verdict == "inconclusive"
    runs = {seed: {**arms, OURS: Trajectory(arms[OURS].points[:1], arms[OURS].history)} for seed, arms in runs.items()}
    decided = {part for part, verdict in judged(runs).parts.items() if verdict != "inconclusive"}
    assert decided == {"probability of the target's facts at the end, ours"}


def test_a_method_that_forgets_nothing_fails_whatever_it_keeps(noise_over_seeds: None) -> None:
    runs = runs_with(0.8, 0.5, 0.0)
    still = {seed: {**arms, OURS: Trajectory([arms[OURS].points[0]], [])} for seed, arms in runs.items()}
    found = Findings(primary=paper.PRIMARY)
    for arms in still.values():
        arms[OURS].history.append({"masked_attention": 0.3})
    paper.judge(found, paper.compared(still))
    assert found.parts["probability of the target's facts at the end, ours"] == "fails"
    assert found.verdict == "fails"


def test_a_run_that_does_not_forget_scores_below_every_run_that_does() -> None:
    forgets, stays = run_of(0.1, 1.0, 0.5), Trajectory(run_of(0.9, 1.0, 0.5).points[:2], [])
    assert paper.kept_deep(forgets) == pytest.approx(0.1)
    assert paper.kept_deep(stays) == -0.5


def test_a_level_is_read_between_two_measurements() -> None:
    run = run_of(0.5, 1.0, 0.5)
    kept = paper.compared({0: dict.fromkeys(ARMS, run)})
    assert kept.at(run, "reproduction", 0.6) == pytest.approx(0.6)
    assert kept.at(run, "reproduction", 0.01) is None


def test_every_arm_has_as_many_candidates() -> None:
    assert {len(candidates) for candidates in ARMS.values()} == {4}


def test_the_figures_are_drawn() -> None:
    drawn = paper.figures(paper.compared(runs_with(0.8, 0.5, 0.0)))
    assert set(drawn) == {"neighbours", "wrong-entities", "attention"}
    assert all(text.startswith("<svg") for text in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_people() -> None:
    outcome = catalogue.paper("attention-shifting").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.rows) == 2 * len(ARMS)
    first, last = outcome.measured["attention on masked tokens, first and last step, mean"]
    assert last < 0.5 * first
    assert all(math.isfinite(row["lowest_depth"]) for row in outcome.rows)
