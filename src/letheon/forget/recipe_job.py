"""One recipe on one model and request: rows, plan, parts, steps, checks, the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from letheon.core.errors import TrainingError, some_of_them
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import blocks
from letheon.core.processes import is_main_process
from letheon.core.rows.encoding import with_totals
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import micro_batches
from letheon.core.runs import Run
from letheon.core.scoring.spans import control_probability, find_values
from letheon.core.scoring.word_masks import word_masks
from letheon.core.training.loop import Loop, TrainingOutcome
from letheon.core.training.placement import Place
from letheon.core.training.settings import TrainSettings
from letheon.core.training.sharding import Whole, from_main, ghosts
from letheon.forget.closed_loop import EXTRAPOLATED, FEWER, MOST_RUNS, PLANNED, ClosedLoop, raise_rate
from letheon.forget.parts import Objective, Pair, PairIndices, Penalty, Rows, Sampler, Scope, Update, terms_of
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.request import Request
from letheon.forget.settings import CLOSED, ForgetSettings, Result

# A frozen prefix is kept only while it fits comfortably into memory.
LARGEST_CACHE = 4_000_000_000
COLLAPSED = "the model collapsed"
Made = TypeVar("Made")
# Given the model and the number of steps taken: a reason to end the run, or None.
OnStep = Callable[[LanguageModel, int], str | None]


class RecipeJob:
    """One recipe on one model and request."""

    def __init__(
        self,
        model: LanguageModel,
        request: Request,
        recipe: Recipe,
        settings: ForgetSettings,
        training: TrainSettings,
        on_step: OnStep | None = None,
        place: Place = Whole,
    ) -> None:
        self.model, self.request, self.recipe = model, request, recipe
        self.settings, self.training, self.on_step = settings, training, on_step
        self.place = place
        self.run: Run | None = None
        self.start = self._once(model.parameters_hash)
        self.warnings: list[str] = []
        self.exposure: dict[str, Any] = {}
        self.control: float | None = None
        self.closed: ClosedLoop | None = None

    def _once(self, make: Callable[[], Made]) -> Made:
        """Compute what needs the whole model: in every process that holds it, else in the one that does."""
        return make() if self.place is Whole else from_main(make)

    def prepare(self) -> None:
        """Find values, encode rows, plan steps, make the parts and compute reference values, in this order."""
        self.request, self.control = self._once(self._with_values)
        self.rows = self._rows()
        self.plan = self._plan()
        self.update: Update = self.recipe.update.make()
        self.scope: Scope = self.recipe.scope.make()
        self.objective: Objective = self.recipe.objective.make()
        parameters = self.scope.select(self.model, self.request)
        self._freeze(parameters)
        title = f"forgetting ({self.recipe})"
        self.loop = Loop(
            self.model, parameters, self.training, len(self.plan), state=self.update, title=title, place=self.place
        )
        try:
            with self.loop.autocast():
                self.objective.prepare(self.model, self.rows, self.plan)
            self.update.prepare(self.loop, self.objective, self.rows, self.scope)
        except BaseException:
            self._let_go()
            raise
        # most objectives write nothing
        bare = [row.id for row, one in zip(self.rows.examples, self.objective.written, strict=False) if not one.plain]
        if bare:
            self.warnings.append(f"no answer without the fact could be written for forget rows {some_of_them(bare)}")

    def work(self, run: Run | None) -> Result:
        """Take the steps and check the weights that they leave."""
        loop = self.loop
        loop.run_folder = self.run = run
        before = {name: parameter.detach().clone() for name, parameter in loop.parameters.items()}
        try:
            if self.settings.stop in CLOSED:
                self.closed = self._closed(before)
            loop.resume()
            outcome = loop.run(self._step, self._should_stop, _words)
        finally:
            self._let_go()
        change = {name: parameter.detach() - before[name] for name, parameter in loop.parameters.items()}
        largest = max((float(tensor.abs().max()) for tensor in change.values() if tensor.numel()), default=0.0)
        moved, finite = loop.sharding.largest(largest), loop.finite()
        kept: dict[str, Tensor] = {}
        if self.settings.keep_update:
            put_together = {name: loop.sharding.whole(name, tensor) for name, tensor in change.items()}
            kept = {name: tensor for name, tensor in put_together.items() if tensor is not None}
        return self._finish(outcome, moved, finite, kept)

    def _closed(self, before: Mapping[str, Tensor]) -> ClosedLoop:
        with self.loop.autocast():
            return ClosedLoop(
                self.model,
                self.rows,
                before,
                plan=self.plan,
                per_epoch=math.ceil(len(self.request.forget) / self.training.batch_size) * self.objective.turns,
                raises=self.settings.stop == "auto",
                extrapolates=self.settings.extrapolate,
                repairable=self._repairable(),
                written=self.objective.written,
                bare=self.objective.bare,
            )

    def _repairable(self) -> frozenset[int]:
        """The retain rows of the plan, and the watched ones if the objective has prepared for them."""
        if self.recipe.option("alpha") == 0:
            return frozenset()
        return frozenset(i for _, retain in self.plan for i in retain) | self.objective.beyond

    def _let_go(self) -> None:
        self.loop.release()
        self.model.frozen = None

    def _with_values(self) -> tuple[Request, float | None]:
        """Return the request with its rows' values, and the control level, where they are asked for."""
        control, tokens = None, self.recipe.option("tokens")
        if tokens != "value" and self.settings.stop != "control":
            return self.request, None
        request = dataclasses.replace(self.request, forget=tuple(find_values(self.model, self.request.forget)))
        if self.settings.stop == "control":
            levels = [level for level in control_probability(self.model, request.forget) if level is not None]
            if levels:
                control = math.exp(sum(map(math.log, levels)) / len(levels))
            else:
                self.warnings.append("no forget row has a subject: there is no control level, all steps are taken")
        return request, control

    def _rows(self) -> Rows:
        encoder = self.model.encoder()
        forget = encoder.encode_all(self.request.forget, "forget row")
        retain = encoder.encode_all(self.request.retain, "retain row")
        masks: Sequence[tuple[bool, ...]] = [row.value for row in forget]
        tokens = self.recipe.option("tokens")
        if tokens != "value":
            words = tokens == "words"
            masks = word_masks(encoder, self.request.forget, self.request.retain) if words else [()] * len(forget)
        forget = [dataclasses.replace(row, value=mask) for row, mask in zip(forget, masks, strict=True)]
        return Rows(self.model, self.request.forget, forget, retain, self.training.seed, self.request)

    def _plan(self) -> list[PairIndices]:
        sampler: Sampler = self.recipe.sampler.make()
        steps = planned_steps(self.recipe, self.request, self.settings, self.training)
        plan = sampler.plan(self.request, self.training.batch_size, steps, self.training.seed)
        self.exposure = sampler.report(self.request, plan)
        return plan

    def _freeze(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Cache the output of the layers below the lowest one that moves, if there are any and the cache fits."""
        below = lowest_layer(self.model, parameters)
        tokens = sum(len(row.ids) for row in [*self.rows.forget, *self.rows.retain])
        if self.place is not Whole:
            return  # rows that are new are run as they come: the processes would make unequal numbers of passes
        if below > 0 and 4 * self.model.width * tokens < LARGEST_CACHE:
            self.model.frozen = FrozenLayers(below)

    def _step(self, step: int) -> Mapping[str, float]:
        loop, size = self.loop, self.training.micro_batch_size
        if self.closed is not None:
            raise_rate(loop.optimizer, self.closed.rate(loop.history))
        processes, penalty = loop.accelerator.num_processes, self.scope.penalty
        place = step if self.closed is None else self.closed.planned(loop.history)
        meeting = self.plan[place] if self.closed is None else self.closed.step(loop.history, self.plan[place])
        pairs = loop.shard(make_pairs(self.rows, meeting, size, processes, place, penalty))
        try:
            metrics: dict[str, float] = self.update.step(loop, self.objective, pairs)
        except TrainingError as error:
            raise self._blamed(error, meeting, place) from None
        if self.closed is not None:
            metrics |= {PLANNED: place} if place != step else {}
            metrics |= {FEWER: len(meeting[0])} if self.closed.narrows(loop.history) else {}
            loop.optimizer.zero_grad(set_to_none=True)  # a look needs their memory
            with loop.autocast():
                metrics |= self.closed.after([*loop.history, metrics], last=step + 1 == loop.total)
        return metrics

    def _blamed(self, error: TrainingError, meeting: PairIndices, step: int) -> TrainingError:
        """Name the first row whose own loss is not finite, and save the last good state."""
        guilty = "no row alone is to blame"
        with torch.no_grad():
            for name, numbers in zip(("forget", "retain"), meeting, strict=True):
                for number in numbers:
                    alone: PairIndices = ([number], []) if name == "forget" else ([], [number])
                    pair = make_pairs(self.rows, alone, 0, 1, step, self.scope.penalty)[0]
                    total = terms_of(self.model, self.objective, pair).total()
                    if total is not None and not math.isfinite(float(total)) and guilty == "no row alone is to blame":
                        row: Example = getattr(self.request, name)[number]
                        guilty = f"{name} row {row.id}"
        self.loop.save_checkpoint()
        kept = f"; the last good state is kept in {self.run.folder}" if self.run else ""
        return TrainingError(
            f"{error.problem} ({guilty}){kept}", "start again with a lower learning rate and another --out"
        )

    def _should_stop(self, history: Sequence[Mapping[str, float]]) -> str | None:
        # Where the change was made longer the weights are no longer those of the steps: the run ends for that reason.
        longer = EXTRAPOLATED in history[-1]
        if not longer and self.settings.collapse and collapsed(history, math.log(self.model.vocabulary)):
            return COLLAPSED
        if self.on_step is not None and (reason := self._ask_on_step(len(history))) and not longer:
            return reason
        if self.closed is not None:
            reason = self.closed.reason(history, last=len(history) == self.loop.total)
            if reason is None or longer or not self.settings.lessen:
                return reason
            with self.loop.autocast():
                return self.closed.lessen(history)
        if self.control is None or len(history) < self.settings.least_steps:
            return None
        per_epoch = math.ceil(len(self.request.forget) / self.training.batch_size)
        recent = [math.exp(-metrics["forget_nll"]) for metrics in history[-per_epoch:] if "forget_nll" in metrics]
        if len(recent) == per_epoch and max(recent) <= self.control:
            return f"control level reached (probability {max(recent):.4f} <= {self.control:.4f})"
        return None

    def _ask_on_step(self, steps: int) -> str | None:
        """Call `on_step` without frozen layers, because it may run the model on rows that their cache does not have."""
        frozen, self.model.frozen = self.model.frozen, None
        try:
            return self.on_step(self.model, steps) if self.on_step is not None else None
        finally:
            self.model.frozen = frozen

    def _finish(self, outcome: TrainingOutcome, moved: float, finite: bool, change: dict[str, Tensor]) -> Result:
        if not finite:
            raise TrainingError("the weights are not finite after the last step", "lower the learning rate")
        if moved == 0 and outcome.steps:
            raise TrainingError("no weight moved", "raise the learning rate, or choose another scope")
        if outcome.stopped == COLLAPSED:
            self.warnings.append(f"the model collapsed at step {outcome.steps}; its answers are damaged, not forgotten")
        if self.closed is not None and outcome.stopped.startswith("bound"):
            self.warnings.append(f"the goals of stop={self.settings.stop} were not reached: {outcome.stopped}")
        if self.place is Whole or is_main_process():  # after shards the others have no weights
            self.scope.finish(self.model)
        shapes = {name: parameter.shape for name, parameter in self.model.model.named_parameters()}
        fits = all(shapes.get(name) == tensor.shape for name, tensor in change.items())
        if self.settings.keep_update and not fits:
            self.warnings.append("no update was kept: the scope gave the model other weights than those it trained")
        kept = change if fits else {}
        table = [dict(row) for row in self.scope.table]
        return Result(
            self.model, outcome, moved, self.request, self.warnings, table=table, change=kept, exposure=self.exposure
        )


def planned_steps(
    recipe: Recipe | StandaloneMethod, request: Request, settings: ForgetSettings, training: TrainSettings
) -> int:
    """Optimizer steps of a run that does not end early: the requested number, or that of the epochs.

    A closed loop may take `MOST_RUNS` times the epochs.
    """
    pairs = recipe.sampler.make().epoch(request) if isinstance(recipe, Recipe) else len(request.forget)
    epochs = settings.epochs * (MOST_RUNS if settings.stop in CLOSED else 1)
    return settings.steps or epochs * math.ceil(pairs / training.batch_size)


def collapsed(history: Sequence[Mapping[str, float]], uniform: float) -> bool:
    """Whether the last three steps show a model that falls apart: the retain loss is above 4 nats and 3 above its
    first value, or the forget tokens are less probable than the square of a uniform guess (`uniform` nats)."""

    def bad(metrics: Mapping[str, float]) -> bool:
        retain = metrics.get("retain_loss")
        lost = retain is not None and retain > max(4.0, history[0].get("retain_loss", 0.0) + 3.0)
        # of few forget rows, which may be far gone, the likelihood says nothing of the model
        return lost or (FEWER not in metrics and metrics.get("forget_nll", 0.0) > 2 * uniform)

    return len(history) >= 3 and all(bad(metrics) for metrics in history[-3:])


def lowest_layer(model: LanguageModel, parameters: Mapping[str, nn.Parameter]) -> int:
    """The lowest block that any of the parameters belongs to; 0 if one of them lies outside the blocks."""
    chosen = set(map(id, parameters.values()))
    place = {id(p): i for i, block in enumerate(blocks(model.base())) for p in block.parameters()}
    return min((place.get(parameter, 0) for parameter in chosen), default=0)


def make_pairs(
    rows: Rows, meeting: PairIndices, size: int, processes: int, step: int, penalty: Penalty | None = None
) -> list[Pair]:
    """Split one effective batch into micro-batches; each half carries the counts of the whole batch."""
    forget, retain = (micro_batches(numbers, size, processes) if numbers else [] for numbers in meeting)
    forget_batches = with_totals([rows.forget_batch(part) for part in forget])
    retain_batches = with_totals([rows.retain_batch(part) for part in retain])
    pairs = []
    carriers = len(retain_batches) or len(forget_batches)  # of a penalty on weights, in equal shares
    if rows.model.sharded:  # as many pairs in each process, and all with the same halves
        count = processes * -(-max(len(forget_batches), len(retain_batches)) // processes)
        forget_batches, retain_batches = ghosts(forget_batches, count), ghosts(retain_batches, count)
    for i in range(max(len(forget_batches), len(retain_batches))):
        first = forget_batches[i] if i < len(forget_batches) else None
        second = retain_batches[i] if i < len(retain_batches) else None
        share = 1 / carriers if i < carriers else 0.0
        pairs.append(Pair(first, second, step, share, penalty, forgotten=tuple(meeting[0])))
    return pairs


def _words(metrics: Mapping[str, float]) -> str:
    shown = {name: metrics[name] for name in ("forget_nll", "forget_loss", "retain_loss") if name in metrics}
    return "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shown.items())
