"""Stored examinations: a second audit of a request asks the models before and reference nothing."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import letheon
from letheon.audit.attacks.relearning import matrix_sizes
from letheon.audit.measuring import examinations
from letheon.audit.measuring.answer_kinds import FoundFact
from letheon.audit.measuring.examinations import examine_once, folder, from_text, key_of_examination, to_text
from letheon.audit.measuring.findings import ModelFindings, examine
from letheon.audit.plan import QUICK, AuditPlan, make_plan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import Request

ROWS = tuple(
    Example(f"What has {name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet, perturbed_answers=("No.",))
    for name, pet in (("Ada", "cat"), ("Bo", "dog"))
)
SMALL = replace(QUICK, relearn_steps=0, max_new_tokens=2, general_texts=1, grids=(), attack_rows=1)


def plan(model: LanguageModel) -> AuditPlan:
    return make_plan(model, Request(ROWS[:1], ROWS[1:]), SMALL)


def silent(stage: str) -> None:
    """Ignore a stage."""


def test_an_examination_is_read_back_as_it_was_and_asks_nothing(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETHEON_EXAMINATIONS", str(tmp_path / "stored"))
    given = plan(tiny)
    first = examine_once(tiny, given, silent)
    assert from_text(to_text(first)) == first
    (file,) = (tmp_path / "stored").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def fail(*_: object) -> ModelFindings:
        raise AssertionError("the model was asked again")

    stages: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(examinations, "examine", fail)
        assert examine_once(tiny, given, stages.append) == first
    assert all(stage.endswith("(stored)") for stage in stages)
    file.write_text("{}")  # a torn file is measured anew
    assert examine_once(tiny, given, silent).forget == first.forget


def test_rows_whose_facts_were_found_are_read_back_too(tiny: LanguageModel) -> None:
    text = Example("", "Ada Orr of Kilmore lives by the pond and keeps nine geese there since 1913.", id="text")
    plain = replace(ROWS[0], id="plain", value=None, subject=None)
    for rows in ((ROWS[0], text), (ROWS[0], plain)):
        found = examine(tiny, make_plan(tiny, Request(rows, ROWS[1:]), SMALL), silent)
        assert from_text(to_text(found)) == found
        assert {type(row.example) for row in found.forget.rows} == {Example, FoundFact}


def test_where_relearning_trains_a_model_the_sizes_of_its_matrices_are_measured(tiny: LanguageModel) -> None:
    for steps, measured in ((0, {}), (1, matrix_sizes(tiny))):
        settings = replace(SMALL, relearn_steps=steps)
        assert examine(tiny, make_plan(tiny, Request(ROWS[:1], ROWS[1:]), settings), silent).sizes == measured


def test_the_key_tells_weights_plans_and_templates_apart(tiny: LanguageModel) -> None:
    given = plan(tiny)
    keys = [key_of_examination(tiny, given), key_of_examination(tiny, replace(given, settings=QUICK))]
    keys.append(key_of_examination(tiny, replace(given, forget=list(ROWS))))
    template, tiny.tokenizer.chat_template = tiny.tokenizer.chat_template, None
    keys.append(key_of_examination(tiny, given))
    tiny.tokenizer.chat_template = template
    assert key_of_examination(tiny, given) == keys[0]
    with torch.no_grad():
        next(tiny.model.parameters()).add_(1e-3)
    keys.append(key_of_examination(tiny, given))
    assert len(set(keys)) == len(keys)


def test_an_empty_variable_stores_nothing(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHEON_EXAMINATIONS", "")
    assert folder() is None
    monkeypatch.setattr(examinations, "examine", lambda *_: "asked")
    assert examine_once(tiny, plan(tiny), silent) == "asked"


def test_old_files_go_and_few_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examinations, "MOST_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number}.json").write_text("x")
    examinations._prune(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_model_after_is_always_asked_and_the_cache_can_be_left_alone(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETHEON_EXAMINATIONS", str(tmp_path))
    asked: list[str] = []

    def count(model: LanguageModel, *rest: object) -> ModelFindings:
        asked.append(model.name)
        return examine(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(examinations, "examine", count)
    after = letheon.load("tiny", device="cpu")
    request = Request(ROWS[:1], ROWS[1:])
    for _ in range(2):
        letheon.audit(tiny, after, request, settings=SMALL, judge=after)
    assert asked == ["tiny"]  # the model before, once
    letheon.audit(tiny, after, request, settings=SMALL, judge=after, cache=False)
    assert asked == ["tiny"]
