"""What changed inside between two models, layer by layer: weights, states, attention, directions, heads.

    from letheon.probe.changes import compare_models

    report = compare_models(before, after, text)     # a deletion, a fine-tuning, post-training

The states are compared by linear CKA (`probe/similarity.py`), which ignores rotations, and by the cosine of each
token's two states, which does not. The first token is left out of states and entropies: its state is many times larger
than any other and draws most of the attention, so with it every two models look alike. Tokens that are paired at
random, two runs of the same model, and halves of the texts are the controls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, attention, blocks, mlp
from letheon.core.statistics import rank_correlation
from letheon.probe.attention_maps import LayerAttention, on_attention_rows, stacked
from letheon.probe.directions import Contrast, cosine, prompt_states, refusal_direction, split_half_of, truth_states
from letheon.probe.record import Cell, Check, ProbeReport, Table, at_least, at_most, halves, layer_head_map
from letheon.probe.secondary_sinks.report import cut_texts
from letheon.probe.similarity import alignment, cka, mean_cosine
from letheon.probe.statements import balanced, built_in
from letheon.report.plots import lines


@dataclass(frozen=True)
class ChangeSettings:
    """The size of the comparison of two models.

    Attributes:
        tokens: tokens per text.
        texts: most texts, cut from the file one after another.
        items: most statements per topic for the truth direction; 0 leaves truth and refusal directions out.
        seed: seed of draws.
    """

    tokens: int = 256
    texts: int = 6
    items: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 8 or self.texts < 2 or self.items < 0:
            raise InputError("tokens, texts or items out of range", "at least 8 tokens and 2 texts")


def relative_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Compute |after − before| / |before| over all weights of a module together."""
    change = sum(float((after[name].double() - weight.double()).square().sum()) for name, weight in before.items())
    size = sum(float(weight.double().square().sum()) for weight in before.values())
    return (change / size) ** 0.5 if size else 0.0


def weight_changes(before: LanguageModel, after: LanguageModel) -> list[dict[str, float]]:
    """Compute the relative change of every layer's attention and MLP; a bias that one model lacks counts as zeros.

    Raises:
        InputError: the weights differ in name or shape.
    """
    found: list[dict[str, float]] = []
    for old, new in zip(blocks(before.base()), blocks(after.base()), strict=True):
        row: dict[str, float] = {}
        for name, part in (("attention", attention), ("mlp", mlp)):
            a, b = ({key: w.detach() for key, w in part(one).named_parameters()} for one in (old, new))
            a, b = _with_biases_of(b, a), _with_biases_of(a, b)
            if {key: value.shape for key, value in a.items()} != {key: value.shape for key, value in b.items()}:
                raise InputError(
                    f"{before.name} and {after.name} have different weights in a layer",
                    "merge adapters first, and give two versions of one model",
                )
            row[name] = relative_change(a, b)
        found.append(row)
    return found


