"""Large Content And Behavior Models To Understand, Simulate, And Optimize Content And Behavior.

arXiv 2309.00359, 2023-09; ICLR 2024; Khandelwal et al. Full scale in the paper: 40,000 videos, 168 million posts and a
13B model. Here: simulated videos with a known law of behaviour, and a small language model that first learns plain
sentences about the same things, then behaviour instruction tuning in both directions. The control
of what is learned is the same tuning on behaviour of other videos, which teaches form and marginals. The mean replay of
scenes of a kind, which knows the larger half of the law, is reported beside.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.measure.human.behaviour.baselines import interpolated, replay_errors
from letheon.measure.human.behaviour.simulator import TOPICS, PlantedVideo, simulate_mails, simulate_videos
from letheon.measure.human.behaviour.templates import (
    REGIMES,
    Regime,
    behaviour_question,
    content_question,
    hidden_scenes,
    read_behaviour_answer,
    tuning_rows,
)
from letheon.measure.human.scenes import Content
from letheon.papers.common.small_llama import copy_of, teach, template_llama
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale

VIDEOS, TESTED, SCENES, K = 300, 40, 4, 3
STEPS = {"fast": (100, 300), "full": (300, 1200)}  # plain text; behaviour tuning
RATE, SHAPE = 5e-3, {"layers": 2, "width": 96}
MAILS, MAIL_STEPS = 20, 40
INTERPOLATION = "random window: RMSE, tuned minus the better of interpolation and the mean of all replays"
PERMUTED = "all masked: accuracy, tuned minus tuned on other videos' behaviour"
PLAIN = "log perplexity of plain text, after tuning minus before"
PRIMARY = (INTERPOLATION, PERMUTED, PLAIN)
ALIKE = math.log(1.1)  # "keeps": the perplexity rises by less than a tenth


def reproduce(scale: Scale, found: Findings) -> None:
    """Tune a small model on behaviour where its law is known."""
    found.baselines += [
        "the mean of all scenes",
        "the mean of scenes of a kind",
        "the same tuning on other videos' behaviour",
    ]
    found.baselines += ["the model before tuning", "interpolation of neighbours", "the law without noise", "chance"]
    rows = [one_seed(seed, *STEPS[scale.name]) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on replay values against interpolation, means and permuted behaviour, and on plain text."""

    def of(name: str) -> list[Any]:
        return [row[name] for row in rows]

    constant = zip(of("RMSE random, interpolation"), of("RMSE random, mean"), strict=True)
    found.decide(INTERPOLATION, Pairs([min(pair) for pair in constant], of("RMSE random, both")), below=0.0)
    found.decide(PERMUTED, Pairs(of("accuracy all, permuted"), of("accuracy all, both")), above=0.0)
    found.decide(PLAIN, Pairs(of("log perplexity, untuned"), of("log perplexity, both")), below=ALIKE)
    better = Pairs(of("RMSE random, permuted"), of("RMSE random, both"))
    found.report("random window: RMSE, tuned minus tuned on other videos' behaviour", better, below=0.0)
    better = Pairs(of("RMSE random, kind"), of("RMSE random, both"))
    found.report("random window: RMSE, tuned minus the mean of scenes of a kind", better, below=0.0)
    better = Pairs(of("accuracy all, kind"), of("accuracy all, both"))
    found.report("all masked: accuracy, tuned minus the mean of scenes of a kind", better, above=0.0)
    found.report("content choice minus chance", Pairs(of("content, chance"), of("content, both")), above=0.0)
    for arm, words in (("untuned", "without"), ("permuted", "after other videos' behaviour")):
        pairs = Pairs(of(f"mail error, {arm}"), of("mail error, both"))
        found.report(f"e-mail rates: error after video behaviour minus {words}", pairs, below=0.0)
    for regime in REGIMES:
        for kind in ("both", "kind", "mean", "interpolation", "law"):
            found.report(f"RMSE {regime}, {kind}", of(f"RMSE {regime}, {kind}"))
        found.report(f"parsed {regime}, both", of(f"parsed {regime}, both"))


def one_seed(seed: int, plain_steps: int, steps: int, rate: float = RATE) -> dict[str, Any]:
    """Train on plain sentences, then on behaviour and on permuted behaviour; measure each."""
    videos = simulate_videos(VIDEOS, seed, scenes=SCENES)
    train, test = [video.content for video in videos[:-TESTED]], videos[-TESTED:]
    rows = {"both": tuning_rows(train, seed, K), "permuted": tuning_rows(permuted(train, seed), seed, K)}
    told, asked_mails = simulate_mails(MAILS, seed), simulate_mails(TESTED, seed + 1)
    mails = [Example(_mail(text), f"{clicks:.0f}%") for text, clicks in told]
    plain = plain_text(seed)
    prompts = [behaviour_question(v.content, tuple(range(1, SCENES + 1))).prompt for v in test]
    prompts += [_mail(text) for text, _ in asked_mails]
    vocabulary = [*rows["both"], *rows["permuted"], *mails, *plain]
    untuned = template_llama(vocabulary, prompts, seed, context=320, **SHAPE)
    teach(untuned, plain[:-60], seed, plain_steps, title="plain text")
    models = {"untuned": untuned}
    for arm, own in rows.items():
        models[arm] = copy_of(untuned)
        teach(models[arm], own, seed, steps, batch_size=16, learning_rate=rate, title=arm)
    row: dict[str, Any] = {"seed": seed}
    means = kind_means(train)
    for name, model in models.items():
        row[f"log perplexity, {name}"] = log_perplexity(model, plain[-60:])
        for regime in {"both": REGIMES, "permuted": ("random", "all")}.get(name, ()):
            row |= replayed(model, test, regime, name, seed, means)
        tuned = copy_of(model)
        teach(tuned, mails, seed, MAIL_STEPS, batch_size=16, title="e-mails")
        row[f"mail error, {name}"] = mail_error(tuned, asked_mails)
    return row | chosen(models["both"], test, seed)


