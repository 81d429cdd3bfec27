"""Memorisation: estimators, the long-tail simulation against its theory, removal curves, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.measure.memorization.estimators import (
    SubsetRuns,
    draw_subsets,
    high_influence_pairs,
    influence,
    memorisation,
    memorisation_error,
    read_npz,
)
from letheon.measure.memorization.learners import LabelledRows, Mlp, Nearest, logits, read_learner
from letheon.measure.memorization.long_tail import marginal, simulate, tau, tau1_bound, zipf
from letheon.measure.memorization.measure import planted_digits, read_memorization
from letheon.measure.memorization.removal import removal_curve
from letheon.measure.run import measure


@pytest.mark.oracle("long-tail")
def test_scores_by_hand() -> None:
    mask = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
    correct = np.array([[1, 1], [1, 0], [0, 1], [1, 0]], dtype=bool)
    test = np.array([[1], [1], [0], [0]], dtype=bool)
    runs = SubsetRuns(mask, correct, test)
    assert memorisation(runs).tolist() == [0.5, 1.0]  # 2/2 - 1/2, 2/2 - 0/2
    assert influence(runs).tolist() == [[1.0, 0.0]]  # 2/2 - 0/2, 1/2 - 1/2
    assert influence(runs, np.array([1])).tolist() == [[0.0]]
    # each side has two runs: p = (successes + .5) / 3
    p = (2.5 / 3, 1.5 / 3)
    assert memorisation_error(runs)[0] == pytest.approx(np.sqrt(sum(q * (1 - q) / 3 for q in p)))
    never = SubsetRuns(np.ones((2, 1), dtype=bool), np.ones((2, 1), dtype=bool), np.ones((2, 1), dtype=bool))
    assert np.isnan(memorisation(never)[0])


def test_subsets_have_one_size_and_every_row_equal_chances() -> None:
    mask = draw_subsets(40, 0.7, 400, 0)
    assert set(mask.sum(1)) == {28}
    assert np.abs(mask.mean(0) - 0.7).max() < 0.1
    with pytest.raises(InputError, match="subsets of 40 of 40 rows"):
        draw_subsets(40, 1.0, 2, 0)


@pytest.mark.oracle("long-tail")
def test_an_isolated_row_with_its_own_label_is_memorised_and_a_duplicate_is_not() -> None:
    """Nearest neighbours: rows 0 and 1 are copies, row 2 stands alone among rows of another class."""
    inputs = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0], [4.0, 5.0], [5.0, 4.0], [4.0, 4.0]])
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    rows = LabelledRows(inputs, labels, torch.tensor([[5.1, 5.1]]), torch.tensor([1]))
    mask = draw_subsets(6, 0.67, 300, 0)
    runs = Nearest().run(rows, mask, 0)
    scores = memorisation(runs)
    assert scores[2] == 1
    assert abs(scores[0]) < 0.35, "its copy answers for it"
    pairs = high_influence_pairs(runs, labels.numpy(), rows.test_labels.numpy())
    assert [(pair.train, pair.test) for pair in pairs] == [(2, 0)]
    assert pairs[0].influence == 1
    order = np.random.default_rng(0).permutation(len(mask))
    permuted = memorisation(SubsetRuns(mask[order], runs.train_correct, runs.test_correct))
    assert abs(permuted[2]) < 0.25, "masks of other runs say nothing"


def test_vectorised_training_equals_a_loop_of_single_models() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = LabelledRows(
        torch.randn(24, 5, generator=generator),
        torch.arange(24) % 3,
        torch.randn(4, 5, generator=generator),
        torch.arange(4) % 3,
    )
    learner = Mlp(hidden=(8,), epochs=2, batch_size=7)
    mask = draw_subsets(24, 0.75, 3, 0)
    together = learner.train(rows, mask, [1, 2, 3])
    for i, seed in enumerate((1, 2, 3)):
        alone = learner.train(rows, mask[i : i + 1], [seed])
        for stacked, single in zip(together, alone, strict=True):
            torch.testing.assert_close(stacked[i], single[0], rtol=1e-4, atol=1e-5)  # batched products round otherwise
    reference = plain_sgd(learner, rows, np.flatnonzero(mask[0]), seed=1)
    for stacked, plain in zip(together, reference, strict=True):
        torch.testing.assert_close(stacked[0], plain, rtol=1e-4, atol=1e-5)


def plain_sgd(learner: Mlp, rows: LabelledRows, members: np.ndarray, seed: int) -> list[torch.Tensor]:
    """The same training by autograd and torch's own optimizer."""
    weights = [
        layer[0].requires_grad_() for layer in Mlp(hidden=(8,), epochs=0).train(rows, one(members, rows), [seed])
    ]
    optimizer = torch.optim.SGD(weights, learner.learning_rate, momentum=learner.momentum)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(learner.epochs):
        epoch = torch.from_numpy(members)[torch.randperm(len(members), generator=generator)]
        for batch in epoch.split(learner.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits(weights, rows.inputs[batch]), rows.labels[batch]).backward()
            optimizer.step()
    return [weight.detach() for weight in weights]


