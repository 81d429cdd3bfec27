"""The first screen of an audit's page: the verdict in a sentence, three answers, and what limits the verdict most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from letheon.audit.criterion_values import excess, usable
from letheon.report.numbers import interval, number
from letheon.report.safe_text import label

if TYPE_CHECKING:
    from letheon.audit.record.evidence import Answer, Attack
    from letheon.audit.record.record import Audit

ANSWERS, LIMITS = 3, 2
# An attack that gives so much more than the reference (or chance) is named.
NOTABLE = 0.1
# Facts from which on an interval of a share is narrow enough not to be named first.
FEW_FACTS = 10
# Kinds of answers in the order in which they are shown, the worst first.
WORST_FIRST = ("still the fact", "gibberish", "empty", "refusal", "fluent and different")


class FirstScreen(NamedTuple):
    """The contents of the first screen.

    Attributes:
        sentences: the verdict in one or two sentences; all of it stands below.
        answers: forget rows with answers before and after, the worst first.
        limits: what limits the verdict most, at most `LIMITS` sentences.
    """

    sentences: str
    answers: list[Answer]
    limits: list[str]


def first_screen(audit: Audit) -> FirstScreen:
    """Choose the contents of the first screen from the record."""
    forgotten = [answer for answer in audit.answers if answer.subset == "forget"]
    forgotten.sort(key=lambda answer: WORST_FIRST.index(answer.kind))  # stable: the order of the request stays
    return FirstScreen(_sentences(audit), forgotten[:ANSWERS], list(_limits(audit))[:LIMITS])


def _sentences(audit: Audit) -> str:
    """Return the verdict's count and, where criteria failed, the first of their names."""
    required = [one for one in audit.verdict.criteria if one.criterion.required]
    failed = [one for one in required if one.outcome == "fail"]
    passed = [one for one in required if one.outcome == "pass"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"{len(failed)} of {len(required)} required criteria failed: “{failed[0].criterion.name}”{more}."
    if audit.verdict.outcome == "pass":
        return f"All {len(passed)} required criteria that could be judged are met."
    return f"No required criterion failed, but not all of {len(required)} could be decided."


def _limits(audit: Audit) -> Iterator[str]:
    """Yield what limits the verdict, the weightiest first."""
    yield from (warning for warning in audit.warnings if warning.startswith("Collapse"))
    attack = strongest(usable(audit).attacks)
    if attack is not None:
        known = attack.reference is not None and attack.reference.value is not None
        beside = f", from the reference {number(attack.reference.value)}" if attack.reference and known else ""
        yield (
            f"{label(attack.name)} is the strongest attack: {attack.unit} {number(attack.after.value)}, "
            f"from the model before {number(attack.before.value)}{beside}"
            f"{f', chance {number(attack.chance)}' if attack.chance else ''}."
        )
    loose = next((one for one in audit.verdict.criteria if "control was loose" in one.words), None)
    if loose is not None:
        yield f"“{loose.criterion.name}” was judged without its control, which was loose: it bounds nothing."
    facts = audit.request.counts.get("forget", 0)
    if facts < FEW_FACTS:
        recall = audit.metric("recall", "forget", "after")
        reach = f": the interval of their recall is {interval(recall.value)}" if recall and recall.value.high else ""
        yield f"Only {facts} facts were asked{reach}. More rows could change the verdict."
    if not any(model.role == "reference" for model in audit.models):
        yield "No reference was retrained without the rows: what a model that never knew would answer is estimated."
    if straddling := sum(one.straddles for one in audit.verdict.criteria):
        yield f"In {straddling} of the criteria the interval straddles the limit: more rows could change the verdict."
    yield "Only these attacks were tried; another one, or more training, may still find a trace."


def strongest(attacks: list[Attack]) -> Attack | None:
    """Return the informative attack that exceeds the reference, or chance, most; None if none does by `NOTABLE`."""
    above = {one.name: excess(one, "after").value or 0.0 for one in attacks if one.informative}
    best = max(above, key=lambda name: above[name], default=None)
    return next((one for one in attacks if one.name == best and above[one.name] > NOTABLE), None)
