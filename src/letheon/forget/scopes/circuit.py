"""Circuit: the heads and MLPs that causally carry what is forgotten or kept move, each group by its own rule.

Paper:   CURE: Circuit-Aware Unlearning for LLM-based Recommendation, arXiv 2604.04982. Modules are scored by activation
         patching on the forget and on the retain rows, and sorted into forget-specific, retain-specific and shared;
         what the update `by_group` does with the groups is the rest of the method.
Inferred: the circuit is the top 20 % of modules by their larger score; a module is specific if one score is more than
         twice the other (τ = 2). The paper's code was not published.
Differs: weights move themselves: a head's rows of the query matrix and columns of the output matrix, an MLP's matrices.
         The paper trains LoRA on the circuit's modules; an adapter of a whole matrix would mix its heads. Where the
         queries share a matrix with keys and values, only the output columns of a head move.
         How faithful the circuit is is told, not demanded; the modules outside have the activations of the corrupted
         prompt and not their mean over prompts, so that the scores and the faithfulness are shares of one behaviour.
Corrupted twins: a row's `counterfactual` prompt, or the question with its subject replaced by another row's (the paper
         takes items of low personalised PageRank, `letheon.papers.common.pagerank`). The behaviour is read where the
         answer begins to depend on the subject: at the first token of the value, or of the answer.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import (
    attention,
    blocks,
    has_attention,
    is_matrix,
    is_transposed,
    mlp,
    output_projection,
    sides,
)
from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Encoder, value_span
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import spread, stream_seed
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.probe.patching import (
    Contrast,
    Module,
    attributed_effects,
    exact_effects,
    faithfulness,
    heads_of,
    modules_of,
)

logger = logging.getLogger("letheon")

Group = Literal["forget", "retain", "shared"]
# How a weight's entries are marked in `Circuit.groups`.
CODES: dict[Group, int] = {"forget": 1, "retain": 2, "shared": 3}
# Up to this number of modules each is patched in its own pass; more are scored all at once, to first order.
FEW = 64


@dataclass(frozen=True)
class Settings(Checked, positive=("share", "ratio", "rows")):
    share: float = 0.2  # of the modules [inferred]
    ratio: float = 2.0  # τ: how much larger one score is, for a module to be specific [inferred]
    patching: Literal["auto", "exact", "attribution"] = "auto"
    rows: int = 64  # of each set, at most
    # controls: groups of as many random heads and MLPs, or the circuit without groups (all shared)
    grouping: Literal["causal", "random", "none"] = "causal"
    seed: int = 0  # of twins and of the control; the circuit is the same whatever the run's seed


def grouped(
    forget: Mapping[Module, float], retain: Mapping[Module, float], share: float, ratio: float
) -> dict[Module, Group]:
    """Choose the circuit and each module's group; negative scores count as 0."""
    scores = {module: (max(forget[module], 0.0), max(retain[module], 0.0)) for module in forget}
    order = sorted(scores, key=lambda module: (-max(scores[module]), module.layer, str(module)))
    circuit = order[: max(1, round(share * len(order)))]

    def group(module: Module) -> Group:
        for_forget, for_retain = scores[module]
        if for_forget > ratio * for_retain:
            return "forget"
        return "retain" if for_retain > ratio * for_forget else "shared"

    return {module: group(module) for module in circuit}


