"""Baked weights give the logits of the hooks, a saved model is plain, and what cannot be baked is said before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.steer.apply import steered
from letheon.steer.bake import bake, logit_gap, obstacles
from letheon.steer.maps import Displacement, Switch
from letheon.steer.steering import Shape, Steering, site_width
from tests.steer.models import family

KINDS = ("residual", "attention", "mlp", "heads", "neurons", "mlp_input")


def at(model: LanguageModel, kind: str, *, gain: bool, shift: bool = True, layer: int = 1) -> Steering:
    site = Site(layer, kind)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(len(kind))
    numbers = [torch.randn(site_width(model, site), generator=draw) for _ in range(2)]
    made = Displacement(numbers[0] if gain else None, numbers[1] if shift else None)
    return Steering({site: made}, Shape.of(model), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_llama_takes_every_map(kind: str, tiny: LanguageModel, tmp_path: Path) -> None:
    every = [at(tiny, kind, gain=kind != "residual"), at(tiny, kind, gain=False, layer=2), at(tiny, kind, gain=False)]
    before = tiny.parameters_hash()
    strengths = [0.7, -1.0, 2.0]
    baked = bake(tiny, every, strengths)
    assert tiny.parameters_hash() == before
    assert logit_gap(tiny, baked, every, strengths) < 1e-4  # float32 sums in another order
    folder = baked.save(tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[5, 9, 11, 40]])
    with torch.no_grad(), steered(tiny, every, strengths):
        assert torch.allclose(plain(ids).logits, tiny.model(ids).logits, atol=1e-3)
    biased = {"attention": "attention_bias", "heads": "attention_bias"}.get(kind, "mlp_bias")
    assert getattr(plain.config, biased)


def test_gains_need_no_bias_in_any_family() -> None:
    for name in ("Qwen2", "Gemma2", "GPT2"):
        model = family(name)
        for kind in ("heads", "mlp"):
            steering = at(model, kind, gain=True, shift=False)
            assert not obstacles(model, [steering])
            assert logit_gap(model, bake(model, [steering]), [steering], [1.0]) < 1e-4


def test_what_cannot_be_baked_is_said_before(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="layer 1, residual: a gain on the residual stream"):
        bake(tiny, [at(tiny, "residual", gain=True)])
    steering = at(tiny, "residual", gain=False)
    late = Steering(steering.maps, steering.shape, "x", tokens="generated")
    assert "generated tokens only" in obstacles(tiny, [late])[0]
    bounded = Displacement(shift=torch.ones(64), low=torch.zeros(64), high=torch.ones(64))
    assert "bounds" in obstacles(tiny, [Steering({Site(1): bounded}, Shape.of(tiny), "x")])[0]
    qwen = family("Qwen2")
    assert "no switch for one" in obstacles(qwen, [at(qwen, "mlp", gain=False)])[0]
    mixture = family("Mixtral")
    switch = Steering({}, Shape.of(mixture), "x", {1: Switch(torch.zeros(6).long())})
    assert "switch of experts" in obstacles(mixture, [switch])[0]
    assert "no single matrix" in obstacles(mixture, [at(mixture, "residual", gain=False)])[0]
