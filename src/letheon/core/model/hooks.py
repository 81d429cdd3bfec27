"""Hooks on a transformer's sites: record and edit activations, count calls, read gradients in the backward pass.

Only this module and `passes` register hooks. Blocks may return a tensor (transformers 5) or a tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from jaxtyping import Int
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.sites import ENTERING, Site, module_at

Name = TypeVar("Name")


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, tensor: Tensor) -> Any:
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


def entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the hidden states among the arguments of a block's call."""
    return args[0] if args else kwargs["hidden_states"]


def with_entering(args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor) -> tuple[Any, Any]:
    """Return the arguments of a block's call with the hidden states replaced by `tensor`."""
    return ((tensor, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": tensor})


@contextmanager
def record(model: nn.Module, sites: Sequence[Site]) -> Iterator[dict[Site, Tensor]]:
    """Record the sites' activations of every forward pass in the yielded dictionary while the block runs.

    Activations keep their graph; detach them if no gradient is needed.
    """
    found: dict[Site, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            module = module_at(model, site)
            if site.kind in ENTERING:
                handle = module.register_forward_pre_hook(
                    lambda _, args, kwargs, site=site: found.__setitem__(site, entering(args, kwargs)),
                    with_kwargs=True,
                )
            else:
                handle = module.register_forward_hook(
                    lambda _, __, output, site=site: found.__setitem__(site, _first(output))
                )
            stack.enter_context(handle)
        yield found


@contextmanager
def edit(model: nn.Module, edits: Mapping[Site, Callable[[Tensor], Tensor]]) -> Iterator[dict[Site, int]]:
    """Replace each site's activations by `edits[site](activations)` while the block runs.

    Yields the number of calls per site: decoding n tokens with a cache calls each site n times.
    """
    calls = dict.fromkeys(edits, 0)

    def before(site: Site, change: Callable[[Tensor], Tensor]) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            calls[site] += 1
            return with_entering(args, kwargs, change(entering(args, kwargs)))

        return hook

    def after(site: Site, change: Callable[[Tensor], Tensor]) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
            calls[site] += 1
            return _with_first(output, change(_first(output)))

        return hook

    with ExitStack() as stack:
        for site, change in edits.items():
            module = module_at(model, site)
            if site.kind in ENTERING:
                handle = module.register_forward_pre_hook(before(site, change), with_kwargs=True)
            else:
                handle = module.register_forward_hook(after(site, change))
            stack.enter_context(handle)
        yield calls


@contextmanager
def edit_outputs(modules: Mapping[Name, nn.Module], change: Callable[[Name, Any], Any]) -> Iterator[None]:
    """Replace each module's whole output by `change(name, output)` while the block runs, such as a router's choice."""
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(module.register_forward_hook(lambda _, __, output, name=name: change(name, output)))
        yield


@contextmanager
def labelled_head(model: Any, row: Int[Tensor, " n"], position: Int[Tensor, " n"]) -> Iterator[None]:
    """Apply the output head to hidden[row, position] only while the block runs: logits are [1, n, vocabulary].

    The architecture's own treatment of its logits (scaling, soft caps) is unchanged.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise InputError(f"{type(model).__name__} has no output embeddings", "give a causal language model")
    with head.register_forward_pre_hook(lambda _, args: (args[0][row, position][None],)):
        yield


@contextmanager
def head_input(model: Any) -> Iterator[list[Tensor]]:
    """Append the output head's input, [n, width], to the yielded list at each call while the block runs.

    The hook runs after the call, so it sees the positions that `labelled_head` has selected.
    """
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    with head.register_forward_hook(lambda _, args, __: seen.append(args[0].flatten(0, -2))):
        yield seen


@contextmanager
def on_inputs(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `see(name, input)` at every call of the modules while the block runs.

    Use it for modules that are no `Site`, such as an adapter's factors or a U-Net's feed-forward matrices.
    """
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(module.register_forward_pre_hook(lambda _, args, name=name: see(name, args[0])))
        yield


def by_row(seen: Tensor, rows: int, length: int) -> Tensor | None:
    """View what a module of a batch saw as [rows, length, width]; None if it did not see every token in order.

    Modules of a mixture get rows and tokens as one dimension, and some attention has one dimension more.
    """
    width = seen.shape[-1]
    return seen.reshape(rows, length, width) if seen.numel() == rows * length * width else None


@contextmanager
def on_calls(module: nn.Module, see: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Pass the arguments of each call of a module to `see`, by name (mask, positions, cache), while the block runs."""
    names = inspect.signature(module.forward)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = names.bind_partial(*args, **kwargs).arguments
        see({**bound, **bound.pop("kwargs", {})})

    with module.register_forward_pre_hook(before, with_kwargs=True):
        yield


def hooked_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that have forward hooks, by name: they change what a model computes beyond its weights."""
    return {name: one for name, one in model.named_modules() if one._forward_hooks or one._forward_pre_hooks}


@contextmanager
def count_calls(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """Count the calls of each module in the yielded dictionary while the block runs."""
    calls = dict.fromkeys(modules, 0)
    with edit_outputs(modules, lambda name, _: calls.__setitem__(name, calls[name] + 1)):  # None leaves the output
        yield calls


@contextmanager
def leaf_embeddings(model: Any) -> Iterator[list[Tensor]]:
    """Append the input embeddings' output, [batch, length, width], to the yielded list at each call in the block.

    The output is detached and becomes a leaf, so a loss has a gradient with respect to it even if no weight has one.
    """
    seen: list[Tensor] = []

    def cut(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    with model.get_input_embeddings().register_forward_hook(cut):
        yield seen


@contextmanager
def bypass(model: nn.Module, layer: int) -> Iterator[None]:
    """Replace a layer by the identity while the block runs: its input passes on unchanged."""

    def pass_on(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return _with_first(output, entering(args, kwargs))

    with module_at(model, Site(layer)).register_forward_hook(pass_on, with_kwargs=True):
        yield


@contextmanager
def on_backward(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `see(name, input, gradient)` in the backward pass for each forward call of a module in the block.

    `gradient` is the loss's gradient with respect to the module's output; both tensors are detached. No weight needs a
    gradient: an output without a graph becomes a leaf.
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
            stack.enter_context(
                module.register_forward_hook(lambda _, args, output, name=name: after(name, args, output))
            )
        yield
