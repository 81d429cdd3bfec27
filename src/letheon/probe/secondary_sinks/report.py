"""`letheon probe sinks`: find sinks in several texts, plant some, report."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, has_down_projection
from letheon.core.statistics import estimate_mean, rank_correlation
from letheon.probe.attention_maps import summarise_attention
from letheon.probe.record import Check, ProbeReport, Table, above_zero, at_least, at_most, halves, layer_head_map
from letheon.probe.secondary_sinks.detect import (
    Profile,
    Rule,
    Sink,
    detect_sinks,
    layer_window,
    mlp_stage_cosines,
    profile,
    same_token_controls,
)
from letheon.probe.secondary_sinks.planting import Planted, plant_and_measure
from letheon.report.plots import heat_map, lines


@dataclass(frozen=True)
class SinkSettings:
    """The texts and bounds of the probe of sinks.

    Attributes:
        tokens: tokens per text.
        texts: most texts, cut from the file one after another.
        cosine: least absolute cosine with the first token's sink.
        rule: bounds of the labels: `fraction` of the window's layers, or the paper's `absolute` numbers of layers.
        all_layers: look for sinks in all layers instead of the window of the first token's sink.
        strengths: strengths of planted sinks, as shares of the first token's norm; may be given several times.
    """

    tokens: int = 512
    texts: int = 6
    cosine: float = 0.9
    rule: str = "fraction"
    all_layers: bool = False
    strengths: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)

    def __post_init__(self) -> None:
        if self.rule not in ("fraction", "absolute"):
            raise InputError(f"rule {self.rule!r}", "give fraction or absolute")
        if self.tokens < 8 or self.texts < 1 or not 0 < self.cosine < 1:
            raise InputError("tokens, texts or cosine out of range", "give at least 8 tokens, 1 text, 0 < cosine < 1")
        if not self.strengths or min(self.strengths) <= 0:
            raise InputError(f"strengths {self.strengths}", "give shares of the first token's norm, above 0")


def cut_texts(model: LanguageModel, text: str, tokens: int, most: int) -> list[Int[Tensor, "1 length"]]:
    """Cut a text into pieces of equal length in tokens; each begins with the model's begin-of-text token, if any.

    Raises:
        InputError: the text is too short for one piece of at least eight tokens, or a piece too long for the model.
    """
    if tokens > model.context_length:
        raise InputError(f"{tokens} tokens asked for, {model.name} takes {model.context_length}", "use shorter texts")
    begin = list(model.tokenizer("", add_special_tokens=True)["input_ids"])
    ids = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    size = min(tokens - len(begin), len(ids))
    if size + len(begin) < 8:
        raise InputError(f"the text has {len(ids)} tokens", "give a text of some hundred words")
    pieces = [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)][:most]
    return [torch.tensor([begin + piece]) for piece in pieces]


@dataclass(frozen=True)
class Seen:
    """What one text shows: its tokens, its profile, its sinks, and the attention on every token."""

    ids: list[int]
    profile: Profile
    sinks: list[Sink]
    received: Float[Tensor, "layers heads tokens"]


def look_at(model: LanguageModel, ids: Int[Tensor, "1 length"], settings: SinkSettings) -> Seen:
    """Find the sinks of one text."""
    seen, rule = profile(model, ids), cast("Rule", settings.rule)
    sinks = detect_sinks(seen, cosine=settings.cosine, rule=rule, scan_all_layers=settings.all_layers)
    return Seen(ids[0].tolist(), seen, sinks, summarise_attention(model, ids).received)


def probe_sinks(model: LanguageModel, text: str, settings: SinkSettings | None = None) -> ProbeReport:
    """Find a model's attention sinks in several texts, and test the detection on planted ones."""
    started, settings = time.monotonic(), settings or SinkSettings()
    pieces = cut_texts(model, text, settings.tokens, settings.texts)
    seen = [look_at(model, ids, settings) for ids in pieces]
    window = layer_window(seen[0].profile.norms[:, seen[0].profile.first])
    true, random = plant_all(model, pieces[0], window, settings)
    drawn = [_drawn(model, ids, one, settings) for ids, one in zip(pieces, seen, strict=True)]
    labels = Counter(one.label for text in seen for one in text.sinks)
    attention = torch.stack([one.received[:, :, one.profile.first] for one in seen])
    headline = (
        f"The first token's sink lasts from layer {window[0]} to {window[1] - 1} of {len(seen[0].profile.norms)} and "
        f"takes up to {float(attention.mean((0, 2)).max()):.0%} of a layer's attention. {len(seen)} texts have "
        f"{labels['secondary']} secondary and {labels['primary']} further primary-like sinks ({labels['noise']} noise)."
    )
    return ProbeReport(
        probe="sinks",
        model=model.name,
        headline=headline,
        tables=[_levels(seen), _planted_table(true, random), *_stages(model, pieces, seen)],
        checks=_checks(seen, attention, true, drawn),
        figures=_figures(seen, attention, true, random),
        values={
            "windows": [layer_window(one.profile.norms[:, one.profile.first]) for one in seen],
            "first token": [{"norm": one.profile.norms[:, one.profile.first]} for one in seen],
            "attention on the first token": attention.mean(0),
            "sinks": [[_sink(model, text, one) for one in text.sinks] for text in seen],
            "equal tokens that are no sinks": [
                same_token_controls(text.ids, text.sinks, text.profile.first) for text in seen
            ],
            "planted": true,
            "planted, random direction": random,
        },
        seconds=time.monotonic() - started,
    )


