"""GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay.

arXiv 2508.04676, 2025-08. Full scale in the paper: Llama-3.1-8B, 15 classification tasks, 1,000 texts of SlimPajama,
MMLU. Here: a small Llama that has read the plain sentences of `common/odd_texts` learns to judge statements of two of
its themes, then of the other two, by another rule with the same answers. General ability is the perplexity of
sentences that are neither learned nor replayed; replayed sentences are a sixth of all samples, as in the paper. The
margin has the dynamic weight of the paper's headline. Every arm has two rates of its own, from seeds that are not
judged: the best for perplexity, and the best for the old task, among those at which both tasks are learned. That every
arm has learned both is a condition of the experiment and no part of the claim: an arm that learned less has less to
forget. The full scale has a larger model and the other imitation losses.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.odd_texts import THEMES, make_world, things_of, words_of
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, copy_of, small_llama, teach
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.report.plots import lines
from letheon.retain.composition import Composition
from letheon.retain.general_watch import GeneralWatch
from letheon.retain.learn import learn
from letheon.retain.strategies.gere import GeRe, Settings
from letheon.retain.strategies.naive import Naive
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream
from letheon.retain.streams.texts import text_stream

NONE, LABELS, MARGIN, FEATURES = "no replay", "cross-entropy", "margin", "l2"
# Options of `gere`; None replays nothing. Without a weight the imitation is as large as cross-entropy ("dynamic").
ARMS: dict[str, dict[str, Any] | None] = {
    NONE: None,
    LABELS: {"imitation": "none"},
    MARGIN: {"imitation": "margin", "weight": None},
    FEATURES: {"imitation": "l2", "weight": None},
}
MORE: dict[str, dict[str, Any] | None] = {
    "margin, weight 100": {"imitation": "margin", "weight": 100.0},
    "kl": {"imitation": "kl", "weight": None},
    "l1": {"imitation": "l1", "weight": None},
}
RATES = (1.5e-4, 3e-4, 6e-4, 1e-3)
LEARNED = 0.9  # accuracy on each task right after it, that a rate must reach under every tuning seed
UNLEARNED = 100.0  # what is taken off elsewhere, far above every rise of perplexity
TRAINING: dict[str, Any] = {"epochs": 6, "batch_size": 10}
PER_STEP, TOKENS = 2, 32  # replayed texts per step of ten rows, tokens per text
READ, REPLAYED, HELD_OUT = 2200, 150, 150  # sentences; the replayed ones are among those that the model has read
TRAIN, TEST = 160, 100  # rows per task
# "No larger": larger by less than this, in log perplexity (nats) and in the share of flipped states.
ALIKE = 0.01
SHORT = 0.05  # how far below `LEARNED` the mean over the judged seeds may lie

# Task -> (themes, question); the answer is yes or no.
TASKS = {"usual": (("colours", "places"), "usual"), "worker": (("jobs", "foods"), "worker")}
ABILITY, OLD = "rise", "old task"  # what rates are chosen by
METRICS = ("old task", "new task", "old task, when learned", "rise", "flipped")
PRIMARY = (
    *(f"{metric}: no replay above cross-entropy" for metric in ("rise", "flipped")),
    *(f"{metric}: margin no larger than cross-entropy" for metric in ("rise", "flipped")),
    *(f"old task: {name} above no replay" for name in (LABELS, MARGIN)),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare no replay, replay with cross-entropy, and imitation, in general ability and on the old task."""
    found.baselines += [NONE, LABELS, FEATURES]
    full = scale.name == "full"
    arms = ARMS | MORE if full else ARMS
    tables = {}
    for judged in (ABILITY, OLD):

        def score(name: str, rate: float, seed: int, judged: str = judged) -> float:
            return worth(measured(name, rate, seed, full), judged)

        rates = choose(found, dict.fromkeys(arms, RATES), score, by=judged)
        chosen = {name: (name, rate) for name, rate in rates.items()}
        tables[judged] = run_arms(lambda run, seed: measured(*run, seed, full), chosen, scale.seeds)
    for judged, results in tables.items():
        found.measured |= {f"{name}, by {judged}": row for name, row in results.means(METRICS).items()}
        found.rows += [{"rate by": judged, **row} for row in results.rows()]
    judge(tables, found)
    found.figures |= figures(tables[ABILITY])


