"""Separating Constraint Compliance from Semantic Accuracy: a benchmark for instruction-following under compression.

arXiv 2512.17920, 2025-12; R. Baxi.

Measured here: SmolLM2 answers about our own concepts at five lengths of text, with the released prompts (whose rule for
the subject differs from the judge's at two levels) and with one rule for both; a seed is a concept, and eight seeds are
all of them. Answers are greedy, so that a second seed of a concept would repeat the first: nothing is decided then.
Three judges by rule look at different things; compliance and accuracy are their means. The whole text has no limit, and
compliance there is 1 whatever is said: the dip is judged against the lower of both ends. A subject that does exactly
what its prompt says shows the whole dip under the released prompts and none with matched rules: that follows from the
rules and is reported beside the claim. Full scale in the paper: nine API models and a jury of three.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder, Responder
from letheon.measure.compression_decay.measure import CompressionDecay, mean_curve, obedient, own_cells
from letheon.measure.compression_decay.rules import LEVELS, Arm
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

ARMS: tuple[Arm, ...] = ("reference", "matched", "minimal", "no_rule")
MIDDLE = LEVELS.index(0.5)
DIP = "released prompts: compliance at the lower end minus at .5"
CONFOUND = "dip of compliance at .5: matched minus released prompts"
RULE = "compliance at .5: minimal prompt with the rule minus without"
PRIMARY = [DIP, CONFOUND, RULE]


def reproduce(scale: Scale, found: Findings) -> None:
    """Run every arm on the seed's concepts and compare the dips."""
    found.baselines += ["the released prompts", "the text, rule and question alone", "no rule"]
    responder = LocalResponder(load(scale.model, device=scale.device))
    found.rows += [row for seed in scale.seeds for row in one_seed(responder, seed)]
    concepts = {row["concept"] for row in found.rows}
    found.check("every seed has a concept of its own", len(concepts) == len(scale.seeds))
    for arm in ("reference", "matched"):
        made = CompressionDecay(tuple(own_cells()), arm)
        found.measured[f"obedient subject, {arm}"] = mean_curve(made.judged([obedient(c, arm) for c in made.cells]))
    judge(found.rows, found)


def one_seed(responder: Responder, seed: int) -> list[dict[str, Any]]:
    """Measure every arm on the concept of a seed."""
    cells = own_cells()
    names = list(dict.fromkeys(cell.concept for cell in cells))
    chosen = names[seed % len(names)]
    rows = []
    for arm in ARMS:
        made = CompressionDecay(tuple(cell for cell in cells if cell.concept == chosen), arm)
        scores = made.evaluate(responder)
        curves = {axis: mean_curve(scores, axis) for axis in ("CC", "SA", "answer words")}
        values = {"dip": scores.value("dip"), "r": scores.value("r(CC, SA)")}
        rows.append({"seed": seed, "concept": chosen, "arm": arm, **values, **curves})
    return rows


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide by the dips and by the rule; report each arm's curve and how compliance and accuracy go together."""
    dips = {arm: [row["dip"] for row in rows if row["arm"] == arm] for arm in ARMS}
    middle = {arm: [row["CC"][MIDDLE] for row in rows if row["arm"] == arm] for arm in ARMS}
    ends = [min(row["CC"][0], row["CC"][-1]) for row in rows if row["arm"] == "reference"]
    found.decide(DIP, Pairs(middle["reference"], ends), above=0.0)
    found.decide(CONFOUND, Pairs(dips["reference"], dips["matched"]), below=0.0)
    found.decide(RULE, Pairs(middle["no_rule"], middle["minimal"]), above=0.0)
    curves: dict[str, list[tuple[float, float]]] = {}
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        found.report(f"dip, {arm}", dips[arm])
        found.report(f"r(CC, SA), {arm}", [row["r"] for row in own])
        means = [sum(row["CC"][i] for row in own) / len(own) for i in range(len(LEVELS))]
        curves[arm] = list(zip(LEVELS, means, strict=True))
    found.figures["compliance"] = lines(
        curves, "kept share of the text", "compliance", "Compliance by compression level"
    )
