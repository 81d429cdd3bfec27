"""Bake steerings into a model's weights: a plain model with the same logits and no hooks.

A displacement s·(gain ⊙ z + shift) of a linear layer's output z = Wx + b gives the layer (1 + s·gain) ⊙ (Wx + b) +
s·shift; of its input x it gives W(1 + s·gain) ⊙ x + b + s·W·shift. A shift of a block's output is one of its MLP's
output. Layers without a bias get one where the configuration has a switch for it (Llama: `mlp_bias`, `attention_bias`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import (
    Site,
    blocks,
    down_projection,
    is_matrix,
    is_transposed,
    mlp,
    output_projection,
    sides,
)
from letheon.steer.apply import one_per_steering, steered
from letheon.steer.maps import Displacement
from letheon.steer.steering import Steering

# Sites whose activation is the output of a linear layer, or enters one.
OUTPUTS, INPUTS = ("attention", "mlp", "residual"), ("heads", "neurons", "mlp_input")
# Largest difference of logits between hooks and weights, relative to the largest logit: rounding of float32.
TOLERANCE = 1e-3
PROBE = ("The weather was fine, and", "Why is that so? Because", "1, 2, 3")


def obstacles(model: LanguageModel, steerings: Iterable[Steering]) -> list[str]:
    """Say what cannot be baked into a model's weights, one sentence per map; an empty list means that all can."""
    return [words for one in steerings for words in _obstacles(model, one)]


def _obstacles(model: LanguageModel, steering: Steering) -> list[str]:
    steering.check(model)
    problems = [f"layer {layer}: a switch of experts acts on the router's choice" for layer in steering.switches]
    if steering.tokens != "all":
        problems.append(f"{steering.method} acts on {steering.tokens} tokens only; weights act on all")
    for site, one in steering.maps.items():
        where = f"layer {site.layer}, {site.kind}"
        if one.bounded:
            problems.append(f"{where}: the map acts between bounds only")
        elif site.kind == "input":
            problems.append(f"{where}: a block's input has no weights of its own")
        elif site.kind == "residual" and one.gain is not None:
            problems.append(f"{where}: a gain on the residual stream also scales what passes a block by")
        elif site.kind not in (*OUTPUTS, *INPUTS):
            problems.append(f"{where}: no rule for this site")
        else:
            problems += [f"{where}: {words}" for words in _without_bias(model, site, one)]
    return problems


def _without_bias(model: LanguageModel, site: Site, one: Displacement) -> list[str]:
    """Say which biases a map needs that the architecture has not."""
    try:
        layers = matrices(model, site)
    except InputError as error:
        return [error.problem]
    bare = [layer for layer in layers if layer.bias is None]
    if one.shift is None or not bare or _bias_switch(model, site) is not None:
        return []
    return [f"{type(bare[0]).__name__} has no bias, and {type(model.base().config).__name__} no switch for one"]


def _bias_switch(model: LanguageModel, site: Site) -> str | None:
    name = "attention_bias" if site.kind in ("attention", "heads") else "mlp_bias"
    return name if hasattr(model.base().config, name) else None


def matrices(model: LanguageModel, site: Site) -> list[Any]:
    """Return the linear layers that give a site's activation (or that it enters)."""
    block = blocks(model.base())[site.layer]
    if site.kind in ("attention", "heads"):
        return [output_projection(block)]
    down = down_projection(block)
    if site.kind != "mlp_input":
        return [down]
    return [one for one in mlp(block).children() if is_matrix(one) and sides(one)[1] == model.width and one is not down]


