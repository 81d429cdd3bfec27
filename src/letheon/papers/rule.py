"""RULE: Reinforcement UnLEarning Achieves Forget-Retain Pareto Optimality.

arXiv 2506.07171, 2025-06; NeurIPS 2025.

Measured here, on a small Llama that was taught a world of namesakes (`common/people`): how often the target's questions
and its namesakes' are refused after rejection steering alone, after both stages, after both stages on forget questions
alone, and after DPO towards refusals with the same retain rows, the only baseline here that learns to refuse. All
questions that measure are asked in ways that no stage trained on. Half of the namesakes occur in no stage; a boundary
has to hold there too, so they are part of the claim, and DPO is compared by what it refuses of the target less what it
refuses of them. The second stage has its own rate and DPO its own rate and steps, chosen on tuning worlds by that
difference. The claim is judged on the policy's own rate of refusals, over answers sampled at temperature 1; greedy
answers, naming, accuracy and distinct bigrams stand beside it. Blanks are off: an answer of this world is its value
alone. Steps, steering's rate and the margin of over-refusing were chosen on worlds 100 and 101, where steering leaves
30 to 80 % of refusals on the target. An earlier record judged only namesakes whom the second stage trains on, against
methods that cannot refuse. Full scale in the paper: ten people of RWKU and MUSE-Books on models of 7B and 8B.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.generation import generate
from letheon.core.scoring.refusals import refuses
from letheon.core.statistics import estimate_mean
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.common.people import ASKED, HELD_OUT, REFUSALS, People, make_people, taught, ways
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings, Pairs, Threshold, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import plane
from letheon.report.plots import lines

STEERING = "steering_rate={rate},steering_steps=6,steering_warmup=2"
STEERING_RATE = 1e-3
Setting = tuple[int, float]  # steps of a method (of the second stage), and its rate
# To choose from; both stages have their own number of steps at each scale.
DPO_SETTINGS = tuple(product((24, 48, 96), (3e-4, 1e-3)))
RATES, REINFORCED = (1.5e-4, 3e-4, 4.5e-4, 6e-4, 9e-4, 1.2e-3), {"fast": 30, "full": 60}  # as many settings as DPO
DRAWS = 8  # sampled answers to a question that measures
# "Over-refuses": refuses so much more of what it should answer than the model of both kinds of questions does.
MARGIN = 0.1
SHOWN = (
    "target_refused",
    "neighbours_refused",
    "unseen_neighbours_refused",
    "neighbours_right",
    "capitals_refused",
    "target_greedy",
    "neighbours_greedy",
    "named",
)
REFUSED, UNSEEN, GAP = "neighbours_refused", "unseen_neighbours_refused", "gap"
STEERED, BOTH = "steering alone", "both stages"
# name -> measurement, first arm, second arm, threshold of second minus first
COMPARISONS = {
    "target refused, both stages minus steering": ("target_refused", STEERED, BOTH, Threshold(above=0.0)),
    "neighbours refused, both stages minus steering": (REFUSED, STEERED, BOTH, Threshold(below=0.0)),
    "unseen neighbours refused, both stages minus steering": (UNSEEN, STEERED, BOTH, Threshold(below=0.0)),
    "neighbours refused, without boundary minus with": (REFUSED, BOTH, "without boundary", Threshold(above=MARGIN)),
    "target less unseen neighbours refused, both stages minus DPO": (GAP, "DPO", BOTH, Threshold(above=0.0)),
}
PRIMARY = tuple(COMPARISONS)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute of one core per seed, and as much for each of the tuning worlds."""
    found.baselines += ["rejection steering alone", "DPO with retain rows"]
    candidates = {BOTH: tuple(product((REINFORCED[scale.name],), RATES)), "DPO": DPO_SETTINGS}
    chosen = choose(found, candidates, lambda *run: float(measured_after(scale, *run)[0][GAP]))
    curves: dict[int, list[dict[str, float]]] = {}
    for seed in scale.seeds:
        rows, curves[seed] = arms(seed, scale, chosen)
        found.rows += rows
    judge(found, found.rows)
    found.figures |= figures(found.rows, curves)


@cache
def start(seed: int, scale: Scale) -> tuple[People, LanguageModel]:
    """A world and the model that was taught it."""
    people = make_people(seed)
    model = taught(people, seed, width=128 if scale.name == "full" else 96)
    model.model.to(scale.device)
    return people, model


def arms(seed: int, scale: Scale, chosen: Mapping[str, Setting]) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Refusals after every method, from the same taught model; and the metrics of the second stage's steps."""
    people, model = start(seed, scale)
    rows, curve = [{"seed": seed, "arm": "untouched", **refusals(model, people, seed)}], []
    for arm in (STEERED, BOTH, "without boundary", "DPO"):
        row, metrics = measured_after(scale, arm, chosen["DPO" if arm == "DPO" else BOTH], seed)
        rows.append(row)
        if arm == BOTH:
            curve = [one for one in metrics if "reward" in one]
            row["equal_groups"] = sum(one["equal_groups"] for one in curve) / len(curve)
    return rows, curve


