"""Paper `unforgettable`: the world of skills, one forgetting, and how the parts make a verdict."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from letheon.papers import catalogue
from letheon.papers import unforgettable as paper
from letheon.papers.common.skills import (
    CONTROL,
    COPIES,
    NOISE,
    OPTIONS,
    QUALITIES,
    ROWS,
    _answers,
    learned,
    make_tasks,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


def test_tasks_range_from_rules_to_facts_and_halves_are_apart() -> None:
    tasks = make_tasks(0)
    assert len(tasks) == len(QUALITIES) * len(NOISE) + 1
    assert len({option for task in tasks.values() for option in task.train[0].options}) == OPTIONS * len(tasks)
    for task in tasks.values():
        train, held_out = ({row.prompt for row in rows} for rows in (task.train, task.held_out))
        assert len(train) == len(held_out) == ROWS // 2
        assert not train & held_out
        qualities = [{row.group for row in rows} for rows in (task.train, task.held_out)]
        assert len(qualities[0] | qualities[1]) == task.qualities
        assert len(qualities[0] & qualities[1]) == (0 if task.kind == "fact" else task.qualities)
        for rows in (task.train, task.held_out):  # no option is right more often than another
            assert {Counter(row.gold for row in rows)[gold] for gold in range(OPTIONS)} == {ROWS // 2 // OPTIONS}
        golds = {row.group: row.gold for row in task.rows}
        assert all(golds[row.group] == row.gold for row in task.rows)  # the quality alone decides
    assert make_tasks(0) == tasks != make_tasks(1)


def test_the_right_answer_stays_the_most_frequent_one_under_noise() -> None:
    row = make_tasks(0)[CONTROL].train[0]
    for flipped in NOISE.values():
        counts = Counter(_answers(row, flipped))
        assert counts.total() == COPIES
        assert counts.most_common(1) == [(row.answer, COPIES - flipped)]


def test_a_task_is_forgotten_and_its_control_is_not_changed_in_the_model_before() -> None:
    probed = f"mixed of {paper.PROBED}, sure"
    tasks = {name: task for name, task in make_tasks(0).items() if name in (probed, CONTROL)}
    model = learned(tasks, 0, epochs=1, width=32)
    before = {name: paper.measures(model, task) for name, task in tasks.items()}
    kept = model.parameters_hash()
    found = paper.forgetting(model, tasks, before, probed, 0, Scale(), 3e-4)
    assert model.parameters_hash() == kept
    assert found["steps"] <= paper.STEPS
    assert set(found["elsewhere"]) == set(tasks)
    assert {len(values) for values in found["probes"].values()} == {4}


PROBES = {"before": [0.5, 1.0], "after": [0.5, 0.9], "shuffled": [0.5, 0.5], "untrained": [0.5, 0.6]}


def test_the_probe_s_skill_is_what_exceeds_random_weights_at_the_layer_best_before() -> None:
    found = paper.skill({"probes": PROBES})
    assert found["layer"] == 1
    assert found["kept"] == pytest.approx((0.9 - 0.6) / (1.0 - 0.6))


def rows_of(seed: int, rule: float, fact: float, true: float = 0.0) -> list[dict[str, Any]]:
    """A seed in which the ratio is lower the surer and the more variable a task is."""
    rows = []
    for kind, level in (("rule", rule), ("mixed", (rule + fact) / 2), ("fact", fact)):
        for noise in (0.0, 0.2, 0.4):
            ratio = level + 0.1 * noise + 0.01 * seed
            rows.append(
                {
                    "seed": seed,
                    "task": f"{kind}, {noise}",
                    "kind": kind,
                    "noise": noise,
                    "ratios": {"train": 0.9 + 0.01 * seed, "held_out": ratio},
                    "accuracy_before": {"held_out": 1.0 - noise / 10},
                    "accuracy": {"held_out": 0.5},
                    "said": [1.0, 0.5],
                    "elsewhere": {"control": 0.0},
                    "ratio_true": true + 0.001 * seed,
                    "confidence": 1 - noise + (0.1 * noise if kind == "rule" and seed else 0.0),
                    "variability": {"rule": 0.1, "mixed": 0.2, "fact": 0.3}[kind] + 0.01 * noise * seed,
                    "probes": PROBES if kind == "mixed" else {},
                }
            )
    return rows


def judged(runs: Any) -> Findings:
    found = Findings()
    paper.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("rule", "fact", "true", "verdict"),
    [
        (0.9, 0.8, 0.0, "fails"),  # facts generalise as well
        (0.2, 0.8, 0.0, "fails"),  # the other way round
        (0.9, 0.2, 0.6, "inconclusive"),  # any training forgets
    ],
)
def test_the_claim_needs_every_part(rule: float, fact: float, true: float, verdict: str) -> None:
    result = judged([row for seed in range(10) for row in rows_of(seed, rule, fact, true)])
    assert set(result.parts) == set(result.intervals) == set(paper.PRIMARY)
    assert result.verdict == verdict


@pytest.mark.usefixtures("noise_over_seeds")
def test_a_claim_that_is_true_in_every_part_holds() -> None:
    result = judged([row for seed in range(10) for row in rows_of(seed, 0.9, 0.2)])
    assert set(result.parts.values()) == {"holds"}
    assert result.measured["rules minus facts"] == pytest.approx(0.7)
    assert result.measured["probes"]["layer"] == 1
    still = [one | {"ratios": one["ratios"] | {"train": 0.3}} for seed in range(10) for one in rows_of(seed, 0.9, 0.2)]
    assert judged(still).verdict == "inconclusive", "nothing was forgotten"


def test_figures_are_drawn() -> None:
    drawn = paper.figures([row for seed in range(2) for row in rows_of(seed, 0.9, 0.2)])
    assert set(drawn) == {"ratios", "elsewhere", "confidence", "variability", "probes"}
    assert all(svg.startswith("<svg") for svg in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("unforgettable").reproduce(Scale(seeds=(0,)))
    assert outcome.measured["ratio on rows trained on"] > 0.5
