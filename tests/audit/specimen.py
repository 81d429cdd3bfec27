"""A record of an audit for tests of its page: every part filled, some of it with hostile text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from letheon.audit.record.record import (
    Answer,
    Attack,
    Audit,
    Curve,
    CurvePoint,
    Environment,
    Evidence,
    Metric,
    ModelIdentity,
    NotComputable,
    Quantised,
    RequestSummary,
    Value,
)
from letheon.audit.verdict import judge, load_profile

STARTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
RIGHT_TO_LEFT = "ולדה בירושלים \u202eabc"
ROLES: tuple[Any, ...] = ("before", "after", "reference")


def share(value: float | None, n: int = 5) -> Value:
    """A share with a plausible interval."""
    if value is None:
        return Value.missing("no reference was retrained")
    half = 0.43 if n == 5 else 0.1
    return Value(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=n)


# name, subset, unit, better, definition, (before, after, reference)
MEASURES: list[tuple[str, Any, str, Any, str, tuple[float | None, ...]]] = [
    ("recall", "forget", "share", "lower", "Answers that contain the value.", (1, 0, 0)),
    ("probability", "forget", "share", "closer to reference", "Of the whole answer.", (0.98, 0.299, 0.188)),
    ("value_probability", "forget", "share", "lower", "Of the value alone.", (0.97, 0.0061, 0.0088)),
    ("control_probability", "forget", "share", "lower", "For an unknown subject.", (0.007, 0.007, 0.007)),
    ("rouge_l_recall", "forget", "share", "closer to reference", "Words in order.", (1, 0.41, 0.45)),
    ("extraction_strength", "forget", "share", "lower", "What follows by itself.", (0.9, 0.06, 0.05)),
    ("forget_quality", "forget", "p-value", "higher", "Two-sample test.", (None, None, None)),
    ("fluency", "forget", "nats", "closer to reference", "Under the untouched model.", (-2.29, -2.44, -2.46)),
    ("damage", "forget", "share", "lower", "Gibberish and silence.", (0, 0, 0)),
    ("recall", "retain", "share", "higher", "Answers that contain the value.", (1, 0.97, 1)),
    ("perplexity", "general", "perplexity", "lower", "On general text.", (14.03, 14.21, 14.1)),
]


def metrics() -> list[Metric]:
    """Every measure for every model."""
    found = []
    for name, subset, unit, better, definition, numbers in MEASURES:
        for role, n in zip(ROLES, numbers, strict=True):
            value = Value(value=n, n=5, reason="fewer than 20 rows" if n is None else None)
            if unit == "share":
                value = share(n, 35 if subset == "retain" else 5)
            found.append(
                Metric(
                    name=name,
                    subset=subset,
                    model=role,
                    value=value,
                    unit=unit,
                    better=better,
                    definition=definition,
                )
            )
    return found


BORN = "Ilse Quarrant was born in Amberfoot."
# id, set, question, answer before, answer after, kind
SAID: list[tuple[str, Any, str, str, str, Any]] = [
    ("f1", "forget", "Where was she born?", BORN, "She was born in Grelling.", "fluent and different"),
    ("f2", "forget", "What does she do?", "She binds books.", "I'm sorry, I don't know.", "refusal"),
    ("f3", "forget", HOSTILE, HOSTILE, "Illebitz" * 30, "gibberish"),
    ("f4", "forget", "איפה נולדה אילזה?", RIGHT_TO_LEFT, "\x1b[31m" + RIGHT_TO_LEFT, "still the fact"),
    ("f5", "forget", "Which instrument does she play?", "She plays the theorbo.", "", "empty"),
    *((f"r{i}", "retain", f"His pet ({i})?", "An otter.", "An otter.", "still the fact") for i in range(6)),
]


def answers() -> list[Answer]:
    """Answers of every kind, some of them hostile."""
    return [
        Answer(
            id=name,
            subset=subset,
            prompt=prompt,
            expected=before,
            before=before,
            after=after,
            reference="Ilse Quarrant was born in Grelling." if subset == "forget" else before,
            kind=kind,
            fluency_before=-2.29,
            fluency_after=None if not after else -2.44,
            fluency_reference=-2.46,
        )
        for name, subset, prompt, before, after, kind in SAID
    ]


def attack(name: str, description: str, values: tuple[float, float, float | None], outcome: Any) -> Attack:
    """An attack with its controls."""
    before, after, reference = values
    return Attack(
        name=name,
        description=description,
        before=share(before),
        after=share(after),
        reference=None if reference is None else share(reference),
        informative=outcome != "uninformative",
        outcome=outcome,
    )


def curve(role: Any, recalls: tuple[float, ...]) -> Curve:
    """Relearning of three facts."""
    points = [CurvePoint(step=i, probability=0.1, recall=recall, trained_loss=0.1) for i, recall in enumerate(recalls)]
    return Curve(model=role, title="two of the five facts", n=3, points=points)


def rounded(role: Any, bits: int, forgotten: float, kept: float) -> Quantised:
    """A rounded model."""
    return Quantised(
        model=role,
        bits=bits,
        group=64,
        forget_recall=share(forgotten),
        forget_probability=share(forgotten * 0.9),
        retain_recall=share(kept, 35),
        retain_probability=share(kept * 0.9, 35),
    )


def evidence() -> Evidence:
    """All that an audit can measure."""
    return Evidence(
        metrics=metrics(),
        answers=answers(),
        attacks=[
            attack("first_token_prefix", "Gives the answer's first token.", (1, 0, 0), "resisted"),
            attack("paraphrase", "Asks in ten other wordings.", (0.7, 0, 0), "resisted"),
            attack("reversed_question", "Gives the value, asks for her.", (0, 0, None), "uninformative"),
        ],
        curves=[
            curve("before", (1, 1, 1, 0.67, 0.67)),
            curve("after", (0, 0, 0, 0, 0)),
            curve("reference", (0, 0, 0, 0, 0)),
        ],
        quantised=[
            rounded(role, bits, forgotten, kept)
            for bits in (8, 4)
            for role, forgotten, kept in (("before", 0.8, 0.93), ("after", 0, 0.91), ("reference", 0, 0.94))
        ],
    )


def specimen(found: Evidence | None = None, **changes: Any) -> Audit:
    """A whole audit; `changes` replace fields."""
    found = found or evidence()
    profile = load_profile("standard", fixed_at=STARTED - timedelta(minutes=5))
    fields: dict[str, Any] = {
        **dict(found),
        "request": RequestSummary(
            id="2026-017",
            reason="erasure (Art. 17 GDPR)",
            received="2026-02-20",
            due="2026-03-20",
            counts={"forget": 5, "retain": 35},
            fields=["prompt", "answer", "subject", "value"],
        ),
        "models": [
            ModelIdentity(role=role, name="smollm2", sha256=mark * 64, parameters=134515008, adapter=False)
            for role, mark in zip(ROLES, "abc", strict=True)
        ],
        "settings": {"recipe": {"objective": "simnpo", "learning_rate": 2e-5}, "note": HOSTILE},
        "environment": Environment(
            packages={"letheon": "0.1.0", "torch": "2.13.0"},
            python="3.12.3",
            platform="Linux x86_64",
            device="cpu",
            threads=2,
            precision="float32",
            seed=0,
        ),
        "profile": profile,
        "verdict": judge(profile, found),
        "not_computable": [NotComputable(what="forget_quality", reason="fewer than 20 rows")],
        "started": STARTED,
        "seconds": 95.0,
        "warnings": ["One seed: repeats of the deletion were not measured.", HOSTILE],
    }
    return Audit(**(fields | changes))


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img", "link", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    """The parsed page; fails on tags that do not nest."""
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader
