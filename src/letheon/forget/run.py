"""`letheon.forget`: run a recipe on a model and a request; save the result; continue what was killed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from letheon.core.activations import FrozenLayers, blocks
from letheon.core.errors import InputError, TrainingError, nearest
from letheon.core.examples import Example
from letheon.core.hardware import resolve_precision
from letheon.core.models import LanguageModel, check_loadable, load
from letheon.core.registry import check_settings
from letheon.core.runs import Run, canonical_hash, check_writable, is_whole, read_json, write_json
from letheon.core.spans import control_probability, find_values
from letheon.core.training import Loop, Outcome, TrainSettings, is_main_process, micro_batches, with_totals
from letheon.forget.parts import Meeting, Objective, Pair, Rows
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request

Stop = Literal["steps", "control"]
# A frozen prefix is kept only while it fits comfortably into memory.
LARGEST_CACHE = 4_000_000_000
COLLAPSED = "the model collapsed"


@dataclass(frozen=True)
class ForgetSettings:
    """What a forgetting run is told beside its recipe and its training settings.

    Attributes:
        epochs: passes over the forget rows, where `steps` is not given.
        steps: optimizer steps; 0 derives them from the epochs.
        stop: `steps` takes them all; `control` ends when the forget tokens are as improbable as they are under
            unknown subjects (`letheon.core.spans`), but not before `least_steps`.
        least_steps: with `stop=control`.
        collapse: end when the model falls apart (retain loss up by 3 nats and above 4, or forget loss above twice
            that of a uniform guess) for three steps.
    """

    epochs: int = 10
    steps: int = 0
    stop: Stop = "steps"
    least_steps: int = 1
    collapse: bool = True

    def __post_init__(self) -> None:
        check_settings(self, positive=("epochs",))
        if self.steps < 0 or self.least_steps < 0:
            raise InputError(f"steps {self.steps}, least steps {self.least_steps}", "use 0 or more")


@dataclass
class Result:
    """What forgetting gives.

    Attributes:
        model: the model after, in memory (the same object that was given, changed).
        outcome: steps, why it ended, metrics.
        moved: largest absolute change of a weight.
        warnings: what a reader must know.
        folder: where model and run lie; None when nothing was kept.
        request: the request, with values found where they were needed.
    """

    model: LanguageModel
    outcome: Outcome
    moved: float
    request: Request
    warnings: list[str] = field(default_factory=list)
    folder: Path | None = None


def forget(
    model: LanguageModel | str | Path,
    request: Request,
    method: str | Recipe = "fact_spans",
    *,
    out: str | Path | None = None,
    settings: ForgetSettings | None = None,
    training: TrainSettings | None = None,
    device: str = "auto",
    resume: bool = False,
    labels: dict[str, Any] | None = None,
    **options: Any,
) -> Result:
    """Make a model forget the request's forget rows and keep its retain rows.

    Args:
        model: a loaded model (changed in place), or what `letheon.load` takes.
        method: a recipe such as `simnpo+geometric@lora`.
        out: the run's folder: checkpoints, metrics, `model/` at the end. Without it nothing is written.
        settings, training: all options; or give single ones by name (`steps=16, learning_rate=2e-5`).
        resume: continue the run in `out`.
        labels: stored with the run's configuration, for whoever continues it.

    Raises:
        InputError: before a model is loaded, for what cannot work.
        TrainingError: a loss that is not finite, or no weight moved.
        Interrupted: stopped by a signal, resumable.
    """
    recipe = Recipe.parse(method) if isinstance(method, str) else method
    settings, training = resolve(recipe, settings, training, options)
    check(recipe, request, settings.stop)
    if not isinstance(model, LanguageModel):
        check_loadable(model)
    run = _continued(out, _name(model), recipe, settings, training, request) if resume else None
    if run is None and out is not None:
        refuse_folder(Path(out))
    language_model = load(model, device=device)
    precision = resolve_precision(training.precision, language_model.device)  # a measurement: kept, not made again
    training = dataclasses.replace(training, precision=precision)
    job = _Job(language_model, request, recipe, settings, training)
    job.prepare()  # the last that can be refused; nothing has been written
    if out is not None and run is None:
        config = config_of(language_model, recipe, settings, training, request, job.start)
        run = _new(Path(out), {**config, "labels": labels or {}}, request)
    elif run is not None and run.config.get("start", job.start) != job.start:
        raise InputError(f"{model} has other weights than {out} was started with", "give back the model that it had")
    if run is None or not is_main_process():
        return job.work(run)
    with run.lock():
        run.tidy()
        return job.work(run)


def resume(folder: str | Path, device: str = "auto") -> Result:
    """Continue a killed or interrupted run from its folder alone; a finished one is only read."""
    run = Run.open(Path(folder))
    config = run.config
    if (run.folder / "result.json").is_file() and is_whole(run.folder / "model"):
        found = read_json(run.folder / "result.json")
        outcome = Outcome(found["steps"], found["stopped"])
        request = Request.read(run.folder / "request.json")
        model = load(run.folder / "model", device=device)
        return Result(model, outcome, found["moved"], request, found["warnings"], run.folder)
    recipe = Recipe.parse(config["method"])
    settings, training = ForgetSettings(**config["settings"]), TrainSettings(**config["training"])
    request = Request.read(run.folder / "request.json")
    return forget(
        config["model"],
        request,
        recipe,
        out=folder,
        settings=settings,
        training=training,
        device=device,
        resume=True,
    )


def resolve(
    recipe: Recipe,
    settings: ForgetSettings | None,
    training: TrainSettings | None,
    options: Mapping[str, Any],
) -> tuple[ForgetSettings, TrainSettings]:
    """Settings from: single options, else those given, else what goes with the recipe's name, else defaults."""
    recommended = recipe.recommended
    chosen: list[Any] = []
    rest = dict(options)
    for kind, given in ((ForgetSettings, settings), (TrainSettings, training)):
        names = {item.name for item in dataclasses.fields(kind)}
        base = given or kind(**{name: value for name, value in recommended.items() if name in names})
        mine = {name: rest.pop(name) for name in list(rest) if name in names}
        chosen.append(dataclasses.replace(base, **mine))
    if rest:
        known = [item.name for kind in (ForgetSettings, TrainSettings) for item in dataclasses.fields(kind)]
        name = next(iter(rest))
        raise InputError(f"forget has no option {name!r}", nearest(name, known))
    return chosen[0], chosen[1]


def check(recipe: Recipe, request: Request, stop: Stop = "steps") -> None:
    """Refuse what cannot work, before a model is loaded."""
    if not request.retain and recipe.update.method.name == "geometric":
        raise InputError("the update geometric needs retain rows", "give --retain, or use the update joint")
    if not request.retain and recipe.objective.method.name == "rmu":
        raise InputError("rmu needs retain rows", "give --retain (or --retain auto)")
    if stop == "control" and getattr(recipe.objective.settings, "tokens", "") != "value":
        raise InputError(
            "stop=control compares the tokens that carry the fact, which this recipe does not look at",
            "use a likelihood objective with tokens=value (--tokens value)",
        )
    if getattr(recipe.objective.settings, "alternates", "") == "perturbed":
        for row in request.forget:
            if not row.perturbed_answers:
                raise InputError(f"forget row {row.id} has no perturbed answers", "add them, or use alternates=idk")


def config_of(
    model: LanguageModel,
    recipe: Recipe,
    settings: ForgetSettings,
    training: TrainSettings,
    request: Request,
    start: str,
) -> dict[str, Any]:
    """Everything that decides the result, for the run's folder; `start` is the hash of the weights before."""
    return {
        "model": model.name,
        "start": start,
        "method": str(recipe),
        "recipe": recipe.config(),
        "settings": dataclasses.asdict(settings),
        "training": dataclasses.asdict(training),
        "request": {"id": request.id, "rows": _rows_hash(request)},
    }


def _rows_hash(request: Request) -> str:
    """A hash of what is trained on; ids are names only, and a row without one gets it when it is read again."""
    rows = [[dataclasses.replace(row, id="") for row in rows] for rows in (request.forget, request.retain)]
    return canonical_hash(rows)


def _name(model: LanguageModel | str | Path) -> str:
    return model.name if isinstance(model, LanguageModel) else str(model)


def refuse_folder(out: Path) -> None:
    """Refuse a place where no new run can be made."""
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
    recipe: Recipe,
    settings: ForgetSettings,
    training: TrainSettings,
    request: Request,
) -> Run:
    if out is None:
        raise InputError("there is no folder to resume from", "give out=")
    run = Run.open(Path(out))
    given: dict[str, Any] = {"model": model, "method": str(recipe)}
    given |= {"settings": dataclasses.asdict(settings), "training": dataclasses.asdict(training)}
    for name, value in given.items():
        if run.config[name] != value:
            raise InputError(f"{out} was started with another {name}", f"resume without giving {name} again")
    if run.config["request"]["rows"] != _rows_hash(request):
        raise InputError(f"{out} was started with other rows", "resume with the same request, or choose another --out")
    return run


