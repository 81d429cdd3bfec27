"""Causal tracing: measure how far restoring each MLP's output recovers a fact.

Paper:   Meng et al., Locating and Editing Factual Associations in GPT (ROME), arXiv 2202.05262; as KUDA, arXiv
         2602.19275, uses it. A clean run; a run with Gaussian noise on the subject's embeddings; and that run again
         with one MLP's output at the subject's last token put back to its clean value. CE_l = P_restored - P_corrupted.
Differs: P is the geometric mean over the tokens that carry the fact (the whole answer where they are not known), so
         that long answers count; for one token it is P itself. Where an answer names the subject again, every mention
         is corrupted, and restored at its last token: the fact could otherwise be read off the second one. The noise
         of a draw is the same in the corrupted run and in all restored ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers, stop_after
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Batch, Encoded, to_device
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length, stream_seed
from letheon.core.scoring.likelihood import score

# Rows per pass.
ROWS = 32


@dataclass(frozen=True)
class Fact:
    """A row to trace.

    Attributes:
        row: its tokens; recall is measured on its value's tokens, or on the whole answer.
        spans: start and end (exclusive) of each mention of the subject, in tokens.
    """

    row: Encoded
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Trace:
    """Probabilities of the facts in clean, corrupted and restored runs.

    Attributes:
        clean: without noise.
        corrupted: mean over draws of noise.
        restored: mean over draws of noise, with one layer's MLP restored.
    """

    clean: Float[Tensor, " facts"]
    corrupted: Float[Tensor, " facts"]
    restored: Float[Tensor, "facts layers"]

    @property
    def effect(self) -> Float[Tensor, "facts layers"]:
        """Causal effect CE: the probability that restoring a layer's MLP recovers."""
        return self.restored - self.corrupted[:, None]


