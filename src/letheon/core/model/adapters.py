"""LoRA adapters (PEFT library), with the same initial values in every process and run.

Paper:   Hu et al., LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, quiet
from letheon.core.model.sites import (
    attention,
    blocks,
    fused_experts,
    has_attention,
    is_matrix,
    output_projection,
    text_part,
)

if TYPE_CHECKING:
    from torch import nn


ALL_LINEAR = "all-linear"
QUERIES_AND_KEYS = "queries-keys"


def attach_lora(
    model: LanguageModel, r: int, alpha: int, targets: str = ALL_LINEAR, *, experts: bool = True
) -> dict[str, nn.Parameter]:
    """Attach a LoRA adapter, or use the one that the model has; afterwards only its weights require gradients.

    Args:
        r, alpha: rank and scale.
        targets: `all-linear` (every matrix of the language model's blocks), `queries-keys` (the matrices that make
            attention's queries and keys, with the values where they share a matrix), or module names separated by
            spaces.
        experts: with `all-linear`, adapt the fused experts of a mixture too (PEFT's `target_parameters`); without them
            only attention's matrices are adapted there, because PEFT takes the names of other matrices for experts'.

    Returns:
        The adapter's parameters by name.

    Raises:
        InputError: the model's adapter is not a LoRA, or no module has such a name.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    if model.has_adapter:
        adapter = {name: p for name, p in model.model.named_parameters() if "lora_" in name}
        if not adapter:
            raise InputError(
                f"{model.name} has an adapter that is no LoRA", "let all weights move instead (@everything)"
            )
        for name, parameter in model.model.named_parameters():
            parameter.requires_grad_(name in adapter)
        return adapter
    fused = fused_targets(model.model) if experts and targets == ALL_LINEAR else []
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        target_modules=target_modules(model.model, targets, experts),
        target_parameters=fused or None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # adapters start equal in every process and in a resumed run
        with quiet():
            model.model = get_peft_model(model.model, config).eval()
    model.model.peft_config["default"].base_model_name_or_path = model.name
    return {name: p for name, p in model.model.named_parameters() if p.requires_grad}


def target_modules(model: nn.Module, targets: str, experts: bool = True) -> list[str] | str:
    """Return PEFT's `target_modules` for a text: names, or an expression where other parts have the same names.

    Raises:
        InputError: the language model's blocks have no matrix of such a name.
    """
    alone = not experts and bool(fused_experts(model))
    parts = [attention(block) if alone else block for block in blocks(model)]
    leaves = {name.rpartition(".")[2] for part in parts for name, module in part.named_modules() if is_matrix(module)}
    if targets == ALL_LINEAR:
        chosen = leaves
    elif targets == QUERIES_AND_KEYS:
        chosen = {name for block in blocks(model) for name in _queries_and_keys(block)}
    else:
        chosen = set(targets.split())
    if not chosen or not chosen & leaves:
        remedy = f"choose other targets, as lora:targets=NAME; this model's are {', '.join(sorted(leaves))}"
        raise InputError(f"lora: no matrix is called {' or '.join(sorted(chosen)) or targets}", remedy)
    if (part := text_part(model)) is model:
        return sorted(chosen)
    prefix = next(name for name, module in model.named_modules() if module is part)
    return rf"{re.escape(prefix)}\..*\.({'|'.join(map(re.escape, sorted(chosen)))})"


def _queries_and_keys(block: nn.Module) -> list[str]:
    """Name the matrices of a block's attention but its output projection and those of the values alone."""
    if not has_attention(block):
        return []
    matrices = {name: child for name, child in attention(block).named_children() if is_matrix(child)}
    last = output_projection(block)
    return [name for name, child in matrices.items() if child is not last and not name.startswith("v")]


def fused_targets(model: nn.Module) -> list[str]:
    """Return PEFT's `target_parameters` for the fused experts of a mixture, such as `mlp.experts.down_proj`."""
    inside = {id(parameter): name for block in blocks(model) for name, parameter in block.named_parameters()}
    return sorted({inside[id(parameter)] for parameter in fused_experts(model).values()})
