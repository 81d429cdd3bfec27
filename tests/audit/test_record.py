"""The audit record survives a round trip, refuses what it cannot mean, and keeps to its published schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from letheon.audit.record.provenance import PARTS, Chain
from letheon.audit.record.record import (
    SCHEMA_FILE,
    Attack,
    Audit,
    Environment,
    Evidence,
    Metric,
    ModelIdentity,
    RequestSummary,
    Value,
    schema_text,
)
from letheon.audit.verdict import judge, load_profile
from letheon.core.errors import InputError, LetheonError

STARTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def specimen(**changes: Any) -> Audit:
    """A small record; `changes` replace fields."""
    profile = load_profile("standard", fixed_at=STARTED - timedelta(minutes=5))
    recall = Metric(
        name="recall",
        subset="forget",
        model="after",
        value=Value(value=0.0, low=0.0, high=0.43, n=5),
        unit="share",
        better="lower",
        definition="Share of greedy answers that contain the value.",
    )
    fields: dict[str, Any] = {
        "request": RequestSummary(id="r-1", reason="erasure", counts={"forget": 5, "retain": 35}),
        "models": [ModelIdentity(role="after", name="m", sha256="0" * 64, parameters=10, adapter=False)],
        "settings": {"method": "simnpo", "learning_rate": 2e-5, "scope": None},
        "environment": Environment(
            packages={"letheon": "0.1.0"},
            python="3.12",
            platform="Linux",
            device="cpu",
            threads=2,
            precision="float32",
            seed=0,
        ),
        "profile": profile,
        "metrics": [recall],
        "verdict": judge(profile, Evidence(metrics=[recall])),
        "started": STARTED,
        "seconds": 12.5,
    }
    return Audit(**(fields | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    audit = specimen()
    audit.write(tmp_path / "audit.json")
    assert Audit.read(tmp_path / "audit.json") == audit


def test_the_published_schema_is_current() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json.loads(schema_text()), (
        "regenerate it: python -c 'from letheon.audit.record.record import write_schema; write_schema()'"
    )


def test_a_written_record_satisfies_the_published_schema(tmp_path: Path) -> None:
    specimen().write(tmp_path / "audit.json")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((tmp_path / "audit.json").read_text(encoding="utf-8")), schema)


def test_every_field_of_the_schema_is_described() -> None:
    schema = json.loads(schema_text())
    schema["$defs"].pop("JsonValue")  # any JSON at all: pydantic gives it no description
    for name, part in {**schema["$defs"], "Audit": schema}.items():
        assert part.get("description"), name
        for field, facts in part.get("properties", {}).items():
            assert facts.get("description"), f"{name}.{field}"


def test_a_part_that_is_absent_has_a_reason(tmp_path: Path) -> None:
    audit = specimen(absent={"chain": "no ledger was given"})
    assert audit.absent["chain"] == "no ledger was given"
    assert set(audit.absent) == set(PARTS)
    assert all(audit.absent.values())
    chain = Chain(ledger="l", sequence=3, previous="0" * 64)
    assert "chain" not in specimen(chain=chain).absent
    with pytest.raises(ValidationError, match="chain is said to be absent"):
        specimen(chain=chain, absent={"chain": "lost"})


def test_a_record_from_before_there_were_such_parts_is_read(tmp_path: Path) -> None:
    specimen().write(tmp_path / "audit.json")
    content = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    for name in (*PARTS, "absent"):
        del content[name]
    (tmp_path / "audit.json").write_text(json.dumps(content), encoding="utf-8")
    assert Audit.read(tmp_path / "audit.json") == specimen()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_number_without_a_meaning_is_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValidationError):
        Value(value=number, n=1)
    smuggled = specimen(settings={"optimiser": {"rates": [1e-5, 0.0]}})
    rates: Any = smuggled.settings["optimiser"]
    rates["rates"][1] = number
    with pytest.raises(LetheonError, match=r"settings\.optimiser\.rates\[1\]"):
        smuggled.write(tmp_path / "audit.json")
    assert not (tmp_path / "audit.json").exists()


def test_a_missing_value_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        Value(value=None)
    assert Value.missing("no reference").value is None


def test_an_interval_does_not_run_backwards() -> None:
    with pytest.raises(ValidationError, match="backwards"):
        Value(value=0.5, low=0.6, high=0.4, n=3)


@pytest.mark.parametrize(("informative", "outcome"), [(False, "resisted"), (True, "uninformative")])
def test_an_uninformative_attack_cannot_be_recorded_as_resisted(informative: bool, outcome: Any) -> None:
    zero = Value(value=0.0, n=5)
    with pytest.raises(ValidationError, match="informative"):
        Attack(name="a", description="d", before=zero, after=zero, informative=informative, outcome=outcome)


def test_a_metric_is_found_by_name_set_and_model() -> None:
    audit = specimen()
    assert audit.metric("recall", "forget", "after") is audit.metrics[0]
    assert audit.metric("recall", "forget", "before") is None


def test_criteria_fixed_after_the_audit_began_are_refused() -> None:
    late = load_profile("standard", fixed_at=STARTED + timedelta(seconds=1))
    with pytest.raises(ValidationError, match="after the audit began"):
        specimen(profile=late)


def test_a_threshold_changed_afterwards_is_noticed(tmp_path: Path) -> None:
    specimen().write(tmp_path / "audit.json")
    content = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    content["profile"]["criteria"][0]["threshold"] = 1.0
    (tmp_path / "audit.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="do not match its hash"):
        Audit.read(tmp_path / "audit.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "schema version None"),
        ('{"schema_version": "2"}', "schema version '2'"),
        ('{"schema_version": "1"}', "Field required"),
    ],
)
def test_an_unreadable_record_is_refused_with_its_fault(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"audit\.json") as refused:
        Audit.read(path)
    assert said in str(refused.value)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Audit.read(tmp_path / "audit.json")
