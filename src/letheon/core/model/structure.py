"""A model's architecture without its weights, for refusals before anything is loaded."""

from __future__ import annotations

import contextlib
import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from letheon.core.errors import InputError
from letheon.core.model.attention import attending, check_attention
from letheon.core.model.formats import Base, cast_weights
from letheon.core.model.models import LanguageModel, adapter_base, quiet, read_config

if TYPE_CHECKING:
    from torch import nn

EMBEDDED = ("tiny", "smollm2")


def structure_of(model: LanguageModel | str | Path) -> nn.Module | None:
    """Return the transformers model that a name stands for, on the meta device; of a loaded model, the model itself.

    Embedded models are small Llamas that are loaded as quickly as looked at: for these it returns None.

    Raises:
        InputError: the configuration cannot be found, or is not that of a causal language model.
    """
    if isinstance(model, LanguageModel):
        base: nn.Module = model.base()
        return base
    text = str(model)
    while (Path(text) / "adapter_config.json").is_file():
        text = adapter_base(Path(text))
    return None if text in EMBEDDED else _built(text)


def check_taken(model: LanguageModel | str | Path, attention: str) -> None:
    """Refuse an attention implementation that an architecture does not take (`InputError`), before it is loaded."""
    check_attention(attention)
    structure = structure_of(model) if attention else None
    if structure is not None:
        with attending(structure, attention):
            pass


def load_structure(name: str, base: Base = "float32") -> LanguageModel:
    """Load what `load` loads but the weights, which stay on the meta device: tokenizer, settings, modules."""
    from transformers import AutoTokenizer, GenerationConfig

    built = copy.deepcopy(_built(name)).eval()
    cast_weights(built, base)
    with contextlib.suppress(OSError), quiet():
        built.generation_config = GenerationConfig.from_pretrained(name)
    return LanguageModel(built, AutoTokenizer.from_pretrained(name), name)


@lru_cache(maxsize=4)
def _built(source: str) -> nn.Module:
    import torch
    from transformers import AutoModelForCausalLM

    config, _ = read_config(source)
    try:
        with torch.device("meta"), quiet():
            built: nn.Module = AutoModelForCausalLM.from_config(config)
            return built
    except (ImportError, ValueError) as error:
        problem = f"{source} cannot be built here: {str(error).splitlines()[0]}"
        raise InputError(problem, "install what it needs, or give another model") from None
