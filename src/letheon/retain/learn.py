"""`letheon.learn`: a model learns a stream with a strategy; every task is evaluated after every task.

The loop (loop.py) is the same for modules and language models. Checkpoints hold all state of a run, random generators
included, so a killed run that is resumed ends in the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from letheon.core.atomic import check_writable
from letheon.core.errors import InputError, nearest
from letheon.core.hardware import keep_freed_memory
from letheon.core.model.attention import attending, check_attention
from letheon.core.model.models import LanguageModel, check_loadable
from letheon.core.processes import is_main_process, process_count
from letheon.core.rows.sampling import stream_seed
from letheon.core.runs import Run
from letheon.core.training.placement import device_of_shards, load_for
from letheon.core.workers import connect
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import Composition, as_strategy
from letheon.retain.learned import Learned
from letheon.retain.learner import Learner
from letheon.retain.loop import Loop
from letheon.retain.settings import LearnSettings
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream
from letheon.retain.streams import read_stream
from letheon.retain.texts import TextLearner


def learn(
    model: nn.Module | LanguageModel | str | Path,
    stream: Stream | str | Path,
    strategy: str | Strategy | Composition = "naive",
    *,
    out: str | Path | None = None,
    settings: LearnSettings | None = None,
    resume: bool = False,
    device: str = "auto",
    on_evaluation: Callable[[Learner], None] | None = None,
    **options: Any,
) -> Learned:
    """Learn a stream's tasks one after another; the model changes in place.

    >>> result = learn(model, split_digits(), "replay:capacity=200", epochs=3)      # doctest: +SKIP
    >>> result.matrix, result.metrics["forgetting"]                                 # doctest: +SKIP

    Args:
        model: an `nn.Module` that returns logits, a language model, or a source for `letheon.load`.
        stream: tasks, or a source for `read_stream` (`split-digits`, a TOML file).
        strategy: `NAME[:OPTION=VALUE,...]`, several joined by `+`; or a `Strategy`.
        out: the run's folder; without it nothing is written.
        settings: all options; or give single options by name (`epochs=3, evaluate_every=1`).
        resume: continue the run in `out`, from the same model and stream.
        device: the device of a language model that is loaded here.
        on_evaluation: called at every evaluation (before the first task, every `evaluate_every` steps, after a task),
            for measurements beyond the stream's test rows.

    Of several processes of a launched job each calls this and takes its part of a step's rows; process 0 writes.

    Raises:
        InputError: the model, stream, strategy or options do not fit; nothing is trained or written.
        TrainingError: a loss is not finite.
        Interrupted: stopped by a signal, resumable.
    """
    settings = resolved(settings, options)
    stream = stream if isinstance(stream, Stream) else read_stream(stream)
    composed = as_strategy(strategy)
    shards = _shards(model, composed, settings, device) if process_count() > 1 else None
    run = Run.open(Path(out)) if resume and out is not None else None
    if resume and run is None:
        raise InputError("there is no folder to resume from", "give out=")
    if out is not None and run is None:
        refuse_folder(Path(out))
    _check_attention(settings, stream)
    model = _connected(model, device, shards)
    keep_freed_memory()
    network = model.base() if isinstance(model, LanguageModel) else model
    with torch.random.fork_rng(), attending(network, settings.attention):
        torch.manual_seed(stream_seed(settings.seed, "learn"))
        learner = make_learner(model, stream, composed, settings, shards)
        try:
            composed.prepare(learner)
            run = _run_of(run, out, _config(model, learner))
            return _worked(Loop(learner, run, on_evaluation), run, resume)
        except BaseException:
            learner.release(gather=False)
            raise


def _worked(loop: Loop, run: Run | None, resume: bool) -> Learned:
    """Learn the stream; process 0 holds the run's folder meanwhile."""
    if run is None or not is_main_process():
        return loop.work(resume=resume)
    with run.lock():
        run.tidy()
        return loop.work(resume=resume)


def _check_attention(settings: LearnSettings, stream: Stream) -> None:
    """Refuse an attention that is not there, or on a stream that has no use for it (`InputError`)."""
    check_attention(settings.attention)
    if settings.attention and not stream.is_text:
        raise InputError(f"attention={settings.attention} on a stream without texts", "leave it out")


def _run_of(run: Run | None, out: str | Path | None, config: dict[str, Any]) -> Run | None:
    """Check a run that is continued, or begin a new one, which process 0 does for all."""
    if run is not None:
        _check_same(run, config)
        return run
    if out is None:
        return None
    return Run.create(Path(out), config) if is_main_process() else Run(Path(out))


