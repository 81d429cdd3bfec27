"""Separating Constraint Compliance from Semantic Accuracy: a benchmark for instruction-following under compression.

arXiv 2512.17920, 2025-12; R. Baxi.

Measured here: SmolLM2 answers about our own concepts at five lengths of text, with the released prompts (whose rule for
the subject differs from the judge's at two levels) and with one rule for both; per seed two concepts. Three judges by
rule look at different things; compliance and accuracy are their means. A subject that does exactly what its prompt says
shows the whole dip under the released prompts and none with matched rules: that follows from the rules and is reported
beside the claim. Full scale in the paper: nine API models and a jury of three.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder, Responder
from letheon.measure.compression_decay.measure import CompressionDecay, mean_curve, obedient, own_cells
from letheon.measure.compression_decay.rules import LEVELS, Arm
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale

ARMS: tuple[Arm, ...] = ("reference", "matched", "minimal", "no_rule")
MIDDLE = LEVELS.index(0.5)
CONFOUND = "dip of compliance at .5: matched minus released prompts"
PRIMARY = [CONFOUND]
CONCEPTS = 2  # per seed


def reproduce(scale: Scale, found: Findings) -> None:
    """Run every arm on the seed's concepts and compare the dips."""
    found.baselines += ["the released prompts", "the text, rule and question alone", "no rule"]
    responder = LocalResponder(load(scale.model, device=scale.device))
    found.rows += [row for seed in scale.seeds for row in one_seed(responder, seed)]
    for arm in ("reference", "matched"):
        made = CompressionDecay(tuple(own_cells()), arm)
        found.measured[f"obedient subject, {arm}"] = mean_curve(made.judged([obedient(c, arm) for c in made.cells]))
    judge(found.rows, found)


def one_seed(responder: Responder, seed: int) -> list[dict[str, Any]]:
    """Measure every arm on the concepts of a seed."""
    cells = own_cells()
    names = list(dict.fromkeys(cell.concept for cell in cells))
    chosen = [names[(CONCEPTS * seed + i) % len(names)] for i in range(CONCEPTS)]
    rows = []
    for arm in ARMS:
        made = CompressionDecay(tuple(cell for cell in cells if cell.concept in chosen), arm)
        scores = made.evaluate(responder)
        curves = {axis: mean_curve(scores, axis) for axis in ("CC", "SA", "answer words")}
        rows.append({"seed": seed, "arm": arm, "dip": scores.value("dip"), "r": scores.value("r(CC, SA)"), **curves})
    return rows


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide by the dips; report each arm's curve and the correlation of compliance and accuracy."""
    dips = {arm: [row["dip"] for row in rows if row["arm"] == arm] for arm in ARMS}
    found.decide(CONFOUND, Pairs(dips["reference"], dips["matched"]), below=0.0)
    curves: dict[str, list[tuple[float, float]]] = {}
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        found.report(f"dip, {arm}", dips[arm])
        found.report(f"r(CC, SA), {arm}", [row["r"] for row in own])
        means = [sum(row["CC"][i] for row in own) / len(own) for i in range(len(LEVELS))]
        curves[arm] = list(zip(LEVELS, means, strict=True))
    found.report("minimal with the rule above without, compliance at .5", _rule_effect(rows), above=0.0)
    found.figures["compliance"] = lines(
        curves, "kept share of the text", "compliance", "Compliance by compression level"
    )


def _rule_effect(rows: list[dict[str, Any]]) -> Pairs:
    sides = ([row["CC"][MIDDLE] for row in rows if row["arm"] == arm] for arm in ("no_rule", "minimal"))
    return Pairs(*sides)
