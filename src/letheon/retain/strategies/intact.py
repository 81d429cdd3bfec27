"""InTAct: a penalty keeps layers' outputs on the intervals of activations that earlier tasks used.

Paper:   Interval-based Task Activation Consolidation for Continual Learning, arXiv 2511.17439; the losses as in the
         authors' repositories. Cubes are estimated on training rows (one of their hosts takes test images).
Differs: old activations of the first protected layer are computed once, before a task, and looked up. Linear layers
         only. `form=square_of_sum` is the released core code, in which units of opposite sign cancel.
         Language models [our extension]: L_int alone, on the MLPs' last matrices (with an adapter, on its product).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import on_inputs
from letheon.core.model.sites import blocks, is_transposed, mlp
from letheon.core.registry import check_settings, method
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

Form = Literal["per_unit", "square_of_sum"]
TEXT_ROWS = 16  # rows per pass that collects activations


@dataclass(frozen=True)
class Settings:
    strength: float = 1.0  # λ_int; default of the prompt repository
    variance: float = 0.01  # λ_var; default of the prompt repository
    features: float = 1.0  # λ_feat; default of the prompt repository
    align: bool = True  # L_align, weight 1
    layers: Literal["all", "hidden", "head"] = "all"  # linear layers but the first; hidden leaves out the classifier
    lower: float = 0.05  # the cubes' quantiles: central 90 %
    upper: float = 0.95
    classes: Literal["all", "current"] = "all"  # classes in the loss; current: the prompt version
    form: Form = "per_unit"
    samples: int = 4000  # rows, or tokens of texts, for the estimate of a cube [ours]

    def __post_init__(self) -> None:
        check_settings(self, positive=("samples",), not_negative=("strength", "variance", "features"))
        if not 0 <= self.lower < self.upper <= 1:
            raise InputError(f"quantiles {self.lower} and {self.upper}", "give 0 <= lower < upper <= 1")


# The paper


def interval_of(
    activations: Float[Tensor, "n width"], lower: float, upper: float
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return per unit the sorted values at places int(lower n) and int(upper n)."""
    ordered, n = activations.sort(dim=0).values, len(activations)
    return ordered[int(lower * n)], ordered[min(int(upper * n), n - 1)]


def interval_affine(
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None,
    lower: Float[Tensor, " width"],
    upper: Float[Tensor, " width"],
) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
    """Return the least and the greatest value of W h + b over the cube lower <= h <= upper, both at corners.

    They are W+ lower - W- upper + b and W+ upper - W- lower + b, computed as the middle minus and plus |W| times the
    half widths: half as many products, and a true subgradient where a weight is 0.
    """
    middle, reach = weight @ ((lower + upper) / 2), weight.abs() @ ((upper - lower) / 2)
    if bias is not None:
        middle = middle + bias
    return middle - reach, middle + reach


def drift_loss(low: Float[Tensor, " out"], up: Float[Tensor, " out"], form: Form = "per_unit") -> Float[Tensor, ""]:
    """L_int of one layer: mean_j low_j² + mean_j up_j² of the change's interval."""
    if form == "square_of_sum":
        return low.sum().square() + up.sum().square()
    return low.square().mean() + up.square().mean()


def variance_loss(activations: Float[Tensor, "n width"]) -> Float[Tensor, ""]:
    """L_var of one layer: mean over units of the batch's (biased) variance."""
    return activations.var(dim=0, correction=0).mean()


def alignment_loss(
    activations: Float[Tensor, "n width"],
    lower: Float[Tensor, " width"],
    upper: Float[Tensor, " width"],
) -> Float[Tensor, ""]:
    """L_align of one layer: distance between centres in half widths, over units whose interval misses the cube."""
    low, up = activations.amin(0), activations.amax(0)
    apart = (low > upper) | (up < lower)
    distance = torch.where(apart, (low + up - lower - upper) / 2, 0)
    return torch.linalg.vector_norm(distance) / (((upper - lower) / 2).mean() + 1e-8)


def inside(
    activations: Float[Tensor, "n width"],
    lower: Float[Tensor, " width"],
    upper: Float[Tensor, " width"],
) -> Bool[Tensor, "n width"]:
    """Return which activations lie in the cube; the mean is the mask rate of `feature_loss`."""
    return (activations >= lower) & (activations <= upper)


