"""View batches: the order by hand, realised intervals, the divergence between views, and the views themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.retain.composition import Composition
from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.icarl import ICaRL
from letheon.retain.strategies.replay import Replay
from letheon.retain.strategies.view_batch import (
    RecallWatch,
    Settings,
    ViewBatch,
    distorted,
    first_views,
    image_of,
    one_to_many,
    row_numbers,
    view_places,
)
from letheon.retain.strategy import Strategy
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("view_batch")


def run(strategy: Strategy | Composition | str, scenario: str = "class", **options: object) -> Learned:
    given = {"epochs": 4, "batch_size": 4, "learning_rate": 0.05} | options
    return learn(mlp([8, 16, 16, 6]), sample_stream(scenario), strategy, **given)  # type: ignore[arg-type]


def watched(views: int, **settings: object) -> RecallWatch:
    """A run of views of vectors, with its visits watched."""
    watch = RecallWatch(views)
    given = Settings(views=views, data="vectors", **settings)  # type: ignore[arg-type]
    run(Composition([ViewBatch(given), watch], "watched"))
    return watch


# The order


def test_the_order_by_hand() -> None:
    permutation = torch.tensor([2, 0, 1])
    assert [view_places(permutation, 2, part).tolist() for part in (0, 1)] == [[2, 2, 0], [0, 1, 1]]
    assert view_places(permutation, 1, 0).tolist() == [2, 0, 1]


@pytest.mark.parametrize("views", [1, 2, 3, 4, 8])
def test_over_as_many_epochs_as_views_each_row_comes_that_often(views: int) -> None:
    permutation = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    parts = [view_places(permutation, views, part) for part in range(views)]
    assert {len(part) for part in parts} == {10}, "an epoch is as long as without views"
    assert torch.bincount(torch.cat(parts)).tolist() == [views] * 10


@pytest.mark.parametrize("views", [1, 2, 4])
def test_the_realised_interval_is_the_number_of_views_in_epochs(views: int) -> None:
    """A mean over rows, exactly: each cycle's places are a permutation of the last one's."""
    intervals = watched(views).intervals()
    if views == 4:
        assert len(intervals) == 0, "four epochs are one visit"
        return
    assert float(intervals.mean()) == pytest.approx(views, abs=1e-12)
    assert len(intervals) == 3 * 20 * (4 // views - 1)


def test_intervals_by_hand() -> None:
    watch = RecallWatch(2)
    watch.seen = [torch.tensor([[1] * 4, [0, 0, 1, 1], [5, 5, 5, 5]]), torch.tensor([[1] * 4, [1, 1, 0, 0], [5] * 4])]
    assert watch.intervals().tolist() == [3.0, 1.0], "the old row 5 after six views, the new one after two, of two rows"
    assert watch.intervals(old=True).tolist() == [3.0]


def test_old_rows_in_the_sampler_have_views_and_rests_too() -> None:
    watch = RecallWatch(2)
    given = Settings(views=2, data="vectors", warm_up=0)
    run(Composition([ViewBatch(given), ICaRL(ICaRL.Settings(capacity=9)), watch], "watched"), epochs=8)
    assert float(watch.intervals(old=True).mean()) == pytest.approx(2.0, abs=0.2)
    assert float(watch.intervals().mean()) == pytest.approx(2.0, abs=1e-12)


def test_neighbours_of_two_tasks_are_not_views_of_one_row() -> None:
    rows = TaskRows(torch.zeros(3, 1), torch.zeros(3), torch.tensor([0, 1, 1]), torch.tensor([4, 4, 4]))
    assert first_views(row_numbers(rows)).tolist() == [True, True, False]


def test_reshuffling_makes_the_rest_irregular_at_equal_steps() -> None:
    rested, reshuffled = (watched(2, reshuffle=again) for again in (False, True))
    assert sum(seen.shape[1] for seen in rested.seen) == sum(seen.shape[1] for seen in reshuffled.seen)
    assert float(reshuffled.intervals().min()) < 1


# The divergence


def test_the_divergence_by_hand() -> None:
    """Rows 7 (three views) and 4 (one): KL(½,½ ‖ ¾,¼) and 0, their mean; a row with one view does not count."""
    half, three = [0.0, 0.0], [math.log(3.0), 0.0]
    logits = torch.tensor([half, three, half, three])
    exact = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(one_to_many(logits, torch.tensor([7, 7, 7, 4]))) == pytest.approx(exact / 2)
    two = torch.cat([logits[:3], logits[[1, 1]]])
    assert float(one_to_many(two, torch.tensor([7, 7, 7, 4, 4]))) == pytest.approx(exact / 4)
    assert float(one_to_many(logits, torch.arange(4))) == 0.0


def test_the_divergence_is_that_of_a_loop_over_rows_and_only_later_views_get_gradients() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(11, 5, generator=draw, dtype=torch.float64).requires_grad_()
    groups = torch.tensor([3, 3, 3, 9, 9, 0, 0, 0, 0, 5, 5])
    rows = []
    for group in (3, 9, 0, 5):
        views = logits[groups == group]
        teacher = views[0].detach().softmax(0)
        rows.append(
            torch.stack([functional.kl_div(v.log_softmax(0), teacher, reduction="sum") for v in views[1:]]).mean()
        )
    theirs = torch.stack(rows).mean()
    mine = one_to_many(logits, groups)
    assert float(mine.detach()) == pytest.approx(float(theirs.detach()), rel=1e-12)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (mine, theirs)]
    assert torch.allclose(*gradients, atol=1e-15)
    assert not gradients[0][first_views(groups)].any()
    assert gradients[0][~first_views(groups)].any(1).all()


def test_neighbours_of_one_class_are_not_one_row() -> None:
    """The fault of the authors' code: two rows of a class side by side were taken for views of one."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    apart, merged = one_to_many(logits, torch.tensor([0, 0, 1, 1])), one_to_many(logits, torch.tensor([0, 0, 0, 0]))
    assert float(apart) != pytest.approx(float(merged))


