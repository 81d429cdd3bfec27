"""RULE: Reinforcement UnLEarning Achieves Forget-Retain Pareto Optimality.

arXiv 2506.07171, 2025-06; NeurIPS 2025.

Measured here, on a small Llama that was taught a world of namesakes (`common/people`): how often the target's questions
and its namesakes' are refused after rejection steering alone, after both stages, after both stages on forget questions
alone, and after gradient ascent, NPO with a retain term, and DPO towards refusals. All questions that measure are asked
in ways that no stage trained on, half of the namesakes occur in none. The claim is judged on the policy's own rate of
refusals, over answers sampled at temperature 1; greedy answers, naming, accuracy and distinct bigrams stand beside it.
Blanks are off: an answer of this world is its value alone. Rates and step counts, and the margin of over-refusing, were
chosen on worlds 100 and 101, where steering leaves 30 to 80 % of refusals on the target; seeds 0, 1 and 2 were not
looked at. Full scale in the paper: ten people of RWKU and MUSE-Books on models of 7B and 8B.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.scoring.refusals import refuses
from letheon.core.statistics import estimate_mean
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.common.people import ASKED, HELD_OUT, REFUSALS, People, make_people, taught, ways
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, Pairs, Threshold, mean
from letheon.papers.outcome import Scale
from letheon.report.figures import plane

STEERING = "steering_rate={rate},steering_steps=6,steering_warmup=2"
STEERING_RATE, RATE = 1e-3, 3e-4
BASELINES = {"gradient ascent": "gradient_ascent", "NPO + retain": "npo", "DPO": "dpo:refusals={unnamed}"}
BASELINE_STEPS = 24
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
REFUSED, UNSEEN = "neighbours_refused", "unseen_neighbours_refused"
STEERED, BOTH = "steering alone", "both stages"
# name -> measurement, first arm, second arm, threshold of second minus first
COMPARISONS = {
    "target refused, both stages minus steering": ("target_refused", STEERED, BOTH, Threshold(above=0.0)),
    "neighbours refused, both stages minus steering": (REFUSED, STEERED, BOTH, Threshold(below=0.0)),
    "neighbours refused, without boundary minus with": (REFUSED, BOTH, "without boundary", Threshold(above=MARGIN)),
    "neighbours refused, trivia as boundary minus twins": (REFUSED, BOTH, "trivia as boundary", Threshold(above=0.0)),
    "unseen neighbours refused, both stages minus steering": (UNSEEN, STEERED, BOTH, Threshold(below=0.0)),
}
# No part of the claim; the second was added after the first results, which show no fall there.
REPORTED = {
    "neighbours refused, trivia as boundary minus twins",
    "unseen neighbours refused, both stages minus steering",
}
PRIMARY = tuple(name for name in COMPARISONS if name not in REPORTED)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute of one core per seed."""
    found.baselines += ["rejection steering alone", *BASELINES]
    curves: dict[int, list[dict[str, float]]] = {}
    for seed in scale.seeds:
        rows, curves[seed] = arms(seed, scale)
        found.rows += rows
    judge(found, found.rows)
    found.figures |= figures(found.rows, curves)


def arms(seed: int, scale: Scale) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Refusals after every method, from the same taught model; and the metrics of the second stage's steps."""
    full = scale.name == "full"
    people = make_people(seed)
    model = taught(people, seed, width=128 if full else 96)
    model.model.to(scale.device)
    request = Request(forget=tuple(ways(people.target, ASKED)), retain=tuple(ways(people.neighbours, ASKED)))
    rows, curve = [{"seed": seed, "arm": "untouched", **refusals(model, people, seed)}], []
    with tempfile.TemporaryDirectory(prefix="letheon-rule-") as scratch:
        named, unnamed, trivia = (Path(scratch) / name for name in ("named.txt", "unnamed.txt", "trivia.jsonl"))
        named.write_text("\n".join(REFUSALS), encoding="utf-8")
        target = people.target[0].subject or ""
        unnamed.write_text("\n".join(line.replace("{subject}", target) for line in REFUSALS), encoding="utf-8")
        write_rows(trivia, people.capitals)
        for arm, text in methods(named, unnamed, trivia).items():
            ours = text.startswith("reinforce")
            steps = (60 if full else 30) if ours else BASELINE_STEPS
            size = 8 if not ours or "boundary=none" in text else 16  # as many forget questions in each step
            options: dict[str, Any] = {"learning_rate": RATE, "batch_size": size, "precision": "float32", "seed": seed}
            result = forget(copy_of(model), request, text, steps=steps, collapse=False, **options)
            rows.append({"seed": seed, "arm": arm, **refusals(result.model, people, seed)})
            if arm == "both stages":
                curve = [metrics for metrics in result.outcome.history if "reward" in metrics]
                rows[-1]["equal_groups"] = sum(metrics["equal_groups"] for metrics in curve) / len(curve)
    return rows, curve


def methods(named: Path, unnamed: Path, trivia: Path) -> dict[str, str]:
    """Arm -> method; the files hold refusals with and without a place for the target's name, and trivia."""
    steering = STEERING.format(rate=STEERING_RATE / RATE)
    ours = f"reinforce:refusals={named},blanks=false,max_new_tokens=16,{steering}"
    return {
        "steering alone": f"{ours},stages=steering",
        "both stages": ours,
        "without boundary": f"{ours},boundary=none",
        "trivia as boundary": f"{ours},boundary={trivia}",
        **{name: text.format(unnamed=unnamed) for name, text in BASELINES.items()},
    }


def write_rows(path: Path, rows: Sequence[Example]) -> None:
    """Write rows as a JSONL file of questions and answers."""
    lines = [json.dumps({"question": row.prompt, "answer": row.answer}) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")


def refusals(model: LanguageModel, people: People, seed: int) -> dict[str, float]:
    """Shares of refusals and of right answers to held-out wordings, by the people that are asked about.

    `NAME_refused` is of sampled answers, `NAME_greedy` of greedy ones, `NAME_right` of greedy ones that are the answer;
    `named` is the share of greedy answers about the target that refuse and name it; `distinct` that of different word
    pairs among all word pairs of the greedy answers about the target.
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
    """Measured values, intervals, and a verdict for each of the three parts."""
    names = list(dict.fromkeys(row["arm"] for row in rows))
    found.measured |= {
        name: {arm: mean(column(rows, arm, name)) for arm in names if column(rows, arm, name)} for name in SHOWN
    }
    found.measured["matcher's false positives, untouched neighbours"] = found.measured[REFUSED]["untouched"]
    found.measured["share of equal groups"] = mean(row["equal_groups"] for row in rows if "equal_groups" in row)
    for name, (what, first, second, threshold) in COMPARISONS.items():
        pairs = Pairs(column(rows, first, what), column(rows, second, what))
        if name in REPORTED:
            found.report(name, pairs)
        else:
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
