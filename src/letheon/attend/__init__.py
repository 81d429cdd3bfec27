"""Layers that attend otherwise: approximate, linear, gated.

`letheon.attend.hyper_attention(q, k, v, causal=True)` is a function of tensors; `letheon.load(name, attention="hyper")`
and `letheon.attend.use_hyper(model, patch="last:20")` put it into a language model. Names load when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from letheon.attend.attaching import attach as attach
    from letheon.attend.attaching import load_addons as load_addons
    from letheon.attend.gated_swinrmt import GatedSwinRMT as GatedSwinRMT
    from letheon.attend.hyper import hyper_attention as hyper_attention
    from letheon.attend.hyper.binding import use_hyper as use_hyper
    from letheon.attend.nalaformer import NaLaFormer as NaLaFormer
    from letheon.attend.nalaformer import nala_attention as nala_attention

_PLACES = {
    "attach": "letheon.attend.attaching",
    "load_addons": "letheon.attend.attaching",
    "hyper_attention": "letheon.attend.hyper",
    "use_hyper": "letheon.attend.hyper.binding",
    "nala_attention": "letheon.attend.nalaformer",
    "NaLaFormer": "letheon.attend.nalaformer",
    "GatedSwinRMT": "letheon.attend.gated_swinrmt",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'letheon.attend' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
