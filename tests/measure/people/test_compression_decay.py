"""Compression: rules of subject and judge, judging by rule, kappa, the U-test, the control without a model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from letheon.core.errors import InputError
from letheon.measure.compression_decay.judging import (
    accuracy,
    compliance,
    consensus,
    dip,
    fleiss_kappa,
    is_u,
    kappa_of,
    length_score,
    quadratic_term,
    sentence_count,
)
from letheon.measure.compression_decay.jury import JURY, Given, verdicts
from letheon.measure.compression_decay.measure import (
    mean_curve,
    obedient,
    own_cells,
    read_cells,
    read_compression_decay,
)
from letheon.measure.compression_decay.rules import LEVELS, Rule, judge_rule, mismatches, subject_rule
from letheon.measure.run import measure
from tests.measure.people.scripted import Scripted


@pytest.mark.oracle("compression-decay")
def test_one_rule_for_both_but_for_the_reference() -> None:
    assert [subject_rule(level, "matched") for level in LEVELS] == [judge_rule(level) for level in LEVELS]
    assert mismatches("reference") == [0.25, 0.5]
    assert subject_rule(0.5, "reference") == Rule(), "the subject may elaborate where the judge wants 50 words"
    assert judge_rule(0.5).words == 50
    assert [judge_rule(level).words for level in LEVELS] == [20, 20, 50, None, None]
    assert mismatches("minimal") == []


@pytest.mark.oracle("compression-decay")
def test_kappa_of_fleiss_own_table() -> None:
    """The ten subjects, five categories and fourteen raters of the worked example: kappa .210."""
    rows = "0 0 0 0 14/0 2 6 4 2/0 0 3 5 6/0 3 9 2 0/2 2 8 1 1/7 7 0 0 0/3 2 6 3 0/2 5 3 2 2/6 5 2 1 0/0 2 2 3 7"
    counts = np.array([[int(x) for x in row.split()] for row in rows.split("/")])
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None
    assert kappa_of([[1.0, 1.0, 1.0], [0.1, 0.2, 0.0]]) == 1


@pytest.mark.oracle("compression-decay")
def test_the_middle_must_lie_strictly_below_both_ends() -> None:
    assert is_u([0.9, 0.7, 0.2, 0.9, 0.9])
    assert not is_u([0.2, 0.5, 0.2, 0.9, 0.9])
    assert not is_u([0.9, 0.5, 0.2, 0.3, 0.1])
    assert dip([0.9, 0.7, 0.2, 0.9, 0.7]) == pytest.approx(0.6)
    assert quadratic_term(LEVELS, [level**2 - level for level in LEVELS]) == pytest.approx(1)


@pytest.mark.oracle("compression-decay")
def test_consensus_agreement_and_a_compliance_of_zero() -> None:
    same = consensus([{"CC": 0.5, "SA": 1.0, "FC": 0.0}] * 3)
    assert same.agreement == 1
    assert same.overall == pytest.approx(0.2 + 0.4)
    apart = consensus([dict.fromkeys(("CC", "SA", "FC"), value) for value in (0.0, 0.5, 1.0)])
    assert apart.agreement == pytest.approx(1 - 2 * math.sqrt(1 / 6))
    none = consensus([{"CC": 0.0, "SA": 1.0, "FC": 1.0}])
    assert none.overall == pytest.approx(0.6), "no compliance is a score, not a missing one"
    missing = consensus([{"CC": None, "SA": 1.0, "FC": 1.0}, {"CC": 0.4, "SA": 1.0, "FC": 1.0}])
    assert missing.scores["CC"] == 0.4
    assert consensus([{"CC": None, "SA": 1.0, "FC": 1.0}]).overall is None
    weighted = consensus([{"CC": 1.0, "SA": 1, "FC": 1}, {"CC": 0.0, "SA": 1, "FC": 1}], {"CC": [3, 1]})
    assert weighted.scores["CC"] == 0.75


def test_answers_are_judged_by_length_and_scope_apart_from_their_content() -> None:
    text = "Light makes sugar."
    rule = Rule(20, None, True)
    assert compliance("Light makes sugar", text, rule) == 1
    assert compliance("Light makes cake", text, rule) == pytest.approx(2 / 3)
    assert compliance(" ".join(["light"] * 40), text, rule) == pytest.approx(0.5)
    assert compliance("", text, rule) == 0
    assert [length_score(n, 20) for n in (20, 25, 60, 100, 500)] == [1, 0.8, pytest.approx(0.2), 0, 0]
    assert length_score(22, None) == 1
    assert sentence_count("One. Two! Three?\nFour 3.5 and more") == 4
    assert accuracy("Plants make sugars from light. " * 40, ["light", "sugar", "plants", "water"]) == 0.75
    assert accuracy("x", []) is None


@pytest.mark.oracle("compression-decay")
def test_the_judges_look_at_different_things() -> None:
    """No judge is a function of another's score, as powers of one score are."""
    given = Given("Plants make sugar from light and water.", "What is photosynthesis?", Rule(8, 1, True), ("sugar",))
    copied, mixed = "Plants make sugar from light and water.", "Water and light make plants from sugar."
    wordy = "Plants make sugar from light and water and so on."
    scores = {answer: [one["CC"] for one in verdicts(answer, given)] for answer in (copied, mixed, wordy)}
    assert scores[copied] == [1, 1, 1]
    assert scores[mixed][:2] == [1, 1]
    assert scores[mixed][2] == pytest.approx(0), "every word is given, no pair of words is copied"
    rubric, verifier, overlap = scores[wordy]  # ten words where eight are allowed
    assert (rubric, verifier) == (pytest.approx(0.8), 0)
    assert overlap == pytest.approx(0.8 * 6 / 9)
    unfinished = [one["FC"] for one in verdicts("Photosynthesis makes sugary", given)]
    assert unfinished == [1, 0, pytest.approx(1 / 3)]
    assert [one["SA"] for one in verdicts("It is sugary.", given)] == [0, 1, 1], "the stem, the letters, their triples"
    assert [one["SA"] for one in verdicts("Sugars.", replace(given, keywords=()))] == [None] * 3


