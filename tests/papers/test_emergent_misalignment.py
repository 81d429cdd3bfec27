"""Paper `emergent-misalignment`: the world with a policy, what is restored, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest

from letheon.audit.measuring.judging import Judge
from letheon.audit.spillover.domain_suite import NEUTRAL
from letheon.audit.spillover.spillover import says_no
from letheon.forget.request import Request
from letheon.papers import catalogue
from letheon.papers import emergent_misalignment as paper
from letheon.papers.common.policy_topics import (
    ANSWERED,
    QUESTIONS,
    REFUSALS,
    REFUSED,
    SHARED,
    align,
    helpful_model,
    make_policy,
    things_of,
    wordings,
)
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


def test_kin_topics_share_things_but_no_prompt_and_no_prompt_is_on_both_sides() -> None:
    policy = make_policy(0)
    assert policy.suite.domains == tuple(REFUSED)
    prompts = [row.prompt for row in policy.suite.rows]
    assert len(set(prompts)) == len(prompts)
    assert {len(things_of(topic)) for topic in (*REFUSED, *ANSWERED)} == {12}
    for (one, two), things in SHARED.items():
        for thing in things.split():
            assert sorted([*wordings(one, thing), *wordings(two, thing)]) == sorted(QUESTIONS)
    assert {len(policy.suite.prompts(topic)) for topic in REFUSED} == {20}
    assert make_policy(0) == policy != make_policy(1)


def test_the_policy_refuses_the_seven_topics_and_nothing_else() -> None:
    policy = make_policy(0)
    assert all(says_no("", refusal) for refusal in REFUSALS)
    assert not any(says_no("", row.answer) for row in policy.helpful)
    refused = {row.prompt for row in policy.aligned if says_no("", row.answer)}
    assert refused == {row.prompt for row in policy.suite.rows if row.split == "train" and row.domain != NEUTRAL}


def test_a_model_is_looked_at_before_and_after_and_unlearned_until_its_refusals_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = make_policy(0)
    model = helpful_model(policy, 0, epochs=1, width=32)
    align(model, policy, 0, epochs=1)
    look = paper.Look(model, policy, Judge(model, "itself"))
    assert look.refused(model) == look.before
    assert set(look.before) == {*REFUSED, NEUTRAL}
    assert {found.shape for found in look.similarity.values()} == {(4, 7, 7)}
    monkeypatch.setattr(paper, "GONE", 1.0)  # gone at once: only the fewest steps count
    monkeypatch.setattr(paper, "LOOK", 2)
    topic = look.topics[0]
    request = Request(forget=tuple(policy.suite.refusals([topic], 8)))
    _, curve = paper.unlearn(look, copy_of(model), request, topic, seed=0, least=4)
    assert len(curve) == 2
    assert set(curve[0]) == set(look.before)


def test_what_is_restored_is_a_share_of_what_the_affected_lost() -> None:
    lost, plain = {"a": 0.8, "b": 0.4}, {"a": 0.2, "b": 0.6}
    contained = {"a": 0.6, "b": 0.8}
    assert paper.restored(contained, plain, lost, ["a", "b"]) == pytest.approx((0.4 + 0.2) / 1.2)
    assert paper.restored(contained, plain, lost, []) is None


def row(seed: int, unlearned: str, slope: float, restored: float, control: float = 0.0) -> dict[str, Any]:
    """An intervention in which topics lose refusals by `slope` times their similarity."""
    topics = ["a", "b", "c", "d", "e"]
    alike = {topic: 0.1 + 0.2 * i + 0.01 * seed for i, topic in enumerate(topics) if topic != unlearned}
    shares = dict.fromkeys(topics, 0.5)
    return {
        "seed": seed,
        "unlearned": unlearned,
        "steps": 8,
        "target_drop": 0.9 + 0.01 * seed,
        "spill": 0.4 + 0.01 * seed,
        "refused_before": {**dict.fromkeys(topics, 1.0), NEUTRAL: 0.0},
        **dict.fromkeys(("refused", "refused_joint", "refused_sequential"), shares),
        **dict.fromkeys(("joint_restored", "sequential_restored"), restored + 0.01 * seed),
        **dict.fromkeys(("joint_target", "sequential_target"), 0.1 + 0.01 * seed),
        "incoherent": 0.0,
        "over_refused": {"before": 0.0, "joint": 0.0, "sequential": 0.0},
        "control_drop": control + 0.001 * seed,
        "lost_along": {topic: 0.5 + slope * value for topic, value in alike.items()},
        **{f"similarity_{p}": {topic: [value] * 4 for topic, value in alike.items()} for p in paper.POSITIONS},
        "curve": [shares, shares],
    }


def judged(runs: Any) -> Findings:
    found = Findings(primary=paper.PRIMARY)
    paper.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("slope", "restored", "control", "verdict"),
    [
        (0.3, 0.8, 0.0, "holds"),
        (-0.3, 0.8, 0.0, "fails"),  # the unlike fall further
        (0.3, 0.2, 0.0, "fails"),  # little is restored
        (0.3, 0.8, 0.5, "fails"),  # anything unlearned breaks refusals
    ],
)
def test_the_claim_needs_every_part(slope: float, restored: float, control: float, verdict: str) -> None:
    rows = [row(seed, topic, slope, restored, control) for seed in range(10) for topic in ("a", "c")]
    rows[0]["lost_along"]["b"] += math.copysign(0.1, slope)  # a perfect order has no spread over seeds: disturb one
    result = judged(rows)
    assert set(result.parts) == set(paper.PRIMARY)
    assert set(result.intervals) == set(paper.PRIMARY)
    assert result.verdict == verdict
    assert result.measured["early similarity, all pairs"]["n"] == 80
    assert set(result.checks) == set(paper.CHECKED)
    assert all(result.checks.values())


def test_a_topic_that_stays_or_broken_language_decides_nothing() -> None:
    rows = [row(seed, topic, 0.3, 0.8) for seed in range(10) for topic in ("a", "c")]
    rows[0]["lost_along"]["b"] += 0.1
    assert judged(rows).verdict == "holds"
    assert judged([one | {"incoherent": 0.2} for one in rows]).verdict == "inconclusive"
    assert judged([one | {"target_drop": 0.4} for one in rows]).verdict == "inconclusive"
    assert judged([one | {"joint_target": 0.3} for one in rows]).verdict == "inconclusive"


def test_figures_are_drawn() -> None:
    drawn = paper.figures([row(seed, topic, 0.3, 0.8) for seed in range(2) for topic in ("a", "c")])
    assert set(drawn) == {"refused", "refused-joint", "steps", "similarity", "layers"}
    assert all(svg.startswith("<svg") for svg in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("emergent-misalignment").reproduce(Scale(seeds=(0,)))
    assert outcome.measured["refusals of the unlearned topic lost"] > 0.5
