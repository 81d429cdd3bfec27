"""Negative bias: NAS by hand and its antisymmetry, rates, formats, knowledge, a planted shortcut, the report."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.handmade import POSITION, TOKEN, Head, handmade
from letheon.papers.common.small_llama import word_tokenizer
from letheon.probe.negative_bias.prompts import Format, answer_tokens, answers_to, ask
from letheon.probe.negative_bias.report import BiasSettings, ablate, negative_heads, probe_negative_bias
from letheon.probe.negative_bias.scores import abstains, bias_of, decompose, knowledge_of, negative_attention, soft_bias
from letheon.probe.record import render_probe
from letheon.probe.statements import Statement, balanced, built_in, invented, read_statements


@pytest.mark.oracle("negative-bias")
def test_the_negative_attention_score_by_hand() -> None:
    yes, no = torch.tensor([[0.1, 0.2]]), torch.tensor([[0.3, 0.2]])
    expected = 0.4 * math.log(3) + 0.4 * math.log(1)
    torch.testing.assert_close(negative_attention(yes, no), torch.tensor([expected]))
    assert torch.isfinite(negative_attention(torch.zeros(1, 2), no)).all()


@pytest.mark.oracle("negative-bias")
def test_swapping_the_candidates_flips_the_sign_exactly() -> None:
    yes, no = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)), torch.rand(3, 5)
    assert torch.equal(negative_attention(yes, no), -negative_attention(no, yes)) or torch.allclose(
        negative_attention(yes, no), -negative_attention(no, yes), atol=1e-6
    )


@pytest.mark.oracle("negative-bias")
def test_rates_by_hand_and_unparsed_answers_count_nowhere() -> None:
    gold = [True, True, True, False, False, False]
    found = bias_of(gold, [True, False, False, False, False, None])
    assert (found.tpr, found.tnr) == (pytest.approx(1 / 3), 1.0)
    assert found.bias == pytest.approx(2 / 3)
    assert (found.precision, found.accuracy) == (1.0, pytest.approx(3 / 5))
    assert found.unparsed == pytest.approx(1 / 6)
    always_no = bias_of([True, False] * 5, [False] * 10)
    assert always_no.bias == 1.0 == 2 * 1.0 - 1, "on a balanced set NB is 2 (share of no) − 1"
    assert bias_of([True, False], [None, None]).bias is None


@pytest.mark.oracle("negative-bias")
def test_word_meaning_and_position_come_apart() -> None:
    word = dict.fromkeys([("yes first", False), ("yes first", True), ("no first", False), ("no first", True)], 0.4)
    assert decompose(word) == pytest.approx({"word": 0.4, "meaning": 0.0, "position": 0.0})
    meaning = {key: 0.3 if not key[1] else -0.3 for key in word}
    assert decompose(meaning) == pytest.approx({"word": 0.0, "meaning": 0.3, "position": 0.0})
    position = {key: 0.2 if key[0] == "no first" else -0.2 for key in word}
    assert decompose(position) == pytest.approx({"word": 0.0, "meaning": 0.0, "position": 0.2})


def test_knowledge_is_judged_by_the_model_s_own_answers() -> None:
    assert knowledge_of("Paris.", ["Paris"] * 8 + ["Lyon"] * 2, "Paris") == "correct"
    assert knowledge_of("Lyon", ["The Lyon!"] * 8 + ["Paris"] * 2, "Paris") == "incorrect"
    assert knowledge_of("a", [f"city {i}" for i in range(10)], "Paris") == "insufficient"
    assert knowledge_of("Lyon", ["Lyon"] * 6 + ["Paris"] * 4, "Paris") is None


@pytest.mark.oracle("negative-bias")
def test_who_abstains_lacks_knowledge_and_is_not_wrong() -> None:
    unknown = ["I don't know.", "I do not know", "I'm not sure", ""]
    assert all(abstains(text) for text in unknown)
    assert not abstains("Nowhere")
    assert knowledge_of("I don't know.", ["I don't know."] * 10, "Paris") == "insufficient"
    assert knowledge_of("Lyon", ["Lyon"] * 6 + unknown, "Paris") == "insufficient", "more than 30 % abstain"
    assert knowledge_of("Lyon", ["Lyon"] * 7 + unknown[:3], "Paris") == "incorrect"
    assert knowledge_of("Lyon", ["Lyon", "Nice", "Metz"] * 3 + ["Brest"], "Paris") == "insufficient"
    assert knowledge_of("Lyon", ["Lyon"] * 4 + ["Nice"] * 3 + ["Metz"] * 3, "Paris") is None


def test_the_candidates_are_found_by_characters_even_if_the_question_holds_them(tiny: LanguageModel) -> None:
    statement = Statement("The answer is No or Yes with No.", True)
    for first in (False, True):
        asked = ask(tiny, statement, Format(negative_first=first))
        words = [tiny.tokenizer.decode(asked.ids[slice(*span)]) for span in (asked.yes, asked.no)]
        assert words == ["Yes", "No"]
        assert (asked.no < asked.yes) is first
        assert tiny.tokenizer.decode(asked.ids[asked.after :]).startswith(".\nQuestion: Is it true that the answer")


SIZE = 60


def shortcut(gain: float) -> LanguageModel:
    """A model in which head 0-1 attends to "No" and writes " No", and head 0-0 attends to "Yes" and writes " Yes"."""
    form = Format()
    rows = [f"Answer the question with {form.positive} or {form.negative}.\nQuestion: Is it true that x is y?\nAnswer:"]
    tokenizer = word_tokenizer([Example(rows[0], " Yes No yes no a b c d e f g h i j k")])
    tokenizer.chat_template = None
    vocabulary = tokenizer.get_vocab()
    yes, no = (vocabulary[word] for word in (" Yes", " No"))

    def always(token: int) -> torch.Tensor:
        table = torch.zeros(SIZE, SIZE)
        table[:, token] = 1.0  # from every position, ask for this token
        return table

    heads = [
        Head(POSITION, TOKEN, TOKEN, TOKEN, table=always(yes), sharpness=3.0, gain=1.0),
        Head(POSITION, TOKEN, TOKEN, TOKEN, table=always(no), sharpness=3.0, gain=gain),
        None,
    ]
    assert len(vocabulary) <= SIZE
    return LanguageModel(handmade(SIZE, [heads], positions=SIZE), tokenizer, "shortcut")


@pytest.mark.oracle("negative-bias")
def test_a_planted_shortcut_shows_as_bias_its_head_as_score_and_its_ablation_removes_it() -> None:
    model = shortcut(gain=3.0)
    statements = [Statement("x is y.", bool(i % 2)) for i in (0, 1, 1, 0, 0, 1, 1, 0)]
    answers = answers_to(model, statements, Format(), attention=True)
    assert bias_of([one.label for one in statements], answers.decided()).bias == 1.0
    assert float(soft_bias(answers.yes, answers.no).min()) > 0.5
    nas = answers.nas.mean(0)
    assert nas.argmax() == 1
    assert float(nas[0, 0]) < 0
    found = ablate(model, statements, answers, BiasSettings(heads=1, draws=4))
    assert found is not None
    assert found.heads == [(0, 1)]
    assert found.without < -0.5 < 0.5 < found.plain
    assert found.effect.value is not None
    assert found.effect.value > 1.0
    assert found.effect.n == 4, "the heads are chosen on the other half"
    fair = answers_to(shortcut(gain=1.0), statements, Format(), attention=True)
    assert abs(float(soft_bias(fair.yes, fair.no).mean())) < 0.05


def test_heads_are_negative_only_if_their_score_is_positive_for_both_answers() -> None:
    nas = torch.tensor([[[3.0, 1.0, -1.0]], [[-1.0, 0.5, -1.0]]])
    assert negative_heads(nas, [True, False], 2) == [(0, 1)]


def test_answers_of_the_same_first_token_are_refused(tiny: LanguageModel) -> None:
    assert set(answer_tokens(tiny, "Yes")) & set(answer_tokens(tiny, "yesterday"))
    with pytest.raises(InputError, match="same token"):
        answers_to(tiny, [Statement("A is B.", True)], Format("Yes", "Yesterday"))


def test_statements_are_balanced_and_read(tmp_path: Path) -> None:
    for rows in (*built_in().values(), invented()):
        assert sum(one.label for one in rows) * 2 == len(rows)
    assert sum(one.label for one in balanced(built_in()["capitals"], 10)) == 5
    file = tmp_path / "facts.csv"
    file.write_text("statement,label\nA is A.,1\nB is B.,true\nA is B.,0\nB is A.,false\n")
    assert [one.label for one in read_statements(file)] == [True, True, False, False]
    file.write_text("statement,label\nA is A.,1\n   ,1\n")
    with pytest.raises(InputError, match="row 2"):
        read_statements(file)
    file.write_text("statement,label\nA is A.,maybe\n")
    with pytest.raises(InputError, match="row 1"):
        read_statements(file)


def test_the_report(tiny: LanguageModel) -> None:
    report = probe_negative_bias(tiny, {"sizes": built_in()["sizes"]}, BiasSettings(items=8, draws=2, samples=0))
    assert "invented names" in report.headline
    assert len(report.checks) == 4
    assert "effect of the word" in render_probe(report)
