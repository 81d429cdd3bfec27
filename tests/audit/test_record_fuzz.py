"""Whatever an audit.json holds: it is a record, or refused in words that name the file; nothing else is raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.audit.specimen import specimen

from letheon.audit.record.record import Audit
from letheon.core.errors import InputError

FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = specimen().model_dump(mode="json")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a record."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in steps for place in places(inner, (*path, key)))][:2000]


PLACES = places(WHOLE)[1:]


def read(path: Path) -> Audit | None:
    """The record, or None where it was refused in words."""
    try:
        return Audit.read(path)
    except InputError as error:
        refusal = error
    assert path.name in refusal.problem
    assert refusal.remedy
    return None


@FUZZED
@given(content=st.binary(max_size=200))
@example(content=b'{"schema_version": "1"}')
@example(content=b'{"schema_version": ["1"]}')
@example(content=b"[" * 5000)
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.json"
    path.write_bytes(content)
    assert read(path) is None


@FUZZED
@given(place=st.sampled_from(PLACES), odd=ODD, remove=st.booleans())
@example(place=("answers", 0, "after"), odd="\ud800", remove=False)
@example(place=("settings",), odd={"a": "\ud800"}, remove=False)
@example(place=("seconds",), odd=float("nan"), remove=False)
def test_a_record_with_any_part_changed_is_read_or_refused(
    tmp_path: Path, place: tuple[Any, ...], odd: Any, remove: bool
) -> None:
    changed = json.loads(json.dumps(WHOLE))
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = odd
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(changed))
    record = read(path)
    if record is not None:
        record.write(tmp_path / "again.json")
        assert Audit.read(tmp_path / "again.json") == record
