"""Compares each curvature's step with the exact Gauss-Newton step, on a network small enough for the whole matrix.

A network of 64-16-10 reads scikit-learn's digits; digit 3 is to be forgotten, the others are to be retained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from letheon.core.scoring.likelihood import sample_labels
from letheon.forget.curvature.fitting import Passed, fit
from letheon.forget.curvature.kronecker import Kind
from letheon.forget.curvature.linear import as_linear
from letheon.papers.common.networks import seeded

KINDS: tuple[Kind, ...] = ("kfac", "ekfac", "diagonal", "identity")
DAMPINGS = (1e-1, 1e-2, 1e-3)


def cosines(seed: int) -> dict[str, float]:
    """Cosine of each curvature's step with the exact step, mean over dampings."""
    net, inputs, digits = digit_reader(seed)
    retained = inputs[digits != 3][:400]
    layers = {name: as_linear(net.get_submodule(name), net.parameters()) for name in ("0", "2")}
    net.zero_grad()
    loss = nn.functional.cross_entropy(net(inputs[digits == 3]), digits[digits == 3])
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradient = {name: layer.gradient() for name, layer in layers.items()}

    def passes() -> Iterator[Passed]:
        for number in range(10):  # draws of labels
            logits = net(retained)
            generator = torch.Generator().manual_seed(1000 * seed + number)
            drawn = sample_labels(logits.detach(), torch.rand(len(retained), generator=generator))
            loss = nn.functional.cross_entropy(logits, drawn, reduction="sum")
            yield Passed(loss, None, len(retained), len(retained))

    def flat(step: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([step[name].flatten() for name in layers]).double()

    factors = {kind: fit(layers, passes, kind) for kind in KINDS}
    values, vectors = torch.linalg.eigh(exact_gauss_newton(net, retained))
    inside = vectors.T @ flat(gradient)
    mean: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for damping in DAMPINGS:
        exact = vectors @ (inside / (values.clamp(min=0) + damping))
        for kind in KINDS:
            step = {name: block.precondition(gradient[name], damping) for name, block in factors[kind].blocks.items()}
            mean[kind] += float(torch.cosine_similarity(flat(step), exact, 0)) / len(DAMPINGS)
    return mean


def digit_reader(seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network of 64-16-10 trained on scikit-learn's digits, with their pixels and labels."""
    inputs, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(inputs, dtype=torch.float32) / 16, torch.tensor(digits)
    net = seeded(lambda: nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)), seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return net, x, y


def exact_gauss_newton(net: nn.Sequential, inputs: Tensor) -> Tensor:
    """E[Jᵀ (diag(p) − ppᵀ) J] over all weights in float64; a layer's weights [out, in] take its bias as last column."""
    weights = {name: parameter.detach().double() for name, parameter in net.named_parameters()}

    def logits(at: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, dict(at), (x[None],))[0]

    jacobian = vmap(jacrev(logits), in_dims=(None, 0))(weights, inputs.double())
    parts = [torch.cat([jacobian[f"{i}.weight"], jacobian[f"{i}.bias"][..., None]], -1).flatten(2) for i in (0, 2)]
    rows = torch.cat(parts, -1)
    p = torch.softmax(vmap(logits, in_dims=(None, 0))(weights, inputs.double()), -1)
    centred = rows - torch.einsum("nk,nkp->np", p, rows)[:, None]
    whitened = (p.sqrt()[..., None] * centred).flatten(0, 1)
    return whitened.T @ whitened / len(inputs)
