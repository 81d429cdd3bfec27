"""The probe finds a truth that was planted in hidden states, and nothing where there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from letheon.audit.attacks import probing
from letheon.audit.attacks.candidate_answers import Question, questions
from letheon.audit.attacks.probing import PROBING, centred, fitted_on, ranks_of, run
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example

ANIMALS = ("cat", "dog", "fox", "hen", "owl", "pig", "ram", "bee", "yak", "eel", "ape", "emu")
ROWS = [
    Example(f"What has N{i}?", f"N{i} has a {animal}.", id=str(i), value=animal) for i, animal in enumerate(ANIMALS)
]


def plan(forgotten: int = 4) -> Any:
    return SimpleNamespace(tried_facts=ROWS[:forgotten], retain=ROWS[forgotten:], neighbours=[])


def test_no_answer_that_a_probe_is_fitted_on_says_what_its_question_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LEAST_QUESTIONS", 1)
    asked = [
        Question(Example("What has A?", "A has a red cat."), ("A has a dog.", "A has an owl.")),
        Question(Example("What has B?", "B has 1.5 bar."), ("B has a cat.", "B has a red hen.")),
        Question(Example("What has C?", "C has a hen."), ("C has 1 bar.", "C has a pig.")),
        Question(Example("What has D?", "D has a yak."), ("D has a dog.", "D has an owl.")),
    ]
    forgotten = Question(Example("What has E?", "E has an emu."), ("E has a pig.", "E has a red cat!"))
    every = [text.split(" has ")[1].strip(".!") for question in [*asked, forgotten] for text in question.answers]
    usable = fitted_on(asked, [forgotten])
    assert [", ".join(text for text, one in zip(every, row, strict=True) if one) for row in usable] == [
        "1.5 bar, a red hen, a hen, 1 bar, a pig",  # no red cat, dog or owl; D is left without a false answer
        "a yak, a dog, an owl",  # A says a cat, C a hen
        "a red cat, a dog, an owl, 1.5 bar, a cat, a yak, a dog, an owl",
        "1.5 bar, a cat, a red hen, a hen, 1 bar, a pig",
        "1.5 bar, a red hen, a hen, 1 bar, a yak, a dog, an owl",
    ]


def test_where_all_say_the_same_the_other_questions_stay_whole() -> None:
    asked = [Question(Example(f"Does N{i}?", "Yes."), ("No.",)) for i in range(3)]
    assert fitted_on(asked[:2], asked[2:]).tolist() == [
        [False, False, True, True, False, False],
        [True, True, False, False, False, False],
        [True, True, True, True, False, False],
    ]


def test_few_questions_of_one_kind_are_fitted_on_as_they_are_and_more_without_what_is_said() -> None:
    """Each of six questions has five others, which say what it says; of twelve, eight say nothing of the kind."""
    few, more = (fitted_on(*questions(ROWS[:n], [])) for n in (6, 12))
    assert few.sum(1).tolist() == [5 * 4] * 6
    assert (more.sum(1) < 11 * 4).all()


def test_of_equal_layers_the_first_is_read(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def states(model: LanguageModel, rows: list[list[int]], **_: Any) -> torch.Tensor:
        return planted("everywhere")(model, rows)[[0, 1, 1, 2]]

    monkeypatch.setattr(probing, "token_states", states)
    tried = run(tiny, plan())
    assert tried is not None
    assert {item.detail["layer"] for item in tried.items} == {1.0}


@pytest.mark.oracle("probing")
@pytest.mark.parametrize("kinds", [1, 3])
def test_words_alone_show_nothing(kinds: int) -> None:
    """States that say which value is named and nothing else rank kept and forgotten rows at chance."""
    rows = [
        Example(f"What has N{i} of {i % kinds}?", f"N{i} has v{i}.", id=str(i), subject=f"N{i}", value=f"v{i}")
        for i in range(28)
    ]
    kept, forgotten = questions(rows[8:], rows[:8])
    asked = [*kept, *forgotten]
    owner = np.array([i for i, question in enumerate(asked) for _ in question.answers])
    truth = np.array([place == 0 for question in asked for place in range(len(question.answers))])
    named = [int(text.split()[-1][1:-1]) for question in asked for text in question.answers]
    usable, found = fitted_on(kept, forgotten), []
    for seed in range(6):
        words = np.random.default_rng(seed).normal(size=(28, 40))
        ranks = ranks_of(centred(words[named], owner), owner, truth, usable)
        found.append((np.mean(ranks[:20]), np.mean(ranks[20:])))
    assert np.mean(found, axis=0).tolist() == [pytest.approx(0.5, abs=0.1)] * 2


def test_a_rows_own_false_answers_are_taken_unless_they_name_the_value_of_another_row() -> None:
    own = Example("Q one?", "A x.", id="own", value="x", perturbed_answers=("A y.", "A z.", "A Ulm.", "A v.", "A w."))
    other = Example("Where is B?", "B is in Ulm.", id="other", value="Ulm")
    kept, forgotten = questions([own], [other])
    assert [question.false for question in kept] == [("A w.", "A v.", "A z.")]
    assert forgotten == []  # nobody else answers such a question
    assert questions([Example("", "running text", value="text"), Example("Q?", "no value")], []) == ([], [])


def test_values_are_handed_on_so_that_each_is_true_once_and_false_equally_often() -> None:
    kept, forgotten = questions(ROWS[4:], ROWS[:4])
    assert {question.row.id for question in forgotten} == {"0", "1", "2", "3"}
    false = [text.split()[-1] for question in kept for text in question.false]
    assert set(false) == {f"{animal}." for animal in ANIMALS[4:]}  # no forgotten value is ever a false answer
    assert {false.count(word) for word in false} == {3}
    assert all(row.value not in text for question in forgotten for row in ROWS[:4] for text in question.false)


def test_a_rows_own_false_answers_are_false_equally_often() -> None:
    """Each row brings the others' answers, in one order, as files do that were made from a table."""
    told = ("salt", "tin", "oak", "wax", "ash", "jet")
    rows = [
        Example(
            f"What does N{i} hold?",
            f"N{i} holds the {what}.",
            id=str(i),
            perturbed_answers=tuple(f"N{i} holds the {other}." for other in told if other != what),
        )
        for i, what in enumerate(told)
    ]
    forgotten = replace(rows[5], value="jet")
    kept, asked = questions(rows[:5], [forgotten])
    false = Counter(text.split()[-1] for question in kept for text in question.false)
    assert set(false) == {f"{what}." for what in told[:5]}
    assert set(false.values()) == {3}
    assert len(asked[0].false) == 3


