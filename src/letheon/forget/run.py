"""`letheon.forget`: run a method on a model and a request; save the result; resume a killed run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letheon.core.atomic import check_writable, is_whole, read_json
from letheon.core.errors import InputError
from letheon.core.hardware import resolve_precision
from letheon.core.model.attention import attending
from letheon.core.model.formats import base_of, check_base
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.model.structure import check_taken, structure_of
from letheon.core.processes import is_main_process
from letheon.core.runs import Run
from letheon.core.training.loop import TrainingOutcome
from letheon.core.training.settings import TrainSettings
from letheon.forget.deep import DeepJob, SecondStage, full_name, second_stage
from letheon.forget.placement import check_shards, load_placed, place_of, sharded_device
from letheon.forget.procedure import ProcedureRun
from letheon.forget.recipe import Recipe, StandaloneMethod, read_method
from letheon.forget.recipe_job import OnStep, RecipeJob
from letheon.forget.request import Request, rows_hash
from letheon.forget.saving import noted, saved
from letheon.forget.settings import CLOSED, ForgetSettings, Result, Stop, resolve

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("letheon")
Method = Recipe | StandaloneMethod
EXACT = ("everything", "layers", "mlp", "targeted")  # scopes whose weights the optimizer alone changes
# What serves a request for which no method is named: the first of them that can.
DEFAULTS = ("alternates+null_space@mlp", "alternates@mlp")


def forget(
    model: LanguageModel | str | Path,
    request: Request,
    method: str | Method = "",
    *,
    out: str | Path | None = None,
    settings: ForgetSettings | None = None,
    training: TrainSettings | None = None,
    device: str = "auto",
    resume: bool = False,
    labels: dict[str, Any] | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Result:
    """Make a model forget the request's forget rows and keep its retain rows.

    Args:
        model: a loaded model (changed in place; in shards, by the first process only), or what `letheon.load` takes.
        method: a recipe such as `simnpo+geometric@lora`, or an edit or procedure by its name; see `default_method`.
        out: the run's folder: metrics, checkpoints while it runs, `model/` at the end. Without it nothing is written.
        settings, training: all options; or give single ones by name (`steps=16, learning_rate=2e-5`).
        resume: continue the run in `out`.
        labels: stored with the run's configuration, for whoever continues it.
        on_step: called with the model and the steps taken, after each step of a recipe; a returned reason ends the run.

    Raises:
        InputError: before a model is loaded, for what cannot work.
        TrainingError: a loss that is not finite, or no weight moved.
        Interrupted: stopped by a signal, resumable.
    """
    chosen = method or default_method(model, request, settings, training, options)
    recipe = read_method(chosen) if isinstance(chosen, str) else chosen
    settings, training = resolve(recipe, settings, training, options)
    check(recipe, request, settings.stop)
    check_memory(recipe, training, model)
    if not isinstance(model, LanguageModel):
        check_loadable(model)
    check_model(recipe, model, training.attention)
    second = check_depth(recipe, settings, training, request, model)
    run = _continued(out, _name(model), recipe, settings, training, request) if resume else None
    if run is None and out is not None:
        refuse_folder(Path(out))
    shards = None if second else sharded_device(model, recipe, training, device)
    language_model = load_placed(model, recipe, training, device, shards)
    precision = resolve_precision(training.precision, shards or language_model.device)
    training = dataclasses.replace(training, precision=precision)  # a measurement: kept, not made again
    with attending(language_model.base(), training.attention):
        job = _job(language_model, request, recipe, settings, training, on_step, shards, out)
        job.prepare()  # the last that can be refused; nothing has been written
        if out is not None and run is None:
            config = config_of(language_model, recipe, settings, training, request, job.start)
            run = _new(Path(out), config | {"labels": labels or {}}, request)
        elif run is not None and run.config.get("start", job.start) != job.start:
            problem = f"{model} has other weights than {out} was started with"
            raise InputError(problem, "give back the model that it had")
        if run is None or not is_main_process():
            return noted(job.work(run), training.base)
        with run.lock():
            run.tidy()
            return saved(noted(job.work(run), training.base), run, full_name(recipe, second))


def _job(
    model: LanguageModel,
    request: Request,
    recipe: Method,
    settings: ForgetSettings,
    training: TrainSettings,
    on_step: OnStep | None,
    shards: torch.device | None,
    out: str | Path | None,
) -> RecipeJob | ProcedureRun | DeepJob:
    """Return the job of a run; a deep one gets the configuration with which its first stage would run alone."""
    if (second := second_stage(recipe, settings, training)) is not None:
        alone = dataclasses.replace(settings, depth="shallow")
        job = _job(model, request, recipe, alone, training, on_step, shards, None)
        assert not isinstance(job, DeepJob)
        config = partial(config_of, model, recipe, alone, training, request)
        return DeepJob(job, recipe, second, config, Path(out) if out is not None else None)
    if isinstance(recipe, Recipe):
        return RecipeJob(model, request, recipe, settings, training, on_step, place_of(recipe, shards))
    return ProcedureRun(model, request, recipe, settings, training)


def resume(
    folder: str | Path, device: str = "auto", on_step: OnStep | None = None, model: LanguageModel | None = None
) -> Result:
    """Continue a killed or interrupted run from its folder alone; a finished one is only read.

    Args:
        model: the model as it was before the run, where it is loaded already.
    """
    run = Run.open(Path(folder))
    config, request = run.config, Request.read(run.folder / "request.json")
    if (run.folder / "result.json").is_file() and is_whole(run.folder / "model"):
        found = read_json(run.folder / "result.json")
        outcome = TrainingOutcome(found["steps"], found["stopped"])
        after = load(run.folder / "model", device=device, base=config["training"].get("base", "float32"))
        stages = found.get("stages", [])
        return Result(after, outcome, found["moved"], request, found["warnings"], run.folder, stages=stages)
    recipe = read_method(config["method"])
    settings, training = ForgetSettings(**config["settings"]), TrainSettings(**config["training"])
    return forget(
        model or config["model"],
        request,
        recipe,
        out=folder,
        settings=settings,
        training=training,
        device=device,
        resume=True,
        on_step=on_step,
    )


def default_method(
    model: LanguageModel | str | Path,
    request: Request | None,
    settings: ForgetSettings | None = None,
    training: TrainSettings | None = None,
    options: Mapping[str, Any] | None = None,
    tokens: str = "",
) -> Method:
    """The first of `DEFAULTS` that the model, the request and the settings allow; a fall-back is logged.

    The null space is left out where no rows are retained, where a matrix does not see every token (fused experts), and
    where the settings save memory on the states of AdamW (8 bits, offload, bfloat16).

    Args:
        request: None if its retain rows are not written yet.
        tokens: of the objective; its own if empty.
    """
    if not isinstance(model, LanguageModel):
        check_loadable(model)
    candidates = [Recipe.parse(text) for text in DEFAULTS]
    if tokens:
        candidates = [recipe.with_option("tokens", tokens) for recipe in candidates]
    reason = ""
    for recipe in candidates[:-1]:
        try:
            chosen, trained = resolve(recipe, settings, training, options or {})
            if request is not None:
                check(recipe, request, chosen.stop)
            check_memory(recipe, trained, model)
            check_model(recipe, model)
            if trained.shard == "on":
                check_shards(recipe, trained, structure_of(model))
        except InputError as error:  # with another cause the last default is refused too
            reason = error.problem
        else:
            return recipe
    logger.warning("the default here is %s: %s", candidates[-1], reason)
    return candidates[-1]


def check(recipe: Method, request: Request, stop: Stop = "steps") -> None:
    """Refuse a method that cannot work on a request (`InputError`), before a model is loaded."""
    if not request.retain and "retain" in recipe.needs():
        raise InputError(f"{recipe} needs retain rows", "give --retain (or --retain auto), or use another method")
    if isinstance(recipe, Recipe) and stop == "control" and recipe.option("tokens") != "value":
        raise InputError(
            "stop=control compares the tokens that carry the fact, which this recipe does not look at",
            "use a likelihood objective with tokens=value (--tokens value)",
        )
    if isinstance(recipe, Recipe) and stop in CLOSED and recipe.option("tokens") in (None, "answer"):
        raise InputError(
            f"stop={stop} looks at the tokens that carry the fact, which this recipe does not look at",
            "use alternates, or a likelihood objective with tokens=words or tokens=value",
        )
    recipe.check(request)


def check_memory(recipe: Method, training: TrainSettings, model: LanguageModel | str | Path = "") -> None:
    """Refuse what saves memory where it cannot work (`InputError`), before a model is loaded."""
    base = training.base
    if training.gradient_checkpointing and recipe.recomputes is False:
        raise InputError(f"{recipe} reads attention, which gradient checkpointing computes otherwise", "leave it out")
    plain = isinstance(recipe, Recipe) and recipe.update.method.name == "joint" and training.optimizer != "sgd"
    eight_bits = "optimizer=adamw8bit" if training.optimizer == "adamw8bit" else ""
    saves = "offload" if training.offload else eight_bits
    if saves and not plain:
        raise InputError(f"{saves} holds the states of AdamW, which {recipe} does not leave alone", "leave it out")
    if base == "float32":
        return
    check_base(base)
    # what moves an adapter alone, which lies in float32 on weights in fewer bits
    lora = recipe.scope.method.name == "lora" if isinstance(recipe, Recipe) else recipe.part.method.adapter
    moves = plain and isinstance(recipe, Recipe) and recipe.scope.method.name in EXACT
    if not lora and not (base == "bfloat16" and moves):
        others = f", or with AdamW, +joint and one of {', '.join(EXACT)}" if base == "bfloat16" else ""
        remedy = f"use it with the scope @lora{others}"
        raise InputError(f"base={base} holds weights in which {recipe} can take no step", remedy)
    if isinstance(model, LanguageModel) and base_of(model.base()) != base:
        raise InputError(f"the model holds its weights in {base_of(model.base())}", f"load it with base={base!r}")


def check_model(recipe: Method, model: LanguageModel | str | Path, attention: str = "") -> None:
    """Refuse an architecture that a method cannot work on, or that takes no such attention, before it is loaded.

    Raises:
        InputError: says what does not fit.
    """
    check_taken(model, attention)
    if (structure := structure_of(model)) is not None:
        recipe.check_model(structure)


def check_depth(
    recipe: Method,
    settings: ForgetSettings,
    training: TrainSettings,
    request: Request | None,
    model: LanguageModel | str | Path,
) -> SecondStage | None:
    """Return the second stage of a deep run, None of a shallow one; refuse what cannot work (`InputError`).

    Args:
        request: None if its retain rows are not written yet.
    """
    second = second_stage(recipe, settings, training)
    if second is not None:
        if request is not None:
            check(second.method, request)
        if training.shard == "on":
            check_shards(second.method, training, None)
        check_memory(second.method, second.training, model)
        check_model(second.method, model)
    return second


def config_of(
    model: LanguageModel,
    recipe: Method,
    settings: ForgetSettings,
    training: TrainSettings,
    request: Request,
    start: str,
) -> dict[str, Any]:
    """All values that decide the result, for the run's folder; `start` is the hash of the weights before."""
    second = second_stage(recipe, settings, training)
    config = {
        "model": model.name,
        "start": start,
        "method": str(recipe),
        "recipe": recipe.config(),
        "settings": dataclasses.asdict(settings),
        "training": dataclasses.asdict(training),
        "request": {"id": request.id, "rows": rows_hash(request)},
    }
    return config | ({"deep": second.config()} if second else {})


