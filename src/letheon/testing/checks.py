"""The promises that every method keeps; each check's first line is the promise that is broken when it fails."""

from __future__ import annotations

import math
import re
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.model.models import LanguageModel, load
from letheon.core.scoring.likelihood import score
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.run import resume
from letheon.forget.settings import Result
from letheon.testing.kills import Killed, killed_before_saving, killed_before_step
from letheon.testing.samples import exchanged_request, sample_request
from letheon.testing.trial import STEPS, MethodTrial, demand

# Largest difference of a gradient's entry, relative to its largest entry, between two splits of one effective batch.
# Sums of float32 in another order differ by some 1e-7 each; 1e-5 leaves two digits for their growth through layers,
# while the smallest normalisation fault (a mean over rows instead of tokens) changes gradients by per cents.
SPLIT_TOLERANCE = 1e-5


def check_runs(trial: MethodTrial) -> None:
    """It takes three steps, moves weights and reports finite metrics."""
    result = trial.first
    demand(result.outcome.steps == STEPS, f"{result.outcome.steps} steps taken ({result.outcome.stopped})")
    demand(result.moved > 0, "no weight moved")
    demand(all(result.outcome.history), "a step without metrics")


def check_keeps_to_its_scope(trial: MethodTrial) -> None:
    """It moves only weights that its scope selects, and leaves every other bit alone."""
    model = load(trial.start, device="cpu")
    untouched = {id(parameter): parameter.detach().clone() for parameter in model.model.parameters()}
    assert isinstance(trial.recipe, Recipe)
    selected = set(trial.recipe.scope.make().select(model, sample_request()))  # may attach adapters, which rename
    start = {name: untouched.get(id(p), p.detach()) for name, p in model.model.named_parameters()}
    end = _weights(trial.first.model)
    demand(set(start) == set(end), f"other weights than before: {sorted(set(start) ^ set(end))[:3]}")
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    demand(bool(moved), "no weight moved")
    demand(moved <= selected, f"moved outside its scope: {sorted(moved - selected)[:3]}")


def check_edits(trial: MethodTrial) -> None:
    """It moves weights and reports finite metrics."""
    result = trial.first
    demand(result.moved > 0, "no weight moved")
    demand(bool(result.outcome.history) and all(result.outcome.history), "no metrics")
    values = [value for metrics in result.outcome.history for value in metrics.values()]
    demand(all(map(math.isfinite, values)), "a metric that is not finite")


def check_changes_what_it_says(trial: MethodTrial) -> None:
    """It adds and removes no weight, and changes only weights that its `changes` names (a regular expression)."""
    assert isinstance(trial.recipe, StandaloneMethod)
    says = getattr(trial.recipe.part.make(), "changes", "")  # nothing said: any weight may change
    start, end = _weights(load(trial.start, device="cpu")), _weights(trial.first.model)
    demand(set(start) == set(end), f"other weights than before: {sorted(set(start) ^ set(end))[:3]}")
    strays = [name for name in start if not torch.equal(start[name], end[name]) and not re.search(says, name)]
    demand(not strays, f"changed beside {says!r}: {strays[:3]}")


def check_repeats(trial: MethodTrial) -> None:
    """The same seed gives the same bits."""
    again = trial.run()
    same = trial.first.model.parameters_hash() == again.model.parameters_hash()
    demand(same, "two runs differ", "draw random numbers from the run's seed: stream_seed(seed, name)")
    demand(trial.first.outcome.history == again.outcome.history, "the metrics of two runs differ")


def check_other_seed_differs(trial: MethodTrial) -> None:
    """Another seed gives another result."""
    same = trial.first.model.parameters_hash() == trial.run(seed=1).model.parameters_hash()
    demand(not same, "seeds 0 and 1 end in the same weights", "if nothing is random, say seeded=False")


def check_ignores_the_seed(trial: MethodTrial) -> None:
    """Nothing in it is random, so another seed gives the same result."""
    same = trial.first.model.parameters_hash() == trial.run(seed=1).model.parameters_hash()
    demand(same, "seeds 0 and 1 end in different weights", "leave seeded=False out")


