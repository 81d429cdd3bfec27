"""On the Existence and Behaviour of Secondary Attention Sinks.

arXiv 2512.22213, 2025-12. Full scale in the paper: eleven families of models up to 32B, on their own long answers to
competition problems. Here: SmolLM2 on pieces of a text, one per seed, in which sinks of several strengths are planted
in a layer within the window of the first token's sink, beside random directions of the same norms. Any large addition
draws some attention and lasts for some layers, so what decides is what a sink's direction adds to that. How many
secondary sinks the model has by itself, and what the detector says of planted ones, is reported and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import rank_correlation
from letheon.papers.kit.findings import Findings, Threshold, mean
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.secondary_sinks.detect import layer_window
from letheon.probe.secondary_sinks.planting import Planted, plant_and_measure
from letheon.probe.secondary_sinks.report import SinkSettings, cut_texts, look_at

# The parts that decide, named before any run. That a planted direction is near itself and a random one is not holds by
# construction: it is only reported.
PRIMARY = (
    "attention on a planted sink minus that on a random direction of the same norm",
    "attention of the first token beside a random direction minus that beside a planted sink",
    "rise of attention from the weakest to the strongest sink, minus that of random directions",
    "layers that a weak sink lasts along itself, minus those of a random direction",
)
BESIDE = (
    "strong planted sinks that are found",
    "random directions that are found",
    "rank correlation of strength and attention, sinks",
    "rank correlation of strength and attention, random directions",
    "rank correlation of strength and lifetime, sinks",
    "rank correlation of strength and lifetime along itself, random directions",
    "secondary sinks",
    "primary-like sinks",
)
# Shares of the first token's norm; the weak ones are those whose lifetime is compared, the strong ones whose attention.
WEAK, STRONG = (0.02, 0.03, 0.05), (0.3, 1.0)
DRAWS = 2  # random directions per strength


def reproduce(scale: Scale, found: Findings) -> None:
    """Plant sinks in one piece of text per seed, and see how strong and how lasting they are."""
    found.baselines += ["random directions of equal norm"]
    model = load(scale.model, device=scale.device)
    pieces = pieces_of(model, GENERAL_TEXT.read_text(encoding="utf-8"), len(scale.seeds))
    rows = [measured(model, seed, ids) for seed, ids in zip(scale.seeds, pieces, strict=True)]
    results = Results({"planted": rows})
    results.record(found)
    results.judge(found, "planted", dict.fromkeys(PRIMARY, Threshold(above=0.0)), BESIDE)


def pieces_of(model: LanguageModel, text: str, count: int) -> list[torch.Tensor]:
    """Cut a text into as many pieces of equal length, so that no two seeds see the same words."""
    length = len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) // count
    return cut_texts(model, text, length, count)


def measured(model: LanguageModel, seed: int, ids: torch.Tensor) -> dict[str, Any]:
    """Plant sinks and random directions in the middle of one text, a third into the window."""
    seen = look_at(model, ids, SinkSettings(tokens=ids.shape[1]))
    window = layer_window(seen.profile.norms[:, seen.profile.first])
    layer, place = window[0] + (window[1] - window[0]) // 3, ids.shape[1] // 2

    def plant(strength: float, draw: int | None = None) -> Planted:
        random_seed = None if draw is None else stream_seed(seed, f"direction {draw} of strength {strength}")
        return plant_and_measure(
            model, ids, layer, place, strength, random_seed=random_seed, window=window, plain=seen.profile
        )

    strengths = (*WEAK, *STRONG)
    sinks = [plant(one) for one in strengths]
    random = [[plant(one, draw) for one in strengths] for draw in range(DRAWS)]
    labels = Counter(one.label for one in seen.sinks)
    return {"seed": seed, **summary(sinks, random), BESIDE[6]: labels["secondary"], BESIDE[7]: labels["primary"]}


def summary(sinks: Sequence[Planted], random: Sequence[Sequence[Planted]]) -> dict[str, float | None]:
    """The values of one text: of the sinks by strength, beside means over draws of random directions."""
    strengths = [one.strength for one in sinks]
    strong = [i for i, one in enumerate(strengths) if one in STRONG]
    weak = [i for i, one in enumerate(strengths) if one in WEAK]

    def gap(which: Sequence[int], of: str) -> float:
        """Sinks minus random directions."""
        ours = mean(getattr(sinks[i], of) for i in which)
        theirs = mean(getattr(draw[i], of) for draw in random for i in which)
        return float(ours or 0.0) - float(theirs or 0.0)

    def follows(planted: Sequence[Planted], of: str) -> float:
        """A quantity that does not change with the strength has correlation 0."""
        return rank_correlation(strengths, [getattr(one, of) for one in planted]).value or 0.0

    first, last = strengths.index(min(strengths)), strengths.index(max(strengths))
    values = (
        gap(strong, "score"),
        -gap(strong, "first_score"),
        gap([last], "score") - gap([first], "score"),
        gap(weak, "persistence"),
        mean(sinks[i].found for i in strong),
        mean(one.found for draw in random for one in draw),
        follows(sinks, "score"),
        mean(follows(draw, "score") for draw in random),
        follows(sinks, "lifetime"),
        mean(follows(draw, "persistence") for draw in random),
    )
    return dict(zip((*PRIMARY, *BESIDE[:6]), values, strict=True))
