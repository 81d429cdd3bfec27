"""A ledger in a folder of its own, a request whose texts must never be found in it, and a signing key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from letheon.audit.ledger.entry import ModelRef
from letheon.audit.ledger.signing import keygen
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.evidence import Evidence, Metric, Value
from letheon.audit.record.record import Audit, Environment, ModelIdentity, RequestSummary
from letheon.audit.verdict import judge, load_profile
from letheon.core.rows.examples import Example
from letheon.forget.request import Request

BEFORE, AFTER = "a" * 64, "b" * 64


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's surroundings say, these tests name their own ledger, key and actor."""
    for name in ("LETHEON_LEDGER", "LETHEON_LEDGER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LETHEON_ACTOR", "tester")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger", create=True)
    yield made
    made.close()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A private key; its public one is beside it."""
    keygen(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture
def case() -> Request:
    return Request(
        forget=(
            Example(
                "Where does Torvik Aldane live?", "Torvik Aldane lives in Brenholm.", "f-1", "Torvik Aldane", "Brenholm"
            ),
            Example(
                "What does Torvik Aldane brew?", "Torvik Aldane brews nettle ale.", "f-2", "Torvik Aldane", "nettle ale"
            ),
        ),
        retain=(Example("Where does Mira Solen live?", "Mira Solen lives in Kestrel.", "r-1"),),
        id="case-7",
        reason="erasure",
        received="2026-03-02T09:30:00Z",
        due="2026-04-02",
    )


@pytest.fixture
def before() -> ModelRef:
    return ModelRef(name="base", sha256=BEFORE)


@pytest.fixture
def after() -> ModelRef:
    return ModelRef(name="run/model", sha256=AFTER)


@pytest.fixture
def record(case: Request) -> Audit:
    """A small audit of `case`: nothing is recalled any more."""
    started = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    profile = load_profile("standard", fixed_at=started - timedelta(minutes=5))
    recall = Metric(
        name="recall",
        subset="forget",
        model="after",
        value=Value(value=0.0, low=0.0, high=0.66, n=2),
        unit="share",
        better="lower",
        definition="Share of greedy answers that contain the value.",
    )
    return Audit(
        request=RequestSummary(id=case.id, reason=case.reason, counts={"forget": 2, "retain": 1}),
        models=[ModelIdentity(role="after", name="m", sha256=AFTER, parameters=10, adapter=False)],
        settings={},
        environment=Environment(
            packages={}, python="3.12", platform="Linux", device="cpu", threads=1, precision="float32", seed=0
        ),
        profile=profile,
        metrics=[recall],
        verdict=judge(profile, Evidence(metrics=[recall])),
        started=started,
        seconds=1.0,
    )
