"""Attention implementations by name, beyond those of transformers, and hooks on every layer's attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from letheon.core.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    # layer, queries [batch, heads, n, d], keys and values [batch, key heads, n, d], output as queries
    See = Callable[[int, Tensor, Tensor, Tensor, Tensor], None]
    # module, queries, keys, values, mask, further options -> output [batch, n, heads, d] and None
    Attend = Callable[..., tuple[Tensor, None]]

WATCHED = "letheon-watched"
# Implementations that attend by SDPA wherever they are exact; a module that registers one adds its name.
ON_SDPA: set[str] = set()
# Options of transformers' attention functions that SDPA leaves out, and what a model does that gives one.
UNLIKE_SDPA = {
    "softcap": "bounds its attention logits",
    "s_aux": "has learned sinks",
    "sinks": "has sinks for every token",
    "indices": "chooses keys by an indexer",
    "block_indices": "chooses blocks of keys by an indexer",
}


def provide(name: str | None) -> None:
    """Register an attention implementation with transformers if an entry point provides its name.

    Entry points of the group `letheon.attention` name modules; importing the module registers the implementation.
    """
    for point in entry_points(group="letheon.attention", name=name or ""):
        point.load()


def check_attention(name: str) -> None:
    """Refuse the name of an attention implementation that is not there (`InputError`); an empty one is none."""
    if not name:
        return
    from transformers import AttentionInterface, AttentionMaskInterface, utils

    provide(name)
    masked = set(AttentionMaskInterface().valid_keys())  # without a mask (`paged|...`) a token attends to later ones
    known = ["eager", *(one for one in AttentionInterface().valid_keys() if one in masked)]
    if name not in known:
        raise InputError(f"no attention is called {name!r}", nearest(name, known))
    needed = {f"flash_attention_{number}": f"is_flash_attn_{number}_available" for number in (2, 3, 4)}
    if name in needed and not getattr(utils, needed[name])():
        raise InputError(f"the attention {name!r} needs a package that is not here", "leave it out, or install it")


def refuse_unlike_sdpa(options: Mapping[str, Any], name: str, remedy: str = "leave the attention out") -> None:
    """Refuse an attention call with an option that SDPA leaves out (`InputError`); `name` is what stands on SDPA."""
    for option, does in UNLIKE_SDPA.items():
        if options.get(option) is not None:
            raise InputError(f"this model {does}, which {name} would leave out", remedy)


def check_sdpa(model: Any, name: str) -> None:
    """Refuse a transformers model whose attention SDPA does not compute: bounded logits or learned sinks.

    Raises:
        InputError: names the model and the attention `name` that stands on SDPA.
    """
    bound = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    if bound is not None or not getattr(model, "_supports_sdpa", True):
        problem = f"{type(model).__name__} bounds its attention logits, has learned sinks or attends in its own way"
        raise InputError(f"{problem}, which the attention {name!r} would leave out", "leave the attention out")


def switch(model: Any, name: str) -> None:
    """Switch a transformers model to another attention implementation.

    Raises:
        InputError: there is none of this name, it is not installed, the architecture does not use transformers'
            attention interface, or its attention is none that this implementation stands in for.
    """
    check_attention(name)
    if name in ON_SDPA:
        check_sdpa(model, name)
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        problem = f"{type(model).__name__} cannot take the attention {name!r}: {error}"
        raise InputError(problem, "leave the attention out") from None
    if model.config.get_text_config()._attn_implementation != name:
        raise InputError(
            f"{type(model).__name__} does not take the attention {name!r}",
            "give a model that uses transformers' attention interface, as Llama, Qwen, Gemma and Mistral do",
        )


@contextmanager
def attending(model: Any, name: str) -> Iterator[None]:
    """Within the block a transformers model attends by another implementation; an empty name leaves it as it is."""
    if not name:
        yield
        return
    before = model.config.get_text_config()._attn_implementation
    switch(model, name)
    try:
        yield
    finally:
        switch(model, before)


@contextmanager
def on_attention(model: Any, see: See) -> Iterator[None]:
    """Use exact attention and call `see` with each layer's queries, keys, values and output while the block runs.

    Queries and keys are taken after rotary positions; keys before they are repeated for grouped heads. Only one model
    at a time can be observed.

    Raises:
        InputError: the model attends as SDPA cannot: with bounded logits (Gemma 2), learned sinks (gpt-oss) or an
            indexer (DeepSeek 3.2).
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> Any:
        refuse_unlike_sdpa(options, "what observes attention", "observe another model")
        out, weights = sdpa_attention_forward(module, q, k, v, mask, **options)
        see(module.layer_idx, q, k, v, out.transpose(1, 2))
        return out, weights

    with replaced_attention(model, attend):
        yield


@contextmanager
def replaced_attention(model: Any, attend: Attend) -> Iterator[None]:
    """Let `attend` compute every layer's attention while the block runs; it gets masks as SDPA does (None: causal).

    Only one model at a time can have its attention replaced.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(WATCHED, attend)
    AttentionMaskInterface.register(WATCHED, sdpa_mask)
    with attending(model, WATCHED):
        yield
