"""Steering methods against hand-worked numbers, closed forms, gradients and planted truths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.registry import methods
from letheon.core.rows.examples import Example
from letheon.probe.linear_probes import site_states
from letheon.steer.apply import steered
from letheon.steer.method import fit, layers_of, scaled_to_means
from letheon.steer.methods.austeer import Ranking, rank_units, signed_scores, strengths
from letheon.steer.methods.linear_act import at_equal_quantiles, linear_transport
from letheon.steer.methods.lineas import LinEAS, Settings, proximal, transport_loss, wasserstein
from letheon.steer.methods.logistic import regression_direction
from letheon.steer.methods.mean_difference import mean_difference
from letheon.steer.methods.mote import differential_map, expert_maps, switches_of, top_experts
from letheon.steer.methods.pca import principal_direction
from letheon.steer.routers import force_on, off_weights, recorded_choices, routers
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast, token_rows
from tests.steer.models import MIXTURES, contrast, family


def planted(count: int = 40, width: int = 12, gap: float = 3.0) -> tuple[Tensor, Tensor]:
    """Two clouds that differ along coordinate 4, and vary more along coordinate 7."""
    draw = torch.Generator().manual_seed(0)
    good, bad = (torch.randn(count, width, generator=draw) for _ in range(2))
    shared = 3 * torch.randn(count, generator=draw)  # pairs share what they are about
    good[:, 7] += shared
    bad[:, 7] += shared
    good[:, 4] += gap
    return good, bad


@pytest.mark.oracle("mean_difference")
def test_the_mean_difference_by_hand(tiny: LanguageModel) -> None:
    assert mean_difference(torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[0.0, 1]])).tolist() == [2.0, 2.0]
    steering = fit(tiny, contrast(), "mean_difference:layers=1-2")
    sites = [Site(1), Site(2)]
    good, bad = (site_states(tiny, token_rows(tiny, rows), sites) for rows in (contrast().toward, contrast().away))
    gaps = (good.mean(1) - bad.mean(1)).unbind()
    assert torch.allclose(steering.maps[Site(1)].shift, gaps[0], atol=1e-5)
    assert torch.allclose(steering.maps[Site(2)].shift, gaps[1] - gaps[0], atol=1e-5)  # the stream brings the rest


@pytest.mark.oracle("pca")
@pytest.mark.oracle("logistic")
def test_a_planted_direction_is_recovered_with_its_sign_and_length() -> None:
    good, bad = planted()
    for direction in (principal_direction(good, bad), regression_direction(good, bad, 0.1)):
        shift = scaled_to_means(direction, good, bad)
        assert torch.cosine_similarity(shift, torch.eye(12)[4], dim=0) > 0.85
        assert 2.5 < shift.norm() < 3.5
        flipped = scaled_to_means(-direction, good, bad)
        assert torch.allclose(flipped, shift)
    unequal = principal_direction(good, bad[:20])
    assert unequal.isfinite().all()


@pytest.mark.oracle("linear_act")
def test_an_affine_shift_of_the_data_is_recovered_exactly() -> None:
    source = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    target = source[torch.randperm(20)] * torch.tensor([2.0, 0.5, 1.0, 3.0, 1.5]) + 1.0
    weight, bias = linear_transport(source, target)
    assert torch.allclose(weight, torch.tensor([2.0, 0.5, 1.0, 3.0, 1.5]), atol=1e-4)
    assert torch.allclose(bias, torch.ones(5), atol=1e-4)
    flat, shift = linear_transport(torch.ones(4, 1), torch.full((4, 1), 3.0))
    assert (float(flat), float(shift)) == (1.0, 2.0)
    one, other = at_equal_quantiles(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0], [2.0]]))
    assert one.flatten().tolist() == [1.0, 2.0, 3.0]
    assert other.flatten().tolist() == [0.0, 1.0, 2.0]


def test_causal_fits_see_the_maps_below(tiny: LanguageModel) -> None:
    causal, at_once = (fit(tiny, contrast(), f"linear_act:causal={word}") for word in ("true", "false"))
    first, last = Site(0, "mlp_input"), Site(3, "mlp_input")
    assert torch.allclose(causal.maps[first].gain, at_once.maps[first].gain)
    assert not torch.allclose(causal.maps[last].gain, at_once.maps[last].gain)
    assert fit(tiny, contrast(), "linear_act:support=range").maps[last].bounded


@pytest.mark.oracle("lineas")
def test_the_distance_is_that_of_sorted_columns_and_its_gradient_exists() -> None:
    one, other = torch.tensor([[3.0, 0.0], [1.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    assert wasserstein(one, other).tolist() == [0.5, 0.5]  # ((1-1)² + (3-2)²)/2 and ((0-0)² + (2-1)²)/2
    sample = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: wasserstein(values, torch.randn(4, 3).double() * 0 + 1), sample)


@pytest.mark.oracle("lineas")
def test_the_proximal_step_by_hand_gives_exact_zeros() -> None:
    values = torch.tensor([3.0, -0.5, 4.5])
    soft = torch.tensor([2.0, 0.0, 3.5])
    assert torch.allclose(proximal(values, 1.0, 0.0), soft)
    expected = soft * (1 - 0.5 * 3**0.5 / soft.norm())
    assert torch.allclose(proximal(values, 1.0, 0.5), expected)
    assert (proximal(values, 0.0, 100.0) == 0).all()
    assert torch.equal(proximal(values, 1.0, 0.0, torch.tensor([2.0, 0.5, 5.0])), torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.oracle("lineas")
def test_the_proximal_step_of_unequal_step_sizes_is_a_minimum() -> None:
    values, step = torch.randn(8, generator=torch.Generator().manual_seed(100)), torch.linspace(0.2, 2.0, 8)
    found = proximal(values, 0.3, 0.1, step)

    def objective(u: torch.Tensor) -> torch.Tensor:
        return (0.5 * (u - values) ** 2 / step).sum() + 0.3 * u.abs().sum() + 0.1 * 8**0.5 * u.norm()

    assert 0 < int((found == 0).sum()) < 8
    best = objective(found)
    for at in range(8):
        for change in (-1e-2, 1e-2):
            moved = found.clone()
            moved[at] += change
            assert objective(moved) > best
    assert objective(1.01 * found) > best
    assert objective(0.99 * found) > best


@pytest.mark.oracle("lineas")
def test_a_coordinate_rests_at_zero_where_its_gradient_is_below_gamma(tiny: LanguageModel) -> None:
    gamma, sites = 0.003, [Site(layer, "mlp_input") for layer in range(2)]
    made = fit(tiny, contrast(), f"lineas:steps=25,learning_rate=0.03,layers=0-1,gamma={gamma},group=0")
    states = site_states(tiny, token_rows(tiny, contrast().toward), sites, position="mean")
    numbers = [tensor.clone().requires_grad_() for one in made.maps.values() for tensor in (one.gain, one.shift)]
    maps = dict(zip(sites, zip(numbers[::2], numbers[1::2], strict=True), strict=True))
    transport_loss(tiny, maps, dict(zip(sites, states, strict=True)), token_rows(tiny, contrast().away)).backward()
    at, gradient = torch.cat(numbers).detach(), torch.cat([tensor.grad for tensor in numbers])
    assert 0.3 < float((at == 0).float().mean()) < 0.9
    assert gradient[at == 0].abs().max() < 1.1 * gamma
    assert (gradient + gamma * at.sign())[at != 0].abs().median() < 0.3 * gamma


@pytest.mark.oracle("lineas")
def test_the_last_layer_s_loss_reaches_the_first_map(tiny: LanguageModel) -> None:
    sites = [Site(layer, "mlp_input") for layer in range(4)]
    rows = token_rows(tiny, contrast().away)
    maps = {site: (torch.zeros(64, requires_grad=True), torch.zeros(64, requires_grad=True)) for site in sites}
    states = site_states(tiny, token_rows(tiny, contrast().toward), sites, position="mean")
    target = dict(zip(sites, states, strict=True))
    start = transport_loss(tiny, maps, target, rows, reduce="sum")
    source = site_states(tiny, rows, sites, position="mean")
    by_hand = sum(float(wasserstein(a, b).sum()) for a, b in zip(source, states, strict=True))
    assert float(start.detach()) == pytest.approx(by_hand, rel=1e-4)
    only_last = {site: states[at] if at == 3 else source[at] for at, site in enumerate(sites)}
    for site in sites[:3]:
        maps[site][0].requires_grad_(site == sites[0])
    transport_loss(tiny, maps, only_last, rows).backward()
    assert maps[sites[0]][1].grad.abs().max() > 0


@pytest.mark.oracle("lineas")
def test_training_lowers_the_loss_and_the_penalty_the_support(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    dense = fit(tiny, contrast(), "lineas:steps=25,learning_rate=0.02")
    losses = dense.facts["losses"]
    assert losses[-1] < 0.7 * losses[0]
    assert tiny.parameters_hash() == before
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())
    supports = [dense.facts["support"]]
    for gamma in (0.003, 0.01, 1000.0):
        sparse = LinEAS(Settings(steps=20, learning_rate=0.05, gamma=gamma, group=0.0)).fit(tiny, contrast())
        supports.append(sparse.facts["support"])
    assert supports == sorted(supports, reverse=True)
    assert supports[-1] == 0.0  # exactly the identity
    assert supports[2] < 1


@pytest.mark.oracle("austeer")
def test_momenta_are_counted_and_ranked_by_hand() -> None:
    positive = torch.tensor([[[1.0, 0.0, 5.0], [1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]])
    negative = torch.zeros(1, 4, 3)
    negative[0, :, 2] = 1.0
    signed = signed_scores(positive, negative)
    assert signed.tolist() == [[0.75, 0.5, -0.75]]  # a momentum of 0 counts for neither side
    ranking = rank_units(torch.cat([signed, signed]))
    assert list(zip(ranking.layer.tolist(), ranking.unit.tolist(), strict=True))[:4] == [(0, 0), (0, 2), (1, 0), (1, 2)]
    gamma = strengths(ranking, 2, 10.0, (2, 3))
    assert gamma.tolist() == [[7.5, 0.0, -7.5], [0.0, 0.0, 0.0]]
    flipped = rank_units(signed_scores(negative, positive))
    straight = rank_units(signed)
    assert torch.equal(flipped.unit, straight.unit)
    assert torch.equal(flipped.signed, -straight.signed)
    assert isinstance(flipped, Ranking)


def test_austeer_scales_the_units_it_ranked(tiny: LanguageModel) -> None:
    steering = fit(tiny, contrast(), "austeer:k=3,alpha=2.0,site=neurons")
    gains = [one.gain for one in steering.maps.values()]
    assert sum(int((gain != 0).sum()) for gain in gains) == 3
    assert all(site.kind == "neurons" for site in steering.maps)
    assert 0.5 <= steering.facts["chance"] <= 1
    uneven = Contrast(contrast().toward, contrast().away[:5])
    with pytest.raises(InputError, match="needs pairs, found 6 and 5"):
        fit(tiny, uneven, "austeer")


@pytest.mark.oracle("mote")
def test_weights_of_switched_off_experts_go_to_the_others_by_hand() -> None:
    weights, indices = torch.tensor([[0.5, 0.3], [0.6, 0.2]]), torch.tensor([[0, 1], [2, 0]])
    table = torch.tensor([-1, 0, 0, 0])
    assert torch.allclose(off_weights(weights, indices, table), torch.tensor([[0.0, 0.8], [0.8, 0.0]]))
    none_left = torch.tensor([-1, -1, 0, 0])
    assert off_weights(weights, indices, none_left)[0].tolist() == [0.0, 0.0]
    forced, place = force_on(weights, indices, torch.tensor([0, 0, 0, 1]))
    assert place.tolist() == [[0, 3], [2, 3]]
    assert torch.allclose(forced.sum(-1), weights.sum(-1))


@pytest.mark.oracle("mote")
def test_the_map_counts_tokens_and_finds_the_experts_that_differ() -> None:
    model = family("Mixtral")
    rows = [[5, 9, 11], [7, 8, 30, 31]]
    maps = expert_maps(model, rows)
    assert maps.shape == (2, 3, 6)
    assert torch.allclose(maps.sum(-1), torch.full((2, 3), 2.0))  # two experts per token
    with recorded_choices(model.base()) as choices, torch.no_grad():
        model.base()(torch.tensor([rows[0]]))
        counts = torch.bincount(choices[1][1].flatten(), minlength=6) / 3
    assert torch.allclose(maps[0, 1], counts)
    difference = differential_map(torch.tensor([[[0.0, 2.0], [1.0, 0.0]]]), torch.tensor([[[0.0, 0.5], [1.0, 0.0]]]))
    assert top_experts(difference, 1) == [(0, 1)]


@pytest.mark.oracle("mote")
@pytest.mark.parametrize("name", MIXTURES)
def test_experts_that_are_off_are_never_used_and_those_on_always(name: str) -> None:
    model = family(name)
    rows = [[5, 9, 11, 40, 41, 60, 61]]
    last = len(routers(model.base())) - 1
    off = fit(model, contrast(), "mote:experts=2")
    layer = max(off.switches)
    with steered(model, off), recorded_choices(model.base()) as choices, torch.no_grad():
        model.base()(torch.tensor(rows))
        weights, indices = choices[layer]
        assert (weights[off.switches[layer].table[indices] == -1] == 0).all()
    on = replace(off, switches=switches_of(model, [(last, 4)], 1))
    with steered(model, on):
        assert (expert_maps(model, rows)[0, last, 4] - 1).abs() < 1e-6
    instead = replace(off, switches=switches_of(model, [(last, 0), (last, 1)], -1, before_choice=True))
    with steered(model, instead):
        assert expert_maps(model, rows)[0, last, :2].sum() == 0


def patched_router(module: nn.Module, off: list[int]) -> Callable[[Any, Any, Any], Any]:
    """A hook that recomputes a router's choice from logits of -inf, written out from the papers' equations."""
    k, groups, taken = module.top_k, getattr(module, "num_group", 1), getattr(module, "topk_group", 1)

    def hook(router: Any, args: Any, output: Any) -> Any:
        logits = output[0].float().clone()
        logits[:, off] = -torch.inf
        bias = getattr(router, "e_score_correction_bias", None)
        scores = logits.softmax(-1) if bias is None else logits.sigmoid()
        choosing = scores if bias is None else (scores + bias)
        for token in range(len(logits) if groups > 1 else 0):
            parts = choosing[token].view(groups, -1)
            rank = parts.amax(1) if bias is None else parts.topk(2).values.sum(1)
            lost = [group for group in range(groups) if group not in rank.topk(taken).indices.tolist()]
            parts[lost] = -torch.inf
        indices = choosing.topk(k).indices
        weights = scores.gather(1, indices)
        if getattr(router, "norm_topk_prob", type(router).__name__.startswith("Mixtral")):
            weights = weights / weights.sum(-1, keepdim=True)
        return output[0], (weights * getattr(router, "routed_scaling_factor", 1.0)).to(output[1].dtype), indices

    return hook


GROUPS: dict[str, Any] = {"n_group": 2, "topk_group": 1, "n_routed_experts": 8}
GROUPED = {"DeepseekV2": {**GROUPS, "topk_method": "group_limited_greedy"},
           "DeepseekV3": {**GROUPS, "routed_scaling_factor": 2.5}}  # fmt: skip


@pytest.mark.oracle("mote")
@pytest.mark.parametrize("name", [*MIXTURES, "grouped DeepseekV2", "grouped DeepseekV3"])
def test_off_before_the_choice_is_the_plain_model_with_those_logits_at_minus_infinity(name: str) -> None:
    kind = name.removeprefix("grouped ")
    model = family(kind, **(GROUPED[kind] if name != kind else {}))
    ids, off = torch.tensor([[5, 9, 11, 40, 41, 60, 61, 90, 91, 120]]), [0, 4]
    by_layer = routers(model.base())
    last = len(by_layer) - 1
    switches = switches_of(model, [(row, expert) for row in range(last + 1) for expert in off], -1, before_choice=True)
    with torch.no_grad():
        plain = model.model(ids).logits
        with steered(model, Steering({}, Shape.of(model), "mote", switches)):
            ours = model.model(ids).logits
        handles = [one.module.register_forward_hook(patched_router(one.module, off)) for one in by_layer.values()]
        patched = model.model(ids).logits
    for handle in handles:
        handle.remove()
    assert (ours - plain).abs().max() > 1e-3
    torch.testing.assert_close(ours, patched, atol=1e-5, rtol=1e-4)


@pytest.mark.oracle("mote")
def test_a_large_bias_does_not_choose_an_expert_that_is_off() -> None:
    model = family("DeepseekV3")
    router = next(iter(routers(model.base()).values())).module
    assert isinstance(router.e_score_correction_bias, Tensor)
    router.e_score_correction_bias[0] = 9.0
    rows = [[5, 9, 11, 40]]
    assert (expert_maps(model, rows)[0, 0, 0] - 1).abs() < 1e-6
    switches = switches_of(model, [(0, 0)], -1, before_choice=True)
    with steered(model, Steering({}, Shape.of(model), "mote", switches)):
        maps = expert_maps(model, rows)
        assert maps[0, 0, 0] == 0
        assert maps[0, 0].sum() == pytest.approx(2), "two other experts step in"
    assert "forward" not in vars(router), "the router's own code is back"


def test_routers_are_found_in_the_layers_that_have_one(tiny: LanguageModel) -> None:
    found = {name: list(routers(family(name).base())) for name in MIXTURES}
    assert found["Mixtral"] == [0, 1, 2]
    assert found["DeepseekV3"] == [1, 2]  # its first layer is dense
    assert not routers(tiny.base())
    with pytest.raises(InputError, match="no router"):
        fit(tiny, contrast(), "mote")


def test_layers_and_texts_that_cannot_be_are_refused(tiny: LanguageModel) -> None:
    count = len(blocks(tiny.base()))
    assert layers_of("all", count) == [0, 1, 2, 3]
    assert layers_of("middle", count) == [2]
    assert layers_of("1-", count) == [1, 2, 3]
    with pytest.raises(InputError, match="has 0-3"):
        layers_of("7", count)
    with pytest.raises(InputError, match="write middle"):
        layers_of("low", count)
    same = contrast().toward
    with pytest.raises(InputError, match="are equal"):
        Contrast(same, list(reversed(same)))
    with pytest.raises(InputError, match="--from has 1 texts"):
        Contrast(same, [Example("", "x")])
    with pytest.raises(InputError, match="same states"):
        scaled_to_means(torch.zeros(3), torch.zeros(2, 3), torch.zeros(2, 3))


def test_a_tokenizer_that_adds_no_first_token_is_read_as_it_is(tiny: LanguageModel) -> None:
    rows = token_rows(tiny, [Example("", "ab")])
    assert rows == [list(tiny.encoder().answer("ab", end=False)[0])]  # none is added, so none is skipped


def test_every_method_is_registered() -> None:
    names = {record.name for record in methods("steering")}
    assert names >= {"mean_difference", "pca", "logistic", "linear_act", "lineas", "austeer", "mote"}
