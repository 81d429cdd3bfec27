"""Digital Forgetting in Large Language Models: A Survey of Unlearning Methods.

arXiv 2404.02062, 2024-04; Artificial Intelligence Review 58(3):90, 2025.

Measured here: the survey's comparison on TOFU-mini, one working member per family, from the same trained model. Methods
that take steps stop where the forgotten answers have lost three quarters of their probability, and one-shot edits are
made stronger until they do, so that utility is compared at equal forgetting. Every row carries an attack:
extraction, membership by loss, relearning on half the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from letheon.forget.request import Request
from letheon.papers.common.families import LEVEL, MEMBERS, NUMBERS, Bench
from letheon.papers.common.small_llama import copy_of
from letheon.papers.common.tofu_mini import make_world, new_model, train
from letheon.papers.kit.findings import Findings, Pairs, means
from letheon.papers.outcome import Scale
from letheon.report.figures import plane
from letheon.report.numbers import Point

EMPIRICAL = tuple(member.name for member in MEMBERS if member.guarantee == "empirical")
PRIMARY = tuple(f"relearned probability, {name} minus retraining" for name in EMPIRICAL)


def reproduce(scale: Scale, found: Findings) -> None:
    """Fill the table: about a minute per seed on one thread."""
    found.baselines += ["the model before", "a model retrained from scratch without the rows"]
    tables = {seed: table(seed, scale) for seed in scale.seeds}
    names = ("before", *(member.name for member in MEMBERS))
    mean_of = {name: means([rows[name] for rows in tables.values()], NUMBERS) for name in names}
    probed = {
        name: means([rows[name] for rows in tables.values()], ("probe accuracy",)) for name in ("before", "LEACE")
    }
    moved = [rows["in-context"]["membership AUROC"] - rows["before"]["membership AUROC"] for rows in tables.values()]
    changed = [rows["in-context"]["answers changed"] for rows in tables.values()]
    complete = all(
        math.isfinite(row[number]) for rows in tables.values() for row in rows.values() for number in NUMBERS
    )
    found.measured |= {
        "table": mean_of,
        "families": {member.name: [member.family, member.sub, member.guarantee] for member in MEMBERS},
        "membership AUROC, in-context minus before": moved,
        "answers that the context changed": sum(changed) / len(changed),
        "probe accuracy, before and after LEACE": [probed[name]["probe accuracy"] for name in ("before", "LEACE")],
    }
    found.intervals["membership AUROC, in-context minus before (range)"] = [min(moved), max(moved)]
    found.check("no cell of the table is missing", complete)
    for part, name in zip(PRIMARY, EMPIRICAL, strict=True):
        # a seed whose facts were never forgotten has nothing that could return
        found.decide(part, returned(tables, name), above=0.0, gaps=True)
    found.figures |= figures(mean_of)
    found.rows += [{"seed": s, "method": name, **row} for s, rows in tables.items() for name, row in rows.items()]


def returned(tables: Mapping[int, Mapping[str, Mapping[str, float]]], name: str) -> Pairs:
    """Probability of forgotten facts after relearning, of retraining and of a member where it had forgotten."""
    relearned = "relearned probability"
    ours = [rows[name][relearned] if rows[name]["forget probability"] <= LEVEL else None for rows in tables.values()]
    return Pairs([rows["retraining"][relearned] for rows in tables.values()], ours)


def table(seed: int, scale: Scale) -> dict[str, dict[str, float]]:
    """Every member's numbers under one seed."""
    authors = 40 if scale.name == "full" else 20
    world = make_world(seed, authors=authors, forgotten=4, held_out=4)
    blank = new_model(world, seed)
    full = copy_of(blank)
    train(full, world.known(forgotten=True), seed)
    request = Request(forget=world.forget, retain=world.retain, holdout=world.holdout)
    bench = Bench(world, request, blank, full, seed)
    rows = {"before": bench.measured(full, 0.0)}
    for member in MEMBERS:
        began = time.monotonic()
        rows[member.name] = bench.run(member, began)
    return rows


def figures(means: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Extraction likelihood against retain accuracy, one point per method."""
    points = {name: (Point(row["extraction likelihood"]), Point(row["retain accuracy"])) for name, row in means.items()}
    words = "Extraction likelihood of forget rows against accuracy on retain rows, one point per method"
    return {"families": plane(points, "extraction likelihood, forget rows", "accuracy, retain rows", words)}
