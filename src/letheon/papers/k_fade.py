"""Gauss-Newton Unlearning for the LLM Era.

arXiv 2602.10568, 2026-02; IEEE SaTML 2026.

Measured here: (1) on a network that reads digits, the cosine of each step with the exact Gauss-Newton step, computed
from the whole matrix; (2) on a small Llama that knows sixteen people's tastes and is to forget two, forget loss and
retain KL along runs under every curvature and of gradient ascent, both on texts that no model has seen; (3) the update
of the named recipe, added again to the model trained on after forgetting, and to the model before forgetting, trained
on other people; (4) relearning, which recovers what was forgotten, as the paper says of every method it tried.
Full scale in the paper: TOFU and WMDP on Llama-2-7B, Phi-1.5 and Zephyr-7B.

Rules. Equal forgetting is a rise of the forget loss by 0.5 nats per token. "Several-fold" is read as three-fold,
against plain gradient ascent of the same layers (the identity in the curvature's place) and against AdamW's; GradDiff,
NPO and RMU, which may use retain rows too, have to cost more than K-FAC. Every arm has its own step size, chosen on
tuning seeds by the retain KL at equal forgetting: a budget for the curvatures, a learning rate for the others. The
damping is the default of `gauss_newton`, a tenth of each layer's mean curvature; on world 100 the diagonal at larger
ones was worse. No order is demanded of EK-FAC and K-FAC, which the paper finds alike.
The update is added again after thirty steps of AdamW at a third of the rate that the model was trained with. It still
works if it regains more than half of what those steps brought back, at a retain KL of at most 0.1 (twice the recipe's
budget); a seed under which those steps bring back less than a tenth of the first rise has no value there. An earlier
record demanded half of the first rise instead, which no update can give to a model that still stands above that half.
Differs: the models are trained from nothing; the predicted KL of the forget direction is too small here (the measured
one over it is among the results), so the measured one limits the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.reference import Reference
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.curvature.fitting import fit, sampled_passes
from letheon.forget.curvature.linear import linear_layers
from letheon.forget.parts import Rows
from letheon.forget.reapply import reapply
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.updates.gauss_newton import kl_from_here, mean_kl, retain_batches, row_of, uphill
from letheon.papers.common.exact_step import cosines
from letheon.papers.common.small_llama import copy_of
from letheon.papers.common.tastes import Tastes, make_tastes, model_of
from letheon.papers.kit.arms import Arm, Taught, follow
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.levels import first_crossing
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

CURVATURES = ("kfac", "ekfac", "diagonal", "identity")
# KL to which the last of the steps may lead, nats per predicted token; how long a step may be follows from it.
BUDGETS, STEPS = (0.01, 0.03, 0.1, 0.3), 12
UNBOUNDED = 1e6  # a step size that only the budget limits
# Baselines trained by AdamW: method, learning rates.
BASELINES = {
    "gradient ascent": ("gradient_ascent", (3e-5, 1e-4, 3e-4)),
    "grad_diff": ("grad_diff", (3e-5, 1e-4, 3e-4)),
    "npo": ("npo", (3e-5, 1e-4, 3e-4)),
    "rmu": ("rmu:layer=1", (3e-5, 1e-4, 3e-4)),
}
BASELINE_STEPS = 96
RISE = 0.5  # nats per token: equal forgetting
FOLD = 3.0
BACK = 0.1  # share of the first rise that further training must bring back before an update can regain it
DEAR = 0.1
FURTHER_RATE = 1e-3  # of further training; the models were trained at 3e-3
Curve = list[tuple[float, float]]  # rise of the forget loss, retain KL; from the start on
FOLDS = tuple(product(("kfac", "ekfac"), ("identity", "gradient ascent")))
CHEAPER = ("grad_diff", "npo", "rmu")  # cost more than K-FAC, by whatever factor
PRIMARY = (
    "cosine, kfac minus diagonal",
    "cosine, ekfac minus diagonal",
    "cosine, diagonal minus identity",
    *(f"log of retain KL, {other} over {ours}" for ours, other in FOLDS),
    *(f"log of retain KL, {other} over kfac" for other in CHEAPER),
    *(f"{what} after {rows}" for rows in ("retained", "others") for what in ("regained", "minus retain KL again")),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: fifty seconds of one core per seed, and as much for each of the tuning seeds."""
    found.baselines += ["diagonal and identity curvature", *(f"{name} by AdamW" for name in BASELINES)]
    sizes = tuned(found, scale)
    steps = {seed: cosines(seed) for seed in scale.seeds}
    worlds = {seed: forgetting(seed, scale, sizes) for seed in scale.seeds}
    judge(found, steps, worlds)
    found.figures |= figures(worlds)
    found.rows += [
        {"seed": seed, "arm": arm, "kl at equal forgetting": at_rise(curve), **_ends(curve), **world["again"]}
        for seed, world in worlds.items()
        for arm, curve in world["curves"].items()
    ]


