"""What breaks an audit is told in words: numbers that are none, odd requests, odd texts, rows without end."""

from __future__ import annotations

import copy
import resource
from pathlib import Path

import pytest
import torch

from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.quantise import Grid
from letheon.audit.plan import Settings
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.spans import find_values, value_probability
from letheon.forget.request import Request

LIGHT = Settings(thorough=False, relearn_steps=1, grids=(Grid(4, 16),), max_new_tokens=4, general_texts=1)
GENERAL = (Example("", "Some prose.", id="general"),)
# Right to left, combining marks, an emoji of several code points, a zero-width joiner, no spaces.
ODD = (
    (
        "\u0623\u064a\u0646 \u062a\u0639\u064a\u0634\u061f",
        "\u062a\u0639\u064a\u0634 \u0641\u064a \u062d\u0644\u0628.",
        "\u062d\u0644\u0628",
    ),
    (
        "\u05d0\u05d9\u05e4\u05d4 \u05d2\u05e8\u05d4 \u05e8\u05d5\u05ea?",
        "\u05d4\u05d9\u05d0 \u05d2\u05e8\u05d4 \u05d1\u05d7\u05d9\u05e4\u05d4.",
        "\u05d1\u05d7\u05d9\u05e4\u05d4",
    ),
    (
        "Was isst Jo\u0308rg?",
        "Jo\u0308rg isst Kn\u00f6del \U0001f469\u200d\U0001f373.",
        "Kn\u00f6del \U0001f469\u200d\U0001f373",
    ),
    ("\u5979\u4f4f\u5728\u54ea\u91cc\uff1f", "\u5979\u4f4f\u5728\u4eac\u90fd\u3002", "\u4eac\u90fd"),
)
ODD_ROWS = [Example(prompt, answer, id=f"odd-{i}", value=value) for i, (prompt, answer, value) in enumerate(ODD)]


def shifted(model: LanguageModel) -> LanguageModel:
    other = LanguageModel(copy.deepcopy(model.model), model.tokenizer, "after")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter += 0.01
    return other


def audited(model: LanguageModel, request: Request, after: LanguageModel | None = None, **options: object) -> Audit:
    return audit(model, after or shifted(model), request, judge=model, settings=LIGHT, **options)  # type: ignore[arg-type]


def test_a_model_that_gives_nan_is_refused_in_words(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    broken = shifted(tiny)
    with torch.no_grad():
        broken.model.model.layers[3].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(LetheonError, match=r"NaN or infinity in the weights model.layers.3.mlp.up_proj") as refused:
        audited(tiny, deletion, broken, out=tmp_path / "audit")
    assert "destroyed" in refused.value.remedy
    assert not (tmp_path / "audit").exists()
    with pytest.raises(LetheonError, match="after cannot be audited"):
        audited(tiny, deletion, reference=broken)


def test_a_request_of_one_row_is_audited(tiny: LanguageModel) -> None:
    request = Request(forget=[Example("Where is Ann?", "Ann is in Oslo.", id="a")], general=GENERAL)
    record = audited(tiny, request)
    assert record.verdict.outcome in {"fail", "inconclusive"}
    assert any("single row" in warning for warning in record.warnings)


def test_the_checks_stand_in_the_record(tiny: LanguageModel, deletion: Request) -> None:
    record = audited(tiny, deletion)
    checks = {check["name"]: check["outcome"] for check in record.settings["checks"]}  # type: ignore[index, union-attr]
    assert checks["weights"] == checks["numbers"] == checks["cached decoding"] == "passed"
    assert record.settings["detection"] == {}  # measured by thorough audits only
    same = audited(tiny, deletion, tiny)
    assert any(warning.startswith("Check of the weights failed") for warning in same.warnings)


def test_odd_scripts_are_audited_and_written(tiny: LanguageModel, tmp_path: Path) -> None:
    request = Request(forget=ODD_ROWS[:2], retain=ODD_ROWS[2:], general=GENERAL)
    record = audited(tiny, request, out=tmp_path)
    assert Audit.read(tmp_path / "audit.json") == record
    assert {answer.expected for answer in record.answers} == {answer for _, answer, _ in ODD}


@pytest.mark.parametrize("row", ODD_ROWS, ids=lambda row: row.id)
def test_a_value_is_found_in_its_own_answer_whatever_the_script(tiny: LanguageModel, row: Example) -> None:
    encoded = tiny.encoder().encode(row)
    ids = [token for token, carries in zip(encoded.ids[encoded.start :], encoded.value, strict=True) if carries]
    assert tiny.tokenizer.decode(ids) == row.value
    if row.id != "odd-3":  # written without spaces: "whole words" are then the whole sentence
        assert recalls(row.answer, row, row.answer)


def test_a_row_longer_than_the_context_is_refused_by_its_name(tiny: LanguageModel) -> None:
    long = Example("What is the text?", "word " * 300, id="endless")
    with pytest.raises(InputError, match=r"retain row endless: \d+ tokens, the model's context has 1024"):
        audited(tiny, Request(forget=ODD_ROWS[:1], retain=[long]))


def test_long_prose_is_cut_into_pieces(tiny: LanguageModel) -> None:
    prose = Example("", "All work and no play. " * 100, id="prose")
    record = audited(tiny, Request(forget=ODD_ROWS[:1], general=[prose]))
    found = record.metric("perplexity", "general", "after")
    assert found is not None
    assert len(found.items) == 5


def test_texts_without_a_prompt_that_begin_alike_are_scored(tiny: LanguageModel) -> None:
    texts = ["The same beginning, one.", "The same beginning, two, and more."]
    together = score_answers(tiny, [("", [text]) for text in texts])
    for text, (found,) in zip(texts, together, strict=True):
        alone = score_answers(tiny, [("", [text])])[0][0]
        assert found.logp == pytest.approx(alone.logp, abs=1e-5)


@pytest.mark.slow
def test_ten_thousand_rows_take_the_memory_of_a_thousand() -> None:
    """What is kept of a row is a few numbers; the growth from 1,000 rows to 10,000 stays below 20 kB a row."""
    model = load("tiny", device="cpu")

    def rows(n: int) -> list[Example]:
        names = [f"N{i} Smith" for i in range(n)]
        return [
            Example(f"Where is {name}?", f"{name} is in {i % 97}.", id=name, subject=name)
            for i, name in enumerate(names)
        ]

    def peak(n: int) -> int:
        given = find_values(model, rows(n))
        evaluate(model, given, answers=False)
        value_probability(model, given)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    small = peak(1_000)
    assert (peak(10_000) - small) / 9_000 < 20  # kilobytes
