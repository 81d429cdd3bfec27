"""Log-probabilities of labelled tokens: the only place that computes them.

Three savings, none of which changes a value beyond rounding: the vocabulary matrix is applied at labelled positions
only; the tokens that all rows of a batch begin with are run once; many answers to one prompt are scored as a tree in
which every distinct token is run once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from letheon.core.activations import Site, blocks, labelled_head, record, start_from, stop_after
from letheon.core.encoding import Batch
from letheon.core.models import LanguageModel

Positions = Literal["labels", "all"]
# A prefix shorter than this is not worth a pass of its own.
SHORTEST_PREFIX = 8
# A pass over so many tokens keeps a processor's cores busy; larger ones gain little.
BUSY = 512


@dataclass
class Scores:
    """Logits at the labelled positions of a batch.

    Attributes:
        logits: [n, vocabulary], float32.
        labels: [n], the token that each position should predict.
        row: [n], which row of the batch each belongs to.
        value: [n], whether the token carries the fact.
        rows: how many rows the batch has.
    """

    logits: Tensor
    labels: Tensor
    row: Tensor
    value: Tensor
    rows: int

    @cached_property
    def logp(self) -> Tensor:
        """[n] log-probability of each label, nats."""
        return -functional.cross_entropy(self.logits, self.labels, reduction="none")

    def moments(self) -> tuple[Tensor, Tensor]:
        """[n] mean (nats) and [n] variance (nats squared) of the log-probability of a token drawn at each position."""
        every = self.logits.log_softmax(-1)
        probability = every.exp()
        mean = (probability * every).sum(-1)
        return mean, (probability * every.square()).sum(-1) - mean.square()

    def select(self, mask: Tensor) -> Scores:
        """The scores of some tokens only; `mask` [n]."""
        if bool(mask.all()):
            return self
        chosen = Scores(self.logits, self.labels[mask], self.row[mask], self.value[mask], self.rows)
        if "logp" in self.__dict__:
            chosen.__dict__["logp"] = self.logp[mask]
        chosen.logits = self.logits[mask]
        return chosen

    def part(self, start: int, stop: int) -> Scores:
        """The scores of rows start to stop - 1, renumbered from 0 (rows lie one after another)."""
        low, high = (int(torch.searchsorted(self.row, bound)) for bound in (start, stop))
        mask = slice(low, high)
        return Scores(self.logits[mask], self.labels[mask], self.row[mask] - start, self.value[mask], stop - start)

    def per_row(self, values: Tensor) -> Tensor:
        """[rows]: sums of one value a token over each row."""
        return values.new_zeros(self.rows).index_add(0, self.row, values)

    def lengths(self) -> Tensor:
        """[rows]: how many tokens each row has, at least 1."""
        return torch.bincount(self.row, minlength=self.rows).clamp(min=1)

    def sequence_logp(self) -> Tensor:
        """[rows]: log-probability of each answer, summed over its tokens (nats)."""
        return self.per_row(self.logp)


def score(model: LanguageModel, batch: Batch, positions: Positions = "labels") -> Scores:
    """Logits of a batch at its labelled positions (or at every real position), with gradients where enabled.

    Args:
        model: where `model.frozen` is set, the layers below it come from its cache.
        batch: right-padded rows.
        positions: `labels`, or `all` real tokens but the first of each row.
    """
    wanted = batch.labels if positions == "labels" else _every_token(batch)
    row, column = (wanted[:, 1:] != -100).nonzero(as_tuple=True)
    labels = wanted[row, column + 1]
    value = batch.value_mask[row, column + 1]
    if len(row) == 0:
        vocabulary = model.base().get_output_embeddings().weight.shape[0]
        empty = torch.zeros((0, vocabulary), device=labels.device, requires_grad=torch.is_grad_enabled())
        return Scores(empty, labels, row, value, len(batch))
    logits = _logits(model, batch, _common_prefix(batch, int(column.min())), row, column)
    return Scores(logits.float(), labels, row, value, len(batch))


def _every_token(batch: Batch) -> Tensor:
    return batch.input_ids.masked_fill(batch.attention_mask == 0, -100)


def _common_prefix(batch: Batch, first_needed: int) -> int:
    """How many leading tokens all rows share, short of the first position whose logits are needed."""
    if len(batch) < 2:
        return 0
    same = (batch.input_ids == batch.input_ids[:1]).all(0)[:first_needed]
    length = int(same.long().cumprod(0).sum())
    return length if length >= SHORTEST_PREFIX else 0


def _logits(model: LanguageModel, batch: Batch, prefix: int, row: Tensor, column: Tensor) -> Tensor:
    base = model.base()
    entering = model.frozen.states_of(model, batch) if model.frozen is not None else None
    if model.frozen is not None and not model.frozen.alike:
        prefix = 0
    first = entering[:1, :prefix] if entering is not None else None
    cache = _prefix_cache(model, batch.input_ids[:1, :prefix], len(batch), first) if prefix else None
    prefix = prefix if cache is not None else 0
    rest = entering[:, prefix:] if entering is not None else None
    length = batch.input_ids.shape[1]
    positions = torch.arange(prefix, length, device=batch.input_ids.device)[None]
    with _above_frozen(model, rest), labelled_head(base, row, column - prefix):
        output = base(
            batch.input_ids[:, prefix:],
            attention_mask=batch.attention_mask,
            position_ids=positions.expand(len(batch), -1),
            **_cached(base, cache),
        )
    return output.logits[0]


def _above_frozen(model: LanguageModel, entering: Tensor | None) -> AbstractContextManager[None]:
    """Within it, passes begin above the frozen layers with what enters there; the whole model is run without such."""
    if model.frozen is None or entering is None:
        return nullcontext()
    return start_from(model.base(), model.frozen.below, entering)


def _prefix_cache(model: LanguageModel, prefix: Tensor, rows: int, entering: Tensor | None = None) -> object | None:
    """Keys and values of a prefix, run once with gradients and seen by every row; None where a model has no such."""
    with _above_frozen(model, entering):
        output = model.base()(prefix, use_cache=True, logits_to_keep=1)
    cache = output["cache" if "cache" in output.keys() else "past_key_values"]  # noqa: SIM118 (an attribute probe warns)
    layers = getattr(cache, "layers", [])
    if entering is not None and model.frozen is not None:
        _fill_skipped(layers, model.frozen.below)
    if not layers or any(not isinstance(getattr(layer, "keys", None), Tensor) for layer in layers):
        return None
    _share(layers, rows)
    return cache


def _fill_skipped(layers: Sequence[Any], below: int) -> None:
    """Layers that were not run get the keys of one that was: only their length is read.

    Nothing is filled in where the length means something else: layers of several kinds, or sliding windows.
    """
    if len(layers) > below and len(set(map(type, layers))) == 1 and not getattr(layers[below], "is_sliding", False):
        for layer in layers[:below]:
            layer.keys, layer.values, layer.is_initialized = layers[below].keys, layers[below].values, True


def _share(layers: Sequence[Any], rows: int) -> None:
    """Let every row see a cache that was made for one."""
    for layer in layers:
        layer.keys = layer.keys.expand(rows, *layer.keys.shape[1:])
        layer.values = layer.values.expand(rows, *layer.values.shape[1:])


def _cached(base: Any, cache: object | None) -> dict[str, object]:
    """The arguments that continue from a cache; transformers 5.24 renamed `past_key_values` to `cache`."""
    if cache is None:
        return {"use_cache": False}
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def hidden_states(model: LanguageModel, batch: Batch, layer: int) -> Tensor:
    """[batch, length, width]: a block's output; no layer above it is run, frozen ones come from their cache.

    The tokens that all rows begin with are run once.
    """
    base, frozen = model.base(), model.frozen
    if frozen is not None:
        with _above_frozen(model, frozen.states_of(model, batch)):
            return _states(base, layer, batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    prefix = _common_prefix(batch, int(batch.attention_mask.sum(1).min()) - 1)
    start, cache = _prefix_states(base, layer, batch.input_ids[:1, :prefix], len(batch)) if prefix else (None, None)
    if start is None:
        return _states(base, layer, batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    positions = torch.arange(prefix, batch.input_ids.shape[1], device=batch.input_ids.device)[None]
    rest = _states(
        base,
        layer,
        batch.input_ids[:, prefix:],
        attention_mask=batch.attention_mask,
        position_ids=positions.expand(len(batch), -1),
        **_cached(base, cache),
    )
    return torch.cat([start.expand(len(batch), -1, -1), rest], 1)


def _states(base: Any, layer: int, ids: Tensor, **options: Any) -> Tensor:
    with record(base, [Site(layer)]) as found, stop_after(base, layer):
        base(ids, **options)
    return found[Site(layer)]


def _prefix_states(base: Any, layer: int, prefix: Tensor, rows: int) -> tuple[Tensor | None, object | None]:
    """A block's output for a prefix, [1, prefix, width], and the keys and values up to there, seen by every row.

    Nothing where a model keeps another kind of cache.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=base.config)
    states = _states(base, layer, prefix, **_cached(base, cache))
    many = len(blocks(base))
    layers = cache.layers[: layer % many + 1]
    keys = [getattr(one, "keys", None) for one in layers]
    if not keys or any(not isinstance(key, Tensor) or key.shape[-2] != prefix.shape[1] for key in keys):
        return None, None
    _share([*layers, *cache.layers[many:]], rows)  # those above the model's own are what add-ons remember
    return states, cache


