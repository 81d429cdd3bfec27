"""Score many answers per prompt as a tree, so that every distinct answer prefix is run once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.model.hooks import labelled_head
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import is_recurrent
from letheon.core.rows.encoding import Encoded, to_device
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.prefix_cache import SHORTEST_PREFIX, cached, expanded, prefix_cache
from letheon.core.scoring.token_trees import Question, Tree, in_trees, of_like_length, packed, shared_length


@dataclass(frozen=True)
class AnswerScore:
    """Teacher-forced scores of one answer.

    Attributes:
        logp: log-probability of each token, nats.
        correct: whether each token is the model's first choice.
    """

    logp: Float[np.ndarray, " n"]
    correct: Bool[np.ndarray, " n"]

    @property
    def probability(self) -> float:
        """Exponential of the mean log-probability per token."""
        return float(np.exp(self.logp.mean()))


NOTHING = AnswerScore(np.zeros(0, np.float32), np.zeros(0, bool))


@torch.inference_mode()
def score_answers(
    model: LanguageModel, questions: Sequence[tuple[str, Sequence[str]]], *, tokens_per_batch: int = 1024
) -> list[list[AnswerScore]]:
    """Score every answer to every prompt, end of turn included.

    Each prompt and each distinct answer prefix is run once: a row holds a prompt followed by the tree of its answers,
    or several prompts that begin alike, and every token attends to its ancestors only.

    Args:
        questions: pairs of a prompt and its answers.
        tokens_per_batch: largest number of tokens per pass, which bounds memory.
    """
    encoder = model.encoder()
    tokens = [
        (encoder.prompt(prompt), [encoder.answer(answer, end=bool(prompt))[0] for answer in answers])
        for prompt, answers in questions
    ]
    return score_tokens(model, tokens, tokens_per_batch=tokens_per_batch)


@torch.inference_mode()
def score_tokens(
    model: LanguageModel, questions: Sequence[Question], *, tokens_per_batch: int = 1024
) -> list[list[AnswerScore]]:
    """Score token ids like `score_answers`: each prompt's ids with the ids of its continuations.

    Prompts that begin alike share a tree, and what all of them share is run once. The last token of an answer predicts
    nothing and is not run, so answers of one token need nothing beyond their prompt. Where no mask can keep answers
    apart (recurrent layers, or a window shorter than a row), each answer is a row.
    """
    asked = [
        _Asked(i, (*prompt, *ids), max(len(prompt), 1)) for i, (prompt, all_) in enumerate(questions) for ids in all_
    ]
    longest = max((len(prompt) + sum(map(len, answers)) for prompt, answers in questions), default=0)
    scoring = _score_in_trees if branches(model, longest) else _score_apart
    found = scoring(model, [one for one in asked if one.tokens], questions, tokens_per_batch)
    results: list[list[AnswerScore]] = [[] for _ in questions]
    for one in asked:
        results[one.question].append(found.get(one, NOTHING))
    return results


@dataclass(frozen=True)
class _Asked:
    """An answer behind its prompt.

    Attributes:
        question: number of its question.
        text: token ids of the prompt and the answer.
        start: index of the first token that is scored; nothing predicts the first token of all.
    """

    question: int
    text: tuple[int, ...]
    start: int

    @property
    def tokens(self) -> tuple[int, ...]:
        """The scored tokens."""
        return self.text[self.start :]


def window(model: LanguageModel) -> int:
    """Return the largest number of tokens per row that a mask alone can keep apart.

    It is 0 with recurrent layers, where attention is biased by places in the row and not by positions (ALiBi), and
    where the model takes no positions.
    """
    if "position_ids" not in inspect.signature(model.base().forward).parameters:
        return 0
    config = model.base().config.get_text_config()
    attention = getattr(config, "attn_config", config)
    if is_recurrent(model.base()) or config.model_type == "bloom" or getattr(attention, "alibi", False):
        return 0
    names = ("sliding_window", "attention_chunk_size", "window_size")
    return min((size for name in names if (size := getattr(config, name, None))), default=sys.maxsize)


def branches(model: LanguageModel, longest: int) -> bool:
    """Return whether a mask alone decides what each token of a row of `longest` tokens sees."""
    return longest <= window(model)


def _score_in_trees(
    model: LanguageModel, asked: Sequence[_Asked], questions: Sequence[Question], most: int
) -> dict[_Asked, AnswerScore]:
    """Score answers in trees behind the prefix that all prompts share."""
    answers: dict[int, list[_Asked]] = {}
    for one in asked:
        answers.setdefault(one.question, []).append(one)
    numbers, before, cache = list(answers), 0, None
    most_at_once = min(most, window(model))
    groups = in_trees([questions[i] for i in numbers], 0, most_at_once)
    prefix = _shared_tokens([one.text[: one.start - 1] for one in asked]) if len(groups) > 1 else []
    if prefix:  # the last token of a prompt predicts, and is no part of it
        cache = prefix_cache(model, torch.tensor([prefix], device=model.device), 1)
    if cache is not None:
        before = len(prefix)
        groups = in_trees([questions[i] for i in numbers], before, most_at_once - before)
    trees: list[tuple[Tree, list[_Asked]]] = []
    for group in groups:
        every = [one for i in group for one in answers[numbers[i]]]
        trees += [(Tree(one.text[:-1] for one in own), own) for own in _parts(every, most)]
    found: dict[_Asked, AnswerScore] = {}
    # a token of the prefix has keys and values in every row, but is not run
    lengths = [len(tree.ids) - before + before // 4 for tree, _ in trees]
    for chosen in of_like_length(lengths, most):
        found |= _score_trees(model, [trees[i] for i in chosen], before, cache)
    return found


def _parts(asked: Sequence[_Asked], most: int) -> list[list[_Asked]]:
    """Split answers into parts of at most `most` answer tokens; answers that begin alike stay together.

    A part may have as many tokens as its prompt, so that a long prompt is not run for every answer.
    """
    parts: list[list[_Asked]] = []
    size = 0
    for one in sorted(asked, key=lambda one: one.text):
        size += len(one.tokens)
        if not parts or size > max(most, one.start):
            parts.append([])
            size = len(one.tokens)
        parts[-1].append(one)
    return parts


def _score_apart(
    model: LanguageModel, asked: Sequence[_Asked], questions: Sequence[Question], most: int
) -> dict[_Asked, AnswerScore]:
    """Score answers as rows of their own; answers that differ in their last token alone are one row."""
    rows: dict[tuple[tuple[int, ...], int], list[_Asked]] = {}
    for one in asked:
        rows.setdefault((one.text[:-1], one.start), []).append(one)
    alike = list(rows.values())
    found: dict[_Asked, AnswerScore] = {}
    for chosen in of_like_length([len(own[0].text) for own in alike], most):
        encoded = [Encoded(alike[i][0].text, alike[i][0].start) for i in chosen]
        scores = score(model, to_device(model.encoder().collate(encoded), model.device))
        places = [(scores.row == at).nonzero()[:, 0].tolist() for at in range(len(chosen))]
        found |= _read(scores.logits, [(one, at) for i, at in zip(chosen, places, strict=True) for one in alike[i]])
    return found


def _shared_tokens(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the leading tokens that all rows share; none where they are too few to be worth a pass."""
    length = min((shared_length(rows[0], row) for row in rows), default=0)
    return list(rows[0][:length]) if len(set(rows)) > 1 and length >= SHORTEST_PREFIX else []


