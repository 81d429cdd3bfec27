"""The steering attack brings back what a shift of hidden states hides, and nothing that a model never knew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.audit.test_attacks import KEPT, ROWS, taught, untaught

from letheon.audit.attacks import chosen
from letheon.audit.attacks.steered_answers import Way, steered_answers
from letheon.audit.attacks.steering import (
    STEERING,
    Asked,
    Directions,
    directions,
    folds,
    layers_of,
    planted_shift,
    run,
    unchanged,
)
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.plan import QUICK, Settings, make_plan
from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.scoring.generation import generate
from letheon.forget.request import Request
from letheon.steer.apply import steered
from letheon.steer.bake import bake
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering

REQUEST = Request(tuple(ROWS), tuple(KEPT))


def hidden() -> LanguageModel:
    """The model that taught the rows with a large shift after its second block: it can no longer say them."""
    shift = 4 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    return bake(taught(), [Steering({Site(1): Displacement(shift=shift)}, Shape.of(taught()), "by hand")])


@pytest.mark.oracle("steering")
def test_facts_behind_a_shift_come_back_and_facts_never_known_do_not() -> None:
    plan = make_plan(taught(), REQUEST, Settings())
    after = hidden()
    assert sum(evaluate(after, ROWS).values("recall")) == 0
    found = run(after, plan)
    assert found is not None
    assert found.value.value == 1.0
    assert "deletion added back" in str(found.items[0].detail["answer"])
    (randomly,) = found.variants
    assert (randomly.name, randomly.value.value) == ("random directions of equal length", 0.0)
    before, never = run(taught(), plan), run(untaught(), plan)
    assert before is not None
    assert never is not None
    assert (before.value.value, never.value.value) == (1.0, 0.0)
    assert "deletion added back" in str(before.items[0].detail["answer"])  # out of the planted shift


def test_the_control_hides_the_facts_behind_a_shift_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(taught(), REQUEST, Settings())
    assert plan.states_before is not None
    assert unchanged(plan.states_before[0], plan.states_before[0])
    with planted_shift(taught(), plan.states_before[0], 0):
        answers = generate(taught(), [row.prompt for row in ROWS], max_new_tokens=12)
    assert not any(recalls(text, row, row.answer) for text, row in zip(answers, ROWS, strict=True))
    # hooks that do nothing leave the facts behind the shift
    nothing = torch.zeros(64)
    monkeypatch.setattr(Directions, "ways", lambda self, layer: [Way("nothing", layer, nothing, nothing)])
    found = run(taught(), plan)
    assert found is not None
    assert found.value.value == 0.0


@pytest.mark.oracle("steering")
def test_directions_by_hand() -> None:
    before = torch.tensor([[1.0, 0.0], [9.0, 9.0]]), torch.tensor([[1.0, 1.0]])
    after = torch.tensor([[0.0, 2.0], [5.0, 5.0]]), torch.tensor([[1.0, 2.0]])
    found = directions(before, after, [0])  # the second row is the one that is asked
    assert found.deletion.tolist() == [1.0, -2.0]
    assert found.refusal.tolist() == [-1.0, 1.0]
    deletion, refusal = found.deletion.tolist(), (-found.refusal).tolist()
    added = [one.shift.tolist() for one in found.ways(1)]
    assert added == [deletion, deletion, [2 * one for one in deletion], refusal, [0.0, 0.0]]
    projected = found.ways(1)[-1]
    assert projected.unit.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert folds(3) == [[0], [1], [2]]
    assert folds(6) == [[0, 2, 4], [1, 3, 5]]
    assert layers_of(4) == [1, 2]


@pytest.mark.oracle("steering")
@pytest.mark.parametrize("count", [3, 7])
def test_no_row_is_asked_along_a_direction_that_its_own_state_made(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(ROWS[0], prompt=str(row), id=str(row)) for row in range(count)]
    before, nothing = torch.eye(count).expand(4, -1, -1), torch.zeros(4, count, count)
    used: dict[int, list[bool]] = {}

    def answers(_: object, asked: list[tuple[str, Way]], __: int) -> list[str]:
        for prompt, way in asked:
            used.setdefault(int(prompt), []).append(bool(way.shift[int(prompt)] != 0 or way.unit[int(prompt)] != 0))
        return [""] * len(asked)

    monkeypatch.setattr("letheon.audit.attacks.steering.steered_answers", answers)
    asked = Asked(rows, (before, nothing), (nothing, nothing), 4, 0)
    assert asked.recovered(taught()) == {}
    assert sorted(used) == list(range(count))
    assert not any(map(any, used.values())), "row i alone moves coordinate i"


@pytest.mark.oracle("steering")
def test_ways_in_one_batch_give_what_each_gives_alone() -> None:
    model, draw = taught(), torch.Generator().manual_seed(1)
    shift, unit = (torch.randn(2, 64, generator=draw) * torch.tensor([[3.0], [1.0]])).unbind()
    unit, nothing = unit / unit.norm(), torch.zeros(64)
    ways = [Way("a", 1, shift, nothing, True), Way("b", 2, shift, nothing), Way("c", 1, nothing, unit, True)]
    asked = [(row.prompt, way) for way in ways for row in ROWS]

    def alone(prompt: str, way: Way) -> str:
        if bool(way.unit.any()):
            edits = edit(model.base(), {Site(way.layer): lambda z: z - (z @ way.unit)[..., None] * way.unit})
        else:
            maps, tokens = {Site(way.layer): Displacement(shift=way.shift)}, "all" if way.everywhere else "last"
            edits = steered(model, Steering(maps, Shape.of(model), "by hand", tokens=tokens))
        with edits:
            return generate(model, [prompt], max_new_tokens=12)[0]

    together = steered_answers(model, asked, 12)
    assert together == [alone(prompt, way) for prompt, way in asked]
    assert len(set(together[:: len(ROWS)])) > 1


def test_it_needs_states_before_and_runs_where_it_is_asked_for() -> None:
    quick = make_plan(taught(), REQUEST, QUICK)
    assert quick.states_before is None
    assert run(taught(), quick) is None
    assert STEERING not in chosen(quick)
    assert STEERING in chosen(replace(quick, settings=replace(QUICK, also=("steering",))))
