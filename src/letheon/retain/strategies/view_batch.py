"""View batches (VBM): a batch holds several views of a row, and the row then rests for as many epochs.

Paper:   Do Your Best and Get Enough Rest for Continual Learning, arXiv 2503.18371: view-batch replay, strong
         augmentation of the views after the first, and one-to-many KL between views.
Differs: views are grouped by the row's own number; the authors' code groups neighbours of one class, which merges
         rows. The divergence is a mean over rows; the code also divides by the number of classes. Strong views are a
         rotation and noise instead of AutoAugment, as the images here are small and grey. Old rows are in the sampler,
         with views and rests, where the host adds them to the task (`view_batch+icarl`), as in the paper; rows that a
         memory replays in every step (`view_batch+replay:fill=task`) have one view each and do not rest. Such a memory
         must be filled after each task, as the first epoch does not have every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.registry import Checked, method
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy


@dataclass(frozen=True)
class Settings(Checked, positive=("views",), not_negative=("alpha", "warm_up", "shift", "degrees", "noise")):
    views: int = 4  # V, views of a row per batch; the paper
    alpha: float = 1.0  # weight of the divergence between views; the paper. 0: none
    warm_up: int = 6  # epochs of a task without the divergence: the code begins after epoch number 5
    strong: bool = True  # views after the first are distorted strongly; a single view is too (the control)
    data: Literal["images", "vectors"] = "images"  # vectors have noise alone
    shift: int = 1  # largest shift in pixels, of weak and strong views [inferred]
    degrees: float = 15.0  # largest rotation of strong views [inferred]
    noise: float = 0.1  # standard deviation of the noise on strong views [inferred]
    reshuffle: bool = False  # a new order each epoch, so that the rest is irregular: the control


def view_places(permutation: Int[Tensor, " n"], views: int, part: int) -> Int[Tensor, " n"]:
    """Return the row indices of sub-epoch `part` (of `views`): each row appears `views` times in a row, in one part.

    All parts together visit every row once; between two visits lie `views` epochs.
    """
    n = len(permutation)
    at = torch.arange(part * n, (part + 1) * n)
    return permutation[at // views]


def one_to_many(logits: Float[Tensor, "n classes"], groups: Int[Tensor, " n"]) -> Tensor:
    """Return the mean over rows, and over a row's later views, of KL(first view ‖ later view) (nats), or 0 without any.

    The first view is a target without gradient.

    Args:
        groups: number of each view's row; the first view of a row in the batch is the teacher.
    """
    _, group = torch.unique(groups, return_inverse=True)
    n, count = len(groups), int(group.max()) + 1
    place = torch.arange(n, device=groups.device)
    first = torch.full((count,), n, device=groups.device).scatter_reduce(0, group, place, "amin")
    later = (place != first[group]).nonzero().flatten()
    if not len(later):
        return logits.sum() * 0.0
    now, teacher = logits.log_softmax(1)[later], logits.detach().log_softmax(1)[first[group[later]]]
    divergence = functional.kl_div(now, teacher, reduction="none", log_target=True).nan_to_num(nan=0.0).sum(1)
    sums = torch.zeros(count, dtype=logits.dtype, device=logits.device).index_add(0, group[later], divergence)
    views = torch.bincount(group[later], minlength=count)
    return (sums / views.clamp(min=1)).sum() / (views > 0).sum()


def distorted(
    images: Float[Tensor, "n channels height width"],
    strong: Bool[Tensor, " n"],
    shift: int,
    degrees: float,
    generator: torch.Generator,
) -> Float[Tensor, "n channels height width"]:
    """Shift each image by up to `shift` whole pixels either way, and rotate strong views by up to `degrees`.

    Pixels from beyond the edges are 0.
    """
    n, _, height, width = images.shape
    draws = torch.rand(n, 3, generator=generator) * 2 - 1
    angle = torch.deg2rad(degrees * draws[:, 0]) * strong.cpu()
    pixels = (draws[:, 1:] * (shift + 0.5)).round().clamp(-shift, shift)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    moved = pixels * 2 / torch.tensor([width, height])  # a grid's image is 2 wide
    grid = functional.affine_grid(torch.cat([turn, moved[:, :, None]], 2).to(images), list(images.shape), False)
    return functional.grid_sample(images, grid, align_corners=False)


def row_numbers(rows: TaskRows) -> Int[Tensor, " n"]:
    """Return one number per row of any task: equal for views of one row, different for all others."""
    return rows.task * (int(rows.index.max()) + 1) + rows.index


def first_views(groups: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Return whether a view is the first of its row; views of one row lie side by side."""
    same = torch.zeros(len(groups), dtype=torch.bool, device=groups.device)
    same[1:] = groups[1:] == groups[:-1]
    return ~same


