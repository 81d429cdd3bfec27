"""Where truth is decided: patch a true statement's states into a false one's run, layer by layer, token by token.

Paper:   How Post-Training Reshapes LLMs, arXiv 2504.02904, its first part. M[t, l] is the logit of TRUE minus that of
         FALSE after the state of token t after layer l was put into the run of the false statement. Maps of two models
         are compared by Pearson's r, raw and after the paper's binning; states may come from another model.
Differs: no few-shot lines before the statement; pairs differ in the subject alone and end in the same word, as in the
         paper, and they are chosen by their number of tokens instead of by a fixed pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import Site, blocks
from letheon.probe.statements import Statement

SUFFIX = " This statement is:"
WORDS = (" TRUE", " FALSE")


@dataclass(frozen=True)
class Pair:
    """Tokens of a true and of a false statement of equal length, and the tokens from which they differ."""

    true: tuple[int, ...]
    false: tuple[int, ...]
    span: tuple[int, int]


def matched_pairs(model: LanguageModel, statements: Sequence[Statement], most: int) -> list[Pair]:
    """Pair true and false statements that end in the same word and have the same number of tokens.

    Only pairs of the most common pattern (length, tokens that differ) are kept, so that their maps can be averaged.
    """
    encoded = [(one, question(model, one.text)[0]) for one in statements]
    bare = [len(model.tokenizer(one.text)["input_ids"]) for one in statements]
    found: list[Pair] = []
    for i, (true, ids) in enumerate(encoded):
        for false, other in encoded:
            same_end = true.text.split()[-1] == false.text.split()[-1]
            if true.label and not false.label and same_end and len(ids) == len(other) and ids != other:
                first = next(at for at, (a, b) in enumerate(zip(ids, other, strict=True)) if a != b)
                found.append(Pair(ids, other, (first, bare[i])))
                break
    if not found:
        return []
    patterns = [(len(one.true), one.span) for one in found]
    usual = max(set(patterns), key=patterns.count)
    return [one for one, pattern in zip(found, patterns, strict=True) if pattern == usual][:most]


def question(model: LanguageModel, text: str) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Encode a statement and its question up to the tokens in which TRUE and FALSE differ; return these two as well.

    Raises:
        InputError: they do not differ.
    """
    true, false = (model.tokenizer(text + SUFFIX + word)["input_ids"] for word in WORDS)
    at = next((at for at, (a, b) in enumerate(zip(true, false, strict=False)) if a != b), None)
    if at is None:
        raise InputError("TRUE and FALSE have the same tokens in this tokenizer", "this model needs other words")
    return tuple(true[:at]), (int(true[at]), int(false[at]))


def answer_pair(model: LanguageModel) -> tuple[int, int]:
    """Return the first tokens in which the answers TRUE and FALSE differ."""
    return question(model, "It is so.")[1]


@torch.inference_mode()
def patching_map(
    model: LanguageModel, pairs: Sequence[Pair], *, stride: int = 1, source: LanguageModel | None = None
) -> Float[Tensor, "layers tokens"]:
    """Compute the mean of M[l, t] over pairs, for the tokens from the first difference to the prompt's end.

    Args:
        stride: distance of the patched layers.
        source: the model whose true run gives the states; the same model by default.

    Raises:
        InputError: no pairs.
    """
    if not pairs:
        raise InputError("no true and false statements match in length and last word", "give other statements")
    base, words = model.base(), answer_pair(model)
    layers = list(range(0, len(blocks(base)), stride))
    total = torch.zeros(len(layers), len(pairs[0].true) - pairs[0].span[0])
    sites = [Site(layer) for layer in layers]
    for pair in pairs:
        places = list(range(pair.span[0], len(pair.true)))
        true, false = (torch.tensor([ids], device=model.device) for ids in (pair.true, pair.false))
        giving = (source or model).base()
        with record(giving, sites) as given:
            giving(true, use_cache=False, logits_to_keep=1)
        with record(base, [Site(layer, "input") for layer in layers]) as entering:
            base(false, use_cache=False, logits_to_keep=1)
        rows = torch.arange(len(places))
        for at, layer in enumerate(layers):

            def put(hidden: Tensor, layer: int = layer, places: list[int] = places, rows: Tensor = rows) -> Tensor:
                hidden = hidden.clone()
                hidden[rows, places] = given[Site(layer)][0, places]
                return hidden

            many = false.expand(len(places), -1)
            start = entering[Site(layer, "input")].expand(len(places), -1, -1)
            with edit(base, {Site(layer): put}), start_from(base, layer, start):
                logits = base(many, use_cache=False, logits_to_keep=1).logits[:, -1].float()
            total[at] += (logits[:, words[0]] - logits[:, words[1]]).cpu()
    return total / len(pairs)


@torch.inference_mode()
def answer_gaps(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """Compute per pair the logit of TRUE minus that of FALSE after the true statement, less the same after the false.

    A model whose answers do not tell the statements apart has maps of something else than knowledge.
    """
    first, second = answer_pair(model)
    ids = torch.tensor([(one.true, one.false) for one in pairs], device=model.device)
    logits = model.base()(ids.flatten(0, 1), use_cache=False, logits_to_keep=1).logits[:, -1].float()
    gaps = (logits[:, first] - logits[:, second]).view(-1, 2)
    return list((gaps[:, 0] - gaps[:, 1]).tolist())


def binned(raw: Float[Tensor, "layers tokens"]) -> Float[Tensor, "layers tokens"]:
    """Apply the paper's binning: 20 equal bins from the smallest to the largest value; the lower ten become 0, the
    others 0.1, 0.2, ..., 1.0. It hides everything below the middle, so the raw map is compared as well.
    """
    low, high = float(raw.min()), float(raw.max())
    place = ((raw - low) / max(high - low, 1e-12) * 20).floor().clamp(0, 19)
    return ((place - 9) / 10).clamp(min=0)


def pearson(first: Float[Tensor, "*map"], second: Float[Tensor, "*map"]) -> float | None:
    """Compute Pearson's r of two maps; None if one is constant."""
    a, b = first.flatten().numpy(), second.flatten().numpy()
    return None if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])
