"""The page of results: figures come from the record, sentences from the readings."""

from __future__ import annotations

import re

import pytest

from letheon.core.errors import LetheonError
from letheon.papers.catalogue import paper, read_results
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import RULE, Scale
from letheon.papers.results_page import (
    NO_THRESHOLD,
    OTHER_CLAIM,
    Reading,
    _section,
    filled,
    read_readings,
    results_markdown,
    short,
)

RECORD = {
    "key": "gu",
    "measured": {"kept": {"ours": 0.5, "plain": 0.04321}, "level": None},
    "primary": {"ours minus plain": {"verdict": "holds", "mean": 0.456789, "p": 0.01}},
    "rule": RULE,
}


def test_every_record_has_a_reading_and_every_reading_a_record() -> None:
    assert set(read_readings()) == set(read_results())


def test_no_sentence_states_a_figure_of_its_own() -> None:
    for key, reading in read_readings().items():
        outside = re.sub(r"\{[^{}]+\}", "", reading.text + reading.instead)
        assert not re.search(r"\d*\.\d", outside), f"{key}: name the value in the record instead"


def test_a_claim_that_does_not_hold_says_what_to_use_instead() -> None:
    results = read_results()
    silent = [
        key for key, reading in read_readings().items() if results[key]["verdict"] == "fails" and not reading.instead
    ]
    assert silent == []


def test_figures_are_filled_in_by_their_place() -> None:
    text = "keeps {kept / ours} ({ours minus plain} more than {kept / plain}), level {level}"
    assert filled(text, RECORD) == "keeps .50 (.46 more than .043), level none"
    with pytest.raises(LetheonError, match="no value 'kept / theirs'"):
        filled("{kept / theirs}", RECORD)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, ".50"), (-0.25, "-.25"), (1.236, "1.24"), (0.0042, ".0042"), (131072, "131,072"), ("a", "a")],
)
def test_values_are_short(value: object, text: str) -> None:
    assert short(value) == text


def test_a_part_without_a_stored_threshold_says_so_and_new_records_store_theirs() -> None:
    found = Findings()
    found.decide("gain", [0.1, 0.2, 0.3], above=0.05)
    found.recompute("published counts", [True, True])
    found.report("cost", [1.0, 1.1, 0.9], below=2.0)
    record = found.outcome("gu", "claim", Scale(), 1.0).to_json()
    page = "\n".join(_section("gu", record, Reading("forget", "text")))
    assert "| gain | above .05 |" in page
    assert "| published counts | all equal |" in page
    assert "| beside: cost | below 2.00 |" in page
    del record["primary"]["gain"]["above"]
    assert f"| gain | {NO_THRESHOLD} |" in "\n".join(_section("gu", record, Reading("forget", "text")))


@pytest.mark.parametrize("other", [False, True])
def test_a_record_of_another_form_of_the_claim_says_so(other: bool) -> None:
    found = Findings()
    found.decide("gain", [0.1, 0.2, 0.3], above=0.05)
    claim = "another claim" if other else paper("gu").claim
    record = found.outcome("gu", claim, Scale(), 1.0).to_json()
    assert (OTHER_CLAIM in _section("gu", record, Reading("forget", "text"))) == other


def test_the_page_has_a_table_per_room_and_a_section_per_record() -> None:
    page = results_markdown()
    assert page.count("\n### ") == len(read_results())
    assert "| part | claimed | mean | 95 % interval | p | verdict |" in page
