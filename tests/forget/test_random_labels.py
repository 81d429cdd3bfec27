"""Random labels: closed forms, a second formulation, and the same draws however the rows are split."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import log_softmax

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.scoring.likelihood import score
from letheon.forget.objectives.random_labels import draw_labels, random_label_loss
from letheon.forget.parts import Pair, Rows
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request

oracle = pytest.mark.oracle("random_labels")


@oracle
def test_the_loss_is_ln_v_at_uniform_logits_whatever_is_drawn() -> None:
    loss = random_label_loss(torch.zeros(3, 7, dtype=torch.float64), torch.tensor([0, 4, 6]))
    assert loss.tolist() == pytest.approx([math.log(7)] * 3)


@oracle
def test_over_all_labels_the_mean_is_ln_v_plus_the_divergence_from_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, dtype=torch.float64, generator=generator)
    mean = random_label_loss(logits.expand(5, 5), torch.arange(5)).mean()
    divergence = (torch.full((5,), 0.2, dtype=torch.float64) * (math.log(0.2) - log_softmax(logits[0], -1))).sum()
    assert float(mean) == pytest.approx(math.log(5) + float(divergence))
    assert float(divergence) > 0


@oracle
def test_the_gradient_is_the_distribution_minus_the_drawn_label() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    random_label_loss(logits, torch.tensor([1])).sum().backward()
    expected = logits.detach().softmax(-1) - torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(logits.grad, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: random_label_loss(x, torch.tensor([1])), (logits,))


@oracle
def test_labels_are_uniform_over_the_vocabulary_and_differ_between_steps_rows_and_seeds() -> None:
    drawn = draw_labels(30_000, 10, seed=0, step=0, row=0)
    shares = torch.bincount(drawn, minlength=10) / len(drawn)
    assert torch.allclose(shares, torch.full((10,), 0.1), atol=0.01)  # a standard error is 0.0017
    assert torch.equal(drawn, draw_labels(30_000, 10, seed=0, step=0, row=0))
    for other in ({"seed": 1}, {"step": 1}, {"row": 1}):
        assert not torch.equal(drawn, draw_labels(30_000, 10, **{"seed": 0, "step": 0, "row": 0, **other}))


@oracle
@pytest.mark.parametrize("tokens", ["answer", "value"])
def test_the_objective_is_the_cross_entropy_of_its_draws_with_the_answer_as_input(
    tokens: str, tiny: LanguageModel, deletion: Request
) -> None:
    encoder = tiny.encoder()
    rows = Rows(tiny, deletion.forget, encoder.encode_all(deletion.forget), encoder.encode_all(deletion.retain), seed=5)
    objective = Recipe.parse(f"random_labels:tokens={tokens},keep=0").objective.make()
    objective.prepare(tiny, rows, [])
    numbers = [6, 1, 4]
    batch = rows.forget_batch(numbers)
    found = objective.terms(tiny, Pair(batch, None, step=3)).forget
    scores = score(tiny, batch)
    total, count = 0.0, 0
    for place, number in enumerate(numbers):
        mine = scores.row == place
        labels = draw_labels(int(mine.sum()), len(tiny.tokenizer), 5, 3, number)
        chosen = scores.value[mine] if tokens == "value" else torch.ones_like(labels, dtype=torch.bool)
        logp = log_softmax(scores.logits[mine], -1)[torch.arange(len(labels)), labels][chosen]
        total, count = total - float(logp.sum().detach()), count + len(logp)
    assert float(found.detach()) == pytest.approx(total / count, rel=1e-5)


def test_nothing_is_retained_unless_asked(tiny: LanguageModel, deletion: Request) -> None:
    encoder = tiny.encoder()
    rows = Rows(tiny, deletion.forget, encoder.encode_all(deletion.forget), encoder.encode_all(deletion.retain))
    pair = Pair(rows.forget_batch([0]), rows.retain_batch([0]))
    for text, retains in (("random_labels", False), ("random_labels:alpha=1", True)):
        objective = Recipe.parse(text).objective.make()
        objective.prepare(tiny, rows, [([0], [0])])
        assert (objective.terms(tiny, pair).retain is not None) is retains


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InputError, match="no option 'redraw'"):
        Recipe.parse("random_labels:redraw=1")
