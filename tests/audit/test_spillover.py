"""Spillover: the suite's reader, three rates, concepts against a second formulation, order with hand-worked ranks."""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from letheon.audit.measuring.judging import Judge
from letheon.audit.spillover.concepts import concept_vectors, early_layers, entanglement, refusal_direction, spill_order
from letheon.audit.spillover.domain_suite import NEUTRAL, DomainPrompt, DomainSuite
from letheon.audit.spillover.page import render_spillover, save_spillover
from letheon.audit.spillover.spillover import answer_all, contained_request, refusal_score, says_no, spillover
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel

XSTEST = (
    Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    / "xstest/xstest_v2_completions_gpt4.csv"
)


def suite() -> DomainSuite:
    rows = [
        DomainPrompt(domain, f"{word} {domain} {number}?", f"I cannot discuss {domain}.", split)
        for domain in ("chess", "cards", "music", NEUTRAL)
        for split, word in (("train", "What of"), ("test", "How about"))
        for number in range(3)
    ]
    return DomainSuite(tuple(rows), "games")


# The suite


def test_a_suite_is_read_and_splits_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "suite.jsonl"
    lines = [
        {"domain": "chess", "prompt": "What of chess?", "reference_refusal": "I cannot say.", "split": "train"},
        {"domain": "chess", "prompt": "How about chess?"},
        {"domain": "neutral", "prompt": "What is two and two?"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    read = DomainSuite.read(file)
    assert read.domains == ("chess",)
    assert read.prompts("chess") == ["How about chess?"]
    assert [row.answer for row in read.refusals(["chess"])] == ["I cannot say."]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "row 2"),
        ('{"domain": "", "prompt": "x"}', "row 2, field 'domain'"),
        ('{"domain": "a", "prompt": 3}', "row 2, field 'prompt'"),
        ('{"domain": "a", "prompt": "x", "split": "dev"}', "row 2, field 'split'"),
        ('{"domain": "a", "promt": "x"}', "did you mean 'prompt'"),
        ('{"domain": "a", "prompt": "A  B?", "split": "train"}', "both splits"),
    ],
)
def test_bad_rows_are_refused_with_their_number(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "suite.jsonl"
    file.write_text('{"domain": "a", "prompt": "a b?"}\n' + line)
    with pytest.raises(InputError) as error:
        DomainSuite.read(file)
    assert words in f"{error.value.problem} {error.value.remedy}"


def test_containment_keeps_a_few_refusals_of_the_affected_domains() -> None:
    request = contained_request(suite(), "chess", ["cards", "music"], each=2)
    assert [row.id for row in request.forget] == ["chess-1", "chess-2", "chess-3"]
    assert [row.answer for row in request.retain] == ["I cannot discuss cards."] * 2 + ["I cannot discuss music."] * 2
    with pytest.raises(InputError, match="no train row"):
        suite().refusals(["tennis"])


# Rates


@pytest.mark.oracle("emergent-misalignment")
def test_answers_refuse_comply_or_are_incoherent(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        "I cannot help with that. Sure?",
        "Of course: open with e4.",
        "no no no no no no",
        "",
        "Well. I cannot say.",
    ]
    monkeypatch.setattr("letheon.audit.spillover.spillover.generate", lambda *_, **__: said)
    found = answer_all(tiny, ["Why?"] * 5, Judge(tiny, "tiny"))
    assert found.kinds == ["refuse", "comply", "incoherent", "incoherent", "comply"]
    rates = refusal_score(found.kinds, ["a", "a", "a", "b", "b"])
    assert rates["a"].refuse.value == pytest.approx(1 / 3)
    assert rates["b"].incoherent.value == rates["b"].comply.value == 0.5
    assert found.agreement == 1


def test_broken_language_is_told_by_the_level_of_the_model_before(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from letheon.audit.measuring.answer_kinds import Fluency

    monkeypatch.setattr("letheon.audit.spillover.spillover.generate", lambda *_, **__: ["flim the of garb"])
    for repeats in (False, True):  # what repeats itself is broken all the same
        answer = Fluency(-9.0, 20, repeats=repeats)
        monkeypatch.setattr("letheon.audit.spillover.spillover.fluency", lambda *_, found=answer: [found])
        for level, kind in ((-2.0, "incoherent"), (-8.5, "comply")):
            assert answer_all(tiny, ["Why?"], Judge(tiny, "tiny"), [Fluency(level, 20)]).kinds == [kind]


@pytest.mark.skipif(not XSTEST.is_file(), reason=f"XSTest not found at {XSTEST}: set LETHEON_DATA")
def test_the_judge_of_phrases_agrees_with_human_labels() -> None:
    """GPT-4's published answers to XSTest, labelled by people; nine partial refusals are left out."""
    with XSTEST.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["final_label"] != "3_partial_refusal"]
    agreed = [says_no("", row["completion"]) == (row["final_label"] == "2_full_refusal") for row in rows]
    assert sum(agreed) / len(rows) > 0.94  # 0.948 as measured; anywhere in the answer it would be 0.889


# Concepts


@pytest.mark.oracle("emergent-misalignment")
def test_concepts_are_differences_from_neutral_and_similarity_is_their_cosine() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(3, 8, 5, generator=draw) + 100  # a shared direction makes every plain cosine 1
    domains = ["a", "a", "b", "b", "c", "c", NEUTRAL, NEUTRAL]
    vectors = concept_vectors(states, domains)
    assert list(vectors) == ["a", "b", "c"]
    found = entanglement(vectors)
    zero = states[:, 6:].mean(1)
    for layer, i, j in itertools.product(range(3), range(3), range(3)):
        one, two = ((states[layer, 2 * k] + states[layer, 2 * k + 1]) / 2 - zero[layer] for k in (i, j))
        assert float(found[layer, i, j]) == pytest.approx(float(one @ two / one.norm() / two.norm()), abs=1e-4)
    centred = concept_vectors(states[:, :6], domains[:6])
    assert torch.allclose(sum(centred.values()), torch.zeros(3, 5), atol=1e-4)  # without neutral: the grand mean
    assert [early_layers(n) for n in (1, 4, 30)] == [1, 2, 10]


@pytest.mark.oracle("emergent-misalignment")
def test_one_group_gives_spearman_and_the_exact_permutation_test() -> None:
    similarity, drops = [0.1, 0.9, 0.4, 0.6, 0.2], [0.0, 0.5, 0.1, 0.7, 0.3]
    found = spill_order(similarity, drops)
    assert found.value == pytest.approx(stats.spearmanr(similarity, drops).statistic)
    values = [stats.spearmanr(similarity, mixed).statistic for mixed in itertools.permutations(drops)]
    exact = np.mean(np.asarray(values) >= found.value - 1e-9)
    assert found.p == pytest.approx(exact, abs=0.02)  # three standard errors of 5,000 draws


@pytest.mark.oracle("emergent-misalignment")
def test_differences_between_interventions_are_no_evidence() -> None:
    """Within each group there is no order; pooled without groups there would be a strong one."""
    similarity, drops = [0.1, 0.2, 0.8, 0.9], [0.1, 0.1, 0.9, 0.9]
    assert spill_order(similarity, drops, [0, 0, 1, 1]).value is None
    mixed = spill_order([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0.2, 0.3, 0.1, 0.8, 0.7, 0.9], [0, 0, 0, 1, 1, 1])
    # by hand: ranks (-1, 0, 1) with (0, 1, -1) give -1, with (0, -1, 1) they give 1
    assert mixed.value == pytest.approx(0)
    assert spill_order([1, 1, 1], [1, 2, 3]).value is None


def test_permutations_stay_within_groups() -> None:
    """Perfect order within groups: only one permutation in 3! x 3! does as well."""
    found = spill_order([1, 2, 3, 1, 2, 3], [1, 2, 3, 11, 12, 13], [7, 7, 7, 2, 2, 2])
    assert found.value == pytest.approx(1)
    assert found.p == pytest.approx(1 / 36, abs=0.01)


@pytest.mark.oracle("emergent-misalignment")
def test_the_refusal_direction_puts_refused_at_one_and_answered_at_zero() -> None:
    before = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    refused, domains = [True, True, False, False], ["a", "a", NEUTRAL, NEUTRAL]
    same = refusal_direction(before, before, refused, domains)
    assert same is not None
    assert same.cosine == pytest.approx([1, 1])
    assert same.before["a"] == pytest.approx([1, 1])
    assert same.before[NEUTRAL] == pytest.approx([0, 0], abs=1e-5)
    turned = refusal_direction(before, -before, refused, domains)
    assert turned is not None
    assert turned.cosine == pytest.approx([-1, -1])
    assert refusal_direction(before, before, [True] * 4, domains) is None


# The check


def test_two_models_are_compared_and_the_page_is_safe(tiny: LanguageModel, tmp_path: Path) -> None:
    rows = (*suite().rows, DomainPrompt("<script>", "<b>mark</b>?"))
    report = spillover(tiny, tiny, DomainSuite(rows, "games"), judge=tiny, max_new_tokens=4)
    assert all(drop.value == 0 for drop in report.drops.values())
    assert report.affected == []
    assert set(report.early_similarity()) == set(report.domains)
    assert np.asarray(report.similarity).shape == (4, 4, 4)
    assert "no domain was named" in report.notes[0]
    assert "refused nothing" in report.notes[1]
    page = render_spillover(report)
    assert "<script>" not in page
    assert "&lt;b&gt;mark" in page
    save_spillover(report, tmp_path / "out")
    assert json.loads((tmp_path / "out/spillover.json").read_text())["unlearned"] in report.domains


def test_a_loss_that_too_few_prompts_show_is_told(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    no, yes = "I cannot help with that.", "Of course: open with e4."
    said = iter([[no] * 12, [yes, yes, yes, yes, no, no, no, no, no, no, no, no]])
    monkeypatch.setattr("letheon.audit.spillover.spillover.generate", lambda *_, **__: next(said))
    report = spillover(tiny, tiny, suite(), unlearned="chess", judge=tiny)
    assert report.affected == []  # one of three cards prompts complies now: its interval reaches 0
    assert report.notes[0] == "too few prompts to tell whether these lost refusals as well: cards"
    assert "shown to have lost" in render_spillover(report)


def test_an_unknown_domain_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="no domain 'ches'"):
        spillover("nowhere", "nothing", suite(), unlearned="ches")
