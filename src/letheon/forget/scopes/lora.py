"""LoRA: low-rank adapters on the blocks' matrices move, everything else stays; the result is a PEFT adapter.

Its starting values are the same under every seed. A model that comes with an adapter keeps it: that adapter moves,
with its own rank.

Paper:   Hu et al., LoRA, arXiv 2106.09685, by the PEFT library.
Differs: none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from letheon.core.activations import is_matrix
from letheon.core.errors import InputError
from letheon.core.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.forget.parts import Scope
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings:
    r: int = 8
    alpha: int = 16
    targets: str = "all-linear"  # or names separated by spaces

    def __post_init__(self) -> None:
        check_settings(self, positive=("r", "alpha"))


@method("scope", "lora", Settings, paper="2106.09685")
class LoRA(Scope):
    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        if model.has_adapter:
            adapter = {name: p for name, p in model.model.named_parameters() if "lora_" in name}
            if not adapter:
                raise InputError(f"{model.name} has an adapter that is no LoRA", "use the scope everything")
            return adapter
        from peft import LoraConfig, get_peft_model

        settings = self.settings
        targets = settings.targets if settings.targets == "all-linear" else settings.targets.split()
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the adapters start alike in every process and in a resumed run
            try:
                model.model = get_peft_model(model.model, config).eval()
            except ValueError as error:
                names = sorted({name.split(".")[-1] for name, m in model.base().named_modules() if is_matrix(m)})
                remedy = f"choose other targets, as lora:targets=NAME; this model's are {', '.join(names)}"
                raise InputError(f"lora: {str(error).splitlines()[0]}", remedy) from None
        model.model.peft_config["default"].base_model_name_or_path = model.name
        return {name: p for name, p in model.model.named_parameters() if p.requires_grad}
