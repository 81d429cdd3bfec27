"""Attenuation (U-CAN): shrink the dimensions of a LoRA adapter that fire on the forget rows, without training.

Two forward passes, over a sample of the forget rows and of the retain rows; no gradient is taken. The base weights and
the adapter's rank stay; the change can be kept and taken back (`keep_update`, `letheon.forget.reapply`).

Paper:   U-CAN: Utility-Aware Contrastive Attenuation for Efficient Unlearning, arXiv 2602.23400.
Differs: the paper's code and equations are not public; what is reconstructed from its prose is marked [inferred].
         A unit is shrunk only if its gap exceeds what random halves of the retain rows show: min-max within a layer
         would call some unit risky even where forget and retain rows are alike (`gate=none` leaves that out: the paper
         forgets a random part of its rows, which differs from the rest by noise alone).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.atomic import write_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import some_of, stream_seed
from letheon.core.training.loop import TrainingOutcome
from letheon.forget.edits.adapter_activity import (
    Activity,
    Dims,
    Tokens,
    content_masks,
    lora_factors,
    record_activity,
    standard_gap,
)
from letheon.forget.procedure import Procedure, ProcedureContext

Fusion = Literal["subtractive", "additive", "multiplicative"]
Decay = Literal["exp", "sigmoid", "hard"]
FILE = "attenuation.json"


@dataclass(frozen=True)
class Settings:
    quantile: float = 0.85  # t_risk is this quantile of a factor's risks: the top 10 to 20 % [inferred]
    kappa: float = 4.0  # 3 to 5 [inferred]
    lam: float = 0.5  # weight of the utility; the paper names a fusion coefficient [value inferred]
    fusion: Fusion = "subtractive"  # [inferred]
    decay: Decay = "exp"  # [inferred]; `hard` is the paper's ablation without soft decay
    floor: float = 0.01  # never zero (the paper; value inferred)
    dims: Dims = "both"  # columns of A, of B, or both [inferred]
    gate: Literal["noise", "none"] = "noise"  # ours; none shrinks whatever lies above the quantile, as the paper does
    tokens: Tokens = "content"  # content: prompt and answer without what all prompts share
    rows: int = 200  # of each set, drawn under the seed; 0 takes all

    def __post_init__(self) -> None:
        check_settings(self, positive=("kappa", "floor"))
        allowed = {"quantile": 0 <= self.quantile < 1, "lam": 0 <= self.lam <= 1, "floor": self.floor < 1}
        allowed["rows"] = self.rows >= 0  # 0 takes all
        for name in (name for name, fine in allowed.items() if not fine):
            raise InputError(
                f"{name}: found {getattr(self, name)}", "rows is 0 or more, the others are below 1 (lam: 1)"
            )


# The method, on tensors ---------------------------------------------------------------------------------------------


def contrastive_gap(forget: Float[Tensor, " units"], retain: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """max(0, ā_f − ā_r): how much more each unit fires on forget tokens; 0 if it fires more on retain ones."""
    return (forget - retain).clamp(min=0)


def utility(factor: Float[Tensor, "out units"], retain_norm: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Σ_i |M_ij| · ‖a_j‖₂ over retain tokens: weight magnitude times activation norm [sum over i inferred]."""
    return factor.abs().sum(0) * retain_norm


