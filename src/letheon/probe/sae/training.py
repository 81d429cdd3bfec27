"""Train a sparse autoencoder on activations.

Papers:  ReLU with an L1 penalty: Cunningham et al., arXiv 2309.08600.
         JumpReLU with an L0 penalty and straight-through thresholds: Rajamanoharan et al., arXiv 2407.14435.
         TopK with the auxiliary loss that revives dead latents: Gao et al., arXiv 2406.04093.
Differs: activations are centred and scaled to unit variance for training and the scale is folded into the weights at
         the end, so that one learning rate and one penalty fit any model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adam import adam

from letheon.core.errors import InputError
from letheon.core.registry import check_settings
from letheon.probe.sae.autoencoder import BANDWIDTH, Activation, Jump, SparseAutoencoder, topk

DEAD_AFTER = 50  # steps without firing after which a latent counts as dead

AUXILIARY = 1 / 32  # weight of the loss that revives dead latents (Gao et al., Appendix A.2)


@dataclass(frozen=True)
class SAETraining:
    """Settings of an autoencoder's training.

    Attributes:
        activation: `topk`, `relu` or `jumprelu`.
        expansion: latents per input dimension.
        k: active latents per token, with `topk`.
        penalty: weight of the L1 norm (`relu`) or of the L0 count (`jumprelu`), for inputs of unit variance.
        steps, batch_size, learning_rate: Adam on batches of `batch_size` tokens.
    """

    activation: Activation = "topk"
    expansion: int = 8
    k: int = 16
    penalty: float = 0.3
    steps: int = 1000
    batch_size: int = 256
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        check_settings(self, positive=("expansion", "k", "steps", "batch_size", "learning_rate"))


def train_sparse_autoencoder(
    hidden: Float[Tensor, "tokens width"], settings: SAETraining, seed: int, site: str = ""
) -> SparseAutoencoder:
    """Train an autoencoder on activations and return it frozen; the same seed gives the same bits.

    Raises:
        InputError: fewer than two tokens.
    """
    if len(hidden) < 2:
        raise InputError(f"{len(hidden)} tokens to train a sparse autoencoder on", "give more text")
    hidden = hidden.detach().float()
    centre = hidden.mean(0)
    scale = float((hidden - centre).pow(2).mean().sqrt().clamp(min=1e-12))
    inputs = (hidden - centre) / scale
    generator = torch.Generator().manual_seed(seed)
    sae = _initial(inputs.shape[1], settings, site, generator).to(hidden.device)
    loss = _Loss(sae, settings)
    optimizer = _Adam(sae.parameters())
    for step in range(settings.steps):
        batch = inputs[torch.randint(len(inputs), (settings.batch_size,), generator=generator).to(inputs.device)]
        with torch.enable_grad(), torch.autocast(hidden.device.type, enabled=False):
            loss(batch).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimizer.step(settings.learning_rate * min(1.0, 5 * (1 - step / settings.steps)))
        _tidy(sae)
    _fold(sae, centre, scale)
    return sae.requires_grad_(False)


def _initial(width: int, settings: SAETraining, site: str, generator: torch.Generator) -> SparseAutoencoder:
    """Initialise decoder rows with unit length and the encoder as their transpose (Gao et al., Appendix A.1)."""
    sae = SparseAutoencoder(width, settings.expansion * width, settings.activation, k=settings.k, site=site)
    with torch.no_grad():
        sae.W_dec.copy_(nn.functional.normalize(torch.randn(sae.W_dec.shape, generator=generator), dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
        if sae.threshold is not None:
            sae.threshold.fill_(BANDWIDTH)
    return sae


class _Adam:
    """torch's Adam in functional form, so that hooks which count a run's optimizer steps do not count these."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.taken = [torch.zeros(()) for _ in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step with the present gradients, and clear them."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        adam(
            list(self.parameters),
            gradients,
            self.first,
            self.second,
            [],
            self.taken,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        for parameter in self.parameters:
            parameter.grad = None


class _Loss:
    """Squared error per token, summed over dimensions, plus the term that keeps latents sparse or alive."""

    def __init__(self, sae: SparseAutoencoder, settings: SAETraining) -> None:
        self.sae, self.settings = sae, settings
        self.idle = torch.zeros(sae.W_enc.shape[1], dtype=torch.long, device=sae.W_enc.device)
        self.extra: Callable[[Tensor, Tensor, Tensor], Tensor] = {
            "relu": self._l1,
            "jumprelu": self._l0,
            "topk": self._revive,
        }[settings.activation]

    def __call__(self, inputs: Float[Tensor, "tokens width"]) -> Float[Tensor, ""]:
        pre = self.sae.pre_activations(inputs)
        latents = self.sae.activate(pre)
        error = inputs - self.sae.decode(latents)
        self.idle = torch.where((latents > 0).any(0), 0, self.idle + 1)
        return error.pow(2).sum(-1).mean() + self.extra(pre, latents, error)

    def _l1(self, _: Tensor, latents: Tensor, __: Tensor) -> Tensor:
        return self.settings.penalty * latents.sum(-1).mean()

    def _l0(self, pre: Tensor, _: Tensor, __: Tensor) -> Tensor:
        count: Tensor = Jump.apply(pre, self.sae.threshold, BANDWIDTH)[1]  # type: ignore[no-untyped-call]  # torch's own
        return self.settings.penalty * count.sum(-1).mean()

    def _revive(self, pre: Tensor, _: Tensor, error: Tensor) -> Tensor:
        """Let latents that have not fired for long reconstruct the residual error (Gao et al., Appendix A.2)."""
        dead = self.idle > DEAD_AFTER
        number = min(int(dead.sum()), pre.shape[1] // 16)
        if not number:
            return pre.new_zeros(())
        latents = topk(pre.masked_fill(~dead, -torch.inf), number)
        return AUXILIARY * (error.detach() - latents @ self.sae.W_dec).pow(2).sum(-1).mean()


@torch.no_grad()
def _tidy(sae: SparseAutoencoder) -> None:
    """Rescale decoder rows to unit length (or an L1 penalty would only shrink latents); keep thresholds >= 0."""
    sae.W_dec.copy_(nn.functional.normalize(sae.W_dec, dim=1))
    if sae.threshold is not None:
        sae.threshold.clamp_(min=0)


@torch.no_grad()
def _fold(sae: SparseAutoencoder, centre: Tensor, scale: float) -> None:
    """Fold the normalisation (h − centre) / scale into the weights; latents keep their values."""
    sae.W_enc.div_(scale)
    sae.W_dec.mul_(scale)
    sae.b_dec.mul_(scale).add_(centre)
