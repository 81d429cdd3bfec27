"""The page of an audit: complete, self-contained, and unmoved by hostile text."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from letheon.audit.attacks import ATTACKS
from letheon.audit.ledger.entry import Commitments
from letheon.audit.page import audit_figures
from letheon.audit.page.audit_figures import Attacked
from letheon.audit.page.drawings import FAMILIES
from letheon.audit.page.limits import rule
from letheon.audit.page.page import checks_of, detection_of, render_audit
from letheon.audit.page.rows import MOST_TEXT, row_table
from letheon.audit.record.evidence import AttackVariant
from letheon.audit.record.provenance import Chain, Copy, Output, Procedure, Retention, Scope, SubjectModel
from letheon.audit.record.record import (
    Answer,
    Attack,
    Audit,
    Curve,
    CurvePoint,
    Environment,
    Evidence,
    Item,
    Metric,
    ModelIdentity,
    NotComputable,
    Quantised,
    RequestSummary,
    Value,
)
from letheon.audit.verdict import judge, load_profile
from letheon.report import figures
from letheon.report.numbers import interval, number
from letheon.report.safe_text import clip, duration, moment, visible

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
    points = [CurvePoint(step=step, probability=0.1, recall=recall) for step, recall in enumerate(recalls)]
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


@pytest.fixture(scope="module")
def page() -> str:
    return render_audit(specimen())


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


def test_the_sections_stand_in_order(page: str) -> None:
    titles = [re.sub(r"<.*?>", "", title) for title in re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)]
    assert titles == [
        "Passed",
        "What passed and what did not",
        "Before you rely on it",
        "The request",
        "Evidence Key numbers",
        "What the models say",
        "Forgetting against utility",
        "Truth ratios",
        "Attacks",
        "Membership",
        "Relearning",
        "Rounding the weights",
        "Can the deletion be noticed?",
        "Checks of the instruments",
        "Detail Criteria, as fixed",
        "Row by row",
        "What was handled, and how",
        "Not computable",
        "How it was done",
    ]


@pytest.mark.parametrize(
    ("outcome", "headline"), [("pass", "Passed"), ("fail", "Failed"), ("inconclusive", "Inconclusive")]
)
def test_the_verdict_is_in_large_words(outcome: str, headline: str) -> None:
    audit = specimen()
    verdict = audit.verdict.model_copy(update={"outcome": outcome, "words": "What it means."})
    reader = render_audit(audit.model_copy(update={"verdict": verdict}))
    assert f"<h1>{headline}</h1>" in reader
    assert "What it means." in reader


def test_nothing_is_loaded_from_outside_and_nothing_runs_but_the_search(page: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http://" not in without_namespaces
    assert "https://" not in without_namespaces
    reader = read(page)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert all(attributes["href"].startswith("#") for tag, attributes in reader.tags if tag == "a")
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == 1 == sum(tag == "script" for tag, _ in reader.tags)
    allowed = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in page
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in {"src", "srcset", "action"}}
    assert not re.search(r"url\((?!#)|@import", page)


def test_hostile_text_is_shown_and_does_not_act(page: str) -> None:
    assert "<script>alert" not in page
    text = read(page).text
    assert text.count(HOSTILE) >= 4  # question, expected answer, answer before, warning
    assert "\x1b" not in page
    assert "␛[31m" in text


def test_text_of_either_direction_keeps_to_its_element(page: str) -> None:
    assert "\u202e" not in page
    assert "ולדה בירושלים ⟨U+202E⟩abc" in page
    holders = re.findall(r"<[^>]*>(?=[^<]*ולדה)", page)
    assert holders
    assert all('dir="auto"' in holder for holder in holders)


def test_characters_that_act_unseen_are_shown() -> None:
    assert visible("a\x00b\x7f\x85\u2066\u200b\ufeff\ud800\U000e0041") == (
        "a␀b␡⟨U+0085⟩⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩\ufffd⟨U+E0041⟩"
    )
    kept = "tabs\t, lines\n, עברית, e\u0301, \U0001f469\u200d\U0001f52c"
    assert visible(kept) == kept
    assert clip("abcdef", 4) == "abcd … (2 more characters)"


def test_identifiers_are_unique(page: str) -> None:
    identifiers = [attributes["id"] for _, attributes in read(page).tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_same_record_gives_the_same_page(page: str) -> None:
    assert render_audit(specimen()) == page


def test_every_number_has_its_interval_and_every_gap_its_reason(page: str) -> None:
    text = " ".join(read(page).text.split())
    assert "0.97 0.87 to 1.00, n 35" in text
    assert "not computable fewer than 20 rows" in text


def test_the_verdict_says_in_words_what_failed_and_what_was_not_decided(page: str) -> None:
    reader = read(page)
    text = " ".join(reader.text.split())
    counts = {title: int(n) for title, n in re.findall(r"<h3>([^<]*) <small>(\d+)</small></h3>", page)}
    assert sum(counts.values()) == len(specimen().verdict.criteria)
    assert counts["Passed"] > 0
    for found in specimen().verdict.criteria:
        assert f"{found.criterion.name}. {found.words}" in text
    assert text.index("What passed") < text.index("Limits of any such audit") < text.index("Key numbers")


def test_intervals_that_decide_are_explained_as_a_family() -> None:
    strict = load_profile("strict", fixed_at=STARTED - timedelta(minutes=5))
    verdict = judge(strict, evidence())
    assert verdict.family
    text = " ".join(read(render_audit(specimen(profile=strict, verdict=verdict))).text.split())
    assert f"{len(verdict.family.criteria)} criteria are decided by whole intervals" in text
    assert "one level of 2.50 % by Holm's procedure" in text
    assert "Holm's level" in text


def test_every_answer_is_in_the_table_and_those_that_need_attention_stand_first(page: str) -> None:
    table = row_table(specimen())
    assert table.total == len(SAID)
    assert [row.answer.id for row in table.rows[:3]] == ["f3", "f4", "f5"]
    assert [row.faults for row in table.rows[:3]] == [["damaged: gibberish"], ["still given"], ["damaged: empty"]]
    assert table.attention == 3
    text = " ".join(read(page).text.split())
    assert "11 rows were asked; 3 need attention and stand first" in text
    assert "(empty)" in text


def test_a_row_says_how_probable_it_is_and_what_brought_it_back() -> None:
    found = evidence()
    measured = [
        Metric(
            name=name,
            subset="forget",
            model="after",
            value=share(0.3),
            unit="share",
            better="lower",
            definition="",
            items=[Item(id="f1", value=value), Item(id="f2", value=None)],
        )
        for name, value in (("probability", 0.123), ("recall", 0.0))
    ]
    told = attack("role_play", "Plays.", (1, 0.2, 0), "recovered").model_copy(
        update={"items": [Item(id="f1", value=1.0, detail={"after": BORN}), Item(id="f2", value=0.0)]}
    )
    guessed = attack("multiple_choice", "Offers four.", (1, 0.5, 0.25), "undecided").model_copy(
        update={"chance": 0.25, "items": [Item(id=name, value=1.0) for name in ("f1", "f2")]}
    )
    found = found.model_copy(update={"metrics": measured, "attacks": [told, guessed]})
    first, second = row_table(specimen(found)).rows[:2]
    assert (first.answer.id, first.faults) == ("f1", ["brought back"])
    assert (first.probability, first.recalled) == ({"after": 0.123}, {"after": False})
    assert first.brought_back == [("Role play", BORN, 0.0), ("Multiple choice", "", 0.25)]
    assert second.answer.id != "f2", "a right guess by itself brings nothing back"


def test_rows_of_one_id_keep_their_own_numbers() -> None:
    found = evidence()
    twice = [found.answers[0], found.answers[0]]
    recall = next(metric for metric in found.metrics if metric.name == "recall" and metric.model == "after")
    recall = recall.model_copy(update={"items": [Item(id="f1", value=1.0), Item(id="f1", value=0.0)]})
    table = row_table(specimen(found.model_copy(update={"answers": twice, "metrics": [recall]})))
    assert [row.recalled["after"] for row in table.rows] == [True, False]


def test_a_kept_row_that_was_lost_needs_attention() -> None:
    lost = answers()[5].model_copy(update={"kind": "fluent and different"})
    table = row_table(specimen(evidence().model_copy(update={"answers": [lost]})))
    assert table.rows[0].faults == ["lost"]


def test_ten_thousand_rows_make_a_page_of_bounded_size() -> None:
    fine = answers()[0].model_copy(update={"expected": "x" * 5000})
    bad = fine.model_copy(update={"kind": "gibberish", "id": "bad"})
    many = [fine.model_copy(update={"id": f"r{i}"}) for i in range(9990)] + [bad] * 10
    found = Evidence(answers=many)
    page = render_audit(specimen(found, settings={"rows": [f"r{i}" for i in range(10_000)]}))
    assert len(page) < 4_000_000
    text = " ".join(read(page).text.split())
    assert "10000 rows were asked; 10 need attention" in text
    assert "The first 1000 are shown; all of them are in audit.json." in text
    assert page.count('data-state="attention"') == 10
    assert f"({5000 - MOST_TEXT:,} more characters)" in text


def test_every_attack_has_its_family() -> None:
    named = {name for names in FAMILIES.values() for name in names}
    assert named == {attack.name for attack in ATTACKS}


def test_checks_and_what_can_be_noticed_are_evidence() -> None:
    settings = {
        "checks": [{"name": "cached_decoding", "outcome": "failed", "detail": HOSTILE}, "no check"],
        "detection": {
            "after": {
                "score": {"value": 0.71, "low": 0.6, "high": 0.8, "n": 5},
                "features": {"refusal": 0.9, "odd": None},
                "controls": "the holdout",
                "rows": [5, 5],
            },
            "before": "nothing",
        },
    }
    text = " ".join(read(render_audit(specimen(settings=settings))).text.split())
    for said in ("Cached decoding", "0.71 0.60 to 0.80", "refusal 0.90", "Compared with the holdout.", HOSTILE):
        assert said in text, said
    assert checks_of({"checks": {}}) == checks_of({}) == detection_of({"detection": []}) == []


def test_the_dossier_is_told_and_what_is_absent_has_its_reason(page: str) -> None:
    text = " ".join(read(page).text.split())
    assert (
        "Absent: scope, model from which the rows were to go, procedure, model that came out, place in the ledger, "
        "what is kept (this record was made from the models and the request alone)." in text
    )
    parts = {
        "scope": Scope(
            counts={"forget": 5},
            scheme="HMAC",
            commitments=Commitments(key="k1", rows={"forget": ["a" * 64] * 5}),
            found="by hand",
            not_scoped=["backups"],
        ),
        "subject": SubjectModel(
            name=HOSTILE,
            sha256="a" * 64,
            files={"model.safetensors": "b" * 64},
            lineage="unknown",
            derivatives=[Copy(kind="gguf", sha256="c" * 64, holds=["2026-017"])],
        ),
        "procedure": Procedure(method="simnpo", settings={"seed": 3}, versions={"torch": "2.13"}, operator="me"),
        "output": Output(folder="run/model", files={"model.safetensors": "d" * 64}),
        "chain": Chain(ledger="l1", sequence=7, previous="e" * 64),
        "retention": Retention(record="ten years", rows="deleted at closing", key="destroyed at closing"),
    }
    page = render_audit(specimen(**parts))
    text = " ".join(read(page).text.split())
    for said in (
        "5 forget, under key k1; HMAC",
        "backups",
        "Hashes of its files (1)",
        "gguf cccccccccccc… still holds 2026-017",
        "simnpo",
        "run/model",
        "l1, entry 7",
        "e" * 64,
        "destroyed at closing",
    ):
        assert said in text, said
    assert "Absent:" not in text


def test_criteria_show_what_was_fixed_and_when(page: str) -> None:
    text = " ".join(read(page).text.split())
    assert "fixed on 2 March 2026, 09:25 UTC, before the audit began on 2 March 2026, 09:30 UTC" in text
    assert "at most 1.1 × before" in text
    for criterion in specimen().profile.criteria:
        assert rule(criterion) in text


def test_an_audit_that_measured_nothing_still_has_a_page() -> None:
    text = read(render_audit(specimen(Evidence()))).text
    for said in (
        "Nothing was measured",
        "No answers were recorded",
        "No attack was run",
        "No truth ratios were measured",
        "No membership test has a curve",
        "Relearning was not tried",
    ):
        assert said in text


def test_many_attacks_of_two_units_and_both_curves_have_their_figures() -> None:
    found = evidence()
    told = AttackVariant(name=HOSTILE, model="after", value=share(0.6), roc=[(0.0, 0.0), (0.2, 0.6), (1.0, 1.0)])
    membership = attack("membership", HOSTILE, (0.9, 0.6, 0.5), "undecided")
    membership = membership.model_copy(update={"unit": "AUROC", "chance": 0.5, "variants": [told]})
    many = [attack(f"attack_{i}", HOSTILE, (1, 0.2, 0), "recovered") for i in range(14)]
    back = curve("after", (0, 0.2, 0.6)).model_copy(
        update={"title": HOSTILE, "trained_on": "unrelated", "steps_to_half": Value(value=1.75, n=3)}
    )
    never = curve("reference", (0, 0, 0)).model_copy(update={"steps_to_half": Value.missing("not within 2 steps")})
    page = render_audit(
        specimen(
            found.model_copy(
                update={"attacks": [*found.attacks, *many, membership], "curves": [*found.curves, back, never]}
            )
        )
    )
    assert page.count("<script") == 1
    text = " ".join(read(page).text.split()).casefold()
    for said in (
        "attack 13",
        "undecided",
        "auroc, chance 0.50",
        "1.75",
        "not within 2 steps",
        "members found",
        "others",
    ):
        assert said in text, said


def test_without_a_reference_the_page_says_so() -> None:
    found = evidence()
    found = found.model_copy(update={"metrics": [m for m in found.metrics if m.model != "reference"]})
    text = read(render_audit(specimen(found))).text
    assert "No reference model was retrained" in " ".join(text.split())


def measured(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    """Numbers for a figure, without the record."""
    return SimpleNamespace(value=value, low=low, high=high)


def test_figures_take_plain_numbers_and_any_series() -> None:
    values = {"before": measured(0.9, 0.8, 1.0), "after": measured(None), "our own": measured(0.0)}
    drawn = [
        figures.bars({"first $x_1$ & <b>": values}, "share", "Bars"),
        figures.dots({"first": values}, "share", "Dots"),
        figures.plane({name: (value, value) for name, value in values.items()}, "x", "y", "Plane"),
        figures.curves({"before": [(0, 1.0), (1, 0.5)], "our own": [(0, 0.0), (1, 0.0)]}, "x", "y", "Curves"),
        figures.curves({"after": [(0, 0.0), (2, 0.5)]}, "x", "y", "Half", level=0.5, reached={"after": 2.0}),
        audit_figures.roc({"after": [(0, 0.0), (1, 1.0)]}, {"after": "0.50"}, "ROC"),
        audit_figures.distributions({"before": [0.0, 1e9], "none": [], "one": [1.0]}, "ratio", "Ratios", "equal"),
        audit_figures.distributions({"after": [float(i + 1) for i in range(5000)]}, "ratio", "Many"),
        audit_figures.attack_bars(
            {"Family": [Attacked("a" * 99, values["before"], values["after"], values["before"], 0.5, shows=True)]},
            "AUROC",
            "Attacks",
        ),
    ]
    for svg in drawn:
        assert svg.startswith("<svg")
        assert svg.endswith("</svg>")
        read(svg)
    assert "first $x_1$ &amp; &lt;b&gt;" in drawn[0]
    assert "not computable" in drawn[0]


def test_names_of_points_that_lie_together_stand_in_a_column_each_joined_to_its_point() -> None:
    def joining(points: dict[str, tuple[float, float]]) -> int:
        measures = {name: (measured(x), measured(y)) for name, (x, y) in points.items()}
        return figures.plane(measures, "x", "y", "Plane").count("stroke-width: 0.6; stroke-linecap: square")

    apart = {"before": (1.0, 0.9), "npo": (0.2, 0.3), "simnpo": (0.1, 0.6)}
    alone = joining(apart)
    assert joining(apart | {"kuda": (0.1, 0.6), "rmu": (0.1, 0.6), "ga": (0.1, 0.6)}) - alone == 6


def test_a_figure_is_described_and_follows_the_theme() -> None:
    svg = figures.curves({"after": [(0, 0.0), (4, 0.5)]}, "steps", "recall", 'said "so"')
    assert 'role="img" aria-label="said &quot;so&quot;"' in svg
    assert "var(--after, " in svg
    assert "<text" in svg
    assert svg == figures.curves({"after": [(0, 0.0), (4, 0.5)]}, "steps", "recall", 'said "so"')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not computable"),
        (0, "0"),
        (0.4, "0.40"),
        (1, "1.00"),
        (-2.436, "−2.44"),
        (12.34, "12.3"),
        (1240.4, "1,240"),
        (0.00712, "0.0071"),
        (0.000031, "3.1e−05"),
        (0.0999, "0.10"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_reads_as_from_to() -> None:
    assert interval(measured(0.5, 0.18, 0.74)) == "0.18 to 0.74"
    assert interval(measured(0.5)) == ""


def test_times_and_limits_read_well() -> None:
    assert moment(datetime(2026, 3, 2, 1, 5, tzinfo=UTC)) == "2 March 2026, 01:05 UTC"
    assert [duration(s) for s in (45, 720, 12240)] == ["45 s", "12 min", "3.4 h"]
    criteria = {criterion.metric: criterion for criterion in load_profile("standard").criteria}
    assert rule(criteria["damage"]) == "at most 0.2"
    assert rule(criteria["attack:value_prefix"]) == "at most that of reference; without it, at most 0"
    assert rule(criteria["attack:*"]) == "at most reference + 0.2; without it, at most 0.2"
    assert rule(criteria["value_probability"]) == "at most 2 × control; without it, at most 2 × holdout"
