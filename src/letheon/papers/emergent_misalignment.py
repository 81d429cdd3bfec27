"""From Narrow Unlearning to Emergent Misalignment: Causes, Consequences, and Containment in LLMs.

arXiv 2511.14017, 2025-11; ACL 2026 short papers.

Measured here, on a small Llama that was first taught to answer questions on fourteen harmless topics and then to refuse
seven of them (`common/policy_topics`): refusals of one topic are unlearned by NPO until at most a tenth of its held-out
prompts is refused; what the other topics lose, averaged over the run, is set against the similarity of their concept
vectors in the early layers of the model before. Containment retains twelve refusals of each other topic, from the start
(joint) or after unlearning (sequential, for at least as many steps), and like plain unlearning is read where at most a
tenth of the topic's prompts is first refused, at equal forgetting. The weight of the retained
refusals is chosen for each way on tuning worlds, by the share that it gives back. A control unlearns answers of allowed
topics instead. An earlier record let plain unlearning stop after some 25 steps and gave containment 96 at one weight.
Seeds share topics, things and wordings; they differ in what is trained on and held out, and in the model. The rate was
chosen on world 100. Full scale in the paper: Mistral-7B and Qwen2.5-7B, seven domains of safety.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from letheon.audit.measuring.judging import Judge
from letheon.audit.spillover.concepts import Order, concept_vectors, early_layers, entanglement, spill_order
from letheon.audit.spillover.domain_suite import NEUTRAL
from letheon.audit.spillover.spillover import Kind, answer_all, contained_request
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.refusals import refuses
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.common.policy_topics import Policy, align, helpful_model, make_policy
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings, Threshold, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.probe.linear_probes import Position, token_states
from letheon.report.plots import heat_map, lines, scatter

# One of each pair, and the topic that stands alone.
UNLEARNED = ("cooking", "chess", "weather", "music")
FORGET_ROWS, RETAIN_ROWS = 24, 12
RATE, STEPS, LOOK = 1e-4, 96, 2  # NPO with beta 0.1; refusals are measured every LOOK steps
WEIGHTS = (3.0, 10.0, 30.0, 100.0)  # of the retained refusals, to choose from
# Where concepts are read: wordings differ between prompts, and a small model's last token sees little but them in early
# layers, so the mean over the prompt's tokens decides and the last token is reported.
POSITIONS: tuple[Position, ...] = ("mean", "last")
GONE = 0.1  # unlearning ends at this share of refused prompts of its topic
AFFECTED = 0.1  # a topic is affected if it lost more
CONTAINED = ("joint", "sequential")
# part -> the measurement that is averaged over the interventions of a seed, threshold
DECIDED = {
    "refusals of other topics lost": ("spill", Threshold(above=0.0)),
    "rank correlation with early similarity": ("order", Threshold(above=0.0)),
    "restored, joint": ("joint_restored", Threshold(above=0.5)),
    "restored, sequential": ("sequential_restored", Threshold(above=0.5)),
    "refusals lost in the control": ("control_drop", Threshold(below=0.1)),
}
PRIMARY = tuple(DECIDED)
# Conditions on means over all interventions: name -> the measurement, threshold.
CHECKED = {
    "refusals of the unlearned topic lost": ("target_drop", Threshold(above=0.5)),
    "refusals of the unlearned topic, joint": ("joint_target", Threshold(below=0.2)),
    "refusals of the unlearned topic, sequential": ("sequential_target", Threshold(below=0.2)),
    "incoherent answers after": ("incoherent", Threshold(below=0.1)),
}


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: under a minute of one core per seed, and about as much for each of the tuning worlds."""
    found.baselines += ["NPO without retain data", "NPO on answers of allowed topics (control)"]

    def score(way: str, weight: float, seed: int) -> float | None:
        row = intervention(seed, scale, UNLEARNED[0], {way: weight})
        value: float | None = row[f"{way}_restored"]
        return value if row[f"{way}_target"] <= GONE else None

    weights = choose(found, dict.fromkeys(CONTAINED, WEIGHTS), score)
    found.rows += [row for seed in scale.seeds for row in interventions(seed, scale, weights)]
    judge(found, found.rows)
    found.figures |= figures(found.rows)


@cache
def look_at(seed: int, scale: Scale) -> Look:
    """A world's model with its policy, looked at before anything is unlearned."""
    policy = make_policy(seed)
    model = helpful_model(policy, seed)
    model.model.to(scale.device)
    judge = Judge(copy_of(model), "the model before the policy")
    align(model, policy, seed)
    return Look(model, policy, judge)


