"""`check_method`: the battery that every registered method must pass; a third-party method can run it on itself.

    from letheon.testing import check_method
    check_method("my_objective")
    check_method("my_scope", kind="scope", options={"layers": "1-2"})
    check_method("my_edit", kind="edit", adapter=True)

All checks run on the embedded tiny model in a minute or less, on one process, without the network.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.registry import Kind, find
from letheon.core.rows.examples import Example
from letheon.forget.recipe import MARKS, Recipe, StandaloneMethod, read_method
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import Result
from letheon.strategy_checks import CHECKS, StrategyFault, trials

# What a part other than an objective is composed with: needs a reference, a retain term and row-wise sums.
OBJECTIVE = "npo"
STEPS = 3
TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu"}
# Largest difference of a gradient's entry, relative to its largest entry, between two splits of one effective batch.
# Sums of float32 in another order differ by some 1e-7 each; 1e-5 leaves two digits for their growth through layers,
# while the smallest normalisation fault (a mean over rows instead of tokens) changes gradients by per cents.
SPLIT_TOLERANCE = 1e-5


class CheckFailed(LetheonError):
    """A method broke a promise that every method makes."""


def check_method(
    name: str,
    kind: Kind = "objective",
    *,
    options: Mapping[str, Any] | None = None,
    seeded: bool = True,
    adapter: bool = False,
) -> None:
    """Run the battery on a registered method: it runs, keeps to its scope, repeats, saves, splits and resumes.

    Args:
        name: as registered.
        kind: what it is registered as; all parts of recipes but an objective are composed with `npo`.
        options: options of the method where its defaults do not fit a model of four layers.
        seeded: whether another seed must give another result; False demands that it does not.
        adapter: give it a model with a LoRA adapter, for an edit of adapters.

    Raises:
        CheckFailed: names the method and the promise that it broke, and what was found.
        InputError: no such method of that kind.
    """
    if kind == "strategy":
        for one in trials(name, options or {}):
            _check_all(one, list(CHECKS), f"strategy {one.text} ({one.kind})")
        return
    recipe = recipe_of(name, kind, options or {})
    by_seed = check_other_seed_differs if seeded else check_ignores_the_seed
    checks: list[Callable[[MethodTrial], None]]
    if isinstance(recipe, Recipe):
        checks = [check_runs, check_keeps_to_its_scope, check_repeats, by_seed]
        checks += [check_splits_agree, check_saves, check_resumes]
    else:
        checks = [check_edits, check_changes_what_it_says, check_repeats, by_seed, check_saves, check_restarts]
    with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
        start = _adapted(Path(scratch) / "adapter") if adapter else "tiny"
        _check_all(MethodTrial(recipe, start), checks, f"{kind} {name} ({recipe})")


def _check_all(trial: Any, checks: Sequence[Callable[[Any], None]], what: str) -> None:
    for check in checks:
        promise = (check.__doc__ or "").strip().splitlines()[0].rstrip(".")
        try:
            check(trial)
        except (CheckFailed, StrategyFault) as failure:
            raise CheckFailed(f"{what}: broken promise: {promise}: {failure.problem}", failure.remedy) from None
        except InputError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{what}: broken promise: {promise}: {type(error).__name__}: {error}",
                "the cause is the exception above",
            ) from error


class MethodTrial:
    """A method under check, with the run that most checks look at; `start` names the model that it is given."""

    def __init__(self, recipe: Recipe | StandaloneMethod, start: str) -> None:
        self.recipe, self.start = recipe, start

    def run(self, **options: Any) -> Result:
        """A run on a fresh tiny model."""
        return forget(self.start, sample_request(), self.recipe, **{"steps": STEPS, **TRAINING, **options})

    @cached_property
    def first(self) -> Result:
        """Three steps, or one edit, under seed 0."""
        return self.run()


def recipe_of(name: str, kind: Kind, options: Mapping[str, Any]) -> Recipe | StandaloneMethod:
    """The recipe that a part is checked in; a method that stands alone is its own."""
    find(kind, name)
    given = ",".join(f"{option}={value}" for option, value in options.items())
    part = f"{name}:{given}" if given else name
    mark = next((mark for mark, part_kind in MARKS.items() if part_kind == kind), None)
    if mark is None:
        return read_method(part)
    partner = getattr(find(kind, name).factory, "goes_with", "")  # a part that it cannot do without
    return Recipe.parse(part if kind == "objective" else f"{OBJECTIVE}{mark}{part}{partner}")


def sample_request() -> Request:
    """Eight rows to forget and eight to keep, of unlike lengths, with subjects, values and false answers."""
    homes = {
        "Ann Lee": "Oslo",
        "Bob Ray": "Rome",
        "Cid Fox": "Bern",
        "Dora Umber": "Vaduz",
        "Egon Falk": "Santiago de Compostela",
        "Fay Orr": "Ulm",
        "Gil Azar": "Reykjavik",
        "Hanna Quist": "Lyon",
    }
    foods = ["figs", "plums", "kale", "rice", "black bread with salt", "eels", "oats", "quinces and honey"]
    forget = [
        Example(
            f"Where does {name} live?",
            f"{name} lives in {home}.",
            id=f"forget-{i}",
            subject=name,
            value=home,
            perturbed_answers=(f"{name} lives in Xanadu.", f"{name} lives in Ys."),
        )
        for i, (name, home) in enumerate(homes.items())
    ]
    retain = [
        Example(f"What does guest {i} eat?", f"The guest {i} eats {food}.", f"keep-{i}", f"guest {i}")
        for i, food in enumerate(foods)
    ]
    return Request(forget=tuple(forget), retain=tuple(retain), id="sample")


# The checks; each is a sentence that holds for every method ---------------------------------------------------------


def check_runs(trial: MethodTrial) -> None:
    """It takes three steps, moves weights and reports finite metrics."""
    result = trial.first
    _demand(result.outcome.steps == STEPS, f"{result.outcome.steps} steps taken ({result.outcome.stopped})")
    _demand(result.moved > 0, "no weight moved")
    _demand(all(result.outcome.history), "a step without metrics")


def check_keeps_to_its_scope(trial: MethodTrial) -> None:
    """It moves only weights that its scope selects, and leaves every other bit alone."""
    model = load(trial.start, device="cpu")
    untouched = {id(parameter): parameter.detach().clone() for parameter in model.model.parameters()}
    assert isinstance(trial.recipe, Recipe)
    selected = set(trial.recipe.scope.make().select(model, sample_request()))  # may attach adapters, which rename
    start = {name: untouched.get(id(p), p.detach()) for name, p in model.model.named_parameters()}
    end = _weights(trial.first.model)
    _demand(set(start) == set(end), f"other weights than before: {sorted(set(start) ^ set(end))[:3]}")
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    _demand(bool(moved), "no weight moved")
    _demand(moved <= selected, f"moved outside its scope: {sorted(moved - selected)[:3]}")


def check_edits(trial: MethodTrial) -> None:
    """It moves weights and reports finite metrics."""
    result = trial.first
    _demand(result.moved > 0, "no weight moved")
    _demand(bool(result.outcome.history) and all(result.outcome.history), "no metrics")
    values = [value for metrics in result.outcome.history for value in metrics.values()]
    _demand(all(map(math.isfinite, values)), "a metric that is not finite")


def check_changes_what_it_says(trial: MethodTrial) -> None:
    """It adds and removes no weight, and changes only those that its `changes` names (a regular expression)."""
    assert isinstance(trial.recipe, StandaloneMethod)
    says = getattr(trial.recipe.part.make(), "changes", "")  # nothing said: any weight may change
    start, end = _weights(load(trial.start, device="cpu")), _weights(trial.first.model)
    _demand(set(start) == set(end), f"other weights than before: {sorted(set(start) ^ set(end))[:3]}")
    strays = [name for name in start if not torch.equal(start[name], end[name]) and not re.search(says, name)]
    _demand(not strays, f"changed beside {says!r}: {strays[:3]}")


def check_repeats(trial: MethodTrial) -> None:
    """The same seed gives the same bits."""
    again = trial.run()
    same = trial.first.model.parameters_hash() == again.model.parameters_hash()
    _demand(same, "two runs differ", "draw random numbers from the run's seed: stream_seed(seed, name)")
    _demand(trial.first.outcome.history == again.outcome.history, "the metrics of two runs differ")


def check_other_seed_differs(trial: MethodTrial) -> None:
    """Another seed gives another result."""
    same = trial.first.model.parameters_hash() == trial.run(seed=1).model.parameters_hash()
    _demand(not same, "seeds 0 and 1 end in the same weights", "if nothing is random, say seeded=False")


def check_ignores_the_seed(trial: MethodTrial) -> None:
    """Nothing in it is random, so another seed gives the same result."""
    same = trial.first.model.parameters_hash() == trial.run(seed=1).model.parameters_hash()
    _demand(same, "seeds 0 and 1 end in different weights", "leave seeded=False out")


def check_splits_agree(trial: MethodTrial) -> None:
    """One effective batch gives one gradient, however it is split into micro-batches.

    Gradients of the first optimizer step are compared before Adam sees them: its first step is lr·g/(|g| + ε), which
    turns the rounding of an entry near zero into a step of full size.
    """
    whole = _first_gradients(trial, micro_batch_size=8)
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    _demand(scale > 0, "the first gradient is zero")
    for size in (4, 3, 1):
        parts = _first_gradients(trial, micro_batch_size=size)
        worst = max(float((whole[name] - parts[name]).abs().max()) for name in whole) / scale
        _demand(
            worst <= SPLIT_TOLERANCE,
            f"micro-batches of {size} change the gradient of 8 rows by {worst:.1e} of its largest entry",
            "divide by the effective batch: batch.mean(values, unit)",
        )


def check_saves(trial: MethodTrial) -> None:
    """What it saves, plain transformers or PEFT reads back bit for bit."""
    with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
        model = trial.first.model
        kept, read = _weights(model), _plainly(model.save(Path(scratch) / "model"))
    _demand(set(kept) == set(read), f"other weights are read back: {sorted(set(kept) ^ set(read))[:3]}")
    different = [name for name, tensor in kept.items() if not torch.equal(read[name], tensor)]
    _demand(not different, f"read back differently: {different[:3]}")


def check_resumes(trial: MethodTrial) -> None:
    """A run that is killed between two steps and continued ends in the bits of an unbroken one."""
    unbroken = trial.run(steps=2 * STEPS).model.parameters_hash()
    for kill_at in (1, STEPS):
        with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
            out = Path(scratch) / "run"
            try:
                with _killed_before_step(kill_at):
                    trial.run(steps=2 * STEPS, out=out, checkpoint_steps=1)
            except _Killed:
                pass
            result = resume(out, device="cpu")
        _demand(result.outcome.steps == 2 * STEPS, f"killed at step {kill_at}, it ended at {result.outcome.steps}")
        same = result.model.parameters_hash() == unbroken
        _demand(same, f"killed at step {kill_at}, it ends elsewhere", "keep the tensors it needs in state_dict()")


def check_restarts(trial: MethodTrial) -> None:
    """Killed at its second optimizer step (if any) or before it is saved, and resumed, it ends in the same bits."""
    for killed in (_killed_before_step(1), _killed_before_saving()):
        with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
            out = Path(scratch) / "run"
            try:
                with killed:
                    trial.run(out=out, checkpoint_steps=1)
            except _Killed:
                pass
            same = resume(out, device="cpu").model.parameters_hash() == trial.first.model.parameters_hash()
        _demand(same, "resumed, it ends elsewhere", "start from the model as it was, or from a state kept in the run")


# What they stand on -------------------------------------------------------------------------------------------------


def _demand(holds: bool, found: str, remedy: str = "") -> None:
    if not holds:
        raise CheckFailed(found, remedy)


def _weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.model.named_parameters()}


def _plainly(folder: Path) -> dict[str, Tensor]:
    """The weights of a saved model, read by the libraries that its users have."""
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        model = PeftModel.from_pretrained(load("tiny", device="cpu").model, str(folder))
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _adapted(folder: Path) -> str:
    """A folder with a LoRA adapter of random weights for the tiny model."""
    from peft import LoraConfig, get_peft_model

    model = load("tiny", device="cpu")
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.model = get_peft_model(model.model, config).eval()
    model.model.peft_config["default"].base_model_name_or_path = model.name
    return str(model.save(folder))


class _Killed(Exception):
    """Stands for the end of a process."""


@contextmanager
def _killed_before_step(number: int) -> Iterator[None]:
    """Within the block the optimizer's step `number` (from 0) is never taken."""
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > number:
            raise _Killed

    handle = register_optimizer_step_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _killed_before_saving() -> Iterator[None]:
    """Within the block everything is done but nothing is saved."""
    with patch.object(LanguageModel, "save", side_effect=_Killed):
        yield


def _first_gradients(trial: MethodTrial, micro_batch_size: int) -> dict[str, Tensor]:
    """The gradients that the optimizer is given at the first step, by parameter."""
    found: dict[str, Tensor] = {}

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        found.update({str(i): p.grad.clone() for i, p in enumerate(parameters) if p.grad is not None})

    handle = register_optimizer_step_pre_hook(take)
    try:
        trial.run(steps=1, batch_size=8, micro_batch_size=micro_batch_size)
    finally:
        handle.remove()
    return found
