"""How new data permeates LLM knowledge and how to dilute it.

arXiv 2504.09522, 2025-04; Sun et al., ICLR 2025. Full scale in the paper: 1,320 texts, PaLM-2, Gemma-2b, Llama-2-7b.
Here: 96 odd texts of 12 key words a seed, each learned alone from the same weights by a small Llama that has read a
corpus of four themes; every cure is measured on the same change of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from letheon.core.statistics import estimate_mean
from letheon.measure.priming import Prediction, Priming, predict, read_samples
from letheon.measure.priming_study import Cure, in_context, learn_text, restored, study
from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.common.odd_texts import OddWorld, learned, make_world, some_of
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, judge_values, mean
from letheon.report.figures import dots
from letheon.retain.strategies.dilution import Ignored, diluted

SHARE = 0.08  # the paper's headline; 4 % is its other
SHARES = (0.01, 0.04, SHARE, 0.15, 0.3)
# 40 presentations in the place of one of 8 rows: the paper's number for ordinary text. (20 is that for instructions;
# with 20 the share of memorisation that the top leaves was 0.85, [0.82, 0.90], over three seeds.) The paper's rates
# were not read; this is the smallest of 3e-4, 1e-3 and 3e-3 that makes the key word known (P about 0.95 at the end),
# found on a seed that is not measured here. At 1e-3 the top carries no more priming than any other part.
LEARNING: dict[str, Any] = {"presentations": 40, "batch_size": 8, "learning_rate": 3e-4}
BACKGROUND = 400  # plain sentences beside the text
STEPS = 400  # of reading the corpus
# "Kept": nine tenths of log S_mem; "random masks do not": they leave nine tenths of log S_prime. The paper's smallest
# reduction of S_prime is by half.
KEPT, HALF = 0.9, 0.5

Results = Mapping[str, Sequence["Priming"]]


def reproduce(scale: Scale) -> Outcome:
    """Every text learned from the same weights; priming before and after each cure; the rewrites learned as well."""
    baselines = ["the update as it is", "random and bottom masks of the same share", "a plain paraphrase"]
    claim = Claim("outlandish", paper("outlandish").claim, baselines)
    every = 4 if scale.name == "fast" else 1
    seeds = {seed: results_of(seed, every) for seed in scale.seeds}
    rows = [summary(seed, found) for seed, found in seeds.items()]
    told = {name: mean(row[name] for row in rows) for name in rows[0] if name != "seed"}
    texts = [{"seed": seed, **one.to_json()} for seed, found in seeds.items() for few in found.values() for one in few]
    return claim.outcome(Findings.by_arm(told, *judge(rows)), scale.seeds, figures(seeds, rows), texts)


def judge(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """The claim's parts over seeds, and what the note asks to be said beside them."""

    def column(name: str) -> list[float | None]:
        return [row[name] for row in rows]

    judged = {
        "rank correlation of log P before and log priming": judge_values(column("spearman"), 0.0, "below"),
        "top minus random: share of priming left": judge_pairs(
            column("random 8%, priming"), column("top 8%, priming"), 0.0, "below"
        ),
        "top: share of memorisation kept": judge_values(column("top 8%, memorisation"), KEPT, "above"),
        "random: share of priming left": judge_values(column("random 8%, priming"), KEPT, "above"),
        "stones minus text, log priming": judge_pairs(
            column("text, log priming"), column("stones, log priming"), 0.0, "below"
        ),
    }
    beside = {
        "rank correlation without shuffled texts": judge_values(
            column("spearman, without shuffled texts"), 0.0, "below"
        ),
        "rank correlation within key words": judge_values(column("within"), 0.0, "below"),
        "top: median reduction of priming, as large as the paper's": judge_values(
            column("top 8%, reduction"), HALF, "above"
        ),
        "bottom: share of priming left": judge_values(column("bottom 8%, priming"), KEPT, "above"),
        "stones minus paraphrase, log priming": judge_pairs(
            column("paraphrase, log priming"), column("stones, log priming"), 0.0, "below"
        ),
        "another theme minus the own, log priming": judge_pairs(
            column("text, log priming"), column("text, log priming, another theme"), 0.0, "below"
        ),
    }
    return judged, beside


def results_of(seed: int, every: int = 1) -> dict[str, list[Priming]]:
    """Every text's priming by what was done: the text as it is, its rewrites, the cures, nothing but background."""

    world = make_world(seed)
    model = learned(world, seed, steps=STEPS)
    background, options = world.corpus[:BACKGROUND], LEARNING | {"seed": seed}
    chosen = some_of(world.texts, every)
    texts = [text.sample for text in chosen]
    found: dict[str, list[Priming]] = {}
    for one in study(model, texts, world.prefixes, background, cures=cures(seed), **options):
        found.setdefault(one.cure or "text", []).append(one)
    rewrites = {"stones": [text.stones for text in chosen], "paraphrase": [text.paraphrase for text in chosen]}
    for name, samples in rewrites.items():
        found[name] = study(model, samples, world.prefixes, background, **options)
    found["in context"] = in_context(model, texts, world.prefixes)
    with restored(model):
        found["background alone"] = _background_alone(model, world, texts, options)
    return found


