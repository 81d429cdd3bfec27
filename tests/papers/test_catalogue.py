"""The catalogue of papers: complete, cheap to list, and honest in its badges."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.core.registry import methods
from letheon.jobs.papers import PaperJob
from letheon.papers import catalogue
from letheon.papers.catalogue import (
    Evidence,
    Outcome,
    Paper,
    Scale,
    badge,
    badge_reason,
    is_current,
    method_badge,
    paper,
    papers,
    read_catalogue,
    record,
)
from letheon.papers.outcome import OLD_RULE, RULE, TIES_DECIDED

KEY_TEXT = """
u-can melu norming gu mote gated-swinrmt lifelong secondary-sinks reglu rule
uer metacognition few-shot-memories pavlovian intact retrieval-heads word-features fpf survey ofmu
rwku lineas ad-memorability reweaving austeer binding cure kuda tot-memorability attention-shifting
compression-decay view-batch nalaformer emergent-misalignment gere stability-gap long-tail sae-unlearning
hyperattention unforgettable rhea refresh refusal-tokens moral-direction memorized-images lcbm negative-bias
normad rft egonormia lifelong-review fit post-training normgenesis k-fade resonance outlandish
"""
KEYS = KEY_TEXT.split()


def an_outcome(verdict: str = "holds", key: str = "gu", **changes: object) -> Outcome:
    outcome = Outcome(
        key=key,
        claim="a is above b",
        baselines=["plain"],
        measured={"slope": 1.98, "not computable": math.nan},
        interval=[1.9, 2.1],
        verdict=verdict,
        seeds=[0, 1],
        seconds=1.5,
        figures={"slope": "<svg xmlns='http://www.w3.org/2000/svg'/>"},
        rows=[{"seed": 0, "slope": 1.98}],
    )
    return replace(outcome, **changes)


def a_paper(*methods: str) -> Paper:
    return replace(paper("gu"), methods=methods)


# The list


def test_our_catalogue_has_57_papers_numbered_in_order() -> None:
    assert [entry.number for entry in read_catalogue("letheon.papers")] == list(range(1, 58))


def test_the_keys_are_the_published_ones() -> None:
    assert [entry.key for entry in read_catalogue("letheon.papers")] == KEYS


def test_every_paper_says_what_it_is_in_full() -> None:
    for entry in papers():
        assert all((entry.title, entry.room, entry.gives, entry.claim)), entry.key
        assert re.fullmatch(r"\d{4}\.\d{5}", entry.arxiv or ""), entry.key
        assert re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", entry.date or ""), entry.key
        # an identifier begins with the year and month it was announced in, at most one after submission
        year, month = map(int, (entry.date or "").split("-"))
        announced = int((entry.arxiv or "")[:2]) * 12 + int((entry.arxiv or "")[2:4])
        assert abs((year - 2000) * 12 + month - announced) <= 1, entry.key


def test_a_room_is_a_folder_or_a_file_of_the_package() -> None:
    package = catalogue.FOLDER.parent
    for entry in papers():
        for room in (one for one in entry.room.split(", ") if "/" in one):
            assert (package / room).is_dir() or (package / f"{room}.py").is_file(), f"{entry.key}: {room}"


def test_a_full_scale_does_something_else_and_a_paper_without_one_says_so() -> None:
    """The reproduction, or what it shares with others and gives the scale to, asks for the scale's name."""

    def asks(file: Path) -> bool:
        return any(text in file.read_text(encoding="utf-8") for text in ("scale.name", ".at_scale("))

    for entry in papers():
        file = catalogue.FOLDER / f"{entry.key.replace('-', '_')}.py"
        imported = re.findall(r"from letheon\.papers\.common\.(\w+) import", file.read_text(encoding="utf-8"))
        helped = any(asks(catalogue.FOLDER / "common" / f"{name}.py") for name in imported)
        assert (asks(file) or helped) == entry.full, entry.key


def test_every_file_of_the_folder_belongs_to_a_paper() -> None:
    """A file whose name is no key would be a reproduction that nobody can run."""
    machinery = {"__init__", "catalogue", "folder", "outcome", "page", "results_page"}
    files = {file.stem for file in Path(catalogue.__file__).parent.glob("*.py")} - machinery
    assert files <= {entry.key.replace("-", "_") for entry in papers()}
    assert {entry.module.rpartition(".")[2] for entry in papers() if not entry.planned} == files


