"""The papers' kit: levels of forgetting, runs of several recipes, and the judging of findings."""

from __future__ import annotations

import pytest

from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel
from letheon.forget.request import Request
from letheon.papers.kit.arms import Arm, Arms, Taught, Trajectory, follow, memory_of
from letheon.papers.kit.findings import Findings, Pairs, judge, means
from letheon.papers.kit.levels import at_equal_forgetting, common_level, first_crossing
from letheon.papers.outcome import Scale
from letheon.report.plots import mean_course

# Levels


@pytest.mark.parametrize(("level", "expected"), [(0.9, 10.0), (0.75, 15.0), (0.2, 35.0), (0.05, None)])
def test_a_level_is_read_where_it_is_first_crossed(level: float, expected: float | None) -> None:
    value = first_crossing([0.9, 0.6, 0.3, 0.1, 0.4], [10.0, 20.0, 30.0, 40.0, 50.0], level)
    assert value == (expected if expected is None else pytest.approx(expected))


def test_the_common_level_is_the_lowest_that_every_path_reaches() -> None:
    assert common_level([[0.9, 0.25], [0.9, 0.12]]) == 0.3
    assert common_level([[0.9, 0.85], [0.9, 0.1]]) is None


def path(*points: tuple[float, float]) -> Trajectory:
    return Trajectory([{"forget_probability": p, "retain_probability": q} for p, q in points])


def test_runs_are_compared_at_the_level_that_the_compared_arms_reach() -> None:
    ours, theirs, slow = path((0.9, 1.0), (0.1, 0.6)), path((0.9, 1.0), (0.3, 0.4)), path((0.9, 1.0), (0.8, 0.9))
    runs = {seed: {"ours": ours, "theirs": theirs, "slow": slow} for seed in (0, 1)}
    kept = at_equal_forgetting(runs, compare=("ours", "theirs"), keep="retain_probability")
    assert kept.level == 0.3
    assert kept.pairs("theirs", "ours") == Pairs([pytest.approx(0.4)] * 2, [pytest.approx(0.7)] * 2)
    assert kept.values("slow") == [None, None]
    assert kept.means()["slow"] is None
    assert [level for level, _ in kept.curve("slow", grid=(0.9, 0.8, 0.7))] == [0.9, 0.8]
    assert kept.figure("forget", "retain", "words").startswith("<svg")
    assert at_equal_forgetting(runs, compare=("slow",), keep="retain_probability", levels=(0.1,)).values("ours") == [
        None,
        None,
    ]


# Arms


def test_arms_share_settings_and_may_have_their_own_rate() -> None:
    fast = Arms({"a": "npo", "b": "gradient_ascent"}, rate=1e-3, steps=4, batch_size=2, rates={"b": 1e-4})
    full = fast.replace(steps=8)
    assert fast.at_scale(Scale("full"), full) is full
    assert fast.at_scale(Scale("fast"), full) is fast
    assert fast.arms() == {"a": Arm("npo", 1e-3, 4, 2), "b": Arm("gradient_ascent", 1e-4, 4, 2)}


def test_every_arm_starts_from_the_taught_model_and_leaves_it_alone(tiny: LanguageModel, deletion: Request) -> None:
    before = tiny.parameters_hash()
    taught = Taught(tiny, deletion, memory_of({"forget": deletion.forget}))
    runs = Arms({"a": "npo", "b": "npo"}, rate=1e-3, steps=4, batch_size=4, every=2).run(taught, seed=0)
    assert tiny.parameters_hash() == before
    assert [point["step"] for point in runs["a"].points] == [0, 2, 4]
    assert runs["a"].points == runs["b"].points
    assert len(runs["a"].history) == 4
    assert runs["a"].moved > 0
    assert runs["a"].after(2, "forget_probability") == runs["a"].column("forget_probability")[1]


def test_a_run_may_end_early_and_be_measured_at_chosen_steps(tiny: LanguageModel, deletion: Request) -> None:
    taught = Taught(tiny, deletion, memory_of({"forget": deletion.forget}))
    run = follow(taught, Arm("npo", 1e-3, 9, 4, at=(1, 3)), 0, until=lambda point: point["step"] == 3)
    assert [point["step"] for point in run.points] == [1, 3]
    assert len(run.history) == 3


def test_a_mean_course_is_as_long_as_the_shortest_one() -> None:
    assert mean_course([[1.0, 2.0, 3.0], [3.0, 4.0]]) == [(1.0, 2.0), (2.0, 3.0)]


# Findings


def test_parts_decide_and_reported_quantities_do_not() -> None:
    found = Findings(measured={"size": 3})
    lower = Pairs([1.0, 2.0, 3.0], [0.5, 1.6, 2.4])
    found.decide("gain", [1.0, 1.1, 1.2], above=0.0)
    found.report("other", lower, above=0.0)
    found.report("plain", [1.0, 2.0])
    assert found.measured == {"size": 3, "gain": pytest.approx(1.1), "other": pytest.approx(-0.5), "plain": 1.5}
    assert set(found.intervals) == {"gain", "other", "plain"}
    assert (found.parts, found.beside) == ({"gain": "holds"}, {"other": "fails"})
    assert found.verdict == "holds"
    found.decide("other", lower, above=0.0, value=False)
    assert found.verdict == "fails"


def test_a_seed_without_a_value_is_left_out() -> None:
    assert judge([1.0, None, 2.0], above=0.0).value == 1.5
    assert judge([1.0, None], above=0.0).verdict == "inconclusive"
    assert judge([None], below=0.0) == (None, None, "inconclusive", 1.0, 0)
    assert judge([1.0, 1.2, 1.1], below=0.0).verdict == "fails"


def test_exactly_one_threshold_is_given() -> None:
    with pytest.raises(LetheonError, match="were given"):
        judge([1.0, 2.0])
    with pytest.raises(LetheonError, match="were given"):
        judge([1.0, 2.0], above=0.0, below=1.0)


def test_an_outcome_tells_primary_parts_apart_from_those_beside() -> None:
    found = Findings(baselines=["nothing"], measured={"ours": 2.0}, rows=[{"seed": 0}])
    found.decide("gain", [1.0, 1.1, 1.2], above=0.0, value=False)
    found.report("beside", [1.0, 1.1, 1.2], below=0.0)
    outcome = found.outcome("gu", "more than nothing", Scale(seeds=(0, 1, 2)), 1.5)
    assert list(outcome.measured) == ["ours", "beside"]
    assert outcome.primary == {
        "gain": {
            "verdict": "holds",
            "mean": pytest.approx(1.1),
            "p": pytest.approx(0.0027, abs=1e-4),
            "n": 3,
            "above": 0.0,
        }
    }
    assert outcome.beside["beside"]["verdict"] == "fails"
    assert (outcome.verdict, outcome.seeds, outcome.baselines) == ("holds", [0, 1, 2], ["nothing"])
    assert outcome.interval == found.intervals


def test_means_are_over_the_columns_that_are_numbers() -> None:
    rows = [{"seed": 0, "hits": 1, "share": 0.5, "curve": [1.0]}, {"seed": 1, "hits": 2, "share": 1.0, "curve": [2.0]}]
    assert means(rows) == {"hits": 1.5, "share": 0.75}
    assert means(rows, ["share"]) == {"share": pytest.approx(0.75)}