@method("scope", "circuit", Settings, paper="2604.04982", needs={"retain"}, wants={"subject"}, tiny={"rows": 4})
class Circuit(Scope):
    """Attributes:
    groups: for each weight a tensor that broadcasts to it: 0 stays, 1 forget-specific, 2 retain-specific, 3 shared.
    modules: the circuit.
    table: every module's scores and group, and in every row the same two numbers: the share of each side's behaviour
        that the circuit keeps where all other modules are corrupted (`letheon.probe.patching.faithfulness`).
    """

    settings: Settings
    groups: dict[str, Tensor]
    modules: dict[Module, Group]

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse a model whose blocks are not all made of attention heads and an MLP."""
        for block in blocks(model):
            if not has_attention(block):
                raise InputError(
                    "circuit patches attention heads, and this hybrid has blocks without them",
                    "choose another scope: @targeted finds layers of any kind",
                )

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        most, seed = self.settings.rows, self.settings.seed
        shown = {
            side: contrasts_of(model, rows, request, most, seed)
            for side, rows in (("forget", request.forget), ("retain", request.retain))
        }
        forget, retain = (self._scores(model, contrasts) for contrasts in shown.values())
        self.modules = grouped(forget, retain, self.settings.share, self.settings.ratio)
        if self.settings.grouping == "random":
            self.modules = self._shuffled(list(forget))
        elif self.settings.grouping == "none":
            self.modules = dict.fromkeys(self.modules, "shared")
        kept = {f"faithfulness_{side}": faithfulness(model, rows, self.modules) for side, rows in shown.items()}
        self.table = [
            {
                "module": str(module),
                "layer": module.layer,
                "head": module.head,
                "forget": forget[module],
                "retain": retain[module],
                "group": self.modules.get(module, "outside"),
                **kept,
            }
            for module in forget
        ]
        told = ", ".join(f"{name} {share:.2f}" for name, share in kept.items())
        logger.info("circuit: %d of %d modules, %s", len(self.modules), len(forget), told)
        return self._weights(model)

    def _scores(self, model: LanguageModel, contrasts: Sequence[Contrast]) -> dict[Module, float]:
        few = len(modules_of(model)) <= FEW
        exact = self.settings.patching == "exact" or (self.settings.patching == "auto" and few)
        return (exact_effects if exact else attributed_effects)(model, contrasts)

    def _shuffled(self, modules: list[Module]) -> dict[Module, Group]:
        """Assign each group to as many heads and as many MLPs drawn at random, so that it has as many weights."""
        draw = random.Random(stream_seed(self.settings.seed, "random circuit"))
        found: dict[Module, Group] = {}
        for is_head in (True, False):
            groups = [group for module, group in self.modules.items() if (module.head is not None) == is_head]
            drawn = draw.sample([module for module in modules if (module.head is not None) == is_head], len(groups))
            found |= zip(drawn, groups, strict=True)
        return found

    def _weights(self, model: LanguageModel) -> dict[str, nn.Parameter]:
        stack = list(blocks(model.base()))
        marks: dict[int, Tensor] = {}
        for module, group in self.modules.items():
            _mark(marks, stack[module.layer], module, heads_of(model), CODES[group])
        chosen = {name: p for name, p in model.model.named_parameters() if id(p) in marks}
        self.groups = {name: marks[id(parameter)] for name, parameter in chosen.items()}
        return chosen


def _mark(marks: dict[int, Tensor], block: nn.Module, module: Module, heads: int, code: int) -> None:
    """Mark a module's entries in its weights."""
    if module.head is None:
        for parameter in mlp(block).parameters():
            marks[id(parameter)] = torch.full([1] * parameter.ndim, code, dtype=torch.int8, device=parameter.device)
        return
    slices = [(output_projection(block), 1)]
    if (query := query_projection(block, heads)) is not None:
        slices.append((query, 0))
    for matrix, side in slices:
        weight = matrix.get_parameter("weight")
        axis = 1 - side if is_transposed(matrix) else side
        size = weight.shape[axis] // heads
        shape = [weight.shape[axis], 1] if axis == 0 else [1, weight.shape[axis]]
        mark = marks.setdefault(id(weight), torch.zeros(shape, dtype=torch.int8, device=weight.device))
        mark.narrow(axis, module.head * size, size).fill_(code)


def query_projection(block: nn.Module, heads: int) -> nn.Module | None:
    """The matrix of the queries alone; None if queries share a matrix with keys and values."""
    matrices = [child for child in attention(block).children() if is_matrix(child)]
    width = sides(output_projection(block))[1]  # heads times head size
    alone = len(matrices) >= 4 and sides(matrices[0])[0] == width and width % heads == 0
    return matrices[0] if alone else None


# Contrasts


def contrasts_of(
    model: LanguageModel, rows: Sequence[Example], request: Request, most: int, seed: int
) -> list[Contrast]:
    """Contrasts of at most `most` rows, evenly spaced: the prompt up to where the value begins, and a corrupted twin.

    Raises:
        InputError: no row has a subject in its question, or a counterfactual prompt.
    """
    subjects = sorted({row.subject for row in (*request.forget, *request.retain) if row.subject})
    able = [row for row in rows if row.counterfactual or (row.subject and row.subject in row.prompt)]
    found = [_contrast(model, row, subjects, seed) for row in spread(able, most)]
    contrasts = [contrast for contrast in found if contrast is not None]
    if not contrasts:
        raise InputError(
            "the circuit cannot be found: no row has a subject in its question and another one to put in its place",
            "add `subject` to forget and retain rows, or `counterfactual` prompts",
        )
    return contrasts


def _contrast(model: LanguageModel, row: Example, subjects: Sequence[str], seed: int) -> Contrast | None:
    begin = value_span(row)[0] if row.value else 0
    encoder, prompt, answer, other_begin = model.encoder(), row.counterfactual, row.answer, begin
    if prompt is None:
        others = [name for name in subjects if name != row.subject]
        if not others or row.subject is None:
            return None
        other = random.Random(stream_seed(seed, f"twin of {row.prompt}")).choice(others)
        prompt, answer, lead = (text.replace(row.subject, other) for text in (row.prompt, answer, answer[:begin]))
        other_begin = len(lead)
    ids, cut = _cut(encoder, row.answer, begin)
    twin, end = _cut(encoder, answer, other_begin)
    wrong = _first_difference(ids, [encoder.answer(text)[0] for text in row.perturbed_answers], cut)
    clean = (*encoder.prompt(row.prompt), *ids[:cut])
    return Contrast(clean, (*encoder.prompt(prompt), *twin[:end]), ids[cut], wrong)


def _cut(encoder: Encoder, answer: str, begin: int) -> tuple[list[int], int]:
    """An answer's tokens, and the index of the first one that reaches beyond a place in its text."""
    ids, spans = encoder.answer(answer)
    return ids, next(i for i, (_, stop) in enumerate(spans) if stop > begin)


def _first_difference(right: Sequence[int], wrong: Sequence[Sequence[int]], at: int) -> int | None:
    """The token at a place of the first false answer that agrees with the right one before it and differs there."""
    return next((ids[at] for ids in wrong if len(ids) > at and ids[:at] == right[:at] and ids[at] != right[at]), None)
