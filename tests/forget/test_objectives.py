"""Each loss against hand-worked numbers, its limits, its gradient, and a naive second formulation on a real model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.ce_u import ce_u_loss, place_in_row
from letheon.forget.objectives.dpo import dpo_loss, read_refusals
from letheon.forget.objectives.gradient_ascent import ascent_loss
from letheon.forget.objectives.npo import npo_loss
from letheon.forget.objectives.rmu import activation_loss, control_vector, layer_to_read
from letheon.forget.objectives.satimp import satimp_loss
from letheon.forget.objectives.simnpo import simnpo_loss
from letheon.forget.objectives.undial import undial_loss
from letheon.forget.objectives.wga import wga_loss
from letheon.forget.parts import Pair, Rows
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from tests import naive

oracle = pytest.mark.oracle
FORGET, RETAIN = [0, 3, 4], [1, 5]  # of unlike lengths


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def slope(loss: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss.sum(), at)[0]


# Hand-worked numbers ------------------------------------------------------------------------------------------------


@oracle("gradient_ascent")
@oracle("grad_diff")
def test_ascent_is_the_log_probability_itself() -> None:
    logp = tensor(-0.5, -2.0)
    assert ascent_loss(logp).tolist() == [-0.5, -2.0]
    assert slope(ascent_loss(logp), logp).tolist() == [1, 1]


@oracle("npo")
def test_npo_by_hand() -> None:
    # log ratio ln 2, beta 1: sigma(-ln 2) = 1/3, so the loss is 2 ln 3; log ratio -ln 3: sigma = 3/4, so 2 ln(4/3)
    loss = npo_loss(tensor(math.log(2), -math.log(3)), tensor(0, 0), beta=1.0)
    assert loss.tolist() == pytest.approx([2 * math.log(3), 2 * math.log(4 / 3)])


@oracle("npo")
@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_npo_starts_at_two_over_beta_times_ln_2(beta: float) -> None:
    logp = tensor(-7.0, -90.0)
    assert npo_loss(logp, logp.detach(), beta).tolist() == pytest.approx([2 / beta * math.log(2)] * 2)


@oracle("simnpo")
def test_simnpo_by_hand() -> None:
    # NLL 6 over 3 tokens is 2; beta 0.5, delta 1: -(2 / 0.5) log sigma(0.5 * (2 - 1)) = 4 log(1 + e^-0.5)
    loss = simnpo_loss(tensor(-6.0), torch.tensor([3]), beta=0.5, delta=1.0)
    assert loss.item() == pytest.approx(4 * math.log(1 + math.exp(-0.5)))
    same = simnpo_loss(tensor(-6.0), torch.tensor([6]), beta=0.5, delta=0.0)
    assert same.item() == pytest.approx(loss.item())  # a margin of 1 nat a token is worth half the length here


@oracle("dpo")
def test_dpo_by_hand() -> None:
    # chosen ratio ln 3, rejected ratio 0, beta 1: sigma(ln 3) = 3/4
    loss = dpo_loss(tensor(math.log(3) - 5), tensor(-5), tensor(-8), tensor(-8), beta=1.0)
    assert loss.item() == pytest.approx(2 * math.log(4 / 3))


@oracle("dpo")
def test_dpo_with_chosen_and_rejected_swapped_adds_the_margin() -> None:
    # log sigma(x) - log sigma(-x) = x
    a, b, zero = tensor(-4.0), tensor(-6.5), tensor(0)
    swapped = dpo_loss(b, zero, a, zero, 0.3) - dpo_loss(a, zero, b, zero, 0.3)
    assert swapped.item() == pytest.approx(2 / 0.3 * 0.3 * 2.5)


@oracle("wga")
def test_wga_by_hand_weighs_by_the_probability_and_lets_no_gradient_through_the_weight() -> None:
    logp = tensor(math.log(0.5), math.log(0.25))
    assert wga_loss(logp, 1.0).tolist() == pytest.approx([0.5 * math.log(0.5), 0.25 * math.log(0.25)])
    assert wga_loss(logp, 2.0).tolist() == pytest.approx([0.25 * math.log(0.5), 0.0625 * math.log(0.25)])
    assert slope(wga_loss(logp, 2.0), logp).tolist() == pytest.approx([0.25, 0.0625])
    assert wga_loss(logp, 0.0).tolist() == pytest.approx(ascent_loss(logp).tolist())


@oracle("satimp")
def test_satimp_by_hand_and_its_stopped_weight() -> None:
    logp = tensor(math.log(0.5), math.log(0.8))
    weights = [0.5**5 * 0.5, 0.8**5 * 0.2]
    assert satimp_loss(logp, 5.0, 1.0).tolist() == pytest.approx(
        [w * x for w, x in zip(weights, logp.tolist(), strict=True)]
    )
    assert slope(satimp_loss(logp, 5.0, 1.0), logp).tolist() == pytest.approx(weights)


@oracle("satimp")
def test_satimp_is_finite_where_rounding_makes_a_probability_exceed_one() -> None:
    logp = tensor(1e-9, -200.0)
    loss = satimp_loss(logp, 5.0, 0.5)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope(loss, logp)).all()


@oracle("ce_u")
def test_ce_u_by_hand_strikes_the_true_token_out_of_its_teacher() -> None:
    # three words of equal logits, label 0: the teacher is (0, 1/2, 1/2), the loss ln 3
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert ce_u_loss(logits, torch.tensor([0])).item() == pytest.approx(math.log(3))
    # the gradient with a teacher that is held still is softmax(z) - teacher
    assert slope(ce_u_loss(logits, torch.tensor([0])), logits).tolist()[0] == pytest.approx([1 / 3, -1 / 6, -1 / 6])


@oracle("undial")
def test_undial_by_hand_lowers_the_true_token() -> None:
    # reference logits 0, beta ln 4 off the label: weights (1/4, 1, 1) / 2.25
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    loss = undial_loss(logits, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0]), math.log(4))
    normaliser = math.log(1 + math.e + math.e**2)
    expected = -(0.25 * (0 - normaliser) + (1 - normaliser) + (2 - normaliser)) / 2.25
    assert loss.item() == pytest.approx(expected)


@oracle("rmu")
def test_activation_loss_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 3.0], [5.0, 5.0], [9.0, 9.0]]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    # squares off (1, 1): (0 + 4) / 2 = 2 and (16 + 16) / 2 = 16, mean over two tokens 9
    assert activation_loss(hidden, torch.ones(2, dtype=torch.float64), mask).tolist() == [9.0]
    assert activation_loss(hidden, hidden.clone(), mask).tolist() == [0.0]


@oracle("rmu")
def test_the_control_vector_is_positive_of_length_c_and_the_same_under_its_seed() -> None:
    vector = control_vector(64, 6.5, seed=5)
    assert float(vector.norm()) == pytest.approx(6.5, rel=1e-6)
    assert bool((vector >= 0).all())
    assert torch.equal(vector, control_vector(64, 6.5, seed=5))
    assert not torch.equal(vector, control_vector(64, 6.5, seed=6))


@pytest.mark.parametrize(("many", "layer"), [(32, 7), (30, 7), (16, 4), (4, 1)])
def test_rmu_reads_at_the_paper_s_share_of_the_depth_unless_told_otherwise(many: int, layer: int) -> None:
    assert layer_to_read(many, None) == layer
    assert layer_to_read(many, 3) == 3


# Limits -------------------------------------------------------------------------------------------------------------


@oracle("npo")
@oracle("dpo")
def test_npo_and_dpo_become_gradient_ascent_as_beta_goes_to_zero() -> None:
    logp, reference = tensor(-3.0, -40.0), tensor(-5.0, -20.0)
    for beta, tolerance in ((1e-2, 2e-1), (1e-4, 2e-3), (1e-6, 2e-5)):  # the gap is beta/2 times the log ratio
        assert slope(npo_loss(logp, reference, beta), logp).tolist() == pytest.approx([1, 1], abs=tolerance)
        rejected = slope(dpo_loss(reference, reference, logp, reference, beta), logp)
        assert rejected.tolist() == pytest.approx([1, 1], abs=tolerance)


@oracle("npo")
def test_an_answer_twice_as_long_doubles_npo_s_argument() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 4, 2])

    def total(times: int) -> Tensor:
        row = torch.zeros(3 * times, dtype=torch.long)
        scores = Scores(logits.repeat(times, 1), labels.repeat(times), row, row.bool(), rows=1)
        return scores.sequence_logp()

    assert total(2).item() == pytest.approx(2 * total(1).item())
    zero = torch.zeros(1, dtype=torch.float64)
    expected = -2 / 0.1 * logsigmoid(-0.1 * 2 * total(1))
    assert npo_loss(total(2), zero, 0.1).item() == pytest.approx(expected.item())


@oracle("simnpo")
def test_simnpo_does_not_depend_on_length_at_equal_probability_a_token() -> None:
    loss = simnpo_loss(tensor(-6.0, -12.0), torch.tensor([3, 6]), beta=4.5, delta=0.0)
    assert loss[0].item() == pytest.approx(loss[1].item())


@oracle("npo")
@oracle("simnpo")
@oracle("dpo")
def test_extreme_log_probabilities_stay_finite() -> None:
    extreme, zero = tensor(-1e4, 0.0), tensor(0.0, -1e4)
    losses = [
        npo_loss(extreme, zero, 2.0),
        simnpo_loss(extreme, torch.tensor([1, 1]), 4.5, 0.0),
        dpo_loss(extreme, zero, zero, extreme, 2.0),
    ]
    assert all(torch.isfinite(loss).all() for loss in losses)


# Gradients in float64 -----------------------------------------------------------------------------------------------

LABELS = torch.tensor([1, 0, 3])
MASK = torch.tensor([[True, False, True]])
GRADIENTS = {
    "gradient_ascent": (ascent_loss, (3,)),
    "npo": (lambda x: npo_loss(x, torch.full((3,), -1.0, dtype=torch.float64), 0.7), (3,)),
    "simnpo": (lambda x: simnpo_loss(x, torch.tensor([1, 2, 5]), 4.5, 0.1), (3,)),
    "dpo": (lambda x: dpo_loss(x[0], x[1].detach() * 0, x[2], x[1].detach() * 0, 0.7), (3, 2)),
    "undial": (lambda x: undial_loss(x, torch.ones(3, 5, dtype=torch.float64), LABELS, 3.0), (3, 5)),
    "rmu": (lambda x: activation_loss(x, torch.ones(4, dtype=torch.float64), MASK), (1, 3, 4)),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=oracle(name)) for name in GRADIENTS])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    function, shape = GRADIENTS[name]
    at = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(function, at)


HELD: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "wga": (lambda x: wga_loss(x, 2.0), lambda x, held: held.exp() ** 2 * x),
    "satimp": (lambda x: satimp_loss(x, 5.0, 1.0), lambda x, held: held.exp() ** 5 * (1 - held.exp()) * x),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=oracle(name)) for name in HELD])
def test_weights_that_are_held_still_give_the_gradient_of_finite_differences(name: str) -> None:
    function, held_function = HELD[name]
    at = tensor(-0.3, -1.0, -4.0)
    held = at.detach().clone()
    assert torch.autograd.gradcheck(lambda x: held_function(x, held), at)
    assert torch.allclose(slope(function(at), at), slope(held_function(at, held), at), rtol=1e-12, atol=0)


@oracle("ce_u")
def test_a_teacher_that_is_held_still_gives_the_gradient_of_finite_differences() -> None:
    at = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    struck = at.detach().clone()
    struck[torch.arange(3), LABELS] = -torch.inf
    teacher = struck.softmax(-1)

    def held(x: Tensor) -> Tensor:
        return -(teacher * x.log_softmax(-1)).sum(-1)

    assert torch.autograd.gradcheck(held, at)
    assert torch.allclose(slope(ce_u_loss(at, LABELS), at), slope(held(at), at), rtol=1e-12, atol=1e-15)


@oracle("ce_u")
def test_places_in_a_row_count_from_each_row_s_first_label() -> None:
    row = torch.tensor([0, 0, 2, 2, 2])
    scores = Scores(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), row, row.bool(), rows=3)
    assert place_in_row(scores).tolist() == [0, 1, 0, 1, 2]


# A second formulation on a real model -------------------------------------------------------------------------------

Naive = Callable[["Case"], tuple[Tensor, "Tensor | None"]]


class Case:
    """A disturbed tiny model, its reference, an objective that was prepared before, and rows."""

    def __init__(self, model: LanguageModel, request: Request, text: str, values: bool = False) -> None:
        self.model, self.reference = model, naive.frozen_copy(model)
        self.rows: Rows = naive.rows_of(model, request, values)
        part = Recipe.parse(text).objective
        self.settings, self.objective = part.settings, part.make()
        self.objective.prepare(model, self.rows, [(FORGET, RETAIN)])
        naive.disturb(model)

    @property
    def forget(self) -> list[Encoded]:
        return [self.rows.forget[i] for i in FORGET]

    @property
    def retain(self) -> list[Encoded]:
        return [self.rows.retain[i] for i in RETAIN]

    def sums(self, rows: list[Encoded], model: LanguageModel | None = None) -> Tensor:
        return torch.stack([naive.row_logp(model or self.model, row).sum() for row in rows])

    def retain_nll(self) -> Tensor:
        return naive.nll_of_tokens(self.model, self.retain)

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Logits and labels of all forget answers."""
        parts = [naive.row_logits(self.model, row) for row in self.forget]
        return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])


