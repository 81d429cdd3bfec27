"""Digital Forgetting in Large Language Models: A Survey of Unlearning Methods.

arXiv 2404.02062, 2024-04; Artificial Intelligence Review 58(3):90, 2025.

Measured here: the survey's comparison on TOFU-mini, one working member per family, from the same trained model. Methods
that take steps stop where the forgotten answers are as improbable as for a model retrained without the rows, and one-
shot edits are made stronger until they are; so utility, on authors whom no run is shown, and attacks are compared at
equal forgetting. Every row carries attacks: extraction, membership by loss, relearning on half the rows. Judged is what
the survey says of guarantees. After relearning, a model from each method that takes steps attributes the other half's
values to the right one of the forgotten authors more surely than the retrained model does, relearned alike; and a
context that asks to forget leaves membership readable, although it is there when membership is asked for. Every member
has its own learning rate, chosen on tuning seeds as a user would: by the probability of other authors' answers where it
has forgotten, without a look at attacks; a judged run may take three times the
search's number of steps. The one-shot edits stand in the table only: at that level they left nothing of
a model (retained accuracy 0 on development seeds 102 and 103), and so nothing that could return.
An earlier record stopped at a fixed level above that of retraining, so that more had to be there after relearning, had
one rate for most members, and read what the in-context member leaks without its context, where it is the model before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from letheon.papers.common.families import MEMBERS, NUMBERS, Bench, Member, probability
from letheon.papers.common.tofu_mini import make_world
from letheon.papers.kit.findings import Findings, Pairs, mean, means
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import plane
from letheon.report.numbers import Point

Row = Mapping[str, float]
BY_NAME = {member.name: member for member in MEMBERS}
EMPIRICAL = tuple(member.name for member in MEMBERS if member.guarantee == "empirical")
STEPPED = tuple(member.name for member in MEMBERS if member.rates and not member.doses)
RETURNED = "relearned attribution"
MEMBERSHIP = "membership AUROC, in-context minus retraining"
PRIMARY = (*(f"{RETURNED}, {name} minus retraining" for name in STEPPED), MEMBERSHIP)


def reproduce(scale: Scale, found: Findings) -> None:
    """Fill the table."""
    found.baselines += ["the model before", "a model retrained from scratch without the rows"]
    full = scale.name == "full"
    candidates = {member.name: member.rates for member in MEMBERS if member.rates}
    rates = choose(found, candidates, lambda name, rate, seed: worth(bench(seed, full), BY_NAME[name], rate))
    bench.cache_clear()
    tables = {seed: table(seed, rates, full) for seed in scale.seeds}
    names = ("before", *BY_NAME)
    mean_of = {name: means([rows[name] for rows in tables.values()], NUMBERS) for name in names}
    probed = [mean(rows[name]["probe accuracy"] for rows in tables.values()) for name in ("before", "LEACE")]
    complete = all(
        math.isfinite(row[number]) for rows in tables.values() for row in rows.values() for number in NUMBERS
    )
    found.measured |= {
        "table": mean_of,
        "families": {member.name: [member.family, member.sub, member.guarantee] for member in MEMBERS},
        "probe accuracy, before and after LEACE": probed,
        "seeds in which the level is reached": {
            name: len(tables) - returned(tables, name).ours.count(None) for name in EMPIRICAL
        },
    }
    found.check("no cell of the table is missing", complete)
    for name in EMPIRICAL:
        judged = found.decide if name in STEPPED else found.report
        judged(f"{RETURNED}, {name} minus retraining", returned(tables, name), above=0.0)
    column = {name: [rows[name]["membership AUROC"] for rows in tables.values()] for name in names}
    found.decide(MEMBERSHIP, Pairs(column["retraining"], column["in-context"]), above=0.0)
    found.figures |= figures(mean_of)
    found.rows += [{"seed": s, "method": name, **row} for s, rows in tables.items() for name, row in rows.items()]


GONE = "forget probability"


def returned(tables: Mapping[int, Mapping[str, Row]], name: str) -> Pairs:
    """The attribution after relearning, of the retrained model and of a member that has forgotten as much."""
    ours = [rows[name][RETURNED] if rows[name][GONE] <= rows["retraining"][GONE] else None for rows in tables.values()]
    return Pairs([rows["retraining"][RETURNED] for rows in tables.values()], ours)


@cache
def bench(seed: int, full: bool) -> Bench:
    """One seed's world, the model that knows it, and the retrained one."""
    return Bench(make_world(seed, authors=40 if full else 16, forgotten=4, held_out=4), seed)


def worth(bench: Bench, member: Member, rate: float) -> float | None:
    """How good a member is with a rate: retained probability at equal forgetting; None if it does not get there."""
    model = bench.forgotten(member, rate)
    return probability(model, bench.others) if probability(model, bench.request.forget) <= bench.level else None


def table(seed: int, rates: Mapping[str, float], full: bool = False) -> dict[str, dict[str, float]]:
    """Every member's numbers under one seed."""
    here = bench(seed, full)
    bench.cache_clear()
    rows = {"before": here.measured(here.full, 0.0)}
    for member in MEMBERS:
        rows[member.name] = here.run(member, rates.get(member.name))
    return rows


def figures(means: Mapping[str, Row]) -> dict[str, str]:
    """Extraction likelihood against retain accuracy, one point per method."""
    points = {name: (Point(row["extraction likelihood"]), Point(row["retain accuracy"])) for name, row in means.items()}
    words = "Extraction likelihood of forget rows against accuracy on retain rows, one point per method"
    return {"families": plane(points, "extraction likelihood, forget rows", "accuracy, retain rows", words)}
