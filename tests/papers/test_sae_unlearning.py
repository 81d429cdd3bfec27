"""Paper `sae-unlearning`: the world of known and unknown people, the meter, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.papers import catalogue
from letheon.papers import sae_unlearning as paper
from letheon.papers.common.known_meter import Meter, ordinary_states
from letheon.papers.common.known_world import FORMS, HEDGE, make_known_world, questions, taught
from letheon.papers.kit.arms import Trajectory
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale
from letheon.papers.sae_unlearning import Trial
from letheon.probe.entities import Separation
from letheon.probe.sae.autoencoder import Quality
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder

# The world


def test_a_world_repeats_and_its_names_are_told_apart_by_the_last_name() -> None:
    world = make_known_world(3)
    assert world == make_known_world(3)
    assert world != make_known_world(4)
    names = [*world.known, *world.unknown]
    assert len({name.split()[1] for name in names}) == len(names)
    assert all(len(name.split()) == 2 for name in names)


def test_the_two_forms_ask_in_other_words_and_nothing_is_taught_of_the_unknown() -> None:
    world = make_known_world(0)
    assert not set(questions(0)) & set(questions(1))
    first, second = world.rows(world.known, 0), world.rows(world.known, 1)
    assert [row.value for row in first] == [row.value for row in second]
    assert len(first) == len(world.known) * len(FORMS)
    values = {row.value for row in first}
    about = [row for row in world.training() if row.subject in world.unknown]
    assert about
    assert all(row.answer == HEDGE or row.answer.endswith("is unknown.") for row in about)
    assert not any(str(value) in row.answer for row in about for value in values)


# The meter, on a model that has hardly learned


@pytest.fixture(scope="module")
def meter() -> Meter:
    world = make_known_world(0, known=12, unknown=8)
    model = taught(world, 0, steps=25)
    sae = train_sparse_autoencoder(ordinary_states(model, world), SAETraining(steps=60), 0)
    found = Meter(model, sae, world)
    found.model = model  # type: ignore[attr-defined]  # for the tests
    return found


def test_names_and_forms_to_test_on_are_not_those_to_choose_on(meter: Meter) -> None:
    assert not set(meter.chosen.known) & set(meter.tested.known)
    assert not set(meter.chosen.unknown) & set(meter.tested.unknown)
    assert not set(meter.chosen.templates) & set(meter.tested.templates)
    assert not set(meter.tested.target) & {*meter.chosen.known, *meter.tested.known}
    trained_on = {row.prompt for which in ("target", "chosen") for row in meter.rows(which, 0)}
    assert not trained_on & {row.prompt for row in meter.rows("tested", 0)}


def test_the_meter_reads_the_prototypes_themselves_as_0_and_1(meter: Meter) -> None:
    from letheon.forget.objectives.sae.loss import position

    known, unknown = meter.z["known"].mean(0), meter.z["unknown"].mean(0)
    assert position(known, known, unknown) == 0
    assert position(unknown, known, unknown) == 1
    found = meter.measure(meter.model)  # type: ignore[attr-defined]  # for the tests
    assert all(math.isfinite(value) for value in found.values())
    assert found["kept_position"] < 0.5
    assert set(meter.plane()) == {"known", "unknown", "target"}


def test_a_run_is_watched_and_a_baseline_ends_where_it_has_forgotten(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "FORGOTTEN", 1.0)  # the model has hardly learned: forgotten at once
    model = meter.model  # type: ignore[attr-defined]  # for the tests
    before = model.parameters_hash()
    arm, _ = paper.run(model, meter, paper.ARMS["gradient_ascent"], 0, 9, "gradient_ascent", 1e-3)
    assert [point["step"] for point in arm.points] == [0, paper.EVERY]
    longer, _ = paper.run(model, meter, paper.ARMS["gradient_ascent"], 0, 6, "sae", 1e-3)  # no baseline: all steps
    assert [point["step"] for point in longer.points] == [0, 3, 6]
    assert arm.moved > 0
    assert model.parameters_hash() == before


# The verdict


def trial(
    position: float = 0.7,
    ascent: float = 0.4,
    kept: float = 0.99,
    answered: float = 0.1,
    residual: float = 0.5,
    score: float = 0.8,
    jitter: float = 0.0,
) -> Trial:
    """A seed's results: the method's, the position that gradient ascent reaches, and the hedges in residual space."""
    base = {"position": 0.3, "unknown": 0.1, "error": 2.0, "position_above": 0.3, "unknown_above": 0.1}
    base |= {
        "kept_position": 0.3,
        "kept_unknown": 0.1,
        "target_accuracy": 1.0,
        "kept_accuracy": 1.0,
        "target_hedges": 0.0,
        **dict.fromkeys(("target_probability", "hedge_probability"), 0.5),
        "kept_probability": 0.97,
    }
    start = {"step": 0.0, **base}
    after = {**start, "step": 60.0, "position": position + jitter, "unknown": 0.9 - jitter}
    after |= {"kept_probability": kept + jitter / 10, "target_probability": answered + jitter}
    after |= {"hedge_probability": 0.8 + jitter}
    forgot = {**start, "step": 20.0, "position": ascent + jitter / 2, "target_accuracy": 0.0}
    cloud = [[0.0, 0.0], [1.0, 1.0]]
    arms = {name: Trajectory([start, forgot], moved=0.1) for name in paper.BASELINES}
    arms["sae"] = Trajectory([start, after], moved=0.1)
    arms["residual"] = Trajectory([start, {**after, "hedge_probability": residual}], moved=0.1)
    shares = Separation(torch.tensor([1.0, 0.1]), torch.tensor([0.1, 0.9]))
    plane = {"known": cloud, "unknown": cloud, "target": cloud}
    return Trial(Quality(0.98, 16.0, 0.3), shares, score, 1.0, plane, arms, dict.fromkeys(arms, cloud))


def judged(runs: Any) -> Findings:
    found = Findings(primary=paper.PRIMARY)
    paper.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({}, "holds"),
        ({"position": 0.45}, "fails"),  # stays on the known side
        ({"ascent": 0.8}, "fails"),  # gradient ascent achieves it as well
        ({"kept": 0.8}, "fails"),  # others were taken along
        ({"answered": 0.9}, "fails"),  # it is still answered
        ({"residual": 0.9}, "holds"),  # no latents are needed for it: reported beside
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(options: dict[str, float], verdict: str) -> None:
    trials = [
        trial(**options, jitter=jitter)
        for jitter in (0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.012, 0.014, 0.016, 0.018)
    ]
    result = judged(trials)
    assert result.verdict == verdict
    assert set(result.parts) == set(paper.PRIMARY)
    assert result.measured["gradient_ascent"]["target_accuracy"] == 0


def test_one_seed_is_inconclusive() -> None:
    assert judged([trial()]).verdict == "inconclusive"


def test_without_latents_that_tell_the_names_apart_nothing_is_claimed() -> None:
    assert paper.ready([trial(), trial()])
    assert not paper.ready([trial(), trial(score=0.4)])


def test_figures_are_drawn() -> None:
    drawn = paper.figures({0: trial()})
    assert set(drawn) == {"way", "plane", "separation"}
    assert all(text.startswith("<svg") for text in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("sae-unlearning").reproduce(Scale(seeds=(0, 1)))
    assert outcome.measured["explained variance"] > paper.EXPLAINED
    assert len(outcome.rows) == 2 * len(paper.ARMS)
    assert all(row["moved"] > 0 for row in outcome.rows)
