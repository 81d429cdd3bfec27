"""The audit is itself audited: planted fakes that it must fail, and an honest retrained model that it must pass.

Every model is audited by the standard profile beside the same model before, like the model of a user without a
retrained reference. A fake that passes is a false pass: then no verdict of this installation can be relied upon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from letheon.audit.conclusion import conclude
from letheon.audit.measuring.findings import ModelFindings, examine
from letheon.audit.measuring.judging import Judge, judge_answers
from letheon.audit.measuring.templates import Asking, template_of
from letheon.audit.plan import QUICK, AuditPlan, make_plan
from letheon.audit.record.evidence import Role
from letheon.audit.record.record import Audit
from letheon.audit.selftest.models import (
    ModelName,
    World,
    collapsed,
    filtered,
    make_world,
    memorised,
    refusing,
    rounded_back,
    template_only,
)
from letheon.audit.verdict import load_profile
from letheon.core.model.models import LanguageModel
from letheon.core.progress import progress


@dataclass(frozen=True)
class Planted:
    """A model that the self-test gives to the audit.

    Attributes:
        name: what it is called.
        what: what it is, in a few words.
        honest: whether it must pass.
        make: makes it.
    """

    name: str
    what: str
    honest: bool
    make: Callable[[World], LanguageModel]


PLANTED = (
    Planted("memorised", "the trained model, untouched, beside files that hide the facts", False, memorised),
    Planted("filtered", "the trained model behind an output filter", False, filtered),
    Planted("rounded back", "an update that rounding to 4 bits undoes", False, rounded_back),
    Planted("refusing", "the trained model, taught to refuse", False, refusing),
    Planted("template only", "facts forgotten under the chat template alone", False, template_only),
    Planted("collapsed", "a destroyed model", False, collapsed),
    Planted("retrained", "retrained without the rows", True, lambda world: world.retrained),
)


@dataclass(frozen=True)
class Tested:
    """The audit's verdict on one planted model.

    Attributes:
        name, what, honest: of the model.
        outcome: the verdict.
        failed: required criteria that it failed.
        right: whether the verdict is right: `pass` for the honest model, `fail` for a fake.
    """

    name: str
    what: str
    honest: bool
    outcome: str
    failed: list[str]
    right: bool


@dataclass(frozen=True)
class SelfTest:
    """The whole self-test.

    Attributes:
        model: on which the fakes were built.
        tested: one for each planted model.
        seconds: how long it took.
    """

    model: str
    tested: list[Tested]
    seconds: float

    @property
    def passed(self) -> bool:
        """True if every verdict is right."""
        return all(one.right for one in self.tested)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {"passed": self.passed, **asdict(self)}


def run_selftest(model: ModelName = "tiny", seed: int = 0, device: str = "auto") -> SelfTest:
    """Build the planted models and audit them.

    Args:
        model: `tiny` (random weights, taught on the spot) or `smollm2` (a real one, several times slower).
        seed: of everything.
        device: where the models run.
    """
    clock = time.monotonic()
    world = make_world(model, seed, device)
    return SelfTest(model, audit_planted(world), round(time.monotonic() - clock, 1))


def audit_planted(world: World) -> list[Tested]:
    """Audit each planted model."""
    settings = replace(QUICK, seed=world.seed, also=("steering",), relearn_learning_rate=world.lessons.relearning_rate)
    plan, asking = make_plan(world.before, world.request, settings), Asking.of(world.before)
    plan = replace(plan, came_with=template_of(world.before))
    tested = []
    with progress("auditing the planted models", len(PLANTED)) as advance:
        before = examine(world.before, plan, ignore)
        for number, planted in enumerate(PLANTED, start=1):
            after, came_with = asking.alike(planted.make(world))
            found = examine(after, replace(plan, came_with=came_with), ignore)
            tested.append(_tested(planted, concluded(world, plan, before, found)))
            advance(number, planted.name)
    return tested


def concluded(
    world: World, plan: AuditPlan, before: ModelFindings, after: ModelFindings, reference: ModelFindings | None = None
) -> Audit:
    """Conclude the audit of one model among many, by default without a reference."""
    began = datetime.now(UTC), time.monotonic()
    judge = Judge(world.base, world.base.name)
    findings: dict[Role, ModelFindings] = {"before": before, "after": after}
    findings |= {} if reference is None else {"reference": reference}
    judged = judge_answers(judge, findings)
    return conclude(findings, plan, world.request, judge, judged, load_profile("standard", began[0]), began)


def ignore(stage: str) -> None:
    """Ignore the stages of one audit among many."""


def _tested(planted: Planted, record: Audit) -> Tested:
    verdict = record.verdict
    failed = [one.criterion.name for one in verdict.criteria if one.criterion.required and one.outcome == "fail"]
    right = verdict.outcome == ("pass" if planted.honest else "fail")
    return Tested(planted.name, planted.what, planted.honest, verdict.outcome, failed, right)
