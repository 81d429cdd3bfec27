"""Score many answers per prompt as a tree, so that every distinct answer prefix is run once."""

from __future__ import annotations

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
from letheon.core.scoring.prefix_cache import SHORTEST_PREFIX, cached, prefix_cache

# A pass over this many tokens keeps a processor's cores busy; larger passes gain little.
BUSY = 512


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


@torch.inference_mode()
def score_answers(
    model: LanguageModel, questions: Sequence[tuple[str, Sequence[str]]], *, tokens_per_batch: int = 1024
) -> list[list[AnswerScore]]:
    """Score every answer to every prompt, end of turn included.

    Each prompt and each distinct answer prefix is run once: a row holds the prompt followed by the tree of its answers,
    and every token attends to its ancestors only.

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
    model: LanguageModel,
    questions: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    *,
    tokens_per_batch: int = 1024,
) -> list[list[AnswerScore]]:
    """Score token ids like `score_answers`: each prompt's ids with the ids of its continuations.

    Where no mask can keep answers apart (recurrent layers, or a window shorter than a row), each answer is a row.
    """
    longest = max((len(prompt) + sum(map(len, answers)) for prompt, answers in questions), default=0)
    if not branches(model, longest):
        return _score_apart(model, questions, tokens_per_batch)
    trees = [Tree(prompt, answers) for prompt, answers in questions]
    # the last token of a prompt predicts; running text has no prompt at all
    prefix = _shared_tokens([tree.ids[: max(tree.prompt_length - 1, 0)] for tree in trees])
    results: list[list[AnswerScore]] = [[] for _ in trees]
    for chosen in _of_like_length([len(tree.ids) for tree in trees], tokens_per_batch):
        for index, found in zip(chosen, _score_trees(model, [trees[i] for i in chosen], prefix), strict=True):
            results[index] = found
    return results


def branches(model: LanguageModel, longest: int) -> bool:
    """Return whether a mask alone decides what each token of a row of `longest` tokens sees."""
    config = model.base().config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return not is_recurrent(model.base()) and all(not window or longest <= window for window in windows)


def _score_apart(
    model: LanguageModel, questions: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], tokens_per_batch: int
) -> list[list[AnswerScore]]:
    """Score every answer as a row of its own."""
    rows = [Encoded((*prompt, *answer), len(prompt)) for prompt, answers in questions for answer in answers]
    found: list[AnswerScore] = [AnswerScore(np.zeros(0, np.float32), np.zeros(0, bool))] * len(rows)
    for chosen in _of_like_length([len(row.ids) for row in rows], tokens_per_batch):
        scores = score(model, to_device(model.encoder().collate([rows[i] for i in chosen]), model.device))
        correct = scores.logits.argmax(-1) == scores.labels
        for at, i in enumerate(chosen):
            here = scores.row == at
            found[i] = AnswerScore(scores.logp[here].cpu().numpy(), correct[here].cpu().numpy())
    each = iter(found)
    return [[next(each) for _ in answers] for _, answers in questions]


def _of_like_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group row numbers into batches, longest rows first; no batch exceeds `most` tokens with padding.

    A batch that already keeps the processor busy takes no row that would need more than a fifth of padding.
    """
    batches: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = len(batches[-1]) if batches else 0
        busy = size * longest >= BUSY and lengths[i] < 0.8 * longest
        if not size or busy or (size + 1) * longest > most:
            batches.append([])
            longest = lengths[i]
        batches[-1].append(i)
    return batches


class Tree:
    """A prompt and its answers as one sequence of distinct nodes.

    ids[i] is the token of node i, parent[i] the node before it (-1 for the first), depth[i] its position;
    paths[a] lists the nodes of answer a. A node comes after its parent.
    """

    def __init__(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> None:
        self.ids = list(prompt)
        self.prompt_length = len(self.ids)
        self.parent = list(range(-1, self.prompt_length - 1))
        self.depth = list(range(self.prompt_length))
        self.paths: list[list[int]] = []
        children: dict[tuple[int, int], int] = {}
        for answer in answers:
            node, path = self.prompt_length - 1, []
            for token in answer:
                child = children.get((node, token))
                if child is None:
                    child = children[node, token] = len(self.ids)
                    self.ids.append(token)
                    self.parent.append(node)
                    self.depth.append(self.depth[node] + 1 if node >= 0 else 0)
                path.append(child)
                node = child
            self.paths.append(path)

    def visible(self, prefix: int) -> Bool[np.ndarray, "rest nodes"]:
        """Mask of the nodes that each node after the prefix attends to: itself and its ancestors."""
        seen = np.zeros((len(self.ids), len(self.ids)), dtype=bool)
        for node, parent in enumerate(self.parent):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return seen[prefix:]


def _shared_tokens(rows: Sequence[Sequence[int]]) -> list[int]:
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return list(rows[0][:length]) if len(rows) > 1 and length >= SHORTEST_PREFIX else []


def _score_trees(model: LanguageModel, trees: Sequence[Tree], shared: list[int]) -> list[list[AnswerScore]]:
    base, device = model.base(), model.device
    cache = prefix_cache(model, torch.tensor([shared], device=device), len(trees)) if shared else None
    prefix = len(shared) if cache is not None else 0
    longest = max(len(tree.ids) for tree in trees)
    ids = torch.full((len(trees), longest - prefix), model.pad_id, dtype=torch.long)
    positions = torch.zeros_like(ids)
    visible = torch.zeros((len(trees), 1, longest - prefix, longest), dtype=torch.bool)
    for i, tree in enumerate(trees):
        n = len(tree.ids) - prefix
        ids[i, :n] = torch.tensor(tree.ids[prefix:])
        positions[i, :n] = torch.tensor(tree.depth[prefix:])
        visible[i, 0, :n, : n + prefix] = torch.from_numpy(tree.visible(prefix))
    visible[..., 0] = True  # padding must see something; nobody sees padding
    predicting = [sorted({tree.parent[node] for path in tree.paths for node in path} - {-1}) for tree in trees]
    row = torch.tensor([i for i, nodes in enumerate(predicting) for _ in nodes], device=device)
    column = torch.tensor([node - prefix for nodes in predicting for node in nodes], device=device)
    minimum = torch.finfo(torch.float32).min
    mask = torch.zeros(visible.shape, device=device).masked_fill(~visible.to(device), minimum)
    with labelled_head(base, row, column):
        output = base(
            ids.to(device),
            attention_mask=mask,
            position_ids=positions.to(device),
            **cached(base, cache),
        )
    return _read_trees(output.logits[0].float(), trees, predicting)


def _read_trees(
    logits: Float[Tensor, "n vocabulary"], trees: Sequence[Tree], predicting: Sequence[Sequence[int]]
) -> list[list[AnswerScore]]:
    """Read each path's log-probabilities from the logits of its nodes' parents."""
    normaliser, best = logits.logsumexp(-1), logits.argmax(-1)
    offset, results = 0, []
    for tree, nodes in zip(trees, predicting, strict=True):
        place = {node: offset + i for i, node in enumerate(nodes)}
        offset += len(nodes)
        scores = []
        for path in tree.paths:
            path = [node for node in path if tree.parent[node] >= 0]
            at = torch.tensor([place[tree.parent[node]] for node in path], device=logits.device)
            token = torch.tensor([tree.ids[node] for node in path], device=logits.device)
            logp = (logits[at, token] - normaliser[at]).cpu().numpy()
            scores.append(AnswerScore(logp, (best[at] == token).cpu().numpy()))
        results.append(scores)
    return results
