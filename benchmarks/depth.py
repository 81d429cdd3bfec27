"""How deep a deletion is: relearning, rounding and options, beside a model retrained without the rows.

`python -m benchmarks.depth --worlds DIR --json` forgets the request of each world and seed once per depth, trains
copies of the model and of the reference for 100 steps, with all weights and with a LoRA adapter, on half of the
forgotten rows and on as many kept ones, and prints per depth

    relearned       largest difference over the steps: mean probability of the other half's facts, less the
                    reference's, by what is trained and on which rows
    recalled        the same of the share of these facts that are given
    rounded         recall of the forgotten rows in 8, 4 bits and by the rounding of GGUF files, less the reference's
    options_excess  four options, four draws per fact: share of right choices above the reference's

and the curves themselves. The rows are split as an audit splits them. A largest difference leans upwards, the more so
the fewer rows are watched. Nothing here is a setting of the deletion.

With `--known` it trains no copies, and prints the unlearning depth (`letheon.audit.measuring.depth`) of models whose
depth is known beside that of each deletion: the model before, the same taught to refuse, and a second retrained model.
    score   mean over the forgotten rows, and the `scores` themselves
    erased  the share of the gap by layer
    fall    nats per token that the values of the forgotten rows lose with the model's states, mean over layers
    kept    the same of kept rows: what states of another training cost where the fact is known
    recall  of both
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from benchmarks.common import say
from benchmarks.default_recipe import options_share, parsed
from benchmarks.forget_worlds import World, retrained_again, world
from letheon import LanguageModel, load
from letheon.audit.attacks.relearning import RelearnPoint, relearn
from letheon.audit.measuring.depth import States, fact_states, falls, measure_depth
from letheon.audit.measuring.evaluate import bare, evaluate
from letheon.audit.measuring.quantise import Grid, quantised
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.audit.selftest.models import REFUSAL
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import forget

GRIDS = {"8": Grid(8), "4": Grid(4), "Q8_0": Grid.of_file("Q8_0"), "Q4_0": Grid.of_file("Q4_0")}
# What is trained: the rank of an adapter (0: all weights), and the learning rate.
TRAINED = {"all weights": (0, 5e-5), "lora": (8, 2e-4)}

Curves = dict[str, list[RelearnPoint]]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", default="demo", help="separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument(
        "--depths", default="shallow", help="separated by semicolons: shallow, deep or deep:OPTION=VALUE"
    )
    parser.add_argument("--recipe", default="alternates+null_space@mlp", help="what forgets")
    parser.add_argument("--steps", type=int, default=100, help="steps of relearning")
    parser.add_argument("--every", type=int, default=10, help="steps between two measurements")
    parser.add_argument("--known", action="store_true", help="unlearning depth beside models of known depth")
    options = parsed(parser)
    rows = []
    for name in options.requests.split(","):
        for seed in map(int, options.seeds.split(",")):
            made = world(name, seed, options.worlds, options.data)
            if isinstance(made, str):
                say(f"left out: {made}")
                break
            depths = options.depths.split(";")
            found: Iterable[dict[str, Any]]
            if options.known:
                again = retrained_again(name, made.request, seed, options.worlds)
                found = known(made, again, seed, options.recipe, depths)
            else:
                found = measure(made, seed, options.recipe, depths, options.steps, options.every)
            for row in found:
                rows.append({"request": name, "seed": seed, **row})
                say(json.dumps({key: value for key, value in rows[-1].items() if key != "curves"}))
    if options.json:
        print(json.dumps(rows, indent=1))


def measure(made: World, seed: int, recipe: str, depths: Sequence[str], steps: int, every: int) -> list[dict[str, Any]]:
    """One row per depth."""
    before, reference = load(made.before), load(made.reference)
    plan = make_plan(before, made.request, Settings(seed=seed))
    control = relearned(reference, plan, steps, every)
    rounding, options = rounded(reference, plan.forget), options_share(reference, made.request)
    found = []
    for depth in depths:
        after = forget(load(made.before), made.request, recipe, seed=seed, depth=depth).model
        curves, share = relearned(after, plan, steps, every), options_share(after, made.request)
        found.append(
            {
                "depth": depth,
                "watched": len(plan.watched),
                "relearned": {name: excess(curve, control[name], "probability") for name, curve in curves.items()},
                "recalled": {name: excess(curve, control[name], "recall") for name, curve in curves.items()},
                "rounded": {
                    name: round(value - rounding[name], 3) for name, value in rounded(after, plan.forget).items()
                },
                "options_excess": None if share is None or options is None else round(share - options, 3),
                "curves": {
                    whose: {name: [vars(point) for point in curve] for name, curve in one.items()}
                    for whose, one in (("after", curves), ("reference", control))
                },
            }
        )
    return found


def known(made: World, again: str | None, seed: int, recipe: str, depths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one row per model: those of known depth, and each deletion."""
    before, gap = load(made.before), fact_states(load(made.reference), made.request.forget)
    yield scored("before", before, before, made.request, gap)
    yield scored("refusing", refusing(made, seed), before, made.request, gap)
    for depth in depths:
        after = forget(load(made.before), made.request, recipe, seed=seed, depth=depth).model
        yield scored(depth, after, before, made.request, gap)
    if again:
        yield scored("retrained again", load(again), before, made.request, gap)


