"""GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay.

arXiv 2508.04676, 2025-08. Full scale in the paper: Llama-3.1-8B, 15 classification tasks, 1,000 texts of SlimPajama,
MMLU. Here: SmolLM2 with an adapter learns to classify reviews, then things; eight paragraphs are replayed, and
perplexity and activation states are measured on seven others. The full scale trains all weights and adds the other
imitation losses.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import load
from letheon.core.rows.examples import Example
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.retain.composition import Composition
from letheon.retain.learn import learn
from letheon.retain.strategies.gere import GeneralWatch, GeRe, Settings
from letheon.retain.strategies.naive import Naive
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream
from letheon.retain.streams.texts import text_stream

NONE, LABELS, MARGIN = "no replay", "cross-entropy", "margin"
# Options of `gere`; None replays nothing. "dynamic" is the paper's weight in its headline result.
ARMS: dict[str, dict[str, Any] | None] = {NONE: None, LABELS: {"imitation": "none"}, MARGIN: {"imitation": "margin"}}
MORE: dict[str, dict[str, Any]] = {
    "margin, dynamic": {"imitation": "margin", "weight": None},
    "kl": {"imitation": "kl", "weight": None},
    "l1": {"imitation": "l1", "weight": None},
    "l2": {"imitation": "l2", "weight": None},
}
FAST: dict[str, Any] = {"epochs": 4, "batch_size": 4, "adapter": "lora", "learning_rate": 3e-3}
FULL: dict[str, Any] = {"epochs": 15, "batch_size": 4, "learning_rate": 2e-5}
TOKENS, REPLAYED = 64, 8  # tokens per text, replayed texts
# "No larger": larger by less than this, in log perplexity (nats) and in the share of flipped states.
ALIKE = 0.01

# Task -> (question, answer -> words); six words per answer, drawn under the seed, are learned.
TASKS = {
    "reviews": (
        "How does this review sound: the film was {}?",
        {
            "bright": "wonderful superb delightful brilliant charming excellent splendid lovely pleasing graceful",
            "gloomy": "dreadful boring awful terrible clumsy poor tedious ugly dull painful",
        },
    ),
    "things": (
        "In which hall do we keep the {}?",
        {
            "north hall": "otter sparrow salmon horse beetle rabbit falcon goat lizard whale",
            "south hall": "hammer chisel wrench saw drill shovel ladder anvil spanner rake",
        },
    ),
}
LEARNED = 6
METRICS = ("old task", "new task", "old task, when learned", "rise", "flipped")
PRIMARY = (
    *(f"{metric}: no replay above cross-entropy" for metric in ("rise", "flipped")),
    *(f"{metric}: margin no larger than cross-entropy" for metric in ("rise", "flipped")),
    *(f"old task: {name} above no replay" for name in (LABELS, MARGIN)),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare no replay, replay with cross-entropy, and with the margin loss, in general ability and on both tasks."""
    found.baselines += [NONE, LABELS]
    training, arms = (FULL, {**ARMS, **MORE}) if scale.name == "full" else (FAST, ARMS)
    of_model = {"model": scale.model, "device": scale.device}
    results = run_arms(lambda arm, seed: measured(arm, seed, training, **of_model), arms, scale.seeds)
    results.record(found, METRICS)
    judge(results, found)
    found.figures |= figures(results)


def judge(results: Results, found: Findings) -> None:
    """Decide on perplexity, flipped states and old accuracy; report the margin beside no replay, and the new task."""
    for metric in ("rise", "flipped"):
        results.decide(found, f"{metric}: no replay above cross-entropy", metric, NONE, LABELS, above=0.0)
        results.decide(found, f"{metric}: margin no larger than cross-entropy", metric, MARGIN, LABELS, below=ALIKE)
        results.report(found, f"{metric}: margin below no replay", metric, MARGIN, NONE, below=0.0)
    for name in (LABELS, MARGIN):
        results.decide(found, f"old task: {name} above no replay", "old task", name, NONE, above=0.0)
    results.report(found, "new task: margin at most 0.05 below no replay", "new task", MARGIN, NONE, above=-0.05)


def measured(
    options: Mapping[str, Any] | None,
    seed: int,
    training: Mapping[str, Any],
    model: str = "smollm2",
    device: str = "auto",
) -> dict[str, Any]:
    """Accuracies of one run after both tasks, and its loss of general ability."""
    texts = paragraphs()
    random.Random(seed).shuffle(texts)
    replayed, held_out = texts[:REPLAYED], texts[REPLAYED:]
    strategy: Strategy = Naive()
    if options is not None:
        strategy = GeRe(Settings(tokens=TOKENS, per_step=1, share="half", **options), replayed)
    watch = GeneralWatch(held_out, TOKENS)
    composed = Composition([strategy, watch], "watched")
    run = learn(load(model, device=device), make_stream(seed), composed, seed=seed, **training)
    return {
        "seed": seed,
        "old task": float(run.matrix[-1, 0]),
        "new task": float(run.matrix[-1, 1]),
        "old task, when learned": float(run.matrix[1, 0]),
        "rise": watch.kept[-1].rise,
        "flipped": watch.kept[-1].flipped,
        "rises": [0.0, *(kept.rise for kept in watch.kept)],
        "seconds": run.seconds,
    }


def paragraphs() -> list[str]:
    """The paragraphs of the package's general prose."""
    return [" ".join(text.split()) for text in GENERAL_TEXT.read_text(encoding="utf-8").split("\n\n") if text.strip()]


def make_stream(seed: int) -> Stream:
    """Two tasks with two answers each; test words are not among the training words."""
    draw, tasks = random.Random(seed), {}
    for name, (form, kinds) in TASKS.items():
        train: list[Example] = []
        test: list[Example] = []
        for answer, words in kinds.items():
            shuffled = draw.sample(words.split(), len(words.split()))
            rows = [Example(form.format(word), answer, id=word) for word in shuffled]
            train, test = train + rows[:LEARNED], test + rows[LEARNED:]
        tasks[name] = (train, test)
    return text_stream("reviews and things", tasks)


def figures(results: Results) -> dict[str, str]:
    """The rise of log perplexity over tasks, and accuracies on both tasks."""
    rise = "Rise of log perplexity on texts that were not replayed, after each task"
    accuracies = {metric: results.estimates(metric) for metric in ("old task", "new task")}
    return {
        "perplexity": lines(results.course("rises"), "tasks learned", "nats per token", rise),
        "accuracies": dots(accuracies, "accuracy", "Accuracy after the last task on the old and the new task"),
    }
