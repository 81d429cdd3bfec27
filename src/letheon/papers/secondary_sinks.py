"""On the Existence and Behaviour of Secondary Attention Sinks.

arXiv 2512.22213, 2025-12. Full scale in the paper: eleven families of models up to 32B, on their own long answers to
competition problems. Here: SmolLM2 on pieces of a text, one per seed, in which sinks of several strengths are planted
in a layer within the window of the first token's sink, beside random directions of the same norm. How many secondary
sinks the model has by itself, and what the detector says of planted ones, is reported and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import LanguageModel, load
from letheon.core.statistics import rank_correlation
from letheon.papers.kit.findings import Findings, Threshold
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.secondary_sinks.detect import layer_window
from letheon.probe.secondary_sinks.planting import Planted
from letheon.probe.secondary_sinks.report import SinkSettings, cut_texts, look_at, plant_all

# The parts that decide, named before any run. That a planted direction is near itself and a random one is not holds by
# construction: it is only reported.
PRIMARY = (
    "attention on a planted sink minus that on a random direction of the same norm",
    "attention of the first token beside a random direction minus that beside a planted sink",
    "rank correlation of strength and attention",
    "rank correlation of strength and lifetime",
)
BESIDE = (
    "planted sinks of at least half strength that are found",
    "random directions that are found",
    "layers that a planted sink lasts along itself minus those of a random direction",
    "secondary sinks per text",
)
STRENGTHS = (0.02, 0.1, 0.3, 0.5, 1.0)
TOKENS = {"fast": 160, "full": 512}


def reproduce(scale: Scale, found: Findings) -> None:
    """Plant sinks in one piece of text per seed, and see which are found, how strong and how lasting they are."""
    found.baselines += ["random directions of equal norm"]
    model = load(scale.model, device=scale.device)
    results = Results({"planted": [measured(model, seed, TOKENS[scale.name]) for seed in scale.seeds]})
    results.record(found)
    judge(results, found)


def judge(results: Results, found: Findings) -> None:
    """Decide on the attention that sinks draw and take away, and on both correlations; report what is detected."""
    bounds = [Threshold(above=0.0), Threshold(above=0.0), Threshold(above=0.5), Threshold(above=0.5)]
    for part, bound in zip(PRIMARY, bounds, strict=True):
        found.decide(part, results.column("planted", part), **bound)
    for name in BESIDE:
        found.report(name, results.column("planted", name))


def measured(model: LanguageModel, seed: int, tokens: int) -> dict[str, Any]:
    """Measure one piece of text, chosen by the seed."""
    pieces = cut_texts(model, GENERAL_TEXT.read_text(encoding="utf-8"), tokens, 64)
    settings = SinkSettings(tokens=tokens, strengths=STRENGTHS)
    ids = pieces[seed % len(pieces)]
    seen = look_at(model, ids, settings)
    window = layer_window(seen.profile.norms[:, seen.profile.first])
    planted, random = plant_all(model, ids, window, settings)
    labels = Counter(one.label for one in seen.sinks)
    return {"seed": seed, **summary(planted, random), BESIDE[3]: labels["secondary"], "primary": labels["primary"]}


def summary(planted: list[Planted], random: list[Planted]) -> dict[str, float]:
    """The values of one text; a quantity that does not change with the strength has correlation 0.

    Attention and persistence are compared at half strength and more.
    """
    strong = [(a, b) for a, b in zip(planted, random, strict=True) if a.strength >= 0.5]
    strengths = [one.strength for one in planted]
    score = rank_correlation(strengths, [one.score for one in planted]).value or 0.0
    life = rank_correlation(strengths, [one.lifetime for one in planted]).value or 0.0
    drawn = sum(a.score - b.score for a, b in strong) / len(strong)
    lost = sum(b.first_score - a.first_score for a, b in strong) / len(strong)
    shares = sum(a.found for a, _ in strong) / len(strong), sum(one.found for one in random) / len(random)
    lasting = sum(a.persistence - b.persistence for a, b in strong) / len(strong)
    return dict(zip((*PRIMARY, *BESIDE[:3]), (drawn, lost, score, life, *shares, lasting), strict=True))
