"""PDU: the margin of logits and the dual ascent by hand, the step against a naive formulation, λ over a restart."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.forget.objectives.logit_margin import logit_margin_loss
from letheon.forget.parts import terms_of
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import Result
from letheon.forget.updates.primal_dual import dual_ascent
from letheon.testing.kills import Killed, killed_before_step
from tests import naive

margin, dual = pytest.mark.oracle("logit_margin"), pytest.mark.oracle("primal_dual")
FORGET, RETAIN = [0, 3, 4], [1, 5]  # of unlike lengths
OPTIONS: dict[str, Any] = {
    "device": "cpu", "precision": "float32", "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0, "clip": None,
}  # fmt: skip


@margin
def test_the_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, 2.0, 2.0]], dtype=torch.float64)
    assert logit_margin_loss(logits).tolist() == [4.0, 0.0, 1.0]  # (3 - 1)², 0, (2 - 1)²
    assert torch.equal(logit_margin_loss(logits + 7), logit_margin_loss(logits))


@margin
def test_the_margin_s_gradient_lowers_the_largest_logit_and_agrees_with_finite_differences() -> None:
    logits = torch.tensor([[3.0, 0.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(logit_margin_loss(logits).sum(), logits)[0]
    gap = 3.0 - 0.625
    assert slope[0].tolist() == pytest.approx([2 * gap * 0.75, *[-2 * gap * 0.25] * 3])
    assert torch.autograd.gradcheck(logit_margin_loss, logits)


def naive_margin(model: LanguageModel, rows: list[Any]) -> Tensor:
    logits = torch.cat([naive.row_logits(model, row)[0] for row in rows])
    return torch.stack([(one.max() - one.sum() / len(one)) ** 2 for one in logits]).mean()


@margin
def test_the_terms_equal_the_naive_formulation(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    terms = Recipe.parse("logit_margin").objective.make().terms(tiny, naive.pair_of(rows, FORGET, RETAIN))
    expected = naive_margin(tiny, [rows.forget[i] for i in FORGET])
    assert terms.forget.item() == pytest.approx(expected.item(), rel=1e-5)
    retained = naive.nll_of_tokens(tiny, [rows.retain[i] for i in RETAIN])
    assert terms.retain.item() == pytest.approx(retained.item(), rel=1e-5)
    found = naive.gradients(terms.total(), tiny)
    assert naive.largest_difference(found, naive.gradients(expected + retained, tiny)) < 3e-5


@dual
def test_the_weight_rises_while_the_bound_is_broken_and_falls_to_zero_at_least_while_it_holds() -> None:
    assert dual_ascent(2.0, retain_loss=1.5, epsilon=0.5, rate=3.0) == 5.0
    assert dual_ascent(2.0, retain_loss=0.25, epsilon=0.75, rate=3.0) == 0.5
    assert dual_ascent(2.0, retain_loss=0.0, epsilon=0.75, rate=3.0) == 0.0
    assert dual_ascent(2.0, retain_loss=0.75, epsilon=0.75, rate=3.0) == 2.0


@dual
@pytest.mark.parametrize("size", [0, 3])
def test_every_step_descends_the_lagrangian_and_the_dual_ascends_it(size: int, deletion: Request) -> None:
    """Steps of the whole request: gradients and λ are recomputed at the weights that each step began with."""
    request = replace(deletion, retain=deletion.retain[:1])  # a run draws retain rows, of one always the same
    begun: list[tuple[list[Tensor], list[Tensor]]] = []

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        begun.append(([p.detach().clone() for p in weights], [p.grad.clone() for p in weights]))

    handle = register_optimizer_step_pre_hook(take)
    try:
        text = "logit_margin+primal_dual:dual=3,rate=2,slack=.5,rest=0"
        history = forget("tiny", request, text, steps=3, micro_batch_size=size, **OPTIONS).outcome.history
    finally:
        handle.remove()
    apart = load("tiny", device="cpu")
    for parameter in apart.model.parameters():
        parameter.requires_grad_(True)
    encoder, weight, bound = apart.encoder(), 3.0, 0.0
    forgotten, retained = encoder.encode_all(request.forget), encoder.encode_all(request.retain)
    for metrics, (weights, given) in zip(history, begun, strict=True):
        with torch.no_grad():
            for parameter, before in zip(apart.model.parameters(), weights, strict=True):
                parameter.copy_(before)
        kept = naive.nll_of_tokens(apart, retained)
        bound = bound or kept.item() + 0.5
        lagrangian = naive_margin(apart, forgotten) + weight * (kept - bound)
        assert naive.largest_difference(given, naive.gradients(lagrangian, apart)) < 1e-4
        assert metrics["bound"] == pytest.approx(bound, rel=1e-5)
        assert weight > 0, "or the next step has no retain term to go wrong"
        weight = max(0.0, weight + 2 * (kept.item() - bound))
        assert metrics["dual"] == pytest.approx(weight, rel=1e-4)


@dual
def test_a_broken_bound_keeps_more_than_a_wide_one(deletion: Request) -> None:
    def run(epsilon: float) -> Result:
        text = f"logit_margin+primal_dual:dual=1,rate=50,epsilon={epsilon},rest=0"
        return forget("tiny", deletion, text, steps=8, **OPTIONS | {"learning_rate": 3e-3})

    tight, wide = run(0.0), run(50.0)
    assert [m["dual"] for m in tight.outcome.history] == sorted(m["dual"] for m in tight.outcome.history)
    assert wide.outcome.history[0]["dual"] == 0
    nll = [naive.nll_of_tokens(one.model, one.model.encoder().encode_all(deletion.retain)) for one in (tight, wide)]
    assert nll[0].item() < nll[1].item() - 0.2


def test_the_dual_rests_for_its_share_of_the_steps(deletion: Request) -> None:
    history = forget("tiny", deletion, "npo+primal_dual:dual=2,rest=.5", steps=4, **OPTIONS).outcome.history
    assert [one["dual"] == 2 for one in history] == [True, True, False, False]


def test_the_dual_survives_a_kill_and_a_resume(deletion: Request, tmp_path: Path) -> None:
    text = "logit_margin+primal_dual:dual=3,rate=.5,rest=0"
    unbroken = forget("tiny", deletion, text, steps=4, **OPTIONS)
    with suppress(Killed), killed_before_step(2):
        forget("tiny", deletion, text, steps=4, out=tmp_path / "run", checkpoint_steps=1, **OPTIONS)
    resumed = resume(tmp_path / "run", device="cpu")
    assert resumed.model.parameters_hash() == unbroken.model.parameters_hash()
    duals = [[one["dual"] for one in run.outcome.history] for run in (unbroken, resumed)]
    assert duals[0] == duals[1]
    assert len(set(duals[0])) == 4


def test_a_scope_s_penalty_is_not_weighed_by_the_dual(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    pair = replace(naive.pair_of(rows, [], RETAIN), share=0.5, penalty=lambda: torch.tensor(8.0))
    objective = Recipe.parse("logit_margin").objective.make()
    one, three = (terms_of(tiny, objective, pair, weight).retain.item() for weight in (1.0, 3.0))
    assert three - 4 == pytest.approx(3 * (one - 4), rel=1e-5)


def test_a_divergence_begins_at_zero_and_has_the_slack_as_its_bound(deletion: Request) -> None:
    text = "logit_margin:retain_loss=kl+primal_dual:slack=.3"
    assert forget("tiny", deletion, text, steps=1, **OPTIONS).outcome.history[0]["bound"] == 0.3


def test_what_it_cannot_weigh_is_refused() -> None:
    with pytest.raises(InputError, match="gradient_ascent has alpha=0"):
        Recipe.parse("gradient_ascent+primal_dual")
    with pytest.raises(InputError, match="does not know the retain loss of rmu"):
        Recipe.parse("rmu+primal_dual")
    Recipe.parse("rmu+primal_dual:epsilon=.1")
    assert str(Recipe.parse("pdu")) == str(Recipe.parse("logit_margin+primal_dual:dual=100,rate=5"))
