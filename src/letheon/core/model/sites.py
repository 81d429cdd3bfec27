"""Sites in a transformer, located by structure instead of by name.

Blocks are the largest list of like modules; attention is the child of a block whose forward takes a mask; the MLP (or
mixture of experts) is the largest other child. This covers Llama, Qwen, Gemma, Mistral, Phi, GPT-2, GPT-NeoX and
mixture layouts, and a new architecture needs no registration.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal

from torch import nn

from letheon.core.errors import InputError

Kind = Literal["residual", "attention", "mlp", "heads", "input", "mlp_input", "neurons"]


# Kinds that are inputs of their module; the others are outputs.
ENTERING = ("heads", "input", "mlp_input", "neurons")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the network where activations are read or edited.

    Attributes:
        layer: index of the block.
        kind: `residual` (the block's output), `attention` or `mlp` (its output, added to the residual stream), `heads`
            (concatenated heads before the output projection, [batch, length, heads * head_dim]), `input` (the
            block's input; for layer 0 the embeddings), `mlp_input` (the MLP's input, after its norm), or `neurons`
            (the input of the MLP's down projection).
    """

    layer: int
    kind: Kind = "residual"


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer's blocks: the list of like modules with the most parameters.

    Modules are alike if they are of one class, or if each takes hidden states first (the layers of a hybrid model).
    Of a model that also sees images, the blocks of its language model are returned.

    Raises:
        InputError: the model has no list of like modules.
    """
    best, size = None, 0
    for module in text_part(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) > 0 and _are_alike(module):
            parameters = sum(parameter.numel() for parameter in module.parameters())
            if parameters > size:
                best, size = module, parameters
    if best is None:
        raise InputError("no list of like blocks found in the model", "give a transformer language model")
    return best


def text_part(model: nn.Module) -> nn.Module:
    """Return the language model inside a model that also sees images; any other model itself."""
    config = getattr(model, "config", None)
    if getattr(config, "text_config", None) is None:
        return model
    return next((m for name, m in model.named_modules() if name.endswith("language_model")), model)


def _are_alike(modules: nn.ModuleList) -> bool:
    if len({type(child) for child in modules}) == 1:
        return True
    return all(next(iter(inspect.signature(child.forward).parameters), "") == "hidden_states" for child in modules)


def has_attention(block: nn.Module) -> bool:
    """Return whether a block mixes tokens by attention, not by a recurrence (Mamba, a linear attention)."""
    try:
        name = type(attention(block)).__name__.lower()
    except InputError:
        return False
    return "attention" in name and "linear" not in name and "lightning" not in name


def is_recurrent(model: nn.Module) -> bool:
    """Return whether any block of a model is without attention, so that no mask alone decides what a token sees."""
    return not all(has_attention(block) for block in blocks(model))


def fused_experts(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters [experts, rows, columns] in which transformers 5 fuses a mixture's experts, by name."""
    inside = {
        id(parameter)
        for block in blocks(model)
        for module in block.modules()
        if not isinstance(module, nn.modules.conv._ConvNd)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 3
    }
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in inside}


def attention(block: nn.Module) -> nn.Module:
    """Return a block's attention: the child whose forward takes an attention mask."""
    for child in block.children():
        if "attention_mask" in inspect.signature(child.forward).parameters:
            return child
    raise InputError(f"{type(block).__name__} has no attention", "this block needs another kind of site")


def mlp(block: nn.Module) -> nn.Module:
    """Return a block's MLP: the child with the most parameters besides the attention."""
    others = [child for child in block.children() if child is not attention(block)]
    return max(others, key=lambda child: sum(parameter.numel() for parameter in child.parameters()))


def output_projection(block: nn.Module) -> nn.Module:
    """Return a block's output projection: the last matrix of its attention, after the heads."""
    matrices = [m for m in attention(block).children() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    return matrices[-1]


def down_projection(block: nn.Module) -> nn.Module:
    """Return a block's down projection: the last matrix of its MLP, back to the width of the residual stream.

    Raises:
        InputError: the MLP has no such matrix (a mixture of experts has many).
    """
    matrices = [child for child in mlp(block).children() if is_matrix(child)]
    if not matrices or sides(matrices[-1])[0] != sides(matrices[0])[1]:
        raise InputError(
            f"{type(mlp(block)).__name__} has no single matrix back to the residual stream",
            "choose another site, or weights by name: layers=5-7:parameters=TEXT",
        )
    return matrices[-1]


def has_down_projection(block: nn.Module) -> bool:
    """Return whether a block's MLP ends in one matrix back to the residual stream; a mixture's does not."""
    try:
        down_projection(block)
    except InputError:
        return False
    return True


def is_matrix(module: nn.Module) -> bool:
    """Return whether a module is a linear layer, or GPT-2's transposed one."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_transposed(module: nn.Module) -> bool:
    """Return whether the weight is [inputs, outputs], as in GPT-2, instead of [outputs, inputs]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def sides(matrix: nn.Module) -> tuple[int, int]:
    """Return the number of outputs and of inputs of a matrix."""
    outputs, inputs = matrix.get_parameter("weight").shape
    return (inputs, outputs) if is_transposed(matrix) else (outputs, inputs)


def module_at(model: nn.Module, site: Site) -> nn.Module:
    """Return the module whose input or output a site is.

    Raises:
        InputError: the model has no such layer.
    """
    layers = blocks(model)
    if not -len(layers) <= site.layer < len(layers):
        raise InputError(f"layer {site.layer} asked for, the model has {len(layers)}", f"use 0 to {len(layers) - 1}")
    block = layers[site.layer]
    find = {
        "attention": attention,
        "mlp": mlp,
        "mlp_input": mlp,
        "heads": output_projection,
        "neurons": down_projection,
    }
    return find[site.kind](block) if site.kind in find else block
