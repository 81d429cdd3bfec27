"""The runner: a benchmark, a model, methods; it trains target and reference, unlearns, evaluates, writes one page.

    OUT/target, OUT/reference    trained on the request's rows, and without those to forget (where that was asked for)
    OUT/methods/NAME             the run of each method
    OUT/scores/NAME.json         what was measured on each model
    OUT/bench.json, bench.html   all of it; OUT/lm_eval/NAME.json in the layout of lm-evaluation-harness

Whatever is finished there is read back, so a bench that was stopped goes on, and further methods join it.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from letheon.audit.measuring.judging import judge_for
from letheon.core.atomic import atomic_write_text, check_writable, is_whole, read_json, write_json
from letheon.core.errors import InputError, Interrupted, LetheonError, TrainingError, nearest
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.parallel import ALONE, Parallel, run_tasks
from letheon.core.rows.examples import Example
from letheon.core.runs import Run, slug
from letheon.core.tasks import Task
from letheon.core.training.checkpoints import drop_checkpoints
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.method_lists import read_methods
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.run import check_model, forget, resume
from letheon.forget.settings import resolve
from letheon.measure.benchmark import Against, Bench, BenchedModel, Benchmark, Role, Scores
from letheon.measure.lm_eval import results

# Where each benchmark is read.
BENCHMARKS = {
    "tofu": "letheon.measure.tofu:read_tofu",
    "muse": "letheon.measure.muse:read_muse",
    "wmdp": "letheon.measure.wmdp:read_wmdp",
    "rwku": "letheon.measure.rwku:read_rwku",
}


@dataclass(frozen=True)
class Teaching:
    """Training of target and reference with all weights and the same settings.

    The field's runs train a model of a billion weights for 5 epochs at 1e-5 with batches of 32. A small model learns
    nothing by heart that way; the defaults here make SmolLM2 learn its rows.

    Attributes:
        epochs: with --train, passes of target and reference over their rows.
        learning_rate: with --train, learning rate after one epoch of warm-up; it then falls to zero.
        batch_size: with --train, rows per optimizer step.
        weight_decay: with --train, weight decay of AdamW.
    """

    epochs: int = 10
    learning_rate: float = 1e-4
    batch_size: int = 16
    weight_decay: float = 0.01  # the field's, as are warm-up and schedule

    def settings(self, rows: int, seed: int) -> tuple[TrainSettings, int]:
        """Settings and steps: one epoch of warm-up, then a linear decay."""
        per_epoch = -(-rows // self.batch_size)
        settings = TrainSettings(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            schedule="linear",
            warmup_steps=per_epoch,
            seed=seed,
        )
        return settings, self.epochs * per_epoch


def read_benchmark(
    name: str, source: str, *, split: str = "", rows: int = 0, seed: int = 0, **options: Any
) -> Benchmark:
    """Read a benchmark's data.

    Args:
        source: a hub id or a folder; the benchmark's own hub id where it is empty.

    Raises:
        InputError: no such benchmark, or its data are not as they should be.
    """
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark {name!r}", nearest(name, list(BENCHMARKS)))
    module, function = BENCHMARKS[name].split(":")
    read = getattr(importlib.import_module(module), function)
    for option in options:
        if option not in inspect.signature(read).parameters:
            raise InputError(f"{name} has no option {option!r}", "leave it out")
    place = {"source": source} if source else {}
    benchmark: Benchmark = read(**place, split=split, rows=rows, seed=seed, **options)
    return benchmark


@dataclass(frozen=True)
class BenchPlan:
    """A checked bench: its benchmark, methods, models and settings.

    Attributes:
        methods: by the names they were given; none where only target and reference are measured.
        out: the bench's folder.
        model: what target and reference are trained from; where they are given, who judges the answers.
        target, reference: models that were given; empty where there is none.
        train: train target and reference from the model.
        options: of `letheon.forget` for every method, such as `epochs`.
        data: arguments of `read_benchmark` that read the same benchmark again; several jobs need them.
    """

    benchmark: Benchmark
    methods: Mapping[str, Recipe | StandaloneMethod]
    out: Path
    model: str
    target: str
    reference: str
    train: bool
    teaching: Teaching
    options: Mapping[str, Any]
    seed: int
    data: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers of every model; methods may join later."""
        models = {name: getattr(self, name) for name in ("model", "target", "reference")}
        teaching = asdict(self.teaching) if self.train else None
        return {
            "benchmark": self.benchmark.name,
            "data": self.benchmark.config(),
            **models,
            "training": teaching,
            "options": dict(self.options),
            "seed": self.seed,
        }


