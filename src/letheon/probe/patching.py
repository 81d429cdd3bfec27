"""Activation patching: measure how far restoring each head's or MLP's activation recovers a behaviour.

A contrast is a clean prompt, a corrupted one, and the target token of the clean prompt. The behaviour M is the logit of
the target minus that of the corrupted prompt's token (or the target's log-probability if no other token is named).
Activations are patched at the last position only, so prompts may differ in length. For a module m,

    IE_m = [M(corrupted, m restored) − M(corrupted)] / [M(clean) − M(corrupted)],

numerator and denominator each summed over the contrasts, so that one without an effect cannot blow the ratio up. For a
circuit C, a set of modules, everything else is patched at once, the other way around:

    F(C) = [M(clean, all outside C corrupted) − M(corrupted)] / [M(clean) − M(corrupted)].

Source:  denoising by activation patching as in Heimersheim and Nanda, arXiv 2404.15255; attribution patching, its
         first-order form, (a_clean − a_corrupted)·∂M/∂a on the corrupted run, as in Syed et al., arXiv 2310.10348;
         faithfulness normalised as in Hanna et al., arXiv 2403.17806.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import edit, leaf_embeddings, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import Site, blocks

# Contrasts per pass.
ROWS = 32


@dataclass(frozen=True, order=True)
class Module:
    """A head of a layer's attention (its slice of the output projection's input), or the layer's MLP."""

    layer: int
    head: int | None = None

    @property
    def site(self) -> Site:
        """The site of its activation."""
        return Site(self.layer, "mlp" if self.head is None else "heads")

    def __str__(self) -> str:
        return f"{self.layer}.mlp" if self.head is None else f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class Contrast:
    """Token ids of a clean and a corrupted prompt, the clean prompt's target token, and the corrupted one's."""

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    target: int
    other: int | None = None


def heads_of(model: LanguageModel) -> int:
    """Return the number of query heads per layer."""
    return int(model.base().config.get_text_config().num_attention_heads)


def modules_of(model: LanguageModel) -> list[Module]:
    """List every head and every MLP, layer by layer."""
    heads = [*range(heads_of(model)), None]
    return [Module(layer, head) for layer in range(len(blocks(model.base()))) for head in heads]


@torch.no_grad()
def exact_effects(model: LanguageModel, contrasts: Sequence[Contrast], least: float = 1e-3) -> dict[Module, float]:
    """Compute IE of every module with one forward pass per module.

    Args:
        least: contrasts whose clean M exceeds the corrupted M by no more than this are left out.

    Raises:
        InputError: no contrast is left.
    """
    modules = modules_of(model)
    gains, total = torch.zeros(len(modules)), 0.0
    for part in _parts(contrasts):
        clean, sites = _run(model, part, corrupted=False), sorted({module.site for module in modules})
        lost = _run(model, part, corrupted=True)
        shows = clean.metric - lost.metric > least
        total += float((clean.metric - lost.metric)[shows].sum())
        for place, module in enumerate(modules):
            if module.site in sites:
                found = _restored(model, part, module, clean, lost)
                gains[place] += float((found - lost.metric)[shows].sum())
    return _shares(modules, gains, total)


def attributed_effects(model: LanguageModel, contrasts: Sequence[Contrast], least: float = 1e-3) -> dict[Module, float]:
    """Estimate IE of all modules to first order, with two forward passes and one backward pass."""
    modules = modules_of(model)
    gains, total = torch.zeros(len(modules)), 0.0
    for part in _parts(contrasts):
        with torch.no_grad():
            clean = _run(model, part, corrupted=False)
        with leaf_embeddings(model.base()):  # a graph, whatever weights may move
            lost = _run(model, part, corrupted=True)
        shows = clean.metric - lost.metric.detach() > least
        total += float((clean.metric - lost.metric.detach())[shows].sum())
        sites = sorted({module.site for module in modules})
        slopes = torch.autograd.grad(lost.metric[shows].sum(), [lost.found[site] for site in sites], allow_unused=True)
        for place, module in enumerate(modules):
            slope = slopes[sites.index(module.site)]
            if slope is not None:
                change = (clean.last(module.site) - lost.last(module.site).detach()) * lost.at_last(slope)
                gains[place] += float(_slice(model, module, change).sum(-1)[shows].sum())
    return _shares(modules, gains, total)


@torch.no_grad()
def faithfulness(
    model: LanguageModel, contrasts: Sequence[Contrast], circuit: Collection[Module], least: float = 1e-3
) -> float:
    """Compute F of a circuit: the share of the behaviour that it keeps where all other heads and MLPs are corrupted.

    It is 1 for the whole model, and 0 for no module where both prompts end in the same token. A circuit that leaves out
    what works against the behaviour can exceed 1. Earlier positions stay those of the clean prompt.

    Args:
        least: contrasts whose clean M exceeds the corrupted M by no more than this are left out.

    Raises:
        InputError: no contrast is left.
    """
    outside = [module for module in modules_of(model) if module not in circuit]
    kept = total = 0.0
    for part in _parts(contrasts):
        clean, lost = _run(model, part, corrupted=False), _run(model, part, corrupted=True)
        shows = clean.metric - lost.metric > least
        ids, mask, ends = _ids(model, [row.clean for row in part])
        with edit(model.base(), _taken_from(lost, model, outside, ends)):
            logits = model.base()(ids, attention_mask=mask, use_cache=False).logits
        kept += float((_metric(logits, ends, part) - lost.metric)[shows].sum())
        total += float((clean.metric - lost.metric)[shows].sum())
    return kept / _shown(total)