@method("strategy", "view_batch", Settings, paper="2503.18371", tiny={"views": 2, "data": "vectors", "warm_up": 0})
class ViewBatch(Strategy):
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        views = self.settings.views
        number, part = (epoch, 0) if self.settings.reshuffle else divmod(epoch, views)
        permutation = torch.randperm(len(rows), generator=learner.stream_generator("view batches", number))
        return view_places(permutation, views, part)

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        at, inputs, draw = self.settings, rows.inputs, learner.generator
        strong = ~first_views(row_numbers(rows)) if at.views > 1 else torch.ones_like(rows.index, dtype=torch.bool)
        strong &= at.strong
        if at.data == "images":
            images = inputs.reshape(len(rows), *image_of(inputs.shape))
            inputs = distorted(images, strong, at.shift, at.degrees, draw).reshape(inputs.shape)
        grain = torch.randn(inputs.shape, generator=draw).to(inputs)
        rows.inputs = inputs + at.noise * grain * strong.view(-1, *[1] * (inputs.dim() - 1))

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        at = self.settings
        if at.alpha == 0 or at.views == 1 or learner.epoch < at.warm_up:
            return None
        assert isinstance(learner, ClassLearner)
        seen = sorted({one for task in learner.stream.tasks[: learner.task + 1] for one in task.classes})
        logits = learner.masked(outputs, rows.task)[:, seen]
        return at.alpha * one_to_many(logits, row_numbers(rows))


def image_of(shape: torch.Size) -> tuple[int, int, int]:
    """Return channels, height and width of images, with or without channels, or of flat square grey images.

    Raises:
        InputError: the rows are no such images.
    """
    if len(shape) == 4:
        return int(shape[1]), int(shape[2]), int(shape[3])
    if len(shape) == 3:
        return 1, int(shape[1]), int(shape[2])
    side = round(shape[-1] ** 0.5)
    if len(shape) != 2 or side * side != shape[1]:
        raise InputError(
            f"view_batch makes views of images, and rows have the shape {tuple(shape[1:])}",
            "give images, or write view_batch:data=vectors for noise alone",
        )
    return 1, side, side


class RecallWatch(Strategy):
    """A strategy that records visits of rows: `Composition([ViewBatch(), RecallWatch(views=4)], "watched")`.

    Args:
        views: views per visit.
    """

    def __init__(self, views: int = 1) -> None:
        super().__init__()
        self.views = views
        self.seen: list[Int[Tensor, "3 n"]] = []  # the task being learned, the row's own task, its place there

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        self.seen.append(torch.stack([torch.full_like(rows.task, learner.task), rows.task, rows.index]).cpu())

    def intervals(self, *, old: bool = False) -> Float[Tensor, " n"]:
        """Return the intervals between visits of a row within a task: views passed through the model, over its rows.

        Args:
            old: of the rows of earlier tasks alone.
        """
        now, task, index = torch.cat(self.seen, 1)
        most, tasks = int(index.max()) + 1, int(task.max()) + 1
        row = (now * tasks + task) * most + index
        ordered, place = torch.sort(row, stable=True)  # each row's places in the order of time
        first = torch.searchsorted(ordered, ordered)
        begins = place[(torch.arange(len(row)) - first) % self.views == 0]
        again = row[begins][1:] == row[begins][:-1]
        if old:
            again &= (task < now)[begins[1:]]
        sizes = torch.bincount(torch.unique(row) // (tasks * most))
        return (begins[1:] - begins[:-1])[again].double() / sizes[now[begins[1:]][again]]