def plan_bench(
    benchmark: Benchmark,
    methods: Sequence[str],
    *,
    out: str | Path,
    model: str = "",
    target: str = "",
    reference: str = "",
    train: bool = False,
    teaching: Teaching = Teaching(),
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    **options: Any,
) -> BenchPlan:
    """Check what a bench is asked.

    Args:
        methods: as `letheon.forget` takes them; none measures target and reference only.
        out: the bench's folder; one that was begun is continued.
        model, target, reference: names or folders as `letheon.load` takes them.
        data: arguments of `read_benchmark` that read the same benchmark again; several jobs need them.
        options: of `letheon.forget` for every method, such as `epochs`.

    Raises:
        InputError: models are missing or given twice, a method is unknown or cannot work on the request.
    """
    if train and (target or reference or not model):
        raise InputError("--train makes target and reference from --model", "give --model alone, or leave --train out")
    if train and not benchmark.trains:
        raise InputError(f"{benchmark.name} trains no models", "give the model that knows the subject as --target")
    if not train and not target and (benchmark.trains or not model):
        raise InputError("no target is given", "give --target (and best --reference), or --model with --train")
    recipes = read_methods(methods, benchmark.request()) if methods else {}
    attention = ""
    for recipe in recipes.values():
        attention = resolve(recipe, None, None, options)[1].attention
    for name in filter(None, (model, target, reference)):
        check_loadable(name)
        for recipe in recipes.values() if name == (target or model) else ():
            check_model(recipe, name, attention)
    check_writable(Path(out))
    target = target or ("" if train else model)
    models = (model, target, reference)
    return BenchPlan(benchmark, recipes, Path(out), *models, train, teaching, options, seed, dict(data or {}))


def bench(plan: BenchPlan, *, device: str = "auto", parallel: Parallel = ALONE) -> Bench:
    """Train, unlearn and evaluate what is not there yet; write `bench.json` and `bench.html`.

    Args:
        parallel: models that are made at once: target and reference, then the methods.

    Raises:
        InputError: the folder holds a bench of other data, models or options.
        Interrupted: stopped by a signal; the same call goes on.
    """
    from letheon.measure.page import render_bench

    if parallel.several and not plan.data:
        raise InputError("several jobs must read the benchmark again", "give plan_bench its data=, or use one job")
    out, began = plan.out, time.monotonic()
    with Run.begun(out, plan.config(), "a bench of other data, models or options"):
        try:
            lost = _at_once(plan, device, parallel) if parallel.several else {}
            models = tuple(_Runner(plan, device, lost).measured())
        except Interrupted as stopped:
            raise Interrupted(stopped.problem, "the same command goes on from there") from None
        result = Bench(
            benchmark=plan.benchmark.name,
            config=plan.config(),
            columns=plan.benchmark.columns,
            plane=plan.benchmark.plane,
            models=models,
            seconds=round(time.monotonic() - began, 1),
        )
        write_json(out / "bench.json", result.to_json())
        atomic_write_text(out / "bench.html", render_bench(result))
        for one in models:
            if one.scores is not None:
                write_json(out / "lm_eval" / f"{slug(one.name)}.json", results(result, one))
    return result


def _at_once(plan: BenchPlan, device: str, parallel: Parallel) -> dict[str, str]:
    """Let processes make target and reference, then every method; return the problems of methods that failed."""
    settings = {name: getattr(plan, name) for name in ("model", "reference", "train", "seed")}
    settings |= {"target": "" if plan.train else plan.target, "teaching": asdict(plan.teaching), "out": str(plan.out)}
    settings["options"] = dict(plan.options)
    arguments = {"data": dict(plan.data), "settings": settings, "device": device}

    def run(names: Sequence[str], what: str) -> dict[str, str]:
        tasks = [Task(name, f"{__name__}:make_one", {**arguments, what: name}) for name in names]
        ended = {name: one.problem or one.value for name, one in run_tasks(tasks, parallel).items()}
        return {name: problem for name, problem in ended.items() if problem}

    if plan.train and (lost := run(("target", "reference"), "role")):
        raise LetheonError("; ".join(f"{name}: {problem}" for name, problem in lost.items()), "run it again")
    list(_Runner(replace(plan, methods={}), device).measured())  # the methods are measured against these
    return run(list(plan.methods), "method")