def _name(model: LanguageModel | str | Path) -> str:
    return model.name if isinstance(model, LanguageModel) else str(model)


def refuse_folder(out: Path) -> None:
    """Refuse a folder that cannot be written or already holds a run (`InputError`)."""
    check_writable(out)
    if (out / "config.json").exists() and is_main_process():
        raise InputError(f"{out} already holds a run", f"continue it with --resume {out}, or choose another --out")


def _new(out: Path, config: dict[str, Any], request: Request) -> Run:
    if not is_main_process():
        return Run(out)
    request.write(out / "request.json")  # before the configuration, which makes the folder a run
    return Run.create(out, config)


def _continued(
    out: str | Path | None,
    model: str,
    recipe: Method,
    settings: ForgetSettings,
    training: TrainSettings,
    request: Request,
) -> Run:
    if out is None:
        raise InputError("there is no folder to resume from", "give out=")
    run = Run.open(Path(out))
    given: dict[str, Any] = {"model": model, "method": str(recipe)}
    given |= {"settings": dataclasses.asdict(settings), "training": dataclasses.asdict(training)}
    # a run of an earlier version lacks the options that came later: it had their defaults
    stored = run.config | {
        "settings": dataclasses.asdict(ForgetSettings(**run.config["settings"])),
        "training": dataclasses.asdict(TrainSettings(**run.config["training"])),
    }
    for name, value in given.items():
        if stored[name] != value:
            raise InputError(f"{out} was started with another {name}", f"resume without giving {name} again")
    if changed := _changed_options(run.config.get("recipe", {}), recipe.config()):
        problem = f"{out} was begun by a version whose defaults were others: {changed}"
        raise InputError(problem, "resume it with that version, or begin anew")
    if run.config["request"]["rows"] != rows_hash(request):
        raise InputError(f"{out} was started with other rows", "resume with the same request, or choose another --out")
    return run


def _changed_options(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The options of a stored recipe that are others now; one that came later had its default."""
    found = [
        f"{part['name']}:{option}={value}"
        for kind, part in stored.items()
        for option, value in part.items()
        if option in now.get(kind, {}) and now[kind][option] != value
    ]
    return ", ".join(found)