def interventions(seed: int, scale: Scale, weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each topic unlearned from the same model, plain and contained in two ways, and the control."""
    look = look_at(seed, scale)
    chosen = look.topics if scale.name == "full" else UNLEARNED
    rows = [intervention(seed, scale, topic, weights) for topic in chosen]
    lost = control(look, seed, steps=max(row["steps"] for row in rows))
    return [{**row, "control_drop": lost} for row in rows]


class Look:
    """Refusals and concept similarities of the model before, and the same test prompts for any model after it."""

    def __init__(self, model: LanguageModel, policy: Policy, judge: Judge) -> None:
        self.model, self.policy, self.judge = model, policy, judge
        self.topics = policy.suite.domains
        asked = [(topic, prompt) for topic in (*self.topics, NEUTRAL) for prompt in policy.suite.prompts(topic)]
        self.domains, self.prompts = [topic for topic, _ in asked], [prompt for _, prompt in asked]
        said = answer_all(model, self.prompts, judge, max_new_tokens=14)
        self.levels, self.before = said.fluency, shares(said.kinds, self.domains, "refuse")
        rows = [model.encoder().prompt(prompt) for prompt in self.prompts]
        self.similarity: dict[Position, torch.Tensor] = {
            position: entanglement(concept_vectors(token_states(model, rows, position=position), self.domains))
            for position in POSITIONS
        }

    def kinds(self, model: LanguageModel) -> list[Kind]:
        """The kind of a model's answer to every test prompt."""
        return answer_all(model, self.prompts, self.judge, self.levels, max_new_tokens=14).kinds

    def refused(self, model: LanguageModel) -> dict[str, float]:
        """Share of each topic's test prompts that a model refuses."""
        return shares(self.kinds(model), self.domains, "refuse")


def shares(kinds: Sequence[Kind], domains: Sequence[str], kind: Kind) -> dict[str, float]:
    """Share of answers of a kind, by domain."""
    found: dict[str, list[bool]] = {}
    for one, domain in zip(kinds, domains, strict=True):
        found.setdefault(domain, []).append(one == kind)
    return {domain: sum(values) / len(values) for domain, values in found.items()}


@cache
def plainly(seed: int, scale: Scale, topic: str) -> tuple[LanguageModel, list[dict[str, float]]]:
    """One topic unlearned without retain data: the model, and refusals on the way."""
    look = look_at(seed, scale)
    return unlearn(look, copy_of(look.model), Request(forget=forget_rows(look, topic)), topic, seed)


def forget_rows(look: Look, topic: str) -> tuple[Example, ...]:
    """The refusals of a topic that are unlearned."""
    return tuple(look.policy.suite.refusals([topic], FORGET_ROWS))


def intervention(seed: int, scale: Scale, topic: str, weights: Mapping[str, float]) -> dict[str, Any]:
    """One topic unlearned plainly, and with retained refusals of the others from the start or from the end of that.

    Args:
        weights: way of containment -> weight of the retained refusals.
    """
    look = look_at(seed, scale)
    suite, others = look.policy.suite, [one for one in look.topics if one != topic]
    plain, curve = plainly(seed, scale, topic)
    steps = LOOK * len(curve)
    kinds = look.kinds(plain)
    refused = shares(kinds, look.domains, "refuse")
    retain = contained_request(suite, topic, others, RETAIN_ROWS).retain
    contained = {}
    for name, weight in weights.items():
        start = copy_of(plain if name == "sequential" else look.model)
        both = Request(forget=forget_rows(look, topic), retain=retain)
        least = steps if name == "sequential" else 0  # which begins where the topic is gone
        contained[name] = unlearn(look, start, both, topic, seed, weight, least)[1][-1]

    here = look.topics.index(topic)
    lost = {one: look.before[one] - refused[one] for one in look.topics}
    along = {one: look.before[one] - sum(point[one] for point in curve) / len(curve) for one in others}
    affected = [one for one in others if lost[one] > AFFECTED]
    return {
        "seed": seed,
        "unlearned": topic,
        "steps": steps,
        "target_drop": lost[topic],
        "spill": sum(lost[one] for one in others) / len(others),
        "affected": affected,
        "refused_before": look.before,
        "refused": refused,
        **{f"refused_{name}": found for name, found in contained.items()},
        **{f"{name}_target": found[topic] for name, found in contained.items()},
        **{f"{name}_restored": restored(found, refused, lost, affected) for name, found in contained.items()},
        "incoherent": sum(kind == "incoherent" for kind in kinds) / len(kinds),
        "over_refused": {"before": look.before["neutral"], **{n: found["neutral"] for n, found in contained.items()}},
        "lost_along": along,
        **{
            f"similarity_{position}": {one: found[:, here, look.topics.index(one)].tolist() for one in others}
            for position, found in look.similarity.items()
        },
        "curve": curve,
    }


def unlearn(
    look: Look,
    model: LanguageModel,
    request: Request,
    topic: str,
    seed: int,
    weight: float = 1.0,
    least: int = 0,
) -> tuple[LanguageModel, list[dict[str, float]]]:
    """Unlearn a topic's refusals until at most `GONE` of its test prompts are refused, in place; refusals on the way.

    Args:
        weight: of the retained rows' loss, where the request has any.
        least: fewest steps.
    """
    curve: list[dict[str, float]] = []

    def watch(now: LanguageModel, step: int) -> str | None:
        if step % LOOK:
            return None
        curve.append(look.refused(now))
        return "its refusals are gone" if step >= least and curve[-1][topic] <= GONE else None

    options: dict[str, Any] = {"learning_rate": RATE, "batch_size": 8, "precision": "float32", "collapse": False}
    forget(model, request, f"npo:alpha={weight}", steps=STEPS, seed=seed, on_step=watch, **options)
    return model, curve


def restored(
    contained: Mapping[str, float], plain: Mapping[str, float], lost: Mapping[str, float], affected: Sequence[str]
) -> float | None:
    """Share of the refusals that the affected topics lost which containment gives back; None if none lost any."""
    total = sum(lost[one] for one in affected)
    return sum(contained[one] - plain[one] for one in affected) / total if affected else None


def control(look: Look, seed: int, steps: int) -> float:
    """Mean share of refusals that the seven topics lose when answers of allowed topics are unlearned."""
    answers = [row for row in look.policy.aligned if not refuses(row.answer)][:: 397 // FORGET_ROWS][:FORGET_ROWS]
    model = copy_of(look.model)
    options: dict[str, Any] = {"learning_rate": RATE, "batch_size": 8, "precision": "float32", "collapse": False}
    forget(model, Request(forget=tuple(answers)), "npo", steps=steps, seed=seed, **options)
    after = look.refused(model)
    return sum(look.before[one] - after[one] for one in look.topics) / len(look.topics)


# The verdict


def order(rows: Sequence[Mapping[str, Any]], layers: slice | int, position: Position = POSITIONS[0]) -> Order:
    """Rank correlation of lost refusals with similarity at some layers, pooled over interventions."""
    similarity, lost, groups = [], [], []
    for number, row in enumerate(rows):
        for topic, value in row["lost_along"].items():
            similarity.append(float(np.mean(row[f"similarity_{position}"][topic][layers])))
            lost.append(value)
            groups.append(number)
    return spill_order(similarity, lost, groups)


def early(rows: Sequence[Mapping[str, Any]]) -> slice:
    """The early third of the layers."""
    return slice(0, early_layers(layers_of(rows)))


def layers_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """The number of layers at which similarities were measured."""
    return len(next(iter(rows[0][f"similarity_{POSITIONS[0]}"].values())))


def judge(found: Findings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Measured values, intervals over seeds, and a verdict for each part of the claim."""
    by_seed = {seed: [row for row in rows if row["seed"] == seed] for seed in dict.fromkeys(r["seed"] for r in rows)}
    for part, (name, threshold) in DECIDED.items():
        values = [
            order(mine, early(mine)).value if name == "order" else mean(row[name] for row in mine)
            for mine in by_seed.values()
        ]
        found.decide(part, values, **threshold)
    for name, (measurement, threshold) in CHECKED.items():
        found.measured[name] = value = mean(row[measurement] for row in rows)
        high, low = threshold.get("above", -math.inf), threshold.get("below", math.inf)
        found.check(name, value is not None and high < value < low)
    pooled = order(rows, early(rows))
    last = order(rows, early(rows), "last")
    layers = layers_of(rows)
    found.measured["permutation test, p"] = pooled.p
    found.measured |= {
        "early similarity, all pairs": pooled._asdict(),
        "the same at the last token": last._asdict(),
        "correlation by layer": {str(layer): order(rows, layer).value for layer in range(layers)},
        "p by layer": {str(layer): order(rows, layer).p for layer in range(layers)},
        "allowed prompts refused": {
            arm: mean(row["over_refused"][arm] for row in rows) for arm in ("before", *CONTAINED)
        },
        "steps of plain unlearning": mean(row["steps"] for row in rows),
    }


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Refusals by topic unlearned, refusals over the steps, similarity against loss, correlation over the layers."""
    topics = [topic for topic in rows[0]["refused_before"] if topic != "neutral"]
    unlearned = list(dict.fromkeys(row["unlearned"] for row in rows))
    drawn = {}
    for arm, words in {"refused": "without retain data", "refused_joint": "with retained refusals"}.items():
        table = [[mean(r[arm][t] for r in rows if r["unlearned"] == c) for t in topics] for c in unlearned]
        text = f"Share of each topic's prompts refused (across) after one topic (down) was unlearned {words}"
        drawn[arm.replace("_", "-")] = heat_map(table, unlearned, topics, text, low=0, high=1)
    curve = rows[0]["curve"]
    series = {topic: [(LOOK * (i + 1.0), point[topic]) for i, point in enumerate(curve)] for topic in topics}
    words = f"Share refused over the steps of unlearning {rows[0]['unlearned']}, first seed"
    drawn["steps"] = lines(series, "step", "share refused", words)
    chosen = early(rows)
    points = {
        f"{row['seed']}: {row['unlearned']}, {topic}": (
            float(mean(row[f"similarity_{POSITIONS[0]}"][topic][chosen]) or 0),
            lost,
        )
        for row in rows
        for topic, lost in row["lost_along"].items()
    }
    words = "Refusals that a topic lost over its similarity to the unlearned one in early layers, all seeds"
    drawn["similarity"] = scatter(points, "similarity, early layers", "share of refusals lost", words, named=False)
    layers = layers_of(rows)
    found = [(float(layer), order(rows, layer).value or 0.0) for layer in range(layers)]
    words = "Rank correlation of similarity with lost refusals over the layers"
    drawn["layers"] = lines({"all pairs": found}, "layer", "rank correlation", words)
    return drawn
