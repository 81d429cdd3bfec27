"""Simulated ads with a planted law of memorability: a scorer must come near the noise ceiling (positive control)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from letheon.measure.human.scenes import Content, Scene

BRANDS = tuple(f"{first}{last}" for first in ("Nor", "Vel", "Kas", "Tru", "Om") for last in ("ra", "via", "tix", "do"))
EMOTIONS = {"joy": 8.0, "success": 4.0, "fear": 12.0, "scare": 10.0, "calm": -6.0, "bad": 2.0, "plain": -12.0}
OBJECTS = {"dog": 8.0, "car": 0.0, "baby": 10.0, "office": -8.0, "phone": -2.0, "lion": 6.0, "table": -6.0}
PACES = {"low": -4.0, "medium": 0.0, "high": 4.0}
BRAND_SPREAD, NOISE = 6.0, 8.0  # standard deviations in points of the score


@dataclass(frozen=True)
class PlantedAd:
    """A simulated ad, its score with noise, and the score that the law gives without."""

    content: Content
    law: float


def simulate_ads(count: int, seed: int, scenes: int = 2) -> list[PlantedAd]:
    """Draw ads: 50 + brand + pace + mean over scenes of emotion and object + noise, clipped to 0 to 99."""
    draw = np.random.default_rng(seed)
    brand_effect = dict(zip(BRANDS, draw.normal(0, BRAND_SPREAD, len(BRANDS)), strict=True))
    ads = []
    for number in range(count):
        brand, pace = str(draw.choice(BRANDS)), str(draw.choice(list(PACES)))
        feelings = [str(draw.choice(list(EMOTIONS))) for _ in range(scenes)]
        objects = [str(draw.choice(list(OBJECTS))) for _ in range(scenes)]
        law = 50 + brand_effect[brand] + PACES[pace]
        law += float(np.mean([EMOTIONS[f] + OBJECTS[o] for f, o in zip(feelings, objects, strict=True)]))
        score = float(np.clip(law + draw.normal(0, NOISE), 0, 99))
        made = tuple(Scene(caption=f"a {o}", emotions=(f,)) for f, o in zip(feelings, objects, strict=True))
        ads.append(PlantedAd(Content(f"ad-{number}", made, brand=brand, pace=pace, memorability=score), law))
    return ads


def law_of(text: str) -> float:
    """Return the score that the law gives a text for its pace, emotions and objects, the brand left out.

    It is an oracle that was fitted on nothing.
    """
    words = re.findall(r"[a-z]+", text.lower())
    feelings, objects = ([table[w] for w in words if w in table] for table in (EMOTIONS, OBJECTS))
    pace = re.search(r"at a (low|medium|high) pace", text)
    means = sum(float(np.mean(values)) for values in (feelings, objects) if values)
    return 50.0 + means + (PACES[pace.group(1)] if pace else 0.0)
