"""Membership inference as an attack: are the forgotten rows told from rows like them that no model saw?

Its value is the AUROC of the loss test, fixed beforehand because it has nothing to tune; the other tests of
`letheon.audit.membership` stand beside it as variants, with their curves.
"""

from __future__ import annotations

from letheon.audit.attacks.base import Measured, Tried, Variant
from letheon.audit.evidence import Item
from letheon.audit.membership import membership
from letheon.audit.plan import Plan
from letheon.core.models import LanguageModel

TEST = "loss"


def tell_members(model: LanguageModel, plan: Plan) -> Tried | None:
    """Membership tests of the forgotten rows against the holdout; None without a holdout."""
    if not plan.holdout:
        return None
    found = membership(model, plan.forget, plan.holdout, seed=plan.settings.seed)
    chosen = found[TEST]
    items = [Item(id=row.id, value=value) for row, value in zip(plan.forget, chosen.members, strict=True)]
    variants = tuple(Variant(name, test.auroc, tuple(test.roc)) for name, test in found.items())
    return Tried(chosen.auroc, items, variants)


MEMBERSHIP = Measured(
    "membership",
    "Tells the forgotten rows from rows that no model saw by how well the model predicts them.",
    "the request has no holdout: rows like the forgotten ones that no model saw",
    tell_members,
    chance=0.5,
    unit="AUROC",
)
