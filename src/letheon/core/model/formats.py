"""How weights are read: number formats (float32, bfloat16, or four bits by bitsandbytes), and that none is missing."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from letheon.core.errors import InputError, some_of_them

if TYPE_CHECKING:
    from torch import nn

Base = Literal["float32", "bfloat16", "4bit"]
MOST_NAMED = 3


def check_base(base: Base) -> None:
    """Refuse four bits where bitsandbytes is not installed (`InputError`)."""
    if base == "4bit" and find_spec("bitsandbytes") is None:
        raise InputError("a 4bit base needs bitsandbytes, which is not installed", "install it, or use base=bfloat16")


def base_of(model: nn.Module) -> Base:
    """Return the format in which a transformers model's weights are held."""
    import torch

    if getattr(model, "is_loaded_in_4bit", False):
        return "4bit"
    return "bfloat16" if next(model.parameters()).dtype == torch.bfloat16 else "float32"


def cast_weights(model: nn.Module, base: Base) -> None:
    """Hold a model's weights in a format, four bits as bfloat16; buffers keep their type, as in `from_pretrained`."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float32 if base == "float32" else torch.bfloat16)


def held_in(base: Base) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that hold the weights in a format.

    Four bits are NF4 with doubly quantised scales, and products in bfloat16 (Dettmers et al., QLoRA, arXiv 2305.14314).
    """
    import torch

    check_base(base)
    if base != "4bit":
        return {"dtype": getattr(torch, base)}
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.bfloat16, "quantization_config": quantised}


def check_tensors(name: str, missing: Collection[str], unread: Collection[str]) -> list[str]:
    """Refuse weight files that lack tensors of the architecture; return notes on tensors that it does not read.

    Missing tensors would be drawn at random. Unread ones are no error, since old checkpoints hold buffers that are no
    longer used, but they may be layers that config.json leaves out, or other weights.

    Args:
        name: what the model was loaded by.
        missing, unread: names of tensors, without those that transformers knows to be tied or out of use.

    Raises:
        InputError: names some of the missing tensors.
    """
    if missing:
        raise InputError(
            f"{name} lacks tensors that its configuration asks for: {some_of_them(sorted(missing), MOST_NAMED)}",
            "complete the weight files, or give the config.json that belongs to them",
        )
    if not unread:
        return []
    return [f"{name} holds tensors that its configuration does not read: {some_of_them(sorted(unread), MOST_NAMED)}"]
