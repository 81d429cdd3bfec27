"""Attacks begin answers where they say they do, find planted facts, and leave the model as it was."""

from __future__ import annotations

from functools import cache

import pytest

import letheon
from letheon.audit.answering import answer_all, answer_limit
from letheon.audit.attacks import (
    attack,
    attempts,
    first_token,
    relearn,
    split_for_relearning,
    success,
    up_to_value,
)
from letheon.audit.evaluate import evaluate
from letheon.core.examples import Example
from letheon.core.finetuning import finetune
from letheon.core.models import LanguageModel
from letheon.core.training import TrainSettings

ROWS = [
    Example("Ann?", "Ann has a cat.", id="ann", value="cat", paraphrased_prompts=("And Ann?",)),
    Example("Bob?", "Bob has a dog.", id="bob", value="dog"),
    Example("Cid?", "Cid has a fox.", id="cid", value="fox"),
]


@cache
def taught() -> LanguageModel:
    """A tiny model that knows the rows by heart."""
    model = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=3, precision="float32", schedule="linear")
    finetune(model, ROWS, settings, 150)
    return model


def decoded(ids: tuple[int, ...] | None) -> str:
    return str(taught().tokenizer.decode(ids))


def test_prefixes_stop_where_they_say() -> None:
    assert decoded(first_token(taught(), ROWS[0])) == "A"
    assert decoded(up_to_value(taught(), ROWS[0])) == "Ann has a c"
    assert up_to_value(taught(), Example("q", "no value")) is None
    assert up_to_value(taught(), Example("q", "It is a", value="a")) is None  # one token: nothing left to find


def test_rows_whose_begun_answer_gives_the_fact_away_are_left_out() -> None:
    planned = attempts(taught(), [Example("q", "7", value="7"), Example("", "running text")], [])
    assert {name: len(tries) for name, tries in planned.items()} == {
        "paraphrase": 0,
        "first_token_prefix": 0,
        "value_prefix": 0,
    }


def test_a_model_that_knows_falls_and_one_that_does_not_stands() -> None:
    found = attack(taught(), ROWS, ROWS)
    assert success(found["first_token_prefix"]).value == 1.0
    assert success(found["value_prefix"]).value == 1.0
    assert [one.prompt for one in found["paraphrase"]] == ["And Ann?"]
    ignorant = attack(letheon.load("tiny", device="cpu"), ROWS, ROWS)
    assert success(ignorant["value_prefix"]).value == 0.0


def test_relearning_records_every_step_and_leaves_the_model_alone() -> None:
    before = taught().parameters_hash()
    points = relearn(taught(), ROWS[:1], ROWS[1:], steps=3)
    assert [point.step for point in points] == [0, 1, 2, 3]
    assert points[0].recall == 1.0  # the positive control knows the watched rows from the start
    assert points[0].probability > 0.9
    assert taught().parameters_hash() == before


def test_an_adapter_is_merged_into_the_attacked_copy() -> None:
    from peft import LoraConfig, get_peft_model

    model = letheon.load("tiny", device="cpu")
    model.model = get_peft_model(model.model, LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    before = model.parameters_hash()
    assert len(relearn(model, ROWS[:1], ROWS[1:], steps=1)) == 2
    assert model.parameters_hash() == before


@pytest.mark.parametrize(("n", "expected"), [(1, (1, 1)), (2, (1, 1)), (5, (2, 3)), (200, (64, 64))])
def test_half_of_the_rows_is_trained_on_and_the_rest_watched(n: int, expected: tuple[int, int]) -> None:
    rows = [Example("q", str(i), id=str(i)) for i in range(n)]
    train, watched = split_for_relearning(rows, seed=3)
    assert (len(train), len(watched)) == expected
    if n > 1:
        assert not {row.id for row in train} & {row.id for row in watched}
    assert split_for_relearning(rows, seed=3) == (train, watched)


def test_answers_are_the_same_whether_decoded_or_told_by_scores() -> None:
    """A model that knows its rows, one that does not, and drafts right, wrong and half right."""
    for model in (taught(), letheon.load("tiny", device="cpu")):
        limit = answer_limit(model, ROWS)
        plain = answer_all(model, ROWS, limit)
        told = [row.answer for row in evaluate(model, ROWS, max_new_tokens=limit).rows]
        drafts = [plain[0], "Bob has nothing", None]
        drafted = [row.answer for row in evaluate(model, ROWS, drafts=drafts, max_new_tokens=limit).rows]
        for other in (told, drafted):  # one that runs into the limit may be longer, never different
            assert all((text or "").startswith(start) for text, start in zip(other, plain, strict=True))
            if model is taught():
                assert other == plain == [row.answer for row in ROWS]


def test_running_text_is_continued_from_its_first_half() -> None:
    text = Example("", "Ann has a cat.", id="text")
    model = letheon.load("tiny", device="cpu")
    finetune(model, [text], TrainSettings(learning_rate=5e-3, batch_size=1, precision="float32"), 60)
    row = evaluate(model, [text], max_new_tokens=7).rows[0]
    assert row.answer == " a cat."  # the first seven bytes were given
    assert row.recall == 1.0