@dataclass
class _Pass:
    """A forward pass on the clean or the corrupted prompts: M, activations, and each row's last position."""

    metric: Float[Tensor, " rows"]
    found: dict[Site, Tensor]
    ends: Int[Tensor, " rows"]

    def last(self, site: Site) -> Float[Tensor, "rows width"]:
        """Return a site's activation at each row's last position."""
        return self.at_last(self.found[site])

    def at_last(self, tensor: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows width"]:
        return tensor[torch.arange(len(self.ends), device=tensor.device), self.ends]


def _parts(contrasts: Sequence[Contrast]) -> list[Sequence[Contrast]]:
    return [contrasts[i : i + ROWS] for i in range(0, len(contrasts), ROWS)]


def _ids(
    model: LanguageModel, rows: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "rows longest"], Int[Tensor, "rows longest"], Int[Tensor, " rows"]]:
    """Pad ids on the right; return them with their mask and each row's last position."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), model.pad_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    return ids.to(model.device), mask.to(model.device), (lengths - 1).to(model.device)


def _run(model: LanguageModel, part: Sequence[Contrast], *, corrupted: bool) -> _Pass:
    sites = [Site(layer, "input") for layer in range(len(blocks(model.base())))]
    sites += sorted({module.site for module in modules_of(model)})
    ids, mask, ends = _ids(model, [row.corrupted if corrupted else row.clean for row in part])
    with record(model.base(), sites) as found:
        logits = model.base()(ids, attention_mask=mask, use_cache=False).logits
    return _Pass(_metric(logits, ends, part), dict(found), ends)


def _metric(
    logits: Float[Tensor, "rows length vocabulary"], ends: Int[Tensor, " rows"], part: Sequence[Contrast]
) -> Float[Tensor, " rows"]:
    """Compute M: logit[target] − logit[other], or log p(target)."""
    last = logits[torch.arange(len(part), device=logits.device), ends].float()
    logp = last.log_softmax(-1)
    values = [logp[i, row.target] - (0.0 if row.other is None else logp[i, row.other]) for i, row in enumerate(part)]
    return torch.stack(values)


def _restored(
    model: LanguageModel, part: Sequence[Contrast], module: Module, clean: _Pass, lost: _Pass
) -> Float[Tensor, " rows"]:
    """Compute M of the corrupted run with one module's last activation from the clean run; lower layers are skipped."""
    ids, mask, ends = _ids(model, [row.corrupted for row in part])
    entering = lost.found[Site(module.layer, "input")]
    edits = _taken_from(clean, model, [module], ends)
    with edit(model.base(), edits), start_from(model.base(), module.layer, entering):
        logits = model.base()(ids, attention_mask=mask, use_cache=False).logits
    return _metric(logits, ends, part)


def _taken_from(
    source: _Pass, model: LanguageModel, modules: Sequence[Module], ends: Int[Tensor, " rows"]
) -> dict[Site, Callable[[Tensor], Tensor]]:
    """Edits that put the modules' last activations of another pass at the rows' last positions, `ends`."""

    def change(site: Site) -> Callable[[Tensor], Tensor]:
        here = [module for module in modules if module.site == site]

        def put(states: Tensor) -> Tensor:
            states, place = states.clone(), torch.arange(len(ends), device=states.device)
            row = states[place, ends]
            taken = torch.zeros_like(row, dtype=torch.bool)
            for module in here:
                _slice(model, module, taken)[...] = True
            states[place, ends] = torch.where(taken, source.last(site), row)
            return states

        return put

    return {site: change(site) for site in sorted({module.site for module in modules})}


def _slice(model: LanguageModel, module: Module, states: Tensor) -> Tensor:
    """Return a module's part of the activations at its site, as a view."""
    if module.head is None:
        return states
    width = states.shape[-1] // heads_of(model)
    return states[..., module.head * width : (module.head + 1) * width]


def _shares(modules: Sequence[Module], gains: Float[Tensor, " modules"], total: float) -> dict[Module, float]:
    shown = _shown(total)
    return {module: float(gain) / shown for module, gain in zip(modules, gains, strict=True)}


def _shown(total: float) -> float:
    """The whole behaviour, M(clean) − M(corrupted) summed over contrasts; refused if there is none."""
    if total <= 0:
        raise InputError(
            "no contrast shows the behaviour: the corrupted prompts lead to the answer as surely as the clean ones",
            "give rows that the model knows, and subjects (or counterfactual prompts) that change the answer",
        )
    return total
