"""The page of an audit: complete, self-contained, and unmoved by hostile text."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta

import pytest
from tests.audit.specimen import (
    BORN,
    HOSTILE,
    SAID,
    STARTED,
    answers,
    attack,
    curve,
    evidence,
    read,
    share,
    specimen,
)

from letheon.audit.attacks import ATTACKS
from letheon.audit.ledger.entry import Commitments
from letheon.audit.page.drawings import FAMILIES
from letheon.audit.page.limits import rule
from letheon.audit.page.page import checks_of, detection_of, render_audit
from letheon.audit.page.rows import MOST_TEXT, row_table
from letheon.audit.record.evidence import AttackVariant
from letheon.audit.record.provenance import Chain, Copy, Output, Procedure, Retention, Scope, SubjectModel
from letheon.audit.record.record import (
    Evidence,
    Item,
    Metric,
    Value,
)
from letheon.audit.verdict import judge, load_profile


@pytest.fixture(scope="module")
def page() -> str:
    return render_audit(specimen())


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
    links = {attributes["href"] for tag, attributes in reader.tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {"compare.html"}, (
        "the page of `letheon probe compare`"
    )
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
        "procedure": Procedure(
            method="simnpo", settings={"seed": 3}, versions={"torch": "2.13"}, operator="me", stopped="goals reached"
        ),
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
        "goals reached",
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
