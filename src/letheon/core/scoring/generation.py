"""Batched decoding: greedy or sampled answers to prompts, optionally continuing a given beginning.

One rule holds wherever a model's `generate` is called (`run_generate`): it takes the most probable token, or draws from
the whole distribution, until one of `stop_tokens`. What else a `generation_config.json` asks for is left aside:
it lies beside the weights, and could ban the words of an answer or punish them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import THOUGHT, THOUGHT_ENDS
from letheon.core.rows.sampling import by_length


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    prefixes: Sequence[Sequence[int]] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
    use_cache: bool = True,
) -> list[str]:
    """Generate one answer per prompt, in order, without special tokens and without a thought before the answer.

    Args:
        prompts: questions; the chat template is applied to each.
        max_new_tokens: largest number of tokens after the prompt (and prefix).
        prefixes: token ids with which each answer begins (a prefill); the returned text includes them.
        temperature: 0 decodes greedily; above 0 samples from the full distribution under `seed`.
        batch_size: rows decoded together; rows of similar length share a batch.
    """
    answers = generate_ids(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        prefixes=prefixes,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        use_cache=use_cache,
    )
    return [without_thought(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]


def without_thought(text: str) -> str:
    """Remove a whole thought (`<think>` to `</think>`) with which an answer begins; an unfinished one stays."""
    begins = text.lstrip().startswith(THOUGHT) and THOUGHT_ENDS in text
    return text.partition(THOUGHT_ENDS)[2].lstrip() if begins else text


@torch.inference_mode()
def generate_ids(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    prefixes: Sequence[Sequence[int]] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
    use_cache: bool = True,
    banned: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[int]]:
    """Generate answers as token ids: prefix first, up to and including the token that ended the answer.

    Args:
        banned: per prompt, token sequences that its answer never contains; a prefix is not examined.
    """
    encoder = model.encoder()
    starts = prefixes or [()] * len(prompts)
    rows = [[*encoder.prompt(prompt), *start] for prompt, start in zip(prompts, starts, strict=True)]
    answers = continue_ids(
        model,
        rows,
        max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        use_cache=use_cache,
        banned=banned,
    )
    return [[*start, *answer] for start, answer in zip(starts, answers, strict=True)]


@torch.inference_mode()
def continue_ids(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
    use_cache: bool = True,
    banned: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[int]]:
    """Continue rows of token ids as they stand; return the new tokens, the one that ended them included."""
    answers: list[list[int]] = [[] for _ in rows]
    stops = stop_tokens(model)
    torch.manual_seed(seed)
    for chosen in by_length([len(row) for row in rows], batch_size):
        ids, mask = _left_padded(model, [rows[i] for i in chosen])
        ban = [_Ban([banned[i] for i in chosen], ids.shape[1])] if banned else None
        options: dict[str, Any] = {"temperature": temperature, "use_cache": use_cache, "logits_processor": ban}
        output = run_generate(model, max_new_tokens, input_ids=ids, attention_mask=mask, **options)
        for at, i in enumerate(chosen):
            new = output[at, ids.shape[1] :].tolist()
            end = next((place for place, token in enumerate(new) if token in stops), len(new))
            answers[i] = new[: end + 1]
    return answers


def continue_answers(
    model: LanguageModel, prompts: Sequence[str], starts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[str]:
    """Continue answers that begin with these token ids, greedily; return the texts after their beginnings."""
    answers = generate_ids(model, prompts, prefixes=starts, max_new_tokens=max_new_tokens)
    ends = [ids[len(start) :] for ids, start in zip(answers, starts, strict=True)]
    return [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in ends]


@torch.inference_mode()
def decode_with_logits(
    model: LanguageModel, rows: Sequence[Sequence[int]], max_new_tokens: int, *, use_cache: bool = True
) -> list[tuple[list[int], Float[Tensor, "tokens vocabulary"]]]:
    """Decode greedily; return each row's new tokens with the float32 logits from which they were chosen.

    It runs one left-padded batch on the same path as `generate`, so that tests can compare this path with others.

    Args:
        rows: token ids, at least one per row.
    """
    ids, mask = _left_padded(model, rows)
    stops = stop_tokens(model)
    options = {"use_cache": use_cache, "output_logits": True, "return_dict_in_generate": True}
    output = run_generate(model, max_new_tokens, input_ids=ids, attention_mask=mask, **options)
    logits = torch.stack(output.logits, 1).float()
    found = []
    for at, new in enumerate(output.sequences[:, ids.shape[1] :].tolist()):
        end = next((place for place, token in enumerate(new) if token in stops), len(new) - 1) + 1
        found.append((new[:end], logits[at, :end]))
    return found


def run_generate(model: LanguageModel, max_new_tokens: int, *, temperature: float = 0.0, **options: Any) -> Any:
    """Call the model's `generate` by the rule of this module, without the model's own generation settings.

    Args:
        temperature: 0 decodes greedily; above 0 samples from the full distribution.
        options: inputs and outputs of `generate`.
    """
    base, stops = model.base(), stop_tokens(model)
    sampled = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    own, base.generation_config = base.generation_config, GenerationConfig()  # what is not given is taken from it
    try:
        return base.generate(
            max_new_tokens=max_new_tokens, pad_token_id=model.pad_id, eos_token_id=stops, **sampled, **options
        )
    finally:
        base.generation_config = own


class _Ban:
    """A logits processor that never completes a row's banned token sequences after `start` tokens."""

    def __init__(self, banned: Sequence[Sequence[Sequence[int]]], start: int) -> None:
        self.banned, self.start = banned, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[rows, vocabulary] scores with minus infinity on each token that would complete a banned sequence."""
        return without_banned(scores.clone(), input_ids[:, self.start :].tolist(), self.banned)


def without_banned(
    scores: Float[Tensor, "rows vocabulary"],
    new: Sequence[list[int]],
    banned: Sequence[Sequence[Sequence[int]]],
) -> Float[Tensor, "rows vocabulary"]:
    """Put minus infinity, in place, on each token that would complete one of its row's banned sequences.

    Args:
        new: per row the tokens that it has been continued with.
        banned: per row the token sequences that they never contain.
    """
    places = [
        (row, last)
        for row, (ids, sequences) in enumerate(zip(new, banned, strict=True))
        for *head, last in sequences
        if not head or ids[-len(head) :] == head
    ]
    if places:
        rows, tokens = torch.tensor(places, device=scores.device).T
        scores[rows, tokens] = -torch.inf
    return scores


def _left_padded(
    model: LanguageModel, rows: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "rows longest"], Int[Tensor, "rows longest"]]:
    """Pad token ids on the left, so that every answer continues at the last position; return ids and mask."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), model.pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, longest - len(row) :] = torch.tensor(row)
        mask[at, longest - len(row) :] = 1
    return ids.to(model.device), mask.to(model.device)


def stop_tokens(model: LanguageModel) -> list[int]:
    """Collect the tokens that end an answer: those in the generation settings and the template's end of turn.

    A model whose `stops` are set is stopped by those alone.
    """
    if model.stops is not None:
        return list(model.stops)
    configured = model.base().generation_config.eos_token_id
    stops = set(configured if isinstance(configured, list) else [configured])
    stops |= set(model.tokenizer(model.encoder().end, add_special_tokens=False)["input_ids"][-1:])
    stops.add(model.tokenizer.eos_token_id)
    return sorted(stop for stop in stops if stop is not None)