def test_every_paper_names_its_primary_parts_and_has_seeds_enough() -> None:
    for entry in papers():
        if not entry.planned:
            tree = ast.parse((catalogue.FOLDER / f"{entry.key.replace('-', '_')}.py").read_text(encoding="utf-8"))
            targets = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
            assert "PRIMARY" in {getattr(target, "id", "") for target in targets}, entry.key
            assert entry.seeds in (5, 8), entry.key


def test_seeds_are_the_papers_own_and_a_scale_that_it_lacks_is_refused() -> None:
    assert PaperJob("uer").scale.seeds == tuple(range(8))
    assert PaperJob("survey").scale.seeds == tuple(range(5))
    assert PaperJob("melu", full=True, seeds=2).scale == Scale("full", (0, 1))
    with pytest.raises(InputError, match="has one scale"):
        PaperJob("uer", full=True).plan()


def test_a_package_of_ones_own_adds_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "more_papers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    module = package / "tiny_claim.py"
    module.write_text("PRIMARY = ('fast',)\ndef reproduce(scale, found): found.decide(scale.name, [1, 2, 3], above=-1)")
    entry = 'number = 58\nkey = "tiny-claim"\ntitle = "T"\nroom = "forget"\ngives = "g"\nclaim = "c"\n'
    (package / "catalogue.toml").write_text(f"[[paper]]\n{entry}")
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = read_catalogue("more_papers")
    assert (found.key, found.planned) == ("tiny-claim", False)
    outcome = found.reproduce(Scale(seeds=(0, 1, 2)))
    assert (outcome.key, outcome.claim, outcome.verdict, outcome.seeds) == ("tiny-claim", "c", "holds", [0, 1, 2])
    assert outcome.measured == {"fast": 2}
    assert outcome.primary["fast"]["verdict"] == "holds"
    with pytest.raises(LetheonError, match="'full' was not named"):
        found.reproduce(Scale("full"))
    (package / "catalogue.toml").write_text(f"[[paper]]\n{entry}colour = 1\n")
    with pytest.raises(InputError, match="colour"):
        read_catalogue("more_papers")