def fact_of(model: LanguageModel, example: Example) -> Fact:
    """Locate a row's subject.

    If the subject is missing or not found, the whole prompt counts as the subject; in running text the first half
    counts as the prompt [inferred].
    """
    row = model.encoder().encode(example)
    if not example.prompt:
        row = Encoded(row.ids, max(len(row.ids) // 2, 1))
    spans = mentions(model, row.ids, example.subject) if example.subject else []
    if not example.prompt:
        spans = [span for span in spans if span[1] <= row.start]
    # the first token is a begin-of-sequence mark or an attention sink, never a name
    return Fact(row, tuple(spans) or ((min(1, row.start - 1), max(row.start, 1)),))


def mentions(model: LanguageModel, ids: Sequence[int], subject: str) -> list[tuple[int, int]]:
    """Return the start and end (exclusive) of every mention of a text, in tokens."""
    tokenizer = model.tokenizer
    ends = [len(tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False)) for i in range(len(ids) + 1)]
    text, found, at = tokenizer.decode(ids, clean_up_tokenization_spaces=False), [], -1
    while (at := text.find(subject, at + 1)) >= 0:
        inside = [i for i in range(len(ids)) if ends[i] < at + len(subject) and ends[i + 1] > at]
        found.append((inside[0], inside[-1] + 1))
    return found


@torch.no_grad()
def trace_mlps(
    model: LanguageModel, facts: Sequence[Fact], *, noise: float = 3.0, draws: int = 3, seed: int = 0
) -> Trace:
    """Trace facts through every layer's MLP.

    Args:
        noise: standard deviation of the noise, in standard deviations of the subjects' embeddings (ROME: 3).
        draws: draws of noise per fact, over which effects are averaged.
        seed: seed of the noise.
    """
    clean, corrupted = torch.zeros(len(facts)), torch.zeros(len(facts))
    restored = torch.zeros(len(facts), len(blocks(model.base())))
    deviation = noise * float(torch.cat([_subject_embeddings(model, fact) for fact in facts]).std())
    for chosen in by_length([len(fact.row.ids) for fact in facts], max(1, ROWS // draws)):
        seeds = [stream_seed(seed, "tracing noise", number) for number in chosen]
        found = _trace([facts[i] for i in chosen], model, deviation, draws, seeds)
        clean[chosen], corrupted[chosen], restored[chosen] = found.clean, found.corrupted, found.restored
    return Trace(clean, corrupted, restored)


def select_window(effect: Float[Tensor, " layers"], width: int) -> range:
    """Select the `width` neighbouring layers with the largest sum of effects; the lower ones if sums are equal."""
    if not 1 <= width <= len(effect):
        raise InputError(f"a window of {width} layers, the model has {len(effect)}", f"use 1 to {len(effect)}")
    first = int(effect.unfold(0, width, 1).sum(-1).argmax())
    return range(first, first + width)


def _trace(facts: Sequence[Fact], model: LanguageModel, deviation: float, draws: int, seeds: Sequence[int]) -> Trace:
    """Trace the facts of one batch; corrupted and restored runs repeat each fact once per draw."""
    base, layers = model.base(), range(len(blocks(model.base())))
    batch = to_device(model.encoder().collate([fact.row for fact in facts]), model.device)
    embeddings = _embeddings(model, batch)
    with record(base, [Site(layer, "mlp") for layer in layers]) as clean:
        known = _probability(model, batch, 0, embeddings)
    many = to_device(model.encoder().collate([fact.row for fact in facts for _ in range(draws)]), model.device)
    noisy = embeddings.repeat_interleave(draws, 0)
    noisy = noisy + deviation * _noise(facts, noisy, draws, seeds)
    last = torch.zeros_like(many.input_ids, dtype=torch.bool)
    for i, fact in enumerate(facts):
        last[i * draws : (i + 1) * draws, [end - 1 for _, end in fact.spans]] = True
    with record(base, [Site(layer) for layer in layers]) as left:
        lost = _probability(model, many, 0, noisy)
    entering = [noisy, *(left[Site(layer)] for layer in layers)]
    restored = []
    for layer in layers:  # below it the restored run is the corrupted one
        kept = clean[Site(layer, "mlp")].repeat_interleave(draws, 0)
        put_back = {Site(layer, "mlp"): lambda output, kept=kept: torch.where(last[..., None], kept, output)}
        with edit(base, put_back):
            restored.append(_probability(model, many, layer, entering[layer]))
    means = [found.view(-1, draws).mean(1).cpu() for found in (lost, *restored)]
    return Trace(known.cpu(), means[0], torch.stack(means[1:], 1))


def _noise(
    facts: Sequence[Fact], like: Float[Tensor, "rows length width"], draws: int, seeds: Sequence[int]
) -> Float[Tensor, "rows length width"]:
    """Draw noise for facts * draws rows: standard normal at the subjects' tokens, zero elsewhere."""
    noise = torch.zeros(like.shape)
    for i, (fact, seed) in enumerate(zip(facts, seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        for draw in range(draws):
            for start, end in fact.spans:
                noise[i * draws + draw, start:end] = torch.randn(end - start, like.shape[-1], generator=generator)
    return noise.to(like)


class _Given(FrozenLayers):
    """Starts a forward pass at a layer from supplied hidden states; each row has its own noise."""

    alike = False

    def __init__(self, below: int, given: Float[Tensor, "batch length width"]) -> None:
        super().__init__(below)
        self.given = given

    def states_of(self, model: nn.Module, batch: Batch) -> Float[Tensor, "batch length width"]:
        return self.given


def _probability(
    model: LanguageModel, batch: Batch, layer: int, states: Float[Tensor, "rows length width"]
) -> Float[Tensor, " rows"]:
    """Compute exp of the mean log-probability of each row's value, starting at a layer from `states`."""
    before, model.frozen = model.frozen, _Given(layer, states)
    try:
        scores = score(model, batch)
    finally:
        model.frozen = before
    scores = scores.select(scores.value)
    return (scores.sequence_logp() / scores.lengths()).exp()


def _embeddings(model: LanguageModel, batch: Batch) -> Float[Tensor, "batch length width"]:
    """Compute the input of layer 0."""
    with record(model.base(), [Site(0, "input")]) as found, stop_after(model.base(), 0):
        model.base()(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return found[Site(0, "input")]


def _subject_embeddings(model: LanguageModel, fact: Fact) -> Tensor:
    batch = to_device(model.encoder().collate([fact.row]), model.device)
    found = _embeddings(model, batch)[0]
    return torch.cat([found[start:end].flatten() for start, end in fact.spans])
