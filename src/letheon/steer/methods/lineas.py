"""LinEAS: affine maps at many layers, trained together until steered activations are spread like the target's.

The loss is, per layer, the sum over coordinates of the squared distance (1/n)‖sort(source) - sort(target)‖². It is
back-propagated through the frozen model, so that each map accounts for those below it. A sparse group lasso, centred on
the identity and applied by its proximal step, selects layers and neurons: the others stay exactly as they were.

Paper:   Rodriguez et al., LinEAS, arXiv 2503.10679, Algorithm 1.
Differs: thresholds of the proximal step are multiplied by the step size, as proximal theory wants `[inferred]`; the
         vector of a text is the mean over its tokens `[inferred]`, without the first one (an attention sink). The
         default optimizer is Adam, which the authors' README uses; its proximal step is taken with Adam's own step size
         of each coordinate, so that a map rests where the paper's SGD would let it rest; SGD is an option. The loss is
         divided by the number of coordinates (`reduce=mean`), so that one learning rate serves all models; `sum` is the
         paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import TrainingError
from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import stop_after
from letheon.core.model.sites import Kind, Site, blocks
from letheon.core.progress import progress
from letheon.core.registry import check_settings, method
from letheon.probe.linear_probes import Position, pooling_weights, right_padded, site_states
from letheon.steer.maps import Displacement
from letheon.steer.method import SteeringMethod, layers_of
from letheon.steer.methods.linear_act import at_equal_quantiles
from letheon.steer.steering import Shape, Steering, site_width
from letheon.steer.texts import Contrast, token_rows

# Halvings of the interval in which a shrunk vector's norm lies: below the rounding of float32.
HALVINGS = 30


@dataclass(frozen=True)
class Settings:
    """The settings of the training.

    Attributes:
        steps: optimizer steps.
        learning_rate: step size, which falls to 0 along half a cosine.
        gamma: weight of the sparse group lasso; 0 leaves the maps dense. It is compared with the gradient of the loss:
            a coordinate stays unmoved where its gradient is below gamma times `lasso`.
        lasso, group: weights of its two terms: single coordinates, and whole layers.
        optimizer: `adam`, or `sgd` as in the paper (with `reduce=sum` and a rate of 0.1).
        reduce: `mean` or `sum` of the loss over a layer's coordinates.
        batch: source texts per step.
        layers: `all`, `middle`, a layer (7), a range (5-9) or an open one (20-).
        site: where the maps act; `mlp_input` is the output of Llama's post_attention_layernorm.
        position: the vector of a text: `mean` over all tokens but the first, or its `last` token.
    """

    steps: int = 40
    learning_rate: float = 0.01
    gamma: float = 0.0
    lasso: float = 1.0
    group: float = 1.0
    optimizer: Literal["adam", "sgd"] = "adam"
    reduce: Literal["mean", "sum"] = "mean"
    batch: int = 32
    layers: str = "all"
    site: Kind = "mlp_input"
    position: Position = "mean"

    def __post_init__(self) -> None:
        check_settings(self, positive=("steps", "learning_rate", "batch"))


def wasserstein(source: Float[Tensor, "n width"], target: Float[Tensor, "m width"]) -> Float[Tensor, " width"]:
    """Compute the squared 2-Wasserstein distance of two samples in each coordinate."""
    one, other = at_equal_quantiles(source, target)
    return (one - other).square().mean(0)


def proximal(
    values: Float[Tensor, " width"], lasso: float, group: float, step: float | Float[Tensor, " width"] = 1.0
) -> Float[Tensor, " width"]:
    """Apply the proximal step of the sparse group lasso, of one step size or of one per coordinate.

    The result u minimises ½ Σ (u - values)² / step + lasso ‖u‖₁ + group √width ‖u‖₂: soft thresholds, then a shrinkage
    to a norm that is found by halving (with one step size it is that of the soft values less step · group · √width).
    """
    shrunk = values.sign() * (values.abs() - lasso * step).clamp(min=0)
    if group == 0:
        return shrunk
    pull = group * math.sqrt(len(values)) * step * torch.ones_like(values)
    if float((shrunk / pull).norm()) <= 1:
        return torch.zeros_like(values)
    low, high = 0.0, float(shrunk.norm())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float((shrunk / (middle + pull)).norm()) > 1 else (low, middle)
    return shrunk * high / (high + pull)


def step_sizes(optimizer: torch.optim.Optimizer, numbers: Tensor) -> float | Tensor:
    """Return the step size of a tensor's last step, per coordinate under Adam: its rate over the root of the moment."""
    group, state = optimizer.param_groups[0], optimizer.state[numbers]
    rate = float(group["lr"])
    if "exp_avg_sq" not in state:
        return rate
    moment: Tensor = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return rate / (moment.sqrt() + group["eps"])


