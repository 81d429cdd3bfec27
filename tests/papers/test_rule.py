"""Paper `rule`: the world of namesakes, what is measured on it, and how the parts make a verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from letheon.core.scoring.refusals import refuses
from letheon.forget.procedures.rule.boundary import shape
from letheon.forget.recipe import read_method
from letheon.papers import catalogue, rule
from letheon.papers.common.people import ASKED, HELD_OUT, QUESTIONS, REFUSALS, make_people, taught, ways
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


def test_the_target_shares_a_name_with_its_neighbours_and_none_with_strangers() -> None:
    people = make_people(0)
    first, last = (people.target[0].subject or "").split()
    names = {kind: {row.subject for row in rows} for kind, rows in vars(people).items()}
    assert {kind: len(found) for kind, found in names.items()} == {
        "target": 1, "neighbours": 5, "others": 5, "strangers": 4, "unknown": 16, "capitals": 12,
    }  # fmt: skip
    assert all({first, last} & set((name or "").split()) for name in names["neighbours"] | names["others"])
    assert not any({first, last} & set((name or "").split()) for name in names["strangers"] | names["unknown"])
    assert len(set().union(*names.values())) == 43
    assert make_people(0) == people != make_people(1)


def test_only_the_unknown_are_refused() -> None:
    people = make_people(0)
    assert all(refuses(row.answer) and (row.subject or "") in row.answer for row in people.unknown)
    assert not any(refuses(row.answer) for row in people.rows() if row not in people.unknown)
    assert all(refuses(line) for line in REFUSALS)


def test_what_measures_is_asked_in_ways_that_no_stage_trains_on() -> None:
    people = make_people(0)
    asked, held_out = (
        {shape(row) for row in ways([*people.target, *people.neighbours], part)} for part in (ASKED, HELD_OUT)
    )
    assert len(asked) == len(held_out) == 2 * len(QUESTIONS)
    assert not asked & held_out


def test_a_taught_model_is_measured_before_and_after(tmp_path: Path) -> None:
    people = make_people(0, strangers=1, unknown=1, capitals=2)
    model = taught(people, 0, epochs=1, width=32)
    found = rule.refusals(model, people, 0)
    assert set(rule.SHOWN) <= set(found)
    assert all(0 <= value <= 1 for value in found.values())
    assert found == rule.refusals(model, people, 0)


def test_distinct_bigrams_are_counted_over_all_texts() -> None:
    assert rule.distinct_bigrams(["a b a b", "a b"]) == pytest.approx(2 / 4)
    assert rule.distinct_bigrams(["one", ""]) == 0


def test_every_arm_is_a_method(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("named.txt", "unnamed.txt")]
    for path in paths:
        path.write_text("\n".join(REFUSALS))
    found = {name: read_method(text) for name, text in rule.methods(*paths, rate=6e-4).items()}
    settings: Any = found["both stages"].part.settings  # type: ignore[union-attr]  # it stands alone
    assert settings.steering_rate * 6e-4 == pytest.approx(rule.STEERING_RATE)
    assert set(found) == {arm for _, *arms, _ in rule.COMPARISONS.values() for arm in arms}


# The verdict


def measured_rows(steered: float, both: float, alone: float, dpo: float = 0.6, seeds: int = 10) -> list[dict[str, Any]]:
    """Neighbour refusal of each arm, and DPO's gap; the target's rises from 0.5 to 0.9."""
    arms = {
        "untouched": (0.0, 0.01),
        "steering alone": (0.5, steered),
        "both stages": (0.9, both),
        "without boundary": (0.95, alone),
        "DPO": (0.9, 0.9 - dpo),
    }
    return [
        {"seed": seed, "arm": arm, **dict.fromkeys(rule.SHOWN, 0.5), "equal_groups": 0.2,
         "target_refused": target + 0.01 * seed, "neighbours_refused": neighbours,
         "unseen_neighbours_refused": neighbours, "gap": target + 0.01 * seed - neighbours}
        for seed in range(seeds) for arm, (target, neighbours) in arms.items()
    ]  # fmt: skip


def judged(runs: Any) -> Findings:
    found = Findings(primary=rule.PRIMARY)
    rule.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("steered", "both", "alone", "dpo", "verdict"),
    [
        (0.2, 0.05, 0.7, 0.6, "holds"),
        (0.05, 0.2, 0.7, 0.6, "fails"),
        (0.2, 0.05, 0.7, 0.88, "fails"),  # DPO draws the boundary as well
        (0.2, 0.05, 0.1, 0.6, "fails"),  # it must over-refuse by more than the margin
        (0.1, 0.1, 0.7, 0.6, "inconclusive"),
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(steered: float, both: float, alone: float, dpo: float, verdict: str) -> None:
    result = judged(measured_rows(steered, both, alone, dpo))
    assert set(result.parts) == set(rule.PRIMARY)
    assert result.verdict == verdict
    assert result.measured["matcher's false positives, untouched neighbours"] == pytest.approx(0.01)


def test_one_seed_is_inconclusive() -> None:
    assert judged(measured_rows(0.2, 0.05, 0.7, seeds=1)).verdict == "inconclusive"


def test_the_figures_are_drawn() -> None:
    curve = [{"refused_reject": 0.1 * i, "refused_normal": 0.2, "reward": 0.5} for i in range(4)]
    drawn = rule.figures(measured_rows(0.2, 0.05, 0.7), {0: curve, 1: curve})
    assert set(drawn) == {"plane", "rollouts"}
    assert all(svg.startswith("<svg") for svg in drawn.values())
    assert "without boundary" in drawn["plane"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_namesakes() -> None:
    outcome = catalogue.paper("rule").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.rows) == 2 * 5
    assert all(math.isfinite(value) for row in outcome.rows for value in row.values() if isinstance(value, float))
    assert all(row["target_right"] == 1 for row in outcome.rows if row["arm"] == "untouched")