def feature_loss(
    activations: Float[Tensor, "n width"], old: Float[Tensor, "n width"], mask: Bool[Tensor, "n width"]
) -> Float[Tensor, ""]:
    """L_feat: squared distance from the old model's activations, over the units inside the cube now."""
    return (mask * (old - activations).square()).sum() / (mask.sum() + 1e-8)


# The strategy


@method("strategy", "intact", Settings, paper="2511.17439")
class InTAct(Strategy):
    """Interval penalties on protected layers.

    Attributes:
        lower, upper: the cumulative cubes, one pair per protected layer; empty in the first task.
        weights, biases: values of those layers at the end of the last task.
        mask_rate: share of the last batch's activations inside the first cube.
    """

    keeps: ClassVar[tuple[str, ...]] = ("lower", "upper", "weights", "biases", "old")
    old: Tensor | None  # inputs [rows of the task, ..., width] of the first protected layer before the task

    def prepare(self, learner: Learner) -> None:
        self.layers = text_layers(learner) if learner.kind == "texts" else linear_layers(learner, self.settings.layers)
        self.lower: list[Tensor] = []
        self.upper: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.biases: list[Tensor | None] = []
        self.old = None
        self.mask_rate: Tensor | None = None
        self.seen: dict[str, Tensor] = {}
        self.watching = ExitStack()

    @property
    def widths(self) -> list[float]:
        """The mean width of each layer's cube."""
        return [float((up - low).mean()) for low, up in zip(self.lower, self.upper, strict=True)]

    @property
    def _watches(self) -> bool:
        settings = self.settings
        return bool(settings.variance or (self.lower and (settings.align or settings.features)))

    def before_task(self, learner: Learner, task: Task) -> None:
        if self.lower and self.settings.features and learner.kind == "classes":
            name = next(iter(self.layers))
            self.old = self._activations(learner, learner.train_rows(task))[name]

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        if learner.kind == "classes" and self._watches:
            self.watching.enter_context(on_inputs(self.layers, self.seen.__setitem__))

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        self.watching.close()
        self.seen.clear()

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        if self.settings.classes == "current" and learner.stream.scenario == "class":
            own = learner.stream.tasks[learner.task].classes
            others = [one for one in range(outputs.shape[1]) if one not in own]
            outputs = outputs.index_fill(1, torch.tensor(others, device=outputs.device), -torch.inf)
        return learner.loss(outputs, rows)

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        terms = self.terms(rows)
        return torch.stack(list(terms.values())).sum() if terms else None

    def terms(self, rows: TaskRows) -> dict[str, Tensor]:
        """Return the weighted losses of the last pass by name: int, var, align, feat."""
        settings, found = self.settings, {}
        if self.lower and settings.strength:
            found["int"] = settings.strength * self._drift()
        # replayed rows come after the new ones in a pass
        seen = {name: one[: len(rows)].flatten(0, -2) for name, one in self.seen.items()}
        if seen and settings.variance:
            found["var"] = settings.variance * torch.stack([variance_loss(one) for one in seen.values()]).sum()
        if seen and self.lower and settings.align:
            cubes = zip(self.layers, self.lower, self.upper, strict=True)
            found["align"] = torch.stack([alignment_loss(seen[name], low, up) for name, low, up in cubes]).sum()
        if seen and self.lower and settings.features and self.old is not None:
            first = seen[next(iter(self.layers))]
            mask = inside(first.detach(), self.lower[0], self.upper[0])
            self.mask_rate = mask.float().mean()
            found["feat"] = settings.features * feature_loss(first, self.old[rows.index].flatten(0, -2), mask)
        return found

    def _drift(self) -> Tensor:
        """Return the sum of L_int over layers."""
        terms = []
        for number, layer in enumerate(self.layers.values()):
            weight, bias = affine(layer)
            old = self.biases[number]
            moved = None if bias is None or old is None else bias - old
            bounds = interval_affine(weight - self.weights[number], moved, self.lower[number], self.upper[number])
            terms.append(drift_loss(*bounds, self.settings.form))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def after_task(self, learner: Learner, task: Task) -> None:
        """Extend the cubes by the task's intervals and record the layers' weights."""
        collected = self._activations(learner, learner.train_rows(task), learner.generator)
        quantiles = self.settings.lower, self.settings.upper
        found = [interval_of(collected[name].flatten(0, -2), *quantiles) for name in self.layers]
        if self.lower:
            pairs = zip(self.lower, self.upper, found, strict=True)
            found = [(torch.minimum(low, a), torch.maximum(up, b)) for low, up, (a, b) in pairs]
        self.lower, self.upper = [low for low, _ in found], [up for _, up in found]
        now = [affine(layer) for layer in self.layers.values()]
        self.weights = [weight.detach().clone() for weight, _ in now]
        self.biases = [None if bias is None else bias.detach().clone() for _, bias in now]

    @torch.no_grad()
    def _activations(
        self, learner: Learner, rows: TaskRows, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, "n *places width"]]:
        """Return the inputs of each protected layer in evaluation mode; with a generator, on a random part of rows."""
        most = self.settings.samples
        if learner.kind == "texts":
            return token_activations(learner, self.layers, rows, most)
        if generator is not None:
            rows = rows.sample(most, generator)
        pieces: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        with on_inputs(self.layers, lambda name, entering: pieces[name].append(entering)):
            learner.map_rows(rows, learner.outputs)
        return {name: torch.cat(found) for name, found in pieces.items()}