def permuted(items: Sequence[Content], seed: int) -> list[Content]:
    """Return the items with the replays and likes of other items."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [
        replace(
            item,
            scenes=tuple(replace(a, replay=b.replay) for a, b in zip(item.scenes, items[i].scenes, strict=True)),
            likes=items[i].likes,
        )
        for item, i in zip(items, order, strict=True)
    ]


def kind_means(items: Sequence[Content]) -> dict[str, float]:
    """Return the mean replay of scenes by what is seen in them, and of all under an empty name."""
    values: dict[str, list[float]] = {}
    for scene in (scene for item in items for scene in item.scenes if scene.replay is not None):
        for name in ("", scene.caption):
            values.setdefault(name, []).append(scene.replay or 0.0)
    return {caption: float(np.mean(own)) for caption, own in values.items()}


def plain_text(seed: int, count: int = 400) -> list[Example]:
    """Plain sentences about the same things, without behaviour."""
    draw = random.Random(seed)
    sentences = [f"You see that {seen} and you hear {said}." for _, seen, said in TOPICS.values()]
    return [Example("", " ".join(draw.sample(sentences, 3))) for _ in range(count)]


def _mail(text: str) -> str:
    return f"{text} What is the click through rate?"


def log_perplexity(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Mean negative log-likelihood per token of running text, nats."""
    logp = [answers[0].logp for answers in score_answers(model, [(row.prompt, [row.answer]) for row in rows])]
    return -sum(float(one.sum()) for one in logp) / sum(len(one) for one in logp)


def replayed(
    model: LanguageModel,
    test: Sequence[PlantedVideo],
    regime: Regime,
    name: str,
    seed: int,
    means: Mapping[str, float],
) -> dict[str, Any]:
    """Error and accuracy of a model's replay values in a regime, beside interpolation, means by kind and the law."""
    draw = random.Random(seed)
    asked = [behaviour_question(v.content, hidden_scenes(SCENES, regime, draw, window=K)) for v in test]
    answers = generate(model, [one.prompt for one in asked], max_new_tokens=60)
    errors: dict[str, list[tuple[float | None, float]]]
    errors = {kind: [] for kind in (name, "interpolation", "mean", "kind", "law")}
    parsed = []
    for video, one, text in zip(test, asked, answers, strict=True):
        values, _ = read_behaviour_answer(text, one.hidden)
        parsed.append(len(values) == len(one.hidden))
        law = {n: video.law[n - 1] for n in one.hidden}
        kinds = {n: means[video.content.scenes[n - 1].caption] for n in one.hidden}
        near = interpolated(one.item, one.hidden)
        every = dict.fromkeys(one.hidden, means[""])
        predictions = {name: values, "interpolation": near, "mean": every, "kind": kinds, "law": law}
        for kind, predicted in predictions.items():
            errors[kind].append(replay_errors(one.item, predicted, one.hidden))
    row: dict[str, Any] = {f"parsed {regime}, {name}": float(np.mean(parsed))}
    for kind, own in errors.items():
        read = [error for error, _ in own if error is not None]
        row[f"RMSE {regime}, {kind}"] = float(np.mean(read)) if read else None
        row[f"accuracy {regime}, {kind}"] = float(np.mean([share for _, share in own]))
    return row


def chosen(model: LanguageModel, test: Sequence[PlantedVideo], seed: int) -> dict[str, Any]:
    """Choose what is said in a scene among all lines, by likelihood per token."""
    draw = random.Random(seed)
    lines = [said for _, _, said in TOPICS.values()]
    asked = [content_question(video.content, draw.randint(1, SCENES)) for video in test]
    scored = score_answers(model, [(prompt, lines) for prompt, _ in asked])
    best = [lines[int(np.argmax([float(one.logp.mean()) for one in answers]))] for answers in scored]
    right = [line == answer for line, (_, answer) in zip(best, asked, strict=True)]
    return {"content, both": float(np.mean(right)), "content, chance": 1 / len(lines)}


def mail_error(model: LanguageModel, mails: Sequence[tuple[str, float]]) -> float:
    """Mean absolute error of click-through rates in points; an unreadable answer counts as 50 %."""
    answers = generate(model, [_mail(text) for text, _ in mails], max_new_tokens=6)
    values = [int(digits) if (digits := "".join(filter(str.isdigit, text))[:3]) else 50 for text in answers]
    return float(np.mean([abs(min(value, 100) - rate) for value, (_, rate) in zip(values, mails, strict=True)]))