def _connected(model: Any, device: str, shards: torch.device | None) -> Any:
    """Load a language model that is given by name, and connect the processes that learn it."""
    if isinstance(model, (str, Path)):
        check_loadable(model)
        model = load_for(model, device, shards)
    if isinstance(model, LanguageModel) and process_count() > 1:
        connect(shards or model.device)
    return model


def _shards(model: Any, strategy: Composition, settings: LearnSettings, device: str) -> torch.device | None:
    """Return the device of this process's shards, None for whole weights; nothing is loaded.

    Raises:
        InputError: several processes cannot share the work, or the weights where `shard=on`.
    """
    if isinstance(model, nn.Module):
        raise InputError("several processes with a small network", "use one: it learns faster alone")
    strategy.check_divisible()
    full = settings.adapter == "full"
    if isinstance(model, (str, Path)):
        check_loadable(model)
    held = strategy.bytes_per_weight if full else 4.0

    def check(_: nn.Module | None) -> None:
        if full:  # every process has all weights of an adapter
            strategy.check_shards()

    return device_of_shards(model, settings.shard, device, held, check)


def make_learner(
    model: Any, stream: Stream, strategy: Composition, settings: LearnSettings, shards: torch.device | None = None
) -> Learner:
    """Return the learner for a module, or for a language model, whose weights may lie in shards on a device."""
    if isinstance(model, LanguageModel):
        learner: Learner = TextLearner(model, stream, strategy, settings, shards)
    elif isinstance(model, nn.Module):
        if stream.is_text:
            raise InputError(f"stream {stream.name} holds texts, the model is a module", "give a language model")
        learner = ClassLearner(model, stream, strategy, settings)
    else:
        raise InputError(f"a model of type {type(model).__name__}", "give an nn.Module or a language model")
    learner.remember_start()
    return learner


def resolved(settings: LearnSettings | None, options: dict[str, Any]) -> LearnSettings:
    """Return the settings with single options replaced; refuse an unknown name."""
    known = [item.name for item in dataclasses.fields(LearnSettings)]
    strange = next((name for name in options if name not in known), None)
    if strange is not None:
        raise InputError(f"learn has no option {strange!r}", nearest(strange, known))
    return dataclasses.replace(settings or LearnSettings(), **options)


def refuse_folder(out: Path) -> None:
    """Refuse a folder in which no new run can begin."""
    check_writable(out)
    if (out / "config.json").exists() and is_main_process():
        raise InputError(f"{out} already holds a run", f"continue it with --resume {out}, or choose another --out")


def _config(model: Any, learner: Learner) -> dict[str, Any]:
    stream = learner.stream
    return {
        "kind": "learn",
        "model": model.name if isinstance(model, LanguageModel) else type(model).__name__,
        "start": learner.start_hash(),
        "stream": {"name": stream.name, "source": stream.source, "rows": stream.fingerprint()},
        "strategy": learner.strategy.text,
        "settings": dataclasses.asdict(learner.settings),
    }


def _check_same(run: Run, config: dict[str, Any]) -> None:
    # a run of an earlier version lacks the settings that came later: it had their defaults
    stored = run.config | {"settings": dataclasses.asdict(LearnSettings(**run.config["settings"]))}
    for name, remedy in {
        "start": "give back the model as it was before the run",
        "stream": "give back the same rows",
        "strategy": "resume with the same strategy",
        "settings": "resume with the same settings",
    }.items():
        if stored.get(name) != config[name]:
            raise InputError(f"{run.folder} was started with another {name}", remedy)


def resume(folder: str | Path, model: Any = None, device: str = "auto") -> Learned:
    """Continue a killed or interrupted run from its folder; its stream must still be readable.

    Args:
        model: the module as it was before the run; a language model is loaded by its name.
    """
    run = Run.open(Path(folder))
    config = run.config
    if config.get("kind") != "learn":
        raise InputError(f"{folder} is no run of `letheon learn`", "see `letheon forget --resume`")
    source = config["stream"]["source"]
    if not source:
        raise InputError(f"{folder} was started from Python", "call learn(model, stream, ..., out=, resume=True)")
    settings = LearnSettings(**config["settings"])
    start = model if model is not None else config["model"]
    return learn(start, source, config["strategy"], out=folder, settings=settings, resume=True, device=device)
