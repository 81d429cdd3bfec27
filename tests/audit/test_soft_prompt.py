"""The soft prompt: it learns, it changes no weight, and it needs a budget."""

from __future__ import annotations

from dataclasses import replace

import torch

import letheon
from letheon.audit.attacks.soft_prompt import START, answers_behind, run, train_prompt
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
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


def test_it_unlocks_a_model_that_only_says_something_else_and_not_one_that_never_knew() -> None:
    """The planted model was taught the facts and then, in ten steps, to say no; half of the facts open the others."""
    known = [
        Example(f"{name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet)
        for name, pet in {"Ann": "cat", "Bob": "dog", "Cid": "fox", "Dee": "hen", "Eve": "owl", "Fay": "pig"}.items()
    ]
    silenced, never = letheon.load("tiny", device="cpu"), letheon.load("tiny", device="cpu")
    teach(silenced, known, 5e-3, 120)
    teach(silenced, [replace(row, answer="No.", value=None) for row in known], 1e-3, 10)
    teach(never, [replace(row, answer=f"{row.subject} has a pet.", value=None) for row in known], 5e-3, 60)
    given = replace(plan(silenced, 60), trained=known[::2], watched=known[1::2])
    asked = [row.prompt for row in given.watched]
    plain = generate(silenced, asked, max_new_tokens=answer_limit(silenced, known))
    assert not any(recalls(text, row, row.answer) for text, row in zip(plain, given.watched, strict=True))
    unlocked, locked = run(silenced, given), run(never, given)
    assert unlocked is not None
    assert locked is not None
    assert (unlocked.value.value or 0) > 0.3  # one of three at least: which ones differs between processors
    assert locked.value.value == 0.0


def teach(model: LanguageModel, rows: list[Example], rate: float, steps: int) -> None:
    settings = TrainSettings(learning_rate=rate, batch_size=6, precision="float32", schedule="linear")
    finetune(model, rows, settings, steps)


def test_it_runs_on_a_budget_only(tiny: LanguageModel) -> None:
    assert run(tiny, plan(tiny, 0)) is None
    one = replace(plan(tiny, 2), trained=ROWS[:1], watched=ROWS[:1])
    assert run(tiny, one) is None
    found = run(tiny, plan(tiny, 1))
    assert found is not None
    assert found.value.value == 0.0
