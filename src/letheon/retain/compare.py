"""Compare strategies: the same stream, first weights and seeds; one table with means and intervals over seeds."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text, canonical_hash, read_json, write_json
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.parallel import ALONE, Parallel, run_tasks
from letheon.core.runs import Run
from letheon.core.statistics import Estimate, estimate_mean
from letheon.core.tasks import Task
from letheon.retain.comparison import Entry, StrategyComparison
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, resolved
from letheon.retain.learned import Learned
from letheon.retain.models import is_mlp, mlp_for
from letheon.retain.page import render_strategies
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream
from letheon.retain.streams import read_stream

RUNS = "runs"  # subfolder with one file of numbers per strategy and seed


def compare_strategies(
    model: Callable[[int], Any] | str,
    stream: Stream | str | Path,
    strategies: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: Path | None = None,
    settings: LearnSettings | None = None,
    device: str = "auto",
    parallel: Parallel = ALONE,
    **options: Any,
) -> StrategyComparison:
    """Run every strategy under every seed; each starts from the same weights under one seed.

    Args:
        model: a function that makes a fresh model for a seed; or the name of a language model, or `mlp`.
        out: a folder for compare.json, compare.html and the numbers of each run. A comparison in that folder with the
            same named model, stream and options is continued, perhaps with further strategies and seeds.
        parallel: runs at once, one per strategy and seed; model and stream must then be names, and `out` be given.

    Raises:
        InputError: an unknown strategy, stream or option, before anything runs.
    """
    settings = dataclasses.replace(resolved(settings, options), seed=0)
    source = str(stream)
    if parallel.several and (not isinstance(model, str) or isinstance(stream, Stream) or out is None):
        raise InputError("several jobs need names", "give model and stream by name, and a folder; or use one job")
    stream = stream if isinstance(stream, Stream) else read_stream(stream)
    texts = [read_strategy(text).text for text in strategies]
    if len(set(texts)) != len(texts) or not texts:
        raise InputError(f"strategies {', '.join(strategies) or 'none'}", "give each once, at least one")
    name = model if isinstance(model, str) else getattr(model, "__name__", "a model")

    def compared(folder: Path | None, lost: Mapping[str, str]) -> StrategyComparison:
        make = model_maker(model, stream, device) if isinstance(model, str) else model
        entries = [
            Entry(text, {}, [], lost[text]) if text in lost else _entry(text, make, stream, seeds, settings, folder)
            for text in texts
        ]
        return StrategyComparison(stream.name, stream.scenario, name, list(seeds), settings, entries)

    if out is None:
        return compared(None, {})
    config = {"kind": "compare-strategies", "model": name, "stream": stream.fingerprint()}
    config |= {"settings": dataclasses.asdict(settings)}
    with Run.begun(out, config, "a comparison on another stream, or with another model or options"):
        if not isinstance(model, str) and (out / RUNS).exists():
            raise InputError(f"{out} holds the runs of a model without a name", "choose another --out")
        runs = [(text, seed) for text in texts for seed in seeds if not _file(out / RUNS, text, seed).is_file()]
        lost = _at_once(name, source, runs, settings, out / RUNS, device, parallel) if parallel.several else {}
        found = compared(out / RUNS, lost)
        write_json(out / "compare.json", found.to_json())
        atomic_write_text(out / "compare.html", render_strategies(found))
    return found


def model_maker(name: str, stream: Stream, device: str = "auto") -> Callable[[int], Any]:
    """Return a function that makes a fresh model per seed: `mlp` for tensors, a copied language model for texts."""
    if is_mlp(name):
        return lambda seed: mlp_for(stream, name, seed)
    start = load(name, device=device)

    def fresh(_: int) -> LanguageModel:
        return LanguageModel(copy.deepcopy(start.model), start.tokenizer, start.name)

    return fresh


def _file(folder: Path, text: str, seed: int) -> Path:
    """Return the file of one run's numbers."""
    return folder / f"{canonical_hash(text)[:16]}-{seed}.json"


def _at_once(
    model: str,
    stream: str,
    runs: Sequence[tuple[str, int]],
    settings: LearnSettings,
    folder: Path,
    device: str,
    parallel: Parallel,
) -> dict[str, str]:
    """Let processes write the numbers of the runs; return the problems of the strategies that failed."""
    arguments = {"model": model, "stream": stream, "settings": dataclasses.asdict(settings), "folder": str(folder)}
    arguments["device"] = device
    tasks = [
        Task(f"{text}, seed {seed}", f"{__name__}:learn_one", {**arguments, "strategy": text, "seed": seed})
        for text, seed in runs
    ]
    ended = run_tasks(tasks, parallel)
    lost: dict[str, str] = {}
    for task in tasks:
        if problem := ended[task.name].problem:
            lost.setdefault(task.arguments["strategy"], problem)
    return lost


def learn_one(
    model: str, stream: str, strategy: str, seed: int, settings: dict[str, Any], folder: str, device: str
) -> None:
    """Learn a stream by one strategy under one seed, in a process of its own, and write the numbers."""
    tasks = read_stream(stream)
    made = _entry(strategy, model_maker(model, tasks, device), tasks, [seed], LearnSettings(**settings), Path(folder))
    if made.error:
        raise LetheonError(made.error)


def _entry(
    text: str,
    make: Callable[[int], Any],
    stream: Stream,
    seeds: Sequence[int],
    settings: LearnSettings,
    folder: Path | None,
) -> Entry:
    rows = []
    for seed in seeds:
        kept = None if folder is None else _file(folder, text, seed)
        if kept is not None and kept.is_file():
            rows.append(read_json(kept))
            continue
        try:
            run = learn(make(seed), stream, text, settings=dataclasses.replace(settings, seed=seed))
        except LetheonError as error:
            return Entry(text, {}, [], error.problem)
        rows.append(_row(text, seed, run))
        del run  # learner and strategy refer to each other, so only the garbage collector frees the optimizer
        gc.collect()
        if kept is not None:
            write_json(kept, rows[-1])
    return Entry(text, {name: _mean([row["metrics"][name] for row in rows]) for name in rows[0]["metrics"]}, rows)


def _row(text: str, seed: int, run: Learned) -> dict[str, Any]:
    learner, curve = run.learner, run.curve.to_json()
    return {
        "strategy": text,
        "seed": seed,
        "seconds": run.seconds,
        "steps": run.steps,
        "parameters": sum(weight.numel() for weight in learner.model.parameters()),
        "held_bytes": learner.strategy.held(learner),
        "metrics": run.metrics,
        **curve,
    }


def _mean(values: Sequence[float | None]) -> Estimate:
    return estimate_mean([value for value in values if value is not None])
