"""Alternate preference optimisation: a naive formulation, what its steps do, and the alternates that a model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.objectives import altpo
from letheon.forget.objectives.altpo import LONGEST, TIMES, sampled_alternates
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import make_pairs
from letheon.forget.request import Request
from letheon.forget.run import check, forget
from tests import naive

oracle = pytest.mark.oracle("altpo")
FORGET, RETAIN = [0, 3, 4], [1, 5]  # of unlike lengths


@oracle
@pytest.mark.parametrize("size", [0, 1, 2])
def test_losses_and_gradients_equal_the_naive_formulation_in_micro_batches_of_any_size(
    size: int, tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """−(2/β) log σ(β[...]) row by row, with the alternates that a copy of the model before writes."""
    monkeypatch.setattr("letheon.forget.objectives.altpo.LONGEST", 40)  # random weights write on to the limit
    rows = naive.rows_of(tiny, deletion)
    before = naive.frozen_copy(tiny)
    objective = Recipe.parse("altpo:answers=2,beta=0.3,alpha=2").objective.make()
    objective.prepare(tiny, rows, [(RETAIN, FORGET), (FORGET, RETAIN)])
    pools = sampled_alternates(before, rows.examples, 2, rows.seed)
    naive.disturb(tiny)
    parts = [objective.terms(tiny, pair) for pair in make_pairs(rows, (FORGET, RETAIN), size, 1, step=1)]
    losses = []
    for i in FORGET:
        chosen = tiny.encoder().encode(Example(rows.examples[i].prompt, pools[i][objective.answers.drawn[1][i]]))
        won, lost = (
            naive.row_logp(tiny, row).sum() - naive.row_logp(before, row).sum().detach()
            for row in (chosen, rows.forget[i])
        )
        losses.append(-2 / 0.3 * logsigmoid(0.3 * (won - lost)))
    forgotten = torch.stack(losses).mean()
    retained = 2 * naive.nll_of_tokens(tiny, [rows.retain[i] for i in RETAIN])
    for found, expected in (([p.forget for p in parts], forgotten), ([p.retain for p in parts], retained)):
        total = torch.stack([term for term in found if term is not None]).sum()
        assert total.item() == pytest.approx(expected.item(), rel=1e-4)  # sums over tens of tokens in float32
    total = torch.stack([p.total() for p in parts]).sum()
    expected = naive.gradients(forgotten + retained, tiny)
    assert naive.largest_difference(naive.gradients(total, tiny), expected) < 1e-4


@oracle
def test_steps_prefer_the_alternates_to_the_true_answers_and_keep_the_retain_rows(
    tiny: LanguageModel, deletion: Request
) -> None:
    encoder = tiny.encoder()
    pools = sampled_alternates(tiny, deletion.forget, 2, 0)
    alternates = [
        encoder.encode(Example(row.prompt, text))
        for row, pool in zip(deletion.forget, pools, strict=True)
        for text in pool
    ]
    truth, kept = (encoder.encode_all(rows) for rows in (deletion.forget, deletion.retain))
    before = [naive.nll_of_tokens(tiny, rows).item() for rows in (truth, alternates, kept)]
    options = {"steps": 6, "learning_rate": 1e-3, "batch_size": 4, "device": "cpu", "precision": "float32"}
    forget(tiny, deletion, "altpo:answers=2", seed=0, **options)
    after = [naive.nll_of_tokens(tiny, rows).item() for rows in (truth, alternates, kept)]
    # all text becomes likelier than random weights make it, a true answer less so than an alternate
    assert after[0] - after[1] > before[0] - before[1] + 0.05
    assert after[2] < before[2] - 0.05


def test_the_model_is_shown_question_and_answer_and_its_texts_differ(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = altpo.continue_ids

    def watched(model: LanguageModel, rows: Sequence[Sequence[int]], *rest: Any, **options: Any) -> list[list[int]]:
        asked.extend(model.tokenizer.decode(row) for row in rows)
        assert options["temperature"] == 1.0
        return plain(model, rows, *rest, **options)

    monkeypatch.setattr(altpo, "continue_ids", watched)
    rows = deletion.forget[:2]
    first = sampled_alternates(tiny, rows, 3, 1)
    for text, row in zip(asked, [row for row in rows for _ in range(3)], strict=False):
        assert row.prompt in text
        assert row.answer in text
        assert text.endswith("Alternate answer:")
    assert [len(set(pool)) for pool in first] == [3, 3]
    assert sampled_alternates(tiny, rows, 3, 1) == first
    assert sampled_alternates(tiny, rows, 3, 2) != first


def said(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, rounds: list[list[str]]) -> None:
    """Let the model say these texts, a list per call."""
    left = [[tiny.tokenizer.encode(text, add_special_tokens=False) for text in texts] for texts in rounds]
    monkeypatch.setattr(altpo, "continue_ids", lambda *_, **__: left.pop(0))


def test_an_empty_text_is_sampled_again_and_a_text_ends_where_the_model_asks_the_next_question(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(tiny, monkeypatch, [["", " a baker.\nQuestion: Who?", "one", " "], ["Q: x", "two"], ["three Q: y"]])
    assert sampled_alternates(tiny, deletion.forget[:2], 2, 0) == [["a baker.", "three"], ["one", "two"]]


def test_a_row_for_which_nothing_is_written_is_named(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = deletion.forget[:2]
    said(tiny, monkeypatch, [["one", ""], *([[""]] * (TIMES - 1))])
    with pytest.raises(InputError, match=rf"{rows[1].id}.*wrote none, {TIMES} times"):
        sampled_alternates(tiny, rows, 1, 0)


def test_running_text_is_refused_before_a_model_is_loaded() -> None:
    request = Request((Example("", "A text.", id="text"),), (Example("a?", "b."),))
    with pytest.raises(InputError, match="text is running text"):
        check(Recipe.parse("altpo"), request)


def test_alternates_stay_within_the_model_s_context(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def watched(_: LanguageModel, rows: Sequence[Sequence[int]], limit: int, **__: Any) -> list[list[int]]:
        asked.extend((len(row), limit) for row in rows)
        return [tiny.tokenizer.encode("Yes.", add_special_tokens=False)] * len(rows)

    monkeypatch.setattr(altpo, "continue_ids", watched)
    room = tiny.context_length - len(tiny.encoder().prompt(altpo.ASKED.format(question="", answer="")))
    rows = [Example("Who?", "A" * (room - 60), id="long"), Example("Who?", "Ann.", id="short")]
    sampled_alternates(tiny, rows, 2, 0)
    assert all(length + limit <= tiny.context_length for length, limit in asked)
    assert {limit for _, limit in asked} == {LONGEST, min(limit for _, limit in asked)}
    with pytest.raises(InputError, match="too: question, answer and instruction fill the model's context of 1024"):
        sampled_alternates(tiny, [Example("Who?", "A" * room, id="too")], 2, 0)


def test_an_alternate_that_does_not_fit_behind_its_question_is_sampled_again(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(tiny, monkeypatch, [["A" * tiny.context_length], ["short"]])
    assert sampled_alternates(tiny, [Example("Who?", "Ann.")], 1, 0) == [["short"]]


def test_a_choice_among_the_tokens_of_the_true_answers_is_refused() -> None:
    with pytest.raises(InputError, match="whole answers"):
        Recipe.parse("altpo:tokens=value")