def check_splits_agree(trial: MethodTrial) -> None:
    """One effective batch gives one gradient, however it is split into micro-batches.

    Gradients of the first optimizer step are compared before Adam sees them: its first step is lr·g/(|g| + ε), which
    turns the rounding of an entry near zero into a step of full size.
    """
    whole = _first_gradients(trial, micro_batch_size=8)
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    demand(scale > 0, "the first gradient is zero")
    for size in (3, 1):
        parts = _first_gradients(trial, micro_batch_size=size)
        worst = max(float((whole[name] - parts[name]).abs().max()) for name in whole) / scale
        demand(
            worst <= SPLIT_TOLERANCE,
            f"micro-batches of {size} change the gradient of 8 rows by {worst:.1e} of its largest entry",
            "divide by the effective batch: batch.mean(values, unit)",
        )


def check_turns(trial: MethodTrial) -> None:
    """It forgets the forget rows: their loss rises beside the retain rows', and the reverse if both are exchanged."""
    rise = _rise(trial.first.model)
    exchanged = _rise(trial.run(exchanged_request()).model)
    demand(
        rise > exchanged,
        f"the forget rows' loss rose by {rise:+.1e} nats beside the retain rows', and by {exchanged:+.1e} exchanged",
        "see which rows each term gets, and the signs; if weights from random ones cannot show it, say turns=False",
    )


def check_saves(trial: MethodTrial) -> None:
    """What it saves, plain transformers or PEFT reads back bit for bit."""
    with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
        model = trial.first.model
        kept, read = _weights(model), _plainly(model.save(Path(scratch) / "model"))
    demand(set(kept) == set(read), f"other weights are read back: {sorted(set(kept) ^ set(read))[:3]}")
    different = [name for name, tensor in kept.items() if not torch.equal(read[name], tensor)]
    demand(not different, f"read back differently: {different[:3]}")


def check_resumes(trial: MethodTrial) -> None:
    """A run that is killed between two steps and continued ends in the bits of an unbroken one."""
    unbroken, kill_at = trial.first.model.parameters_hash(), STEPS - 1
    result = _resumed(trial, killed_before_step(kill_at))
    demand(result.outcome.steps == STEPS, f"killed at step {kill_at}, it ended at {result.outcome.steps}")
    same = result.model.parameters_hash() == unbroken
    demand(same, f"killed at step {kill_at}, it ends elsewhere", "keep the tensors it needs in state_dict()")


def check_restarts(trial: MethodTrial) -> None:
    """Killed at its second optimizer step (if any) or before it is saved, and resumed, it ends in the same bits."""
    for killed in (killed_before_step(1), killed_before_saving()):
        same = _resumed(trial, killed).model.parameters_hash() == trial.first.model.parameters_hash()
        demand(same, "resumed, it ends elsewhere", "start from the model as it was, or from a state kept in the run")


def _resumed(trial: MethodTrial, killed: AbstractContextManager[None]) -> Result:
    """Run the method until it is killed (or to its end), and continue from its folder."""
    with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
        out = Path(scratch) / "run"
        with suppress(Killed), killed:
            trial.run(out=out, checkpoint_steps=1)
        return resume(out, device="cpu")


@torch.no_grad()
def _rise(model: LanguageModel) -> float:
    """Mean loss of the sample request's forget answers minus that of its retain answers, nats per token."""
    request = sample_request()
    both = [model.encoder().encode_all(rows) for rows in (request.forget, request.retain)]
    forget, retain = (-float(score(model, model.encoder().collate(rows)).logp.mean()) for rows in both)
    return forget - retain


# Helpers ------------------------------------------------------------------------------------------------------------


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


def _first_gradients(trial: MethodTrial, micro_batch_size: int) -> dict[str, Tensor]:
    """The gradients that the optimizer is given at the first step, by parameter."""
    found: dict[str, Tensor] = {}

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        found.update({str(i): p.grad.clone() for i, p in enumerate(parameters) if p.grad is not None})

    with register_optimizer_step_pre_hook(take):
        trial.run(steps=1, batch_size=8, micro_batch_size=micro_batch_size)
    return found
