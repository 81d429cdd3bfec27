"""The soft prompt: it learns, it changes no weight, and it needs a budget."""

from __future__ import annotations

from dataclasses import replace

import torch

from letheon.audit.attacks.soft_prompt import START, answers_behind, run, train_prompt
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.forget.request import Request

ROWS = [
    Example(f"{name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet)
    for name, pet in (("Ann", "cat"), ("Bob", "dog"))
]


def plan(model: LanguageModel, steps: int) -> AuditPlan:
    return make_plan(model, Request(tuple(ROWS), ()), Settings(soft_prompt_steps=steps))


def test_the_prompt_learns_and_the_weights_stay(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    start, later = train_prompt(tiny, ROWS, 1), train_prompt(tiny, ROWS, 4)
    assert start.shape == (len(tiny.encoder().answer(START, end=False)[0]), 64)
    assert not torch.equal(start, later)
    assert tiny.parameters_hash() == before
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_an_empty_prompt_gives_the_plain_answers(tiny: LanguageModel) -> None:
    asked = [row.prompt for row in ROWS]
    assert answers_behind(tiny, torch.zeros(0, 64), ROWS) == generate(
        tiny, asked, max_new_tokens=answer_limit(tiny, ROWS)
    )


def test_it_runs_on_a_budget_only(tiny: LanguageModel) -> None:
    assert run(tiny, plan(tiny, 0)) is None
    one = replace(plan(tiny, 2), trained=ROWS[:1], watched=ROWS[:1])
    assert run(tiny, one) is None
    found = run(tiny, plan(tiny, 1))
    assert found is not None
    assert found.value.value == 0.0
