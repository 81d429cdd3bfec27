"""Behaviour as text: replay curves, views and likes beside the scenes, with masks, in both directions.

Paper:   Khandelwal et al., Large Content and Behavior Models, arXiv 2309.00359: replay bins are merged by their maximum
         until a scene is longer than a second, values are integers from 0 to 100, masks are the literal [MASK].
Differs: the templates' field order is the paper's, their words are ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from letheon.core.rows.examples import Example
from letheon.measure.asking.templates import Template
from letheon.measure.human.scenes import Content, Scene

MASK = "[MASK]"
Direction = Literal["behaviour", "content"]
Regime = Literal["past", "future", "random", "all"]
REGIMES: tuple[Regime, ...] = ("past", "future", "random", "all")
BEHAVIOUR = Template(
    "behaviour",
    "1",
    "{video}\nWhat are the replay values of scenes {first} to {last}, and the likes as percent of the views?",
)
CONTENT = Template("content", "1", "{video}\nWhat is said in scene {scene}?")
REPLAY = re.compile(r"Scene (\d+):\D{0,12}(\d{1,3})\s*%")
LIKES = re.compile(r"Likes-per-View:\s*(\d+(?:\.\d+)?)\s*%")


def merged_replays(bins: Sequence[float], seconds: float) -> list[int]:
    """Merge a replay graph's bins until each spans more than a second, by the maximum; return integers 0 to 100.

    100 bins of a video of T seconds give floor(100 / ceil(100 / T)) values; what is left over joins the last one.
    """
    width = max(1, -(-len(bins) // max(1, int(seconds))))
    count = max(1, len(bins) // width)
    parts = [bins[i * width : (i + 1) * width if i < count - 1 else None] for i in range(count)]
    return [round(round(max(part), 2) * 100) for part in parts]


def likes_share(item: Content) -> float | None:
    """Return the likes as percent of the views; None where one is missing."""
    return 100 * item.likes / item.views if item.likes is not None and item.views else None


def verbalised_behaviour(
    item: Content, hidden: Collection[int] = (), *, effects: bool = True, silent: Collection[int] = ()
) -> str:
    """Write a video with its behaviour as text.

    Args:
        hidden: numbers of the scenes, from 1, whose replay is masked.
        effects: whether likes are shown; else they are masked.
        silent: numbers of the scenes whose speech is masked.
    """
    lines = [_scene(scene, n, n in hidden, n in silent) for n, scene in enumerate(item.scenes, start=1)]
    share = likes_share(item)
    shown = f"{share:.1f}%" if effects and share is not None else MASK
    by = [f" by {item.channel}" if item.channel else "", f" with the title {item.title}" if item.title else ""]
    by.append(f" on {item.date}" if item.date else "")
    return " ".join(
        ["The video has the following scenes:", *lines, f"It was posted{''.join(by)}.", f"Likes-per-View: {shown}."]
    )


def _scene(scene: Scene, number: int, hidden: bool, silent: bool) -> str:
    fields = [
        f"ASR: {MASK if silent else scene.asr}" if scene.asr or silent else "",
        f"OCR: {scene.ocr}" if scene.ocr else "",
        f"Captions: {scene.caption}" if scene.caption else "",
        f"Replays: {MASK if hidden or scene.replay is None else f'{scene.replay:.0f}'}",
    ]
    return f"Scene {number}: {{{', '.join(filter(None, fields))}}}"


@dataclass(frozen=True)
class Question:
    """A question in the direction from content to behaviour.

    Attributes:
        hidden: scenes whose replays are asked for, numbered from 1, consecutive.
        answer: the true behaviour in the answer's form.
    """

    item: Content
    hidden: tuple[int, ...]
    prompt: str
    answer: str


def hidden_scenes(
    count: int, regime: Regime, draw: random.Random, share: float = 0.2, window: int = 5
) -> tuple[int, ...]:
    """Return which scenes are masked: the first or last ones, a random window, or all.

    Args:
        share: of the scenes, for past and future; at least one.
        window: largest length of the random window.
    """
    some = max(1, round(count * share))
    if regime == "past":
        return tuple(range(1, some + 1))
    if regime == "future":
        return tuple(range(count - some + 1, count + 1))
    if regime == "all":
        return tuple(range(1, count + 1))
    length = min(window, some if some > 1 else 1, max(1, count - 2))
    first = min(2, count)
    start = draw.randint(first, max(first, count - length))  # with a visible neighbour on each side, if it can be
    return tuple(range(start, start + length))


def behaviour_question(item: Content, hidden: tuple[int, ...]) -> Question:
    """Ask for the masked replays and the likes of a video."""
    video = verbalised_behaviour(item, hidden, effects=False)
    prompt = BEHAVIOUR.fill(video=video, first=hidden[0], last=hidden[-1])
    told = [f"Scene {n}: {item.scenes[n - 1].replay or 0:.0f}%" for n in hidden]
    share = likes_share(item)
    return Question(item, hidden, prompt, ", ".join([*told, f"Likes-per-View: {share or 0:.1f}%"]))


def read_behaviour_answer(text: str, hidden: Sequence[int]) -> tuple[dict[int, float], float | None]:
    """Read replay values by scene and the likes from an answer; what is missing or over 100 is left out."""
    values = {int(n): float(value) for n, value in REPLAY.findall(text)}
    likes = LIKES.search(text)
    return (
        {n: values[n] for n in hidden if n in values and values[n] <= 100},
        float(likes.group(1)) if likes else None,
    )


def content_question(item: Content, scene: int) -> tuple[str, str]:
    """Ask for what is said in a scene whose replay is shown; return prompt and answer."""
    video = verbalised_behaviour(item, silent=(scene,))
    return CONTENT.fill(video=video, scene=scene), item.scenes[scene - 1].asr


def tuning_rows(
    items: Sequence[Content],
    seed: int,
    k: int = 5,
    directions: Collection[Direction] = ("behaviour", "content"),
    regimes: Sequence[Regime] = REGIMES,
) -> list[Example]:
    """Make the rows of behaviour instruction fine-tuning; the loss covers the answers only.

    Args:
        k: consecutive replay values that are masked in training ("k-BFT").
        directions: from content to behaviour, from behaviour to content, or both mixed.
        regimes: which scenes are masked, one drawn per item.
    """
    draw, rows = random.Random(seed), []
    for item in items:
        if "behaviour" in directions:
            regime = draw.choice(regimes)
            length = min(k, len(item.scenes))
            hidden = hidden_scenes(len(item.scenes), regime, draw, share=length / len(item.scenes), window=length)
            asked = behaviour_question(item, hidden)
            rows.append(Example(asked.prompt, asked.answer))
        spoken = [n for n, scene in enumerate(item.scenes, start=1) if scene.asr]
        if "content" in directions and spoken:
            rows.append(Example(*content_question(item, draw.choice(spoken))))
    draw.shuffle(rows)
    return rows
