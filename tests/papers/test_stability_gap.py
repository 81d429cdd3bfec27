"""The stability gap's pieces: what task ends hide, how a gradient is split; and one seed of the claim."""

from __future__ import annotations

import pytest
import torch

from letheon.papers.stability_gap import OTHERS, minimum_at_ends, other, replayed, row_of
from letheon.retain.gradient_split import split_of

pytestmark = pytest.mark.oracle("stability-gap")


def test_a_gradient_is_split_into_lengths_and_a_cosine() -> None:
    found = split_of(
        3, [torch.tensor([3.0, 0.0]), torch.tensor([4.0])], [torch.tensor([0.0, 0.0]), torch.tensor([-2.0])]
    )
    assert (found.plasticity, found.stability) == (5.0, 2.0)
    assert found.cosine == pytest.approx(-8 / 10)
    assert split_of(0, [torch.ones(1)], [torch.zeros(1)]).cosine == 0.0


def test_one_seed_shows_the_gap_and_task_ends_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "letheon.papers.stability_gap.TRAINING", {"epochs": 4, "learning_rate": 0.1, "evaluate_every": 1}
    )
    run, splits = replayed(0)
    row = row_of(0, run, splits)
    assert row["minimum accuracy"] < minimum_at_ends(run)
    assert row["gap"] > 0.1
    assert row["ratio"] < 0.5
    assert len(splits) == run.steps - run.curve.ends[0] + (run.curve.ends[0] - 1)  # from the second step on


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_methods_are_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "letheon.papers.stability_gap.TRAINING", {"epochs": 1, "learning_rate": 0.1, "evaluate_every": 1}
    )
    found = other(OTHERS[name], 0)
    assert found["gap"] == pytest.approx(found["hidden"] + found["seen at ends"])
    assert 0 <= found["minimum"] <= 1
