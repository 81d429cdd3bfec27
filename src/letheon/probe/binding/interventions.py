"""Interchange interventions on the last token's state, and the group that the model then answers with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import Site, blocks
from letheon.core.scoring.prefix_cache import cache_of, cached

Effect = Literal["positional", "lexical", "reflexive", "no effect", "mixed"]
EFFECTS: tuple[Effect, ...] = ("positional", "lexical", "reflexive", "no effect", "mixed")
ROWS = 32


@dataclass(frozen=True)
class Prompts:
    """Encoded pairs of equal length.

    Attributes:
        original, changed: tokens of x and x'.
        candidates: tokens of x's answers, in the order of its groups.
        pointers: the groups (p, k, r, q) of each pair.
        unbound: tokens of x' with an answer that x does not hold, so that a pointer to it leads nowhere.
        absent: the token of that answer.
    """

    original: Int[Tensor, "pairs length"]
    changed: Int[Tensor, "pairs other"]
    candidates: Int[Tensor, "pairs n"]
    pointers: Int[Tensor, "pairs 4"]
    unbound: Int[Tensor, "pairs other"]
    absent: Int[Tensor, " pairs"]

    def select(self, keep: Sequence[int]) -> Prompts:
        """Return some of the pairs."""
        chosen = list(keep)
        return Prompts(*(getattr(self, one.name)[chosen] for one in fields(self)))


def effect_of(answered: int, p: int, k: int, r: int, q: int) -> Effect:
    """Name the mechanism that points to the answered group."""
    names: dict[int, Effect] = {p: "positional", k: "lexical", r: "reflexive", q: "no effect"}
    return names.get(answered, "mixed")


@dataclass(frozen=True)
class Patched:
    """Answers after an intervention at one layer.

    Attributes:
        distribution: softmax over the groups' answers, [pairs, n].
        mass: probability of all the groups' answers together among all tokens.
        effects: the mechanism of each pair.
    """

    distribution: Float[Tensor, "pairs n"]
    mass: Float[Tensor, " pairs"]
    effects: list[Effect]

    def shares(self) -> dict[str, float]:
        """Return the share of each effect."""
        return {name: self.effects.count(name) / max(1, len(self.effects)) for name in EFFECTS}


@torch.inference_mode()
def answered_group(
    model: LanguageModel, ids: Int[Tensor, "pairs length"], candidates: Int[Tensor, "pairs n"]
) -> list[int | None]:
    """Return the group whose answer is the model's next token, or None if another token is."""
    found: list[int | None] = []
    for start in range(0, len(ids), ROWS):
        part = ids[start : start + ROWS].to(model.device)
        best = model.base()(part, use_cache=False, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
        for token, row in zip(best, candidates[start : start + ROWS].tolist(), strict=True):
            found.append(row.index(token) if token in row else None)
    return found


@torch.inference_mode()
def interchange(model: LanguageModel, prompts: Prompts, layers: Sequence[int]) -> dict[int, Patched]:
    """Put the last token's state of x' into x, at the input of one layer after another.

    Layer l is the input of block l; the number of blocks itself stands for the last block's output, where the answer of
    x' is reproduced exactly. The tokens before the last are run once, for all layers, where the model continues from
    its cache as it would go on without one (`continues`); else each layer runs x as a whole.
    """
    base, depth = model.base(), len(blocks(model.base()))
    logits: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    sites = {layer: Site(layer, "input") if layer < depth else Site(depth - 1) for layer in layers}
    cached_well = len(prompts.original) > 0 and continues(model, prompts.original[:1].to(model.device))
    for start in range(0, len(prompts.original), ROWS):
        part = prompts.select(range(start, min(start + ROWS, len(prompts.original))))
        original, changed = part.original.to(model.device), part.changed.to(model.device)
        with record(base, list(set(sites.values()))) as theirs:
            base(changed, use_cache=False, logits_to_keep=1)
        before = cache_of(base(original[:, :-1], use_cache=True, logits_to_keep=1)) if cached_well else None
        for layer, site in sites.items():
            state = theirs[site][..., -1:, :]
            if before is not None:
                out = _last_token(base, original[:, -1:], before, min(layer, depth - 1), state, site)
            else:
                out = _whole(base, original, state, site)
            logits[layer].append(out.float().cpu())
    return {layer: _read(torch.cat(found), prompts) for layer, found in logits.items()}


@torch.inference_mode()
def continues(model: LanguageModel, ids: Int[Tensor, "rows length"]) -> bool:
    """Say whether a model gives the same logits when it continues from its cache, also without its lower layers.

    Some have no cache that `base` gives back, some keep a state that one token more changes otherwise than a longer
    sequence does, and some read in upper layers what lower layers computed for the same token.
    """
    base, depth = model.base(), len(blocks(model.base()))
    ends = [Site(layer, "input") for layer in sorted({0, depth - 1})]
    with record(base, ends) as own:
        whole = base(ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()
    allowed = torch.finfo(own[ends[0]].dtype).eps ** 0.5 * float(whole.std())
    try:
        before = cache_of(base(ids[:, :-1], use_cache=True, logits_to_keep=1))
        found = [_last_token(base, ids[:, -1:], before, one.layer, own[one][..., -1:, :], one) for one in ends]
    except (KeyError, AttributeError, TypeError, RuntimeError, ValueError, IndexError):  # as families' code fails
        return False
    return all(float((one.float() - whole).abs().max()) <= allowed for one in found)


def _last_token(base: Any, ids: Tensor, before: Any, first: int, state: Tensor, site: Site) -> Tensor:
    """Run the last token from a layer on, on a copy of the cache of the tokens before it."""
    at_the_end = {} if site == Site(first, "input") else {site: lambda _: state}
    with edit(base, at_the_end), start_from(base, first, state):
        past = deepcopy(before)  # the last token's keys and values are added to it
        out: Tensor = base(ids, logits_to_keep=1, **cached(base, past)).logits[:, -1]
    return out


def _whole(base: Any, ids: Tensor, state: Tensor, site: Site) -> Tensor:
    """Run a whole sequence with the last token's state replaced at a site."""

    def put(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        hidden[..., -1:, :] = state
        return hidden

    with edit(base, {site: put}):
        out: Tensor = base(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return out


def copied_shares(model: LanguageModel, prompts: Prompts, layers: Sequence[int]) -> dict[int, float]:
    """Measure per layer the share of pairs whose state gives the answer of x' although x does not hold it.

    The state of `unbound` is put into x. A state that points to a group, by position, word or pointer, cannot name an
    answer that x lacks; a state into which the answer was copied does.
    """
    n = prompts.candidates.shape[1]
    control = replace(
        prompts, changed=prompts.unbound, candidates=torch.cat([prompts.candidates, prompts.absent[:, None]], 1)
    )
    swept = interchange(model, control, layers)
    return {layer: float((one.distribution.argmax(1) == n).float().mean()) for layer, one in swept.items()}


def _read(logits: Float[Tensor, "pairs vocabulary"], prompts: Prompts) -> Patched:
    chosen = logits.gather(1, prompts.candidates)
    mass = logits.softmax(-1).gather(1, prompts.candidates).sum(1)
    best = chosen.argmax(1).tolist()
    effects = [effect_of(group, *pointer) for group, pointer in zip(best, prompts.pointers.tolist(), strict=True)]
    return Patched(chosen.softmax(-1), mass, effects)
