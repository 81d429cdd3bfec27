"""Plain I-don't-know finetuning: a naive formulation, the draws that it shares with IdkDPO, what its steps do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.objectives.dpo import read_refusals
from letheon.forget.objectives.idk_nll import refusal_loss
from letheon.forget.parts import Terms
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import make_pairs
from letheon.forget.request import Request
from letheon.forget.run import forget
from tests import naive

oracle = pytest.mark.oracle("idk_nll")
FORGET, RETAIN = [0, 3, 4], [1, 5]  # of unlike lengths


@oracle
def test_the_loss_of_a_token_is_its_negative_log_probability() -> None:
    logp = torch.tensor([math.log(0.5), math.log(0.25)], dtype=torch.float64, requires_grad=True)
    assert refusal_loss(logp).tolist() == pytest.approx([math.log(2), math.log(4)])
    assert torch.autograd.grad(refusal_loss(logp).sum(), logp)[0].tolist() == [-1, -1]


@oracle
@pytest.mark.parametrize("size", [0, 1, 2])
def test_losses_and_gradients_equal_the_naive_formulation_in_micro_batches_of_any_size(
    size: int, tiny: LanguageModel, deletion: Request
) -> None:
    rows = naive.rows_of(tiny, deletion)
    objective = Recipe.parse("idk_nll:gamma=0.5,alpha=2").objective.make()
    objective.prepare(tiny, rows, [(RETAIN, FORGET), (FORGET, RETAIN)])
    naive.disturb(tiny)
    parts: list[Terms] = [objective.terms(tiny, pair) for pair in make_pairs(rows, (FORGET, RETAIN), size, 1, step=1)]
    lines = [read_refusals()[objective.answers.drawn[1][i]] for i in FORGET]
    encoder = tiny.encoder()
    refusals = [encoder.encode(Example(rows.examples[i].prompt, line)) for i, line in zip(FORGET, lines, strict=True)]
    forgotten = 0.5 * naive.nll_of_tokens(tiny, refusals)
    retained = 2 * naive.nll_of_tokens(tiny, [rows.retain[i] for i in RETAIN])
    for found, expected in (([p.forget for p in parts], forgotten), ([p.retain for p in parts], retained)):
        total = torch.stack([term for term in found if term is not None]).sum()
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total = torch.stack([p.total() for p in parts]).sum()
    expected = naive.gradients(forgotten + retained, tiny)
    assert naive.largest_difference(naive.gradients(total, tiny), expected) < 3e-5
    assert sum(p.metrics.get("forget_loss", 0) for p in parts) == pytest.approx(2 * forgotten.item(), rel=1e-5)
    assert all("forget_nll" not in p.metrics for p in parts), "that is the true answers', by which runs are ended"


@oracle
def test_the_true_answers_are_in_no_loss(tiny: LanguageModel, deletion: Request) -> None:
    """Other true answers to the same questions change nothing."""
    other = Request(tuple(Example(row.prompt, "Something else.", id=row.id) for row in deletion.forget), ())
    found = []
    for request in (deletion, other):
        rows = naive.rows_of(tiny, request)
        objective = Recipe.parse("idk_nll").objective.make()
        objective.prepare(tiny, rows, [(FORGET, [])])
        found.append(objective.terms(tiny, naive.pair_of(rows, FORGET, [])).forget.item())
    assert found[0] == found[1]


@oracle
def test_steps_teach_the_refusals_to_forget_questions_and_the_answers_to_retain_questions(
    tiny: LanguageModel, deletion: Request
) -> None:
    def nll(prompts: tuple[Example, ...], answers: list[str]) -> float:
        encoder = tiny.encoder()
        rows = [encoder.encode(Example(row.prompt, text)) for row, text in zip(prompts, answers, strict=True)]
        return naive.nll_of_tokens(tiny, rows).item()

    refusals = [read_refusals()[0]] * len(deletion.forget)
    truth = [row.answer for row in deletion.retain]
    before = nll(deletion.forget, refusals), nll(deletion.retain, truth)
    forget(tiny, deletion, "idk_nll", steps=6, learning_rate=1e-3, batch_size=4, device="cpu", precision="float32")
    after = nll(deletion.forget, refusals), nll(deletion.retain, truth)
    assert after[0] < before[0] - 0.05
    assert after[1] < before[1] - 0.05


def test_refusals_are_drawn_as_idk_draws_them(tiny: LanguageModel, deletion: Request) -> None:
    drawn = []
    for text in ("idk", "idk_nll"):
        objective = Recipe.parse(text).objective.make()
        objective.prepare(tiny, naive.rows_of(tiny, deletion), [([0, 1], [0])] * 6)
        drawn.append(objective.answers.drawn)
    assert drawn[0] == drawn[1]
    assert len({step[0] for step in drawn[1]}) > 1


def test_a_file_of_refusals_takes_the_place_of_the_package_s(
    tiny: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    (tmp_path / "lines.txt").write_text("No idea.\n")
    objective = Recipe.parse(f"idk_nll:refusals={tmp_path / 'lines.txt'}").objective.make()
    objective.prepare(tiny, naive.rows_of(tiny, deletion), [([0, 1], [0])])
    expected = tiny.encoder().encode(Example(deletion.forget[1].prompt, "No idea."))
    assert objective.answers.encoded[1, 0].ids == expected.ids


def test_a_choice_among_the_true_answers_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="sees no true answer"):
        Recipe.parse("idk_nll:tokens=value")