def _score_trees(
    model: LanguageModel, trees: Sequence[tuple[Tree, Sequence[_Asked]]], prefix: int, cache: object | None
) -> dict[_Asked, AnswerScore]:
    """Score the answers of some trees in one pass, each tree a row, from the cache of their first `prefix` tokens."""
    base, device = model.base(), model.device
    predicting: dict[tuple[int, int], int] = {}  # row and node -> place among the logits
    wanted: list[tuple[_Asked, list[int]]] = []
    for i, (tree, asked) in enumerate(trees):
        for one, path in zip(asked, tree.paths, strict=True):
            at = [predicting.setdefault((i, node), len(predicting)) for node in path[one.start - 1 :]]
            wanted.append((one, at))
    row, node = torch.tensor(list(predicting), device=device).T
    with labelled_head(base, row, node - prefix):
        output = base(
            **packed([tree for tree, _ in trees], model.pad_id, device, prefix),
            **cached(base, expanded(cache, len(trees)) if cache is not None else None),
        )
    return _read(output.logits[0].float(), wanted)


def _read(
    logits: Float[Tensor, "n vocabulary"], wanted: Sequence[tuple[_Asked, Sequence[int]]]
) -> dict[_Asked, AnswerScore]:
    """Read each answer's tokens from the logits at the places that predict them."""
    at = torch.tensor([place for _, places in wanted for place in places], device=logits.device)
    token = torch.tensor([token for one, _ in wanted for token in one.tokens], device=logits.device)
    logp = (logits[at, token] - logits.logsumexp(-1)[at]).cpu().numpy()
    correct = (logits.argmax(-1)[at] == token).cpu().numpy()
    ends = np.cumsum([len(places) for _, places in wanted])[:-1]
    pairs = zip(np.split(logp, ends), np.split(correct, ends), strict=True)
    return {one: AnswerScore(*pair) for (one, _), pair in zip(wanted, pairs, strict=True)}
