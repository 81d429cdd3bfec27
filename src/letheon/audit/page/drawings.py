"""The figures of an audit's page with their captions, drawn from its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from letheon.audit.page import audit_figures
from letheon.audit.page.audit_figures import Attacked
from letheon.audit.page.rows import ROLES
from letheon.report import figures
from letheon.report.numbers import WithInterval, interval, number
from letheon.report.safe_text import clip, label, visible

if TYPE_CHECKING:
    from letheon.audit.record.evidence import Attack
    from letheon.audit.record.record import Audit

SHARES = (
    "recall",
    "rouge_l_recall",
    "probability",
    "value_probability",
    "exact_memorization",
    "extraction_strength",
    "truth_ratio",
)
# What attacks have in common, by their machine names; others stand by themselves at the end.
FAMILIES = {
    "Asked in other words": ("paraphrase", "synonyms", "cross_lingual", "spelling"),
    "The answer begun": ("first_token_prefix", "value_prefix", "affirmative_suffix"),
    "The question framed": (
        "prefix_injection",
        "role_play",
        "context_hint",
        "in_context",
        "system_prompt",
        "second_turn",
        "long_context",
    ),
    "Without the model's chat template": ("plain_text", "own_template", "foreign_template"),
    "Asked openly": ("open_request",),
    "Running text begun": ("text_begun", "text_last_words", "text_asked"),
    "The question turned": ("multiple_choice", "reverse_query"),
    "Asked many times": ("leak_at_k", "plain_text_at_k", "second_turn_at_k", "text_at_k"),
    "Looked at from inside": ("logit_lens", "probing", "steering", "soft_prompt"),
    "Told apart by likelihood": ("membership",),
}
OTHERS = "Others"
LONGEST = 60  # characters of a text in a figure


class Drawn(NamedTuple):
    """A figure with its caption."""

    svg: Markup
    caption: str


def drawings(audit: Audit) -> dict[str, list[Drawn]]:
    """Draw the figures of each section; an empty list where there is nothing to draw."""
    sections = {
        "plane": tuple(_plane(audit)),
        "utility": tuple(_probabilities(audit)),
        "ratios": tuple(_ratios(audit)),
        "attacks": tuple(_attacks(audit)),
        "depth": tuple(_depth(audit)),
        "membership": tuple(_rocs(audit)),
        "curves": tuple(_curves(audit)),
        "quantised": tuple(_quantised(audit)),
        "continued": tuple(_continued(audit)),
    }
    return {name: [Drawn(Markup(svg), caption) for svg, caption in drawn] for name, drawn in sections.items()}


Figures = Iterator[tuple[str, str]]


def _values(audit: Audit, name: str, subset: str) -> dict[str, WithInterval]:
    """Return a metric's values by model."""
    metrics = {role: audit.metric(name, subset, role) for role in ROLES}
    return {role: metric.value for role, metric in metrics.items() if metric}


def _plane(audit: Audit) -> Figures:
    """Draw forgetting against utility, where both were measured for the model after."""
    forgotten = _values(audit, "recall", "forget")
    candidates = (("model_utility", "general"), ("model_utility", "retain"), ("recall", "retain"))
    measured = ((name, _values(audit, name, subset)) for name, subset in candidates)
    name, utility = next(((name, values) for name, values in measured if "after" in values), ("", {}))
    points = {role: (forgotten[role], utility[role]) for role in ROLES if role in forgotten and role in utility}
    if points:
        up = "Recall of the retain rows" if name == "recall" else "Model utility"
        numbers = "; ".join(f"{r} {number(x.value)} and {number(y.value)}" for r, (x, y) in points.items())
        yield (
            figures.plane(points, "Recall of the forget rows", up, f"Forgetting against utility: {numbers}"),
            "Forgetting runs to the left, damage downwards. A good deletion moves from “before” straight to the left, "
            "to where a model lies that never saw the rows. Lines are 95 % intervals.",
        )


def _probabilities(audit: Audit) -> Figures:
    """Draw the measures of the forget rows as points with intervals."""
    groups = {label(name): _values(audit, name, "forget") for name in SHARES}
    groups = {title: values for title, values in groups.items() if values}
    if groups:
        yield (
            figures.dots(groups, "share or probability", "What is left of the forgotten, by measure and model"),
            "The same rows by several measures. Answers can change while their probability stays high: knowledge "
            "that is only unsaid shows in the probabilities.",
        )