def cures(seed: int) -> dict[str, Cure]:
    """Masks of the change by name: the top at several shares, and the two controls."""

    def cure(share: float, ignore: Ignored) -> Cure:
        return lambda before, after: diluted(
            before, after, share, ignore, generator=torch.Generator().manual_seed(seed)
        )

    made = {_name("top", share): cure(share, "top") for share in SHARES}
    return made | {_name("random", SHARE): cure(SHARE, "random"), _name("bottom", SHARE): cure(SHARE, "bottom")}


def _name(ignore: str, share: float) -> str:
    return f"{ignore} {share:.0%}"


def _background_alone(model: Any, world: OddWorld, texts: Sequence[Any], options: dict[str, Any]) -> list[Priming]:
    """The control without any odd text: one run of as many steps on plain sentences, read for every text."""

    before = read_samples(model, texts, world.prefixes)
    learn_text(model, world.corpus[BACKGROUND], world.corpus[:BACKGROUND], **options)
    after = read_samples(model, texts, world.prefixes)
    return [Priming(*one, "background alone") for one in zip(texts, before, after, strict=True)]


def summary(seed: int, found: Results) -> dict[str, Any]:
    """One seed in numbers: the prediction, and of each cure what it leaves of priming and of memorisation."""

    prediction, told = predict(found["text"]), predict(found["in context"])
    row: dict[str, Any] = {"seed": seed, **_prediction(prediction), "spearman, in context": told.spearman.value}
    for name, results in found.items():
        row[f"{name}, log priming"] = mean([one.log_priming for one in results])
        row[f"{name}, log memorisation"] = mean([one.log_memorisation for one in results])
        row[f"{name}, log P before"] = mean([one.before.own for one in results])
        row[f"{name}, log P after"] = mean([one.after.own for one in results])
    ordered = [one for one in found["text"] if one.sample.category != "shuffled"]
    row["spearman, without shuffled texts"] = predict(ordered).spearman.value
    records = [one.to_json() for one in found["text"]]
    row["text, log priming, another theme"] = mean([one["log priming, another theme"] for one in records])
    row["text, change of probability"] = mean([one["mean change of probability"] for one in records])
    for name in cures(seed):
        row |= _left(name, found["text"], found[name])
    return row


def _prediction(found: Prediction) -> dict[str, float | None]:
    return {
        "spearman": found.spearman.value,
        "pearson": found.pearson,
        "within": found.within.value,
        "log priming, P before below 1e-3": found.below,
        "log priming, P before above 1e-3": found.above,
    }


def _left(name: str, plain: Sequence[Priming], cured: Sequence[Priming]) -> dict[str, float | None]:
    """Shares of the mean logarithms that a cure leaves, and the median reduction of S_prime where there is priming."""
    pairs = list(zip(plain, cured, strict=True))
    reductions = sorted(1 - math.exp(b.log_priming - a.log_priming) for a, b in pairs if a.log_priming > 0)
    return {
        f"{name}, priming": _share([a.log_priming for a, _ in pairs], [b.log_priming for _, b in pairs]),
        f"{name}, memorisation": _share([a.log_memorisation for a, _ in pairs], [b.log_memorisation for _, b in pairs]),
        f"{name}, reduction": reductions[len(reductions) // 2] if reductions else None,
    }


def _share(whole: Sequence[float], part: Sequence[float]) -> float | None:
    return sum(part) / sum(whole) if sum(whole) > 0 else None


def figures(seeds: Mapping[int, Results], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Priming against the probability before, by tenths of the texts; what is left of both over the share ignored."""

    points = sorted((one.before.own, one.log_priming) for found in seeds.values() for one in found["text"])
    tenths = [tuple(np.mean(part, 0).tolist()) for part in np.array_split(np.array(points), 10)]
    left = {
        kind: [(share, mean([row[f"{_name('top', share)}, {kind}"] for row in rows]) or 0.0) for share in SHARES]
        for kind in ("priming", "memorisation")
    }
    groups = {
        kind: {
            name: estimate_mean([row[f"{name}, {kind}"] for row in rows])
            for name in ("text", _name("top", SHARE), _name("random", SHARE), "stones", "paraphrase")
        }
        for kind in ("log priming", "log memorisation")
    }
    return {
        "prediction": lines(
            {"texts": tenths},
            "log P before (nats)",
            "log priming",
            "Log priming over log P before, by tenths of the texts",
        ),
        "shares": lines(
            left, "share ignored", "share left", "What is left of priming and memorisation without the top"
        ),
        "cures": dots(groups, "nats", "Priming and memorisation as learned and after each cure"),
    }
