"""LinEAS: End-to-end Learning of Activation Steering with a Distributional Loss.

arXiv 2503.10679, 2025-03; NeurIPS 2025. Full scale in the paper: Gemma-2 and Qwen2.5 with 32 + 32 sentences. Here: a
small Llama taught sentences in two styles, 32 + 32 sentences to fit on and more held out; all layers are steered at the
MLP's input. Every arm's setting is chosen by what is judged, on seeds that are not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from letheon.core.model.sites import Site
from letheon.core.statistics import estimate_mean
from letheon.papers.common.steering_worlds import StyleWorld, style_world
from letheon.papers.kit.findings import Columns, Findings, Pairs
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.probe.linear_probes import site_states
from letheon.report.figures import dots
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement
from letheon.steer.method import fit
from letheon.steer.methods.lineas import wasserstein
from letheon.steer.steering import Steering
from letheon.steer.texts import token_rows

# The parts that decide, named before the first run.
PRIMARY = (
    "log held-out loss, lineas minus linear_act",
    "log held-out loss, sparse lineas minus dense lineas cut to as many coordinates",
)
STEPS = 400
# Ways to fit each arm, tried on seeds that are not judged: optimizer and rate; which layers see the maps below, which
# values are moved, and the strength; the strength.
Way = tuple[str | float, ...]
WAYS: dict[str, list[Way]] = {
    "lineas": [("adam", 0.05), ("adam", 0.15), ("sgd", 3.0), ("sgd", 9.0)],
    "linear_act": [
        (order, support, strength)
        for order in ("causal", "at once") for support in ("all", "range") for strength in (0.8, 1.0, 1.25)
    ],
    "mean shift": [(0.5,), (1.0,), (1.5,)],
}  # fmt: skip
# Thresholds act on single coordinates; the sparse maps are trained by the paper's own optimizer.
SPARSE = f"lineas:steps={STEPS},optimizer=sgd,learning_rate=3,gamma=0.01,group=0.0"
HELD_OUT = 256  # sentences of each style, so that the sample itself adds little to the loss


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare held-out losses of maps trained together with those fitted layer by layer, and of sparse maps."""
    found.baselines += ["no steering", "linear_act, in its best form", "mean shift", "random", "cut dense maps"]
    worlds = cache(lambda seed: style_world(seed, held_out=HELD_OUT))

    def score(arm: str, way: Way, seed: int) -> float:
        return -log_loss(worlds(seed), *fitted(worlds(seed), arm, way, seed))

    ways = choose(found, WAYS, score)
    worlds.cache_clear()
    rows = [measured(style_world(seed, held_out=HELD_OUT), ways, seed) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    names = [name for name in rows[0] if name.startswith("loss ")]
    shown = {name: {name: estimate_mean([row[name] for row in rows])} for name in names}
    found.figures["losses"] = dots(shown, "log held-out loss", "Held-out transport loss of each method, natural log")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the held-out loss of dense maps against Linear-AcT, and of sparse maps against cut dense ones."""
    of = Columns(rows)

    def pairs(ours: str, baseline: str) -> Pairs:
        return of.pairs(f"loss {ours}", f"loss {baseline}")

    found.decide(PRIMARY[0], pairs("lineas", "linear_act"), below=0.0)
    found.decide(PRIMARY[1], pairs("sparse", "cut"), below=0.0)
    found.check("sparse maps leave half of the coordinates alone", max(of("sparse support")) <= 0.5)
    for other in ("none", "mean shift", "random"):
        found.report(f"log held-out loss, lineas minus {other}", pairs("lineas", other), below=0.0)
    found.report("log held-out loss, sparse lineas minus none", pairs("sparse", "none"), below=0.0)
    found.report("support of the sparse maps", of("sparse support"), below=1.0)


def fitted(world: StyleWorld, arm: str, way: Way, seed: int) -> tuple[Steering, float]:
    """Fit an arm in one way; return its maps and their strength."""
    if arm == "lineas":
        name = f"lineas:steps={STEPS},optimizer={way[0]},learning_rate={way[1]}"
        return fit(world.model, world.fit, name, seed=seed), 1.0
    if arm == "linear_act":
        name = f"linear_act:causal={str(way[0] == 'causal').lower()},support={way[1]}"
        return fit(world.model, world.fit, name), float(way[2])
    return mean_shift(world), float(way[0])


def measured(world: StyleWorld, ways: Mapping[str, Way], seed: int) -> dict[str, Any]:
    """Fit every arm on one world and return the natural log of its held-out loss."""
    arms = {arm: fitted(world, arm, way, seed) for arm, way in ways.items()}
    dense = arms["lineas"][0]
    sparse = fit(world.model, world.fit, SPARSE, seed=seed)
    arms |= {"random": (dense.random_like(seed), 1.0), "sparse": (sparse, 1.0), "cut": (cut(world, dense, sparse), 1.0)}
    losses = {f"loss {arm}": log_loss(world, *steering) for arm, steering in arms.items()}
    return {"seed": seed, "loss none": log_loss(world, None), **losses, "sparse support": sparse.facts["support"]}


def cut(world: StyleWorld, dense: Steering, sparse: Steering) -> Steering:
    """Cut the dense maps to the coordinates that they move furthest on average, as many as the sparse maps move."""
    kept = sum(int(one.support().sum()) for one in sparse.maps.values())
    sites = list(dense.maps)
    states = site_states(world.model, token_rows(world.model, world.fit.away), sites, position="mean")
    moves = torch.stack(
        [
            dense.maps[site].displace(rows).expand_as(rows).abs().mean(0)
            for site, rows in zip(sites, states, strict=True)
        ]
    )
    stays = torch.zeros(moves.numel())
    stays[moves.flatten().topk(kept).indices] = 1
    maps = {}
    for site, mask in zip(sites, stays.view_as(moves), strict=True):
        gain, shift = _numbers(dense, site, len(mask))
        maps[site] = Displacement(gain * mask, shift * mask)
    return replace(dense, maps=maps)


def mean_shift(world: StyleWorld) -> Steering:
    """Return Linear-AcT's maps with weight 1, fitted at once: each coordinate is shifted by its means' difference."""
    at_once = fit(world.model, world.fit, "linear_act:causal=false")
    sites = list(at_once.maps)
    toward, away = (
        site_states(world.model, token_rows(world.model, rows), sites, position="mean").mean(1)
        for rows in (world.fit.toward, world.fit.away)
    )
    return replace(at_once, maps={site: Displacement(shift=toward[i] - away[i]) for i, site in enumerate(sites)})


def log_loss(world: StyleWorld, steering: Steering | None, strength: float = 1.0) -> float:
    """Return the log transport loss of held-out sentences, summed over layers, the mean over coordinates."""
    model = world.model
    sites = [Site(layer, "mlp_input") for layer in range(4)]
    states = site_states(model, token_rows(model, world.held_out.toward), sites, position="mean")
    rows = token_rows(model, world.held_out.away)
    with steered(model, steering or [], strength):
        moved = site_states(model, rows, sites, position="mean")
    return math.log(sum(float(wasserstein(a, b).mean()) for a, b in zip(moved, states, strict=True)))


def _numbers(steering: Steering, site: Site, width: int) -> tuple[Tensor, Tensor]:
    one, zeros = steering.maps[site], torch.zeros(width)
    return (zeros if one.gain is None else one.gain), (zeros if one.shift is None else one.shift)