def measured_after(
    scale: Scale, arm: str, setting: Setting, seed: int
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Refusals after one method, and the metrics of its steps."""
    people, model = start(seed, scale)
    request = Request(forget=tuple(ways(people.target, ASKED)), retain=tuple(ways(people.neighbours, ASKED)))
    steps, rate = setting
    size = 8 if arm in ("DPO", "without boundary") else 16  # as many forget questions in each step
    options: dict[str, Any] = {"learning_rate": rate, "batch_size": size, "precision": "float32", "seed": seed}
    with tempfile.TemporaryDirectory(prefix="letheon-rule-") as scratch:
        named, unnamed = (Path(scratch) / name for name in ("named.txt", "unnamed.txt"))
        named.write_text("\n".join(REFUSALS), encoding="utf-8")
        target = people.target[0].subject or ""
        unnamed.write_text("\n".join(line.replace("{subject}", target) for line in REFUSALS), encoding="utf-8")
        text = methods(named, unnamed, rate)[arm]
        result = forget(copy_of(model), request, text, steps=steps, collapse=False, **options)
    return {"seed": seed, "arm": arm, **refusals(result.model, people, seed)}, result.outcome.history


def methods(named: Path, unnamed: Path, rate: float) -> dict[str, str]:
    """Arm -> method; the files hold refusals with and without a place for the target's name."""
    steering = STEERING.format(rate=STEERING_RATE / rate)
    ours = f"reinforce:refusals={named},blanks=false,max_new_tokens=16,{steering}"
    return {
        STEERED: f"{ours},stages=steering",
        BOTH: ours,
        "without boundary": f"{ours},boundary=none",
        "DPO": f"dpo:refusals={unnamed}",
    }


def refusals(model: LanguageModel, people: People, seed: int) -> dict[str, float]:
    """Shares of refusals and of right answers to held-out wordings, by the people that are asked about.

    `NAME_refused` is of sampled answers, `NAME_greedy` of greedy ones, `NAME_right` of greedy ones that are the answer;
    `named` is the share of greedy answers about the target that refuse and name it; `distinct` that of different word
    pairs among all word pairs of the greedy answers about the target; `gap` is what is refused of the target less
    what is refused of the namesakes whom no stage has seen.
    """
    sets = {
        "target": ways(people.target, HELD_OUT),
        "neighbours": ways([*people.neighbours, *people.others], HELD_OUT),
        "unseen_neighbours": ways(people.others, HELD_OUT),
        "strangers": ways(people.strangers, HELD_OUT),
        "capitals": list(people.capitals),
    }
    found: dict[str, float] = {}
    for name, rows in sets.items():
        prompts = [row.prompt for row in rows]
        said = generate(model, prompts, max_new_tokens=16, batch_size=128)
        drawn = generate(model, prompts * DRAWS, max_new_tokens=16, batch_size=128, temperature=1.0, seed=seed)
        found[f"{name}_refused"] = _share(list(map(refuses, drawn)))
        found[f"{name}_greedy"] = _share(list(map(refuses, said)))
        found[f"{name}_right"] = _share([answer == row.answer for answer, row in zip(said, rows, strict=True)])
        if name == "target":
            found["named"] = _share([refuses(answer) and (rows[0].subject or "") in answer for answer in said])
            found["distinct"] = distinct_bigrams(said)
    found[GAP] = found["target_refused"] - found[UNSEEN]
    return found


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words as a share of all such pairs; 0 if there are none."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def column(rows: Sequence[Mapping[str, Any]], arm: str, name: str) -> list[float]:
    """One measurement of an arm, one value per seed."""
    return [row[name] for row in rows if row["arm"] == arm]


def judge(found: Findings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Measured values, intervals, and a verdict for each of the five parts."""
    names = list(dict.fromkeys(row["arm"] for row in rows))
    found.measured |= {
        name: {arm: mean(column(rows, arm, name)) for arm in names if column(rows, arm, name)} for name in SHOWN
    }
    found.measured["matcher's false positives, untouched neighbours"] = found.measured[REFUSED]["untouched"]
    found.measured["share of equal groups"] = mean(row["equal_groups"] for row in rows if "equal_groups" in row)
    for name, (what, first, second, threshold) in COMPARISONS.items():
        pairs = Pairs(column(rows, first, what), column(rows, second, what))
        found.decide(name, pairs, **threshold)


def figures(rows: Sequence[Mapping[str, Any]], curves: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, str]:
    """Neighbours' questions answered over the target's questions answered; and the second stage's course."""
    points = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        answered = [[1 - value for value in column(rows, arm, f"{kind}_refused")] for kind in ("target", "neighbours")]
        points[arm] = (estimate_mean(answered[0]), estimate_mean(answered[1]))
    words = "Share of neighbours' questions answered over share of the target's answered, mean of the seeds"
    drawn = {"plane": plane(points, "target answered", "neighbours answered", words)}
    steps = min((len(curve) for curve in curves.values()), default=0)
    series = {
        label: [
            (step + 1.0, sum(curve[step][name] for curve in curves.values()) / len(curves)) for step in range(steps)
        ]
        for label, name in {"target": "refused_reject", "neighbours": "refused_normal", "reward": "reward"}.items()
    }
    words = "Refusals among rollouts, by whom they are about, and the mean reward, over steps of the second stage"
    drawn["rollouts"] = lines(series, "step", "share of rollouts", words)
    return drawn
