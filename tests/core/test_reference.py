"""The reference keeps what the model said before it moved."""

from __future__ import annotations

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.likelihood import Positions, score
from letheon.core.scoring.reference import Reference
from letheon.forget.request import Request
from tests import naive


@torch.no_grad()
@pytest.mark.parametrize("positions", ["labels", "all"])
def test_logits_are_those_of_a_copied_model(positions: Positions, tiny: LanguageModel, deletion: Request) -> None:
    rows, copy = naive.rows_of(tiny, deletion), naive.frozen_copy(tiny)
    reference = Reference()
    reference.keep(tiny, [rows.forget_batch([i]) for i in range(8)], positions)
    naive.disturb(tiny)
    for numbers in ([3], [5, 0, 6]):  # whatever the order and the batch
        batch = rows.forget_batch(numbers)
        expected = score(copy, batch, positions).logits
        assert torch.allclose(reference.logits(batch), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(score(tiny, batch, positions).logits, expected, atol=1e-2)


@torch.no_grad()
def test_a_row_is_kept_once_and_as_it_was_first(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    reference = Reference()
    reference.keep(tiny, [rows.forget_batch([0])])
    before = reference.logits(rows.forget_batch([0]))
    naive.disturb(tiny)
    reference.keep(tiny, [rows.forget_batch([0])])
    assert torch.equal(reference.logits(rows.forget_batch([0])), before)


def test_a_row_that_was_never_kept_is_an_error(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    reference = Reference()
    with pytest.raises(KeyError):
        reference.logits(rows.forget_batch([0]))
