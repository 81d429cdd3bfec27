"""GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay.

arXiv 2508.04676, 2025-08. Full scale in the paper: Llama-3.1-8B, 15 classification tasks, 1,000 texts of SlimPajama,
MMLU. Here: SmolLM2 with an adapter learns to sort reviews, then things; eight paragraphs are replayed, and perplexity
and states are measured on seven others. The full variant moves all weights and adds the other imitations.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import load
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean
from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, means
from letheon.report.figures import dots
from letheon.retain.composition import Composition
from letheon.retain.learn import learn
from letheon.retain.strategies.gere import GeneralWatch, GeRe, Settings
from letheon.retain.strategies.naive import Naive
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream
from letheon.retain.streams.texts import text_stream

NONE, LABELS, MARGIN = "no replay", "cross-entropy", "margin"
# The options of gere. "dynamic" is the paper's weight in its headline result.
ARMS: dict[str, dict[str, Any] | None] = {NONE: None, LABELS: {"imitation": "none"}, MARGIN: {"imitation": "margin"}}
MORE: dict[str, dict[str, Any]] = {
    "margin, dynamic": {"imitation": "margin", "weight": None},
    "kl": {"imitation": "kl", "weight": None},
    "l1": {"imitation": "l1", "weight": None},
    "l2": {"imitation": "l2", "weight": None},
}
FAST: dict[str, Any] = {"epochs": 4, "batch_size": 4, "adapter": "lora", "learning_rate": 3e-3}
FULL: dict[str, Any] = {"epochs": 15, "batch_size": 4, "learning_rate": 2e-5}
TOKENS, REPLAYED = 64, 8  # of a text; texts
# "No larger": by less than this, of log perplexity (nats) and of the share of states.
ALIKE = 0.01

# Task -> form of the question, and words by answer; the first six of each are learned, in an order of the seed.
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

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def reproduce(scale: Scale) -> Outcome:
    """No replay, replay with cross-entropy, and with the margin: what each keeps, in general and of the first task."""
    claim = Claim("gere", paper("gere").claim, [NONE, LABELS])
    training, arms = (FULL, {**ARMS, **MORE}) if scale.name == "full" else (FAST, ARMS)
    runs = {
        name: [measured(options, seed, training, device=scale.device) for seed in scale.seeds]
        for name, options in arms.items()
    }
    found = Findings.by_arm({name: means(rows, METRICS) for name, rows in runs.items()}, *judge(runs))
    rows = [{"arm": name, **row} for name, rows in runs.items() for row in rows]
    return claim.outcome(found, scale.seeds, figures(runs), rows)


def judge(runs: Runs) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """The claim's parts, and that the new task is learned nonetheless; all paired over seeds."""

    def column(name: str, metric: str) -> list[float]:
        return [row[metric] for row in runs[name]]

    judged = {}
    for metric in ("rise", "flipped"):
        labels = column(LABELS, metric)
        judged[f"{metric}: no replay above cross-entropy"] = judge_pairs(labels, column(NONE, metric), 0.0, "above")
        judged[f"{metric}: margin no larger than cross-entropy"] = judge_pairs(
            labels, column(MARGIN, metric), ALIKE, "below"
        )
    for name in (LABELS, MARGIN):
        pairs = column(NONE, "old task"), column(name, "old task")
        judged[f"old task: {name} above no replay"] = judge_pairs(*pairs, 0.0, "above")
    beside = {}
    for metric in ("rise", "flipped"):
        pairs = column(NONE, metric), column(MARGIN, metric)
        beside[f"{metric}: margin below no replay"] = judge_pairs(*pairs, 0.0, "below")
    pairs = column(NONE, "new task"), column(MARGIN, "new task")
    beside["new task: margin at most 0.05 below no replay"] = judge_pairs(*pairs, -0.05, "above")
    return judged, beside


def measured(
    options: Mapping[str, Any] | None,
    seed: int,
    training: Mapping[str, Any],
    model: str = "smollm2",
    device: str = "auto",
) -> dict[str, Any]:
    """One arm, one seed: accuracies after both tasks, and what is left of general ability."""

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
    """General prose that the package carries."""

    return [" ".join(text.split()) for text in GENERAL_TEXT.read_text(encoding="utf-8").split("\n\n") if text.strip()]


def make_stream(seed: int) -> Stream:
    """Two tasks of two answers each; words that are tested are not learned."""

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


def figures(runs: Runs) -> dict[str, str]:
    """The rise of log perplexity over tasks, and accuracies on both tasks."""

    def rises(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
        columns = zip(*(row["rises"] for row in rows), strict=True)
        return [(number, sum(column) / len(column)) for number, column in enumerate(columns)]

    groups = {
        metric: {name: estimate_mean([row[metric] for row in rows]) for name, rows in runs.items()}
        for metric in ("old task", "new task")
    }
    rise = "Rise of log perplexity on texts that were not replayed, after each task"
    return {
        "perplexity": lines({name: rises(rows) for name, rows in runs.items()}, "tasks learned", "nats a token", rise),
        "accuracies": dots(groups, "accuracy", "Accuracy after the last task on the old and the new task"),
    }
