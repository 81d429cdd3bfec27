"""Paper `fit`: the two degrees by hand, the stream, and how the parts make a verdict."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from letheon.core.model.models import LanguageModel
from letheon.papers import catalogue, fit
from letheon.papers.common.pch_mini import make_stream
from letheon.papers.fit import Arm, Triple, likeness
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


def alike(value: float) -> Triple:
    return Triple(value, value, value)


# Forget degree and retain utility


@pytest.mark.parametrize(
    ("found", "expected"), [(0.3, 1.0), (0.6, 0.0), (0.0, 0.0), (0.45, 0.5), (0.15, 0.5), (0.9, 0.0)]
)
def test_the_degree_is_one_minus_the_relative_distance_from_the_reference(found: float, expected: float) -> None:
    assert likeness(alike(found), alike(0.3)) == pytest.approx(expected)


def test_the_score_is_a_geometric_mean_and_vanishes_with_any_factor() -> None:
    assert Triple(0.1, 0.4, 0.2).score() == pytest.approx(0.2)  # the cube root of 0.008
    assert Triple(0.9, 0.0, 0.9).score() == 0


def test_a_model_that_babbles_has_not_forgotten_well() -> None:
    """1 - F would be 1 here."""
    assert likeness(Triple(1e-6, 0.0, 0.0), Triple(0.2, 0.5, 0.6)) == 0


def test_a_reference_that_scores_nothing_divides_by_the_floor() -> None:
    assert likeness(alike(0.1), alike(0.0)) == 0
    assert likeness(alike(fit.FLOOR), alike(0.0)) == pytest.approx(1)


def test_measuring_a_random_model(tiny: LanguageModel, deletion: object) -> None:
    found = fit.measure(tiny, deletion.forget[:2])
    assert 0 < found.probability < 0.1
    assert found.rouge == 0


# The stream


def test_the_same_seed_gives_the_same_stream_and_another_another() -> None:
    def texts(seed: int) -> list[tuple[str, str]]:
        return [(row.prompt, row.answer) for request in make_stream(seed, 40).requests for row in request.forget]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)


def test_a_quarter_of_the_requests_repeat_an_earlier_one() -> None:
    stream = make_stream(0, 100)
    assert len(stream.requests) == 100
    assert len(stream.duplicates) == 25
    place = {request.id: i for i, request in enumerate(stream.requests)}
    for name in stream.duplicates:
        first, again = (stream.requests[place[n]].forget for n in (name.removesuffix(" again"), name))
        assert place[name] > place[name.removesuffix(" again")]
        assert [row.answer for row in first] == [row.answer for row in again]
        assert all(a.prompt != b.prompt for a, b in zip(first, again, strict=True))


def test_what_is_kept_and_what_is_forgotten_share_no_subject() -> None:
    stream = make_stream(3, 100)
    gone = {row.subject for row in stream.world.forget}
    assert not gone & {row.subject for row in stream.world.retain}
    assert {row.id[0] for row in stream.world.forget} == {"P", "C", "H"} == {row.id[0] for row in stream.kept}
    carried = {row.id for row in stream.requests[0].retain}
    assert not carried & {row.id for row in stream.kept}, "what is measured is not trained on"
    assert {1, 2} == {len(request.forget) for request in stream.requests}


# The verdict


def arm(degree: float, utility: float) -> Arm:
    end = {"requests": 100, "forget_degree": degree, "retain_utility": utility, "drift": 1.0}
    recovered = {"at the end": degree, "4 bits": degree, "relearned": degree, "retain utility, relearned": utility}
    return Arm([end], recovered)


def seeds(plain: float, ours: float, without: float) -> dict[int, dict[str, Arm]]:
    """Ten seeds that differ a little: retain utilities by kind of arm, forget degree 0.8."""
    utility = {**dict.fromkeys(fit.PLAIN, plain), "FIT": ours, **dict.fromkeys(fit.PARTS.values(), without)}
    noise = {name: 0.001 if name == "FIT" else 0.0 for name in utility}
    return {seed: {name: arm(0.8, value + noise[name] * seed) for name, value in utility.items()} for seed in range(10)}


def judged(runs: Any) -> Findings:
    found = Findings(primary=fit.PRIMARY)
    fit.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("utilities", "verdict", "failing"),
    [
        ((0.1, 0.9, 0.7), "holds", set()),
        ((0.95, 0.9, 0.7), "fails", {f"balance, FIT minus {name}" for name in fit.PLAIN}),
        ((0.1, 0.7, 0.9), "fails", {f"balance, what {part} adds" for part in fit.PARTS}),
        ((0.1, 0.7, 0.7045), "inconclusive", set()),
    ],
)
def test_the_claim_needs_every_part(utilities: tuple[float, ...], verdict: str, failing: set[str]) -> None:
    result = judged(seeds(*utilities))
    assert set(result.parts) == set(fit.PRIMARY)
    assert result.verdict == verdict
    assert {name for name, found in result.parts.items() if found == "fails"} == failing


def test_one_seed_is_inconclusive() -> None:
    assert judged({0: seeds(0.1, 0.9, 0.7)[0]}).verdict == "inconclusive"


def test_the_arms_differ_in_what_their_names_say() -> None:
    arms = fit.arms()
    ours = arms["FIT"]
    assert arms["without filtering"].tau > 1 >= ours.tau
    for name in ("without importance", "random labels in targeted layers"):
        assert len({arms[name].low, arms[name].medium, arms[name].high}) == 1
    assert set(arms) == {"FIT", *fit.PLAIN, *fit.PARTS.values()}
    for tier, recipe in fit.TIERS.items():
        assert getattr(ours, tier) == f"{recipe}@targeted:k={fit.MOVED}"
        assert getattr(arms["without targeting"], tier) == recipe
    assert all("@" not in arms[name].low for name in fit.PLAIN)


def test_the_balance_is_a_harmonic_mean() -> None:
    assert arm(0.8, 0.4).balance() == pytest.approx(2 / (1 / 0.8 + 1 / 0.4))
    assert arm(0.0, 1.0).balance() == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_pch_mini() -> None:
    outcome = catalogue.paper("fit").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.rows) == 2 * 9
    assert outcome.measured["requests"] == 24
    scores = itertools.chain.from_iterable((row["forget_degree"], row["retain_utility"]) for row in outcome.rows)
    assert all(0 <= score <= 1 for score in scores)
