"""Sites in a transformer, found by structure: record them, edit them, stop after one, start from one.

This is the only place that registers hooks. Blocks are the largest list of like modules; attention is the child of a
block whose forward takes a mask; the MLP (or mixture of experts) is the heaviest other child. So Llama, Qwen, Gemma,
Mistral, Phi, GPT-2, GPT-NeoX and mixture layouts are read alike, and a new architecture needs no entry in a list.
Blocks that return a tensor (transformers 5) or a tuple are both understood.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from letheon.core.errors import InputError

if TYPE_CHECKING:
    from letheon.core.encoding import Batch
    from letheon.core.models import LanguageModel

Kind = Literal["residual", "attention", "mlp", "heads", "input"]
# Kinds that are seen on the way into their module.
ENTERING = ("heads", "input")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the network: `residual` (a block's output), `attention` or `mlp` (what they add to it), `heads`
    (the concatenated heads before the output projection; [batch, length, heads * head_dim]), or `input` (what enters a
    block; that of layer 0 are the embeddings)."""

    layer: int
    kind: Kind = "residual"


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer's blocks: of all lists of like modules, the one with the most parameters.

    Raises:
        InputError: the module has no such list.
    """
    best, size = None, 0
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) > 0 and len({type(child) for child in module}) == 1:
            parameters = sum(parameter.numel() for parameter in module.parameters())
            if parameters > size:
                best, size = module, parameters
    if best is None:
        raise InputError("no list of like blocks found in the model", "give a transformer language model")
    return best


def attention(block: nn.Module) -> nn.Module:
    """The child of a block that attends: its forward takes an attention mask."""
    for child in block.children():
        if "attention_mask" in inspect.signature(child.forward).parameters:
            return child
    raise InputError(f"{type(block).__name__} has no attention", "this block needs another kind of site")


def mlp(block: nn.Module) -> nn.Module:
    """The child of a block, other than its attention, that holds the most parameters."""
    others = [child for child in block.children() if child is not attention(block)]
    return max(others, key=lambda child: sum(parameter.numel() for parameter in child.parameters()))


def output_projection(block: nn.Module) -> nn.Module:
    """The last matrix of a block's attention: it mixes the heads back into the residual stream."""
    matrices = [m for m in attention(block).children() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    return matrices[-1]


def down_projection(block: nn.Module) -> nn.Module:
    """The last matrix of a block's MLP: it maps the inner activations back to the width of the residual stream.

    Raises:
        InputError: the MLP has no such matrix (a mixture of experts has many).
    """
    matrices = [child for child in mlp(block).children() if is_matrix(child)]
    if not matrices or sides(matrices[-1])[0] != sides(matrices[0])[1]:
        raise InputError(
            f"{type(mlp(block)).__name__} has no single matrix back to the residual stream",
            "choose weights by name: layers=5-7:parameters=TEXT",
        )
    return matrices[-1]


def is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies its input by its `weight`: a linear layer, or GPT-2's transposed one."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight lies as [inputs, outputs], as in GPT-2, instead of [outputs, inputs]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def sides(matrix: nn.Module) -> tuple[int, int]:
    """How many outputs and inputs a matrix has."""
    outputs, inputs = matrix.get_parameter("weight").shape
    return (inputs, outputs) if is_transposed(matrix) else (outputs, inputs)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, tensor: Tensor) -> Any:
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


def _module(model: nn.Module, site: Site) -> nn.Module:
    layers = blocks(model)
    if not -len(layers) <= site.layer < len(layers):
        raise InputError(f"layer {site.layer} asked for, the model has {len(layers)}", f"use 0 to {len(layers) - 1}")
    block = layers[site.layer]
    find = {"attention": attention, "mlp": mlp, "heads": output_projection}
    return find[site.kind](block) if site.kind in find else block