@torch.no_grad()
def bake(
    model: LanguageModel, steerings: Sequence[Steering], strength: float | Sequence[float] = 1.0, *, check: bool = True
) -> LanguageModel:
    """Return a plain model that computes what the steered one does; the given model is left as it was.

    Args:
        strength: one number for all, or one per steering.
        check: compare its logits with those of the hooks.

    Raises:
        InputError: something cannot be baked, which the message names; or strengths that are not one per steering.
        LetheonError: the logits differ, so that the architecture adds its layers in another way.
    """
    strengths, problems = one_per_steering(strength, len(steerings)), obstacles(model, steerings)
    if problems:
        raise InputError("cannot be baked: " + "; ".join(problems), "steer by hooks, or use another method or site")
    if model.has_adapter:
        raise InputError(f"{model.name} has an adapter", "save it merged first: letheon.load(...).save(what='full')")
    baked = replace(model, model=_with_biases(model, steerings), name=f"{model.name}, steered", _encoder=None)
    total: dict[Site, list[Displacement]] = {}
    for one, amount in zip(steerings, strengths, strict=True):
        for site, made in one.maps.items():
            total.setdefault(site, []).append(made.at(amount, next(iter(made.tensors().values()))))
    for site, maps in sorted(total.items()):
        _write(baked, site, maps)
    if check and (gap := logit_gap(model, baked, steerings, strengths)) > TOLERANCE:
        raise LetheonError(
            f"logits of the baked model differ from those of the hooks by {gap:.2g} of the largest logit",
            "this architecture scales or norms what its layers add: steer by hooks",
        )
    return baked


def _with_biases(model: LanguageModel, steerings: Sequence[Steering]) -> Any:
    """Return a copy of the model, rebuilt from its configuration with the biases that the maps need (zeros)."""
    base = model.base()
    switches = {
        _bias_switch(model, site)
        for one in steerings
        for site, made in one.maps.items()
        if made.shift is not None and any(layer.bias is None for layer in matrices(model, site))
    }
    if not switches:
        return copy.deepcopy(base)
    config = copy.deepcopy(base.config)
    for name in switches:
        setattr(config, str(name), True)
    with torch.random.fork_rng():
        rebuilt = type(base)(config).to(next(base.parameters()))
    missing = rebuilt.load_state_dict(base.state_dict(), strict=False)
    if missing.unexpected_keys or any(not name.endswith(".bias") for name in missing.missing_keys):
        raise LetheonError(f"{type(base).__name__} could not be rebuilt with biases", "steer by hooks")
    for name, parameter in rebuilt.named_parameters():
        if name in missing.missing_keys:
            parameter.zero_()
    rebuilt.generation_config = copy.deepcopy(base.generation_config)
    return rebuilt.eval()


def _write(model: LanguageModel, site: Site, maps: Sequence[Displacement]) -> None:
    """Write the sum of the displacements at one site into its linear layers."""
    layers = matrices(model, site)
    width = maps[0].width
    gain, shift = torch.zeros(width), torch.zeros(width)
    for one in maps:
        gain += 0 if one.gain is None else one.gain
        shift += 0 if one.shift is None else one.shift
    for layer in layers:
        weight: Tensor = layer.weight.T if is_transposed(layer) else layer.weight  # [outputs, inputs], a view
        gains, shifts = gain.to(weight), shift.to(weight)
        if site.kind in INPUTS:
            _add(layer, weight @ shifts)
            weight.mul_(1 + gains)
        else:
            weight.mul_((1 + gains)[:, None])
            if layer.bias is not None:
                layer.bias.mul_(1 + gains)
            _add(layer, shifts)


def _add(layer: Any, bias: Tensor) -> None:
    if layer.bias is not None:
        layer.bias.add_(bias)


@torch.no_grad()
def logit_gap(
    model: LanguageModel, baked: LanguageModel, steerings: Sequence[Steering], strengths: Sequence[float]
) -> float:
    """Return the largest difference of logits between hooks and weights, relative to the largest logit."""
    gap = 0.0
    for text in PROBE:
        ids = torch.tensor([model.encoder().answer(text, end=False)[0]], device=model.device)
        with steered(model, steerings, strengths):
            hooked = model.base()(ids, use_cache=False).logits
        written = baked.base()(ids, use_cache=False).logits
        gap = max(gap, float((hooked - written).abs().max() / hooked.abs().max()))
    return gap
