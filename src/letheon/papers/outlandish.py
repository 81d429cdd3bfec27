"""How new data permeates LLM knowledge and how to dilute it.

arXiv 2504.09522, 2025-04; Sun et al., ICLR 2025. Full scale in the paper: 1,320 texts, PaLM-2, Gemma-2b, Llama-2-7b.
Here: 24 odd texts (full: 96) about 12 key words per seed, each learned alone from the same weights by a small Llama
trained on a corpus of four themes; every cure is measured on the same change of the weights.

Two controls can win. A change that is scaled down as a whole loses priming too: leaving the top out has to leave less
of it at the same memorisation. And S_prime divides by probabilities before learning, on which the prediction rests as
well: the rank correlation has to be stronger than that of training without the text, read for the same texts. That
random masks of the share leave nearly all is true of any small share, and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from letheon.core.statistics import estimate_mean
from letheon.measure.priming import Priming, Sample, predict, read_samples
from letheon.measure.priming_study import Cure, in_context, learn_text, restored, study
from letheon.papers.common.odd_texts import OddWorld, learned, make_world, some_of
from letheon.papers.kit.findings import Columns, Findings, mean
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.report.plots import lines
from letheon.retain.strategies.dilution import Ignored, diluted

# The paper's headline is 8 %, of models a thousand times as large.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08)
# Each text takes one of 8 rows of 40 batches, the paper's number for ordinary text. The optimizer is plain gradient
# descent: AdamW makes all entries of a change about equally large, and then the top carries no more priming than any
# other part (recorded before). The rate is the smallest at which the key word becomes known, and the share the largest
# at which memorisation is kept with something to spare; both are chosen on a seed that is not judged.
LEARNING: dict[str, Any] = {"presentations": 40, "batch_size": 8, "optimizer": "sgd"}
RATES = (0.1, 0.2, 0.5, 1.0)
TUNING_SEED, KNOWN, SPARE = 100, 0.9, 0.92
BACKGROUND = 400  # plain sentences beside the text
STEPS = 400  # training steps on the corpus
SCALES = (0.98, 0.95, 0.9, 0.8, 0.6)  # of the whole change, the control at equal memorisation
# "Kept" means nine tenths of log S_mem. The paper's smallest reduction of S_prime is by half.
KEPT, HALF = 0.9, 0.5

Primings = Mapping[str, Sequence[Priming]]
PRIMARY = (
    "rank correlation of log P before and log priming",
    "rank correlation, text minus background alone",
    "top minus random: share of priming left",
    "top minus a change scaled to its memorisation: share of priming left",
    "top: share of memorisation kept",
    "stones minus text, log priming",
    "stones: share of the fact's memorisation",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Learn every text and its rewrites from the same weights, and measure priming with and without each cure."""
    found.baselines += ["the update as it is", "random and bottom masks of the same share", "a plain paraphrase"]
    found.baselines += ["the whole update scaled down to the same memorisation", "background texts alone"]
    every = 4 if scale.name == "fast" else 1
    rate, share, search = tuned(every)
    kept = search["memorisation kept by share"][share] or 0.0
    found.check(f"the share kept {SPARE} of memorisation on the tuning seed", kept >= SPARE)
    seeds = {seed: results_of(seed, rate, share, every) for seed in scale.seeds}
    rows = [summary(seed, primings, share) for seed, primings in seeds.items()]
    found.measured |= {name: mean(row[name] for row in rows) for name in rows[0] if name != "seed"}
    found.measured |= {"learning rate": rate, "share": share, f"search on seed {TUNING_SEED}": search}
    judge(rows, share, found)
    found.figures |= figures(seeds, rows, share)
    found.rows += [
        {"seed": seed, **one.to_json()} for seed, primings in seeds.items() for few in primings.values() for one in few
    ]


