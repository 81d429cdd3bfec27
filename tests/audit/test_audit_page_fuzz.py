"""Whatever a record says, its page is whole: tags nest, nothing of the record becomes a tag, nothing is raised."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tests.audit.specimen import evidence, read, specimen

from letheon.audit.page import audit_figures
from letheon.audit.page.audit_figures import Attacked
from letheon.audit.page.page import render_audit
from letheon.audit.record.record import Audit, Evidence
from letheon.report import figures
from letheon.report.numbers import Point
from letheon.report.safe_text import visible

FUZZED = settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
TAGS = (
    "<script>1</script>",
    "<img src=x onerror=1>",
    "</style>",
    "</title>",
    "</svg>",
    "<!--",
    "]]>",
    "\"'&<>",
    "{{1}}",
)
ACTING = ("\x00", "\x1b", "\r", "\u202e", "\u2066", "\u2028", "\ufeff", "\U000e0041", "$x_1$", "\\")
HOSTILE = st.lists(st.sampled_from(TAGS + ACTING) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)).map(
    "".join
)
# What draws figures is left out of the whole pages, and fuzzed by itself: a figure takes a tenth of a second.
PLAIN = specimen(
    evidence().model_copy(update={"metrics": [], "attacks": [], "curves": [], "quantised": []})
).model_dump(mode="json")
FIXED = {"sha256", "kind", "subset", "role"}  # what the format does not leave open


def with_texts(value: Any, texts: list[str]) -> Any:
    """The record with its free texts replaced in turn by those given."""
    if isinstance(value, dict):
        return {key: inner if key in FIXED else with_texts(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_texts(inner, texts) for inner in value]
    if isinstance(value, str):
        texts.append(texts.pop(0))
        return texts[-1]
    return value


def tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every tag of a page with the names of its attributes; fails where tags do not nest."""
    return [(tag, tuple(attributes)) for tag, attributes in read(page).tags]


def record_with(texts: list[str]) -> Audit:
    """A record whose free texts, but for the profile's, are hostile."""
    changed = copy.deepcopy(PLAIN)
    for name in ("request", "answers", "models", "settings", "environment", "not_computable", "warnings", "absent"):
        changed[name] = with_texts(changed[name], texts)
    changed["verdict"]["words"] = texts[0]
    for found in changed["verdict"]["criteria"]:
        found["words"] = texts[-1]
    return Audit.model_validate_json(json.dumps(changed))


@FUZZED
@given(texts=st.lists(HOSTILE, min_size=1, max_size=6))
@example(texts=["".join(TAGS + ACTING)])
@example(texts=["", " "])
def test_no_text_of_a_record_becomes_a_tag(texts: list[str]) -> None:
    page = render_audit(record_with(list(texts)))
    words = {text: f"word {i}" if text.strip() else text for i, text in enumerate(texts)}  # what is equal stays equal
    harmless = render_audit(record_with([words[text] for text in texts]))
    assert sorted(tags(page)) == sorted(tags(harmless))
    assert not any(char in page for char in "\x00\x1b\r\u202e\u2066\u2028\ufeff\U000e0041")
    page.encode()


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(0, 1)
POINTS = st.builds(Point, st.none() | SHARES, st.none() | SHARES, st.none() | SHARES)
LINE = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=4)
NAMES = HOSTILE | st.sampled_from(["before", "after", "reference"])


@pytest.mark.filterwarnings("ignore:constrained_layout")  # the labels of the axes may be as long as they like
@settings(FUZZED, max_examples=5)
@given(
    name=NAMES,
    points=st.lists(POINTS, min_size=3, max_size=3),
    line=LINE,
    ratios=st.lists(st.floats(0, allow_infinity=False), min_size=1, max_size=4),
    shows=st.booleans(),
)
@example(name="".join(TAGS + ACTING), points=[Point(None)] * 3, line=[(0, 0)], ratios=[0.0, 1e308], shows=True)
def test_no_name_in_a_figure_becomes_a_tag(
    name: str, points: list[Point], line: list[tuple[float, float]], ratios: list[float], shows: bool
) -> None:
    before, after, reference = points
    words = visible(name)
    drawn = [
        figures.bars({words: {"after": after}}, words, words),
        figures.plane({words: (before, after)}, words, words, words),
        figures.curves({words: line}, words, words, words, level=0.5, reached={words: 1.0}),
        audit_figures.roc({words: line}, {words: words}, words),
        audit_figures.distributions({words: ratios}, words, words, words),
        audit_figures.attack_bars({words: [Attacked(words, before, after, reference, 0.25, shows)]}, words, words),
    ]
    for svg in drawn:
        found = {tag for tag, _ in tags(svg)}
        assert found <= {"svg", "g", "defs", "path", "use", "text", "tspan", "clippath", "rect", "style"}, found
        svg.encode()


def test_an_empty_record_has_a_page() -> None:
    tags(render_audit(specimen(Evidence())))
