"""Audits side by side: their numbers, what stands against comparing them, and the page."""

from __future__ import annotations

from letheon.audit.record.record import Audit
from letheon.compare.audits import side_by_side
from letheon.compare.page import render_audits
from tests.audit.specimen import HOSTILE, evidence, read, specimen


def with_recall(value: float) -> Audit:
    """The specimen with another recall of the forgotten after the deletion."""
    found = evidence()
    metrics = [
        metric.model_copy(update={"value": metric.value.model_copy(update={"value": value, "low": 0.0, "high": 1.0})})
        if (metric.name, metric.subset, metric.model) == ("recall", "forget", "after")
        else metric
        for metric in found.metrics
    ]
    return specimen(found.model_copy(update={"metrics": metrics}))


def test_audits_of_one_kind_share_their_controls_and_raise_no_doubts() -> None:
    found = side_by_side({"one": with_recall(0.0), "two": with_recall(0.4)})
    assert found.doubts == []
    assert list(found.others) == ["before", "reference"]
    assert [entry.numbers["forget recall"] for entry in found.entries] == [0.0, 0.4]


def test_what_stands_against_a_comparison_is_said() -> None:
    other = specimen()
    other = other.model_copy(
        update={
            "request": other.request.model_copy(update={"id": "2026-018"}),
            "models": [model.model_copy(update={"sha256": "f" * 64}) for model in other.models],
            "attacks": other.attacks[:1],
        }
    )
    found = side_by_side({"one": specimen(), "two": other})
    assert list(found.others) == ["before (one)", "before (two)", "reference (one)", "reference (two)"]
    text = " ".join(found.doubts)
    for said in ("different requests", "different models", "references are different", "different attacks"):
        assert said in text
    assert "different criteria" not in text


def test_the_page_tells_verdicts_attacks_and_doubts_and_escapes_names() -> None:
    page = render_audits(side_by_side({"one": specimen(), HOSTILE: with_recall(1.0)}), ["a/audit.json", HOSTILE])
    assert "<script" not in page
    text = " ".join(read(page).text.split())
    for said in ("2 audits", "one passes", "First token prefix", "shows nothing", "What is gone", HOSTILE):
        assert said in text, said
    assert "Before you compare" not in text