def naive_npo(case: Case) -> tuple[Tensor, Tensor]:
    beta = case.settings.beta
    ratio = case.sums(case.forget) - case.sums(case.forget, case.reference).detach()
    return (-2 / beta * torch.log(torch.sigmoid(-beta * ratio))).mean(), case.retain_nll()


def naive_simnpo(case: Case) -> tuple[Tensor, Tensor]:
    s = case.settings
    lengths = torch.tensor([len(row.ids) - row.start for row in case.forget])
    inside = s.beta * (-case.sums(case.forget) / lengths - s.delta)
    return s.gamma * (-2 / s.beta * logsigmoid(inside)).mean(), case.retain_nll()


def naive_dpo(case: Case) -> tuple[Tensor, Tensor]:
    beta, encoder = case.settings.beta, case.model.encoder()
    lines = [case.rows.examples[i].perturbed_answers[case.objective.answers.drawn[0][i]] for i in FORGET]
    chosen = [
        encoder.encode(Example(case.rows.examples[i].prompt, line)) for i, line in zip(FORGET, lines, strict=True)
    ]
    chosen_ratio = case.sums(chosen) - case.sums(chosen, case.reference).detach()
    rejected_ratio = case.sums(case.forget) - case.sums(case.forget, case.reference).detach()
    return (-2 / beta * logsigmoid(beta * (chosen_ratio - rejected_ratio))).mean(), case.retain_nll()