def plant_all(
    model: LanguageModel, ids: Int[Tensor, "1 length"], window: tuple[int, int], settings: SinkSettings
) -> tuple[list[Planted], list[Planted]]:
    """Plant sinks of every strength in the middle of a text, a third into the window; and random directions."""
    layer = min(window[0] + (window[1] - window[0]) // 3, len(blocks(model.base())) - 2)
    place = ids.shape[1] // 2
    plant = [plant_and_measure(model, ids, layer, place, c, window=window) for c in settings.strengths]
    control = [
        plant_and_measure(model, ids, layer, place, c, random_seed=seed, window=window)
        for seed, c in enumerate(settings.strengths)
    ]
    return plant, control


def _drawn(model: LanguageModel, ids: Int[Tensor, "1 length"], text: Seen, settings: SinkSettings) -> float:
    """Measure how much more attention a planted sink of the largest strength draws than a random direction."""
    window = layer_window(text.profile.norms[:, text.profile.first])
    planted, random = plant_all(model, ids, window, replace(settings, strengths=(max(settings.strengths),)))
    return planted[0].score - random[0].score


def attention_beyond_equal_tokens(text: Seen) -> list[float]:
    """Per secondary sink, the attention that it receives in its layers minus that of equal tokens that are no sinks.

    Sinks whose token does not occur elsewhere are left out.
    """
    controls = same_token_controls(text.ids, text.sinks, text.profile.first)
    found = []
    for sink in text.sinks:
        equal = [place for place in controls if text.ids[place] == text.ids[sink.position]]
        if sink.label == "secondary" and equal:
            received = text.received[list(sink.layers)]
            found.append(float(received[:, :, sink.position].mean() - received[:, :, equal].mean()))
    return found


def _sink(model: LanguageModel, text: Seen, sink: Sink) -> dict[str, Any]:
    return {
        "position": sink.position,
        "token": model.tokenizer.decode([text.ids[sink.position]]),
        "start": sink.start,
        "lifetime": sink.lifetime,
        "label": sink.label,
        "score": text.received[sink.layers[0] :, :, sink.position].mean(),
    }


def _levels(seen: list[Seen]) -> Table:
    counts = Counter((one.start, one.lifetime, one.label) for text in seen for one in text.sinks)
    rows = [(str(start), life, label, n) for (start, life, label), n in counts.most_common()]
    columns = ("layer that creates it", "lifetime in layers", "label", "tokens")
    return Table("Sink levels: tokens by creating layer and lifetime", columns, list(rows))


def _planted_table(true: list[Planted], random: list[Planted]) -> Table:
    rows = [
        (f"{a.strength:g}", "yes" if a.found else "no", a.lifetime, a.score, a.first_score,
         "yes" if b.found else "no", b.persistence, b.score, b.first_score)
        for a, b in zip(true, random, strict=True)
    ]  # fmt: skip
    columns = ("strength", "found", "lifetime", "attention", "first token", "random found", "random lifetime",
               "random attention", "first beside random")  # fmt: skip
    return Table("Planted sinks, and random directions of the same norm", columns, list(rows))


def _stages(model: LanguageModel, pieces: list[Int[Tensor, "1 length"]], seen: list[Seen]) -> list[Table]:
    """The stages of the MLP that creates the longest-lived sink; a mixture of experts has no such stages."""
    plain = [at for at, block in enumerate(blocks(model.base())) if at and has_down_projection(block)]
    all_sinks = [(one, i) for i, text in enumerate(seen) for one in text.sinks if one.start in plain]
    if not all_sinks:
        return []
    sink, i = max(all_sinks, key=lambda pair: pair[0].lifetime)
    stages = mlp_stage_cosines(model, pieces[i], sink.position, seen[i].profile.first, sink.start)
    rows: list[tuple[str, float]] = list(stages.items())
    title = f"Cosine with the first token in the MLP of layer {sink.start}, token {sink.position}"
    return [Table(title, ("stage", "cosine"), list(rows))]


def _checks(
    seen: list[Seen], attention: Float[Tensor, "texts layers heads"], true: list[Planted], drawn: list[float]
) -> list[Check]:
    first, second = halves(list(attention))
    split = None
    if second:
        pair = [torch.stack(half).mean(0).flatten().tolist() for half in (first, second)]
        split = rank_correlation(pair[0], pair[1]).value
    close = []
    for text in seen:
        start, end = layer_window(text.profile.norms[:, text.profile.first])
        close.append(float((text.profile.to_first()[start:end, text.profile.first + 1 :] > 0.9).float().mean()))
    rises = rank_correlation([one.strength for one in true], [one.score for one in true]).value
    own = [value for text in seen for value in attention_beyond_equal_tokens(text)]
    checks = [
        at_least("rank correlation of attention on the first token between halves of the texts", split, 0.8),
        at_most("share of all tokens and layers along the sink's direction", sum(close) / len(close), 0.05),
        above_zero("attention on a planted sink minus that on a random direction, by text", estimate_mean(drawn)),
        at_least("rank correlation of a planted sink's strength and its attention", rises, 0.8),
    ]
    if own:
        checks.append(above_zero("attention on secondary sinks minus that on equal tokens", estimate_mean(own)))
    return checks


def _figures(
    seen: list[Seen], attention: Float[Tensor, "texts layers heads"], true: list[Planted], random: list[Planted]
) -> dict[str, str]:
    norms, first = seen[0].profile.norms, seen[0].profile.first
    others = norms[:, first + 1 :]
    curves = {"first": norms[:, first], "largest other": others.max(1).values, "median": others.median(1).values}
    layers = len(norms)
    counts = torch.zeros(layers, layers + 1)
    for text in seen:
        for one in text.sinks:
            counts[one.start, one.lifetime] += 1
    used = max(1, int(counts.sum(0).nonzero().max()) if counts.any() else 1)
    levels = counts[:, 1 : used + 1].log1p()
    words = "Tokens by creating layer (down) and lifetime (across)"
    down = [str(i) if i % 4 == 0 else "" for i in range(layers)]
    across = [str(i) if used <= 12 or i % 4 == 1 else "" for i in range(1, used + 1)]
    planted = {"planted": true, "random": random}
    return {
        "Norm of the hidden state (logarithm to base 10)": lines(
            {name: [(float(i), float(x.log10())) for i, x in enumerate(curve)] for name, curve in curves.items()},
            "layer", "log10 norm", "Norm of the first token's hidden state, and of others', by layer",
        ),
        "Attention on the first token": layer_head_map(
            attention.mean(0), "Attention on the first token by layer and head", high=1
        ),
        "Sink levels, log(1 + tokens)": heat_map(
            levels.tolist(), down, across, words, low=0, high=max(1.0, float(levels.max()))
        ),
        "Attention on planted sinks": lines(
            {name: [(one.strength, one.score) for one in each] for name, each in planted.items()},
            "strength", "attention", "Attention on a planted sink by its strength, beside a random direction",
        ),
    }  # fmt: skip
