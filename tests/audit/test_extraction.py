"""Extraction likelihood on hand-worked cases."""

from __future__ import annotations

from letheon.audit.measuring.extraction import extraction_likelihood, overlap
from letheon.core.model.models import load
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings


def test_overlap_is_the_share_of_the_continuations_n_grams_that_the_reference_has() -> None:
    assert overlap([1, 2, 3, 4], [9, 1, 2, 3], 3) == 0.5  # (1,2,3) is there, (2,3,4) is not
    assert overlap([1, 2, 3], [1, 2, 3], 3) == 1
    assert overlap([1, 2], [1, 2], 3) == 0  # too short for one


def test_a_memorised_answer_is_extracted_and_an_unseen_one_is_not() -> None:
    model = load("tiny", device="cpu")
    known = Example("Who keeps the tower?", "Ann Lee keeps it.")
    finetune(model, [known] * 4, TrainSettings(learning_rate=3e-3, batch_size=4, precision="float32"), 60)
    unseen = Example("Who mends the nets?", "Old Bob Ray does.")
    found = extraction_likelihood(model, [known, unseen, Example("Yes?", "No")])
    assert found[0] == 1
    assert found[1] is not None
    assert found[1] < 0.3
    assert found[2] is None  # two tokens have no rest of four