# Forget loss and retain KL ---------------------------------------------------------------------------------------


class Before(NamedTuple):
    """One seed before forgetting: world, trained model, the model that never saw the forget texts, request."""

    world: Tastes
    model: LanguageModel
    gold: LanguageModel
    request: Request


@cache
def before(seed: int, scale: Scale) -> Before:
    """Draw a world and train both models."""
    size: dict[str, int] = {"layers": 4, "width": 128} if scale.name == "full" else {}
    world = make_tastes(stream_seed(seed, "k-fade"))
    model, gold = (model_of(world, seed, forgotten=known, **size) for known in (True, False))
    for each in (model, gold):
        each.model.to(scale.device)
    return Before(world, model, gold, Request(forget=world.forget, retain=world.retain))


def arm_of(name: str, size: float) -> Arm:
    """An arm by name: a curvature under a budget, or a baseline at a learning rate."""
    if name in CURVATURES:
        recipe = f"gradient_ascent+gauss_newton:curvature={name},budget={size},cache=false"
        return Arm(recipe, UNBOUNDED, STEPS, batch_size=1000)
    return Arm(BASELINES[name][0], size, BASELINE_STEPS, batch_size=32)


def tuned(found: Findings, scale: Scale) -> dict[str, float]:
    """Choose every arm's budget or rate by the retain KL at equal forgetting."""
    sizes = dict.fromkeys(CURVATURES, BUDGETS) | {name: rates for name, (_, rates) in BASELINES.items()}

    def score(name: str, size: float, seed: int) -> float | None:
        kl = at_rise(curve(before(seed, scale), arm_of(name, size), seed)[0])
        return None if kl is None else -kl

    return choose(found, sizes, score)


def forgetting(seed: int, scale: Scale, sizes: Mapping[str, float]) -> dict[str, Any]:
    """Every arm's curve from the same trained model, the fate of the stored update, and predicted and measured KL."""
    start = before(seed, scale)
    curves, distances = {}, {}
    for name, size in sizes.items():
        curves[name], distances[name] = curve(start, arm_of(name, size), seed)
    ruler = Ruler(start.model, start.world)
    distances["before"] = ruler.kl_from(start.gold, "forget")(start.model)
    return {
        "curves": curves,
        "gold": distances,
        "again": again(start.model, start.world, start.request, seed),
        "predicted and measured KL": predictions(start.model, start.request, seed),
    }


class Ruler:
    """Forget loss on new texts of forgotten people, and KL from models as they are now; nats per token."""

    def __init__(self, model: LanguageModel, world: Tastes) -> None:
        encode = model.encoder().encode_all
        self.rows = Rows(model, (), encode(world.new_forget), encode(world.new_retain))

    def loss(self, model: LanguageModel) -> float:
        with torch.no_grad():
            return -float(score(model, self.rows.forget_batch(range(len(self.rows.forget)))).logp.mean())

    def kl_from(self, model: LanguageModel, rows: str = "retain") -> Any:
        """A function of a later model: KL(model now || later model) on new texts of retained or forgotten people."""
        batch = self.rows.retain_batch if rows == "retain" else self.rows.forget_batch
        count = len(self.rows.retain if rows == "retain" else self.rows.forget)
        batches = [batch(range(i, min(i + 50, count))) for i in range(0, count, 50)]
        reference = Reference()
        for each in batches:
            reference.keep(model, [row_of(each, i) for i in range(len(each))])
        return lambda later: mean_kl(later, reference, batches)


