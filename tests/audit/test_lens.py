"""The lens reads what a layer would say, and finds what the last layers keep back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from letheon.audit.attacks import lens as attack
from letheon.audit.attacks.candidate_answers import Question, questions
from letheon.audit.attacks.lens import LOGIT_LENS, lens, ranks_by_layer, run, with_subjects
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


Holds = Callable[[str, str], bool]  # whether layer 1 holds the value (second) after a question about a name (first)


def plant(monkeypatch: pytest.MonkeyPatch, holds: Holds) -> None:
    """Give layer 1 states that hold the next token of what a name has; all other states are noise."""

    def states(model: LanguageModel, rows: list[list[int]], **_: Any) -> torch.Tensor:
        generator, encoder = torch.Generator().manual_seed(0), model.encoder()
        found = torch.randn(4, len(rows), 64, generator=generator)
        table = model.model.lm_head.weight.detach()
        for i, row in enumerate(rows):
            name = re.search(r"What has ([\w ]+)\?", model.tokenizer.decode(row))
            animals = [animal for animal in ANIMALS if name and holds(name.group(1), animal)]
            if animals:
                found[1, i] = table[encoder.answer(animals[0])[0][0]]
        return found

    monkeypatch.setattr(attack, "token_states", states)
    monkeypatch.setattr(attack, "site_states", lambda model, rows, sites: states(model, rows)[[sites[0].layer]])


HAS = dict(zip(NAMES, ANIMALS, strict=True))
FORGOTTEN = ("Ann", "Bob")


@pytest.mark.oracle("logit_lens")
def test_what_a_layer_holds_is_found_with_a_layer_chosen_on_kept_rows(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda name, animal: HAS.get(name) == animal)
    held = run(tiny, PLAN)
    plant(monkeypatch, lambda name, animal: HAS.get(name) == animal and name not in FORGOTTEN)
    gone = run(tiny, PLAN)
    assert held is not None
    assert gone is not None
    assert held.value.value == 1.0
    assert (gone.value.value or 0.0) < 1.0
    for tried in (held, gone):
        assert {item.detail["layer"] for item in tried.items} == {1.0}
        assert [item.id for item in tried.items] == ["Ann", "Bob"]


@pytest.mark.oracle("logit_lens")
def test_what_a_layer_holds_of_everybody_is_not_known_of_the_subject(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is asked about and not kept has a cat: true of Ann, false of Bob, known of neither.
    plant(monkeypatch, lambda name, animal: HAS[name] == animal if name in NAMES[2:] else animal == "cat")
    tried = run(tiny, PLAN)
    assert tried is not None
    assert [item.value for item in tried.items] == [0.5, 0.5]
    # An attacker who asks about Ann alone reads it all the same.
    assert [item.detail["as it stands"] for item in tried.items] == [1.0, 0.0]
    assert [(one.name, one.value.value) for one in tried.variants] == [("as it stands", 0.5)]
    unnamed: Any = SimpleNamespace(
        **{
            **vars(PLAN),
            **{kind: [replace(row, subject=None) for row in getattr(PLAN, kind)] for kind in ("tried_facts", "retain")},
        }
    )
    tried = run(tiny, unnamed)  # nobody else can be asked about
    assert tried is not None
    assert [item.value for item in tried.items] == [1.0, 0.0]


@pytest.mark.oracle("logit_lens")
@pytest.mark.parametrize("kept_too", [False, True])
def test_a_subject_that_no_row_names_is_guessed_from_the_questions(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, kept_too: bool
) -> None:
    def row(question: str, name: str, value: str) -> Example:
        return Example(question.format(name), f"{name} has a {value}.", value=value)

    kept = [row("What has {}?", name, animal) for name, animal in list(HAS.items())[2:]]
    kept += [row("Who is {}?", "Ann Lowe", "owl")] if kept_too else []
    asked = [row("What has {}?", "Ann Lowe", "cat"), row("What has {} now?", "Ann Lowe", "dog")]
    plan: Any = SimpleNamespace(tried_facts=asked, retain=kept, neighbours=[])
    plant(monkeypatch, lambda name, animal: HAS[name] == animal if name in NAMES[2:] else animal == "cat")
    tried = run(tiny, plan)
    assert tried is not None
    assert [item.detail["names"] for item in tried.items] == [6.0, 6.0]
    assert tried.items[0].value == 0.5  # whoever is asked about has a cat
    assert tried.items[0].detail["as it stands"] == 1.0


def test_the_subject_that_a_row_gives_stays_and_one_that_stands_once_is_none() -> None:
    given = Example("Where was Ann Lowe born?", "Rome.", subject="Ann")
    twice = [Example(f"Where {verb} Bea Moss?", "Oslo.") for verb in ("lives", "works")]
    once = Example("Where is Cid Dunn?", "Riga.", subject="Cid Dunn of Riga")
    kept = [Question(Example("Who is Hal Penn?", "A cook."), ())]
    found = with_subjects([Question(row, ()) for row in (given, *twice, once)], kept)
    assert [one.row.subject for one in found] == ["Ann", "Bea Moss", "Bea Moss", "Cid Dunn of Riga"]
    assert [replace(one.row, subject=None) for one in found[1:3]] == twice


@pytest.mark.oracle("logit_lens")
def test_what_is_held_by_a_part_of_the_name_is_not_held_of_everybody(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [
        replace(row, subject=f"{row.id} Lowry{row.id}", prompt=f"What has {row.id} Lowry{row.id}?") for row in ROWS
    ]
    rows = [replace(row, answer=f"Lowry{row.id} has a {row.value}.") for row in whole]
    plan: Any = SimpleNamespace(tried_facts=rows[:2], retain=rows[2:], neighbours=[])

    def states(model: LanguageModel, asked: list[list[int]], **_: Any) -> torch.Tensor:
        table, found = model.model.lm_head.weight.detach(), torch.zeros(4, len(asked), 64)
        for i, ids in enumerate(asked):
            name = re.findall(r"Lowry(\w+)", model.tokenizer.decode(ids))[-1:]
            if name:  # what the last mention of the name tells
                found[1, i] = table[model.encoder().answer(HAS[name[0]])[0][0]]
        return found

    monkeypatch.setattr(attack, "token_states", states)
    monkeypatch.setattr(attack, "site_states", lambda model, ids, sites: states(model, ids)[[sites[0].layer]])
    tried = run(tiny, plan)
    assert tried is not None
    assert [item.value for item in tried.items] == [1.0, 1.0]
    assert {item.detail["names"] for item in tried.items} == {6.0}


def test_answers_that_are_alike_for_another_have_no_level(tiny: LanguageModel) -> None:
    alike = replace(ROWS[0], perturbed_answers=("Torvik Aldane has a cat.", ROWS[0].answer))
    plan: Any = SimpleNamespace(tried_facts=[alike], retain=ROWS[2:], neighbours=[])
    tried = run(tiny, plan)
    assert tried is not None
    assert tried.items[0].detail["names"] == 0.0
    (question,) = questions(ROWS[2:], [alike])[1]
    assert question.false == ("Torvik Aldane has a cat.",)  # the true answer is no false one


def test_a_model_of_one_layer_has_none_before_the_last(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "ranks_by_layer", lambda model, kept: np.ones((1, len(kept))))
    assert run(tiny, PLAN) is None


def test_it_asks_for_kept_rows(tiny: LanguageModel) -> None:
    few: Any = SimpleNamespace(tried_facts=ROWS[:2], retain=ROWS[2:4], neighbours=[])
    assert run(tiny, few) is None
    assert LOGIT_LENS.chance == 0.5
