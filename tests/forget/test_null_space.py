"""Null spaces: strict and relaxed, the right side of the weight, sinks, a model's own inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, down_projection
from letheon.forget.curvature import null_space as curvature
from letheon.forget.curvature.null_space import Inputs, NullSpace, kept_directions, matrices_among, null_spaces
from letheon.forget.request import Request
from tests import naive

pytestmark = pytest.mark.oracle("null_space")
OUT, IN = 5, 12


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(keys: Tensor) -> Tensor:
    """Of inputs in columns."""
    return keys @ keys.T / keys.shape[1]


SPECTRUM = torch.tensor([0.0, 0.01, 0.04, 0.15, 0.8], dtype=torch.float64)


@pytest.mark.parametrize(
    ("mode", "threshold", "kept"),
    [
        ("absolute", 0.0, 1),  # zeros always count
        ("absolute", 0.02, 2),  # AlphaEdit's: below
        ("absolute", 0.04, 2),
        ("absolute", 1.0, 5),
        ("energy", 0.0, 1),
        ("energy", 0.05, 3),  # 0.01 + 0.04 is a twentieth of the sum
        ("energy", 0.19, 3),
        ("energy", 0.201, 4),
    ],
)
def test_kept_directions_by_hand(mode: str, threshold: float, kept: int) -> None:
    assert kept_directions(SPECTRUM, mode, threshold) == kept
    if mode == "energy":  # free of the activations' scale, as the absolute threshold is not
        assert kept_directions(100 * SPECTRUM, mode, threshold) == kept


def test_the_strict_null_space_leaves_the_outputs_on_every_input_alone() -> None:
    keys = draw(IN, 7)
    weight, change = draw(OUT, IN, seed=1).float(), draw(OUT, IN, seed=2).float()
    space = NullSpace.of(covariance(keys), "energy", 0.0)
    assert space.kept == IN - 7
    moved = (weight + space.project(change) - weight) @ keys.float()
    assert float(moved.norm() / keys.norm()) < 1e-6  # float32
    assert float((change.float() @ keys.float()).norm() / keys.norm()) > 1
    # the wrong side protects outputs, not inputs
    left = NullSpace.of(covariance(draw(OUT, 3, seed=3)), "energy", 0.0).project(change.T).T
    assert float((left @ keys.float()).norm() / keys.norm()) > 0.1


def test_projecting_is_the_product_with_alphaedit_s_projector() -> None:
    c = covariance(draw(IN, 40) * torch.logspace(0, -2, IN, dtype=torch.float64)[:, None])
    u, s, _ = torch.linalg.svd(c)  # as its code does it, largest first
    small = u[:, s < 2e-2]
    assert 0 < small.shape[1] < IN
    change = draw(OUT, IN, seed=2)
    space = NullSpace.of(c, "absolute", 2e-2)
    assert space.kept == small.shape[1]
    projected = space.project(change.float())
    assert torch.allclose(projected.double(), change @ (small @ small.T), atol=1e-6)
    assert torch.allclose(space.project(projected), projected, atol=1e-6)  # a projection
    assert torch.allclose(projected + space.blocked(change.float()), change.float(), atol=1e-6)


def test_single_precision_frees_the_same_energy_beside_a_massive_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = torch.logspace(0, -2, 300, dtype=torch.float64)
    scales[0] = 30.0  # 98 % of the energy: what is small beside it must not count as nothing
    c = covariance(draw(300, 900) * scales[:, None])
    single = {share: NullSpace.of(c, "energy", share) for share in (0.01, 0.015)}
    monkeypatch.setattr(curvature, "SINGLE", 1.0)
    for share, found in single.items():
        exact, basis = NullSpace.of(c, "energy", share), found.protected.double()
        assert 0 < found.kept < 299
        assert found.kept == exact.kept
        assert torch.allclose(found.spectrum, exact.spectrum, atol=1e-6 * float(exact.spectrum[-1]))
        left = 1 - torch.trace(basis.T @ c @ basis) / torch.trace(c)
        assert float(left) == pytest.approx(share, rel=0.1)
        assert float(left) < 1.01 * share


def test_a_transposed_weight_is_projected_along_its_inputs() -> None:
    keys, change = draw(IN, 7), draw(OUT, IN, seed=2).float()
    space = NullSpace.of(covariance(keys), "energy", 0.0)
    turned = NullSpace(space.protected, space.spectrum, transposed=True)
    assert torch.allclose(turned.project(change.T), space.project(change).T, atol=1e-6)


def test_later_tasks_add_their_directions() -> None:
    first, second = draw(IN, 4), draw(IN, 3, seed=5)
    space = NullSpace.of(covariance(first), "energy", 0.0).protecting(second)
    assert space.kept == IN - 7
    both = torch.cat([first, second], 1).float()
    change = space.project(draw(OUT, IN, seed=2).float())
    assert float((change @ both).abs().max()) < 1e-5
    basis = space.protected
    assert torch.allclose(basis.T @ basis, torch.eye(7), atol=1e-6)
    assert space.protecting(first[:, :2]).kept == IN - 7  # they are in it already
    assert space.protecting(torch.zeros(IN, 1)).kept == IN - 7


def test_the_first_token_does_not_swallow_the_energy_and_is_protected() -> None:
    keys, sink = draw(200, IN), torch.zeros(1, IN, dtype=torch.float64)
    sink[0, 0] = 1000.0
    inputs = Inputs(IN, torch.device("cpu"))
    rows = torch.stack([torch.cat([sink, part]) for part in (keys[:120], torch.cat([keys[120:], 9 * keys[:40]]))])
    real = torch.ones(2, 121, dtype=torch.bool)
    real[1, 81:] = False  # padding
    inputs.add(rows, real)
    space = inputs.null_space("energy", 0.3)
    naive_space = NullSpace.of(covariance(torch.cat([sink, sink, keys]).T), "energy", 0.3)
    assert naive_space.kept == IN - 1  # the sink alone would pass for all of the energy
    assert space.kept < IN / 2
    change = space.project(draw(OUT, IN, seed=2).float())
    assert float((change @ sink[0].float()).abs().max()) / 1000 < 1e-5
    expected = covariance(keys.T)
    assert torch.allclose(space.spectrum, torch.linalg.eigvalsh(expected))


def test_a_model_s_inputs_are_those_of_a_plain_pass(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    matrix = down_projection(blocks(tiny.model)[1])
    name = "model.layers.1.mlp.down_proj.weight"
    parameters = {name: matrix.weight, "model.norm.weight": tiny.model.model.norm.weight}
    assert matrices_among(tiny, parameters) == {name: matrix}
    keys: list[Tensor] = []
    handle = matrix.register_forward_pre_hook(lambda _, args: keys.append(args[0][0]))
    with torch.no_grad():
        for row in rows.retain:
            tiny.model(torch.tensor([row.ids]))
    handle.remove()
    batches = [rows.retain_batch([0, 1, 2]), *(rows.retain_batch([i]) for i in range(3, len(rows.retain)))]
    assert 0 in batches[0].attention_mask  # some are padded
    space = null_spaces(tiny, batches, {"w": matrix}, "energy", 0.1)["w"]
    later = torch.cat([x[1:] for x in keys]).double()
    assert torch.allclose(space.spectrum, torch.linalg.eigvalsh(later.T @ later / len(later)), rtol=1e-4, atol=1e-9)
    change = space.project(torch.randn(matrix.weight.shape, generator=torch.Generator().manual_seed(0)))
    ones = torch.stack([x[0] for x in keys])
    assert float((change @ ones.T).norm() / (change.norm() * ones.norm())) < 1e-5  # the first token's input
    energy = float((change @ later.float().T).norm() ** 2 / (change.norm() ** 2 * later.float().norm() ** 2))
    assert energy < 0.1  # at most the share that was allowed, were all of the change in one direction


def test_matrices_of_one_input_share_the_null_space_of_each(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    attention = blocks(tiny.model)[1].self_attn
    matrices = {"q": attention.q_proj, "v": attention.v_proj, "o": attention.o_proj}
    batches = [rows.retain_batch([i]) for i in range(2)]
    together = null_spaces(tiny, batches, matrices, "energy", 0.1)
    assert together["q"] is together["v"] is not together["o"]
    for name, matrix in matrices.items():
        alone = null_spaces(tiny, batches, {name: matrix}, "energy", 0.1)[name]
        assert torch.equal(alone.protected, together[name].protected)


def test_a_matrix_that_sees_some_tokens_only_is_refused(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    matrix = down_projection(blocks(tiny.model)[1])
    flattened = nn.Linear(matrix.in_features, matrix.out_features, bias=False)
    flattened.weight = matrix.weight

    original = matrix.forward
    matrix.forward = lambda x: torch.cat([flattened(x[:, :2]), flattened.weight.new_zeros(1, x.shape[1] - 2, 64)], 1)
    try:
        with pytest.raises(InputError, match="w does not see every token"):
            null_spaces(tiny, [rows.retain_batch([0])], {"w": flattened, "d": matrix}, "energy", 0.1)
    finally:
        matrix.forward = original