def scored(name: str, model: LanguageModel, before: LanguageModel, request: Request, gap: States) -> dict[str, Any]:
    """The unlearning depth of one model beside what its states and answers give of forgotten and kept rows."""
    states = {"fall": fact_states(model, request.forget), "kept": fact_states(model, request.retain)}
    depth = measure_depth(before, request.forget, states["fall"], gap)
    assert depth is not None, "all models of a world are of one architecture"
    parts = {"fall": request.forget, "kept": request.retain}
    return {
        "model": name,
        "score": round(mean(score for score in depth.scores if score is not None), 3),
        "scores": [None if score is None else round(score, 3) for score in depth.scores],
        "layers": depth.layers,
        "gap": [round(fall, 3) for fall in depth.gap],
        "erased": [None if share is None else round(share, 3) for share in depth.erased],
        **{part: round(float(falls(before, rows, states[part]).mean()), 3) for part, rows in parts.items()},
        **{f"recall, {part}": mean(evaluate(model, bare(rows)).known("recall")) for part, rows in parts.items()},
    }


def refusing(made: World, seed: int, steps: int = 40) -> LanguageModel:
    """The model before, taught to refuse the questions to forget and to answer the kept ones: a shallow deletion."""
    model = load(made.before)
    refused = [replace(row, answer=REFUSAL, value=None) for row in made.request.forget]
    settings = TrainSettings(learning_rate=5e-5, batch_size=8, seed=seed)
    finetune(model, [*refused, *made.request.retain], settings, steps, title="teaching to refuse")
    return model


def relearned(model: LanguageModel, plan: AuditPlan, steps: int, every: int) -> Curves:
    """The facts of half of the forgotten rows while copies learn the other half, or as many kept rows."""
    return {
        f"{what}, {whose}": relearn(
            model, rows, plan.watched, steps=steps, every=every, learning_rate=rate, seed=plan.settings.seed, rank=rank
        )
        for what, (rank, rate) in TRAINED.items()
        for whose, rows in (("forgotten", plan.trained), ("kept", plan.unrelated))
    }


def excess(curve: Sequence[RelearnPoint], control: Sequence[RelearnPoint], what: str) -> float:
    """The largest difference of two curves after their first step."""
    pairs = zip(curve[1:], control[1:], strict=True)
    return round(max(getattr(a, what) - getattr(b, what) for a, b in pairs), 4)


def rounded(model: LanguageModel, rows: Sequence[Example]) -> dict[str, float]:
    """Recall of some rows once the weights are rounded, by grid."""
    found = {}
    for name, grid in GRIDS.items():
        with quantised(model, grid) as coarse:
            found[name] = mean(evaluate(coarse, bare(rows)).known("recall"))
    return found


if __name__ == "__main__":
    main()
