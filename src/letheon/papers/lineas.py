"""LinEAS: End-to-end Learning of Activation Steering with a Distributional Loss.

arXiv 2503.10679, 2025-03; NeurIPS 2025. Full scale in the paper: Gemma-2 and Qwen2.5 with 32 + 32 sentences. Here: a
small Llama taught sentences in two styles, 32 + 32 sentences to fit on and as many held out; all layers are steered at
the MLP's input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from letheon.core.model.sites import Site
from letheon.core.statistics import estimate_mean
from letheon.papers.common.networks import several
from letheon.papers.common.steering_worlds import StyleWorld, style_world
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.probe.linear_probes import site_states
from letheon.report.figures import dots
from letheon.steer.maps import Displacement
from letheon.steer.method import fit
from letheon.steer.methods.lineas import transport_loss
from letheon.steer.steering import Steering
from letheon.steer.texts import token_rows

# The parts that decide, named before the first run.
PRIMARY = (
    "log held-out loss, lineas minus linear_act",
    "log held-out loss, sparse lineas minus no steering",
)
STEPS = {"fast": 150, "full": 400}
RATE = 0.02
# With Adam, single coordinates stay whose gradient keeps its direction; not tuned.
SPARSE = "gamma=0.9,group=0.0"
EACH = 2  # worlds per seed


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare held-out losses of maps trained together with those fitted layer by layer, and of sparse maps."""
    found.baselines += ["no steering", "linear_act, causal", "linear_act, all layers at once", "mean shift", "random"]
    found.seeds = several(scale.seeds, EACH)
    rows = [measured(seed, STEPS[scale.name]) for seed in found.seeds]
    found.rows += rows
    judge(rows, found)
    names = [name for name in rows[0] if name.startswith("loss ")]
    shown = {name: {name: estimate_mean([row[name] for row in rows])} for name in names}
    found.figures["losses"] = dots(shown, "log held-out loss", "Held-out transport loss of each method, natural log")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the held-out loss of dense maps against Linear-AcT, and of sparse maps against no steering."""

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    found.decide(PRIMARY[0], Pairs(column("loss linear_act"), column("loss lineas")), below=0.0)
    found.decide(PRIMARY[1], Pairs(column("loss none"), column("loss sparse")), below=0.0)
    for other in ("at once", "mean shift", "random"):
        name = f"log held-out loss, lineas minus {other}"
        found.report(name, Pairs(column(f"loss {other}"), column("loss lineas")), below=0.0)
    found.report("support of the sparse maps", column("sparse support"), below=1.0)
    found.report("support at gamma 1000", column("largest gamma support"))


def measured(seed: int, steps: int) -> dict[str, Any]:
    """Fit every method on one world and return the natural log of its held-out loss."""
    world = style_world(seed)
    training = f"lineas:steps={steps},learning_rate={RATE}"
    arms = {
        "linear_act": fit(world.model, world.fit, "linear_act"),
        "at once": fit(world.model, world.fit, "linear_act:causal=false"),
        "lineas": fit(world.model, world.fit, training, seed=seed),
        "sparse": fit(world.model, world.fit, f"{training},{SPARSE}", seed=seed),
    }
    everything = fit(world.model, world.fit, "lineas:steps=5,gamma=1000")
    arms["mean shift"] = mean_shift(world)
    arms["random"] = arms["lineas"].random_like(seed)
    losses = {f"loss {name}": math.log(held_out_loss(world, one)) for name, one in arms.items()}
    return {
        "seed": seed,
        "loss none": math.log(held_out_loss(world, None)),
        **losses,
        "sparse support": arms["sparse"].facts["support"],
        "largest gamma support": everything.facts["support"],
    }


def mean_shift(world: StyleWorld) -> Steering:
    """Return Linear-AcT's maps with weight 1, fitted at once: each coordinate is shifted by its means' difference."""
    at_once = fit(world.model, world.fit, "linear_act:causal=false")
    sites = list(at_once.maps)
    toward, away = (
        site_states(world.model, token_rows(world.model, rows), sites, position="mean").mean(1)
        for rows in (world.fit.toward, world.fit.away)
    )
    return replace(at_once, maps={site: Displacement(shift=toward[i] - away[i]) for i, site in enumerate(sites)})


def held_out_loss(world: StyleWorld, steering: Steering | None) -> float:
    """Return the transport loss of held-out sentences, sum over layers of the mean over coordinates."""
    model = world.model
    sites = [Site(layer, "mlp_input") for layer in range(4)]
    states = site_states(model, token_rows(model, world.held_out.toward), sites, position="mean")
    target = dict(zip(sites, states, strict=True))
    maps: Mapping[Site, tuple[Tensor, Tensor]] = {site: _numbers(steering, site, model.width) for site in sites}
    with torch.no_grad():
        return float(transport_loss(model, maps, target, token_rows(model, world.held_out.away)))


def _numbers(steering: Steering | None, site: Site, width: int) -> tuple[Tensor, Tensor]:
    one = steering.maps.get(site) if steering is not None else None
    zeros = torch.zeros(width)
    if one is None:
        return zeros, zeros
    return (zeros if one.gain is None else one.gain), (zeros if one.shift is None else one.shift)