def judge(tables: Mapping[str, Results], found: Findings) -> None:
    """Decide on perplexity, flipped states and the old task; check that every arm has learned both tasks."""
    ability, old = tables[ABILITY], tables[OLD]
    for metric in ("rise", "flipped"):
        ability.decide(found, f"{metric}: no replay above cross-entropy", metric, NONE, LABELS, above=0.0)
        ability.decide(found, f"{metric}: margin no larger than cross-entropy", metric, MARGIN, LABELS, below=ALIKE)
        for other in (NONE, LABELS, FEATURES):
            ability.report(found, f"{metric}: margin below {other}", metric, MARGIN, other, below=0.0)
    for name in (LABELS, MARGIN):
        old.decide(found, f"old task: {name} above no replay", OLD, name, NONE, above=0.0)
    old.report(found, "old task: margin above cross-entropy", OLD, MARGIN, LABELS, above=0.0)
    for (judged, results), name in product(tables.items(), (NONE, LABELS, MARGIN)):
        for task, metric in (("old", "old task, when learned"), ("new", "new task")):
            learned = mean(results.column(name, metric))
            met = learned is not None and learned >= LEARNED - SHORT
            found.check(f"{name}, rate by {judged}, had learned the {task} task", met)


def worth(row: Mapping[str, Any], judged: str) -> float:
    """How good a run's rate is: minus the rise of perplexity, or the old task's accuracy.

    A run that has not learned both tasks is worth less than any that has, and the more, the nearer it comes.
    """
    worse = float(min(row["old task, when learned"], row["new task"]))
    if worse < LEARNED:
        return worse - UNLEARNED
    return float(-row[ABILITY] if judged == ABILITY else row[OLD])


# One run


@cache
def measured(arm: str, rate: float, seed: int, full: bool = False, steps: int = 300) -> dict[str, Any]:
    """Accuracies of one run after both tasks, and its loss of general ability."""
    model, replayed, held_out = read(seed, full, steps)
    strategy: Strategy = Naive()
    options = (ARMS | MORE)[arm]
    if options is not None:
        strategy = GeRe(Settings(tokens=TOKENS, per_step=PER_STEP, **options), replayed)
    watch = GeneralWatch(held_out, TOKENS)
    composed = Composition([strategy, watch], "watched")
    result = learn(copy_of(model), make_stream(seed), composed, seed=seed, learning_rate=rate, **TRAINING)
    return {
        "seed": seed,
        "old task": float(result.matrix[-1, 0]),
        "new task": float(result.matrix[-1, 1]),
        "old task, when learned": float(result.matrix[1, 0]),
        "rise": watch.kept[-1].rise,
        "flipped": watch.kept[-1].flipped,
        "rises": [0.0, *(kept.rise for kept in watch.kept)],
        "seconds": result.seconds,
    }


@cache
def read(seed: int, full: bool, steps: int) -> tuple[LanguageModel, Sequence[str], Sequence[str]]:
    """A small Llama that has read plain sentences, sentences to replay, and others to measure."""
    sentences = make_world(seed, READ + HELD_OUT).corpus
    replayed, held_out = replayed_and_held_out(sentences)
    parts: list[Any] = [part for task in make_stream(seed) for part in (task.train, task.test)]
    rows = [row for part in parts for row in part]
    texts = [Example("", text) for text in sentences]
    layers, width, times = (4, 128, 3) if full else (2, 64, 1)
    model = small_llama([*texts, *rows], seed, layers=layers, width=width, embedding_scale=UNIT_EMBEDDINGS)
    teach(model, texts[:READ], seed, times * steps, title="plain sentences", learning_rate=5e-3, warmup_steps=20)
    return model, replayed, held_out


def replayed_and_held_out(sentences: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sentences to replay, without any that is held out, and the held-out ones, which follow those read."""
    held_out = list(sentences[READ:])
    return [one for one in sentences[:REPLAYED] if one not in set(held_out)], held_out


def make_stream(seed: int) -> Stream:
    """Two tasks on two themes each: is the word one of the six usual ones; does the statement name a worker."""
    draw, tasks = random.Random(seed), {}
    for name, (themes, question) in TASKS.items():
        rows: dict[str, Example] = {}
        while len(rows) < TRAIN + TEST:
            theme = draw.choice(themes)
            word, thing = draw.choice(words_of(theme)), draw.choice(things_of(theme))
            yes = words_of(theme).index(word) < 6 if name == "usual" else theme == "jobs"
            prompt = f"{draw.choice(THEMES[theme][2]).format(thing=thing)} {word} : {question} ?"
            rows[prompt] = Example(prompt, "yes" if yes else "no", id=prompt)
        every = list(rows.values())
        tasks[name] = (every[:TRAIN], every[TRAIN:])
    return text_stream("usual and workers", tasks)


def figures(results: Results) -> dict[str, str]:
    """The rise of log perplexity over tasks, and accuracies on both tasks."""
    rise = "Rise of log perplexity on sentences that were not replayed, after each task"
    accuracies = {metric: results.estimates(metric) for metric in ("old task", "new task")}
    return {
        "perplexity": lines(results.course("rises"), "tasks learned", "nats per token", rise),
        "accuracies": dots(accuracies, "accuracy", "Accuracy after the last task on the old and the new task"),
    }
