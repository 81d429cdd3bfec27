"""Representation-Guided Parameter-Efficient LLM Unlearning.

arXiv 2604.17396, 2026-04; Findings of ACL 2026.

Measured here: TOFU-mini authors are forgotten by the inverted hinge loss (fast, and reported only, also by gradient
difference) through adapters of one rank on all linear layers: default LoRA, RILA alone, ROL alone, and both.
Fast: a model 96 wide that knows nothing else. Full: SmolLM2, which learned the same authors first.
Runs are compared where the forget probability first falls to one level, the deepest that default LoRA and ReGLU reach
under every seed. Leakage is the share of the change of a layer's pooled outputs on retain rows that lies in ROL's
directions, averaged over the layers; "own" leakage counts only what the layer's own weights change, with the inputs of
the model before.

Added after the other arms had been seen, and deciding nothing: ReGLU with k 6, near the paper's ratio of k to the width
of the model; at full scale ReGLU at a fifth of the rate, since B begins orthonormal and A as large as the weights, so
that a step of one rate goes farther than default LoRA's; and how much of RILA's factor lies inside P before the first
step, since that part is what ROL pulls out of a function that it was subtracted from (the fixed -s·B₀A₀ stays).

Differs: r 8, alpha 16, k 24 (SmolLM2: 16, 32, 36, the paper's ratio of k to the width) and as many rows for the moments
as are kept or forgotten (paper: 32, 64, 128, 256); no run with the Fisher-guided start (FILA) is made; forget quality
is not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, is_matrix
from letheon.core.rows.examples import Example
from letheon.core.training.loop import TrainSettings
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.scopes.reglu import leakage, orthogonality, outputs, pooled_inputs, protected_directions, spread
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.tofu_mini import copy_of, make_world, new_model, taught, train
from letheon.papers.common.trajectory import first_crossing, memory_of
from letheon.papers.outcome import Claim, Findings, judge_pairs, mean

NARROW, SLOW = "ReGLU, k 6", "ReGLU, a fifth of the rate"


@dataclass(frozen=True)
class Setting:
    """What a scale runs.

    Attributes:
        rank: r and alpha of every adapter.
        reglu: k, and the rows for the moments.
        rate: chosen so that default LoRA, and it alone was looked at, brings the forget probability below 0.2.
        steps: of every arm; measured after every second one.
    """

    rank: str
    reglu: str
    rate: float
    steps: int

    @property
    def method(self) -> str:
        """ReGLU as a recipe."""
        return f"inverted_hinge@reglu:{self.rank},{self.reglu}"

    @property
    def arms(self) -> dict[str, str]:
        """Name -> recipe."""
        return {
            "LoRA": f"inverted_hinge@lora:{self.rank}",
            "RILA": f"{self.method},penalty=0",
            "ROL": f"{self.method},init=lora",
            "ReGLU": self.method,
        }


FAST = Setting("r=8,alpha=16", "rank=24,samples=24", 2e-3, 36)
FULL = Setting("r=16,alpha=32", "rank=36,samples=72", 1e-3, 16)
# These decide nothing.
TOLD = {
    "fast": {
        NARROW: f"inverted_hinge@reglu:{FAST.rank},rank=6,samples=24",
        "GD, LoRA": f"grad_diff@lora:{FAST.rank}",
        "GD, ReGLU": f"grad_diff@reglu:{FAST.rank},{FAST.reglu}",
    },
    "full": {SLOW: FULL.method},
}
EVERY = 2  # steps between two measurements; half of the retain rows are measured
LEVELS = tuple(level / 20 for level in range(2, 19))
MEASURES = ("retain_probability", "retain_es", "leakage", "own_leakage")
CLAIM = (
    "where the forget probability first falls to the deepest level that both reach: the retain rows' mean probability "
    "is higher with ReGLU than with default LoRA, and the leakage into the retain outputs is lower (inverted hinge)"
)

Points = Sequence[Mapping[str, float]]
Runs = Mapping[int, Mapping[str, Points]]  # seed -> arm -> one point before the first step and one after each


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: about a minute a seed; at full scale twenty minutes."""
    claim = Claim("reglu", CLAIM, ["default LoRA: A random, B zero, no penalty; same rank, rows, rate and loss"])
    runs = {seed: forgetting_runs(seed, scale) for seed in scale.seeds}
    level = common_level(runs)
    rows = [
        {"seed": seed, "arm": arm, "level": level, **at_level(points, level)}
        | {f"last_{name}": value for name, value in points[-1].items()}
        for seed, arms in runs.items()
        for arm, points in arms.items()
    ]
    return claim.outcome(judged(runs, level), scale.seeds, figures(runs), rows)


