"""Whatever bytes a file holds: it is read, or refused in words that name it and the place; nothing else is raised."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from letheon.core.atomic import read_json
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_examples

FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ("question", "answer", "prompt", "text", "messages", "value", "subject", "id", "perturbed_answer", "relation")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner),
    max_leaves=6,
)
ROW = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
MESSAGES = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", 1]), "content": VALUES})
        )
    }
)


def told(path: Path, content: bytes) -> str:
    """What a refusal says; empty where the file was read."""
    path.write_bytes(content)
    try:
        examples = read_examples(path)
    except InputError as error:
        refusal = error
    else:
        assert examples
        return ""
    assert path.name in refusal.problem
    assert refusal.remedy
    return refusal.problem


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
@FUZZED
@given(content=st.binary(max_size=200))
@example(content=b'"' * 99)
@example(content=b"[" * 5000)
@example(content=b"question,answer\n" + b"a" * 200_000 + b",b\n")
@example(content=b"question,answer\na,b,c,d\n")
@example(content=b"question,answer\n\x00,\x00\n")
@example(content=b'{"question": "a", "answer": ' + b"9" * 5000 + b"}")
@example(content=b"\xff\xfe{")
@example(content=b"PAR1PAR1")
def test_any_bytes_are_read_or_refused_in_words(tmp_path: Path, suffix: str, content: bytes) -> None:
    told(tmp_path / f"rows.{suffix}", content)


@FUZZED
@given(rows=st.lists(ROW | MESSAGES | VALUES, min_size=1, max_size=4), lines=st.booleans())
@example(rows=[{"question": "\ud800", "answer": "b"}], lines=True)
@example(
    rows=[{"messages": [{"role": "user", "content": "\udc00"}, {"role": "assistant", "content": "b"}]}], lines=True
)
@example(rows=[{"question": "a", "answer": "b", "value": "\ud800"}], lines=True)
@example(rows=[{"question": "a", "answer": "b", "subject": "\ud800"}], lines=True)
def test_any_row_is_read_or_refused_with_its_number(tmp_path: Path, rows: list[Any], lines: bool) -> None:
    name = "rows.jsonl" if lines else "rows.json"
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    problem = told(tmp_path / name, text.encode())
    if problem and "holds no rows" not in problem:
        assert any(f"{word} {number}" in problem for word in ("row", "line") for number in range(1, len(rows) + 1)), (
            problem
        )


@FUZZED
@given(content=st.binary(max_size=200))
@example(content=b"[" * 5000)
@example(content=b"9" * 5000)
def test_any_bytes_are_json_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert read_json(path) == json.loads(content)
