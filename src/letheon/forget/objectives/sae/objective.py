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

Known entities are the ones that the retain rows ask about in the forget rows' words; unknown names are made of the same
parts (`letheon.probe.entities`). A file gives other names: `sae:entities=names.json`. Where the retain rows name no
entities, the targets as they are before forgetting stand for the known side.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import read_examples
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import hidden_states
from letheon.forget.kept_states import KeptStates
from letheon.forget.objectives.rmu import activation_loss
from letheon.forget.objectives.sae.entities import entity_set, own_templates, row_ends, states_of
from letheon.forget.objectives.sae.loss import position, triplet_loss
from letheon.forget.objectives.sae.space import EntitySpace, checked_quality, layer_to_read, trained_autoencoder
from letheon.forget.objectives.sae.upper_layers import answer_nll_from
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms, joined
from letheon.probe.entities import mention
from letheon.probe.sae.autoencoder import Activation, Quality, SparseAutoencoder
from letheon.probe.sae.training import SAETraining

MOST_TOKENS = 100_000  # that an autoencoder is trained on; bounds memory


@dataclass(frozen=True)
class Settings:
    """Options of SAE unlearning.

    Attributes:
        layer: the block whose output is read; -1 takes the autoencoder's own, or the middle one.
        path: a folder with an autoencoder in the sae-lens format or Gemma Scope's; without it one is trained.
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


@method(
    "objective",
    "sae",
    Settings,
    paper="2509.15631",
    needs={"retain", "reference", "subject"},
    recipes={"sae-unlearning": "sae@lora"},
    recommended={"steps": 200, "learning_rate": 1e-4, "batch_size": 8},  # [inferred]
    # random weights know no entity, and a good autoencoder takes too long
    tiny=({"sae_steps": 20, "allow_poor": True}, {"space": "residual", "lambda_ce": 0.0}),
    turns=False,
)
class SAE(Objective):
    settings: Settings
    quality: Quality | None = None

    # Before the first step

    @torch.no_grad()
    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        settings, self.rows, self.before = self.settings, rows, KeptStates()
        sae = SparseAutoencoder.load(settings.path).to(model.device) if settings.path else None
        self.layer = layer_to_read(model, settings.layer, None if sae is None else sae.layer)
        self.ends = [
            row_ends(model, row, example.subject, example.id)
            for row, example in zip(rows.forget, rows.examples, strict=True)
        ]
        templates = own_templates(rows)
        self.extra = [[mention(model, row.subject or "", template) for template in templates] for row in rows.examples]
        self.entities = entity_set(rows, templates, settings.entities)
        texts = list(rows.request.general) if rows.request else []
        texts += read_examples(settings.corpus) if settings.corpus else []
        corpus = model.encoder().encode_all(texts, "corpus row")
        ordinary = self._ordinary(model, [*rows.forget, *rows.retain, *corpus])
        if settings.space == "latents":
            if sae is None:
                training = SAETraining(settings.activation, settings.expansion, settings.k, steps=settings.sae_steps)
                sae = trained_autoencoder(ordinary, training, stream_seed(rows.seed, "autoencoder"), self.layer)
            self.quality = checked_quality(
                sae, ordinary, model, self.layer, settings.least_variance, settings.allow_poor
            )
        states = torch.cat(self._ordinary(model, corpus)) if corpus else None
        self.space = EntitySpace.of(
            model, self.entities, self.layer, sae, most=settings.latents, corpus=states, common=settings.common
        )
        visited = [int(batch.index) for batch in rows.visited(plan)[1]]
        for number, row_states in zip(
            visited, states_of(model, [rows.row(i) for i in visited], self.layer), strict=True
        ):
            self.before[number] = row_states
        retained = torch.cat([row_states[1:] for row_states in self.before.rows.values()] or ordinary)
        self.variance = float((retained - retained.mean(0)).pow(2).mean())

    def _ordinary(self, model: LanguageModel, rows: Sequence[Encoded]) -> list[Tensor]:
        """States at ordinary tokens, row by row, without each row's first; a seeded choice where rows are many."""
        chosen: list[Encoded] = []
        tokens = 0
        for row in random.Random(stream_seed(self.rows.seed, "ordinary text")).sample(rows, len(rows)):
            if tokens < MOST_TOKENS:
                chosen.append(row)
                tokens += len(row.ids)
        return [states[1:] for states in states_of(model, chosen, self.layer)]

    # At each step

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """All rows take one pass up to the layer; only the retain answers pass through the layers above."""
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
        """Draw the template of a forget row's extra mention; splits into micro-batches do not matter."""
        return stream_seed(self.rows.seed, f"template {number}", step) % len(self.extra[number])

    def _extra_batch(self, batch: Batch, step: int) -> Batch:
        numbers = batch.index.tolist()
        drawn = [self._drawn(number, step) for number in numbers]
        first = len(self.rows.forget) + len(self.rows.retain)  # numbers that no row of the request has
        index = [first + number * len(self.extra[0]) + place for number, place in zip(numbers, drawn, strict=True)]
        return self.rows.batch([self.extra[n][place].row for n, place in zip(numbers, drawn, strict=True)], index)

    def _forget(self, terms: Terms, hidden: Tensor, batch: Batch, step: int) -> None:
        """Add the triplet loss, averaged over each row's mentions, then over rows."""
        row, column = [], []
        for i, number in enumerate(batch.index.tolist()):
            extra = self.extra[number][self._drawn(number, step)].ends
            row += [i] * len(self.ends[number]) + [len(batch) + i] * len(extra)
            column += [*self.ends[number], *extra]
        owner = torch.tensor(row, device=hidden.device) % len(batch)
        weight = 1 / torch.bincount(owner, minlength=len(batch))[owner]
        states = hidden[row, column]
        z, settings, space = self.space.read(states), self.settings, self.space
        loss = batch.mean(weight * triplet_loss(z, space.known, space.unknown, settings.mu, settings.margin), "rows")
        terms.forget, terms.metrics["forget_loss"] = loss, float(loss.detach())
        with torch.no_grad():
            terms.metrics["position"] = float(batch.mean(weight * position(z, space.known, space.unknown), "rows"))
            if space.probe is not None:
                terms.metrics["probe_known"] = float(batch.mean(weight * space.probe.known(states), "rows"))
            if space.sae is not None and self.quality is not None:
                # must stay near that of ordinary tokens: leaving the autoencoder's domain lowers the loss as well
                error = (states - space.sae(states)).pow(2).mean(-1) / self.variance
                terms.metrics["target_error"] = float(batch.mean(weight * error, "rows"))
                share = float(batch.mean(weight, "rows"))
                terms.metrics["explained_variance"] = share * self.quality.explained_variance

    def _retain(self, terms: Terms, model: LanguageModel, hidden: Tensor, batch: Batch) -> None:
        mask = batch.attention_mask == 1
        mask[:, 0] = False  # an attention sink: its norm would drown the others'
        loss = batch.mean(activation_loss(hidden, self.before.padded(batch), mask) / self.variance, "rows")
        terms.metrics["retain_shift"] = float(loss.detach())
        terms.retain = self.settings.gamma * loss
        if self.settings.lambda_ce:
            nll = answer_nll_from(model, batch, self.layer, hidden)
            terms.metrics["retain_loss"] = float(nll.detach())
            terms.retain = terms.retain + self.settings.lambda_ce * nll
