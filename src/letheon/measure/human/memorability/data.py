"""Advertisements with memorability scores: prompts, LAMBDA's files, features.

Paper:   Si et al., Long-Term Ad Memorability, arXiv 2309.00378; behavior-in-the-wild/ad-memorability for the files.
Differs: the text of the prompt's instruction is ours where content is given as records; LAMBDA's own prompts are used
         as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows
from letheon.measure.asking.templates import Template
from letheon.measure.human.scenes import Captioner, Content, read_content, verbalised

PROMPT = Template(
    "memorability",
    "1",
    "Students are shown ads and their memorability is tested after 1 to 3 days. For the given ad: {ad}\n"
    "Return the long term memorability score of the video on a scale of 00 to 99 without any explanation.",
)
IMAGE = re.compile(r"\s*<(image|video)>\s*")
POSITIVE = (
    "achievement",
    "amazing",
    "best",
    "comforting",
    "excellent",
    "fun",
    "gift",
    "happy",
    "joy",
    "love",
    "success",
)
NEGATIVE = ("alone", "angry", "bad", "broken", "dirty", "disease", "fear", "injury", "murder", "sad", "scare", "ugly")
FEATURES = ("duration", "scenes", "pace", "speech", "positive", "negative", "text shown", "words")


@dataclass(frozen=True)
class Ad:
    """An advertisement with its score.

    Attributes:
        prompt: what a model is asked.
        text: the verbalised ad alone, for baselines.
        brand: by which folds are split.
        score: memorability, 0 to 99.
    """

    id: str
    prompt: str
    text: str
    brand: str
    score: float


def describe(item: Content, scenes: int = 0) -> str:
    """Return an ad in words: length, brand, title, orientation, pace, speech, scenes; `scenes` above 0 cuts them."""
    length = f"a {item.duration:g} second" if item.duration is not None else "an"
    shot = [
        f"in {item.orientation} orientation" if item.orientation else "",
        f"at a {item.pace} pace" if item.pace else "",
    ]
    parts = [
        f"They watch {length} advertisement{f' for {item.brand}' if item.brand else ''}.",
        f'The title of the advertisement is "{item.title}".' if item.title else "",
        f"The ad is shot {', '.join(filter(None, shot))}." if any(shot) else "",
        f"The audio in the ad says {item.asr}" if item.asr else "",
        "Following are the descriptions of each scene:" if item.scenes else "",
        *(verbalised(one, n) for n, one in enumerate(item.scenes[: scenes or None], start=1)),
    ]
    return " ".join(filter(None, parts))


def read_ads(source: str, scenes: int = 0, captioner: Captioner | None = None) -> list[Ad]:
    """Read ads with scores.

    Args:
        source: content records (see `letheon.measure.human.scenes`), or the folder of LAMBDA's files bs_test_q.json and
            bs_test_a.json.
        scenes: scenes per ad that enter the prompt; 0 takes all.
        captioner: describes images of scenes without a caption.

    Raises:
        InputError: an ad without a score between 0 and 99, questions without answers, or no ads.
    """
    if Path(source).is_dir():
        ads = _lambda_ads(Path(source))
    else:
        ads = [made_ad(item, scenes, f"{source}, {item.id}") for item in read_content(source, captioner)]
    if len(ads) < 2:
        raise InputError(f"{source} holds {len(ads)} ads", "give at least two")
    return ads


def made_ad(item: Content, scenes: int = 0, where: str = "") -> Ad:
    """Return a content record as an ad.

    Raises:
        InputError: it has no memorability between 0 and 99.
    """
    if item.memorability is None or not 0 <= item.memorability <= 99:
        raise InputError(f"{where}, field 'memorability': found {item.memorability}", "give a number from 0 to 99")
    text = describe(item, scenes)
    return Ad(item.id, PROMPT.fill(ad=text), text, item.brand, item.memorability)


def _lambda_ads(folder: Path) -> list[Ad]:
    rows = {name: read_rows(str(folder / f"bs_test_{name}.json")) for name in ("q", "a")}
    answers = {str(row["question_id"]): _number(row["answer"]) for _, row in rows["a"]}
    ads = []
    for number, row in rows["q"]:
        key = str(row["question_id"])
        if answers.get(key) is None:
            raise InputError(
                f"{folder}/bs_test_q.json, row {number}: question {key} has no answer", "see bs_test_a.json"
            )
        prompt = IMAGE.sub("", str(row["question"]))
        brand = re.search(r"advertisement for (.+?)\. The title", prompt) or re.search(
            r"advertisement for (\w+)", prompt
        )
        ads.append(Ad(key, prompt, prompt, brand.group(1) if brand else key, answers[key] or 0.0))
    return ads


def _number(text: Any) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,2}", str(text).strip()) else None


def features(texts: Sequence[str]) -> Float[np.ndarray, "ads features"]:
    """Compute hand features of verbalised ads, in the order of `FEATURES`."""
    return np.array([[*_features(text).values()] for text in texts], dtype=float)


def _features(text: str) -> Mapping[str, float]:
    words = re.findall(r"[a-z]+", text.lower())
    duration = re.search(r"a ([\d.]+) second", text)
    pace = re.search(r"at an? (low|medium|high) pace", text)
    return {
        "duration": float(duration.group(1)) if duration else 0.0,
        "scenes": float(len(re.findall(r"Scene \d+:", text))),
        "pace": float(("low", "medium", "high").index(pace.group(1)) if pace else 1),
        "speech": float("The audio in the ad says" in text),
        "positive": float(sum(word in POSITIVE for word in words)),
        "negative": float(sum(word in NEGATIVE for word in words)),
        "text shown": float(text.count("The text shown in the scene is")),
        "words": float(len(words)),
    }