def linear_layers(learner: Learner, which: str) -> dict[str, nn.Module]:
    """Return linear layers that read hidden activations: all but the model's first layer, or the head alone.

    Raises:
        InputError: the model has no such layer.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    matrices = [(name, one) for name, one in learner.model.named_modules() if isinstance(one, kinds)]
    linear = [(name, one) for name, one in matrices if isinstance(one, nn.Linear)]
    head = linear[-1:]
    chosen = {
        "all": [pair for pair in linear if pair[0] != matrices[0][0]] or head,
        "hidden": [pair for pair in linear[:-1] if pair[0] != matrices[0][0]],
        "head": head,
    }[which]
    if not chosen:
        raise InputError(f"intact: the model has no {which} linear layer to protect", "use layers=head or layers=all")
    return dict(chosen)


def text_layers(learner: Learner) -> dict[str, nn.Module]:
    """Return each block's last MLP matrix, with or without an adapter."""
    base = learner.language_model.base()  # type: ignore[attr-defined]  # texts have one
    found = {}
    for number, block in enumerate(blocks(base)):
        matrices = [child for child in mlp(block).children() if getattr(getattr(child, "weight", None), "ndim", 0) == 2]
        if not matrices:
            raise InputError(f"intact: the MLP of block {number} has no single last matrix", "use another strategy")
        found[f"block {number}"] = matrices[-1]
    return found


def affine(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return a layer's weight [outputs, inputs] and bias; for an adapted layer, the adapter's product alone."""
    if hasattr(layer, "get_delta_weight"):
        delta: Tensor = layer.get_delta_weight("default")  # type: ignore[operator]
        return (delta.T if is_transposed(layer.base_layer) else delta), None  # type: ignore[arg-type]
    weight: Any = layer.weight
    bias: Any = layer.bias
    return (weight.T if is_transposed(layer) else weight), bias


def token_activations(
    learner: Any, layers: dict[str, nn.Module], rows: TaskRows, most: int
) -> dict[str, Float[Tensor, "n width"]]:
    """Return the layers' inputs at the texts' tokens; a beginning that a batch's rows share counts once.

    Args:
        most: approximate number of tokens, each drawn with the same probability.
    """
    share = most / max(most, int(rows.kept["length"].sum()))
    pieces: dict[str, list[Tensor]] = {name: [] for name in layers}
    for start in range(0, len(rows), TEXT_ROWS):
        part = rows.part(start, start + TEXT_ROWS)
        mask = learner.batch(part).attention_mask.bool()
        taken = mask & (torch.rand(mask.shape, generator=learner.generator) < share).to(mask.device)

        def see(name: str, entering: Tensor, taken: Tensor = taken) -> None:
            length = entering.shape[1]
            whole = len(entering) == len(taken)  # else the shared beginning
            pieces[name].append(entering[taken[:, -length:] if whole else taken[:1, :length]])

        with on_inputs(layers, see):
            learner.forward(part)
    return {name: torch.cat(found) for name, found in pieces.items()}