def curve(start: Before, arm: Arm, seed: int) -> tuple[Curve, float | None]:
    """The points of one run until the forget loss has risen enough, and its KL there from the gold model.

    The gold model never saw the forget texts; without enough forgetting there is no KL.
    """
    world, model = start.world, start.model
    ruler, moved = Ruler(model, world), copy_of(model)
    level, kl, from_gold = ruler.loss(model), ruler.kl_from(model), ruler.kl_from(start.gold, "forget")

    def measure(now: LanguageModel) -> dict[str, float]:
        return {"rise": ruler.loss(now) - level, "kl": kl(now)}

    arm = replace(arm, at=tuple(range(1, arm.steps + 1)))  # at the start both are zero
    run = follow(Taught(moved, start.request, measure), arm, seed, until=lambda point: point["rise"] > RISE)
    points: Curve = [(0.0, 0.0), *((point["rise"], point["kl"]) for point in run.points)]
    return points, from_gold(moved) if points[-1][0] > RISE else None


def at_rise(points: Curve, rise: float = RISE) -> float | None:
    """Retain KL where the forget loss has first risen by `rise`; √KL is taken as linear between two steps."""
    root = first_crossing([-up for up, _ in points], [math.sqrt(max(kl, 0.0)) for _, kl in points], -rise)
    return None if root is None else root**2


# Added again; relearned ------------------------------------------------------------------------------------


def again(model: LanguageModel, world: Tastes, request: Request, seed: int) -> dict[str, float | None]:
    """The update of the named recipe, added again after training on retained and on other people; and relearning.

    Where that training brings nothing back there is nothing to regain, and no value.
    """
    ruler, unlearned = Ruler(model, world), copy_of(model)
    update = forget(
        unlearned, request, "k-fade+gauss_newton:cache=false", precision="float32", seed=seed, device=str(model.device)
    ).change
    level, after = ruler.loss(model), ruler.loss(unlearned)
    found: dict[str, float | None] = {"before": level, "after": after, "kl after": ruler.kl_from(model)(unlearned)}
    lows: dict[str, float] = {}
    others = (*request.retain[::2], *world.later)
    for name, origin, rows in (("retained", unlearned, request.retain), ("others", model, others)):
        further = trained_on(origin, rows, seed)
        found[f"loss after {name}"] = lows[name] = low = ruler.loss(further)
        kl = ruler.kl_from(further)
        reapply(further, update)
        found[f"loss again after {name}"] = high = ruler.loss(further)
        found[f"kl again after {name}"] = kl(further)
        back = after - low > BACK * (after - level)
        found[f"regained after {name}"] = high - (low + after) / 2 if back else None  # nats above the half
        found[f"returned after {name}"] = (high - level) / (after - level)
    relearned = ruler.loss(trained_on(unlearned, request.forget[::8], seed))
    found["relearned share"] = (after - relearned) / (after - level)
    found["relearned share, retained only"] = (after - lows["retained"]) / (after - level)
    return found


def trained_on(origin: LanguageModel, rows: Sequence[Example], seed: int) -> LanguageModel:
    """A copy that was trained further, thirty steps of AdamW."""
    further = copy_of(origin)
    finetune(further, rows, TrainSettings(FURTHER_RATE, batch_size=16, precision="float32", seed=seed), 30)
    return further


