"""The lens reads what a layer would say, and finds what the last layers keep back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from letheon.audit.attacks import lens as attack
from letheon.audit.attacks.candidate_answers import Question, questions
from letheon.audit.attacks.lens import LOGIT_LENS, TOKENS, lens, rank_at, ranks_by_layer, run
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example

ANIMALS = ("cat", "dog", "fox", "hen", "owl", "pig", "ram", "bee")
NAMES = ("Ann", "Bob", "Cid", "Dee", "Eve", "Fay", "Gus", "Hal")
ROWS = [
    Example(f"What has {name}?", f"{name} has a {animal}.", id=name, subject=name, value=animal)
    for name, animal in zip(NAMES, ANIMALS, strict=True)
]
PLAN: Any = SimpleNamespace(tried_facts=ROWS[:2], retain=ROWS[2:], neighbours=[])


@pytest.mark.oracle("logit_lens")
def test_at_the_last_layer_the_lens_is_the_model(tiny: LanguageModel) -> None:
    ids = torch.tensor([list(tiny.encoder().prompt("Who is there?"))])
    with torch.inference_mode(), record(tiny.model, [Site(3), Site(1)]) as states:
        logits = tiny.model(ids).logits[0, -1]
    torch.testing.assert_close(lens(tiny, states[Site(3)][:, -1])[0], logits, atol=1e-5, rtol=1e-5)
    by_hand = tiny.model.lm_head(tiny.model.model.norm(states[Site(1)][:, -1]))
    torch.testing.assert_close(lens(tiny, states[Site(1)][:, -1]), by_hand, atol=1e-5, rtol=1e-5)


def test_candidates_are_compared_where_they_part(tiny: LanguageModel) -> None:
    question = Question(ROWS[0], ("Ann has a cow.", "Ann has a dog."))  # `c` of cow is the `c` of cat: they part later
    alone = ranks_by_layer(tiny, [Question(ROWS[0], ("Ann has a cow.",))])
    assert alone.shape == (4, 1)
    assert set(alone.ravel()) <= {0.0, 1.0}
    assert set(ranks_by_layer(tiny, [question]).ravel()) <= {0.25, 0.75}  # cat and cow tie at their first byte


@pytest.mark.oracle("logit_lens")
def test_answers_are_ranked_by_as_many_tokens_as_the_layer_would_say_them(tiny: LanguageModel) -> None:
    def likely(answer: str, start: str, count: int) -> float:
        """The mean log-probability of some tokens of an answer, by a pass over the whole of it."""
        prompt = tiny.encoder().prompt(ROWS[0].prompt)
        ids = torch.tensor([[*prompt, *tiny.encoder().answer(answer)[0]]])
        with torch.inference_mode(), record(tiny.model, [Site(1)]) as states:
            tiny.model(ids)
            logp = tiny.model.lm_head(tiny.model.model.norm(states[Site(1)]))[0].log_softmax(-1)
        places = range(len(prompt) + len(start), len(prompt) + len(start) + count)
        floor = -math.log(tiny.model.config.vocab_size)
        return float(np.mean([max(float(logp[at - 1, ids[0, at]]), floor) for at in places]))

    question = Question(ROWS[0], ("Ann has a cow and a great many hens.", "Ann has a cup.", "An old cat."))
    shared = [("Ann has a c", 4), ("Ann has a c", 4), ("An", TOKENS)]  # "at." with the end; "n has a " and " old cat"
    for tokens, mine in ((TOKENS, rank_at(tiny, question, 1).whole), (1, rank_at(tiny, question, 1).first)):
        ahead = [
            likely(ROWS[0].answer, start, min(count, tokens)) - likely(false, start, min(count, tokens))
            for false, (start, count) in zip(question.false, shared, strict=True)
        ]
        assert mine == np.mean([float(one > 0) + 0.5 * float(one == 0) for one in ahead])
    orders = [
        rank_at(tiny, Question(replace(ROWS[0], answer=one), (two,)), 1).whole
        for one, two in permutations(question.answers[:3], 2)
    ]
    assert sum(orders) == 3  # an order, whichever of two is the true one


@pytest.mark.parametrize("crushed", range(len("Ann has a "), len("Ann has a ") + TOKENS))
def test_one_token_that_is_pushed_down_does_not_hide_the_others(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, crushed: int
) -> None:
    true, false = (tiny.encoder().answer(text)[0] for text in ("Ann has a cathedral.", "Ann has a dormouse."))
    prompt = list(tiny.encoder().prompt(ROWS[0].prompt))

    def places(model: LanguageModel, rows: list[list[int]], sites: list[Site]) -> torch.Tensor:
        begun = [row[len(prompt) :] for row in rows]
        return torch.tensor([[[list(true[: len(one)]) == one, len(one)] for one in begun]], dtype=torch.float32)

    def logits(model: LanguageModel, states: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(len(states), tiny.model.config.vocab_size)
        for row, (is_true, at) in zip(found, states.int().tolist(), strict=True):
            row[false[min(at, len(false) - 1)]] = 1.0
            if is_true:
                row[true[at]] = -40.0 if at == crushed else 8.0
        return found

    monkeypatch.setattr(attack, "lens", logits)
    monkeypatch.setattr(attack, "site_states", places)
    row = replace(ROWS[0], answer="Ann has a cathedral.")
    assert rank_at(tiny, Question(row, ("Ann has a dormouse.",)), 1).whole == 1.0


Holds = Callable[[str, str], bool]  # whether layer 1 holds the value (second) after a question about a name (first)


def plant(monkeypatch: pytest.MonkeyPatch, holds: Holds, only: slice = slice(None)) -> None:
    """Give layer 1 states that hold the next token of what a name has; all other states are noise.

    Args:
        only: the places within the answer's value where it is held.
    """

    def states(model: LanguageModel, rows: list[list[int]], **_: Any) -> torch.Tensor:
        encoder = model.encoder()
        table = model.model.lm_head.weight.detach()
        found = torch.zeros(4, len(rows), 64)
        for i, row in enumerate(rows):
            found[:, i] = torch.randn(4, 64, generator=torch.Generator().manual_seed(len(row))) / 8
            name = re.search(r"What has ([\w ]+)\?", model.tokenizer.decode(row))
            for animal in ANIMALS if name else ():
                one = name.group(1) if name else ""
                begun = [*encoder.prompt(f"What has {one}?"), *encoder.answer(f"{one} has a ", end=False)[0]]
                whole = [*begun, *encoder.answer(animal, end=False)[0], -1]
                places = range(len(begun), len(whole) - 1)[only]
                if holds(one, animal) and len(row) in places and whole[: len(row)] == row:
                    found[1, i] = table[whole[len(row)]]
        return found

    monkeypatch.setattr(attack, "token_states", states)
    monkeypatch.setattr(attack, "site_states", lambda model, rows, sites: states(model, rows)[[sites[0].layer]])


HAS = dict(zip(NAMES, ANIMALS, strict=True))
FORGOTTEN = ("Ann", "Bob")


@pytest.mark.oracle("logit_lens")
def test_what_a_layer_holds_is_found_with_a_layer_chosen_on_kept_rows(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda name, animal: HAS[name] == animal)
    held = run(tiny, PLAN)
    plant(monkeypatch, lambda name, animal: HAS[name] == animal and name not in FORGOTTEN)
    gone = run(tiny, PLAN)
    assert held is not None
    assert gone is not None
    assert held.value.value == 1.0
    assert (gone.value.value or 0.0) < 1.0
    for tried in (held, gone):
        assert {item.detail["layer"] for item in tried.items} == {1.0}
        assert [item.id for item in tried.items] == ["Ann", "Bob"]


@pytest.mark.oracle("logit_lens")
def test_a_layer_that_lacks_the_first_token_alone_still_holds_the_value(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda name, animal: HAS[name] == animal and name not in FORGOTTEN)
    kept_layer = ranks_by_layer(tiny, questions(ROWS[2:], ROWS[:2])[0])[:-1].mean(1).argmax()
    assert kept_layer == 1
    plant(monkeypatch, lambda name, animal: HAS[name] == animal, only=slice(1, None))
    asked = questions(ROWS[2:], ROWS[:2])[1]
    assert [rank_at(tiny, question, 1).whole for question in asked] == [1.0, 1.0]


def test_the_true_answer_is_no_false_one() -> None:
    alike = replace(ROWS[0], perturbed_answers=("Torvik Aldane has a cat.", ROWS[0].answer))
    (question,) = questions(ROWS[2:], [alike])[1]
    assert question.false == ("Torvik Aldane has a cat.",)


def test_a_model_of_one_layer_has_none_before_the_last(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "ranks_by_layer", lambda model, kept: np.ones((1, len(kept))))
    assert run(tiny, PLAN) is None


def test_it_asks_for_kept_rows(tiny: LanguageModel) -> None:
    few: Any = SimpleNamespace(tried_facts=ROWS[:2], retain=ROWS[2:4], neighbours=[])
    assert run(tiny, few) is None
    assert LOGIT_LENS.chance == 0.5
