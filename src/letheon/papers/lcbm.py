"""Large Content And Behavior Models To Understand, Simulate, And Optimize Content And Behavior.

arXiv 2309.00359, 2023-09; ICLR 2024; Khandelwal et al. Full scale in the paper: 40,000 videos, 168 million posts and a
13B model. Here: simulated videos of three scenes, with the middle one's behaviour masked, and posts of one scene, with
all behaviour masked, both with a known law; and a small language model that first learns plain sentences about the same
things, then behaviour instruction tuning in both directions. Scenes are told by what is said in them alone. (Of four
masked scenes at once a model of this size learned nothing in 500 steps.) The control of what is learned is the same
tuning on behaviour of other items, which teaches form and marginals; both have the rate that a seed of their own chose.
The mean replay of scenes of a kind, which knows the larger half of the law, is reported beside. So is the perplexity of
plain text: a model that was trained from nothing a minute before forgets it under any tuning, which says nothing of one
of 13B.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.measure.human.behaviour.baselines import interpolated, replay_errors
from letheon.measure.human.behaviour.simulator import TOPICS, PlantedVideo, simulate_mails, simulate_videos
from letheon.measure.human.behaviour.templates import (
    Question,
    Regime,
    behaviour_question,
    content_question,
    hidden_scenes,
    read_behaviour_answer,
    tuning_rows,
)
from letheon.measure.human.scenes import Content
from letheon.papers.common.small_llama import copy_of, scored, teach, template_llama
from letheon.papers.kit.findings import Columns, Findings, Pairs
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale

ITEMS, TESTED, SCENES = 300, 40, 3  # videos to train on, and as many posts; of each to test on; of a video
STEPS = {"fast": (100, 450), "full": (300, 1500)}  # plain text; behaviour tuning
RATES, TUNING_SEEDS = (2e-3, 4e-3), (100,)
SHAPE = {"layers": 2, "width": 96}
MAILS, MAIL_STEPS = 20, 40
INTERPOLATION = "masked scene: RMSE, tuned minus interpolation of its neighbours"
MEAN = "masked scene: RMSE, tuned minus the mean of all replays"
PERMUTED = "all masked: accuracy, tuned minus tuned on other items' behaviour"
PRIMARY = (INTERPOLATION, MEAN, PERMUTED)
ARMS = ("both", "permuted")
PLACES: dict[str, Regime] = {"masked scene": "random", "all masked": "all"}  # of videos, of posts


@dataclass(frozen=True)
class World:
    """Videos (masked scene) and posts (all masked) of a seed, to train on and to test on."""

    train: Mapping[str, Sequence[Content]]
    test: Mapping[str, Sequence[PlantedVideo]]


def reproduce(scale: Scale, found: Findings) -> None:
    """Tune a small model on behaviour where its law is known."""
    found.baselines += [
        "the mean of all scenes",
        "the mean of scenes of a kind",
        "the same tuning on other items' behaviour",
    ]
    found.baselines += ["the model before tuning", "interpolation of neighbours", "the law without noise", "chance"]
    steps = STEPS[scale.name]
    rates = choose(
        found, dict.fromkeys(ARMS, RATES), lambda arm, rate, seed: tuning_score(arm, rate, seed, *steps), TUNING_SEEDS
    )
    rows = [one_seed(seed, *steps, rates) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on replay values against interpolation, means and permuted behaviour; report the rest."""
    of = Columns(rows)

    def against(metric: str, baseline: str) -> Pairs:
        return of.pairs(f"{metric}, both", f"{metric}, {baseline}")

    found.decide(INTERPOLATION, against("RMSE masked scene", "interpolation"), below=0.0)
    found.decide(MEAN, against("RMSE masked scene", "mean"), below=0.0)
    found.decide(PERMUTED, against("accuracy all masked", "permuted"), above=0.0)
    for place in PLACES:
        for baseline in ("kind", "permuted", "untuned"):
            name = f"{place}: RMSE, tuned minus {baseline}"
            found.report(name, against(f"RMSE {place}", baseline), below=0.0)
    found.report("content choice minus chance", against("content", "chance"), above=0.0)
    found.report("content choice minus tuned on other items' behaviour", against("content", "permuted"), above=0.0)
    for arm, words in (("untuned", "without"), ("permuted", "after other items' behaviour")):
        found.report(f"e-mail rates: error after video behaviour minus {words}", against("mail error", arm), below=0.0)
    found.report("log perplexity of plain text, after tuning minus before", against("log perplexity", "untuned"))
    for place in PLACES:
        for kind in ("both", "permuted", "kind", "mean", "interpolation", "law"):
            found.report(f"RMSE {place}, {kind}", of(f"RMSE {place}, {kind}"))
            found.report(f"accuracy {place}, {kind}", of(f"accuracy {place}, {kind}"))
        found.report(f"read, {place}, both", of(f"read {place}, both"))