# The runs -----------------------------------------------------------------------------------------------------------


def forgetting_runs(seed: int, scale: Scale) -> dict[str, Points]:
    """Every arm from the same trained model, with the same rows and steps."""

    full = scale.name == "full"
    setting = FULL if full else FAST
    world = make_world(seed, authors=16)
    if full:  # which knows the capitals
        model = taught([*world.forget, *world.retain], seed, scale.device)
    else:
        model = new_model(world, seed, layers=2, width=96)
        model.model.to(scale.device)
        train(model, world.known(forgotten=True), seed, epochs=40, learning_rate=5e-3)
    request = Request(forget=world.forget, retain=world.retain)
    memory = memory_of({"forget": world.forget, "retain": world.retain[::2]})
    overlap = start_overlap(copy_of(model), request, setting)
    geometry = Geometry.before(model, request, setting)
    runs: dict[str, Points] = {}
    for arm, method in (setting.arms | TOLD[scale.name]).items():
        points = [memory(model) | {"leakage": 0.0, "own_leakage": 0.0, "overlap": overlap}]

        def watch(now: LanguageModel, step: int, points: list[dict[str, float]] = points) -> None:
            if step % EVERY == 0:
                points.append(memory(now) | geometry.leakages(now))

        rate = setting.rate / 5 if arm == SLOW else setting.rate
        training = TrainSettings(rate, batch_size=8, precision="float32", seed=seed)
        forget(
            copy_of(model), request, method, on_step=watch, steps=setting.steps, training=training, collapse=False,
            device=scale.device,
        )  # fmt: skip
        runs[arm] = points
    return runs


def start_overlap(model: LanguageModel, request: Request, setting: Setting) -> float:
    """Mean over layers of ‖B₀ᵀP‖²_F/r: 1 where RILA's directions are all protected, k/d for directions at random."""

    scope = Recipe.parse(setting.method).scope.make()
    scope.select(model, request)
    shares = [
        float(orthogonality(scope.factors[name][1], start.basis)) / scope.settings.r
        for name, start in scope.starts.items()
    ]
    return sum(shares) / len(shares)


class Layer(NamedTuple):
    """An adapted layer before the first step: P, its weight, pooled inputs and outputs on retain rows."""

    basis: Tensor
    weight: Tensor
    entering: Tensor
    outputs: Tensor


class Geometry:
    """What the layers put out on retain rows before forgetting, and where changes of it lie."""

    def __init__(self, layers: Mapping[str, Layer], retain: Sequence[Example]) -> None:
        self.layers, self.retain = layers, retain

    @classmethod
    def before(cls, model: LanguageModel, request: Request, setting: Setting) -> Geometry:
        """P from the rows that the arms with ROL take it from; outputs on every second retain row."""

        settings = Recipe.parse(setting.method).scope.settings
        inside = {id(module) for block in blocks(model.base()) for module in block.modules()}
        matrices = {
            name: module for name, module in model.model.named_modules() if id(module) in inside and is_matrix(module)
        }
        chosen = spread(request.retain, settings.samples)
        found, counts = pooled_inputs(model, matrices, chosen, settings.pooling)
        retain = request.retain[::2]
        everything, all_counts = pooled_inputs(model, matrices, retain, settings.pooling)
        layers = {}
        for name, module in matrices.items():
            weight = module.get_parameter("weight").detach().clone()
            basis = protected_directions(outputs(weight, None, found[name], counts), settings.rank)
            layers[name] = Layer(basis, weight, everything[name], outputs(weight, None, everything[name], all_counts))
        return cls(layers, retain)

    def leakages(self, model: LanguageModel) -> dict[str, float]:
        """Means over layers of the leakage of the whole change of the outputs, and of the layer's own."""

        adapted = {name.removeprefix("base_model.model."): m for name, m in model.model.named_modules()}
        now, counts = pooled_inputs(model, {name: adapted[name] for name in self.layers}, self.retain, "sum")
        whole, own = [], []
        for name, layer in self.layers.items():
            weight = effective(adapted[name])
            whole.append(leakage(layer.basis, outputs(weight, None, now[name], counts) - layer.outputs))
            own.append(leakage(layer.basis, layer.entering.double() @ (weight - layer.weight).double().T))
        return {"leakage": sum(whole) / len(whole), "own_leakage": sum(own) / len(own)}