def _with_biases_of(other: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add zeros for the biases that only the other model has: `letheon steer bake` writes new ones."""
    absent = {key: torch.zeros_like(w) for key, w in other.items() if key.endswith("bias") and key not in own}
    return {**own, **absent}


@dataclass
class Activity:
    """One model's activity on one text: states after each layer, and what heads need to compute their attention."""

    states: list[Float[Tensor, "tokens width"]] = field(default_factory=list)
    attention: dict[int, LayerAttention] = field(default_factory=dict)


@torch.inference_mode()
def activity(model: LanguageModel, ids: Int[Tensor, "1 length"]) -> Activity:
    """Run a text once; queries and keys are kept, attention weights are computed later, block by block."""
    found, sites = Activity(), [Site(layer) for layer in range(len(blocks(model.base())))]

    def see(seen: LayerAttention) -> None:
        found.attention[seen.layer] = seen

    with record(model.base(), sites) as states, on_attention_rows(model, see):
        model.base()(ids.to(model.device), use_cache=False, logits_to_keep=1)
    found.states = [states[site][0].float().cpu() for site in sites]
    return found


def head_differences(
    first: LayerAttention, second: LayerAttention
) -> tuple[Float[Tensor, " heads"], Float[Tensor, "2 heads"]]:
    """Compute each head's mean total variation distance between two models' rows, and both models' mean entropies.

    Entropies are those of the weights among the tokens after the first, which would hide the others.
    """
    distance = torch.zeros(first.queries.shape[1])
    entropy = torch.zeros(2, first.queries.shape[1])
    for (_, a), (_, b) in zip(first.blocks(), second.blocks(), strict=True):
        distance += (a - b)[0].abs().sum((1, 2)).cpu() / 2
        for number, rows in enumerate((a[0, :, :, 1:], b[0, :, :, 1:])):
            among = rows / rows.sum(-1, keepdim=True).clamp(min=1e-30)
            entropy[number] += torch.special.entr(among).sum((1, 2)).cpu()
    return distance / first.length, entropy / max(1, first.length - 1)


@dataclass(frozen=True)
class Changes:
    """Changes per layer; heads' values are [layers, heads].

    Attributes:
        weights: relative change of the attention's and of the MLP's weights.
        cka, cosine: similarity of the states of all tokens but the first.
        cka_shuffled: CKA of tokens that are paired at random: the level of unrelated states.
        cka_halves: CKA on each half of the texts, [2, layers].
        entropy: mean entropy (nats) of the attention rows among the tokens after the first, before and after.
        heads: mean total variation distance of the heads' attention.
        halves: the same on each half of the texts, for the split-half correlation.
        itself: largest total variation distance of a head between two runs of the model before.
        truth, refusal: cosine of the directions before and after; empty if they were left out.
        truth_halves, refusal_halves: cosine of the directions of two halves of the data before: the ceiling.
    """

    weights: list[dict[str, float]]
    cka: list[float]
    cosine: list[float]
    cka_shuffled: list[float]
    cka_halves: list[list[float]]
    entropy: Float[Tensor, "layers 2"]
    heads: Float[Tensor, "layers heads"]
    halves: tuple[Float[Tensor, "layers heads"], Float[Tensor, "layers heads"]]
    itself: float
    truth: list[float] = field(default_factory=list)
    refusal: list[float] = field(default_factory=list)
    truth_halves: list[float] = field(default_factory=list)
    refusal_halves: list[float] = field(default_factory=list)


def measure_changes(
    before: LanguageModel, after: LanguageModel, pieces: Sequence[Int[Tensor, "1 length"]], settings: ChangeSettings
) -> Changes:
    """Measure everything that `compare_models` reports.

    Raises:
        InputError: the models differ in depth, width or weights.
    """
    sizes = [(len(blocks(one.base())), one.width) for one in (before, after)]
    if sizes[0] != sizes[1]:
        raise InputError(f"the models have (layers, width) {sizes[0]} and {sizes[1]}", "give two versions of one model")
    weights = weight_changes(before, after)
    heads, entropies, aligned, shuffled, cosines = [], [], [], [], []
    generator = torch.Generator().manual_seed(settings.seed)
    for ids in pieces:
        one, two = activity(before, ids), activity(after, ids)
        differences = {at: head_differences(seen, two.attention[at]) for at, seen in one.attention.items()}
        heads.append(stacked(before, {at: distance for at, (distance, _) in differences.items()}))
        entropies.append(stacked(before, {at: entropy.mean(1) for at, (_, entropy) in differences.items()}))
        states = [(a[1:], b[1:]) for a, b in zip(one.states, two.states, strict=True)]
        mixed = torch.randperm(len(states[0][0]), generator=generator)
        aligned.append(torch.stack([alignment(a, b) for a, b in states]))
        shuffled.append(torch.stack([alignment(a, b, mixed) for a, b in states]))
        cosines.append([mean_cosine(a, b) for a, b in states])
    parts = [torch.stack(half).mean(0) for half in halves(heads)]
    directions = _directions(before, after, settings) if settings.items else {}
    return Changes(
        weights=weights,
        cka=_by_layer(aligned),
        cosine=torch.tensor(cosines).mean(0).tolist(),
        cka_shuffled=_by_layer(shuffled),
        cka_halves=[_by_layer(half) for half in halves(aligned)],
        entropy=torch.stack(entropies).mean(0),
        heads=torch.stack(heads).mean(0),
        halves=(parts[0], parts[1]),
        itself=_against_itself(before, pieces[0]),
        **directions,
    )


def _by_layer(alignments: Sequence[Float[Tensor, "layers 3"]]) -> list[float]:
    return [cka(layer) for layer in torch.stack(list(alignments), 1)]


def _against_itself(model: LanguageModel, ids: Int[Tensor, "1 length"]) -> float:
    """Run a text twice and return the largest total variation distance of a head between the two runs."""
    one, two = activity(model, ids), activity(model, ids)
    return max(float(head_differences(one.attention[i], two.attention[i])[0].max()) for i in one.attention)


def _directions(before: LanguageModel, after: LanguageModel, settings: ChangeSettings) -> dict[str, list[float]]:
    topics = {name: balanced(rows, settings.items, settings.seed) for name, rows in built_in().items()}
    truths = [truth_states(model, topics) for model in (before, after)]
    contrast = Contrast()
    asked = [(prompt_states(one, contrast.refused), prompt_states(one, contrast.answered)) for one in (before, after)]
    layers = range(len(truths[0].states))
    refusals = [[refusal_direction(a[i], b[i]) for i in layers] for a, b in asked]
    return {
        "truth": [cosine(truths[0].direction(i), truths[1].direction(i)) for i in layers],
        "refusal": [cosine(refusals[0][i], refusals[1][i]) for i in layers],
        "truth_halves": [truths[0].split_half(i) for i in layers],
        "refusal_halves": [split_half_of(asked[0][0][i], asked[0][1][i]) for i in layers],
    }


def compare_models(
    before: LanguageModel, after: LanguageModel, text: str, settings: ChangeSettings | None = None
) -> ProbeReport:
    """Report what changed inside between two versions of a model."""
    started, settings = time.monotonic(), settings or ChangeSettings()
    pieces = cut_texts(before, text, settings.tokens, settings.texts)
    found = measure_changes(before, after, pieces, settings)
    moved = [sum(row.values()) for row in found.weights]
    most = max(range(len(moved)), key=moved.__getitem__)
    head = divmod(int(found.heads.argmax()), found.heads.shape[1])
    lowest = min(range(len(found.cka)), key=found.cka.__getitem__)
    headline = (
        f"Weights changed most in layer {most} (by {max(found.weights[most].values()):.2%} of their norm), states most "
        f"at layer {lowest} (CKA {found.cka[lowest]:.3f}), attention most in head {head[1]} of layer {head[0]} (total "
        f"variation {float(found.heads.max()):.3f})."
        if max(moved) > 0 or float(found.heads.max()) > 0
        else "The two models are equal: no weight, state or attention weight differs."
    )
    return ProbeReport(
        probe="compare",
        model=after.name,
        base=before.name,
        headline=headline,
        tables=[_layer_table(found), _head_table(found)],
        checks=_checks(found, pieces),
        figures=_figures(found),
        values={"changes": found},
        seconds=time.monotonic() - started,
    )


def _layer_table(found: Changes) -> Table:
    columns = ["layer", "attention weights", "MLP weights", "CKA", "CKA of shuffled tokens", "cosine", "entropy before"]
    columns += ["entropy after"]
    columns += ["truth", "refusal"] if found.truth else []
    rows: list[tuple[Cell, ...]] = []
    for i, weights in enumerate(found.weights):
        row: list[Cell] = [
            str(i),
            weights["attention"],
            weights["mlp"],
            found.cka[i],
            found.cka_shuffled[i],
            found.cosine[i],
        ]
        row += found.entropy[i].tolist()
        rows.append(tuple(row + ([found.truth[i], found.refusal[i]] if found.truth else [])))
    return Table("Changes by layer", tuple(columns), rows)


def _head_table(found: Changes) -> Table:
    order = found.heads.flatten().argsort(descending=True).tolist()[:10]
    names = ["-".join(map(str, divmod(place, found.heads.shape[1]))) for place in order]
    rows = [(name, float(found.heads.flatten()[place])) for name, place in zip(names, order, strict=True)]
    return Table("Heads whose attention changed most", ("layer-head", "total variation"), list(rows))


def _checks(found: Changes, pieces: Sequence[Int[Tensor, "1 length"]]) -> list[Check]:
    first, second = (half.flatten().tolist() for half in found.halves)
    changed = float(found.heads.max()) > 0
    split = rank_correlation(first, second).value if changed and len(pieces) > 1 else None
    apart = max(abs(a - b) for a, b in zip(*found.cka_halves, strict=True))
    checks = [
        at_least("rank correlation of the heads' changes between halves of the texts", split, 0.8),
        at_most("largest difference of a layer's CKA between halves of the texts", apart, 0.1),
        at_most("largest CKA of tokens that are paired at random", max(found.cka_shuffled), 0.2),
        at_most("largest change of a head between two runs of the model before", found.itself, 0.001),
    ]
    if found.truth:
        middle = len(found.truth) // 2
        checks += [
            at_least(
                "cosine of the truth directions of two halves before, middle layer", found.truth_halves[middle], 0.5
            ),
            at_least("cosine of the refusal directions of two halves before", found.refusal_halves[middle], 0.5),
        ]
    return checks


def _figures(found: Changes) -> dict[str, str]:
    def curve(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(float(i), value) for i, value in enumerate(values)]

    parts = {name: curve([row[name] for row in found.weights]) for name in ("attention", "mlp")}
    states = {"CKA": curve(found.cka), "CKA, tokens shuffled": curve(found.cka_shuffled), "cosine": curve(found.cosine)}
    if found.truth:
        states |= {"truth": curve(found.truth), "refusal": curve(found.refusal)}
    entropy = {name: curve(found.entropy[:, i].tolist()) for i, name in enumerate(("before", "after"))}
    return {
        "Relative change of the weights": lines(parts, "layer", "relative change", "Change of the weights by layer"),
        "Similarity of states and directions": lines(states, "layer", "similarity", "Similarity of states by layer"),
        "Entropy of the attention": lines(entropy, "layer", "nats", "Mean entropy of attention rows by layer"),
        "Change of each head's attention": layer_head_map(found.heads, "Total variation distance by layer and head"),
    }