def test_listing_papers_does_not_import_torch() -> None:
    code = (
        "import sys; from letheon.papers.catalogue import papers; assert papers(); "
        "from letheon.papers.page import listing_json; listing_json(); assert 'torch' not in sys.modules"
    )
    source = str(Path(catalogue.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": source})


@pytest.mark.parametrize("name", ["gu", "GU", 4, "4", "04", "2511.17100", "arXiv:2511.17100v4", "arXiv: 2511.17100"])
def test_a_paper_is_found_by_key_number_and_arxiv_identifier(name: str | int) -> None:
    assert paper(name).key == "gu"


def test_an_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'hyperattention'"):
        paper("hyper-atention")
    missing = papers()[-1].number + 1
    with pytest.raises(InputError, match=f"there is no paper {missing}"):
        paper(missing)


# Badges


def test_every_paper_without_a_reproduction_is_planned() -> None:
    everything = Evidence(frozenset(KEYS) | {"geometric"}, frozenset(KEYS) | {"geometric"})
    for entry in papers():
        if entry.planned:
            assert badge(entry, everything, {entry.key: {"verdict": "holds"}}) == "planned"


METHODS = frozenset({"first", "second"})


@pytest.mark.parametrize(
    ("methods", "contract", "oracle", "verdict", "expected"),
    [
        (("first", "second"), {"first"}, METHODS, "holds", "untested"),
        (("first", "second"), METHODS, {"first"}, "holds", "runs"),
        (("first", "second"), METHODS, METHODS, None, "faithful"),
        (("first", "second"), METHODS, METHODS, "fails", "faithful"),
        (("first", "second"), METHODS, METHODS, "inconclusive", "faithful"),
        (("first", "second"), METHODS, METHODS, "holds", "reproduced"),
        ((), set(), set(), "holds", "runs"),
        ((), set(), {"gu"}, None, "faithful"),
        ((), set(), {"gu"}, "holds", "reproduced"),
    ],
)
def test_a_badge_is_no_better_than_its_evidence(
    methods: tuple[str, ...], contract: set[str], oracle: set[str], verdict: str | None, expected: str
) -> None:
    evidence = Evidence(frozenset(contract), frozenset(oracle))
    results = {"gu": {"verdict": verdict, "rule": RULE}} if verdict else {}
    assert badge(a_paper(*methods), evidence, results) == expected


def test_a_record_of_an_earlier_rule_reproduces_nothing() -> None:
    evidence = Evidence(METHODS, METHODS)
    old = {"gu": {"verdict": "holds"}}
    assert badge(a_paper("first"), evidence, old) == "faithful"
    assert OLD_RULE in badge_reason(a_paper("first"), evidence, old)


@pytest.mark.parametrize(
    ("interval", "p", "current"), [([0.1, 0.2], 0.001, True), (None, 0.0078125, False), (None, 0.0, True)]
)
def test_a_record_of_the_rule_before_counts_unless_equal_values_decided_it(
    interval: list[float] | None, p: float, current: bool
) -> None:
    part = {"verdict": "holds", "mean": 0.15, "p": p}
    record = {"verdict": "holds", "rule": TIES_DECIDED, "primary": {"a": part}, "interval": {"a": interval}}
    assert is_current(record) == current
    badged = badge(a_paper("first"), Evidence(METHODS, METHODS), {"gu": record})
    assert badged == ("reproduced" if current else "faithful")


def test_a_method_whose_form_was_inferred_is_reconstructed_and_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, held = Evidence(METHODS, METHODS), {"gu": {"verdict": "holds", "rule": RULE}}
    entry = replace(a_paper("first"), inferred="the loss")
    assert badge(entry, evidence, held) == "reconstructed"
    assert "inferred: the loss" in badge_reason(entry, evidence, held)
    monkeypatch.setattr(catalogue, "_discovered", lambda: (entry,))
    assert [method_badge(name, evidence) for name in ("first", "second")] == ["reconstructed", "faithful"]


def test_a_method_with_inferred_forms_belongs_to_a_paper_that_says_so() -> None:
    """`Inferred:` heads the part of a method's docstring that says which forms its paper does not give."""
    inferred = {one.name for one in methods() if "\nInferred:" in (sys.modules[one.factory.__module__].__doc__ or "")}
    assert {"kuda", "circuit", "by_group"} <= inferred
    assert [name for name in inferred if not catalogue.inferred_of(name)] == []


def test_the_reason_names_what_is_missing() -> None:
    evidence = Evidence(frozenset(METHODS), frozenset({"first"}))
    assert badge_reason(a_paper("first", "second"), evidence, {}).endswith("no oracle test has passed for: second")
    failed = badge_reason(a_paper("first"), evidence, {"gu": {"verdict": "fails"}})
    assert "verdict is 'fails'" in failed


def test_a_method_is_untested_then_runs_then_faithful() -> None:
    evidence = Evidence(frozenset(METHODS), frozenset({"first", "third"}))
    assert [method_badge(name, evidence) for name in ("third", "second", "first")] == [
        "untested",
        "runs",
        "faithful",
    ]


# Verdicts and outcomes


def test_an_outcome_has_a_verdict_of_three() -> None:
    with pytest.raises(LetheonError, match="no verdict"):
        an_outcome(verdict="true")


def test_the_short_form_has_exactly_its_keys_and_no_number_json_lacks() -> None:
    short = an_outcome().to_json()
    plain = {"key", "claim", "baselines", "measured", "interval", "verdict", "seeds", "seconds"}
    assert set(short) == plain | {"primary", "beside", "checks", "rule"}
    assert short["measured"] == {"slope": 1.98, "not computable": None}
    json.dumps(short, allow_nan=False)


# Recording


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "results.json"
    file.write_text("{}")
    monkeypatch.setattr(catalogue, "RESULTS", file)
    return file


def test_a_record_keeps_what_it_was_measured_on(results: Path) -> None:
    record(an_outcome("fails", key="uer"), Scale())
    record(an_outcome(), Scale("full", (0, 1)))
    stored = json.loads(results.read_text(encoding="utf-8"))
    assert list(stored) == ["gu", "uer"]
    entry = stored["gu"]
    assert entry["verdict"] == "holds"
    assert entry["scale"] == "full"
    assert {"letheon", "torch", "transformers", "python"} <= set(entry["versions"])
    assert entry["machine"]["cpu"]
    assert entry["machine"]["cores"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["date"])
    assert set(entry) == set(an_outcome().to_json()) | {"versions", "machine", "date", "scale"}


def test_an_interrupted_record_leaves_the_old_results(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(an_outcome(), Scale())
    before = results.read_bytes()

    def interrupted(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(LetheonError, match="No space left"):
        record(an_outcome("fails"), Scale())
    assert results.read_bytes() == before
    assert list(results.parent.iterdir()) == [results]


def test_a_record_for_an_unknown_paper_is_refused(results: Path) -> None:
    with pytest.raises(InputError, match="no paper 'gux'"):
        record(an_outcome(key="gux"), Scale())
    assert results.read_text(encoding="utf-8") == "{}"
