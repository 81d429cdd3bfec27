"""OFMU: Optimization-Driven Framework for Machine Unlearning.

arXiv 2509.22483, 2025-09; ICLR 2026.

Measured here: (1) on quadratics whose forget loss is greatest along a line, whether the two loops reach the least
retain loss on that line, which a search over the line knows; (2) on TOFU-mini, the cosine of both gradients with and
without the decorrelation; (3) there, ‖∇Φ‖ with a growing ρ and with none; (4) there, what is kept of the retain set at
equal forgetting, against the weighted sum (GradDiff). The loops of (1) take the paper's plain steps, with second
derivatives that are exact; those of (2) to (4) are the registered method's. The rate, the number of steps and the
training epochs were chosen in trials under seed 11, and once under seed 0, before the claim was measured. Full scale in
the paper: TOFU, WMDP, CIFAR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letheon.core.training.gradients import add, norm
from letheon.forget.curvature.hessian_products import LossDerivatives
from letheon.forget.request import Request
from letheon.forget.updates.bilevel import Inner, Settings, outer_gradient
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.tofu_mini import make_world, new_model, train
from letheon.papers.common.trajectory import Watched, first_crossing, memory_of, watched
from letheon.papers.outcome import Claim, Findings, judge_pairs, mean

Runs = Mapping[int, Mapping[str, Watched]]


# 1. Quadratics: problems a seed, rounds, steps inside a round, step size, ρ of the first and of the last round.
DRAWS, ROUNDS, INSIDE, RATE, RHOS = 3, 400, 3, 0.05, (0.1, 8.0)
# The line is approached as 1/ρ; centres lie some 1 to 2 apart.
NEAR = 0.1
# 2 to 4. TOFU-mini.
ARMS = {
    "ofmu": "ofmu",
    "beta 0": "ofmu+bilevel:beta=0",
    "rho 0": "ofmu+bilevel:rho=0",
    "gauss": "ofmu+bilevel:hvp=gauss",
    "grad_diff": "grad_diff",
    "grad_diff, alpha 4": "grad_diff:alpha=4",
    "gradient_ascent": "gradient_ascent",
}
BASELINES = ["the update without beta", "the update without rho", "GradDiff with fixed weights", "gradient ascent"]
# The deepest level of forgetting that the compared runs of every seed reach is where they are compared.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
CLAIM = (
    "on every quadratic the last iterate lies within 0.1 of the constrained minimiser; the mean |cosine| of forget and "
    "retain gradients over a run is lower with beta > 0 than with beta = 0; the mean norm of grad Phi where a descent "
    "begins is lower with a growing rho than with rho = 0; at equal forget probability the retain probability is "
    "higher than under GradDiff"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: seconds for the quadratics, half a minute a seed for TOFU-mini."""
    claim = Claim("ofmu", CLAIM, BASELINES)
    ends = [end for seed in scale.seeds for end in quadratics(seed)]
    runs = {seed: forgetting_runs(seed, scale) for seed in scale.seeds}
    level = common_level(runs)
    rows = [_row(seed, arm, run, level) for seed, arms in runs.items() for arm, run in arms.items()]
    return claim.outcome(judged(ends, runs, level), scale.seeds, figures(ends, runs), rows)


# 1. The two loops on quadratics


class End(NamedTuple):
    """One problem: distances to the constrained minimiser over the rounds, and ‖∇Φ‖ at the last."""

    distances: list[float]
    stationarity: float


def quadratics(seed: int) -> list[End]:
    """The two loops with a growing ρ on `DRAWS` problems in the plane, in float64."""

    generator = torch.Generator().manual_seed(seed)
    return [two_loops(*_problem(generator)) for _ in range(DRAWS)]


