"""Sparse autoencoders of residual activations (ReLU, JumpReLU, TopK): encode, decode, save and load.

Papers:  ReLU: Cunningham et al., arXiv 2309.08600. JumpReLU: Rajamanoharan et al., arXiv 2407.14435.
         TopK: Gao et al., arXiv 2406.04093.

The folder format is that of the library sae-lens (`cfg.json` and `sae_weights.safetensors`), so public autoencoders
load without sae-lens, and sae-lens loads ours. A folder of Gemma Scope (Lieberum et al., arXiv 2408.05147), which holds
`params.npz`, loads as well. Nothing pickled is read.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.atomic import atomic_folder, read_json, write_json
from letheon.core.errors import InputError

Activation = Literal["topk", "relu", "jumprelu"]
ARCHITECTURES = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}  # sae-lens's names -> ours
WEIGHTS = "sae_weights.safetensors"
GEMMA_SCOPE = "params.npz"
# Bandwidth of the straight-through estimate; the paper uses 0.001, with another scale and billions of tokens.
BANDWIDTH = 0.1


class SparseAutoencoder(nn.Module):
    """z = act((h − b_dec) W_enc + b_enc), ĥ = z W_dec + b_dec; m latents of width d, m >> d.

    Args:
        width, latents: d and m.
        activation: function from pre-activations to latents.
        k: number of active latents per token, with `topk`.
        centred: whether b_dec is subtracted before the encoder (sae-lens's `apply_b_dec_to_input`).
        site: the site of its training activations, as `cfg.json` names it; empty if unknown.
    """

    def __init__(
        self,
        width: int,
        latents: int,
        activation: Activation = "topk",
        *,
        k: int = 16,
        centred: bool = True,
        site: str = "",
    ) -> None:
        super().__init__()
        self.activation, self.k, self.centred, self.site = activation, min(k, latents), centred, site
        self.W_enc = nn.Parameter(torch.zeros(width, latents))
        self.b_enc = nn.Parameter(torch.zeros(latents))
        self.W_dec = nn.Parameter(torch.zeros(latents, width))
        self.b_dec = nn.Parameter(torch.zeros(width))
        self.threshold = nn.Parameter(torch.zeros(latents)) if activation == "jumprelu" else None

    def pre_activations(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """Compute the values before the activation, which have a gradient even if the latent is off."""
        shift = self.b_dec if self.centred else 0.0
        return (hidden - shift) @ self.W_enc + self.b_enc

    def activate(self, pre: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """Turn pre-activations into latents, all >= 0."""
        if self.activation == "topk":
            return topk(pre, self.k)
        if self.threshold is not None:
            return jump_relu(pre, self.threshold)
        return pre.relu()

    def encode(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """Compute the latents of residual activations."""
        return self.activate(self.pre_activations(hidden))

    def decode(self, latents: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch width"]:
        """Residual activations as the latents have them."""
        return latents @ self.W_dec + self.b_dec

    def forward(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The reconstruction."""
        return self.decode(self.encode(hidden))

    @torch.no_grad()
    def quality(self, hidden: Float[Tensor, "tokens width"]) -> Quality:
        """Explained variance, active latents a token, and latents that never fire, on these tokens."""
        latents = self.encode(hidden)
        variance = explained_variance(hidden, self.decode(latents))
        active = latents > 0
        return Quality(variance, float(active.sum(-1).float().mean()), float((~active.any(0)).float().mean()))

    @property
    def layer(self) -> int | None:
        """The block whose output it was trained on; None if the site does not say."""
        found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", self.site)
        return int(found[1]) - (found[2] == "pre") if found else None

    def save(self, folder: Path, model: str = "") -> Path:
        """Save in the sae-lens format, atomically."""
        from safetensors.torch import save_file

        config: dict[str, Any] = {
            "architecture": next(name for name, ours in ARCHITECTURES.items() if ours == self.activation),
            "d_in": self.W_enc.shape[0],
            "d_sae": self.W_enc.shape[1],
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.centred,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {"hook_name": self.site or None, "model_name": model or None},
        }
        if self.activation == "topk":
            config |= {"k": self.k, "rescale_acts_by_decoder_norm": False}
        with atomic_folder(folder) as temporary:
            write_json(temporary / "cfg.json", config)
            tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.state_dict().items()}
            save_file(tensors, temporary / WEIGHTS)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> SparseAutoencoder:
        """Load an autoencoder from a folder in the sae-lens format, or in Gemma Scope's.

        Raises:
            InputError: the folder is missing, weights are pickled, the architecture or normalisation is unsupported, or
                tensors' shapes differ from the configuration.
        """
        folder = Path(folder)
        of_gemma_scope = not (folder / "cfg.json").is_file() and (folder / GEMMA_SCOPE).is_file()
        config, tensors = _read_gemma_scope(folder) if of_gemma_scope else _read(folder)
        activation = _architecture(folder, config)
        width, latents = tensors["W_enc"].shape
        meta = config.get("metadata") or config.get("meta") or {}
        kwargs = config.get("activation_fn_kwargs") or {}
        sae = cls(
            width,
            latents,
            activation,
            k=int(config.get("k") or kwargs.get("k") or 100),  # 100 is the default there
            centred=bool(config.get("apply_b_dec_to_input", True)),
            site=str(config.get("hook_name") or meta.get("hook_name") or ""),
        )
        if sae.activation == "topk" and config.get("rescale_acts_by_decoder_norm"):
            norms = tensors["W_dec"].norm(dim=1)  # folded: the encoder is scaled up by what the decoder is scaled down
            tensors |= {"W_enc": tensors["W_enc"] * norms, "b_enc": tensors["b_enc"] * norms}
            tensors |= {"W_dec": tensors["W_dec"] / norms[:, None]}
        expected = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
        for name, shape in expected.items():
            found = tuple(tensors[name].shape) if name in tensors else "nothing"
            if found != shape:
                raise InputError(f"{folder}: {name} should be {shape}, found {found}", "give whole weights")
        sae.load_state_dict({name: tensors[name].float() for name in expected})
        return sae.requires_grad_(False)


