"""Null space: the forget part of every step (nearly) leaves the moving matrices' outputs on retained inputs alone.

Paper:   KUDA, arXiv 2602.19275: relaxation null-space projection, ΔW <- ΔW P, with P from the inputs of each matrix on
         retained rows; after AlphaEdit, arXiv 2410.02355. See `letheon.forget.curvature.null_space`.
Inferred: only the forget gradient is projected and the retain gradient passes; the directions of least energy that hold
         a share of 0.05 of it are the null space (`mode=absolute,threshold=0.02` is AlphaEdit's, which depends on the
         scale of the activations); a random share of the retain rows makes the projector (here all of them).
Adam:    its elementwise denominators turn a projected gradient out of the subspace, so the step that it really makes
         is projected as well. A step is -lr (m_f + m_r)/h, linear in the momenta of the two gradients: the forget
         gradient's share -lr m_f/h is projected, the retain gradient's stays (`part=forget`); or the whole step
         is (`part=step`). Weight decay counts as forgetting: it is projected too.
Differs: parameters that are no matrix of a block (norms, biases, embeddings) act on every retained token; they take no
         forget part at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.sites import is_transposed
from letheon.core.registry import check_settings, method
from letheon.core.rows.sampling import some_of, stream_seed
from letheon.core.scoring.token_trees import of_like_length
from letheon.core.training.gradients import Vector, dot, norm
from letheon.forget.curvature.null_space import Mode, NullSpace, matrices_among, null_spaces
from letheon.forget.mixtures import refuse_moving_experts
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.recipe import Recipe
from letheon.forget.separate_gradients import descend, separate_gradients
from letheon.forget.updates.geometric import adam_denominator

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop

logger = logging.getLogger("letheon")
TOKENS_AT_ONCE = 512  # of retain rows whose inputs are added up in one pass


@dataclass(frozen=True)
class Settings:
    """Options of the projection.

    Attributes:
        threshold: share of the retained inputs' energy (mode `energy`) or eigenvalue (`absolute`) up to which a
            direction is free; 0 frees only what retained inputs never use.
        mode: see `letheon.forget.curvature.null_space.kept_directions`.
        part: what of the optimizer's step is projected: the `forget` part, or the whole `step`.
        ratio: share of the retain rows, drawn at random, that the projector is made of.
    """

    threshold: float = 0.05
    mode: Mode = "energy"
    part: Literal["forget", "step"] = "forget"
    ratio: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, positive=("ratio",))
        if self.threshold < 0 or self.ratio > 1 or (self.mode == "energy" and self.threshold >= 1):
            raise InputError(
                f"null_space: threshold {self.threshold}, ratio {self.ratio}",
                "use a threshold from 0 (a share of the energy: below 1) and a ratio up to 1",
            )


@method(
    "update",
    "null_space",
    Settings,
    paper="2602.19275",
    needs={"retain"},
    tiny=({}, {"part": "step", "mode": "absolute"}),
)
class NullSpaceUpdate(Update):
    """Attributes:
    spaces: for each moving matrix its null space; the report's kept ranks and spectra.
    """

    settings: Settings
    spaces: dict[str, NullSpace]
    momentum: Vector  # of the projected forget gradient, as Adam averages it
    # at most: the momentum, the weights before the step, both gradients, the projected one and its sum with the other;
    # and up to 5 bytes of protected directions, whose number depends on the rows
    bytes_per_weight = Update.bytes_per_weight + 4 * 6 + 5

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse fused experts that may move: they would take no forget part."""
        refuse_moving_experts(recipe, model, "null space", "null_space")

    @staticmethod
    def check_shards(recipe: Recipe, model: nn.Module | None) -> None:
        """Refuse shards of matrices that lie as [inputs, outputs]: a process has some of their inputs only."""
        if model is not None and any(is_transposed(module) for module in model.modules()):
            raise InputError(
                "null_space needs all inputs of a matrix, and this model's shards hold some of them",
                "use --shard off, or another update such as geometric",
            )

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        if not rows.retain:
            raise InputError("null_space needs retain rows", "give --retain, or use the update joint")
        matrices = matrices_among(loop.model, loop.parameters)
        if not matrices:
            raise InputError("null_space: no matrix of a block moves", "choose a scope with matrices: @traced, @layers")
        count = max(1, round(self.settings.ratio * len(rows.retain)))
        numbers = some_of(len(rows.retain), count, stream_seed(rows.seed, "null space rows"))
        alike = of_like_length([len(rows.retain[number].ids) for number in numbers], TOKENS_AT_ONCE)
        batches = (rows.retain_batch([numbers[i] for i in chosen]) for chosen in alike)
        self.spaces = null_spaces(loop.model, batches, matrices, self.settings.mode, self.settings.threshold)
        self.momentum = [torch.zeros_like(parameter) for parameter in loop.parameters.values()]
        self._directions = sum(len(space.spectrum) for space in self.spaces.values())
        for name, space in self.spaces.items():
            logger.info("null space of %s: %d of %d directions", name, space.kept, len(space.spectrum))
        if not any(space.kept for space in self.spaces.values()):
            logger.warning("the null space is empty: nothing will be forgotten; raise the threshold of null_space")

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        gradients = separate_gradients(loop, objective, pairs)
        forget, retain, metrics = gradients.forget, gradients.retain, gradients.metrics
        free = [
            gradient - self._blocked(name, gradient) for name, gradient in zip(loop.parameters, forget, strict=True)
        ]
        lengths = {"forget": norm(forget), "free": norm(free), "retain": norm(retain)}
        metrics |= {
            "alignment_unprojected": dot(forget, retain) / (lengths["forget"] * lengths["retain"] or 1.0),
            "alignment": dot(free, retain) / (lengths["free"] * lengths["retain"] or 1.0),
            "passed": lengths["free"] / max(lengths["forget"], 1e-30),
            "kept": sum(space.kept for space in self.spaces.values()) / self._directions,
        }
        del gradients, forget
        before = [parameter.detach().clone() for parameter in loop.parameters.values()]
        length = descend(loop, [f + r for f, r in zip(free, retain, strict=True)])
        metrics["gradient_norm"], limit = length, loop.settings.clip
        share = 1.0 if limit is None else min(1.0, limit / (length + 1e-6))  # clipping's factor, as torch computes it
        self._correct(loop, before, free, share)
        return metrics

    @torch.no_grad()
    def _correct(self, loop: Loop, before: Vector, free: Vector, share: float) -> None:
        """Remove the part of the optimizer's step that acts on protected inputs."""
        group = loop.optimizer.param_groups[0]
        beta, rate, decay = group.get("betas", (0.0,))[0], group["lr"], group["weight_decay"]
        for i, (name, parameter) in enumerate(loop.parameters.items()):
            self.momentum[i].lerp_(share * free[i], 1 - beta)
            if self.settings.part == "step":
                parameter.sub_(self._blocked(name, parameter - before[i]))
            elif name in self.spaces:
                bias = 1 - beta ** float((loop.optimizer.state.get(parameter) or {"step": 1})["step"])
                made = (self.momentum[i] / bias).div_(adam_denominator(loop, parameter)).add_(before[i], alpha=decay)
                parameter.sub_(self._blocked(name, made.mul_(-rate)))
            else:  # it has no forget part but the decay
                parameter.add_(before[i], alpha=rate * decay)

    def _blocked(self, name: str, change: Tensor) -> Tensor:
        """The part of a change that acts on protected inputs: all of it for a weight without a null space."""
        return self.spaces[name].blocked(change) if name in self.spaces else change

    def state_dict(self) -> dict[str, Tensor]:
        return {str(i): tensor for i, tensor in enumerate(self.momentum)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.momentum = [state[str(i)] for i in range(len(state))]