def _ratios(audit: Audit) -> Figures:
    """Draw the distributions of the forget rows' truth ratio, with the test against the reference."""
    samples: dict[str, list[float]] = {}
    for role in ROLES:
        metric = audit.metric("truth_ratio", "forget", role)
        ratios = [item.value for item in metric.items if item.value is not None] if metric else []
        if ratios:
            samples[role] = ratios
    if not samples:
        return
    description = f"Truth ratios of the forgotten rows: {', '.join(samples)}"
    across = "P(false answers) / P(true answer), each row"
    yield (
        audit_figures.distributions(samples, across, description, "false answers likelier →"),
        "How much likelier false answers of the same form are than the true one, row by row. Far left: the true "
        "answer is still preferred. A deletion that leaves no trace lies on the reference's curve; one that lies far "
        f"to its right gives itself away. {_same(audit)}",
    )


def _same(audit: Audit) -> str:
    """Return the test of the models' ratios against the reference's, in words."""
    results = []
    for role in ("before", "after"):
        metric = audit.metric("forget_quality", "forget", role)
        if metric and metric.value.value is not None:
            results.append(f"{role} p = {number(metric.value.value)}")
        elif metric and role == "after":
            return f"No test against a reference: {visible(metric.value.reason or '')}."
    if not results:
        return ""
    return (
        f"Kolmogorov–Smirnov test against the reference: {', '.join(results)}. "
        "A small p says that the two differ; a large one, that these rows cannot tell them apart."
    )


def _depth(audit: Audit) -> Figures:
    """Draw how much of the facts is gone at each layer that was patched."""
    depth = audit.settings.get("depth")
    if not isinstance(depth, dict):
        return
    layers, gaps, erased = (depth.get(name) for name in ("layers", "gap", "erased"))
    if not (isinstance(layers, list) and isinstance(gaps, list) and isinstance(erased, list)):
        return
    points = [(float(a), float(b)) for a, b in zip(layers, erased, strict=False) if _number(a) and _number(b)]  # type: ignore[arg-type]
    if points:
        told = ", ".join(f"layer {int(layer)} {number(share)}" for layer, share in points)
        yield (
            figures.curves(
                {"after": points}, "layer", "share of the gap", f"Share of the facts gone, by layer: {told}"
            ),
            "Hidden states of the model after, put into the model before layer by layer: 1, they carry no more of the "
            "facts than the reference's do; 0, they carry them as before. Layers at which the reference's states "
            "change nothing are left out.",
        )


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def _attacks(audit: Audit) -> Figures:
    """Draw one figure per unit, the attacks in it by family."""
    for unit in dict.fromkeys(attack.unit for attack in audit.attacks):
        families: dict[str, list[Attacked]] = {}
        chosen = [attack for attack in audit.attacks if attack.unit == unit]
        order = [*FAMILIES, OTHERS]
        for attack in sorted(chosen, key=lambda one: order.index(_family(one.name))):
            families.setdefault(_family(attack.name), []).append(_attacked(attack))
        across = visible(clip(unit, LONGEST))
        yield audit_figures.attack_bars(families, across, f"Attacks: {across}"), _attack_caption(unit)


def _family(name: str) -> str:
    return next((family for family, names in FAMILIES.items() if name in names), OTHERS)


def _attacked(attack: Attack) -> Attacked:
    return Attacked(
        label(attack.name), attack.before, attack.after, attack.reference, attack.chance, attack.informative
    )


def _attack_caption(unit: str) -> str:
    controls = (
        "An attack says something only where the model before falls to it; faint bars are attacks to which it does "
        "not, and show nothing."
    )
    if unit == "AUROC":
        return (
            "How well forgotten rows are told from others: 0.5 is guessing, 1 is certainty. Bars start at the level "
            f"of chance. {controls}"
        )
    return f"Bars: what each attack draws from the model after; thin lines: 95 % intervals. {controls}"


def _rocs(audit: Audit) -> Figures:
    """Draw the ROC curve of the first variant of each attack that has one."""
    for attack in audit.attacks:
        name = next((variant.name for variant in attack.variants if variant.roc), None)
        looks = [one for one in attack.variants if one.name == name and one.roc]
        if not looks:
            continue
        lines = {str(one.model): one.roc for one in looks}
        notes = {str(one.model): _auroc(one.value) for one in looks}
        by = f"{label(attack.name)} by {label(clip(name or '', LONGEST))}"
        yield (
            audit_figures.roc(lines, notes, f"{by}: true positives against false positives, by model"),
            f"{by}. Whoever takes more rows for members finds more of the true ones and more false ones. On the dotted "
            "line nothing is told: there the model gives no sign that it was trained on the rows. Beside each name: "
            "the area under its curve (AUROC) with the 95 % interval.",
        )