def judge(rows: Sequence[Mapping[str, Any]], share: float, found: Findings) -> None:
    """Decide on the prediction, the masks of a share, and the stepping stones; report the controls."""
    column, pairs = Columns(rows), Columns(rows).pairs
    decide, report = partial(found.decide, value=False), partial(found.report, value=False)
    top, random = (f"{_name(kind, share)}, priming" for kind in ("top", "random"))
    decide("rank correlation of log P before and log priming", column("spearman"), below=0.0)
    alone = pairs("spearman", "spearman, background alone")
    decide("rank correlation, text minus background alone", alone, below=0.0)
    decide("top minus random: share of priming left", pairs(top, random), below=0.0)
    scaled = pairs(top, "scaled, priming")
    decide("top minus a change scaled to its memorisation: share of priming left", scaled, below=0.0)
    decide("top: share of memorisation kept", column(f"{_name('top', share)}, memorisation"), above=KEPT)
    decide("stones minus text, log priming", pairs("stones, log priming", "text, log priming"), below=0.0)
    decide("stones: share of the fact's memorisation", column("stones, share of memorisation"), above=HALF)
    report("rank correlation without shuffled texts", column("spearman, without shuffled texts"), below=0.0)
    report("rank correlation within key words", column("within"), below=0.0)
    reduction = "top: median reduction of priming, as large as the paper's"
    report(reduction, column(f"{_name('top', share)}, reduction"), above=HALF)
    report("random: share of priming left", column(random), above=KEPT)
    report("bottom: share of priming left", column(f"{_name('bottom', share)}, priming"), above=KEPT)
    stones = pairs("stones, log priming", "paraphrase, log priming")
    report("stones minus paraphrase, log priming", stones, below=0.0)
    another = pairs("text, log priming, another theme", "text, log priming")
    report("another theme minus the own, log priming", another, below=0.0)


def tuned(every: int) -> tuple[float, float, dict[str, Any]]:
    """The learning rate and the share of the change to ignore, chosen on the tuning seed, and what was seen there.

    The rate is the first at which the key word is known, else the largest. The share is the largest that keeps
    memorisation with something to spare. Where none does it is the smallest, which then does not meet the rule that the
    claim states; a check records that.
    """
    known: dict[float, float] = {}
    for rate in RATES:
        primings = results_of(TUNING_SEED, rate, SHARES[-1], every)
        known[rate] = math.exp(mean([one.after.own for one in primings["text"]]) or -math.inf)
        if known[rate] >= KNOWN:
            break
    kept = {share: _left("", primings["text"], primings[_name("top", share)])[", memorisation"] for share in SHARES}
    share = max((share for share, left in kept.items() if (left or 0.0) >= SPARE), default=SHARES[0])
    return rate, share, {"probability of the key word by rate": known, "memorisation kept by share": kept}


def results_of(seed: int, rate: float, share: float, every: int = 1) -> dict[str, list[Priming]]:
    """Each text's priming, by what was learned: the text itself, a cured change, a rewrite, or background alone."""
    world = make_world(seed)
    model = learned(world, seed, steps=STEPS)
    background, options = world.corpus[:BACKGROUND], LEARNING | {"seed": seed, "learning_rate": rate}
    chosen = some_of(world.texts, every)
    texts = [text.sample for text in chosen]
    primings: dict[str, list[Priming]] = {}
    for one in study(model, texts, world.prefixes, background, cures=cures(seed, share), **options):
        primings.setdefault(one.cure or "text", []).append(one)
    rewrites = {"stones": [text.stones for text in chosen], "paraphrase": [text.paraphrase for text in chosen]}
    for name, samples in rewrites.items():
        primings[name] = rewritten(model, world, texts, samples, options)
    primings["in context"] = in_context(model, texts, world.prefixes)
    with restored(model):
        primings["background alone"] = _background_alone(model, world, texts, options)
    return primings


def rewritten(
    model: Any, world: OddWorld, texts: Sequence[Sample], rewrites: Sequence[Sample], options: dict[str, Any]
) -> list[Priming]:
    """Learn each text's rewrite, and ask for the fact after the text's own prefix: not the rewrite's."""
    before, found = read_samples(model, texts, world.prefixes), []
    with restored(model) as (weights, put):
        for text, rewrite, reading in zip(texts, rewrites, before, strict=True):
            put(weights)
            learn_text(model, rewrite.text, world.corpus[:BACKGROUND], **options)
            found.append(Priming(text, reading, read_samples(model, [text], world.prefixes)[0], "rewritten"))
    return found


def cures(seed: int, share: float) -> dict[str, Cure]:
    """Masks of the weights' change by name: the top at several shares, two controls at one, and the change scaled."""

    def cure(share: float, ignore: Ignored) -> Cure:
        return lambda before, after: diluted(
            before, after, share, ignore, generator=torch.Generator().manual_seed(seed)
        )

    def scaled(scale: float) -> Cure:
        return lambda before, after: {name: old.lerp(after[name], scale) for name, old in before.items()}

    made = {_name("top", one): cure(one, "top") for one in SHARES} | {f"scaled {one}": scaled(one) for one in SCALES}
    return made | {_name("random", share): cure(share, "random"), _name("bottom", share): cure(share, "bottom")}


