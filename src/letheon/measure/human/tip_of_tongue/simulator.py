"""Simulated films and recalls with planted salience [inferred]: scenes that move or stand out are remembered.

A recall keeps scene k with probability sigmoid(2 (s_k - median)), s = 1.5 emotion + distinctiveness + 0.5 (shown text)
+ noise, and tells what it keeps in any order; a kept detail is false with probability `false`, words are exchanged for
synonyms, the year is blurred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from letheon.measure.human.scenes import Content, Scene
from letheon.measure.human.tip_of_tongue.data import Post

OBJECTS = {
    "sailor": "seaman", "violin": "fiddle", "locomotive": "train engine", "physician": "doctor", "automobile": "car",
    "serpent": "snake", "lantern": "lamp", "cottage": "small house", "thief": "burglar", "monarch": "king",
    "balloon": "airship", "puppet": "marionette", "wolf": "wild dog", "dagger": "knife", "telescope": "spyglass",
    "robot": "android", "ghost": "spirit", "infant": "baby", "piano": "keyboard", "statue": "sculpture",
}  # fmt: skip
PLACES = {
    "forest": "woods", "harbour": "port", "attic": "loft", "desert": "dunes", "cathedral": "church",
    "laboratory": "lab",
    "meadow": "grassland", "prison": "jail", "castle": "fortress", "cave": "grotto",
}  # fmt: skip
COLOURS = ("crimson", "golden", "violet", "silver", "green", "white", "black", "orange")
EMOTIONS = {"calm": 0.0, "bored": 0.0, "curious": 0.3, "sad": 0.7, "terrified": 1.0, "joyful": 0.8}
LINES = {
    "never come back here": "do not return",
    "I have always known you": "we met before",
    "the stars are wrong": "the sky is off",
}
SIGNS = ("MIDNIGHT", "NO EXIT", "ROOM NINE", "ORION", "THE END", "PLATFORM SIX")
GENRES = {"Drama": 0.0, "Horror": 0.2, "Comedy": -0.2, "Documentary": 0.8}  # effect on the log of hours to the answer
HEDGES = ("I saw it as a child.", "I think it was on television.", "Maybe I mix it up with another one.")
FALSE_COST, POPULAR_GAIN = 3.0, 0.3  # on the log of hours: by the share of false details, by log10 views


@dataclass(frozen=True)
class Film:
    """A simulated film with its planted salience by scene, standardised."""

    content: Content
    salience: tuple[float, ...]


def simulate_films(count: int, seed: int, scenes: int = 7) -> list[Film]:
    """Draw films; distinctiveness is the inverse frequency of the scene's object."""
    draw = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(OBJECTS) + 1) ** 0.7
    weights /= weights.sum()
    films = []
    for number in range(count):
        made, salience = [], []
        for _ in range(scenes):
            thing = int(draw.choice(len(OBJECTS), p=weights))
            emotion = str(draw.choice(list(EMOTIONS)))
            sign = str(draw.choice(SIGNS)) if draw.random() < 0.3 else ""
            line = str(draw.choice(list(LINES))) if draw.random() < 0.3 else ""
            caption = f"a {draw.choice(COLOURS)} {list(OBJECTS)[thing]} in a {draw.choice(list(PLACES))}"
            made.append(Scene(caption, line, sign, (emotion,)))
            rare = -math.log(weights[thing]) / -math.log(weights[-1])
            salience.append(1.5 * EMOTIONS[emotion] + rare + 0.5 * bool(sign) + draw.normal(0, 0.2))
        standard = (np.array(salience) - np.mean(salience)) / (np.std(salience) + 1e-9)
        year, genre = int(draw.integers(1960, 2020)), str(draw.choice(list(GENRES)))
        content = Content(
            f"film-{number}", tuple(made), title=f"Film {number}", date=str(year), genre=genre,
            views=float(10 ** draw.normal(5, 1)),
        )  # fmt: skip
        films.append(Film(content, tuple(float(value) for value in standard)))
    return films


def simulate_posts(
    films: list[Film], seed: int, per_film: float = 2.0, false: float = 0.15, salient: bool = True
) -> list[Post]:
    """Draw solved posts; popular films have more of them, and false details make them harder to answer.

    Args:
        salient: salient scenes are remembered; otherwise every scene as often, which is the control.
    """
    draw = np.random.default_rng(seed)
    posts: list[Post] = []
    for film in films:
        popular = math.log10(film.content.views or 1.0) - 5.0
        for _ in range(1 + int(draw.poisson(per_film * math.exp(0.3 * popular)))):
            text, wrong = _recalled(film, draw, false, salient)
            hours = math.exp(
                1.5 + GENRES[film.content.genre] + FALSE_COST * wrong - POPULAR_GAIN * popular + draw.normal(0, 0.5)
            )
            posts.append(Post(f"post-{len(posts)}", film.content.id, text, 0.0, 3600 * hours))
    return posts


def _recalled(film: Film, draw: np.random.Generator, false: float, salient: bool) -> tuple[str, float]:
    """Return a recall and the share of its details that are false."""
    weight = 2.0 if salient else 0.0
    chance = 1 / (1 + np.exp(-weight * np.array(film.salience)))
    least = int(np.argmax(film.salience)) if salient else int(draw.integers(len(chance)))
    kept = draw.permutation([k for k, p in enumerate(chance) if draw.random() < p] or [least]).tolist()
    year = round(int(film.content.date) + draw.normal(0, 6)) // 10 * 10
    parts, wrong, details = [f"Looking for a {film.content.genre.lower()} from the {year}s."], 0, 0
    for k in kept:
        scene = film.content.scenes[k]
        words = scene.caption.split()
        told = [words[1], words[2], words[-1]]
        tables: list[list[str]] = [list(COLOURS), list(OBJECTS), list(PLACES)]
        for place, table in enumerate(tables):
            details += 1
            if draw.random() < false:
                told[place], wrong = str(draw.choice(table)), wrong + 1
        synonyms = {**OBJECTS, **PLACES}
        told = [synonyms[one] if one in synonyms and draw.random() < 0.6 else one for one in told]
        parts.append(f"There was a {told[0]} {told[1]} in some {told[2]} and I felt {scene.emotions[0]}.")
        if scene.ocr and draw.random() < 0.6:
            parts.append(f"It said {scene.ocr.lower()} somewhere.")
        if scene.asr and draw.random() < 0.6:
            parts.append(f'Somebody says "{LINES[scene.asr] if draw.random() < 0.5 else scene.asr}".')
    parts.append(str(draw.choice(HEDGES)))
    return " ".join(parts), wrong / max(1, details)
