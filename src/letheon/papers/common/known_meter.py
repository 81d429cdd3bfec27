"""Measures whether a model represents the people of a `known_world` as known: sparse latents, probes, answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.objectives.sae.entities import mention_states, states_of
from letheon.forget.objectives.sae.loss import position
from letheon.papers.common.known_world import KnownWorld, hedged, questions
from letheon.papers.common.small_llama import accuracy, scored
from letheon.probe.entities import EntitySet, KnowledgeProbe, Template, latent_separation, mentions
from letheon.probe.sae.autoencoder import SparseAutoencoder

LAYER = 1  # the layer that is read, of four
TARGETS = 4  # known people to be forgotten


def ordinary_states(model: LanguageModel, world: KnownWorld) -> Tensor:
    """Hidden states [tokens, width] of the world's texts without their first tokens, the texts in a seeded order."""
    rows = model.encoder().encode_all(world.training())
    random.Random(0).shuffle(rows)
    return torch.cat([states[1:] for states in states_of(model, rows, LAYER)])


def answer_probability(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Mean over rows of the answer's probability, the geometric mean over its tokens."""
    return sum(answer.probability for answer in scored(model, rows)) / len(rows)


class Meter:
    """Measures models against the known and unknown people's states in the model before forgetting."""

    def __init__(self, model: LanguageModel, sae: SparseAutoencoder, world: KnownWorld) -> None:
        self.sae, self.world = sae, world
        self.forms = [tuple(map(Template, questions(form))) for form in (0, 1)]
        self.chosen, self.tested = self._names()
        tested = {
            (kind, layer): self.states(model, getattr(self.tested, kind), layer, form=1)
            for kind in ("known", "unknown")
            for layer in (LAYER, LAYER + 1)
        }
        self.z = {kind: sae.pre_activations(tested[kind, LAYER]) for kind in ("known", "unknown")}
        self.z["target"] = self.latents(model, self.tested.target)
        self.above = {kind: tested[kind, LAYER + 1].mean(0) for kind in ("known", "unknown")}
        self.probes: dict[int, KnowledgeProbe] = {}
        for layer in (LAYER, LAYER + 1):
            chosen = [self.states(model, getattr(self.chosen, kind), layer, form=0) for kind in ("known", "unknown")]
            self.probes[layer] = KnowledgeProbe.fit(
                chosen[0], chosen[1], tested["known", layer], tested["unknown", layer]
            )
            if layer == LAYER:
                score = latent_separation(*(sae.encode(states) for states in chosen)).score
        self.separation = latent_separation(*(sae.encode(tested[kind, LAYER]) for kind in ("known", "unknown")))
        best = int(score.abs().argmax())
        self.score = float(self.separation.score[best] * score[best].sign())
        self.error = float(self._error(tested["unknown", LAYER]))
        everything = torch.cat(list(self.z.values()))
        self.centre = everything.mean(0)
        self.axes = torch.pca_lowrank(everything - self.centre, q=2, niter=8)[2]

    @property
    def probe(self) -> KnowledgeProbe:
        """The probe at `LAYER`."""
        return self.probes[LAYER]

    def _names(self) -> tuple[EntitySet, EntitySet]:
        """Names for fitting and names for testing."""
        target, known, unknown = self.world.known[:TARGETS], self.world.known[TARGETS:], self.world.unknown
        return (
            EntitySet(known[::2], unknown[::2], target, self.forms[0]),
            EntitySet(known[1::2], unknown[1::2], target, self.forms[1]),
        )

    def rows(self, which: str, form: int) -> list[Example]:
        """Questions about the target people, or about the known people for fitting (`chosen`) or testing (`tested`)."""
        names = {"target": self.tested.target, "chosen": self.chosen.known, "tested": self.tested.known}
        return self.world.rows(names[which], form)

    def states(self, model: LanguageModel, names: Sequence[str], layer: int, form: int) -> Tensor:
        """[names, width]: states at the mention's last token, averaged over the questions of a form."""
        states = torch.cat(mention_states(model, mentions(model, names, self.forms[form]), layer))
        return states.reshape(len(names), -1, states.shape[-1]).mean(1)

    def latents(self, model: LanguageModel, names: Sequence[str]) -> Tensor:
        """[names, latents]: pre-activations in the held-out question form."""
        return self.sae.pre_activations(self.states(model, names, LAYER, form=1))

    def _error(self, states: Tensor) -> Tensor:
        return (states - self.sae(states)).pow(2).mean()

    def measure(self, model: LanguageModel) -> dict[str, float]:
        """Where the target and the retained people lie between unknown and known, and what the model answers."""
        target, kept = self.tested.target, self.tested.known
        here, above = (self.states(model, target, layer, form=1) for layer in (LAYER, LAYER + 1))
        others = self.states(model, kept, LAYER, form=1)
        known, unknown = self.z["known"].mean(0), self.z["unknown"].mean(0)
        hedges = [hedged(name, question) for name in target for form in (0, 1) for question in questions(form)]
        asked = {"target": [row for form in (0, 1) for row in self.rows("target", form)]}
        asked |= {"kept": [row for form in (0, 1) for row in self.rows("tested", form)], "hedge": hedges}
        return {
            "position": float(position(self.sae.pre_activations(here), known, unknown).mean()),
            "unknown": float(1 - self.probe.known(here).mean()),
            "error": float(self._error(here)) / self.error,  # in units of the unknown names'
            "position_above": float(position(above, self.above["known"], self.above["unknown"]).mean()),
            "unknown_above": float(1 - self.probes[LAYER + 1].known(above).mean()),
            "kept_position": float(position(self.sae.pre_activations(others), known, unknown).mean()),
            "kept_unknown": float(1 - self.probe.known(others).mean()),
            "target_accuracy": accuracy(model, asked["target"]),
            "kept_accuracy": accuracy(model, asked["kept"]),
            "target_hedges": accuracy(model, hedges),
            **{f"{name}_probability": answer_probability(model, rows) for name, rows in asked.items()},
        }

    def project(self, z: Tensor) -> list[list[float]]:
        """Coordinates in the plane of the first two principal components of all latents before forgetting."""
        plane: list[list[float]] = ((z - self.centre) @ self.axes).tolist()
        return plane

    def plane(self) -> dict[str, list[list[float]]]:
        """Coordinates of all names before forgetting, by kind."""
        return {kind: self.project(z) for kind, z in self.z.items()}
