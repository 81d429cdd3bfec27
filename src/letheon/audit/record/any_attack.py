"""The union of the attacks: the share of facts that any of them draws from a model.

Each attack by itself may draw one fact in five, and five attacks may draw another one each. Only attacks count that are
informative and have a chance level of 0; those that offer options or rank candidates draw no fact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from letheon.audit.attacks.base import Attempt, Tried
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Attack, Item, Metric
from letheon.audit.record.metric_table import NO_ROWS, FindingsByRole, as_value, metric
from letheon.core.statistics import estimate_mean

ANY_ATTACK = "attacks:any"
OF_TEXT = ", the fact "  # between the id of running text and what is asked for of it


def any_attack_metrics(findings: FindingsByRole, plan: AuditPlan, attacks: Sequence[Attack]) -> list[Metric]:
    """Return for each model the share of the plan's tried facts that any such attack draws; none without an attack.

    Of questions, the facts that all attacks try count, and no others, since most attacks leave these out. Of running
    text, each fact counts that an attack asks for.
    """
    names = [one.name for one in attacks if one.informative and one.chance == 0 and one.unit == "share of facts"]
    tried, texts = [row.id for row in plan.tried], {row.id for row in plan.tried_texts}
    drawn: dict[str, dict[str, list[str]]] = {role: {} for role in findings}
    asked: dict[str, None] = {}
    for role, model in findings.items():
        for name in names:
            for row, recovered in _outcomes(model.attacks.get(name, []), texts):
                asked[row] = None
                if recovered:
                    drawn[role].setdefault(row, []).append(name)
    rows = [row for row in dict.fromkeys(tried) if row in asked]
    rows += [row for row in asked if row.partition(OF_TEXT)[1]]
    if not rows:
        return []
    metrics = []
    for role in findings:
        by_row = {row: list(dict.fromkeys(drawn[role].get(row, []))) for row in rows}
        value = as_value(estimate_mean([float(bool(by)) for by in by_row.values()], share=True), NO_ROWS)
        items = [Item(id=row, value=float(bool(by)), detail={"attacks": ", ".join(by)}) for row, by in by_row.items()]
        metrics.append(metric(ANY_ATTACK, "forget", role, value, items))
    return metrics


def _outcomes(tried: list[Attempt] | Tried, texts: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Yield each row's id, of running text with what is asked for, with whether it was drawn; some repeatedly."""
    if isinstance(tried, Tried):
        yield from ((item.id, item.value == 1) for item in tried.items)
        return
    for attempt in tried:
        row = attempt.example
        yield (f"{row.id}{OF_TEXT}{row.value}" if row.id in texts else row.id), attempt.recovered
