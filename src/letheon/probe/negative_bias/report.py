"""`letheon probe negative-bias`: the bias by knowledge and format, the heads that carry it, and their ablation."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate
from letheon.core.statistics import Estimate, estimate_mean, rank_correlation
from letheon.probe.attention_maps import head_mask
from letheon.probe.negative_bias.prompts import Answers, Format, answers_to
from letheon.probe.negative_bias.scores import bias_of, decompose, knowledge_of, soft_bias
from letheon.probe.record import Check, ProbeReport, Table, above_zero, at_least, halves, layer_head_map
from letheon.probe.statements import CAPITALS, FORMS, Statement, balanced, built_in, invented, paired
from letheon.report.figures import bars
from letheon.report.plots import scatter

CONTEXT_FREE = Statement("N/A", False)
OPEN_QUESTION = 'What is the capital of {}? Answer with its name only. If you do not know it, answer "I don\'t know".'


@dataclass(frozen=True)
class BiasSettings:
    """The size of the probe of negative bias.

    Attributes:
        items: most statements per subset, half of them true.
        heads: number of heads to ablate.
        draws: random sets of as many heads, the control of the ablation.
        samples: open answers per fact, by which a model's knowledge is judged; 0 skips this.
        seed: seed of draws and samples.
    """

    items: int = 40
    heads: int = 5
    draws: int = 10
    samples: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < 4 or self.heads < 1 or self.draws < 2 or self.samples < 0:
            raise InputError(
                "items, heads, draws or samples out of range", "items from 4, heads from 1, draws from 2 on"
            )


def knowledge_subsets(
    model: LanguageModel, samples: int, seed: int, facts: Mapping[str, str] = CAPITALS
) -> dict[str, list[Statement]]:
    """Sort facts by what the model itself answers, asked openly; each fact gives a true and a false statement."""
    prompts = [OPEN_QUESTION.format(country) for country in facts]
    greedy = generate(model, prompts, max_new_tokens=8)
    drawn = generate(model, prompts * samples, max_new_tokens=8, temperature=1.0, seed=seed)
    statements: dict[str, list[Statement]] = {country: [] for country in facts}
    for one in paired(FORMS["capitals"][0], facts):
        statements[one.group].append(one)
    found: dict[str, list[Statement]] = {}
    for i, (country, capital) in enumerate(facts.items()):
        kind = knowledge_of(greedy[i], drawn[i :: len(prompts)], capital)
        if kind:
            found.setdefault(kind, []).extend(statements[country])
    return found


def negative_heads(nas: Float[Tensor, "items layers heads"], gold: Sequence[bool], count: int) -> list[tuple[int, int]]:
    """Choose the heads with the highest mean NAS among those whose mean is positive for both right answers."""
    yes = torch.tensor(gold)
    means = torch.stack([nas[yes].mean(0), nas[~yes].mean(0)])
    steady = torch.where((means > 0).all(0), nas.mean(0), torch.tensor(-torch.inf))
    order = steady.flatten().argsort(descending=True).tolist()
    heads = [divmod(place, nas.shape[2]) for place in order if torch.isfinite(steady.flatten()[place])]
    return heads[:count]


@dataclass(frozen=True)
class Ablation:
    """Soft bias of the held-out statements.

    Attributes:
        plain, without: mean of the whole model, and without the negative heads.
        random: mean without random heads, per draw.
        heads: the negative heads, chosen on the other statements.
        effect: how much further down the bias of a statement goes without the negative heads than without random ones.
    """

    plain: float
    without: float
    random: list[float]
    heads: list[tuple[int, int]]
    effect: Estimate


def ablate(
    model: LanguageModel, statements: Sequence[Statement], answers: Answers, settings: BiasSettings
) -> Ablation | None:
    """Remove the output of the negative heads, chosen on half of the statements, and test on the others."""
    fit, test = halves(list(range(len(statements))))
    gold = [statements[i].label for i in fit]
    if not test or len(set(gold)) < 2:
        return None
    heads = negative_heads(answers.nas[fit], gold, settings.heads)
    if not heads:
        return None
    shape, draw = answers.nas.shape[1:], random.Random(stream_seed(settings.seed, "random heads"))
    everything = [(layer, head) for layer in range(shape[0]) for head in range(shape[1])]
    others = [one for one in everything if one not in heads]
    sets = [heads, *(draw.sample(others, min(len(heads), len(others))) for _ in range(settings.draws))]
    asked = [statements[i] for i in test]
    moved = []
    for chosen in sets:
        changed = answers_to(model, asked, Format(), masked=head_mask(model, chosen))
        moved.append(soft_bias(changed.yes, changed.no))
    plain = float(soft_bias(answers.yes[test], answers.no[test]).mean())
    effect = estimate_mean((torch.stack(moved[1:]).mean(0) - moved[0]).tolist())
    return Ablation(plain, float(moved[0].mean()), [float(one.mean()) for one in moved[1:]], heads, effect)


def format_scores(model: LanguageModel, statements: Sequence[Statement]) -> dict[tuple[str, bool], float]:
    """Measure the soft bias towards the negative word in both orders, asked plainly and inverted."""
    found = {}
    for order in ("yes first", "no first"):
        for inverted in (False, True):
            form = Format(negative_first=order == "no first", inverted=inverted)
            answers = answers_to(model, statements, form)
            found[order, inverted] = float(soft_bias(answers.yes, answers.no).mean())
    return found


def probe_negative_bias(
    model: LanguageModel,
    statements: Mapping[str, Sequence[Statement]] | None = None,
    settings: BiasSettings | None = None,
) -> ProbeReport:
    """Measure a model's negative bias by knowledge and format, and the heads that carry it."""
    started, settings = time.monotonic(), settings or BiasSettings()
    seed = settings.seed
    subsets = {name: balanced(rows, settings.items, seed) for name, rows in (statements or built_in()).items()}
    subsets["invented"] = balanced(invented(seed, settings.items), settings.items, seed)
    if settings.samples:
        known = knowledge_subsets(model, settings.samples, seed)
        subsets |= {f"capitals, {kind}": balanced(rows, settings.items, seed) for kind, rows in known.items()}
    answers = {name: answers_to(model, rows, Format(), attention=True) for name, rows in subsets.items()}
    soft = {name: soft_bias(one.yes, one.no).tolist() for name, one in answers.items()}
    main = [one for name, rows in subsets.items() if not name.startswith("capitals, ") for one in rows]
    joined = _joined([one for name, one in answers.items() if not name.startswith("capitals, ")])
    draw = random.Random(stream_seed(seed, "order")).sample(range(len(main)), len(main))
    main, joined = [main[i] for i in draw], Answers(joined.yes[draw], joined.no[draw], joined.nas[draw])
    ablation = ablate(model, main, joined, settings)
    scores = format_scores(model, main[: settings.items])
    words = {
        f"{a}/{b}": _mean_soft(model, main[: settings.items], Format(a, b))
        for a, b in (("True", "False"), ("Right", "Wrong"))
    }
    content_free = answers_to(model, [CONTEXT_FREE], Format())
    neutral = float(soft_bias(content_free.yes, content_free.no)[0])
    estimates = {name: estimate_mean(values) for name, values in soft.items()}
    total = estimate_mean(
        [value for name, values in soft.items() if not name.startswith("capitals, ") for value in values]
    )
    return ProbeReport(
        probe="negative-bias",
        model=model.name,
        headline=_headline(total, estimates, neutral),
        tables=[
            _subset_table(subsets, answers, estimates),
            _format_table(scores, words, neutral),
            _head_table(joined.nas.mean(0), ablation),
        ],
        checks=_checks(joined, ablation),
        figures=_figures(joined, estimates),
        values={"nas": joined.nas.mean(0), "formats": decompose(scores), "ablation": ablation, "content free": neutral,
                "soft bias": soft},
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _joined(answers: Sequence[Answers]) -> Answers:
    return Answers(*(torch.cat([getattr(one, name) for one in answers]) for name in ("yes", "no", "nas")))


def _mean_soft(model: LanguageModel, statements: Sequence[Statement], form: Format) -> float:
    answers = answers_to(model, statements, form)
    return float(soft_bias(answers.yes, answers.no).mean())


def _headline(total: Estimate, estimates: Mapping[str, Estimate], neutral: float) -> str:
    value = total.value or 0.0
    side = "negative (towards no)" if value > 0 else "positive (towards yes)"
    unknown = estimates["invented"].value
    real = [one.value for name, one in estimates.items() if name != "invented" and not name.startswith("capitals, ")]
    known = [value for value in real if value is not None]
    return (
        f"The bias is {side}: {value:+.2f} on a scale from −1 to 1; {unknown:+.2f} on invented names and "
        f"{sum(known) / len(known):+.2f} on real ones. A question without content gives {neutral:+.2f}."
    )


def _subset_table(
    subsets: Mapping[str, Sequence[Statement]], answers: Mapping[str, Answers], soft: Mapping[str, Estimate]
) -> Table:
    rows = []
    for name, statements in subsets.items():
        rates = bias_of([one.label for one in statements], answers[name].decided())
        one = soft[name]
        rows.append((name, rates.n, rates.tpr, rates.tnr, rates.bias, one.value, one.low, one.high, rates.unparsed))
    columns = ("subset", "n", "recall of yes", "recall of no", "bias", "soft bias", "low", "high", "unparsed")
    return Table("Bias by subset; above 0 is negative", columns, list(rows))


def _format_table(scores: Mapping[tuple[str, bool], float], words: Mapping[str, float], neutral: float) -> Table:
    rows = [
        (f"{order}{', inverted question' if inverted else ''}", value) for (order, inverted), value in scores.items()
    ]
    rows += [*words.items(), ("no content (N/A)", neutral)]
    rows += [(f"effect of the {name}", value) for name, value in decompose(scores).items()]
    return Table("Soft bias towards the negative word by format", ("format", "soft bias"), list(rows))


def _head_table(nas: Float[Tensor, "layers heads"], ablation: Ablation | None) -> Table:
    order = nas.flatten().argsort(descending=True).tolist()[:10]
    rows = [("-".join(map(str, divmod(place, nas.shape[1]))), float(nas.flatten()[place])) for place in order]
    if ablation:
        rows += [("soft bias, whole model", ablation.plain), ("without the negative heads", ablation.without)]
        rows += [("without random heads, mean", sum(ablation.random) / len(ablation.random))]
    return Table("Heads by negative attention score, and the bias without them", ("layer-head", "score"), list(rows))


def _checks(answers: Answers, ablation: Ablation | None) -> list[Check]:
    first, second = halves(list(range(len(answers.yes))))
    means = [answers.nas[half].mean(0).flatten().tolist() for half in (first, second)]
    split = rank_correlation(means[0], means[1]).value
    parsed = sum(one is not None for one in answers.decided()) / len(answers.yes)
    effect = ablation.effect if ablation else Estimate(None, None, None, 0)
    extreme = None
    if ablation:
        extreme = sum(ablation.without < one for one in ablation.random) / len(ablation.random)
    return [
        at_least("share of answers that are yes or no", parsed, 0.8),
        at_least("rank correlation of the heads' scores between halves of the items", split, 0.8),
        above_zero("bias without random heads minus bias without the negative heads, other items", effect),
        at_least("share of random sets that move the bias less far down", extreme, 0.95),
    ]


def _figures(answers: Answers, estimates: Mapping[str, Estimate]) -> dict[str, str]:
    nas, top = answers.nas.mean(0), float(answers.nas.mean(0).abs().max())
    shifted = {
        name: {name: replace(one, value=None if one.value is None else (one.value + 1) / 2,
                             low=None if one.low is None else (one.low + 1) / 2,
                             high=None if one.high is None else (one.high + 1) / 2)}
        for name, one in estimates.items()
    }  # fmt: skip
    best = int(nas.flatten().argmax())
    points = zip(answers.nas.flatten(1)[:, best].tolist(), (answers.no - answers.yes).tolist(), strict=True)
    return {
        "Negative attention score by layer and head": layer_head_map(
            nas, "Negative attention score by layer and head", low=-top, high=top
        ),
        "Weight of no between the answers, (soft bias + 1) / 2": bars(
            shifted, "(soft bias + 1) / 2", "Soft bias per subset; 0.5 is no bias"
        ),
        "The best head's score against p(no) − p(yes)": scatter(
            {str(i): point for i, point in enumerate(points)}, "score", "p(no) − p(yes)",
            "Negative attention score of the best head against the answer", named=False,
        ),
    }  # fmt: skip