def effective(layer: Any) -> Tensor:
    """W + s·BA of an adapted layer."""
    factors = layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    whole: Tensor = layer.base_layer.weight.detach() + layer.scaling["default"] * factors
    return whole


# What is decided ----------------------------------------------------------------------------------------------------


def common_level(runs: Runs) -> float | None:
    """The lowest of `LEVELS` to which default LoRA and ReGLU bring the forget probability under every seed."""
    lowest = [
        min(point["forget_probability"] for point in arms[arm]) for arms in runs.values() for arm in ("LoRA", "ReGLU")
    ]
    return next((level for level in LEVELS if max(lowest) <= level), None)


def at_level(points: Points, level: float | None) -> dict[str, float | None]:
    """Every measure where the forget probability first falls to a level."""

    if level is None:
        return dict.fromkeys(MEASURES)
    falling = [point["forget_probability"] for point in points]
    return {name: first_crossing(falling, [point[name] for point in points], level) for name in MEASURES}


def judged(runs: Runs, level: float | None) -> Findings:
    """What was measured, its intervals, and a verdict for each of the two parts of the claim."""
    run_arms = list(next(iter(runs.values())))
    measured: dict[str, Any] = {"compared at forget probability": level}
    for name in MEASURES:
        measured[f"{name} there"] = {
            arm: mean([at_level(arms[arm], level)[name] for arms in runs.values()]) for arm in run_arms
        }
    measured["steps to there"] = {
        arm: mean([_steps_to(arms[arm], level) for arms in runs.values()]) for arm in run_arms
    }
    measured["seeds that get there"] = {
        arm: sum(_steps_to(arms[arm], level) is not None for arms in runs.values()) for arm in run_arms
    }
    measured["share of RILA's factor inside P at the start"] = mean(
        [arms["ReGLU"][0].get("overlap") for arms in runs.values()]
    )
    found = Findings(measured)
    sides: dict[str, Any] = {"retain_probability": "above", "leakage": "below"}
    for name, arm in [(name, arm) for name in MEASURES for arm in ("ReGLU", "RILA", "ROL")]:
        plain, ours = ([at_level(arms[one], level)[name] for arms in runs.values()] for one in ("LoRA", arm))
        part = f"{name}, {arm} minus LoRA"
        difference = {part: judge_pairs(plain, ours, 0.0, sides.get(name, "above"))}
        if arm == "ReGLU" and name in sides:
            found.decide(difference)
        else:
            found.tell(difference)
    return found


def _steps_to(points: Points, level: float | None) -> float | None:
    reached = (i for i, point in enumerate(points) if level is not None and point["forget_probability"] <= level)
    return next((float(i * EVERY) for i in reached), None)


# Figures ------------------------------------------------------------------------------------------------------------


def figures(runs: Runs) -> dict[str, str]:
    """What is kept over what is forgotten, and leakage over the steps."""

    shown = [arm for arm in next(iter(runs.values())) if not arm.startswith("GD")]
    kept = {arm: _curve([arms[arm] for arms in runs.values()]) for arm in shown}
    words = "Retain probability over forget probability for four adapters, mean of the seeds"
    drawn = {"kept": lines(kept, "forget probability", "retain probability", words, falling=True)}
    for name in ("leakage", "own_leakage"):
        series = {arm: _over_steps([arms[arm] for arms in runs.values()], name) for arm in shown}
        words = f"{name.replace('_', ' ')} into the retain outputs over the steps, mean of the seeds"
        drawn[name.replace("_", "-")] = lines(series, "step", name.replace("_", " "), words)
    return drawn


def _curve(runs: Sequence[Points]) -> list[tuple[float, float]]:
    """Mean over runs of what is kept, at every level that all of them reach."""
    points = [
        (level / 20, [at_level(run, level / 20)["retain_probability"] for run in runs]) for level in range(19, 0, -1)
    ]
    reached = [(level, [value for value in found if value is not None]) for level, found in points]
    return [(level, sum(found) / len(found)) for level, found in reached if len(found) == len(runs)]


def _over_steps(runs: Sequence[Points], name: str) -> list[tuple[float, float]]:
    """Mean over runs after each step."""
    steps = range(1, min(map(len, runs)))
    return [(float(step * EVERY), sum(run[step][name] for run in runs) / len(runs)) for step in steps]