def make_items(seed: int) -> World:
    """Draw the items of a seed; what is seen is left out, since it would tell what is said."""
    train, test = {}, {}
    for place, scenes in zip(PLACES, (SCENES, 1), strict=True):
        drawn = [spoken(video) for video in simulate_videos(ITEMS + TESTED, seed + 10_000 * scenes, scenes=scenes)]
        train[place], test[place] = [video.content for video in drawn[:ITEMS]], drawn[ITEMS:]
    return World(train, test)


def spoken(video: PlantedVideo) -> PlantedVideo:
    """Return the video without what is seen in it."""
    scenes = tuple(replace(scene, caption="") for scene in video.content.scenes)
    return replace(video, content=replace(video.content, scenes=scenes))


def rows_of(world: World, arm: str, seed: int) -> list[Example]:
    """The tuning rows of an arm, both directions mixed; videos mask their middle scene, posts all."""
    rows: list[Example] = []
    for place, regime in PLACES.items():
        items = world.train[place]
        rows += tuning_rows(permuted(items, seed) if arm == "permuted" else items, seed, 1, regimes=(regime,))
    random.Random(seed).shuffle(rows)
    return rows


def untuned_model(world: World, seed: int, steps: int) -> LanguageModel:
    """A small model that has learned plain sentences and knows every word of the experiment."""
    plain = plain_text(seed)
    mails = [Example(_mail(text), f"{clicks:.0f}%") for text, clicks in simulate_mails(MAILS, seed)]
    prompts = [question.prompt for place in PLACES for question in questions(world, place, seed)]
    prompts += [_mail(text) for text, _ in simulate_mails(TESTED, seed + 1)]
    vocabulary = [*(row for arm in ARMS for row in rows_of(world, arm, seed)), *mails, *plain]
    model = template_llama(vocabulary, prompts, seed, context=320, **SHAPE)
    teach(model, plain[:-60], seed, steps, title="plain text")
    return model


def tuned(model: LanguageModel, world: World, arm: str, rate: float, seed: int, steps: int) -> LanguageModel:
    """A copy of the model after behaviour tuning."""
    copy = copy_of(model)
    teach(copy, rows_of(world, arm, seed), seed, steps, batch_size=16, learning_rate=rate, title=arm)
    return copy


def tuning_score(arm: str, rate: float, seed: int, plain_steps: int, steps: int) -> float:
    """How near a model comes to the behaviour of the test items: the negative sum of its errors."""
    world = make_items(seed)
    model = tuned(untuned_model(world, seed, plain_steps), world, arm, rate, seed, steps)
    return -sum(replayed(model, world, place, arm, seed)[f"RMSE {place}, {arm}"] for place in PLACES)