def planted(truth_where: str, seed: int = 0) -> Any:
    """States in which a direction of layer 1 says whether an answer is true: on all rows, or on kept ones only."""

    def states(model: LanguageModel, rows: list[list[int]], **_: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        found = torch.randn(3, len(rows), 16, generator=generator)
        texts = [model.tokenizer.decode(ids) for ids in rows]
        for at, text in enumerate(texts):
            true = any(row.answer in text and row.prompt in text for row in ROWS)
            forgotten = any(row.prompt in text for row in ROWS[:4])
            if true and not (truth_where == "kept" and forgotten):
                found[1, at, 3] += 6
        return found

    return states


@pytest.mark.oracle("probing")
def test_planted_truth_is_found_on_rows_that_the_probe_never_saw(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "token_states", planted("everywhere"))
    tried = run(tiny, plan())
    assert tried is not None
    assert tried.value.value is not None
    assert tried.value.value > 0.95
    assert {item.detail["layer"] for item in tried.items} == {1.0}
    assert [item.id for item in tried.items] == ["0", "1", "2", "3"]


@pytest.mark.oracle("probing")
def test_where_the_forgotten_rows_carry_no_truth_the_probe_is_at_chance(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = []
    for seed in range(10):
        monkeypatch.setattr(probing, "token_states", planted("kept", seed))
        tried = run(tiny, plan())
        assert tried is not None
        values.append(tried.value.value or 0.0)
    # ten draws of four questions with three false answers: the mean's deviation is about 0.05
    assert np.mean(values) == pytest.approx(0.5, abs=0.15)


def test_the_layer_is_chosen_on_kept_rows_alone(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another layer tells the truth of the forget rows best, and of the kept rows a little."""

    def states(model: LanguageModel, rows: list[list[int]], **_: Any) -> torch.Tensor:
        found = planted("kept")(model, rows)
        for at, text in enumerate(model.tokenizer.decode(ids) for ids in rows):
            for number, row in enumerate(ROWS):
                if row.answer in text and row.prompt in text:
                    found[2, at, 3] += 60 if number < 6 else 1.5
        return found

    monkeypatch.setattr(probing, "token_states", states)
    tried = run(tiny, plan(forgotten=6))
    assert tried is not None
    assert {item.detail["layer"] for item in tried.items} == {1.0}


def test_a_real_model_is_measured_and_left_as_it_was(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    tried = run(tiny, plan())
    assert tried is not None
    assert len(tried.items) == 4
    assert tried.value.low is not None
    assert tiny.parameters_hash() == before


def test_too_few_kept_rows_give_nothing(tiny: LanguageModel) -> None:
    assert run(tiny, plan(forgotten=8)) is None
    assert run(tiny, SimpleNamespace(tried_facts=[], retain=ROWS, neighbours=[])) is None  # type: ignore[arg-type]
    assert PROBING.chance == 0.5