def _problem(generator: Any) -> tuple[Tensor, float, Tensor, Tensor]:
    """A line aᵀθ = b with a unit a, and L_r = ½(θ − c)ᵀB(θ − c)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    a, root = draw(2), draw(2, 2)
    matrix = root @ root.T / 2 + 0.3 * torch.eye(2, dtype=torch.float64)
    return a / a.norm(), float(draw(1)), matrix / matrix.trace() * 2, draw(2)


def least_on_line(a: Tensor, b: float, matrix: Tensor, centre: Tensor) -> Tensor:
    """The constrained minimiser by search: L_r at 200,001 points of the line."""

    along = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    points = b * a + along[:, None] * torch.stack([-a[1], a[0]])
    far = points - centre
    return points[int(((far @ matrix) * far).sum(1).argmin())]


def two_loops(a: Tensor, b: float, matrix: Tensor, centre: Tensor) -> End:
    """The paper's algorithm with plain steps from the origin: L_f = −½(aᵀθ − b)² is greatest on the line.

    β = 0: on the line ∇L_f is zero, and its cosine with anything has no value.
    """

    point = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    forget = _side(lambda: -0.5 * (a @ point - b) ** 2, point)
    retain = _side(lambda: 0.5 * (point - centre) @ matrix @ (point - centre), point)
    inner = Inner(forget, retain, Settings(beta=0.0, hvp="exact"))
    best, distances = least_on_line(a, b, matrix, centre), []
    for k in range(ROUNDS):
        rho = RHOS[0] * (RHOS[1] / RHOS[0]) ** (k / (ROUNDS - 1))
        for _ in range(INSIDE):
            step = inner.gradient()
            with torch.no_grad():
                add([point], RATE, step)
        step = outer_gradient(inner, inner.gradient(), rho)
        with torch.no_grad():
            add([point], -RATE, step)
            distances.append(float((point - best).norm()))
    return End(distances, norm(inner.gradient()))


def _side(loss: Any, point: Any) -> LossDerivatives:

    return LossDerivatives(lambda: [loss()], [point])


# 2 to 4. TOFU-mini


def forgetting_runs(seed: int, scale: Scale) -> dict[str, Watched]:
    """Every arm from the same trained model, with the same rows, steps and rate."""

    full = scale.name == "full"
    world = make_world(seed, authors=40, forgotten=4) if full else make_world(seed, authors=12, forgotten=2)
    model = new_model(world, seed) if full else new_model(world, seed, layers=2, width=64)
    model.model.to(scale.device)
    train(model, [*world.forget, *world.retain], seed, epochs=30 if full else 120)
    measure = memory_of({"forget": world.forget, "retain": world.retain[::2]})
    request = Request(forget=world.forget, retain=world.retain)
    options: dict[str, Any] = {"steps": 72 if full else 32, "learning_rate": 1e-4 if full else 3e-4, "batch_size": 8}
    return {
        arm: watched(model, request, method, measure, precision="float32", seed=seed, **options)
        for arm, method in ARMS.items()
    }


def mean_cosine(run: Watched) -> float:
    """Mean over steps of |cos(g_f, g_r)|."""
    return sum(abs(line["cosine"]) for line in run.history) / len(run.history)


def mean_stationarity(run: Watched) -> float:
    """Mean of ‖∇Φ‖ where a descent begins."""
    found = [line["stationarity"] for line in run.history if line["descends"]]
    return sum(found) / len(found)


def common_level(runs: Runs) -> float | None:
    """The lowest of `LEVELS` to which `ofmu` and `grad_diff` bring the forget probability under every seed."""
    lowest = max(min(arms[arm].column("forget_probability")) for arms in runs.values() for arm in ("ofmu", "grad_diff"))
    return next((level for level in LEVELS if lowest <= level), None)


def kept_at(run: Watched, level: float | None) -> float | None:
    """Retain probability where the forget probability first falls to a level."""

    if level is None:
        return None
    return first_crossing(run.column("forget_probability"), run.column("retain_probability"), level)


def judged(ends: Sequence[End], runs: Runs, level: float | None) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""
    last = [end.distances[-1] for end in ends]
    kept = {arm: [kept_at(arms[arm], level) for arms in runs.values()] for arm in ARMS}
    cosines = {arm: [mean_cosine(arms[arm]) for arms in runs.values()] for arm in ("ofmu", "beta 0", "gauss")}
    gaps = {arm: [mean_stationarity(arms[arm]) for arms in runs.values()] for arm in ("ofmu", "rho 0", "gauss")}
    found = Findings(
        measured={
            "largest distance to the constrained minimiser": max(last),
            "largest norm of grad Phi on a quadratic": max(end.stationarity for end in ends),
            "compared at forget probability": level,
            "retain probability there, mean": {arm: mean(values) for arm, values in kept.items()},
            "mean |cosine|": {arm: mean(values) for arm, values in cosines.items()},
            "mean norm of grad Phi at descents": {arm: mean(values) for arm, values in gaps.items()},
        },
        intervals={"distance (range)": [min(last), max(last)]},
        parts={"quadratics": "holds" if max(last) <= NEAR else "fails"},
    )
    found.decide(
        {
            "mean |cosine|, beta > 0 minus beta = 0": judge_pairs(cosines["beta 0"], cosines["ofmu"], 0.0, "below"),
            "norm of grad Phi, growing rho minus rho = 0": judge_pairs(gaps["rho 0"], gaps["ofmu"], 0.0, "below"),
            "retain probability, ofmu minus grad_diff": judge_pairs(kept["grad_diff"], kept["ofmu"], 0.0, "above"),
        }
    )
    return found


def _row(seed: int, arm: str, run: Watched, level: float | None) -> dict[str, Any]:
    last = {f"last_{name}": value for name, value in run.points[-1].items()}
    traced = "cosine" in run.history[0]
    own = {"mean_cosine": mean_cosine(run), "mean_stationarity": mean_stationarity(run)} if traced else {}
    return {"seed": seed, "arm": arm, "level": level, "retain_probability": kept_at(run, level), **own, **last}


def figures(ends: Sequence[End], runs: Runs) -> dict[str, str]:
    """Distance over rounds, |cosine| over steps, and what is kept over what is forgotten."""

    def means(columns: Sequence[Sequence[float]]) -> list[float]:
        return [sum(column) / len(column) for column in zip(*columns, strict=True)]

    falls = list(enumerate(means([end.distances for end in ends]), start=1))[::10]
    words = "Distance to the constrained minimiser on quadratics over rounds, mean of all problems"
    distance = lines({"ofmu": falls}, "round", "distance to the minimiser", words, log=True)
    cosines = {
        arm: list(enumerate(means([[abs(line["cosine"]) for line in arms[arm].history] for arms in runs.values()]), 1))
        for arm in ("ofmu", "beta 0")
    }
    words = "|cosine| of the forget and retain gradients over steps with and without decorrelation, mean of the seeds"
    cosine = lines(cosines, "step", "|cosine|", words)
    shown = [arm for arm in ARMS if arm not in ("gauss", "rho 0")]
    kept = {arm: _curve([arms[arm] for arms in runs.values()]) for arm in shown}
    words = "Retain probability over forget probability, mean of the seeds"
    frontier = lines(kept, "forget probability", "retain probability", words, falling=True)
    return {"quadratics": distance, "cosine": cosine, "kept": frontier}


def _curve(runs: Sequence[Watched]) -> list[tuple[float, float]]:
    """Mean over runs of what is kept, at every level that all of them reach."""
    points = [(level / 20, [kept_at(run, level / 20) for run in runs]) for level in range(18, 0, -1)]
    reached = [(level, [value for value in found if value is not None]) for level, found in points]
    return [(level, sum(found) / len(found)) for level, found in reached if len(found) == len(runs)]
