"""Scores of retrieval heads: how much of a needle a head copies while the model answers.

Paper:   Wu et al., Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv 2404.15574. A head copies at
         a decoding step if the position to which it attends most lies in the needle and holds the token that is
         predicted at that step. Its score on one prompt is the share of the needle that it copies (`set`).
Differs: the authors' code counts copies over the needle's length, which repeated tokens can push above 1; it is also
         offered (`count`). Prompts share the key/value cache of their common beginning, which changes nothing but time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.progress import progress
from letheon.core.scoring.overlap import rouge
from letheon.core.scoring.prefix_cache import cached
from letheon.core.statistics import Estimate, rank_correlation
from letheon.probe.attention_maps import LayerAttention, Mode, heads_shape, on_attention_rows, stacked
from letheon.probe.record import halves
from letheon.probe.retrieval_heads.needles import Instance

# ROUGE-1 recall of the answer above which an instance counts.
GATE = 0.5
GUESSED = 8  # most tokens that are guessed at once


def copied(
    top: Int[Tensor, "layers heads"], ids: Int[Tensor, " length"], span: tuple[int, int], predicted: int
) -> Bool[Tensor, "layers heads"]:
    """Return which heads copy at a step: the top position lies in the span and holds the predicted token."""
    inside = (top >= span[0]) & (top < span[1])
    return inside & (ids[top.clamp(max=len(ids) - 1)] == predicted)


def set_score(
    steps: Sequence[Bool[Tensor, "layers heads"]], predicted: Sequence[int], needle: Sequence[int]
) -> Float[Tensor, "layers heads"]:
    """Compute |tokens copied by the head ∩ needle| / |needle|, over distinct tokens: 0 to 1."""
    distinct = sorted(set(needle))
    hits = torch.zeros(len(distinct), *steps[0].shape, dtype=torch.bool)
    for step, token in zip(steps, predicted, strict=True):
        if token in distinct:
            hits[distinct.index(token)] |= step
    return hits.float().mean(0)


def count_score(steps: Sequence[Bool[Tensor, "layers heads"]], needle: Sequence[int]) -> Float[Tensor, "layers heads"]:
    """Compute the number of copying steps over the needle's length; repeated tokens can push it above 1."""
    return torch.stack(list(steps)).float().sum(0) / len(needle)


@dataclass(frozen=True)
class Scored:
    """Scores of every head on every instance.

    Attributes:
        scores, counts: the set score and the counting score, [instances, layers, heads].
        shuffled: the set score if the needle's tokens are permuted in the scoring: chance level.
        responses: the decoded answers.
        recalls: ROUGE-1 recall of each answer against the needle's.
    """

    scores: Float[Tensor, "instances layers heads"]
    counts: Float[Tensor, "instances layers heads"]
    shuffled: Float[Tensor, "instances layers heads"]
    responses: list[str]
    recalls: list[float]

    @property
    def passed(self) -> list[int]:
        """The instances that the model answered."""
        return [i for i, recall in enumerate(self.recalls) if recall > GATE]

    def mean(self, which: Sequence[int] | None = None) -> Float[Tensor, "layers heads"]:
        """Average the scores over instances, by default over those that the model answered; 0 if there are none."""
        chosen = self.passed if which is None else list(which)
        return self.scores[chosen].mean(0) if chosen else torch.zeros_like(self.scores[0])

    def split_half(self) -> Estimate:
        """Compute the rank correlation of the heads' scores between even and odd answered instances."""
        first, second = halves(self.passed)
        if not first or not second:
            return Estimate(None, None, None, 0)
        return rank_correlation(self.mean(first).flatten().tolist(), self.mean(second).flatten().tolist())

    def ranking(self, which: Sequence[int] | None = None) -> list[tuple[int, int]]:
        """Return all (layer, head), highest mean score first; the mean is that of `mean`."""
        mean = self.mean(which)
        order = mean.flatten().argsort(descending=True, stable=True).tolist()
        return [divmod(place, mean.shape[1]) for place in order]