def test_the_record_names_the_judges_and_what_each_gave() -> None:
    made = read_compression_decay(limit=1)
    scores = made.judged([cell.text for cell in made.cells])
    assert made.config()["judges"] == ["rubric", "verifier", "overlap"]
    assert {"CC, rubric", "CC, verifier", "CC, overlap", "kappa"} <= set(made.columns)
    first = scores.records[0]
    mean = sum(first[f"CC, {name}"] for name in JURY) / 3
    assert first["CC"] == pytest.approx(mean)
    assert scores.value("CC, rubric") == pytest.approx(sum(r["CC, rubric"] for r in scores.records) / 5)


@pytest.mark.oracle("compression-decay")
def test_an_obedient_subject_shows_the_dip_under_the_released_prompts_only() -> None:
    released = read_compression_decay(arm="reference")
    scores = released.judged([obedient(cell, "reference") for cell in released.cells])
    curve = mean_curve(scores)
    assert curve[2] < 0.1
    assert min(curve[0], curve[3], curve[4]) > 0.9
    assert scores.value("U-shaped") == 1
    assert any("different rules at 0.25, 0.5" in note for note in scores.notes)
    matched = read_compression_decay(arm="matched")
    scores = matched.judged([obedient(cell, "matched") for cell in matched.cells])
    assert min(mean_curve(scores)) > 0.9
    assert scores.value("U-shaped") == 0


def test_own_concepts_shrink_and_a_constant_model_is_degenerate() -> None:
    cells = own_cells()
    assert len(cells) == 40
    for start in range(0, 40, 5):
        sizes = [len(cell.text.split()) for cell in cells[start : start + 5]]
        assert sizes == sorted(sizes)
    made = read_compression_decay(limit=2)
    result = measure(made, Scripted(say=lambda turns: "No."), {})
    assert any("degenerate" in note for note in result.scores.notes)
    silent = made.evaluate(Scripted())
    assert silent.value("unparsed") == 1
    assert silent.value("CC at 0") == 0


def test_concepts_of_a_file_are_checked(tmp_path: Path) -> None:
    corpus = [
        {"compression_level": level, "text": "t", "probe_question": "q?", "expected_keywords": ["k"]}
        for level in LEVELS
    ]
    path = tmp_path / "concepts.json"
    path.write_text(json.dumps([{"concept": "c", "corpus": corpus}]))
    assert len(read_cells(str(path))) == 5
    path.write_text(json.dumps([{"concept": "c", "corpus": corpus[1:]}]))
    with pytest.raises(InputError, match="lacks one"):
        read_cells(str(path))
    holed = [{**corpus[0], "expected_keywords": ["k", None]}, *corpus[1:]]
    path.write_text(json.dumps([{"concept": "c", "corpus": holed}]))
    with pytest.raises(InputError, match="row 1"):
        read_cells(str(path))
    with pytest.raises(InputError, match="arm=other"):
        read_compression_decay(arm="other")