def make_one(
    data: dict[str, Any],
    settings: dict[str, Any],
    device: str,
    role: Literal["", "target", "reference"] = "",
    method: str = "",
) -> str:
    """Make one model of a bench in a process of its own; return why it failed, empty where it did not."""
    rest = {name: value for name, value in settings.items() if name not in ("teaching", "options")}
    teaching = Teaching(**settings["teaching"])
    methods = [method] if method else []
    plan = plan_bench(read_benchmark(**data), methods, teaching=teaching, **rest, **settings["options"])
    runner = _Runner(plan, device)
    if role:
        runner.trained(role)
        return ""
    return next((model.error for model in runner.measured() if model.name == method), "")


@dataclass
class _Runner:
    """Trains, unlearns and measures each model, unless an earlier run did.

    Attributes:
        lost: problems of methods that failed in a process of their own.
    """

    plan: BenchPlan
    device: str
    lost: Mapping[str, str] = field(default_factory=dict)

    def measured(self) -> Iterator[BenchedModel]:
        """Target, reference, then every method, each measured against those before."""
        plan = self.plan
        target = str(self.trained("target")) if plan.train else plan.target
        reference = str(self.trained("reference")) if plan.train else plan.reference
        # who learned neither judges best; the target itself learned the rows
        untouched = plan.model if plan.model and plan.model != target else None
        with judge_for(untouched, target, reference or None, self.device) as judge:
            against = Against(judge=judge)
            against = replace(against, target=self._scores("target", lambda: self._load(target), against))
            if reference:
                scores = self._scores("reference", lambda: self._load(reference), against)
                against = replace(against, reference=scores)
            yield self._entry("target", "target", against.target, against)
            if reference:
                yield self._entry("reference", "reference", against.reference, against)
            for name, recipe in plan.methods.items():
                yield self._method(name, recipe, target, against)

    def _entry(self, name: str, role: Role, scores: Scores | None, against: Against) -> BenchedModel:
        return BenchedModel(name, role, self.plan.benchmark.relate(scores, against) if scores is not None else None)

    def _load(self, name: str) -> LanguageModel:
        return load(name, device=self.device)

    def _scores(self, name: str, make: Callable[[], LanguageModel], against: Against) -> Scores:
        """Return a model's scores, from its file or measured now."""
        file = self.plan.out / "scores" / f"{slug(name)}.json"
        if file.is_file():
            return Scores.from_json(read_json(file))
        model = make()
        model.name = name  # the progress names what is measured, not what it was made from
        scores = self.plan.benchmark.evaluate(model, against)
        write_json(file, scores.to_json())
        return scores

    def trained(self, role: Role) -> Path:
        """Return the folder of a model that learned the request's rows: all of them, or those to keep."""
        folder = self.plan.out / role
        if is_whole(folder / "model"):
            return folder / "model"
        model = self._load(self.plan.model)
        request = self.plan.benchmark.request(model)
        rows: Sequence[Example] = request.retain if role == "reference" else (*request.forget, *request.retain)
        settings, steps = self.plan.teaching.settings(len(rows), self.plan.seed)
        begun = (folder / "config.json").is_file()
        run = Run.open(folder) if begun else Run.create(folder, {"rows": len(rows), "steps": steps, **asdict(settings)})
        run.tidy()
        finetune(model, rows, settings, steps, run=run, title=f"training the {role}")
        model.save(folder / "model")
        drop_checkpoints(run)
        return folder / "model"

    def _method(self, name: str, recipe: Recipe | StandaloneMethod, target: str, against: Against) -> BenchedModel:
        if name in self.lost:
            return BenchedModel(name, "unlearned", None, error=self.lost[name])
        folder = self.plan.out / "methods" / slug(name)
        try:
            scores = self._scores(name, lambda: self._unlearned(folder, recipe, target), against)
        except TrainingError as failure:  # not finite, or nothing moved: the other methods go on
            return BenchedModel(name, "unlearned", None, error=failure.problem)
        run = read_json(folder / "result.json")
        training = Run.open(folder).config["training"]
        facts = {"steps": run["steps"], "stopped": run["stopped"], "learning_rate": training["learning_rate"]}
        return replace(self._entry(name, "unlearned", scores, against), run=facts)

    def _unlearned(self, folder: Path, recipe: Recipe | StandaloneMethod, target: str) -> LanguageModel:
        if (folder / "config.json").is_file():
            return resume(folder, device=self.device).model
        model = self._load(target)
        request = self.plan.benchmark.request(model)
        options = {"seed": self.plan.seed, **self.plan.options}
        return forget(model, request, recipe, out=folder, **options).model
