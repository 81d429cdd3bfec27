"""Parts of a deletion request that earlier requests have covered: by similarity first, then by the loss.

A request is cut into chunks. A chunk is left out if it resembles an earlier one, the request's loss hardly changes
without it, and the model has lost it: a request that is repeated because its first deletion failed is served again.

Paper:   FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning, arXiv 2601.21682.
Differs: the sentence encoder. The paper's is SimCSE, a model of its own; here it is the model's own hidden states at
         one block, averaged over the text's tokens (mean-pooled hidden states), minus the mean over a sample of other
         texts and that sample's four principal directions (Mu & Viswanath, All-but-the-Top, arXiv 1702.01417):
         without that, states of one model all point the same way and every pair is similar.
         A row with a prompt is one chunk; running text is cut. Without its only chunk a request has no loss to compare,
         so such a chunk is judged by similarity and by what the model has lost.
         That the model must have lost a chunk is ours: its loss is compared with the one before the first request. The
         paper's own test looks at the present loss alone, which is as small where nothing was forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import hidden_states

# Principal directions that are taken out; Mu & Viswanath take a hundredth of the width, 3 of 300.
SHARED = 4


def nearest_similarity(
    embeddings: Float[Tensor, "chunks width"], history: Float[Tensor, "earlier width"] | Float[Tensor, " 0"]
) -> Float[Tensor, " chunks"]:
    """max over the history of the cosine, for each chunk; -1 where there is no history. Rows have length 1."""
    if not len(history):
        return embeddings.new_full((len(embeddings),), -1.0)
    return (embeddings @ history.T).amax(1)


def loss_differences(losses: Float[Tensor, " chunks"], tokens: Float[Tensor, " chunks"]) -> Float[Tensor, " chunks"]:
    """|L(D) − L(D without the chunk)|, L the mean over answer tokens (nats); from each chunk's sum and its tokens.

    It is 0 for a request's only chunk.
    """
    if len(losses) == 1:
        return torch.zeros_like(losses)
    without = (losses.sum() - losses) / (tokens.sum() - tokens).clamp(min=1)
    return (losses.sum() / tokens.sum() - without).abs()


def kept_chunks(
    similarity: Float[Tensor, " chunks"],
    difference: Float[Tensor, " chunks"],
    rise: Float[Tensor, " chunks"],
    tau: float,
    epsilon: float,
    lost: float | None = None,
) -> Bool[Tensor, " chunks"]:
    """Mark the chunks to train on.

    They are unlike all earlier ones (similarity <= tau), needed by the loss (difference > epsilon), or still known (the
    loss has risen by less than `lost` nats per token since before the first request; None leaves this out).
    """
    keep = (similarity <= tau) | (difference > epsilon)
    return keep if lost is None else keep | (rise < lost)


def chunks_of(model: LanguageModel, rows: Sequence[Example], size: int) -> list[Example]:
    """Cut running text into pieces of `size` tokens, named after their row; other rows stay whole."""
    chunks: list[Example] = []
    for row in rows:
        spans = [] if row.prompt else model.encoder().answer(row.answer, end=False)[1]
        if len(spans) <= size:
            chunks.append(row)
            continue
        starts = [spans[i][0] for i in range(0, len(spans), size)]
        texts = [row.answer[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
        chunks += [Example("", text, id=f"{row.id}#{i + 1}") for i, text in enumerate(texts) if text.strip()]
    return chunks


@torch.no_grad()
def pooled_states(model: LanguageModel, rows: Sequence[Encoded], layer: int) -> Float[Tensor, "rows width"]:
    """Hidden states at a block's output, averaged over each row's tokens, prompt and answer."""
    found: list[Tensor] = [torch.zeros(0)] * len(rows)
    for chosen, batch in model.batches(rows, 16):
        mask = batch.attention_mask[..., None]
        pooled = (hidden_states(model, batch, layer).float() * mask).sum(1) / mask.sum(1)
        for i, vector in zip(chosen, pooled, strict=True):
            found[i] = vector
    return torch.stack(found)


@dataclass(frozen=True)
class StateEncoder:
    """Texts as unit vectors: mean-pooled hidden states at one block, without what most texts share.

    It is the model's own encoder while the model has the weights that it was made with.

    Attributes:
        mean: of the states of a sample of texts.
        shared: [directions, width], orthonormal: where that sample varies most.
    """

    layer: int
    mean: Float[Tensor, " width"]
    shared: Float[Tensor, "directions width"]

    @classmethod
    def of(cls, model: LanguageModel, others: Sequence[Example]) -> StateEncoder:
        """The encoder at a model's middle block, with mean and directions of a sample of texts."""
        layer = middle(model)
        states = pooled_states(model, model.encoder().encode_all(others), layer)
        directions = torch.linalg.svd(states - states.mean(0), full_matrices=False).Vh
        return cls(layer, states.mean(0), directions[: min(SHARED, len(others) - 1)])

    def embed(self, model: LanguageModel, rows: Sequence[Encoded]) -> Float[Tensor, "rows width"]:
        """One vector of length 1 per row."""
        return embedding(pooled_states(model, rows, self.layer), self.mean, self.shared)


def embedding(
    states: Float[Tensor, "rows width"], mean: Float[Tensor, " width"], shared: Float[Tensor, "directions width"]
) -> Float[Tensor, "rows width"]:
    """The states minus their mean and their part along the shared directions, scaled to length 1."""
    rest = states - mean
    return functional.normalize(rest - (rest @ shared.T) @ shared, dim=1)


def middle(model: LanguageModel) -> int:
    """The block at half of a model's depth."""
    return len(blocks(model.base())) // 2


@dataclass(frozen=True)
class Filtered:
    """A filter's decision: the chunks, the ones to train on, and the three numbers that decided."""

    chunks: list[Example]
    keep: list[bool]
    similarity: list[float]
    difference: list[float]
    rise: list[float]

    @property
    def kept(self) -> list[Example]:
        """The chunks to train on."""
        return [chunk for chunk, keep in zip(self.chunks, self.keep, strict=True) if keep]

    @property
    def dropped(self) -> list[dict[str, str | float]]:
        """Id, similarity, loss difference and rise of the loss of every chunk that is left out."""
        facts = zip(self.chunks, self.keep, self.similarity, self.difference, self.rise, strict=True)
        return [
            {"id": c.id, "similarity": s, "loss_difference": d, "rise": r} for c, keep, s, d, r in facts if not keep
        ]