@method("steering", "lineas", Settings, paper="2503.10679", tiny={"steps": 3})
class LinEAS(SteeringMethod):
    settings: Settings

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Train the maps; the model's weights get no gradient."""
        options, base = self.settings, model.base()
        sites = [Site(layer, options.site) for layer in layers_of(options.layers, len(blocks(base)))]
        states = site_states(model, token_rows(model, contrast.toward), sites, position=options.position)
        target = dict(zip(sites, states.to(model.device), strict=True))
        away = token_rows(model, contrast.away)
        draw = torch.Generator().manual_seed(seed)
        trained = [p for p in base.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            maps, losses = self._train(model, sites, target, away, draw)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        made = {site: Displacement(gain.detach().cpu(), shift.detach().cpu()) for site, (gain, shift) in maps.items()}
        share = float(torch.cat([one.support() for one in made.values()]).float().mean())
        return Steering(made, Shape.of(model), "lineas", facts={"losses": losses, "support": share})

    def _train(
        self,
        model: LanguageModel,
        sites: Sequence[Site],
        target: Mapping[Site, Tensor],
        away: Sequence[Sequence[int]],
        draw: torch.Generator,
    ) -> tuple[dict[Site, tuple[Tensor, Tensor]], list[float]]:
        options = self.settings
        maps = {
            site: tuple(torch.zeros(site_width(model, site), device=model.device, requires_grad=True) for _ in range(2))
            for site in sites
        }
        numbers = [tensor for pair in maps.values() for tensor in pair]
        kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.SGD
        optimizer = kind(numbers, lr=options.learning_rate)
        losses: list[float] = []
        with progress("fitting the maps", options.steps) as advance:
            for step in range(options.steps):
                rate = options.learning_rate * (1 + math.cos(math.pi * step / options.steps)) / 2
                chosen = torch.randperm(len(away), generator=draw)[: options.batch].tolist()
                loss = transport_loss(model, maps, target, [away[i] for i in chosen], options.position, options.reduce)
                if not bool(loss.isfinite()):
                    raise TrainingError(f"the loss is {float(loss)} at step {step}", "use a lower learning_rate")
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
                optimizer.step()
                if options.gamma:
                    with torch.no_grad():
                        lasso, group = options.gamma * options.lasso, options.gamma * options.group
                        for tensor in numbers:
                            tensor.copy_(proximal(tensor, lasso, group, step_sizes(optimizer, tensor)))
                losses.append(float(loss.detach()))
                advance(step + 1, f"loss {losses[-1]:.3g}")
        return maps, losses  # type: ignore[return-value]  # pairs


def transport_loss(
    model: LanguageModel,
    maps: Mapping[Site, tuple[Tensor, ...]],
    target: Mapping[Site, Tensor],
    rows: Sequence[Sequence[int]],
    position: Position = "mean",
    reduce: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Compute the loss of source rows that pass through all maps, against the unsteered states of the target.

    Args:
        maps: gain and shift by site.
        target: one vector per target text, by site.
    """
    ids, mask = right_padded(model, rows)
    weights = pooling_weights(mask, position)
    pooled: dict[Site, Tensor] = {}

    def change(site: Site, states: Tensor) -> Tensor:
        gain, shift = maps[site]
        moved = torch.addcmul(states + shift, gain, states)
        pooled[site] = torch.einsum("rtw,rt->rw", moved, weights)
        return moved

    base, last = model.base(), max(site.layer for site in maps)
    edits = {site: lambda states, site=site: change(site, states) for site in maps}
    with edit(base, edits), stop_after(base, last):
        base(ids, attention_mask=mask.long(), use_cache=False)
    per_layer = [wasserstein(pooled[site], target[site]) for site in maps]
    return torch.stack([one.mean() if reduce == "mean" else one.sum() for one in per_layer]).sum()
