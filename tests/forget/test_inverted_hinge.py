"""The inverted hinge loss: hand-worked values, limits, gradient, and the mean over a batch's answer tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.likelihood import score
from letheon.forget.objectives.inverted_hinge import InvertedHinge, inverted_hinge_loss
from letheon.forget.parts import Pair, Rows
from letheon.forget.request import Request

pytestmark = pytest.mark.oracle("inverted_hinge")
P = (0.7, 0.2, 0.1)


@pytest.mark.parametrize(("label", "expected"), [(0, 1 + 0.7 - 0.2), (1, 1 + 0.2 - 0.7), (2, 1 + 0.1 - 0.7)])
def test_it_is_one_plus_the_true_token_s_probability_minus_its_best_rival_s(label: int, expected: float) -> None:
    logits = torch.tensor([[math.log(p) for p in P]], dtype=torch.float64)
    assert float(inverted_hinge_loss(logits, torch.tensor([label]))) == pytest.approx(expected, abs=1e-12)


def test_it_is_two_where_the_true_token_is_certain_and_zero_where_another_is() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(inverted_hinge_loss(logits, torch.tensor([0]))) == pytest.approx(2, abs=1e-12)
    assert float(inverted_hinge_loss(logits, torch.tensor([1]))) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.integers(0, 5))
def test_it_is_bounded(values: list[float], label: int) -> None:
    loss = float(inverted_hinge_loss(torch.tensor([values]), torch.tensor([label % len(values)])))
    assert -1e-6 <= loss <= 2 + 1e-6


def test_its_gradient_is_right_and_a_step_lowers_the_true_token_and_raises_the_runner_up_most() -> None:
    logits = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 3, 6, 2])
    assert torch.autograd.gradcheck(lambda z: inverted_hinge_loss(z, labels), logits)
    certain = torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    inverted_hinge_loss(certain, torch.tensor([0])).sum().backward()
    assert certain.grad is not None
    step = -certain.grad[0]
    assert step[0] < 0
    assert step[1] > step[2] > 0


def test_the_forget_term_is_the_mean_over_answer_tokens_of_whole_logits(tiny: LanguageModel, deletion: Request) -> None:
    encoder = tiny.encoder()
    rows = Rows(tiny, deletion.forget, encoder.encode_all(deletion.forget), encoder.encode_all(deletion.retain))
    batch = rows.forget_batch([0, 4])
    logits = tiny.model(batch.input_ids, attention_mask=batch.attention_mask).logits
    losses = []
    for i, j in (batch.labels != -100).nonzero().tolist():
        p = logits[i, j - 1].softmax(-1)
        true = int(batch.labels[i, j])
        rivals = torch.cat([p[:true], p[true + 1 :]])
        losses.append(1 + p[true] - rivals.max())
    terms = InvertedHinge().terms(tiny, Pair(batch, rows.retain_batch([1])))
    # sums of float32 in another order
    assert terms.forget.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)
    assert terms.retain.item() == pytest.approx(-score(tiny, rows.retain_batch([1])).logp.mean().item(), abs=1e-5)
