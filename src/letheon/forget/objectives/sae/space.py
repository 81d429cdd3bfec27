"""The space of entity latents: the layer that is read, its autoencoder, and prototypes of known and unknown names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.forget.objectives.sae.entities import mention_states
from letheon.probe.entities import EntitySet, KnowledgeProbe, Separation, latent_separation, mentions, salient
from letheon.probe.sae.autoencoder import Quality, SparseAutoencoder
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder

logger = logging.getLogger("letheon")


def layer_to_read(model: LanguageModel, asked: int, own: int | None) -> int:
    """The block whose output is read: `asked`, or with -1 the autoencoder's `own`, or the middle one.

    Raises:
        InputError: there is no such block with a block above it, it is not the autoencoder's, or no weight that may
            move changes its output.
    """
    stack = blocks(model.base())
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


def trained_autoencoder(ordinary: Sequence[Tensor], training: SAETraining, seed: int, layer: int) -> SparseAutoencoder:
    """Train an autoencoder on the rows' states, every fifth row held out."""
    states = torch.cat([states for i, states in enumerate(ordinary) if i % 5 or len(ordinary) == 1])
    return train_sparse_autoencoder(states, training, seed, f"blocks.{layer}.hook_resid_post")


def checked_quality(
    sae: SparseAutoencoder, ordinary: Sequence[Tensor], model: LanguageModel, layer: int, least: float, allow: bool
) -> Quality:
    """The autoencoder's quality on every fifth row.

    Args:
        least: least share of the variance that it must explain.
        allow: warn of a worse one instead of refusing it.

    Raises:
        InputError: another width than the model's, or a worse autoencoder.
    """
    held_out = torch.cat(list(ordinary[::5]))
    width = sae.W_enc.shape[0]
    if width != held_out.shape[1]:
        raise InputError(f"the autoencoder is of width {width}, {model.name} of {held_out.shape[1]}", "give another")
    quality = sae.quality(held_out)
    result = f"the autoencoder explains {quality.explained_variance:.1%} of the variance at layer {layer}"
    logger.info("%s, with %.1f latents per token", result, quality.l0)
    if quality.explained_variance < least:
        if not allow:
            raise InputError(
                f"{result}, less than {least:.0%}",
                "give a corpus, more sae_steps, a larger k or another path; or say allow_poor=true",
            )
        logger.warning("%s", result)
    return quality


@dataclass
class EntitySpace:
    """Where distances are measured, and where known and unknown entities lie in it.

    Attributes:
        sae: the autoencoder whose pre-activations are read; None reads the residual stream itself.
        latents: the latents that count; empty counts all.
        separation: how well each latent tells known from unknown entities.
        known, unknown: the prototypes, [latents].
        probe: a linear probe of known against unknown states, fitted on half of the names; None for few names.
    """

    sae: SparseAutoencoder | None
    latents: list[int] = field(default_factory=list)
    separation: Separation | None = None
    known: Tensor = field(default_factory=lambda: torch.zeros(0))
    unknown: Tensor = field(default_factory=lambda: torch.zeros(0))
    probe: KnowledgeProbe | None = None

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        entities: EntitySet,
        layer: int,
        sae: SparseAutoencoder | None,
        *,
        most: int,
        corpus: Float[Tensor, "tokens width"] | None,
        common: float,
    ) -> EntitySpace:
        """Choose latents, average states to prototypes and fit the probe.

        Args:
            most: latents of each sign; 0 takes all.
            corpus: states at ordinary tokens; latents that more than the share `common` of them switch on are left out.
        """
        space, kinds = cls(sae), {}
        for kind in ("known", "unknown"):
            named = mentions(model, getattr(entities, kind), entities.templates)
            kinds[kind] = mention_states(model, named, layer)
        known, unknown = (torch.cat(kinds[kind]) for kind in ("known", "unknown"))
        if sae is not None:
            space.separation = latent_separation(sae.encode(known), sae.encode(unknown))
            frequent = None if corpus is None else (sae.encode(corpus) > 0).float().mean(0) > common
            space.latents = salient(space.separation, most, frequent) if most else []
        space.known, space.unknown = space.read(known).mean(0), space.read(unknown).mean(0)
        size = len(entities.templates)
        by_name = [
            [torch.cat(states[size * i : size * (i + 1)]).mean(0) for i in range(len(states) // size)]
            for states in kinds.values()
        ]
        if min(map(len, by_name)) >= 4:
            halves = [torch.stack(states[i::2]) for i in (0, 1) for states in by_name]
            space.probe = KnowledgeProbe.fit(*halves)
            logger.info("a linear probe tells known from unknown names with AUROC %.2f", space.probe.auroc)
        return space

    def read(self, hidden: Float[Tensor, "mentions width"]) -> Float[Tensor, "mentions latents"]:
        """The coordinates of states: pre-activations of the latents that count, or the states themselves."""
        if self.sae is None:
            return hidden
        z = self.sae.pre_activations(hidden)
        return z[:, self.latents] if self.latents else z
