"""The battery for steering methods, which `letheon.testing.check_method` runs for the kind `steering`.

Each check's first line is the promise that is broken when it fails.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letheon.core.model.hooks import hooked_modules
from letheon.core.model.models import LanguageModel, load
from letheon.core.registry import find
from letheon.core.rows.examples import Example
from letheon.steer.apply import steered
from letheon.steer.method import fit
from letheon.steer.steering import Steering
from letheon.steer.texts import Contrast
from letheon.testing.trial import demand, with_options

TOPICS = ("The cat", "A king", "My aunt", "The sea", "Rain", "A shoe")


class SteeringTrial:
    """A steering method under check, on the tiny model or on a tiny mixture of experts, with the texts it is given."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.text = with_options(name, options)
        self.record = find("steering", name)
        self.contrast = Contrast(
            [Example("", f"{one} is good!", id=one) for one in TOPICS],
            [Example("", f"{one} is bad?", id=one) for one in TOPICS],
        )

    def model(self) -> LanguageModel:
        """Return a fresh model."""
        plain = load("tiny", device="cpu")
        return _mixture(plain) if self.record.factory.mixture else plain  # type: ignore[attr-defined]  # of steering methods

    def run(self, seed: int = 0) -> Steering:
        """Fit the method on a fresh model."""
        return fit(self.model(), self.contrast, self.text, seed=seed)

    @cached_property
    def first(self) -> Steering:
        """The steering under seed 0."""
        return self.run()

    def logits(self, model: LanguageModel) -> Tensor:
        """Return the logits of a short text."""
        ids = torch.tensor([model.encoder().answer("The king is", end=False)[0]])
        with torch.no_grad():
            logits: Tensor = model.base()(ids).logits
        return logits

    def steered_logits(self, steering: Steering, strength: float = 1.0) -> Tensor:
        """Return the logits of a short text under a steering."""
        model = self.model()
        with steered(model, steering, strength):
            return self.logits(model)


def _mixture(plain: LanguageModel) -> LanguageModel:
    """Return a mixture of experts of random weights with the tiny model's tokenizer."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=plain.vocabulary,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=6,
        num_experts_per_tok=2,
        pad_token_id=plain.pad_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LanguageModel(MixtralForCausalLM(config).eval(), plain.tokenizer, "tiny mixture")


def check_acts(trial: SteeringTrial) -> None:
    """It changes the logits, which stay finite, and strength 0 changes nothing."""
    plain, moved = trial.logits(trial.model()), trial.steered_logits(trial.first)
    demand(bool(moved.isfinite().all()), "logits that are not finite")
    demand(not torch.equal(moved, plain), "the steering changes no logit")
    demand(torch.equal(trial.steered_logits(trial.first, 0.0), plain), "strength 0 changes logits")


def check_leaves_the_model(trial: SteeringTrial) -> None:
    """It leaves the model as it was: weights, gradients, hooks."""
    model = trial.model()
    before, wanted = model.parameters_hash(), [one.requires_grad for one in model.model.parameters()]
    fit(model, trial.contrast, trial.text)
    demand(model.parameters_hash() == before, "weights have changed")
    demand([one.requires_grad for one in model.model.parameters()] == wanted, "requires_grad has changed")
    demand(not hooked_modules(model.model), "hooks are left on the model")


def check_repeats(trial: SteeringTrial) -> None:
    """The same seed gives the same maps, bit for bit."""
    demand(_same(trial.first, trial.run()), "two runs differ")


def check_seed(trial: SteeringTrial) -> None:
    """Another seed gives other maps if the method says so, else the same."""
    same = _same(trial.first, trial.run(seed=1))
    demand(same != trial.record.seeded, "the seed " + ("has no effect" if same else "has an effect"))


def check_saves(trial: SteeringTrial) -> None:
    """Its file gives back the same maps."""
    with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
        again = Steering.load(trial.first.save(Path(scratch) / "steering.safetensors"))
    demand(_same(trial.first, again), "the maps of the file differ")


def _same(one: Steering, other: Steering) -> bool:
    return {name: tensor.tolist() for name, tensor in _tensors(one).items()} == {
        name: tensor.tolist() for name, tensor in _tensors(other).items()
    }


def _tensors(steering: Steering) -> dict[str, Tensor]:
    maps = {f"{site}.{name}": t for site, one in steering.maps.items() for name, t in one.tensors().items()}
    return maps | {str(layer): one.table for layer, one in steering.switches.items()}


CHECKS: list[Callable[[SteeringTrial], None]] = [
    check_acts,
    check_leaves_the_model,
    check_repeats,
    check_seed,
    check_saves,
]
