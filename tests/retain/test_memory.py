"""The replay memory: uniform over what was seen, balanced where asked, the same after a restart."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from letheon.core.errors import InputError
from letheon.retain import memory as module
from letheon.retain.memory import Memory, Policy, place_in_group
from letheon.retain.rows import TaskRows


def rows(start: int, n: int, task: int = 0, classes: int = 2) -> TaskRows:
    numbers = torch.arange(start, start + n)
    return TaskRows(numbers[:, None].float(), numbers % classes, torch.full((n,), task), numbers)


def memory(capacity: int, policy: Policy = "reservoir", seed: int = 0) -> Memory:
    return Memory(capacity, policy, generator=torch.Generator().manual_seed(seed))


@pytest.mark.oracle("replay")
def test_a_reservoir_keeps_every_row_with_the_same_probability() -> None:
    """50 rows in uneven batches into 10 places, 2,000 times: each is kept in a fifth (chi square, p > 0.001)."""
    kept = torch.zeros(50)
    for seed in range(2000):
        one = memory(10, seed=seed)
        for start, n in ((0, 7), (7, 1), (8, 20), (28, 22)):
            one.add(rows(start, n))
        kept[one.rows().index] += 1  # type: ignore[union-attr]
    assert kept.sum() == 20_000
    # rows are drawn without replacement, so that the counts vary less than a multinomial's: scaled up for the test
    spread = kept.mean() + (kept - kept.mean()) / (1 - 10 / 50) ** 0.5
    assert chisquare(spread.numpy()).pvalue > 0.001


def test_before_it_is_full_it_keeps_everything_in_order() -> None:
    one = memory(10)
    one.add(rows(0, 4))
    one.add(rows(4, 6))
    assert one.rows().index.tolist() == list(range(10))  # type: ignore[union-attr]


@pytest.mark.oracle("gdumb")
def test_a_memory_balanced_over_classes_has_equally_many_of_each() -> None:
    one = memory(12, "class")
    one.add(rows(0, 40, classes=2))
    assert torch.bincount(one.rows().targets).tolist() == [6, 6]  # type: ignore[union-attr]
    one.add(rows(40, 300, classes=4))
    assert torch.bincount(one.rows().targets).tolist() == [3, 3, 3, 3]  # type: ignore[union-attr]


@pytest.mark.oracle("gem")
def test_a_memory_balanced_over_tasks_shares_its_places() -> None:
    one = memory(9, "task")
    for task in range(3):
        one.add(rows(100 * task, 50, task))
    assert one.tasks() == [0, 1, 2]
    assert [len(one.rows(task=task)) for task in range(3)] == [3, 3, 3]  # type: ignore[arg-type]


def test_a_rare_class_gives_its_free_places_to_the_others() -> None:
    one = memory(10, "class")
    common, rare = rows(0, 100, classes=1), rows(100, 2, classes=1)
    rare.targets += 1
    one.add(common)
    one.add(rare)
    assert torch.bincount(one.rows().targets).tolist() == [8, 2]  # type: ignore[union-attr]


def test_what_is_kept_beside_a_row_stays_with_it() -> None:
    one = memory(5)
    for start in range(0, 60, 6):
        some = rows(start, 6)
        one.add(some, logits=some.inputs.repeat(1, 3) * 10)
    found = one.sample(5)
    assert found is not None
    assert torch.equal(found.kept["logits"], found.inputs.repeat(1, 3) * 10)


def test_a_sample_has_no_row_twice_and_may_be_of_one_task() -> None:
    one = memory(20)
    one.add(rows(0, 10, task=0))
    one.add(rows(10, 10, task=1))
    found = one.sample(20)
    assert found is not None
    assert sorted(found.index.tolist()) == list(range(20))
    assert set(one.sample(5, task=1).task.tolist()) == {1}  # type: ignore[union-attr]
    assert one.sample(5, task=2) is None
    assert memory(3).sample(1) is None


def test_a_restored_memory_goes_on_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def filled(stop: bool) -> Memory:
        one = memory(8, "class")
        one.add(rows(0, 20))
        if stop:
            state, generator = one.state_dict(), one.generator
            one = Memory(8, "class", generator=generator)
            one.load_state_dict(state)
        one.add(rows(20, 30))
        return one

    whole, restored = filled(stop=False), filled(stop=True)
    assert torch.equal(whole.rows().inputs, restored.rows().inputs)  # type: ignore[union-attr]
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)  # now it lies in a file
    assert torch.equal(whole.rows().inputs, filled(stop=True).rows().inputs)  # type: ignore[union-attr]


def test_places_within_groups() -> None:
    keys = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.3], dtype=torch.float64)
    assert place_in_group(keys, torch.tensor([0, 1, 0, 0, 1])).tolist() == [1, 0, 2, 0, 1]


def test_rows_of_another_form_are_refused() -> None:
    one = memory(5)
    one.add(rows(0, 2))
    with pytest.raises(InputError, match="inputs of shape"):
        one.add(TaskRows.of_task(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 0))
    with pytest.raises(InputError, match="capacity of at least 1"):
        memory(0)