def predictions(model: LanguageModel, request: Request, seed: int) -> list[tuple[float, float]]:
    """Predicted and measured KL of three small K-FAC steps along the forget direction, nats per predicted token."""
    model = copy_of(model)
    rows = Rows(model, (), [], model.encoder().encode_all(request.retain))
    batches = retain_batches(rows, range(len(rows.retain)))
    layers = linear_layers(model.model, model.model.parameters())
    factors = fit(layers, lambda: sampled_passes(model, batches, seed), "kfac")
    batch = model.encoder().collate(model.encoder().encode_all(request.forget), device=model.device)
    loss = -score(model, batch).logp.mean()  # of the forget rows
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    direction = uphill({name: layer.gradient() for name, layer in layers.items()}, factors, None)
    model.model.zero_grad()
    measure, unit, pairs = kl_from_here(model, batches[::4]), factors.predicted_kl(direction), []
    for predicted in (1e-7, 1e-6, 1e-5):
        size = math.sqrt(predicted / unit)
        for share in (size, -size):
            for name, step in direction.items():
                layers[name].move(step, share)
            if share > 0:
                pairs.append((predicted, measure()))
    return pairs


# The verdict --------------------------------------------------------------------------------------------------------


def judge(found: Findings, steps: Mapping[int, Mapping[str, float]], worlds: Mapping[int, Mapping[str, Any]]) -> None:
    """Measured values, intervals, and a verdict for each of the fourteen parts."""
    for better, worse in (("kfac", "diagonal"), ("ekfac", "diagonal"), ("diagonal", "identity")):
        found.decide(f"cosine, {better} minus {worse}", [one[better] - one[worse] for one in steps.values()], above=0.0)
    arms = list(next(iter(worlds.values()))["curves"])
    kl = {arm: [at_rise(world["curves"][arm]) for world in worlds.values()] for arm in arms}
    for ours, other in (*FOLDS, *(("kfac", name) for name in CHEAPER)):
        logs = [math.log(a / b) if a and b else None for a, b in zip(kl[other], kl[ours], strict=True)]
        limit = 0.0 if other in CHEAPER else math.log(FOLD)
        found.decide(f"log of retain KL, {other} over {ours}", logs, above=limit)
    again_values = [world["again"] for world in worlds.values()]
    for name in ("retained", "others"):
        found.decide(f"regained after {name}", [w[f"regained after {name}"] for w in again_values], above=0.0)
        dear = [-w[f"kl again after {name}"] for w in again_values]
        found.decide(f"minus retain KL again after {name}", dear, above=-DEAR)
    gold = {arm: _mean([world["gold"][arm] for world in worlds.values()]) for arm in ("before", *arms)}
    found.measured |= {
        "cosine with the exact step": {kind: _mean([s[kind] for s in steps.values()]) for kind in CURVATURES},
        "retain KL at equal forgetting": {arm: _mean(kl[arm]) for arm in arms},
        "KL from the model that never saw it, there": gold,
    }
    again = [f"{what} after {rows}" for what in ("kl again", "returned") for rows in ("retained", "others")]
    for name in (*again, "relearned share", "relearned share, retained only"):
        found.measured[name] = _mean([world["again"][name] for world in worlds.values()])
    ratios = [pair[1] / pair[0] for world in worlds.values() for pair in world["predicted and measured KL"][:1]]
    found.measured["measured over predicted KL of a small step"] = _mean(ratios)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _ends(points: Curve) -> dict[str, Any]:
    return {"steps": len(points) - 1, "last rise": points[-1][0], "last kl": points[-1][1]}


def figures(worlds: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """Retain KL over the rise of the forget loss; measured over predicted KL of the first seed's first step."""
    levels = [level / 20 for level in range(11)]
    series = {}
    for arm in next(iter(worlds.values()))["curves"]:
        means = [(rise, _mean([at_rise(world["curves"][arm], rise) for world in worlds.values()])) for rise in levels]
        series[arm] = [(rise, kl) for rise, kl in means if kl is not None]
    words = "Retain KL over the rise of the forget loss, for every curvature and baseline, mean of the seeds"
    pairs = next(iter(worlds.values()))["predicted and measured KL"]
    other = (
        "Measured KL of the first K-FAC step over the KL that the quadratic model predicts, and the line of equality"
    )
    both = {"measured": pairs, "as predicted": [(predicted, predicted) for predicted, _ in pairs]}
    return {
        "forgetting": lines(series, "rise of the forget loss, nats per token", "retain KL, nats per token", words),
        "predicted": lines(both, "predicted KL", "measured KL", other, log=True),
    }
