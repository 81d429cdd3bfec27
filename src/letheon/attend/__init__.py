"""Approximate, linear and gated attention layers, and memory add-ons for pretrained language models.

`letheon.attend.hyper_attention(q, k, v, causal=True)`, `far_attention` and `nala_attention` are functions of tensors;
`letheon.load(name, attention="hyper")` or `"far"`, and `letheon.attend.use_hyper(model, patch="last:20")` or `use_far`,
put the first two into a language model. `NaLaFormer("t")` and `GatedSwinRMT("swat")` are image backbones,
`attach(model, "resonance")` adds a memory to a frozen model, `letheon.attend.pavlovian` is attention as conditioning.
Names load on first use; the modules are attributes too: `letheon.attend.resonance.Settings(rule="delta")`.

Imports core, report and probe.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from letheon.attend import far as far
    from letheon.attend import gated_swinrmt as gated_swinrmt
    from letheon.attend import hyper as hyper
    from letheon.attend import nalaformer as nalaformer
    from letheon.attend import pavlovian as pavlovian
    from letheon.attend import resonance as resonance
    from letheon.attend import reweaving as reweaving
    from letheon.attend.attaching import attach as attach
    from letheon.attend.attaching import load_addons as load_addons
    from letheon.attend.far import far_attention as far_attention
    from letheon.attend.far.binding import use_far as use_far
    from letheon.attend.gated_swinrmt import GatedSwinRMT as GatedSwinRMT
    from letheon.attend.hyper import hyper_attention as hyper_attention
    from letheon.attend.hyper.binding import use_hyper as use_hyper
    from letheon.attend.nalaformer import NaLaFormer as NaLaFormer
    from letheon.attend.nalaformer import nala_attention as nala_attention

_PLACES = {
    "attach": "letheon.attend.attaching",
    "load_addons": "letheon.attend.attaching",
    "far_attention": "letheon.attend.far",
    "use_far": "letheon.attend.far.binding",
    "hyper_attention": "letheon.attend.hyper",
    "use_hyper": "letheon.attend.hyper.binding",
    "nala_attention": "letheon.attend.nalaformer",
    "NaLaFormer": "letheon.attend.nalaformer",
    "GatedSwinRMT": "letheon.attend.gated_swinrmt",
}
_MODULES = ("far", "gated_swinrmt", "hyper", "nalaformer", "pavlovian", "resonance", "reweaving")

__all__ = [*_PLACES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"letheon.attend.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'letheon.attend' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