def one(members: np.ndarray, rows: LabelledRows) -> np.ndarray:
    mask = np.zeros((1, len(rows.labels)), dtype=bool)
    mask[0, members] = True
    return mask


@pytest.mark.oracle("long-tail")
def test_excess_error_of_ignored_singletons_is_what_the_theory_says() -> None:
    points, n = 4000, 1000
    frequencies = marginal(zipf(points), points, draws=50)
    tau1 = tau(frequencies, n)
    assert tau1 == pytest.approx(3.24e-4, rel=0.02)
    assert 0 < tau1_bound(frequencies, n, points) < tau1
    runs = [simulate(zipf(points), points, n, tau1=tau1, seed=seed) for seed in range(20)]
    excess, predicted = (float(np.mean([getattr(run, name) for run in runs])) for name in ("excess", "predicted"))
    assert excess == pytest.approx(predicted, rel=0.05)
    assert excess == pytest.approx(0.101, abs=0.006)
    uniform = simulate(np.ones(50), 50, 5000)
    assert (uniform.singletons, uniform.excess, uniform.predicted) == (0, 0, 0)
    # all frequencies equal: whatever was seen, the frequency is 1/50
    assert tau(np.full(100, 0.02), n, seen=3) == pytest.approx(0.02)


def test_flipped_labels_are_memorised_and_files_hold_the_runs(tmp_path: Path) -> None:
    file = tmp_path / "runs.npz"
    made = read_memorization("digits", limit=240, subsets=40, seed=1, remove=8, runs=str(file))
    result = measure(made, Mlp(hidden=(24,), epochs=60, group=40), {}, out=tmp_path / "run")
    assert (result.scores.value("AUROC flipped labels") or 0) > 0.75
    assert (result.scores.value("memorised rows") or 0) > 0.02
    assert result.scores["rare, without memorised"].estimate.n == 10
    runs = SubsetRuns.load(file)
    assert runs.mask.shape[0] == 40
    assert (runs + runs).mask.shape[0] == 80


def test_planted_digits() -> None:
    digits = planted_digits(600, rare_rows=5)
    labels = digits.rows.labels.numpy()
    assert [(labels[~digits.flipped] == c).sum() for c in (8, 9)] == [5, 5]
    assert digits.flipped.sum() == round(0.05 * len(labels))
    assert set(digits.rows.test_labels[torch.from_numpy(digits.rare)].tolist()) == {8, 9}


def test_removal_takes_equal_numbers_in_every_order() -> None:
    digits = planted_digits(120)
    scores = np.arange(len(digits.rows.labels), dtype=float)
    curve = removal_curve(digits.rows, scores, Nearest(), [10], repeats=2, group=digits.rare)
    assert [point.order for point in curve] == ["memorised", "random", "least"]
    assert all(len(point.accuracy) == 2 for point in curve)
    assert curve[0].accuracy[0] == curve[0].accuracy[1]


def test_archives_are_read_and_others_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", tr_mem=np.array([0.1, 0.9]))
    assert read_npz(tmp_path / "scores.npz", ["tr_mem"])["tr_mem"].tolist() == [0.1, 0.9]
    with pytest.raises(InputError, match="no array 'tr_idx'"):
        read_npz(tmp_path / "scores.npz", ["tr_idx"])
    np.savez(tmp_path / "objects.npz", tr_mem=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="could not be read"):
        read_npz(tmp_path / "objects.npz", ["tr_mem"])
    np.savez(
        tmp_path / "rows.npz",
        inputs=np.zeros((3, 2)),
        labels=[0.5, 1, 2],
        test_inputs=np.zeros((1, 2)),
        test_labels=[0],
    )
    with pytest.raises(InputError, match="classes as whole numbers"):
        read_memorization(str(tmp_path / "rows.npz"))
    with pytest.raises(InputError, match="learner 'tree'"):
        read_learner("tree")
    assert read_learner("mlp=16-8") == Mlp(hidden=(16, 8))