class _Job:
    """One recipe on one model and request."""

    def __init__(
        self,
        model: LanguageModel,
        request: Request,
        recipe: Recipe,
        settings: ForgetSettings,
        training: TrainSettings,
    ) -> None:
        self.model, self.request, self.recipe = model, request, recipe
        self.settings, self.training = settings, training
        self.run: Run | None = None
        self.start = model.parameters_hash()
        self.warnings: list[str] = []
        self.control: float | None = None

    def prepare(self) -> None:
        """Values, rows, plan, parts, reference values: in this order."""
        self.request = self._with_values()
        self.rows = self._rows()
        self.plan = self._plan()
        self.update = self.recipe.update.make()
        self.objective: Objective = self.recipe.objective.make()
        parameters = self.recipe.scope.make().select(self.model, self.request)
        self._freeze(parameters)
        title = f"forgetting ({self.recipe})"
        self.loop = Loop(self.model, parameters, self.training, len(self.plan), state=self.update, title=title)
        try:
            with self.loop.products():
                self.objective.prepare(self.model, self.rows, self.plan)
        except BaseException:
            self._let_go()
            raise

    def work(self, run: Run | None) -> Result:
        """Take the steps, check what they did, save."""
        loop = self.loop
        loop.run_folder = self.run = run
        before = {name: parameter.detach().clone() for name, parameter in loop.parameters.items()}
        try:
            loop.resume()
            outcome = loop.run(self._step, self._should_stop, _words)
        finally:
            self._let_go()
        moved = max(float((p.detach() - before[n]).abs().max()) for n, p in loop.parameters.items())
        return self._finish(outcome, moved, loop)

    def _let_go(self) -> None:
        self.loop.release()
        self.model.frozen = None

    def _with_values(self) -> Request:
        tokens = getattr(self.recipe.objective.settings, "tokens", "answer")
        if tokens != "value" and self.settings.stop != "control":
            return self.request
        request = dataclasses.replace(self.request, forget=tuple(find_values(self.model, self.request.forget)))
        if self.settings.stop == "control":
            levels = [level for level in control_probability(self.model, request.forget) if level is not None]
            if levels:
                self.control = math.exp(sum(map(math.log, levels)) / len(levels))
            else:
                self.warnings.append("no forget row has a subject: there is no control level, all steps are taken")
        return request

    def _rows(self) -> Rows:
        encoder = self.model.encoder()
        forget = encoder.encode_all(self.request.forget, "forget row")
        retain = encoder.encode_all(self.request.retain, "retain row")
        if getattr(self.recipe.objective.settings, "tokens", "answer") == "answer":
            forget = [dataclasses.replace(row, value=()) for row in forget]
        return Rows(self.model, self.request.forget, forget, retain, self.training.seed)

    def _plan(self) -> list[Meeting]:
        rows, batch = len(self.request.forget), self.training.batch_size
        steps = self.settings.steps or self.settings.epochs * math.ceil(rows / batch)
        sampler = self.recipe.sampler.make()
        plan: list[Meeting] = sampler.plan(rows, len(self.request.retain), batch, steps, self.training.seed)
        return plan

    def _freeze(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Keep the output of the layers below the lowest one that moves, where it pays and fits."""
        below = lowest_layer(self.model, parameters)
        width = self.model.base().get_input_embeddings().weight.shape[1]
        tokens = sum(len(row.ids) for row in [*self.rows.forget, *self.rows.retain])
        if below > 0 and 4 * width * tokens < LARGEST_CACHE:
            self.model.frozen = FrozenLayers(below)

    def _step(self, step: int) -> Mapping[str, float]:
        loop, size = self.loop, self.training.micro_batch_size
        pairs = loop.share(make_pairs(self.rows, self.plan[step], size, loop.accelerator.num_processes, step))
        try:
            metrics: dict[str, float] = self.update.step(loop, self.objective, pairs)
        except TrainingError as error:
            raise self._blamed(error, step) from None
        return metrics

    def _blamed(self, error: TrainingError, step: int) -> TrainingError:
        """The error with the first row whose own loss is not finite; the last good state is kept."""
        guilty = "no row alone is to blame"
        with torch.no_grad():
            for name, numbers in zip(("forget", "retain"), self.plan[step], strict=True):
                for number in numbers:
                    alone: Meeting = ([number], []) if name == "forget" else ([], [number])
                    total = self.objective.terms(self.model, make_pairs(self.rows, alone, 0, 1, step)[0]).total()
                    if total is not None and not math.isfinite(float(total)) and guilty == "no row alone is to blame":
                        row: Example = getattr(self.request, name)[number]
                        guilty = f"{name} row {row.id}"
        self.loop.keep()
        kept = f"; the last good state is kept in {self.run.folder}" if self.run else ""
        return TrainingError(
            f"{error.problem} ({guilty}){kept}", "start again with a lower learning rate and another --out"
        )

    def _should_stop(self, history: Sequence[Mapping[str, float]]) -> str | None:
        if self.settings.collapse and collapsed(history, self._uniform()):
            return COLLAPSED
        if self.control is None or len(history) < self.settings.least_steps:
            return None
        per_epoch = math.ceil(len(self.request.forget) / self.training.batch_size)
        recent = [math.exp(-metrics["forget_nll"]) for metrics in history[-per_epoch:] if "forget_nll" in metrics]
        if len(recent) == per_epoch and max(recent) <= self.control:
            return f"control level reached (probability {max(recent):.4f} <= {self.control:.4f})"
        return None

    def _uniform(self) -> float:
        return math.log(self.model.base().get_output_embeddings().weight.shape[0])

    def _finish(self, outcome: Outcome, moved: float, loop: Loop) -> Result:
        if not loop.finite():
            raise TrainingError("the weights are not finite after the last step", "lower the learning rate")
        if moved == 0 and outcome.steps:
            raise TrainingError("no weight moved", "raise the learning rate, or choose another scope")
        if outcome.stopped == COLLAPSED:
            self.warnings.append(f"the model collapsed at step {outcome.steps}; its answers are damaged, not forgotten")
        if not self.request.retain:
            self.warnings.append("no retain rows: nothing held the rest of the model in place")
        self.warnings += self.model.notes
        folder = None
        if self.run is not None and loop.accelerator.is_main_process:
            folder = self.run.folder
            self.model.save(folder / "model", card=model_card(self.model.name, self.recipe, self.request))
            result = {
                "steps": outcome.steps,
                "stopped": outcome.stopped,
                "moved": moved,
                "warnings": self.warnings,
            }
            write_json(folder / "result.json", result)
        return Result(self.model, outcome, moved, self.request, self.warnings, folder)


def collapsed(history: Sequence[Mapping[str, float]], uniform: float) -> bool:
    """Whether the last three steps show a model that falls apart: the retain loss is above 4 nats and 3 above its
    first value, or the forget tokens are less probable than the square of a uniform guess (`uniform` nats)."""

    def bad(metrics: Mapping[str, float]) -> bool:
        retain = metrics.get("retain_loss")
        lost = retain is not None and retain > max(4.0, history[0].get("retain_loss", 0.0) + 3.0)
        return lost or metrics.get("forget_nll", 0.0) > 2 * uniform

    return len(history) >= 3 and all(bad(metrics) for metrics in history[-3:])


def lowest_layer(model: LanguageModel, parameters: Mapping[str, nn.Parameter]) -> int:
    """The lowest block that any of the parameters belongs to; 0 if one of them lies outside the blocks."""
    chosen = set(map(id, parameters.values()))
    place = {id(p): i for i, block in enumerate(blocks(model.base())) for p in block.parameters()}
    return min((place.get(parameter, 0) for parameter in chosen), default=0)


def make_pairs(rows: Rows, meeting: Meeting, size: int, processes: int, step: int) -> list[Pair]:
    """The micro-batches of one effective batch, each half knowing the counts of the whole."""
    forget, retain = (micro_batches(numbers, size, processes) if numbers else [] for numbers in meeting)
    forget_batches = with_totals([rows.forget_batch(part) for part in forget])
    retain_batches = with_totals([rows.retain_batch(part) for part in retain])
    pairs = []
    for i in range(max(len(forget_batches), len(retain_batches))):
        first = forget_batches[i] if i < len(forget_batches) else None
        second = retain_batches[i] if i < len(retain_batches) else None
        pairs.append(Pair(first, second, step))
    return pairs


def _words(metrics: Mapping[str, float]) -> str:
    shown = {name: metrics[name] for name in ("forget_nll", "forget_loss", "retain_loss") if name in metrics}
    return "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shown.items())


def model_card(base: str, recipe: Recipe, request: Request) -> str:
    """README.md of the saved model: what was done, not what was forgotten."""
    return (
        f"---\nbase_model: {base}\nlibrary_name: transformers\ntags: [unlearning, letheon]\n---\n\n"
        f"# A model after unlearning\n\nMethod `{recipe}`, request `{request.id}`, {len(request.forget)} forget rows, "
        f"{len(request.retain)} retain rows. The evidence is in the audit beside this folder. Approximate unlearning "
        "is not proof of erasure.\n"
    )
