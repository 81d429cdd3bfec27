"""The benchmark of default recipes: its worlds, what it leaves out, how it sums up."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.forget_worlds import TAUGHT, person_rows, world
from tests.measure.rwku_data import write_folders

from benchmarks import default_recipe, forget_worlds
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


@pytest.mark.parametrize("name", TAUGHT)
def test_the_rows_of_a_world_are_distinct_and_filled_in(name: str) -> None:
    request = TAUGHT[name]()
    rows = [*request.forget, *request.retain, *request.neighbours]
    assert len({(row.prompt, row.answer) for row in rows}) == len(rows)
    for row in rows:
        assert not re.search(r"\{(n|\d*)\}|\{\{", row.prompt + row.answer)
        assert "|" not in row.answer
        assert row.perturbed_answers
        assert row.answer not in row.perturbed_answers


def test_running_text_has_another_text_to_forget_under_each_seed() -> None:
    def rows(request: Request) -> Request:
        return replace(request, received="")  # the second may pass between two requests

    for name, count in (("passages", 8), ("letters", 5), ("poems", 7)):
        own = [{row.id for row in forget_worlds.taught_rows(name, seed).forget} for seed in range(count)]
        assert len(set.union(*own)) == sum(map(len, own))
        assert rows(forget_worlds.taught_rows(name, count)) == rows(forget_worlds.taught_rows(name, 0))
    assert rows(forget_worlds.taught_rows("firms", 3)) == rows(TAUGHT["firms"]())


def test_models_that_forget_unlike_texts_share_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget_worlds, "_teach", lambda *_: None)
    made = [forget_worlds.world("letters", seed, tmp_path, None) for seed in (1, 2)]
    assert all(isinstance(one, forget_worlds.World) for one in made)
    own = [(Path(one.reference).parent.name, one.request.forget[0].id) for one in made if not isinstance(one, str)]
    assert own == [("letters-1-bertold-0", "bertold-0"), ("letters-2-clemence-0", "clemence-0")]


def test_a_person_s_questions_are_distinct_and_no_neighbour_s_answer_is_one_of_theirs(tmp_path: Path) -> None:
    request = person_rows(write_folders(tmp_path), "Ada Byrne")
    assert [row.answer for row in request.forget] == ["Kilmore"] * 3
    assert len({row.prompt for row in request.forget}) == 3
    assert request.retain == request.neighbours == ()  # both of its neighbours stand in Kilmore


def test_missing_data_is_a_message(tmp_path: Path) -> None:
    assert world("tofu", 0, tmp_path, None) == "tofu: no tofu_golden/adapters in --data or $LETHEON_DATA"
    assert "tofu:" in str(world("tofu", 0, tmp_path, tmp_path))
    assert world("king", 0, tmp_path, tmp_path) == "king: no rwku in --data or $LETHEON_DATA"
    assert world("tofu01", 0, tmp_path, tmp_path) == "tofu01: no tofu in --data or $LETHEON_DATA"


def test_two_authors_are_forgotten_beside_kept_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tofu").mkdir()
    for name, count in (("forget01", 40), ("retain", 400)):
        rows = [{"question": f"Who wrote {name} {i}?", "answer": f"Author {i // 20} did."} for i in range(count)]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / "tofu" / f"{name}_perturbed.json").write_text(text)
    monkeypatch.setattr(forget_worlds, "_teach", lambda *_: None)
    made = forget_worlds.world("tofu01", 0, tmp_path, tmp_path)
    assert not isinstance(made, str)
    assert [len(rows) for rows in (made.request.forget, made.request.retain, made.request.neighbours)] == [40, 60, 20]


def test_options_are_asked_where_rows_have_values(tiny: LanguageModel) -> None:
    assert default_recipe.options_share(tiny, TAUGHT["firms"]()) is None
    demo = TAUGHT["demo"]()
    tries = default_recipe._choices(demo.forget, [*demo.forget, *demo.retain], 0)
    assert len(tries) == len(demo.forget)
    assert all(trial.example.value in trial.options for trial in tries)


def test_a_recipe_is_summed_up_by_means_and_its_worst_forget_quality() -> None:
    row = {"passed": True, "options_excess": 0.1, "retain_drop": 0.0, "fluency_gap": 0.2}
    row |= {"forget_quality": 0.5, "cost": 2}
    other = {**row, "passed": False, "options_excess": None, "forget_quality": 0.01}
    found = default_recipe.summed([row, other])
    assert found["passed"] == 0.5
    assert found["options_excess"] == 0.1
    assert found["forget_quality"] == 0.01
    assert default_recipe.summed([])["cost"] is None


def test_the_control_is_taught_without_the_rows_under_a_seed_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[str, int, str, list[str]]] = []

    def teach(name: str, rows: Sequence[Example], seed: int, place: Path) -> None:
        taught.append((name, seed, place.name, [row.id for row in rows]))

    monkeypatch.setattr(forget_worlds, "_teach", teach)
    made = forget_worlds.world("firms", 3, tmp_path, None)
    assert not isinstance(made, str)
    assert forget_worlds.retrained_again("firms", made.request, 3, tmp_path) == str(tmp_path / "firms-3" / "retrained")
    assert forget_worlds.retrained_again("tofu", made.request, 3, tmp_path) is None
    (_, _, _, before), (_, seed, _, reference), (_, other, _, again) = taught
    assert again == reference
    assert seed != other
    forgotten = {row.id for row in made.request.forget}
    assert forgotten <= set(before)
    assert not forgotten & set(again)


def test_a_gap_is_none_where_either_model_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = {"after": -2.54, "reference": None, "before": -3.97}
    monkeypatch.setattr(default_recipe, "_value", lambda record, metric, subset, model: levels[model])
    after, reference, before = (("fluency", "forget", model) for model in ("after", "reference", "before"))
    assert default_recipe._difference(None, reference, after) is None  # type: ignore[arg-type]  # no record is read
    assert default_recipe._difference(None, after, reference) is None  # type: ignore[arg-type]  # no record is read
    assert default_recipe._difference(None, after, before) == 1.43  # type: ignore[arg-type]  # no record is read
