"""SAE unlearning: in the latents of a sparse autoencoder the target leaves the known entities and joins the unknown.

Paper:   Yamashita et al., Sparse-Autoencoder-Guided Internal Representation Unlearning for Large Language Models,
         arXiv 2509.15631. Its abstract fixes the goal and the direction, "away from known, toward unknown, in the
         latent space"; the loss, the layer and all numbers are [inferred], see the settings. Known and unknown latents
         after Ferrando et al., arXiv 2411.14257; scale of the weights after CRISP, arXiv 2508.13650.
Differs: distances are in units of the distance between the two prototypes, and the shift of retained states in units
         of their variance, so that the weights do not depend on a model's scale. Latents count before their activation
         (pre-activations), since one that is off has no gradient and could never be switched on. Weights above the
         layer that is read get no gradient: nothing they do changes what the target looks like there.

Limits:  only the mention's last token is moved. Tokens after it also read the layers below, where it looks as before,
         so that a model can still answer about an entity that looks unknown to it: measure that (`letheon audit`).

Known entities are those that the retain rows ask about in the forget rows' words; unknown names are made of the same
parts (`letheon.probe.entities`). A file gives other names: `sae:entities=names.json`. Where the retain rows name no
entities, the targets as they are before forgetting stand for the known side.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import blocks
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import read_examples
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import hidden_states, score
from letheon.forget.entities import entity_set, mention_states, own_templates, row_ends, states_of
from letheon.forget.objectives.rmu import activation_loss
from letheon.forget.parts import Pair, PairIndices, Rows, Terms, joined
from letheon.probe.entities import (
    KnowledgeProbe,
    Separation,
    latent_separation,
    mention,
    mentions,
    salient,
)
from letheon.probe.sae.autoencoder import Activation, Quality, SparseAutoencoder
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder

logger = logging.getLogger("letheon")

MOST_TOKENS = 100_000  # that an autoencoder is trained on; bounds memory


@dataclass(frozen=True)
class Settings:
    """Options.

    Attributes:
        layer: the block whose output is read; -1 takes the autoencoder's own, or the middle one.
        path: a folder with an autoencoder in the sae-lens format; without it one is trained.
        entities: a JSON file `{"known": [...], "unknown": [...]}`, perhaps with `templates`.
        corpus: running text; the autoencoder is trained on it, and on the request's general text, as well.
        common: latents that more than this share of the corpus' tokens switch on are no entity latents.
        space: `latents`, or the raw `residual` stream (an ablation).
        latents: how many of each sign count; 0 counts all.
        mu, margin: the loss is max(0, D_unknown − mu·D_known + margin).
        gamma: weight of the shift of retained states.
        lambda_ce: weight of the retain answers' negative log-likelihood.
        activation, expansion, k, sae_steps: of the autoencoder that is trained.
        least_variance: an autoencoder that explains less of the variance is refused, unless `allow_poor`.
    """

    layer: int = -1  # [inferred] middle layers separate best (Ferrando et al.)
    path: str = ""
    entities: str = ""
    corpus: str = ""
    common: float = 0.02  # Ferrando et al., of tokens of the Pile
    space: Literal["latents", "residual"] = "latents"
    latents: int = 0  # [inferred]; CRISP takes 10, with which fewer directions move
    mu: float = 0.5  # [inferred]; 1 is the plain triplet, which pulls along the line between the prototypes only
    margin: float = 0.5  # [inferred]; with mu = 0.5 the loss ends where the unknown prototype is reached, not behind it
    gamma: float = 5.0  # [inferred] 1-10
    lambda_ce: float = 1.0  # [inferred]
    activation: Activation = "topk"
    expansion: int = 8
    k: int = 16
    sae_steps: int = 1000
    least_variance: float = 0.8
    allow_poor: bool = False

    def __post_init__(self) -> None:
        check_settings(self, positive=("mu", "expansion", "k", "sae_steps"))
        if min(self.latents, self.margin, self.gamma, self.lambda_ce, self.layer + 1) < 0:
            raise InputError("a number of latents, margin, weight or layer below what it can be", "use 0 or more")


def distance(z: Float[Tensor, "*batch latents"], prototype: Float[Tensor, " latents"]) -> Float[Tensor, "*batch"]:
    """D: squared Euclidean distance."""
    return ((z - prototype) ** 2).sum(-1)


def triplet_loss(
    z: Float[Tensor, "mentions latents"],
    known: Float[Tensor, " latents"],
    unknown: Float[Tensor, " latents"],
    mu: float,
    margin: float,
) -> Float[Tensor, " mentions"]:
    """max(0, D(z, unknown) − mu·D(z, known) + margin·D(known, unknown)) / D(known, unknown) a mention [inferred].

    1 + margin at the known prototype, max(0, margin − mu) at the unknown one. With mu = 1 it is linear in z: only the
    direction from one prototype to the other counts. Below 1 it also pulls z's other directions to the prototypes, and
    is 0 within a ball around a point behind the unknown prototype; with margin = mu the ball's edge is that prototype.
    """
    unit = distance(known, unknown)
    return (distance(z, unknown) / unit - mu * distance(z, known) / unit + margin).relu()


def position(
    z: Float[Tensor, "*batch latents"], known: Float[Tensor, " latents"], unknown: Float[Tensor, " latents"]
) -> Float[Tensor, "*batch"]:
    """p = D(z, known) / (D(z, known) + D(z, unknown)): 0 at the known prototype, 1 at the unknown one."""
    away = distance(z, known)
    return away / (away + distance(z, unknown))


@method("objective", "sae", Settings, paper="2509.15631", needs={"retain", "reference", "subject"})
class SAE:
    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.before: dict[int, Tensor] = {}
        self.sae: SparseAutoencoder | None = None
        self.quality: Quality | None = None
        self.probe: KnowledgeProbe | None = None
        self.separation: Separation | None = None
        self.latents: list[int] = []

    # Before the first step

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        self.rows = rows
        if self.settings.path:
            self.sae = SparseAutoencoder.load(self.settings.path).to(model.device)
        self.layer = self._layer(model)
        self.ends = [row_ends(model, row, example.subject, example.id)
                     for row, example in zip(rows.forget, rows.examples, strict=True)]  # fmt: skip
        templates = own_templates(rows)
        self.extra = [[mention(model, row.subject or "", template) for template in templates] for row in rows.examples]
        self.entities = entity_set(rows, templates, self.settings.entities)
        with torch.no_grad():
            texts = list(rows.request.general) if rows.request else []
            texts += read_examples(self.settings.corpus) if self.settings.corpus else []
            corpus = model.encoder().encode_all(texts, "corpus row")
            ordinary = self._ordinary(model, [*rows.forget, *rows.retain, *corpus])
            if self.settings.space == "latents":
                self._autoencoder(ordinary, model)
            self._prototypes(model, torch.cat(self._ordinary(model, corpus)) if corpus else None)
            visited = sorted({number for _, retain in plan for number in retain})
            for number, states in zip(
                visited, states_of(model, [rows.retain[i] for i in visited], self.layer), strict=True
            ):
                self.before[len(rows.forget) + number] = states
        kept = torch.cat([states[1:] for states in self.before.values()] or ordinary)
        self.variance = float((kept - kept.mean(0)).pow(2).mean())

    def _layer(self, model: LanguageModel) -> int:
        """The layer to read, if something that may move changes it."""
        stack, asked = blocks(model.base()), self.settings.layer
        own = self.sae.layer if self.sae is not None else None
        layer = asked if asked >= 0 else own if own is not None else (len(stack) - 1) // 2
        if own is not None and own != layer:
            raise InputError(f"layer {layer} asked for, the autoencoder is of layer {own}", f"write layer={own}")
        if not 0 <= layer < len(stack) - 1:
            raise InputError(
                f"sae: layer {layer} asked for, the model has {len(stack)}",
                f"use 0 to {len(stack) - 2}: a layer must follow that answers from what is read",
            )
        movable = [p for block in list(stack)[: layer + 1] for p in block.parameters()]
        movable.append(model.base().get_input_embeddings().weight)
        if not any(parameter.requires_grad for parameter in movable):
            raise InputError(
                f"sae reads layer {layer}, which the weights that may move cannot change",
                f"let layers up to {layer} move, or read a later one",
            )
        return layer

    def _ordinary(self, model: LanguageModel, rows: Sequence[Encoded]) -> list[Tensor]:
        """States at ordinary tokens, row by row, without each row's first; a seeded choice where rows are many."""
        chosen: list[Encoded] = []
        tokens = 0
        for row in random.Random(stream_seed(self.rows.seed, "ordinary text")).sample(rows, len(rows)):
            if tokens < MOST_TOKENS:
                chosen.append(row)
                tokens += len(row.ids)
        return [states[1:] for states in states_of(model, chosen, self.layer)]

    def _autoencoder(self, ordinary: Sequence[Tensor], model: LanguageModel) -> None:
        """Train one if none was given; refuse one that describes this model's states badly."""
        settings = self.settings
        held_out = torch.cat(list(ordinary[::5]))
        if self.sae is None:
            training = SAETraining(settings.activation, settings.expansion, settings.k, steps=settings.sae_steps)
            seen = torch.cat([states for i, states in enumerate(ordinary) if i % 5 or len(ordinary) == 1])
            site = f"blocks.{self.layer}.hook_resid_post"
            self.sae = train_sparse_autoencoder(seen, training, stream_seed(self.rows.seed, "autoencoder"), site)
        width = self.sae.W_enc.shape[0]
        if width != held_out.shape[1]:
            raise InputError(
                f"the autoencoder is of width {width}, {model.name} of {held_out.shape[1]}", "give another"
            )
        self.quality = self.sae.quality(held_out)
        found = f"the autoencoder explains {self.quality.explained_variance:.1%} of the variance at layer {self.layer}"
        logger.info("%s, with %.1f latents a token", found, self.quality.l0)
        if self.quality.explained_variance < settings.least_variance:
            if not settings.allow_poor:
                raise InputError(
                    f"{found}, less than {settings.least_variance:.0%}",
                    "give a corpus, more sae_steps, a larger k or another path; or say allow_poor=true",
                )
            logger.warning("%s", found)

    def _prototypes(self, model: LanguageModel, corpus: Float[Tensor, "tokens width"] | None) -> None:
        """Where known and unknown entities lie; the latents that tell them apart; a probe on half of the names."""
        kinds = {}
        for kind in ("known", "unknown"):
            found = mentions(model, getattr(self.entities, kind), self.entities.templates)
            kinds[kind] = mention_states(model, found, self.layer)
        known, unknown = (torch.cat(kinds[kind]) for kind in ("known", "unknown"))
        if self.sae is not None:
            self.separation = latent_separation(self.sae.encode(known), self.sae.encode(unknown))
            common = None
            if corpus is not None:
                common = (self.sae.encode(corpus) > 0).float().mean(0) > self.settings.common
            self.latents = salient(self.separation, self.settings.latents, common) if self.settings.latents else []
        self.known, self.unknown = self._read(known).mean(0), self._read(unknown).mean(0)
        size = len(self.entities.templates)
        halves = [[torch.cat(states[size * i : size * (i + 1)]).mean(0) for i in range(len(states) // size)]
                  for states in kinds.values()]  # fmt: skip
        if min(map(len, halves)) >= 4:
            parts = [torch.stack(states[i::2]) for i in (0, 1) for states in halves]
            self.probe = KnowledgeProbe.fit(*parts)
            logger.info("a linear probe tells known from unknown names with AUROC %.2f", self.probe.auroc)

    def _read(self, hidden: Float[Tensor, "mentions width"]) -> Float[Tensor, "mentions latents"]:
        """What distances are measured in: chosen pre-activations, or the states themselves."""
        if self.sae is None:
            return hidden
        z = self.sae.pre_activations(hidden)
        return z[:, self.latents] if self.latents else z

    # At each step

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """One pass up to the layer for all rows; above it only for the retain answers."""
        terms, parts = Terms(), []
        if pair.forget is not None:
            parts = [pair.forget, self._extra_batch(pair.forget, pair.step)]
        if pair.retain is not None:
            parts.append(pair.retain)
        if not parts:
            return terms
        batch = parts[0]
        for part in parts[1:]:
            batch = joined(batch, part)
        hidden = hidden_states(model, batch, self.layer).float()
        if pair.forget is not None:
            self._forget(terms, hidden, pair.forget, pair.step)
        if pair.retain is not None:
            start = len(batch) - len(pair.retain)
            self._retain(terms, model, hidden[start:, : pair.retain.input_ids.shape[1]], pair.retain)
        return terms

    def _drawn(self, number: int, step: int) -> int:
        """Which template a forget row's subject is also met in; the same however a batch is split."""
        return stream_seed(self.rows.seed, f"template {number}", step) % len(self.extra[number])

    def _extra_batch(self, batch: Batch, step: int) -> Batch:
        numbers = batch.index.tolist()
        drawn = [self._drawn(number, step) for number in numbers]
        first = len(self.rows.forget) + len(self.rows.retain)  # numbers that no row of the request has
        index = [first + number * len(self.extra[0]) + place for number, place in zip(numbers, drawn, strict=True)]
        return self.rows.batch([self.extra[n][place].row for n, place in zip(numbers, drawn, strict=True)], index)

    def _forget(self, terms: Terms, hidden: Tensor, batch: Batch, step: int) -> None:
        """The triplet at every mention, averaged over each row's mentions, then over rows."""
        row, column = [], []
        for i, number in enumerate(batch.index.tolist()):
            extra = self.extra[number][self._drawn(number, step)].ends
            row += [i] * len(self.ends[number]) + [len(batch) + i] * len(extra)
            column += [*self.ends[number], *extra]
        owner = torch.tensor(row, device=hidden.device) % len(batch)
        weight = 1 / torch.bincount(owner, minlength=len(batch))[owner]
        states = hidden[row, column]
        z, settings = self._read(states), self.settings
        loss = batch.mean(weight * triplet_loss(z, self.known, self.unknown, settings.mu, settings.margin), "rows")
        terms.forget, terms.metrics["forget_loss"] = loss, float(loss.detach())
        with torch.no_grad():
            terms.metrics["position"] = float(batch.mean(weight * position(z, self.known, self.unknown), "rows"))
            if self.probe is not None:
                terms.metrics["probe_known"] = float(batch.mean(weight * self.probe.known(states), "rows"))
            if self.sae is not None and self.quality is not None:
                # must stay near that of ordinary tokens: leaving the autoencoder's domain lowers the loss as well
                error = (states - self.sae(states)).pow(2).mean(-1) / self.variance
                terms.metrics["target_error"] = float(batch.mean(weight * error, "rows"))
                share = float(batch.mean(weight, "rows"))
                terms.metrics["explained_variance"] = share * self.quality.explained_variance

    def _retain(self, terms: Terms, model: LanguageModel, hidden: Tensor, batch: Batch) -> None:
        before = torch.nn.utils.rnn.pad_sequence([self.before[n] for n in batch.index.tolist()], batch_first=True)
        length = before.shape[1]
        mask = batch.attention_mask[:, :length] == 1
        mask[:, 0] = False  # an attention sink: its norm would drown the others'
        loss = batch.mean(activation_loss(hidden[:, :length], before, mask) / self.variance, "rows")
        terms.metrics["retain_shift"] = float(loss.detach())
        terms.retain = self.settings.gamma * loss
        if self.settings.lambda_ce:
            nll = answer_nll_from(model, batch, self.layer, hidden)
            terms.metrics["retain_loss"] = float(nll.detach())
            terms.retain = terms.retain + self.settings.lambda_ce * nll


class _Midway(FrozenLayers):
    """Layers that have been run already, with gradients."""

    def __init__(self, below: int, hidden: Tensor) -> None:
        super().__init__(below)
        self.hidden = hidden

    def states_of(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.hidden


def answer_nll_from(
    model: LanguageModel, batch: Batch, layer: int, hidden: Float[Tensor, "rows length width"]
) -> Tensor:
    """The answers' mean negative log-likelihood a token (nats), the layers up to `layer` having been run.

    Its gradient reaches what made `hidden` and no weight above: it is linear in `hidden` around its value.
    """
    states = hidden.detach().requires_grad_()
    with torch.enable_grad():
        midway = replace(model, frozen=_Midway(layer + 1, states))
        loss = -batch.mean(score(midway, batch).logp, "tokens")
        slope: Tensor | None = torch.autograd.grad(loss, states, allow_unused=True)[0]
    if slope is None:  # no label
        return loss.detach()
    return loss.detach() + (slope * (hidden - states.detach())).sum()
