"""Membership inference as an attack: it tells forget rows from rows like them that no model saw.

Its value is the AUROC of the loss test, fixed beforehand because it has nothing to tune; the other tests of
`letheon.audit.measuring.membership` stand beside it as variants, with their curves.
"""

from __future__ import annotations

from letheon.audit.attacks.base import MeasuredAttack, Tried, Variant
from letheon.audit.measuring.membership import membership
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel

TEST = "loss"


def tell_members(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Run the membership tests of the forget rows against the holdout; None without a holdout."""
    if not plan.holdout:
        return None
    tests = membership(model, plan.forget, plan.holdout, seed=plan.settings.seed)
    chosen = tests[TEST]
    items = [Item(id=row.id, value=value) for row, value in zip(plan.forget, chosen.members, strict=True)]
    variants = tuple(Variant(name, test.auroc, tuple(test.roc)) for name, test in tests.items())
    return Tried(chosen.auroc, items, variants)


MEMBERSHIP = MeasuredAttack(
    "membership",
    "Tells the forgotten rows from rows that no model saw by how well the model predicts them.",
    "the request has no holdout: rows like the forgotten ones that no model saw",
    tell_members,
    chance=0.5,
    unit="AUROC",
)