def naive_grad_diff(case: Case) -> tuple[Tensor, Tensor]:
    return -naive.nll_of_tokens(case.model, case.forget), case.retain_nll()


def naive_ascent(case: Case) -> tuple[Tensor, None]:
    return -naive.nll_of_tokens(case.model, case.forget), None


def naive_kl(case: Case) -> tuple[Tensor, Tensor]:
    divergences = []
    for row in case.retain:
        reference = naive.all_logits(case.reference, row).detach().softmax(-1)
        current = naive.all_logits(case.model, row).log_softmax(-1)
        divergences.append((reference * (reference.log() - current)).sum(-1))
    return -naive.nll_of_tokens(case.model, case.forget), torch.cat(divergences).mean()


def naive_wga(case: Case) -> tuple[Tensor, Tensor]:
    logp = torch.cat([naive.row_logp(case.model, row) for row in case.forget])
    return (logp.detach().exp() * logp).mean(), case.retain_nll()


def naive_satimp(case: Case) -> tuple[Tensor, Tensor]:
    logp = torch.cat([naive.row_logp(case.model, row) for row in case.forget])
    p = logp.detach().exp()
    return 0.1 * (p**5 * (1 - p) * logp).mean(), case.retain_nll()


def naive_ce_u(case: Case) -> tuple[Tensor, None]:
    losses = []
    for row in case.forget:
        logits, labels = naive.row_logits(case.model, row)
        for z, label in zip(logits[1:], labels[1:], strict=True):  # the first token is passed over
            others = torch.arange(len(z)) != label
            teacher = z.detach()[others].softmax(-1)
            losses.append(-(teacher * z.log_softmax(-1)[others]).sum())
    return torch.stack(losses).mean(), None