# Many answers to one prompt ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerScore:
    """Teacher-forced scores of one answer.

    Attributes:
        logp: [n] log-probability of each token, nats.
        correct: [n] whether each token is the model's first choice.
    """

    logp: np.ndarray
    correct: np.ndarray

    @property
    def probability(self) -> float:
        """exp of the mean log-probability per token."""
        return float(np.exp(self.logp.mean()))


@torch.inference_mode()
def score_answers(
    model: LanguageModel, questions: Sequence[tuple[str, Sequence[str]]], *, tokens_per_batch: int = 1024
) -> list[list[AnswerScore]]:
    """Score every answer to every prompt, end of turn included.

    Each prompt is run once and each distinct answer prefix once: a row is the prompt followed by the tree of its
    answers, and a token sees its ancestors only.

    Args:
        questions: pairs of a prompt and its answers.
        tokens_per_batch: bounds memory; on a processor larger passes are no faster.
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
    """`score_answers` of what is tokens already: the ids of each prompt and those of its continuations."""
    trees = [_Tree(prompt, answers) for prompt, answers in questions]
    # the last token of a prompt predicts; running text has no prompt at all
    prefix = _shared_tokens([tree.ids[: max(tree.prompt_length - 1, 0)] for tree in trees])
    results: list[list[AnswerScore]] = [[] for _ in trees]
    for chosen in _of_like_length([len(tree.ids) for tree in trees], tokens_per_batch):
        for index, found in zip(chosen, _score_trees(model, [trees[i] for i in chosen], prefix), strict=True):
            results[index] = found
    return results


def _of_like_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Row numbers in batches, longest first: none above `most` tokens with padding, and little padding where it pays.

    A batch that keeps the processor busy already takes no row that would be padded by more than a fifth.
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


class _Tree:
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

    def visible(self, prefix: int) -> np.ndarray:
        """[nodes - prefix, nodes]: which nodes each node sees: itself and its ancestors."""
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


def _score_trees(model: LanguageModel, trees: Sequence[_Tree], shared: list[int]) -> list[list[AnswerScore]]:
    base, device = model.base(), model.device
    cache = _prefix_cache(model, torch.tensor([shared], device=device), len(trees)) if shared else None
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
            **_cached(base, cache),
        )
    return _read_trees(output.logits[0].float(), trees, predicting)


def _read_trees(logits: Tensor, trees: Sequence[_Tree], predicting: Sequence[Sequence[int]]) -> list[list[AnswerScore]]:
    """Log-probabilities of each path from the logits of its nodes' parents."""
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