def _auroc(value: WithInterval) -> str:
    return number(value.value) + (f" ({interval(value)})" if interval(value) else "")


def _curves(audit: Audit) -> Figures:
    """Draw relearning curves, one figure per set of training rows."""
    starts = [c.points[0].recall for c in audit.curves if c.model == "before" and c.points]
    for title in dict.fromkeys(curve.title for curve in audit.curves):
        chosen = [curve for curve in audit.curves if curve.title == title and curve.points]
        if not chosen:
            continue
        if chosen[0].same_row:
            lines = {str(one.model): [(float(p.step), p.probability) for p in one.points] for one in chosen}
            across = "steps of training on the only row"
            yield (
                figures.curves(lines, across, "Probability of the row's facts", f"Relearning: {across}"),
                "Every model learns a row that it is trained on; what was hidden comes back sooner than the reference "
                "learns it.",
            )
            continue
        lines = {str(curve.model): [(float(p.step), p.recall) for p in curve.points] for curve in chosen}
        half = {str(c.model): c.steps_to_half.value for c in chosen if c.steps_to_half and c.model != "before"}
        reached = {role: steps for role, steps in half.items() if steps is not None}
        across = visible(f"steps of training on {clip(title, LONGEST)}")
        level = starts[0] / 2 if starts and starts[0] > 0 else None
        yield (
            figures.curves(lines, across, "Recall of the held-out facts", f"Relearning: {across}", level, reached),
            "Only facts that were not trained on are counted. A curve that jumps up where the reference's stays low "
            "shows that the knowledge was hidden, not removed. Dotted: half of what the model before gives.",
        )


def _continued(audit: Audit) -> Figures:
    """Draw recall and probability of the forget rows, and of the retain rows, over the steps of a stream."""
    parts = {
        "forgotten": "No task of the stream holds these rows. Where “after” rises and the reference does not, ordinary "
        "learning brings back what was hidden; where “before” falls, learning on forgets by itself.",
        "kept": "What learning on costs. Where “after” falls further than the others, the deletion left the rest of "
        "the model easier to overwrite.",
    }
    for one in audit.continued[:1]:
        across = visible(f"steps of learning {clip(one.stream, LONGEST)}")
        ends = [float(step) for step in one.ends[:-1]]
        for name, caption in parts.items():
            recall, probability = (_shares(audit, f"{name}_{measure}") for measure in ("recall", "probability"))
            up = f"Recall of the {name}"
            if any(recall.values()):
                yield (
                    figures.curves(recall, across, up, f"{up}: {across}", beside=probability, ends=ends),
                    f"{caption} Thin lines: the probability of the facts. Dotted: where a task ends.",
                )


def _shares(audit: Audit, name: str) -> dict[str, list[tuple[float, float]]]:
    """Return a share at every evaluation of continued learning, by model."""
    curves = {str(one.model): [(float(p.step), getattr(p, name)) for p in one.points] for one in audit.continued}
    return {role: [(step, share) for step, share in points if share is not None] for role, points in curves.items()}


def _quantised(audit: Audit) -> Figures:
    """Draw recall before and after rounding, of the forget rows and of the retain rows."""
    parts = (
        ("forget_recall", "forget", "Recall of the forget rows"),
        ("retain_recall", "retain", "Recall of the retain rows"),
    )
    for field, subset, across in parts:
        groups: dict[str, dict[str, WithInterval]] = {"as delivered": _values(audit, "recall", subset)}
        for entry in audit.quantised:
            size = f"{entry.bits} bits, " + (f"groups of {entry.group}" if entry.group else "a scale per row")
            size = f"GGUF {visible(clip(entry.file_type, LONGEST))}" if entry.file_type else size
            groups.setdefault(size, {})[entry.model] = getattr(entry, field)
        if audit.quantised:
            yield (
                figures.bars(groups, across, f"{across} after rounding, by model"),
                "Must stay low after rounding too: what returns with fewer bits was only covered."
                if subset == "forget"
                else "What rounding itself costs: where “before” falls as well, the loss is not the deletion's.",
            )