def naive_undial(case: Case) -> tuple[Tensor, None]:
    losses = []
    for row in case.forget:
        logits, labels = naive.row_logits(case.model, row)
        teacher = naive.row_logits(case.reference, row)[0].detach().clone()
        teacher[torch.arange(len(labels)), labels] -= 10.0
        losses.append(-(teacher.softmax(-1) * logits.log_softmax(-1)).sum(-1))
    return torch.cat(losses).mean(), None


def naive_rmu(case: Case) -> tuple[Tensor, Tensor]:
    vector, layer = case.objective.vector, case.settings.layer

    def hidden(model: LanguageModel, row: Encoded) -> Tensor:
        output = model.base()(torch.tensor([row.ids]), output_hidden_states=True, use_cache=False)
        return output.hidden_states[layer + 1][0, row.start :]

    forget = [((hidden(case.model, row) - vector) ** 2).mean() for row in case.forget]
    retain = [((hidden(case.model, row) - hidden(case.reference, row).detach()) ** 2).mean() for row in case.retain]
    return torch.stack(forget).mean(), torch.stack(retain).mean()


# simnpo: a margin near the nats a token that random weights give, where the sigmoid is not flat
FORMULATIONS: dict[str, tuple[str, Naive]] = {
    "npo": ("npo", naive_npo),
    "simnpo:delta=5": ("simnpo", naive_simnpo),
    "dpo:alternates=perturbed": ("dpo", naive_dpo),
    "grad_diff": ("grad_diff", naive_grad_diff),
    "gradient_ascent": ("gradient_ascent", naive_ascent),
    "kl_min": ("grad_diff", naive_kl),
    "wga": ("wga", naive_wga),
    "satimp": ("satimp", naive_satimp),
    "ce_u": ("ce_u", naive_ce_u),
    "undial": ("undial", naive_undial),
    "rmu:layer=2": ("rmu", naive_rmu),
}


