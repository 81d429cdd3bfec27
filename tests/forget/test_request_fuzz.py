"""Whatever a request.json holds: it is read, or refused in words that name it; nothing else is raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from letheon.core.errors import InputError
from letheon.forget.request import Request

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
ROWS = st.lists(st.dictionaries(st.sampled_from(["question", "answer", "text", "value", "id"]), LEAVES), max_size=3)
GOOD = st.just([{"question": "Where?", "answer": "Oslo."}])
FIELDS = ("forget", "retain", "neighbours", "holdout", "general", "id", "reason", "received", "due", "other")
REQUEST = st.fixed_dictionaries(
    {"forget": GOOD | ROWS | LEAVES}, optional=dict.fromkeys(FIELDS[1:], GOOD | ROWS | LEAVES)
)
ROW = {"question": "a", "answer": "b"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that look like hub data sets are not looked up."""

    def refuse(source: str) -> Any:
        raise InputError(f"data set {source} could not be read", "not here")

    monkeypatch.setattr("letheon.core.rows.examples._hub_rows", refuse)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=REQUEST | LEAVES | ROWS)
@example(content={"forget": "\x00"})
@example(content={"forget": "x" * 5000})
@example(content={"forget": "."})
@example(content={"forget": [ROW], "id": 5})
@example(content={"forget": [ROW], "id": "\ud800"})
@example(content={"forget": [ROW], "reason": ["a"], "due": {"a": 1}})
def test_any_request_is_read_or_refused_in_words(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(content))
    try:
        request = Request.read(path)
    except InputError as error:
        refusal = error
    else:
        assert_whole(request, tmp_path / "again.json")
        return
    assert refusal.problem
    assert refusal.remedy


def assert_whole(request: Request, path: Path) -> None:
    """It has its rows and texts, and is the same after it was written."""
    assert request.forget
    for name in ("id", "reason", "received"):
        assert isinstance(getattr(request, name), str)
    request.write(path)
    assert Request.read(path) == request
