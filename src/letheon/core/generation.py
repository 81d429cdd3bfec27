"""Batched decoding: greedy or sampled answers to prompts, optionally continued from the beginning of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from letheon.core.models import LanguageModel
from letheon.core.sampling import by_length


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
    """Answers to prompts, in their order, without special tokens.

    Args:
        prompts: questions; each is put into the chat template.
        max_new_tokens: at most so many tokens after the prompt (and prefix).
        prefixes: token ids with which each answer must begin (a prefill); they are part of the returned text.
        temperature: 0 decodes greedily; otherwise samples from the whole distribution under `seed`.
        batch_size: rows decoded together, of like length.
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
    return [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]


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
) -> list[list[int]]:
    """The tokens of `generate`'s answers, prefix first, each up to and with the token that ended it."""
    encoder = model.encoder()
    starts = prefixes or [()] * len(prompts)
    rows = [[*encoder.prompt(prompt), *start] for prompt, start in zip(prompts, starts, strict=True)]
    answers: list[list[int]] = [[] for _ in rows]
    stops = _stops(model)
    torch.manual_seed(seed)
    for chosen in by_length([len(row) for row in rows], batch_size):
        longest = max(len(rows[i]) for i in chosen)
        ids = torch.full((len(chosen), longest), model.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, i in enumerate(chosen):  # padded on the left: every row ends where its answer goes on
            ids[at, longest - len(rows[i]) :] = torch.tensor(rows[i])
            mask[at, longest - len(rows[i]) :] = 1
        output = model.base().generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_p=None,
            top_k=None if temperature == 0 else 0,
            pad_token_id=model.pad_id,
            eos_token_id=stops,
            use_cache=use_cache,
        )
        for at, i in enumerate(chosen):
            new = output[at, longest:].tolist()
            end = next((place for place, token in enumerate(new) if token in stops), len(new))
            answers[i] = [*starts[i], *new[: end + 1]]
    return answers


def _stops(model: LanguageModel) -> list[int]:
    """Tokens that end an answer: those of the model's settings and the chat template's end of turn."""
    configured = model.base().generation_config.eos_token_id
    stops = set(configured if isinstance(configured, list) else [configured])
    stops |= set(model.tokenizer(model.encoder().end, add_special_tokens=False)["input_ids"][-1:])
    stops.add(model.tokenizer.eos_token_id)
    return sorted(stop for stop in stops if stop is not None)
