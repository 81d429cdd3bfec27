"""Steering acts the same with and without a cache, alone and in a batch, padded left or right, in every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import hooked_modules
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.scoring.generation import decode_with_logits
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement, Switch
from letheon.steer.positions import Tokens
from letheon.steer.routers import routers
from letheon.steer.steering import Shape, Steering, site_width
from tests.steer.models import EVERY, MIXTURES, family

ROWS = [[5, 9, 11, 40, 41], [7, 8], [30, 31, 32, 33, 34, 35, 36, 37]]
NEW = 4
CLOSE = {"atol": 2e-4, "rtol": 1e-4}  # batched products sum in another order


def some_steering(model: LanguageModel, tokens: Tokens = "all", kind: str = "residual") -> Steering:
    draw = torch.Generator().manual_seed(3)
    site = Site(1, kind)  # type: ignore[arg-type]
    width = site_width(model, site)
    made = Displacement(0.5 * torch.randn(width, generator=draw), 0.5 * torch.randn(width, generator=draw))
    return Steering({site: made}, Shape.of(model), "by hand", tokens=tokens)


def logits_of(model: LanguageModel, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model.base()(torch.tensor([ids])).logits[0].float()


def switch(model: LanguageModel) -> Steering:
    """Switch two experts off and one on in layer 1, which has a router in every mixture."""
    table = torch.zeros(routers(model.base())[1].experts, dtype=torch.long)
    table[[0, -1]], table[2] = -1, 1
    return Steering({}, Shape.of(model), "by hand", {1: Switch(table)})


@pytest.mark.parametrize("name", EVERY)
def test_the_effect_does_not_depend_on_how_the_model_is_run(name: str) -> None:
    model = family(name)
    every = [some_steering(model, "all"), some_steering(model, "prompt"), some_steering(model, "generated")]
    every += [some_steering(model, "last"), *([switch(model)] if routers(model.base()) else [])]
    plain = decode_with_logits(model, ROWS, NEW)
    for steering in every:
        with steered(model, steering):
            batch = decode_with_logits(model, ROWS, NEW)
            uncached = decode_with_logits(model, ROWS, NEW, use_cache=False)
            alone = [decode_with_logits(model, [row], NEW)[0] for row in ROWS]
        for (ids, logits), *others in zip(batch, uncached, alone, strict=True):
            for other_ids, other in others:
                assert other_ids == ids
                assert torch.allclose(other, logits, **CLOSE)
        moved = [
            not torch.allclose(a[1][: len(b[1])], b[1][: len(a[1])], atol=1e-3)
            for a, b in zip(plain, batch, strict=True)
        ]
        # a switched expert moves a row little where its weight in the mixture is small
        enough = any(moved) if list(steering.kinds) == ["switching"] else all(moved)
        assert enough, f"{steering.tokens} {steering.kinds} changes nothing"
    assert not hooked_modules(model.model)


@pytest.mark.parametrize("name", EVERY)
def test_padding_on_either_side(name: str) -> None:
    model = family(name)
    short, long = ROWS[1], ROWS[2]
    gap = [0] * (len(long) - len(short))
    every = [some_steering(model, "all"), some_steering(model, "prompt"), some_steering(model, "last")]
    for steering in every + ([switch(model)] if routers(model.base()) else []):
        for ids, mask in (
            ([*gap, *short], [0] * len(gap) + [1] * len(short)),
            ([*short, *gap], [1] * len(short) + [0] * len(gap)),
        ):
            real = torch.tensor(mask).bool()
            positions = (real.long().cumsum(0) - 1).clamp(min=0)
            with steered(model, steering), torch.no_grad():
                alone = logits_of(model, short)
                both = model.base()(
                    torch.tensor([ids, long]),
                    attention_mask=torch.tensor([mask, [1] * len(long)]),
                    position_ids=torch.stack([positions, torch.arange(len(long))]),
                ).logits[0]
            assert torch.allclose(both[real], alone, **CLOSE)


def test_phases_are_what_they_say(tiny: LanguageModel) -> None:
    ids = ROWS[0]
    plain = logits_of(tiny, ids)
    with steered(tiny, some_steering(tiny, "last")):
        last = logits_of(tiny, ids)
    assert torch.equal(last[:-1], plain[:-1])
    assert not torch.allclose(last[-1], plain[-1])
    with steered(tiny, some_steering(tiny, "generated")):
        assert torch.equal(logits_of(tiny, ids), plain)  # a prompt alone has no generated token
    with steered(tiny, some_steering(tiny, "prompt")) as model:
        ((_, prompt),) = decode_with_logits(model, [ids], 3)
    with steered(tiny, some_steering(tiny, "all")) as model:
        ((_, whole),) = decode_with_logits(model, [ids], 3)
    assert torch.allclose(prompt[0], whole[0], atol=1e-5)  # the first new token is chosen from the prompt
    assert not torch.allclose(prompt[1], whole[1], atol=1e-3)


def test_several_add_up_and_strength_scales(tiny: LanguageModel) -> None:
    shifted = Steering({Site(2): Displacement(shift=torch.randn(64))}, Shape.of(tiny), "a")
    gained = Steering({Site(2): Displacement(gain=torch.randn(64))}, Shape.of(tiny), "b")
    both = Steering(
        {Site(2): Displacement(0.5 * gained.maps[Site(2)].gain, 2 * shifted.maps[Site(2)].shift)}, Shape.of(tiny), "c"
    )
    with steered(tiny, [shifted, gained], [2.0, 0.5]):
        summed = logits_of(tiny, ROWS[0])
    with steered(tiny, both):
        once = logits_of(tiny, ROWS[0])
    assert torch.allclose(summed, once, atol=1e-4)
    with steered(tiny, both, 0.0):
        assert torch.equal(logits_of(tiny, ROWS[0]), logits_of(tiny, ROWS[0]))
    with steered(tiny, [both, both], [1.0, -1.0]):
        assert torch.allclose(logits_of(tiny, ROWS[0]), _plain(tiny), atol=1e-4)


def _plain(model: LanguageModel) -> Tensor:
    return logits_of(model, ROWS[0])


def test_bounds_leave_values_outside_as_they_are() -> None:
    bounded = Displacement(shift=torch.ones(3), low=torch.zeros(3), high=torch.ones(3))
    assert bounded.displace(torch.tensor([[-1.0, 0.5, 2.0]])).tolist() == [[0.0, 1.0, 0.0]]


def test_an_all_default_switch_changes_no_bit() -> None:
    for name in MIXTURES:
        model = family(name)
        plain = logits_of(model, ROWS[2])
        none = Steering({}, Shape.of(model), "none", {1: Switch(torch.zeros(6).long())})
        instead = Steering({}, Shape.of(model), "none", {1: Switch(torch.zeros(6).long(), before_choice=True)})
        for steering in (none, instead):
            with steered(model, steering):
                assert torch.equal(logits_of(model, ROWS[2]), plain)


def test_two_switches_of_one_layer_are_refused() -> None:
    model = family("Mixtral")
    with pytest.raises(InputError, match="one layer"), steered(model, [switch(model), switch(model)]):
        pass
    with pytest.raises(InputError, match="all tokens"), steered(model, replace(switch(model), tokens="last")):
        pass
