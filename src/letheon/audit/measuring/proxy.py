"""A proxy reference: a stand-in for a retrained model, trained on the retain rows alone.

A retrained reference costs a whole training. Where there is a base model that never saw the rows to forget (mostly the
one that the model in question was fine-tuned from), a small LoRA adapter trained on the retain rows alone gives a model
that knows what is to be kept and not what is to be forgotten. It is no retrained model: it has not seen the rest of the
training data, and learned with fewer weights. The record names it a proxy.

From the model before no reference can be made: it has seen the rows, and training it on others does not take them away.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.core.workers import ALONE, Workers
from letheon.forget.request import Request
from letheon.forget.scopes.lora import LoRA
from letheon.forget.scopes.lora import Settings as LoRASettings

NAME = "proxy"


@dataclass(frozen=True)
class Settings:
    """Training of a proxy.

    Attributes:
        r, alpha: rank and scale of the adapter.
        learning_rate: a rate that adapters are commonly trained at; twenty times that of all weights.
        batch_size: rows per step.
        epochs: number of epochs at most.
        enough: mean loss over an epoch at which the rows count as known and training stops, nats per token.
    """

    r: int = 16
    alpha: int = 32
    learning_rate: float = 5e-4
    batch_size: int = 8
    epochs: int = 20
    enough: float = 0.05


def proxy_reference(
    base: LanguageModel | str | Path,
    request: Request,
    settings: Settings | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    workers: Workers = ALONE,
) -> LanguageModel:
    """Train an adapter on the retain rows and merge it into a copy of the base model; the base itself is not changed.

    Args:
        base: a model that did not see the rows to forget, or what `load` takes.
        workers: of several processes, the first trains and gives the adapter's weights to the others.

    Raises:
        InputError: the request has no retain rows.
    """
    chosen = settings or Settings()
    _demand_retain(request)
    loaded = load(base, device=device)
    model = LanguageModel(copy.deepcopy(loaded.model), loaded.tokenizer, loaded.name, list(loaded.notes))
    model.merge_adapter()
    per_epoch = -(-len(request.retain) // chosen.batch_size)

    def known(history: Sequence[Mapping[str, float]]) -> str | None:
        last = [step["loss"] for step in history[-per_epoch:]]
        return "the rows are known" if len(last) == per_epoch and np.mean(last) <= chosen.enough else None

    parameters = LoRA(LoRASettings(chosen.r, chosen.alpha)).select(model, request)
    training = TrainSettings(learning_rate=chosen.learning_rate, batch_size=chosen.batch_size, seed=seed)
    steps = chosen.epochs * per_epoch

    def train() -> dict[str, Tensor]:
        finetune(model, request.retain, training, steps, parameters=parameters, stop=known, title="training the proxy")
        return {name: weight.detach().cpu() for name, weight in parameters.items()}

    trained = workers.from_main(train)
    with torch.no_grad():
        for name, weight in parameters.items():
            weight.copy_(trained[name])
    model.merge_adapter()
    model.name = f"proxy: {loaded.name} with {len(request.retain)} retain rows"
    model.notes.append(
        f"The reference is a proxy: {loaded.name} with an adapter trained on the {len(request.retain)} retain rows "
        "alone. It stands in for a model retrained without the rows to forget, and is none."
    )
    return model


def check_reference(reference: str, request: Request | None = None) -> None:
    """Refuse a reference (a model's name, or `proxy:BASE`) that cannot be loaded or trained, without reading weights.

    Args:
        request: whose retain rows a proxy is trained on, where they are known already.

    Raises:
        InputError: `proxy` without a base or without retain rows, or a model that `load` would refuse.
    """
    base = _base_of(reference)
    if reference:
        check_loadable(base or reference)
    if base and request is not None:
        _demand_retain(request)


def resolve_reference(
    reference: str, request: Request, *, seed: int = 0, device: str = "auto", workers: Workers = ALONE
) -> LanguageModel | str | None:
    """Return the model that `--reference` names: none, a model's name, or a proxy that is trained now."""
    base = _base_of(reference)
    return proxy_reference(base, request, seed=seed, device=device, workers=workers) if base else reference or None


def _demand_retain(request: Request) -> None:
    if not request.retain:
        raise InputError(
            "a proxy reference is trained on the retain rows, and the request has none",
            "give retain rows, or leave the reference out",
        )


def _base_of(reference: str) -> str:
    """Return the base of `proxy:BASE`; empty where the reference is no proxy."""
    name, _, base = reference.partition(":")
    if name != NAME:
        return ""
    if not base:
        raise InputError(
            f"reference {reference!r}: a proxy needs a base model that never saw the rows to forget, and none is given",
            "write proxy:BASE with the model that yours was fine-tuned from, such as proxy:smollm2; the model before "
            "has seen the rows, so no reference can be made of it",
        )
    return base
