"""ReGLU: a LoRA adapter that starts where forget outputs vary and retain outputs do not, and stays off the retain ones.

Paper:   Representation-Guided Parameter-Efficient LLM Unlearning, arXiv 2604.17396. RILA is the start, ROL the
         penalty: h = Wx + s·BAx with B = Q_r, A = Q_rᵀW₀, W = W₀ − s·BA, so nothing has changed before the first step;
         L_ROL = Σ ‖BᵀP‖²_F over the adapted matrices, P the retain outputs' principal directions.
Differs: padding is left out of the pooled representations (the authors' code sums over it, which makes them depend on
         how rows are batched). P has no more columns than there are retain rows: the others would be noise. Without
         retain rows the method is refused (there, P is then random). Dropout is off, as in all training here.

A linear layer's pooled outputs are its weight times its pooled inputs, so inputs are what is recorded. Only 2n + r
directions of a layer's output space can be eigenvectors that matter: the moments are never formed at full size where
that is smaller, and one layer is decomposed after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.adapters import attach_lora, target_modules
from letheon.core.model.hooks import by_row, on_inputs
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import is_matrix
from letheon.core.registry import check_settings, method
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import spread
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request

logger = logging.getLogger("letheon")

RIDGE = 1e-4  # added to the diagonal of every second moment (authors' code)
Pooling = Literal["sum", "mean"]


@dataclass(frozen=True)
class Settings:
    r: int = 32  # Sec. 5 setting for TOFU and WMDP, with alpha 64
    alpha: int = 64
    init: Literal["rila", "lora"] = "rila"  # "lora": A random, B zero, for ablations
    beta: float = 0.7  # TOFU; 0.5 for WMDP
    penalty: float = 0.5  # lambda, the weight of ROL; 0 leaves it out
    rank: int = 128  # k, columns of P
    samples: int = 256  # forget and retain rows that are looked at, each
    pooling: Pooling = "sum"  # over a row's tokens; the authors' code sums, so that long rows count more
    targets: str = "all-linear"  # or names separated by spaces

    def __post_init__(self) -> None:
        check_settings(self, positive=("r", "alpha", "rank", "samples"))
        if not 0 <= self.beta <= 1 or self.penalty < 0:
            raise InputError(f"beta {self.beta}, penalty {self.penalty}", "beta from 0 to 1, penalty 0 or more")


# The method ---------------------------------------------------------------------------------------------------------


def leading_directions(
    terms: Sequence[tuple[float, Float[Tensor, "_ out"]]], count: int
) -> tuple[Float[Tensor, " count"], Float[Tensor, "out count"]]:
    """The algebraically largest eigenvalues, falling, of Σ w·(HᵀH/n + 1e-4·I), and their eigenvectors; float64.

    Args:
        terms: pairs of a weight w (of any sign: the sum may be indefinite) and one representation a row.
        count: how many; at most as many as there are outputs.
    """
    size = terms[0][1].shape[1]
    count = min(count, size)
    columns = [rows.double().T for _, rows in terms]
    spanned = torch.cat(columns, 1)
    basis = torch.eye(size, dtype=torch.float64, device=spanned.device)
    if spanned.shape[1] + count < size:
        # Off the rows' span the sum is a multiple of the identity; `count` more directions stand for all of it.
        basis = torch.linalg.qr(torch.cat([spanned, basis[:, :count]], 1))[0]
    small = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64, device=spanned.device)
    for (weight, rows), column in zip(terms, columns, strict=True):
        inside = basis.T @ column
        small += weight * (inside @ inside.T / len(rows))
    small.diagonal().add_(RIDGE * sum(weight for weight, _ in terms))
    values, vectors = torch.linalg.eigh(small)
    return values.flip(0)[:count], basis @ vectors.flip(1)[:, :count]


def rila(
    forget: Float[Tensor, "rows out"], retain: Float[Tensor, "retain_rows out"], rank: int, beta: float
) -> tuple[Float[Tensor, " rank"], Float[Tensor, "out rank"]]:
    """Eigenvalues and Q_r: the r leading directions of (1 − β)·C_F − β·C_R, uncentred second moments.

    Of all orthonormal B it maximises tr(Bᵀ((1 − β)·C_F − β·C_R)B) (Ky Fan).
    """
    return leading_directions([(1 - beta, forget), (-beta, retain)], rank)


def protected_directions(retain: Float[Tensor, "rows out"], rank: int) -> Float[Tensor, "out directions"]:
    """P: the leading directions of C_R, `rank` of them, but no more than there are rows or outputs."""
    return leading_directions([(1.0, retain)], min(rank, len(retain)))[1]


def orthogonality(factor: Float[Tensor, "out rank"], basis: Float[Tensor, "out directions"]) -> Float[Tensor, ""]:
    """‖BᵀP‖²_F in float32, also where products are in bfloat16."""
    with torch.autocast(factor.device.type, enabled=False):
        return (factor.float().T @ basis.float()).square().sum()


def leakage(basis: Float[Tensor, "out directions"], change: Float[Tensor, "rows out"]) -> float:
    """‖PᵀΔH‖_F/‖ΔH‖_F: the share of a change of outputs that lies in the protected directions, 0 to 1."""
    change = change.detach().double()
    size = float(change.norm())
    return float((change @ basis.detach().double()).norm()) / size if size else 0.0


# What the layers see ------------------------------------------------------------------------------------------------


@torch.no_grad()
def pooled_inputs(
    model: LanguageModel, layers: Mapping[str, nn.Module], rows: Sequence[Example], pooling: Pooling
) -> tuple[dict[str, Float[Tensor, "rows _"]], Num[Tensor, " rows"]]:
    """What enters each layer, pooled over each row's real tokens (prompt and answer), and how often its bias counts.

    A layer whose weight the model uses without calling it (in a recurrent block) is left out.

    Raises:
        InputError: a layer that does not see whole rows (a mixture's expert).
    """
    encoded = model.encoder().encode_all(rows)
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    order: list[int] = []
    lengths = torch.tensor([len(row.ids) for row in encoded], device=model.device)
    for chosen, batch in model.batches(encoded, 16):
        mask = batch.attention_mask

        def see(name: str, entering: Tensor, mask: Tensor = mask) -> None:
            whole = by_row(entering, *mask.shape)
            if whole is None:
                raise InputError(f"reglu: {name} does not see whole rows", "name other targets: reglu:targets=...")
            found[name].append((whole.float() * mask[..., None]).sum(1))

        with on_inputs(layers, see):
            model.base()(batch.input_ids, attention_mask=mask, use_cache=False)
        order += chosen
    back = torch.tensor(order, device=model.device).argsort()
    scale = 1 / lengths[:, None] if pooling == "mean" else torch.ones_like(lengths)[:, None]
    seen = {name: torch.cat(parts)[back] * scale for name, parts in found.items() if parts}
    return seen, (lengths[:, None] * scale)[:, 0]


def outputs(weight: Tensor, bias: Tensor | None, entering: Tensor, counts: Tensor) -> Float[Tensor, "rows out"]:
    """A linear layer's pooled outputs from its pooled inputs, float64."""
    found = entering.double() @ weight.double().T
    return found if bias is None else found + counts.double()[:, None] * bias.double()


# Its seat in the loop -----------------------------------------------------------------------------------------------


@dataclass
class Start:
    """An adapted matrix before the first step.

    Attributes:
        weight: W₀ as it was, in the layer's own layout, in main memory.
        basis: P, [out, k].
        eigenvalues: of (1 − β)·C_F − β·C_R, the r largest.
    """

    weight: Tensor
    basis: Tensor
    eigenvalues: Tensor

    @property
    def positive(self) -> int:
        """Number of the r directions with more weighted forget than retain energy."""
        return int((self.eigenvalues > 0).sum())

    def facts(self) -> dict[str, float]:
        """How the r directions stand between both sets: their number, the positive ones, the ends of the spectrum."""
        ends = {"largest": float(self.eigenvalues.max()), "smallest": float(self.eigenvalues.min())}
        return {"directions": len(self.eigenvalues), "positive": self.positive, **ends}


@method(
    "scope",
    "reglu",
    Settings,
    paper="2604.17396",
    needs={"retain"},
    recipes={"reglu": "inverted_hinge@reglu"},
    recommended={"epochs": 5, "learning_rate": 1e-4, "weight_decay": 0.01, "batch_size": 32, "schedule": "linear"},
    tiny=({"r": 8, "rank": 16}, {"init": "lora", "pooling": "mean"}),
)
class ReGLU(Scope):
    settings: Settings
    starts: dict[str, Start]
    factors: dict[str, tuple[Tensor, Tensor]]  # A and B before the first step, with RILA
    layers: dict[str, Any]

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse targets that the model's blocks do not have."""
        target_modules(model, recipe.scope.settings.targets, experts=False)

    def may_move(self, name: str) -> bool:
        return False

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        settings = self.settings
        model.merge_adapter()
        parameters = attach_lora(model, settings.r, settings.alpha, settings.targets, experts=False)
        self.layers = {name: module for name, module in model.model.named_modules() if hasattr(module, "lora_A")}
        if any(not is_matrix(layer.base_layer) for layer in self.layers.values()):
            raise InputError("reglu: the targets belong to fused experts", "name other targets: reglu:targets=...")
        self._begin(model, request)
        idle = [name for name in parameters if name.split(".lora_")[0] not in self.layers]
        return {name: parameter for name, parameter in parameters.items() if name not in idle}

    @torch.no_grad()
    def _begin(self, model: LanguageModel, request: Request) -> None:
        """Find P for every layer and, with RILA, put its factors in and take s·BA out of its weight."""
        settings, bases = self.settings, {name: layer.base_layer for name, layer in self.layers.items()}
        halves = [
            pooled_inputs(model, bases, spread(rows, settings.samples), settings.pooling)
            for rows in (request.forget, request.retain)
        ]
        whole, self.starts, self.factors = [], {}, {}
        self.layers = {name: layer for name, layer in self.layers.items() if name in halves[0][0]}
        for name, layer in self.layers.items():
            weight, bias = turned(layer, layer.base_layer.weight.detach()), getattr(layer.base_layer, "bias", None)
            forget, retain = (outputs(weight, bias, entering[name], counts) for entering, counts in halves)
            basis = protected_directions(retain, settings.rank).float()
            whole += [name] if basis.shape[1] == len(weight) else []
            values, q = rila(forget, retain, settings.r, settings.beta)
            self.starts[name] = Start(layer.base_layer.weight.detach().to("cpu", copy=True), basis, values)
            if settings.init == "rila":
                self._put(name, layer, weight, q)
        self.table = [{"matrix": name, **start.facts()} for name, start in self.starts.items()]
        if whole and settings.penalty:
            logger.warning("reglu: rank %d protects every output of %d matrices", settings.rank, len(whole))

    def _put(self, name: str, layer: Any, weight: Tensor, q: Tensor) -> None:
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.zero_()  # a matrix with fewer outputs than r has fewer directions
        b.zero_()
        a[: q.shape[1]], b[:, : q.shape[1]] = (q.T @ weight.double()).to(a.dtype), q.to(b.dtype)
        self.factors[name] = a.detach().clone(), b.detach().clone()
        left = weight.double() - layer.scaling["default"] * b.double() @ a.double()
        layer.base_layer.weight.copy_(turned(layer, left))

    def penalty(self) -> Tensor | None:
        if not self.settings.penalty:
            return None
        found = [
            orthogonality(layer.lora_B["default"].weight, self.starts[name].basis)
            for name, layer in self.layers.items()
        ]
        return self.settings.penalty * torch.stack(found).sum()

    @torch.no_grad()
    def finish(self, model: LanguageModel) -> None:
        """Give the weights back and write the change as one adapter of rank 2r, [B, −B₀]·[A; A₀] with the same s.

        A saved adapter of rank r alone would be wrong: it belongs to weights that nobody has.
        """
        trained = {
            name: (layer.lora_A["default"].weight.clone(), layer.lora_B["default"].weight.clone())
            for name, layer in self.layers.items()
        }
        for name, layer in self.layers.items():
            layer.base_layer.weight.copy_(self.starts[name].weight)
        if not self.factors:  # PEFT's own start: the adapter is right as it is
            return
        settings, name_of_base = self.settings, model.model.peft_config["default"].base_model_name_or_path
        model.model = model.model.unload()
        attach_lora(model, 2 * settings.r, 2 * settings.alpha, settings.targets, experts=False)
        model.model.peft_config["default"].base_model_name_or_path = name_of_base
        self.layers = {name: module for name, module in model.model.named_modules() if name in trained}
        for name, layer in self.layers.items():
            (a, b), (a_start, b_start) = trained[name], self.factors[name]
            layer.lora_A["default"].weight.copy_(torch.cat([a, a_start]))
            layer.lora_B["default"].weight.copy_(torch.cat([b, -b_start], 1))


def turned(layer: Any, weight: Tensor) -> Tensor:
    """Turn a matrix from the layer's own layout to [out, in], or back; GPT-2's are stored the other way round."""
    return weight.T if layer.fan_in_fan_out else weight