class Prompt:
    """Runs prompts one after another and reuses the cache of what they share with the one before."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.cache, self.ids = model, None, ()  # type: LanguageModel, Any, tuple[int, ...]

    def fill(self, ids: Sequence[int]) -> Any:
        """Return a cache that holds all tokens but the last one, which the first decoding step feeds."""
        from transformers import DynamicCache

        base, wanted = self.model.base(), tuple(ids[:-1])
        shared = next((i for i, (a, b) in enumerate(zip(self.ids, wanted, strict=False)) if a != b), None)
        shared = min(len(self.ids), len(wanted)) if shared is None else shared
        shared = min(shared, len(wanted) - 1)
        if self.cache is None or shared < 1 or not _croppable(self.cache, len(self.ids)):
            self.cache, shared = DynamicCache(config=base.config), 0
        elif shared < len(self.ids):
            self.cache.crop(shared - len(self.ids))
        rest = torch.tensor([wanted[shared:]], device=self.model.device)
        base(rest, logits_to_keep=1, **cached(base, self.cache))
        self.ids = wanted
        return self.cache


def _croppable(cache: Any, length: int) -> bool:
    """Return whether every layer holds keys of the whole text, as without sliding windows."""
    keys = [getattr(layer, "keys", None) for layer in cache.layers]
    return all(isinstance(one, Tensor) and one.shape[-2] == length for one in keys)


@torch.inference_mode()
def score_instances(model: LanguageModel, instances: Sequence[Instance], budget: int = 50) -> Scored:
    """Decode every instance greedily and score every head.

    Instances run in the order of their needle's place, last ones first, so that each reuses the cache of the text
    before its needle.

    Args:
        budget: most tokens per answer; decoding ends at a line break or an end of text.

    Raises:
        InputError: no instances.
    """
    if not instances:
        raise InputError("no instances to score", "give at least one length, depth and needle")
    shape, prompt = heads_shape(model), Prompt(model)
    results = [torch.zeros(len(instances), *shape) for _ in range(3)]
    responses, recalls = [""] * len(instances), [0.0] * len(instances)
    order = sorted(range(len(instances)), key=lambda i: (-instances[i].insert, instances[i].ids))
    with progress("retrieval heads", len(order)) as advance:
        for i in order:
            one = instances[i]
            tokens, tops = _decode_one(model, prompt, one.ids, budget, one.ids[one.insert : one.span[1] + 1])
            ids, needle = torch.tensor(one.ids), list(one.ids[slice(*one.span)])
            steps = [copied(top, ids, one.span, token) for top, token in zip(tops, tokens, strict=True)]
            wrong = ids.clone()
            wrong[slice(*one.span)] = torch.tensor(needle).roll(max(1, len(needle) // 2))
            chance = [copied(top, wrong, one.span, token) for top, token in zip(tops, tokens, strict=True)]
            results[0][i], results[1][i] = set_score(steps, tokens, needle), count_score(steps, needle)
            results[2][i] = set_score(chance, tokens, needle)
            responses[i] = model.tokenizer.decode(tokens, skip_special_tokens=True).strip()
            recalls[i] = rouge(responses[i], one.answer).rouge1_recall
            advance(1)
    return Scored(results[0], results[1], results[2], responses, recalls)


def _decode_one(
    model: LanguageModel, prompt: Prompt, ids: Sequence[int], budget: int, source: Sequence[int] = ()
) -> tuple[list[int], list[Int[Tensor, "layers heads"]]]:
    """Decode greedily; return the tokens and, per step, the position to which each head attends most.

    Args:
        source: tokens that the answer may repeat. What follows there is guessed and checked in one pass, where the
            cache can give back what was wrong; the tokens are those of decoding one by one.
    """
    base, cache = model.base(), prompt.fill(ids)
    source = source if _croppable(cache, len(ids) - 1) else ()
    tops: list[Tensor] = []
    now: dict[int, Tensor] = {}

    def see(seen: LayerAttention) -> None:
        missing = length - seen.keys.shape[2]  # a sliding window has dropped the first keys
        now[seen.layer] = seen.rows(0, seen.length)[0].argmax(-1).cpu() + missing

    length, tokens, going = len(ids) - 1, [], True  # type: int, list[int], bool
    with on_attention_rows(model, see):
        while going and len(tokens) < budget:
            block = [tokens[-1] if tokens else ids[-1], *_guess(tokens, source)]
            length += len(block)
            best = base(torch.tensor([block], device=model.device), **cached(base, cache)).logits[0].argmax(-1).tolist()
            right = 0  # tokens of the block that were fed rightly
            for right, token in enumerate(best, 1):
                going = not (_ends(model, token) and tokens) and len(tokens) < budget
                if going:
                    tokens.append(token)
                    tops.append(stacked(model, {layer: top[:, right - 1] for layer, top in now.items()}, missing=-1))
                if not going or block[right : right + 1] != [token]:
                    break
            if right < len(block):
                cache.crop(right - len(block))
                length -= len(block) - right
    prompt.ids = (*ids[:-1], *_fed(ids[-1], tokens, length - len(ids) + 1))
    return tokens, tops


def _guess(tokens: Sequence[int], source: Sequence[int]) -> list[int]:
    """Return what follows the last tokens where they stand in the source; nothing where they do not."""
    for count in (2, 1):
        last = list(tokens[-count:])
        for place in range(len(source) - count if len(last) == count else 0):
            if list(source[place : place + count]) == last:
                return list(source[place + count : place + count + GUESSED])
    return []


def _fed(last: int, tokens: Sequence[int], count: int) -> list[int]:
    """Return the tokens that decoding has put into the cache."""
    return [last, *tokens][:count]


def _ends(model: LanguageModel, token: int) -> bool:
    """Return whether a token ends the answer: an end of text or turn, or a line break."""
    tokenizer = model.tokenizer
    return token == tokenizer.eos_token_id or token in tokenizer.all_special_ids or "\n" in tokenizer.decode([token])


@torch.inference_mode()
def recall_when_masked(
    model: LanguageModel,
    instances: Sequence[Instance],
    masks: Bool[Tensor, "masks layers heads"],
    *,
    mode: Mode = "uniform",
    budget: int = 30,
) -> Float[Tensor, "masks instances"]:
    """Measure ROUGE-1 recall under each mask of heads; masks act on decoding steps only, as in the authors' code.

    All masks decode as one batch from a single cache of the prompt.
    """
    prompt, found = Prompt(model), torch.zeros(len(masks), len(instances))
    order = sorted(range(len(instances)), key=lambda i: (-instances[i].insert, instances[i].ids))
    with progress("masked heads", len(order)) as advance:
        for i in order:
            one = instances[i]
            cache = copy.deepcopy(prompt.fill(one.ids))
            cache.batch_repeat_interleave(len(masks))
            tokens = _decode_many(model, cache, one.ids, masks, mode, budget)
            for row, text in enumerate(model.tokenizer.batch_decode(tokens, skip_special_tokens=True)):
                found[row, i] = rouge(text, one.answer).rouge1_recall
            advance(1)
    return found


def _decode_many(
    model: LanguageModel, cache: Any, ids: Sequence[int], masks: Bool[Tensor, "masks layers heads"], mode: Mode,
    budget: int,
) -> list[list[int]]:  # fmt: skip
    """Decode greedily from one cache, with one mask per row."""
    base, rows = model.base(), len(masks)
    last = torch.full((rows, 1), ids[-1], device=model.device)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    over = [False] * rows
    with on_attention_rows(model, masked=masks, mode=mode, phase="decode"):
        for _ in range(budget):
            last = base(last, **cached(base, cache)).logits[:, -1].argmax(-1, keepdim=True)
            for row, token in enumerate(last[:, 0].tolist()):
                over[row] |= bool(tokens[row]) and _ends(model, token)
                if not over[row]:
                    tokens[row].append(token)
            if all(over):
                break
    return tokens
