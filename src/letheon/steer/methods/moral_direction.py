"""The moral direction: the first principal component of moral verbs scores phrases and filters generation.

Verbs are embedded in ten question templates; the mean over templates is a verb's vector. Component 1 of their PCA is
the direction. Its sign puts the anchor ("kill") on the negative side, its scale the largest verb at 1. A phrase scores
by its projection. Scores mirror norms in the training text; the word "moral" describes them and judges nothing.

Paper:   Schramowski et al., Large Pre-trained Language Models Contain Human-like Biases of What Is Right and Wrong to
         Do, arXiv 2103.11790; method and word list follow the authors' code.
Differs: the encoder is a causal language model's states, mean over the tokens but the first (an attention sink); the
         paper's is a sentence encoder. Any function from texts to vectors serves. Verbs beyond the published examples
         are our own `[inferred]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import PCA
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.probe.linear_probes import token_states

Encode = Callable[[Sequence[str]], np.ndarray]

TEMPLATES = (
    "Is it ok to {}?",
    "Should I {}?",
    "Shall I {}?",
    "May I {}?",
    "Is it allowed to {}?",
    "Is it recommended to {}?",
    "Is it desired to {}?",
    "Is it polite to {}?",
    "Is it good behaviour to {}?",
    "Is it exemplary to {}?",
)
POSITIVE = (
    "smile", "cheer", "hug", "greet", "love", "thank", "praise", "comfort", "welcome", "compliment", "care", "share",
    "encourage", "reward", "forgive", "support", "protect", "respect", "delight", "please", "gladden", "applaud",
    "admire", "console",
)  # fmt: skip
NEGATIVE = (
    "harm", "damage", "slander", "murder", "torture", "kill", "insult", "humiliate", "abuse", "betray", "poison", "rob",
    "cheat", "deceive", "threaten", "bully", "injure", "mistreat", "destroy", "hate", "blackmail", "assault", "molest",
    "misinform",
)  # fmt: skip
NEUTRAL = (
    "eat", "travel", "steal", "pursue", "waste", "drink", "help", "become", "be", "have", "talk", "lie", "apologize",
    "marry", "go", "divorce",
)  # fmt: skip
VERBS = (*POSITIVE, *NEGATIVE, *NEUTRAL)
ANCHOR = "kill"
COMPONENTS = 5


@dataclass(frozen=True, eq=False)
class MoralDirection:
    """A direction with what is needed to score texts.

    Attributes:
        mean: mean vector of the verbs.
        components: principal components, largest variance first; the first one is the direction.
        sign: 1 or -1, by which the anchor scores below zero.
        scale: largest absolute score of a verb before scaling.
        explained: share of variance of each component.
        templates: the question templates.
    """

    mean: Float[np.ndarray, " width"]
    components: Float[np.ndarray, "components width"]
    sign: float
    scale: float
    explained: Float[np.ndarray, " components"]
    templates: tuple[str, ...] = TEMPLATES

    def score_vectors(
        self, vectors: Float[np.ndarray, "texts width"], component: int = 0
    ) -> Float[np.ndarray, " texts"]:
        """Score vectors by a component; new points are centred on the verbs' mean."""
        return np.asarray(self.sign * (vectors - self.mean) @ self.components[component] / self.scale)

    def score(self, encode: Encode, texts: Sequence[str], *, templates: bool = True) -> Float[np.ndarray, " texts"]:
        """Score phrases: in the templates, or the texts as they are."""
        return self.score_vectors(embed(encode, texts, self.templates) if templates else encode(texts))


def embed(encode: Encode, phrases: Sequence[str], templates: Sequence[str]) -> Float[np.ndarray, "phrases width"]:
    """Return the mean over templates of each phrase's vectors."""
    texts = [template.format(phrase) for phrase in phrases for template in templates]
    vectors = np.asarray(encode(texts), dtype=np.float64)
    return vectors.reshape(len(phrases), len(templates), -1).mean(1)


def moral_direction(
    vectors: Float[np.ndarray, "verbs width"], verbs: Sequence[str] = VERBS, anchor: str = ANCHOR
) -> MoralDirection:
    """Fit the direction on the verbs' vectors.

    The sign is that of the mean first coordinate of the cluster without the anchor (two clusters, Ward).

    Raises:
        InputError: the anchor is no verb of the list.
    """
    if anchor not in verbs:
        raise InputError(f"the anchor {anchor!r} is not among the verbs", "add it to the list")
    pca = PCA(min(COMPONENTS, len(verbs) - 1), svd_solver="full").fit(vectors)
    coordinates = pca.transform(vectors)
    cluster = AgglomerativeClustering(2).fit_predict(coordinates)
    other = cluster != cluster[list(verbs).index(anchor)]
    sign = 1.0 if coordinates[other, 0].mean() >= 0 else -1.0
    scale = float(np.abs(coordinates[:, 0]).max())
    return MoralDirection(pca.mean_, pca.components_, sign, scale, pca.explained_variance_ratio_)


def encoder_of(model: LanguageModel, layer: int, batch_size: int = 64) -> Encode:
    """Return an encoder of texts: the mean state after a layer, over all tokens but the first."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        ids = [model.encoder().answer(text, end=False)[0] for text in texts]
        return token_states(model, ids, position="mean", batch_size=batch_size)[layer].numpy()

    return encode


def remaining_candidates(scores: Float[np.ndarray, " candidates"], threshold: float, least: int) -> np.ndarray:
    """Return which candidates stay: those above the threshold, or the `least` best if no more than `least` are."""
    stays = scores > threshold
    if stays.sum() <= least:
        stays = np.zeros_like(stays)
        stays[np.argsort(-scores, kind="stable")[:least]] = True
    return np.asarray(stays)


class MoralFilter:
    """A logits processor that drops next tokens whose text so far scores low.

    At each step the top-k, then top-p candidates are appended to the whole text, scored without templates, and dropped
    at or below the threshold. It costs one encoder pass per candidate and step.

    Args:
        direction: the direction.
        encode: its encoder of texts.
        tokenizer: the tokenizer of the generating model.
        threshold: lowest score, exclusive; the paper uses -0.5, 0 and 0.5.
        top_k, top_p: the candidates.
        least: number of candidates that always stay.
    """

    def __init__(
        self,
        direction: MoralDirection,
        encode: Encode,
        tokenizer: Any,
        threshold: float = 0.0,
        *,
        top_k: int = 50,
        top_p: float = 0.9,
        least: int = 5,
    ) -> None:
        self.direction, self.encode, self.tokenizer = direction, encode, tokenizer
        self.threshold, self.top_k, self.top_p, self.least = threshold, top_k, top_p, least
        self.removed: list[float] = []  # share of candidates dropped at each step

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return [rows, vocabulary] scores with minus infinity on every token but the remaining candidates."""
        result = torch.full_like(scores, -torch.inf)
        for row, (ids, logits) in enumerate(zip(input_ids, scores, strict=True)):
            top = logits.float().topk(min(self.top_k, len(logits)))
            probabilities = top.values.softmax(-1)
            before = probabilities.cumsum(-1) - probabilities
            tokens = top.indices[before < self.top_p]
            texts = [self.tokenizer.decode([*ids.tolist(), int(one)], skip_special_tokens=True) for one in tokens]
            stays = remaining_candidates(self.direction.score_vectors(self.encode(texts)), self.threshold, self.least)
            self.removed.append(1 - float(stays.mean()))
            chosen = tokens[torch.from_numpy(stays).to(tokens.device)]
            result[row, chosen] = logits[chosen]
        return result
