"""MUSE: its layouts, its prompts, and its scores on models whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.measure import muse as measuring
from letheon.measure.benchmark import Against, Scores
from letheon.measure.muse import Asked, continuations, read_muse
from letheon.measure.running_text import pieces
from tests.measure.worlds import write_muse, write_rows


def test_a_copy_in_the_authors_layout_is_read(tmp_path: Path) -> None:
    found = read_muse(write_muse(tmp_path))
    assert len(found.forget) == 1  # a text file is one text
    assert found.forget[0].prompt == ""
    assert len(found.members) == 7
    assert found.verbatim[0] == Asked("verbmem-1", "The mayor of Oslo", "opened a bridge.")
    assert len(read_muse(tmp_path, rows=2).members) == 2
    assert len(read_muse(tmp_path, rows=2).retain) == 3  # what is asked is about all of them


def test_questions_come_after_the_solved_ones_of_their_set(tmp_path: Path) -> None:
    found = read_muse(write_muse(tmp_path)).knowledge["retain"][1]
    assert found.prompt == (
        "Question: Who 0?\nAnswer: N0\n\nQuestion: Who 1?\nAnswer: N1\n\nQuestion: What 1?\nAnswer: "
    )
    assert found.expected == "M1"


def test_the_hubs_layout_is_read_too(tmp_path: Path) -> None:
    write_muse(tmp_path)
    (tmp_path / "raw" / "forget.txt").unlink()
    write_rows(tmp_path / "raw" / "forget-00000-of-00002.jsonl", [{"text": "One."}])
    write_rows(tmp_path / "raw" / "forget-00001-of-00002.jsonl", [{"text": "Two."}])
    assert [row.answer for row in read_muse(tmp_path).forget] == ["One.", "Two."]


def test_bad_data_are_refused(tmp_path: Path) -> None:
    write_muse(tmp_path)
    with pytest.raises(InputError, match="no split 'sust'"):
        read_muse(tmp_path, split="sust")
    with pytest.raises(InputError, match="no table scal"):
        read_muse(tmp_path, split="scal_2")
    write_rows(tmp_path / "verbmem" / "forget.json", [{"prompt": "A", "gt": ""}])
    with pytest.raises(InputError, match="row 1, field 'gt'"):
        read_muse(tmp_path)


def test_a_text_is_cut_into_pieces_that_make_it_up_again(tiny: LanguageModel) -> None:
    text = Example("", "Rain fell on the harbour, and nobody went out. " * 9, "news")
    found = pieces([text], 40, tiny)
    assert "".join(piece.answer for piece in found) == text.answer
    assert all(len(tiny.encoder().encode(piece).ids) <= 40 for piece in found)
    assert [piece.id for piece in found][:2] == ["news-1", "news-2"]
    assert pieces([text], 40, None) == (text,)


@pytest.fixture(scope="module")
def reader() -> LanguageModel:
    """A tiny model that has a passage and an answer by heart."""
    model = load("tiny", device="cpu")
    rows = [
        Example("", "The mayor of Oslo opened a bridge."),
        Example("", "Question: Who?\nAnswer: Ann Lee\n\nQuestion: When?\nAnswer: May"),
    ]
    finetune(model, rows, TrainSettings(learning_rate=3e-3, batch_size=2, precision="float32"), 80)
    return model


def test_a_continuation_is_greedy_plain_text_up_to_a_stop(reader: LanguageModel) -> None:
    rows = [Asked("a", "The mayor of Oslo", ""), Asked("b", "Question: Who?\nAnswer: ", "")]
    assert continuations(reader, rows[:1], 17) == {"a": "opened a bridge."}
    assert continuations(reader, rows[1:], 24, measuring.STOPS) == {"b": "Ann Lee"}
    assert continuations(reader, rows[1:], 24)["b"].startswith("Ann Lee\n\nQuestion")


@pytest.mark.oracle("muse_verbmem")
def test_a_model_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: LanguageModel) -> None:
    monkeypatch.setattr(measuring, "VERBATIM_TOKENS", 17)
    found = read_muse(write_muse(tmp_path))
    scores = found.evaluate(reader)
    assert {score.name for score in scores.scores} >= set(found.columns)
    assert scores.value("VerbMem forget") == 1
    assert scores["VerbMem forget"].items == {"verbmem-1": 1.0}
    assert scores.value("KnowMem retain") == 0
    assert scores["min-k AUROC"].estimate.n == 14
    assert scores.value("gibberish") == 0
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
    assert found.relate(scores, Against(reference=scores)).value("PrivLeak") == 0
    assert found.request(reader).forget[0].prompt == ""