def _name(ignore: str, share: float) -> str:
    return f"{ignore} {share:.1%}"


def _background_alone(model: Any, world: OddWorld, texts: Sequence[Any], options: dict[str, Any]) -> list[Priming]:
    """The control without an odd text: one run of equally many steps on plain sentences, read for every text."""
    before = read_samples(model, texts, world.prefixes)
    learn_text(model, world.corpus[BACKGROUND], world.corpus[:BACKGROUND], **options)
    after = read_samples(model, texts, world.prefixes)
    return [Priming(*one, "background alone") for one in zip(texts, before, after, strict=True)]


def summary(seed: int, primings: Primings, share: float) -> dict[str, Any]:
    """One seed in numbers: the prediction, and the shares of priming and memorisation that each cure leaves."""
    prediction, in_prompt = predict(primings["text"]), predict(primings["in context"])
    row: dict[str, Any] = {
        "seed": seed,
        "spearman": prediction.spearman.value,
        "pearson": prediction.pearson,
        "within": prediction.within.value,
        "log priming, P before below 1e-3": prediction.below,
        "log priming, P before above 1e-3": prediction.above,
        "spearman, in context": in_prompt.spearman.value,
    }
    for name, results in primings.items():
        row[f"{name}, log priming"] = mean([one.log_priming for one in results])
        row[f"{name}, log memorisation"] = mean([one.log_memorisation for one in results])
        row[f"{name}, log P before"] = mean([one.before.own for one in results])
        row[f"{name}, log P after"] = mean([one.after.own for one in results])
    ordered = [one for one in primings["text"] if one.sample.category != "shuffled"]
    row["spearman, without shuffled texts"] = predict(ordered).spearman.value
    records = [one.to_json() for one in primings["text"]]
    row["text, log priming, another theme"] = mean([one["log priming, another theme"] for one in records])
    row["text, change of probability"] = mean([one["mean change of probability"] for one in records])
    for name in cures(seed, share):
        row |= _left(name, primings["text"], primings[name])
    row["spearman, background alone"] = predict(primings["background alone"]).spearman.value
    row["scaled, priming"] = at_memorisation(row, row[f"{_name('top', share)}, memorisation"])
    row["stones, share of memorisation"] = _left("", primings["text"], primings["stones"])[", memorisation"]
    return row


def at_memorisation(row: Mapping[str, Any], kept: float | None) -> float | None:
    """The share of priming that the scaled change leaves where it leaves this share of memorisation, interpolated."""
    points = [(1.0, 1.0), *((row[f"scaled {one}, memorisation"], row[f"scaled {one}, priming"]) for one in SCALES)]
    if kept is None or any(None in point for point in points):
        return None
    memorisation, priming = np.array(sorted(points)).T
    return float(np.interp(kept, memorisation, priming))


def _left(name: str, plain: Sequence[Priming], cured: Sequence[Priming]) -> dict[str, float | None]:
    """Shares of the mean logarithms that a cure leaves, and the median reduction of S_prime among texts that prime."""
    pairs = list(zip(plain, cured, strict=True))
    reductions = sorted(1 - math.exp(b.log_priming - a.log_priming) for a, b in pairs if a.log_priming > 0)
    return {
        f"{name}, priming": _share([a.log_priming for a, _ in pairs], [b.log_priming for _, b in pairs]),
        f"{name}, memorisation": _share([a.log_memorisation for a, _ in pairs], [b.log_memorisation for _, b in pairs]),
        f"{name}, reduction": reductions[len(reductions) // 2] if reductions else None,
    }


def _share(whole: Sequence[float], part: Sequence[float]) -> float | None:
    return sum(part) / sum(whole) if sum(whole) > 0 else None


def figures(seeds: Mapping[int, Primings], rows: Sequence[Mapping[str, Any]], share: float) -> dict[str, str]:
    """Priming over the probability before learning, the shares left over the share ignored, and the cures."""
    points = sorted((one.before.own, one.log_priming) for primings in seeds.values() for one in primings["text"])
    tenths = [tuple(np.mean(part, 0).tolist()) for part in np.array_split(np.array(points), 10)]
    left = {
        kind: [(one, mean([row[f"{_name('top', one)}, {kind}"] for row in rows]) or 0.0) for one in SHARES]
        for kind in ("priming", "memorisation")
    }
    groups = {
        kind: {
            name: estimate_mean([row[f"{name}, {kind}"] for row in rows])
            for name in ("text", _name("top", share), _name("random", share), "stones", "paraphrase")
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
