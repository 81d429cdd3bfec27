"""Simulated videos with a known law of behaviour: topic and channel set the level, smooth noise the rest.

replay_k = 50 + topic_k + channel + AR(1) noise, clipped to 0 to 100; likes% = 1 + mean replay / 20 + channel's warmth.
A second behaviour, the click-through rate of an e-mail, follows the same topics: the target of domain adaptation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from letheon.measure.human.scenes import Content, Scene

# topic -> effect on the replay, what is seen, what is said
TOPICS: dict[str, tuple[float, str, str]] = {
    "goal": (25.0, "players cheer", "what a goal"),
    "price": (-20.0, "a price tag", "only nine euros"),
    "joke": (18.0, "people laugh", "that is funny"),
    "logo": (-28.0, "a logo", "brought to you by us"),
    "recipe": (8.0, "hands mix dough", "now add the flour"),
    "crash": (30.0, "a car crashes", "watch out"),
    "talk": (-12.0, "a man talks", "let me explain"),
    "view": (0.0, "a wide valley", "here we are"),
}
CHANNELS: dict[str, tuple[float, float]] = {"Alto": (10.0, 1.0), "Brio": (-10.0, 0.0), "Cantor": (0.0, 2.0)}
SMOOTH, NOISE = 0.6, 6.0


@dataclass(frozen=True)
class PlantedVideo:
    """A simulated video and the replays that the law gives without noise."""

    content: Content
    law: tuple[float, ...]


def simulate_videos(count: int, seed: int, scenes: int = 5) -> list[PlantedVideo]:
    """Draw videos."""
    draw = np.random.default_rng(seed)
    videos = []
    for number in range(count):
        channel = str(draw.choice(list(CHANNELS)))
        level, warmth = CHANNELS[channel]
        topics = [str(draw.choice(list(TOPICS))) for _ in range(scenes)]
        law = [float(np.clip(50 + TOPICS[topic][0] + level, 0, 100)) for topic in topics]
        noise, values = 0.0, []
        for value in law:
            noise = SMOOTH * noise + draw.normal(0, NOISE * np.sqrt(1 - SMOOTH**2))
            values.append(float(np.clip(round(value + noise), 0, 100)))
        made = tuple(
            Scene(caption=TOPICS[topic][1], asr=TOPICS[topic][2], replay=value)
            for topic, value in zip(topics, values, strict=True)
        )
        likes = 1 + float(np.mean(values)) / 20 + warmth
        content = Content(f"video-{number}", made, channel=channel, views=100_000.0, likes=1000.0 * likes)
        videos.append(PlantedVideo(content, tuple(law)))
    return videos


def simulate_mails(count: int, seed: int) -> list[tuple[str, float]]:
    """Draw e-mails of one topic with their click-through rate in percent, by the same law of topics."""
    draw = np.random.default_rng(seed)
    mails: list[tuple[str, float]] = []
    for _ in range(count):
        topic, channel = str(draw.choice(list(TOPICS))), str(draw.choice(list(CHANNELS)))
        rate = float(np.clip(50 + TOPICS[topic][0] + CHANNELS[channel][0] + draw.normal(0, 3), 0, 100))
        mails.append(
            (f"The mail by {channel} shows {TOPICS[topic][1]} and says {TOPICS[topic][2]}.", float(round(rate)))
        )
    return mails
