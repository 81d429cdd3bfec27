"""Paper `melu`: the world of neighbours, the three overlaps, who meets whom, and how the parts make a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from letheon.core.model.models import LanguageModel
from letheon.forget.request import Request
from letheon.forget.samplers.modular import Modular, Settings, exposure, modules, neighbourhood
from letheon.papers import catalogue, melu
from letheon.papers.common.neighbours import PEOPLE, Neighbourly, fresh_model, make_neighbours
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


@pytest.fixture(scope="module")
def world() -> Neighbourly:
    return make_neighbours(0)


def test_a_world_has_direct_indirect_and_general_rows_and_a_quarter_apart(world: Neighbourly) -> None:
    assert len({row.subject for row in world.forget}) == PEOPLE
    assert {name: len(world.of(name)) for name in ("direct", "indirect", "general")} == {
        "direct": 27,
        "indirect": 27,
        "general": 30,
    }
    assert not set(world.retain) & set(world.test)
    assert len({(row.prompt, row.answer) for row in world.known()}) == len(world.known())
    assert make_neighbours(0) == world != make_neighbours(1)


def test_direct_neighbours_are_linked_and_indirect_ones_share_a_fact_but_no_mention(world: Neighbourly) -> None:
    rows = [*world.retain, *world.test]
    people = {row.subject for row in world.forget}
    assert sum(row.neighbour_of in row.answer for row in rows if row.relation == "direct" and row.neighbour_of) == 18
    for row in rows:
        if row.relation == "indirect":
            assert not any(person in row.prompt + row.answer for person in people if person)
            assert any(row.value == fact.value for fact in world.forget if fact.subject == row.neighbour_of)


def test_every_module_of_the_world_holds_its_own_neighbours(world: Neighbourly) -> None:
    request = Request(forget=world.forget, retain=world.retain)
    around = neighbourhood(request)
    found = modules(request)
    assert len(found) == PEOPLE
    assert all(around.allows(entity, kept) for entity, pairs in found.items() for _, kept in pairs)
    plan = Modular().plan(request, 8, melu.EPOCHS * 11, 0)
    assert exposure(request, plan).beside_own == 1
    assert exposure(request, Modular(Settings("cyclic")).plan(request, 8, 44, 0)).beside_own < 0.6


def test_overlaps_are_hand_worked() -> None:
    assert melu._overlap("Ann lives in Rome", "Ann lives in Oslo") == pytest.approx((3 / 4, 3 / 4))
    assert melu._overlap("", "Ann lives") == (0, 0)
    assert melu._overlap("Oslo Oslo", "Oslo") == pytest.approx((1, 1))


def test_utility_is_the_harmonic_mean_and_efficacy_rewards_garbage(world: Neighbourly) -> None:
    point = melu.utilities_of(world)(fresh_model(world, 0, layers=1, width=32))
    # an untrained model knows nothing: forget efficacy near 1, no utility, perplexity of the order of the vocabulary
    assert point["forget"] > 0.9
    assert max(point[name] for name in ("direct", "indirect", "general", "test")) < 0.1
    assert point["perplexity"] > 100


# The verdict


def runs_with(melu_levels: tuple[float, ...], others: float = 0.5, swing: float = 0.2) -> melu.Runs:
    """A seed for each level of melu; the others jump about between steps and seeds."""

    def points(last: float, width: float) -> Mapping[int, melu.Point]:
        names = ("direct", "direct, unseen", "indirect", "general", "test", "forget", "perplexity")
        values = {11: last - width, 22: last + width, 33: last - width, 44: last}
        return {step: {**dict.fromkeys(names, value), "epochs_end": 22.0} for step, value in values.items()}

    def other(seed: int) -> float:
        return others + (0.1, -0.1, 0.0, 0.1)[seed % 4]

    return {
        seed: {(o, "melu"): points(level, 0.01) for o in melu.OBJECTIVES}
        | {(o, b): points(other(seed), swing) for o in melu.OBJECTIVES for b in melu.BASELINES}
        for seed, level in enumerate(melu_levels)
    }


def judged(runs: Any) -> Findings:
    found = Findings(primary=melu.PRIMARY)
    melu.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("levels", "others", "swing", "verdict"),
    [
        ((0.8, 0.8), 0.5, 0.2, "holds"),
        ((0.3, 0.3), 0.5, 0.2, "fails"),  # lower
        ((0.8, 0.8), 0.5, 0.001, "fails"),  # higher, but less steady over the steps
        ((0.5, 0.5), 0.5, 0.2, "inconclusive"),
        ((0.8,), 0.5, 0.2, "inconclusive"),  # one seed says nothing of the spread
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(levels: tuple[float, ...], others: float, swing: float, verdict: str) -> None:
    result = judged(runs_with(levels * (6 if len(levels) > 1 else 1), others, swing))
    assert len(result.parts) == 9
    assert set(result.intervals) == set(result.parts)
    assert result.verdict == verdict
    assert result.measured["last step, direct"]["melu"] == pytest.approx(sum(levels) / len(levels))


def test_numbers_at_equal_epochs_are_read_where_the_scheme_s_epochs_end() -> None:
    found = melu.equal_epochs(runs_with((0.8, 0.8)))
    assert found["four epochs, direct"]["melu"] == pytest.approx(0.81)
    assert found["four epochs, steps"]["melu"] == 22


def test_figures_are_drawn(world: Neighbourly) -> None:
    request = Request(forget=world.forget, retain=world.retain)
    exposures = {"melu": exposure(request, Modular().plan(request, 8, 11, 0))}
    drawn = melu.figures(runs_with((0.8, 0.8)), exposures)
    assert set(drawn) == {"direct-grad-diff", "direct-dpo", "direct-npo", "met-melu"}
    assert all(svg.startswith("<svg") for svg in drawn.values())


def test_a_tiny_model_is_measured_without_being_changed(tiny: LanguageModel, world: Neighbourly) -> None:
    before = tiny.parameters_hash()
    small = Neighbourly(world.forget[:2], world.retain[:12], world.test[:12])
    point = melu.utilities_of(small)(tiny)
    assert all(math.isfinite(value) for value in point.values())
    assert tiny.parameters_hash() == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("melu").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.primary) == 9
    assert outcome.measured["exposure"]["melu"]["beside own neighbours or general"] == 1
    assert all(math.isfinite(row["direct"]) for row in outcome.rows)