@pytest.mark.parametrize("text", [pytest.param(text, marks=oracle(name)) for text, (name, _) in FORMULATIONS.items()])
def test_losses_and_gradients_equal_the_naive_formulation(text: str, tiny: LanguageModel, deletion: Request) -> None:
    case = Case(tiny, deletion, text)
    terms = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, RETAIN))
    forget, retain = FORMULATIONS[text][1](case)
    assert terms.forget.item() == pytest.approx(forget.item(), rel=1e-5)
    assert terms.keep is None
    # float32 sums in another order, through four layers; p^5 of SatImp multiplies the error of log p by six
    found, expected = naive.gradients(terms.forget, tiny), naive.gradients(forget, tiny)
    assert naive.largest_difference(found, expected) < 3e-5
    if retain is None:
        assert terms.retain is None
        return
    assert terms.retain.item() == pytest.approx(retain.item(), rel=1e-5)
    case = Case(load("tiny", device="cpu"), deletion, text)  # a fresh graph: both halves come from one pass
    terms = case.objective.terms(case.model, naive.pair_of(case.rows, FORGET, RETAIN))
    found = naive.gradients(terms.retain, case.model)
    assert naive.largest_difference(found, naive.gradients(retain, tiny)) < 3e-5


@oracle("undial")
def test_undial_at_all_positions_lowers_token_v_minus_100_where_there_is_no_label(
    tiny: LanguageModel, deletion: Request
) -> None:
    case = Case(tiny, deletion, "undial:positions=all")
    losses = []
    for row in case.forget:
        logits, teacher = naive.all_logits(tiny, row), naive.all_logits(case.reference, row).detach().clone()
        for place in range(len(teacher)):
            label = row.ids[place + 1] if place + 1 >= row.start else teacher.shape[-1] - 100
            teacher[place, label] -= 10.0
        losses.append(-(teacher.softmax(-1) * logits.log_softmax(-1)).sum(-1))
    terms = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, []))
    assert terms.forget.item() == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


@oracle("npo")
@oracle("grad_diff")
@oracle("undial")
@pytest.mark.parametrize("text", ["npo:tokens=value", "grad_diff:tokens=value,keep=0.5", "undial:tokens=value"])
def test_with_tokens_value_the_forget_loss_sees_the_fact_only_and_the_rest_is_kept(
    text: str, tiny: LanguageModel, deletion: Request
) -> None:
    case = Case(tiny, deletion, text, values=True)
    terms = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, RETAIN))
    masks = [torch.tensor(row.value) for row in case.forget]
    others = torch.cat([naive.row_logp(tiny, row)[~mask] for row, mask in zip(case.forget, masks, strict=True)])
    assert terms.keep.item() == pytest.approx(-case.settings.keep * others.mean().item(), rel=1e-5)
    assert terms.metrics["keep_nll"] == pytest.approx(-others.mean().item(), rel=1e-5)
    facts = [naive.row_logp(tiny, row)[mask] for row, mask in zip(case.forget, masks, strict=True)]
    before = [naive.row_logp(case.reference, row)[mask].detach() for row, mask in zip(case.forget, masks, strict=True)]
    assert terms.metrics["forget_nll"] == pytest.approx(-torch.cat(facts).mean().item(), rel=1e-5)
    if text.startswith("npo"):
        ratio = torch.stack([now.sum() - then.sum() for now, then in zip(facts, before, strict=True)])
        expected = (-20 * logsigmoid(-0.1 * ratio)).mean()
    elif text.startswith("grad_diff"):
        expected = torch.cat(facts).mean()
    else:
        losses = []
        for row, mask in zip(case.forget, masks, strict=True):
            logits, labels = naive.row_logits(tiny, row)
            teacher = naive.row_logits(case.reference, row)[0].detach().clone()
            teacher[torch.arange(len(labels)), labels] -= 10.0
            losses.append(-(teacher.softmax(-1) * logits.log_softmax(-1)).sum(-1)[mask])
        expected = torch.cat(losses).mean()
    assert terms.forget.item() == pytest.approx(expected.item(), rel=1e-5)