@dataclass(frozen=True)
class Quality:
    """Measures of an autoencoder on activations.

    Attributes:
        explained_variance: 1 − ‖h − ĥ‖² / ‖h − mean h‖², summed over tokens.
        l0: mean number of active latents per token.
        dead: share of latents that fire on no token.
    """

    explained_variance: float
    l0: float
    dead: float


def explained_variance(hidden: Float[Tensor, "tokens width"], rebuilt: Float[Tensor, "tokens width"]) -> float:
    """Compute 1 − Σ‖h − ĥ‖² / Σ‖h − mean h‖²: 1 is perfect, 0 is no better than the mean."""
    return float(1 - ((hidden - rebuilt) ** 2).sum() / ((hidden - hidden.mean(0)) ** 2).sum().clamp(min=1e-30))


def topk(pre: Float[Tensor, "*batch latents"], k: int) -> Float[Tensor, "*batch latents"]:
    """Keep the k largest pre-activations per token that are above 0; set the others to 0."""
    values, places = pre.topk(k, -1)
    return torch.zeros_like(pre).scatter(-1, places, values.relu())


class Jump(torch.autograd.Function):
    """x · 1[x > θ] and 1[x > θ]; thresholds get their gradient from inputs within half a bandwidth of them."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        on = (pre > threshold).to(pre.dtype)
        return pre * on, on

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        of_value, of_count = gradients
        near = ((pre - threshold).abs() < ctx.bandwidth / 2).to(pre.dtype) / ctx.bandwidth
        of_threshold = -near * (threshold * of_value + of_count)
        return (pre > threshold).to(pre.dtype) * of_value, of_threshold.sum_to_size(threshold.shape), None


def jump_relu(
    pre: Float[Tensor, "*batch latents"], threshold: Float[Tensor, " latents"]
) -> Float[Tensor, "*batch latents"]:
    """x · 1[x > θ] with θ >= 0 (Rajamanoharan et al., Eq. 2; pseudo-derivatives of Eqs. 11, 12)."""
    value: Tensor = Jump.apply(pre.relu(), threshold, BANDWIDTH)[0]  # type: ignore[no-untyped-call]  # torch's own
    return value


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "cfg.json").is_file():
        raise InputError(f"{folder} has no cfg.json", "give a folder in the sae-lens format")
    if not (folder / WEIGHTS).is_file():
        pickled = [file.name for suffix in ("pt", "pth", "bin", "npz") for file in folder.glob(f"*.{suffix}")]
        found = f"{folder} holds {pickled[0]}, which is no safetensors" if pickled else f"{folder} has no {WEIGHTS}"
        raise InputError(found, f"save it with sae-lens, which writes {WEIGHTS}")
    config = read_json(folder / "cfg.json")
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'cfg.json'}: found {type(config).__name__}", "give an object with fields")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS} cannot be read: {error}", "give a whole safetensors file") from None
    if tensors.get("W_enc", torch.zeros(0)).ndim != 2:
        raise InputError(f"{folder / WEIGHTS} has no matrix W_enc (found {', '.join(tensors)})", "give a whole file")
    return config, tensors


def _read_gemma_scope(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The weights of `layer_N/.../params.npz`: a JumpReLU of block N's output, from which b_dec is not subtracted."""
    try:
        with np.load(folder / GEMMA_SCOPE) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{folder / GEMMA_SCOPE} cannot be read: {error}", "give a whole file") from None
    if tensors.get("W_enc", torch.zeros(0)).ndim != 2:
        raise InputError(f"{folder / GEMMA_SCOPE} has no matrix W_enc", "give a file of Gemma Scope")
    named = (re.fullmatch(r"layer_(\d+)", part) for part in reversed(folder.absolute().parts))
    layer = next((found[1] for found in named if found), None)
    site = f"blocks.{layer}.hook_resid_post" if layer else ""
    return {"architecture": "jumprelu", "apply_b_dec_to_input": False, "hook_name": site}, tensors


def _architecture(folder: Path, config: dict[str, Any]) -> Activation:
    """Map the configuration to one of our activations.

    Raises:
        InputError: the configuration asks for something that is not computed here.
    """
    name = str(config.get("architecture", "standard"))
    activation = str(config.get("activation_fn_str") or config.get("activation_fn") or "relu")
    if name == "standard" and activation == "topk":  # how sae-lens wrote TopK before version 6
        name = "topk"
    if name not in ARCHITECTURES or activation not in ("relu", "topk"):
        raise InputError(f"{folder}: architecture {name} with {activation}", "use one of " + ", ".join(ARCHITECTURES))
    scaling = config.get("normalize_activations", "none")
    if scaling not in ("none", None):
        raise InputError(
            f"{folder}: activations are normalised ({scaling}), which is not understood",
            "fold the scale into the weights with sae-lens (fold_activation_norm_scaling_factor)",
        )
    ours = ARCHITECTURES[name]
    return next(kind for kind in get_args(Activation) if kind == ours)