def one_seed(seed: int, plain_steps: int, steps: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Train on plain sentences, then on behaviour and on permuted behaviour; measure each."""
    world = make_items(seed)
    models = {"untuned": untuned_model(world, seed, plain_steps)}
    models |= {arm: tuned(models["untuned"], world, arm, rates[arm], seed, steps) for arm in ARMS}
    mails = [Example(_mail(text), f"{clicks:.0f}%") for text, clicks in simulate_mails(MAILS, seed)]
    row: dict[str, Any] = {"seed": seed, "content, chance": 1 / len(TOPICS)}
    for name, model in models.items():
        row[f"log perplexity, {name}"] = log_perplexity(model, plain_text(seed)[-60:])
        row[f"content, {name}"] = chosen(model, world.test["masked scene"], seed)
        for place in PLACES:
            row |= replayed(model, world, place, name, seed)
        learned = copy_of(model)
        teach(learned, mails, seed, MAIL_STEPS, batch_size=16, title="e-mails")
        row[f"mail error, {name}"] = mail_error(learned, simulate_mails(TESTED, seed + 1))
    return row


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
    """Return the mean replay of scenes by what is said in them, and of all under an empty name."""
    values: dict[str, list[float]] = {}
    for scene in (scene for item in items for scene in item.scenes if scene.replay is not None):
        for name in ("", scene.asr):
            values.setdefault(name, []).append(scene.replay or 0.0)
    return {said: float(np.mean(own)) for said, own in values.items()}


def plain_text(seed: int, count: int = 400) -> list[Example]:
    """Plain sentences about the same things, without behaviour."""
    draw = random.Random(seed)
    sentences = [f"You see that {seen} and you hear {said}." for _, seen, said in TOPICS.values()]
    return [Example("", " ".join(draw.sample(sentences, 3))) for _ in range(count)]


def _mail(text: str) -> str:
    return f"{text} What is the click through rate?"


def log_perplexity(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Mean negative log-likelihood per token of running text, nats."""
    logp = [answer.logp for answer in scored(model, rows)]
    return -sum(float(one.sum()) for one in logp) / sum(len(one) for one in logp)


def questions(world: World, place: str, seed: int) -> list[Question]:
    """The questions about the test items of a place."""
    draw, items = random.Random(seed), [video.content for video in world.test[place]]
    return [behaviour_question(item, hidden_scenes(len(item.scenes), PLACES[place], draw, window=1)) for item in items]


def replayed(model: LanguageModel, world: World, place: str, name: str, seed: int) -> dict[str, Any]:
    """Error and accuracy of a model's replay values, beside interpolation, means and the law.

    A value that could not be read is wrong, and counts in the error as the mean of all replays.
    """
    means, asked = kind_means(world.train[place]), questions(world, place, seed)
    answers = generate(model, [one.prompt for one in asked], max_new_tokens=24)
    errors: dict[str, list[tuple[float | None, float]]] = {}
    read = []
    for video, one, text in zip(world.test[place], asked, answers, strict=True):
        values, _ = read_behaviour_answer(text, one.hidden)
        read.append(len(values) == len(one.hidden))
        every = dict.fromkeys(one.hidden, means[""])
        predictions = {
            name: every | values,
            "interpolation": interpolated(one.item, one.hidden),
            "mean": every,
            "kind": {n: means[video.content.scenes[n - 1].asr] for n in one.hidden},
            "law": {n: video.law[n - 1] for n in one.hidden},
        }
        for kind, predicted in predictions.items():
            error, right = replay_errors(one.item, predicted, one.hidden)
            errors.setdefault(kind, []).append((error, right if kind != name or read[-1] else 0.0))
    row: dict[str, Any] = {f"read {place}, {name}": float(np.mean(read))}
    for kind, own in errors.items():
        row[f"RMSE {place}, {kind}"] = float(np.mean([error for error, _ in own if error is not None]))
        row[f"accuracy {place}, {kind}"] = float(np.mean([share for _, share in own]))
    return row


def chosen(model: LanguageModel, test: Sequence[PlantedVideo], seed: int) -> float:
    """The share of scenes whose line is chosen among all lines, from replay and channel, by likelihood per token."""
    draw = random.Random(seed)
    lines = [said for _, _, said in TOPICS.values()]
    asked = [content_question(video.content, draw.randint(1, SCENES)) for video in test]
    scored = score_answers(model, [(prompt, lines) for prompt, _ in asked])
    best = [lines[int(np.argmax([float(one.logp.mean()) for one in answers]))] for answers in scored]
    return float(np.mean([line == answer for line, (_, answer) in zip(best, asked, strict=True)]))


def mail_error(model: LanguageModel, mails: Sequence[tuple[str, float]]) -> float:
    """Mean absolute error of click-through rates in points; an unreadable answer counts as 50 %."""
    answers = generate(model, [_mail(text) for text, _ in mails], max_new_tokens=6)
    values = [int(digits) if (digits := "".join(filter(str.isdigit, text))[:3]) else 50 for text in answers]
    return float(np.mean([abs(min(value, 100) - rate) for value, (_, rate) in zip(values, mails, strict=True)]))