def _entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _with_entering(args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor) -> tuple[Any, Any]:
    return ((tensor, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": tensor})


@contextmanager
def record(model: nn.Module, sites: Sequence[Site]) -> Iterator[dict[Site, Tensor]]:
    """Within the block, every forward pass leaves the sites' activations in the yielded dictionary.

    They keep their graph; detach them if gradients are not wanted.
    """
    found: dict[Site, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            module = _module(model, site)
            if site.kind in ENTERING:
                handle = module.register_forward_pre_hook(
                    lambda _, args, kwargs, site=site: found.__setitem__(site, _entering(args, kwargs)),
                    with_kwargs=True,
                )
            else:
                handle = module.register_forward_hook(
                    lambda _, __, output, site=site: found.__setitem__(site, _first(output))
                )
            stack.callback(handle.remove)
        yield found


@contextmanager
def edit(model: nn.Module, edits: Mapping[Site, Callable[[Tensor], Tensor]]) -> Iterator[dict[Site, int]]:
    """Within the block, each site's activations are replaced by `edits[site](activations)`.

    Yields a count of calls per site: after decoding n tokens with a cache each must have fired n times.
    """
    calls = dict.fromkeys(edits, 0)

    def before(site: Site, change: Callable[[Tensor], Tensor]) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            calls[site] += 1
            return _with_entering(args, kwargs, change(_entering(args, kwargs)))

        return hook

    def after(site: Site, change: Callable[[Tensor], Tensor]) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
            calls[site] += 1
            return _with_first(output, change(_first(output)))

        return hook

    with ExitStack() as stack:
        for site, change in edits.items():
            module = _module(model, site)
            if site.kind in ENTERING:
                handle = module.register_forward_pre_hook(before(site, change), with_kwargs=True)
            else:
                handle = module.register_forward_hook(after(site, change))
            stack.callback(handle.remove)
        yield calls


@contextmanager
def labelled_head(model: Any, row: Tensor, position: Tensor) -> Iterator[None]:
    """Within the block, the vocabulary matrix sees only hidden[row, position]: logits become [1, n, vocabulary].

    What the architecture does to its logits afterwards (scaling, soft caps) stays as it is.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise InputError(f"{type(model).__name__} has no output embeddings", "give a causal language model")
    handle = head.register_forward_pre_hook(lambda _, args: (args[0][row, position][None],))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def head_input(model: Any) -> Iterator[list[Tensor]]:
    """Within the block, the yielded list receives what the vocabulary matrix sees at each call, [n, width].

    It is a hook after the call, so it sees the positions that `labelled_head` has chosen.
    """
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, args, __: seen.append(args[0].flatten(0, -2)))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def watch_inputs(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within the block, `see(name, input)` is called with what enters each module at every call of it.

    For modules that are no `Site`: an adapter's factors, the feed-forward matrices of a U-Net.
    """
    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_pre_hook(lambda _, args, name=name: see(name, args[0]))
            stack.callback(handle.remove)
        yield


@contextmanager
def watch_calls(module: nn.Module, see: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Within the block, each call of a module first hands its arguments to `see`, by name: mask, positions, cache."""
    names = inspect.signature(module.forward)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = names.bind_partial(*args, **kwargs).arguments
        see({**bound, **bound.pop("kwargs", {})})

    handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def hooked_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that carry forward hooks now, by name: what a model does beside its weights."""
    return {name: one for name, one in model.named_modules() if one._forward_hooks or one._forward_pre_hooks}


@contextmanager
def count_calls(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """Within the block, the yielded dictionary counts how often each module's hooks are run."""
    calls = dict.fromkeys(modules, 0)
    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
            stack.callback(handle.remove)
        yield calls


@contextmanager
def leaf_embeddings(model: Any) -> Iterator[list[Tensor]]:
    """Within the block, the yielded list receives the input embeddings' output at each call, [batch, length, width].

    It is a leaf of the graph, cut from the table: a loss has a gradient with respect to it even if no weight has one.
    """
    seen: list[Tensor] = []

    def cut(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    handle = model.get_input_embeddings().register_forward_hook(cut)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def bypass(model: nn.Module, layer: int) -> Iterator[None]:
    """Within the block, a layer adds nothing: what enters it leaves it, so the residual stream goes on."""

    def pass_on(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return _with_first(output, args[0] if args else kwargs["hidden_states"])

    handle = _module(model, Site(layer)).register_forward_hook(pass_on, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watch_backward(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Within the block, a backward pass calls `see(name, input, gradient)` for each call of a module.

    The input is what entered it, the gradient that of the loss with respect to its output; both detached. No weight
    needs a gradient: outputs that no graph leads to become leaves of one.
    """

    def after(name: str, args: tuple[Any, ...], output: Tensor) -> None:
        if not output.requires_grad:
            output.requires_grad_()
        entered = args[0].detach()

        def hook(gradient: Tensor) -> None:
            see(name, entered, gradient.detach())

        output.register_hook(hook)  # type: ignore[no-untyped-call]  # torch does not annotate it

    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_hook(lambda _, args, output, name=name: after(name, args, output))
            stack.callback(handle.remove)
        yield


class _Stop(Exception):
    """Leaves a forward pass early; caught where it was asked for."""


@contextmanager
def stop_after(model: nn.Module, layer: int) -> Iterator[None]:
    """Within the block, forward passes end after a layer: nothing above it is run. Put the call last in the block."""

    def stop(*_: Any) -> None:
        raise _Stop

    handle = blocks(model)[layer].register_forward_hook(stop)
    try:
        yield
    except _Stop:
        pass
    finally:
        handle.remove()


@contextmanager
def start_from(model: nn.Module, layer: int, hidden: Tensor) -> Iterator[None]:
    """Within the block, forward passes begin at a layer with `hidden` [batch, length, width]; none below it is run."""
    layers = blocks(model)

    def skip(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states

    def replace(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return _with_entering(args, kwargs, hidden)

    with ExitStack() as stack:
        for block in list(layers)[:layer]:
            own = block.__dict__.get("forward")
            block.forward = skip  # an instance attribute hides the class's method
            stack.callback(_restore_forward, block, own)
        handle = layers[layer].register_forward_pre_hook(replace, with_kwargs=True)
        stack.callback(handle.remove)
        yield


def _restore_forward(block: nn.Module, own: Any) -> None:
    del block.forward
    if own is not None:
        block.forward = own


class FrozenLayers:
    """Outputs of the layers that do not move, computed once per row and looked up by the row's number.

    Args:
        below: layers 0 to below - 1 are frozen; later passes start at layer `below`.

    Attributes:
        alike: whether rows that begin with the same tokens begin with the same states.
    """

    alike = True

    def __init__(self, below: int) -> None:
        self.below = below
        self.states: dict[int, Tensor] = {}

    def states_of(self, model: LanguageModel, batch: Batch) -> Tensor:
        """[batch, length, width]: what enters layer `below`, zero at padding."""
        for i, number in enumerate(batch.index.tolist()):
            if number not in self.states:
                self.states[number] = self._alone(model, batch.input_ids[i, : int(batch.attention_mask[i].sum())])
        rows = [self.states[number] for number in batch.index.tolist()]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        short = batch.input_ids.shape[1] - padded.shape[1]
        return nn.functional.pad(padded, (0, 0, 0, short)) if short else padded

    def _alone(self, model: LanguageModel, ids: Tensor) -> Tensor:
        """[length, width] of one row by itself: which rows it meets first must not show in its last bits."""
        import torch

        site = Site(self.below - 1)
        with torch.no_grad(), record(model.base(), [site]) as found, stop_after(model.base(), self.below - 1):
            model.base()(ids[None], use_cache=False)
        return found[site][0].clone()