def unit_range(values: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Min-max within a layer: the smallest becomes 0, the largest 1; all 0 where they are all alike."""
    low, high = values.aminmax()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def fused_risk(
    gap: Float[Tensor, " units"], used: Float[Tensor, " units"], lam: float, fusion: Fusion = "subtractive"
) -> Float[Tensor, " units"]:
    """Risk in [0, 1] from normalised gap ĝ and utility Û [all three forms inferred].

    subtractive ĝ − λÛ; additive λĝ + (1 − λ)(1 − Û); multiplicative ĝ(1 − Û)^λ.
    """
    fused = {
        "subtractive": lambda: gap - lam * used,
        "additive": lambda: lam * gap + (1 - lam) * (1 - used),
        "multiplicative": lambda: gap * (1 - used) ** lam,
    }[fusion]()
    return fused.clamp(0, 1)


def attenuation(
    risk: Float[Tensor, " units"], threshold: float, kappa: float, floor: float = 0.01, decay: Decay = "exp"
) -> Float[Tensor, " units"]:
    """m: 1 up to the threshold, then exp(−κ(R − t)/(1 − t)), at least `floor` [form inferred].

    `sigmoid` is 2(1 − σ(κ(R − t)/(1 − t))), doubled so that it too begins at 1; `hard` is 0 above the threshold.
    """
    beyond = ((risk - threshold) / max(1 - threshold, 1e-12)).clamp(min=0)
    if decay == "hard":
        return (beyond == 0).to(risk.dtype)
    soft = torch.exp(-kappa * beyond) if decay == "exp" else 2 * torch.sigmoid(-kappa * beyond)
    return torch.where(beyond > 0, soft.clamp(min=floor), torch.ones_like(risk))


# What is measured ---------------------------------------------------------------------------------------------------


@dataclass
class Factor:
    """One low-rank factor (A or B) of an adapted layer, and the activity of its inputs."""

    module: nn.Linear
    forget: Activity
    retain: Activity

    @property
    def weight(self) -> Tensor:
        """The factor's matrix, [out, units]."""
        return self.module.weight.detach()

    def significance(self) -> Tensor:
        """The gap in units of its standard error, [units]."""
        gap = contrastive_gap(self.forget.mean(), self.retain.mean())
        return standard_gap(gap, self.retain.spread(), len(self.forget.counts), len(self.retain.counts))


@dataclass
class Attenuated:
    """The decision for one factor: the columns of the table, [units] each, and the threshold."""

    forget: Tensor
    retain: Tensor
    gap: Tensor
    utility: Tensor
    risk: Tensor
    m: Tensor
    threshold: float

    def table(self) -> dict[str, Any]:
        """The decision as JSON-ready data: sizes, and one entry per column for every unit that was shrunk."""
        shrunk = (self.m < 1).nonzero().flatten()
        columns = {name: getattr(self, name)[shrunk].tolist() for name in COLUMNS}
        head = {"units": len(self.m), "attenuated": len(shrunk), "threshold": self.threshold}
        return {**head, "unit": shrunk.tolist(), **columns}


COLUMNS = ("forget", "retain", "gap", "utility", "risk", "m")


def measure(
    model: LanguageModel, forget: Sequence[Example], retain: Sequence[Example], settings: Settings | None = None
) -> dict[str, Factor]:
    """Both forward passes: every factor with its activity on forget and retain rows.

    Raises:
        InputError: no LoRA adapter; fewer than four retain rows (halves of them say how large noise is).
    """
    settings = settings or Settings()
    factors = lora_factors(model, settings.dims)
    check_rows(retain)
    examples, encoder, n = [*forget, *retain], model.encoder(), len(forget)
    rows = encoder.encode_all(examples)
    ending = len(encoder.answer("", end=True)[0])
    masks = content_masks(rows, [ending if example.prompt else 0 for example in examples], settings.tokens)
    on_forget = record_activity(model, rows[:n], masks[:n], factors)
    on_retain = record_activity(model, rows[n:], masks[n:], factors)
    seen = [name for name in factors if name in on_forget and name in on_retain]
    if not seen:
        raise InputError(
            f"no factor of {model.name}'s adapter took part in a forward pass", "give an adapter that is not merged"
        )
    return {name: Factor(factors[name], on_forget[name], on_retain[name]) for name in seen}


def check_rows(retain: Sequence[Example]) -> None:
    """Refuse retain rows that are too few to estimate noise (`InputError`)."""
    if len(retain) < 4:
        raise InputError(f"attenuation needs 4 retain rows or more, found {len(retain)}", "give more retain rows")


def noise_level(factors: Mapping[str, Factor]) -> float:
    """The largest standardised difference of any unit of any factor between random halves of the retain rows."""
    return max(float(factor.retain.half_gaps().max()) for factor in factors.values())


def decide(factors: Mapping[str, Factor], settings: Settings | None = None) -> dict[str, Attenuated]:
    """Compute risk and attenuation of every unit; no weight is changed."""
    settings = settings or Settings()
    noise = noise_level(factors) if settings.gate == "noise" else -1.0
    return {name: _decide(factor, factor.significance() > noise, settings) for name, factor in factors.items()}


def _decide(factor: Factor, significant: Bool[Tensor, " units"], settings: Settings) -> Attenuated:
    forget, retain = factor.forget.mean(), factor.retain.mean()
    gap = contrastive_gap(forget, retain)
    used = unit_range(utility(factor.weight.float().cpu(), factor.retain.squares.sqrt()))
    risk = fused_risk(unit_range(gap), used, settings.lam, settings.fusion)
    threshold = float(risk.quantile(settings.quantile))
    m = attenuation(risk, threshold, settings.kappa, settings.floor, settings.decay)
    return Attenuated(forget, retain, gap, used, risk, torch.where(significant, m, torch.ones_like(m)), threshold)


@torch.no_grad()
def scale_columns(layer: nn.Linear, m: Float[Tensor, " units"]) -> None:
    """M_:j ← m(j) · M_:j, in place.

    Columns of A are a layer's inputs, columns of B the ranks; scaling rows of A as well would square the ranks' m.
    """
    layer.weight.mul_(m.to(layer.weight.device, layer.weight.dtype))


def attenuate(
    model: LanguageModel, forget: Sequence[Example], retain: Sequence[Example], settings: Settings | None = None
) -> dict[str, Attenuated]:
    """Attenuate the model's LoRA adapter in place, on all the rows given; returns one table entry per factor."""
    factors = measure(model, forget, retain, settings)
    found = decide(factors, settings)
    for name, factor in factors.items():
        scale_columns(factor.module, found[name].m)
    return found


# Its seat -----------------------------------------------------------------------------------------------------------


@method(
    "edit",
    "attenuation",
    Settings,
    paper="2602.23400",
    needs={"retain"},
    recipes={"u-can": "attenuation"},
    seeded=False,
    adapter=True,
    turns=False,
)
class Attenuation(Procedure):
    changes = r"\.lora_[AB]\."

    settings: Settings

    def check(self, work: ProcedureContext) -> None:
        lora_factors(work.model, self.settings.dims)
        check_rows(work.request.retain)

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        forget, retain = (
            [rows[i] for i in some_of(len(rows), self.settings.rows, stream_seed(work.training.seed, "attenuation", n))]
            for n, rows in enumerate((work.request.forget, work.request.retain))
        )
        found = attenuate(work.model, forget, retain, self.settings)
        passed_over = len(lora_factors(work.model, self.settings.dims)) - len(found)
        if passed_over:
            work.warnings.append(f"{passed_over} factors of the adapter were not seen token by token: left as they are")
        if work.run is not None:
            write_json(work.run.folder / FILE, {name: factor.table() for name, factor in found.items()})
        return TrainingOutcome(0, "edited in one pass", [dict(_summary(found))])


def _summary(found: Mapping[str, Attenuated]) -> Iterator[tuple[str, float]]:
    m = torch.cat([factor.m for factor in found.values()])
    shrunk = m < 1
    yield "units", float(len(m))
    yield "attenuated", float(shrunk.sum())
    yield "smallest_factor", float(m.min())
    yield "mean_factor", float(m[shrunk].mean()) if bool(shrunk.any()) else 1.0