def test_logits_that_a_task_masks_give_no_nan() -> None:
    logits = torch.randn(4, 3).requires_grad_()
    masked = logits + torch.tensor([0.0, 0.0, -torch.inf])
    loss = one_to_many(masked, torch.tensor([0, 0, 1, 1]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert float(loss.detach()) == pytest.approx(float(one_to_many(logits[:, :2], torch.tensor([0, 0, 1, 1])).detach()))


def test_the_divergence_begins_after_the_warm_up() -> None:
    """The first two epochs are those of a run without it, to the bit; the third is not."""
    for warm_up, same in ((2, True), (1, False)):
        plain, ours = (
            run(ViewBatch(Settings(views=2, data="vectors", warm_up=warm_up, alpha=alpha)), epochs=2)
            for alpha in (0.0, 1.0)
        )
        pairs = zip(plain.model.parameters(), ours.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same


# Views


def test_an_image_is_moved_by_whole_pixels() -> None:
    image = torch.zeros(200, 1, 5, 5)
    image[:, :, 2, 2] = 1.0
    found = distorted(image, torch.zeros(200, dtype=torch.bool), 1, 90.0, torch.Generator().manual_seed(0))
    places = found.flatten(1).argmax(1)
    rows, columns = places // 5, places % 5
    assert sorted(set(zip(rows.tolist(), columns.tolist(), strict=True))) == [
        (i, j) for i in (1, 2, 3) for j in (1, 2, 3)
    ]
    assert torch.allclose(found.flatten(1).max(1).values, torch.ones(200), atol=1e-5)
    assert torch.allclose(found.sum((1, 2, 3)), torch.ones(200), atol=1e-5)


def test_only_strong_views_are_turned() -> None:
    image = torch.rand(20, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    strong = torch.arange(20) % 2 == 0
    found = distorted(image, strong, 0, 40.0, torch.Generator().manual_seed(1))
    changed = (found - image).abs().amax((1, 2, 3)) > 1e-3
    assert torch.equal(changed, strong)


def test_the_first_view_of_vectors_is_the_row_itself() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    class Seen(ViewBatch):
        def before_step(self, learner: object, rows: object) -> None:
            plain = rows.inputs  # type: ignore[attr-defined]
            super().before_step(learner, rows)  # type: ignore[arg-type]
            seen.append((plain, rows.inputs, rows.index))  # type: ignore[attr-defined]

    run(Seen(Settings(views=4, data="vectors", noise=0.5)), epochs=1)
    for plain, given, index in seen:
        assert torch.equal((plain != given).any(1), ~first_views(index))


@pytest.mark.parametrize(("shape", "image"), [((9, 64), (1, 8, 8)), ((9, 4, 6), (1, 4, 6)), ((9, 3, 4, 6), (3, 4, 6))])
def test_what_an_image_is(shape: tuple[int, ...], image: tuple[int, int, int]) -> None:
    assert image_of(torch.Size(shape)) == image


def test_rows_that_are_no_images_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"(?s)shape \(8,\).*data=vectors"):
        run("view_batch")


# In the loop


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_it_composes_with_a_memory_that_sees_plain_rows(scenario: str) -> None:
    result = run("view_batch:data=vectors,views=2,warm_up=0+replay:capacity=12,fill=task+ewc:strength=1", scenario)
    assert math.isfinite(result.curve.loss[-1][0])
    last = result.learner.stream.tasks[-1].train
    kept = result.learner.strategy.find(Replay).memory.rows(task=2)
    assert torch.equal(kept.inputs, last.inputs[kept.index])


def test_small_images_with_channels_are_learned() -> None:
    from letheon.retain.stream import Stream, task_of

    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(12, 1, 6, 6, generator=draw), torch.arange(12) % 2
    stream = Stream("images", (task_of("one", 0, (images, labels), (images, labels)),))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    result = learn(model, stream, "view_batch:warm_up=0", epochs=4, batch_size=4, learning_rate=0.01)
    assert result.steps == 12


@pytest.mark.parametrize("options", [{"views": 0}, {"alpha": -1.0}, {"noise": -0.1}, {"data": "sounds"}])
def test_settings_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Settings(**options)  # type: ignore[arg-type]