# Shapes -------------------------------------------------------------------------------------------------------------

OBJECTIVES = ["gradient_ascent", "npo", "simnpo", "grad_diff", "kl_min", "wga", "satimp", "ce_u", "undial"]
OBJECTIVES += ["dpo:alternates=perturbed", "idk_nll", "altpo:answers=1", "rmu:layer=2"]


@pytest.mark.parametrize("text", OBJECTIVES)
@pytest.mark.parametrize("shape", ["no label", "one token", "one row of two without label"])
def test_odd_rows_give_finite_losses_and_gradients(
    text: str, shape: str, tiny: LanguageModel, deletion: Request
) -> None:
    rows = naive.rows_of(tiny, deletion)
    whole = rows.forget[0]
    odd = {
        "no label": [Encoded(whole.ids, len(whole.ids))],
        "one token": [Encoded(whole.ids[: whole.start + 1], whole.start)],
        "one row of two without label": [whole, Encoded(whole.ids, len(whole.ids))],
    }[shape]
    rows = Rows(tiny, deletion.forget[: len(odd)], odd, rows.retain)
    objective = Recipe.parse(text).objective.make()
    numbers = list(range(len(odd)))
    objective.prepare(tiny, rows, [(numbers, [0])])
    total = objective.terms(tiny, naive.pair_of(rows, numbers, [0])).total()
    assert math.isfinite(total.item())
    assert all(torch.isfinite(gradient).all() for gradient in naive.gradients(total, tiny))


@pytest.mark.parametrize("text", OBJECTIVES)
def test_padding_and_the_ids_under_it_change_nothing(text: str, tiny: LanguageModel, deletion: Request) -> None:
    case = Case(tiny, deletion, text)
    pair = naive.pair_of(case.rows, FORGET, RETAIN)
    plain = case.objective.terms(tiny, pair).total().item()
    padded = Pair(_padded(pair.forget), _padded(pair.retain))
    assert case.objective.terms(tiny, padded).total().item() == pytest.approx(plain, rel=1e-5)


def _padded(batch: Batch) -> Batch:
    pad = torch.nn.functional.pad
    ids = pad(batch.input_ids, (0, 9), value=77)
    ids = torch.where(pad(batch.attention_mask, (0, 9)) == 1, ids, 77)
    return replace(
        batch,
        input_ids=ids,
        labels=pad(batch.labels, (0, 9), value=-100),
        attention_mask=pad(batch.attention_mask, (0, 9)),
        value_mask=pad(batch.value_mask, (0, 9)),
    )


def test_the_order_of_rows_changes_nothing(tiny: LanguageModel, deletion: Request) -> None:
    case = Case(tiny, deletion, "npo")
    there = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, RETAIN)).total().item()
    back = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET[::-1], RETAIN[::-1])).total().item()
    assert there == pytest.approx(back, rel=1e-6)


# Alternates ---------------------------------------------------------------------------------------------------------


def test_alternates_are_drawn_from_the_pool_and_change_over_steps(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    objective = Recipe.parse("idk").objective.make()
    objective.prepare(tiny, rows, [([0, 1], [0])] * 12)
    lines = [drawn[0] for drawn in objective.answers.drawn]
    assert len(set(lines)) > 1
    assert all(0 <= line < len(read_refusals()) for line in lines)


def test_perturbed_answers_that_are_missing_are_named(tiny: LanguageModel) -> None:
    request = Request(forget=(Example("a?", "b", id="bare"),), retain=(Example("c?", "d"),))
    objective = Recipe.parse("dpo:alternates=perturbed").objective.make()
    with pytest.raises(InputError, match="bare has no perturbed answers"):
        objective.prepare(tiny, naive.rows_of(tiny, request), [([0], [0])])


def test_a_file_of_refusals_is_read_and_a_missing_or_empty_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("I do not know.\n\n No idea. \n")
    assert read_refusals(str(file)) == ["I do not know.", "No idea."]
    file.write_text("\n")
    with pytest.raises(InputError, match="holds no refusal"):
        read_refusals(str(file))
    with pytest.raises(InputError, match="does not exist"):
        read_refusals(str(tmp_path / "none.txt"))
