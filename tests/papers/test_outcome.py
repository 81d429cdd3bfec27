"""What a run of a paper gathers, and the outcome that is made of it."""

from __future__ import annotations

import pytest

from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values, means

ABOVE = judge_values([1.0, 2.0], 0.0, "above")
BELOW = judge_pairs([1.0, 2.0], [0.5, 1.0], 0.0, "above")


def test_parts_decide_and_what_is_told_does_not() -> None:
    found = Findings({"size": 3})
    found.decide({"gain": ABOVE})
    found.tell({"other": BELOW})
    assert found.measured == {"size": 3, "gain": 1.5, "other": -0.75}
    assert set(found.intervals) == {"gain", "other"}
    assert found.parts == {"gain": "holds"}
    assert found.verdict == "holds"
    found.decide({"other": BELOW})
    assert found.verdict == "fails"


def test_values_told_by_arm_are_not_told_again_as_differences() -> None:
    found = Findings.by_arm({"ours": 2.0, "theirs": 1.0}, {"gain": ABOVE}, {"other": BELOW})
    assert found.measured == {"ours": 2.0, "theirs": 1.0}
    assert set(found.intervals) == {"gain", "other"}
    assert (found.parts, found.beside) == ({"gain": "holds"}, {"other": "fails"})
    assert found.verdict == "holds"


def test_an_outcome_tells_the_parts_last_and_takes_the_time() -> None:
    claim = Claim("gu", "more than nothing", ["nothing"])
    found = Findings.by_arm({"ours": 2.0}, {"gain": ABOVE}, {"other": BELOW})
    outcome = claim.outcome(found, (0, 1), {}, [{"seed": 0}, {"seed": 1}])
    assert list(outcome.measured) == ["ours", "parts", "beside the claim"]
    assert outcome.interval == found.intervals
    assert (outcome.verdict, outcome.seeds, outcome.baselines) == ("holds", [0, 1], ["nothing"])
    assert 0 <= outcome.seconds < 10
    assert "beside the claim" not in claim.outcome(Findings(), (0,), {}, []).measured


def test_another_rule_may_give_the_verdict() -> None:
    found = Findings(parts={"gain": "holds"})
    assert Claim("gu", "", []).outcome(found, (0,), {}, [], verdict="inconclusive").verdict == "inconclusive"


def test_means_are_over_the_columns_that_are_numbers() -> None:
    rows = [{"seed": 0, "hits": 1, "share": 0.5, "curve": [1.0]}, {"seed": 1, "hits": 2, "share": 1.0, "curve": [2.0]}]
    assert means(rows) == {"hits": 1.5, "share": 0.75}
    assert means(rows, ["share"]) == {"share": pytest.approx(0.75)}
