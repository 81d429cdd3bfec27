"""LoRA adapters (PEFT library), with the same initial values in every process and run.

Paper:   Hu et al., LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, quiet
from letheon.core.model.sites import is_matrix

if TYPE_CHECKING:
    from torch import nn


def attach_lora(model: LanguageModel, r: int, alpha: int, targets: str = "all-linear") -> dict[str, nn.Parameter]:
    """Attach a LoRA adapter, or use the one that the model has; afterwards only its weights require gradients.

    Args:
        r, alpha: rank and scale.
        targets: `all-linear`, or module names separated by spaces.

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
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        target_modules=targets if targets == "all-linear" else targets.split(),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # adapters start equal in every process and in a resumed run
        try:
            with quiet():
                model.model = get_peft_model(model.model, config).eval()
        except ValueError as error:
            names = sorted({name.split(".")[-1] for name, m in model.base().named_modules() if is_matrix(m)})
            remedy = f"choose other targets, as lora:targets=NAME; this model's are {', '.join(names)}"
            raise InputError(f"lora: {str(error).splitlines()[0]}", remedy) from None
    model.model.peft_config["default"].base_model_name_or_path = model.name
    return {name: p for name, p in model.model.named_parameters() if p.requires_grad}
