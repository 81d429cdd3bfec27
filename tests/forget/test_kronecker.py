"""Kronecker factors against closed forms, explicit Gauss-Newton matrices and measured divergences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import sample_labels, score
from letheon.forget.curvature import cache
from letheon.forget.curvature.cache import cached, load_factors, save_factors
from letheon.forget.curvature.fitting import Passed, fit, sampled_passes
from letheon.forget.curvature.kronecker import Block, Factors, Kind, eigenbasis
from letheon.forget.curvature.linear import Linear, as_linear, linear_layers
from letheon.forget.request import Request
from letheon.forget.updates import gauss_newton as gauss_newton_update
from tests import naive

pytestmark = pytest.mark.oracle("gauss_newton")
KINDS: tuple[Kind, ...] = ("kfac", "ekfac", "diagonal")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(block: Block) -> Tensor:
    """G as a matrix over the weights in row-major order."""
    spread = torch.diag(block.curvature.flatten())
    if block.left is None or block.right is None:
        return spread
    basis = torch.kron(block.left, block.right)
    return basis @ spread @ basis.T


# Labels from the model ----------------------------------------------------------------------------------------------


def test_labels_are_drawn_as_often_as_the_model_says() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.2, 0.3])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = sample_labels(probabilities.log().expand(20_000, 4), uniform)
    # a share's standard error is at most 0.0035 here
    assert torch.allclose(torch.bincount(drawn, minlength=4) / 20_000, probabilities, atol=0.015)
    assert not (drawn == 1).any()


def test_a_label_is_where_the_distribution_function_passes_the_draw() -> None:
    logits = torch.tensor([[0.25, 0.25, 0.5]]).log().expand(5, 3)
    assert sample_labels(logits, torch.tensor([0.0, 0.24, 0.26, 0.51, 0.9999999])).tolist() == [0, 0, 1, 2, 2]


# One layer by hand --------------------------------------------------------------------------------------------------


def one_layer(gradients: Tensor, entered: Tensor, real: Tensor | None = None) -> tuple[dict[str, Linear], object]:
    """A linear layer, and passes in which the gradient of what leaves it is given."""
    module = nn.Linear(entered.shape[-1], gradients.shape[-1], bias=False)
    rows = len(entered)
    count = int(real.sum()) if real is not None else entered[..., 0].numel()

    def passes() -> Iterator[Passed]:
        yield Passed((module(entered) * gradients).sum(), real, count, rows)

    return {"layer": as_linear(module, module.parameters())}, passes


def test_kfac_of_two_tokens_worked_by_hand() -> None:
    # a = (1, 0), (1, 2) and g = (2,), (4,): A = [[1, 1], [1, 2]], S = [10]
    layers, passes = one_layer(torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    factors = fit(layers, passes, "kfac")
    assert torch.allclose(dense(factors.blocks["layer"]), torch.tensor([[10.0, 10.0], [10.0, 20.0]]), atol=1e-5)
    assert (factors.tokens, factors.predictions) == (2, 2)
    change = {"layer": torch.tensor([[1.0, -1.0]])}
    assert factors.predicted_kl(change) == pytest.approx(0.5 * 10)  # ½ (10 − 20 + 20)


def test_the_diagonal_is_the_mean_of_squared_gradients_worked_by_hand() -> None:
    layers, passes = one_layer(torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    factors = fit(layers, passes, "diagonal")
    assert factors.blocks["layer"].curvature.tolist() == [[10.0, 32.0]]  # (4 + 16) / 2, (0 + 64) / 2


def test_a_rows_tokens_are_summed_before_they_are_squared() -> None:
    # one row of two tokens: its gradient is 2·(1, 0) + 4·(1, 2) = (6, 8), over two predictions
    layers, passes = one_layer(torch.tensor([[[2.0], [4.0]]]), torch.tensor([[[1.0, 0.0], [1.0, 2.0]]]))
    assert fit(layers, passes, "diagonal").blocks["layer"].curvature.tolist() == [[18.0, 32.0]]


def test_padding_does_not_enter_the_activations_covariance() -> None:
    entered, gradients = draw(2, 3, 4), draw(2, 3, 2, seed=1)
    real = torch.tensor([[True, True, True], [True, False, False]])
    gradients = gradients * real[..., None]
    layers, passes = one_layer(gradients, entered, real)
    a, g = entered[real], gradients[real]
    expected = torch.kron(g.T @ g / 4, a.T @ a / 4)
    assert torch.allclose(dense(fit(layers, passes, "kfac").blocks["layer"]), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_along_the_rows_gradients_is_kept(kind: Kind) -> None:
    """Rotation keeps Σ Λ, and with one token a row the K-FAC trace is E|a|²·E|g|² instead of E|a|²|g|²."""
    entered, gradients = draw(50, 3), draw(50, 2, seed=1)
    layers, passes = one_layer(gradients, entered)
    trace = float(fit(layers, passes, kind).blocks["layer"].curvature.sum())
    norms = entered.square().sum(1), gradients.square().sum(1)
    together, apart = float((norms[0] * norms[1]).mean()), float(norms[0].mean() * norms[1].mean())
    assert trace == pytest.approx(apart if kind == "kfac" else together, rel=1e-4)


def test_ekfac_is_nearer_than_kfac_to_the_rows_second_moment() -> None:
    """Among all matrices with K-FAC's eigenvectors it is the nearest in the Frobenius norm (George et al.)."""
    entered, gradients = draw(60, 5), draw(60, 3, seed=1) * draw(60, 1, seed=2)
    layers, passes = one_layer(gradients, entered)
    single = torch.einsum("no,ni->noi", gradients, entered).flatten(1)
    exact = single.T @ single / 60
    errors = {kind: float((dense(fit(layers, passes, kind).blocks["layer"]) - exact).norm()) for kind in KINDS}
    assert errors["ekfac"] < errors["kfac"]


def test_preconditioning_is_the_solution_of_the_damped_system() -> None:
    layers, passes = one_layer(draw(40, 3), draw(40, 4, seed=1))
    gradient = draw(3, 4, seed=2)
    for kind in KINDS:
        block = fit(layers, passes, kind).blocks["layer"]
        damped = dense(block) + 0.1 * torch.eye(12)
        expected = torch.linalg.solve(damped, gradient.flatten()).view(3, 4)
        assert torch.allclose(block.precondition(gradient, 0.1), expected, atol=1e-5)
        direction = draw(3, 4, seed=3)
        assert block.quadratic(direction) == pytest.approx(
            float(direction.flatten() @ dense(block) @ direction.flatten()), rel=1e-4
        )


def test_kfac_is_exact_where_all_inputs_are_alike() -> None:
    """With one input a, G = (aaᵀ) ⊗ (diag(p) − ppᵀ); 40,000 draws know S to a few per cent."""
    module, a = nn.Linear(3, 4, bias=False), torch.tensor([1.0, -2.0, 0.5])
    with torch.no_grad():
        module.weight.copy_(draw(4, 3))

    def passes() -> Iterator[Passed]:
        logits = module(a.expand(40_000, 3))
        drawn = sample_labels(logits.detach(), torch.rand(40_000, generator=torch.Generator().manual_seed(0)))
        yield Passed(cross_entropy(logits, drawn, reduction="sum"), None, 40_000, 40_000)

    block = fit({"layer": as_linear(module, module.parameters())}, passes, "kfac").blocks["layer"]
    p = torch.softmax(module(a), -1).detach()
    expected = torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(a, a))
    assert float((dense(block) - expected).norm() / expected.norm()) < 0.03


def test_eigenvalues_of_a_covariance_are_never_negative() -> None:
    thin = draw(3, 8)
    values, vectors = eigenbasis(thin.T @ thin)
    assert float(values.min()) >= 0
    assert torch.allclose(vectors @ torch.diag(values) @ vectors.T, thin.T @ thin, atol=1e-4)
    assert torch.allclose(vectors.T @ vectors, torch.eye(8), atol=1e-6)


# Against the exact Gauss-Newton matrix of a network -----------------------------------------------------------------


def gauss_newton(net: nn.Sequential, inputs: Tensor) -> Tensor:
    """E[Jᵀ (diag(p) − ppᵀ) J] over all weights, a layer's matrix with its bias as last column, in float64."""
    parameters = {name: parameter.detach().double() for name, parameter in net.named_parameters()}

    def outputs(at: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, at, (x[None],))[0]

    jacobian = vmap(jacrev(outputs), in_dims=(None, 0))(parameters, inputs.double())
    both = [torch.cat([jacobian[f"{i}.weight"], jacobian[f"{i}.bias"][..., None]], -1).flatten(2) for i in ("0", "2")]
    rows = torch.cat(both, -1)
    p = torch.softmax(vmap(outputs, in_dims=(None, 0))(parameters, inputs.double()), -1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("nkp,nkl,nlq->pq", rows, inner, rows) / len(inputs)


def learned(seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network of 6-8-4 that has learned four groups of points, the points and their groups."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    groups = torch.arange(400) % 4
    points = draw(4, 6, seed=seed + 1)[groups] + 1.2 * draw(400, 6, seed=seed + 20)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(net(points), groups).backward()
        optimizer.step()
    return net, points, groups


def cosines(seed: int, damping: float | None) -> dict[str, float]:
    """With the exact (G + λI)⁻¹g, g the gradient of a group to be forgotten and G the curvature of the others."""
    net, points, groups = learned(seed)
    kept = points[groups != 0]
    layers = {name: as_linear(net.get_submodule(name), net.parameters()) for name in ("0", "2")}
    net.zero_grad()
    cross_entropy(net(points[groups == 0]), groups[groups == 0]).backward()
    gradient = {name: layer.gradient() for name, layer in layers.items()}

    def passes() -> Iterator[Passed]:
        for number in range(10):
            logits = net(kept)
            uniform = torch.rand(len(kept), generator=torch.Generator().manual_seed(number))
            drawn = sample_labels(logits.detach(), uniform)
            yield Passed(cross_entropy(logits, drawn, reduction="sum"), None, len(kept), len(kept))

    def flat(step: dict[str, Tensor]) -> Tensor:
        return torch.cat([step[name].flatten() for name in layers]).double()

    matrix = gauss_newton(net, kept)
    if damping is None:  # the default, of all weights together
        damping = gauss_newton_update.SHARE * float(matrix.diagonal().mean())
    exact = torch.linalg.solve(matrix + damping * torch.eye(len(matrix), dtype=torch.float64), flat(gradient))
    curvatures = {kind: fit(layers, passes, kind).blocks for kind in (*KINDS, "identity")}
    # whitening of the inputs alone, which careless code takes for K-FAC
    curvatures["inputs only"] = {
        name: Block(block.curvature.mean(0).expand_as(block.curvature), block.left, block.right)
        for name, block in curvatures["kfac"].items()
    }
    steps = {
        kind: {name: blocks[name].precondition(gradient[name], damping) for name in layers}
        for kind, blocks in curvatures.items()
    }
    return {kind: float(torch.cosine_similarity(flat(step), exact, 0)) for kind, step in steps.items()}


def test_every_part_of_the_curvature_brings_the_step_nearer_to_the_exact_one() -> None:
    """Mean cosines over four networks and three dampings. EK-FAC and K-FAC are all but equal on networks this small."""
    found = [cosines(seed, damping) for seed in range(4) for damping in (1e-1, 1e-2, 1e-3)]
    mean = {kind: sum(one[kind] for one in found) / len(found) for kind in found[0]}
    assert mean["ekfac"] >= mean["kfac"] > mean["diagonal"] > mean["identity"], mean
    assert mean["kfac"] > mean["inputs only"], mean


def test_the_step_is_near_the_exact_one_at_the_default_damping() -> None:
    """Where the damping is far below the curvature, steps lean on directions that the factors do not know."""

    def mean(damping: float | None) -> dict[str, float]:
        found = [cosines(seed, damping) for seed in range(4)]
        return {kind: sum(one[kind] for one in found) / len(found) for kind in found[0]}

    assert gauss_newton_update.Settings().damping is None
    ours, paper = mean(None), mean(1e-8)
    assert ours["kfac"] > 0.55, ours
    assert ours["kfac"] > ours["identity"] + 0.1, ours
    assert ours["kfac"] > paper["kfac"] + 0.1, (ours, paper)


# A language model ---------------------------------------------------------------------------------------------------


def batches_of(model: LanguageModel, request: Request, size: int) -> list[Batch]:
    rows = naive.rows_of(model, request)
    return [rows.retain_batch(range(i, min(i + size, 8))) for i in range(0, 8, size)]


def factors_of(model: LanguageModel, request: Request, kind: Kind, size: int = 8, seed: int = 0) -> Factors:
    layers = linear_layers(model.model, model.model.parameters())
    return fit(layers, lambda: sampled_passes(model, batches_of(model, request, size), seed), kind)


def close(a: Factors, b: Factors, tolerance: float) -> bool:
    gaps = [float((dense(x) - dense(y)).norm() / dense(x).norm()) for x, y in pairs(a, b)]
    return max(gaps) < tolerance


def pairs(a: Factors, b: Factors) -> list[tuple[Block, Block]]:
    assert set(a.blocks) == set(b.blocks)
    return [(a.blocks[name], b.blocks[name]) for name in list(a.blocks)[:2]]


@pytest.fixture
def small_model(deletion: Request) -> LanguageModel:
    """Two layers of width 8, so that curvatures fit into dense matrices; transposed weights with biases (GPT-2)."""
    from letheon.core.model.embedded import byte_tokenizer

    tokenizer = byte_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=2, n_head=2, n_positions=256)
        model = GPT2LMHeadModel(config).eval()
        for parameter in model.parameters():
            parameter.data.mul_(3)
    return LanguageModel(model, tokenizer, "small-gpt2")


@pytest.mark.parametrize("kind", KINDS)
def test_how_rows_are_batched_does_not_matter(kind: Kind, small_model: LanguageModel, deletion: Request) -> None:
    """Neither padding nor a prompt that all rows begin with counts differently; sums of float32 in another order."""
    alone, together = (factors_of(small_model, deletion, kind, size) for size in (1, 8))
    assert (alone.tokens, alone.predictions) == (together.tokens, together.predictions)
    assert close(alone, together, 1e-3)


def test_factors_are_those_of_every_rows_own_pass(small_model: LanguageModel, deletion: Request) -> None:
    """A second formulation: one row at a time, plain autograd of the layer's weights, squared and summed."""
    factors = factors_of(small_model, deletion, "diagonal")
    layers = linear_layers(small_model.model, small_model.model.parameters())
    squares = {name: torch.zeros(layer.shape) for name, layer in layers.items()}
    for batch in batches_of(small_model, deletion, 1):
        small_model.model.zero_grad()
        scores = score(small_model, batch)
        seed = stream_seed(0, "labels of the curvature", int(batch.index[0]))
        uniform = torch.rand(len(scores.labels), generator=torch.Generator().manual_seed(seed))
        cross_entropy(scores.logits, sample_labels(scores.logits.detach(), uniform), reduction="sum").backward()
        for name, layer in layers.items():
            squares[name] += layer.gradient() ** 2
    for name, block in factors.blocks.items():
        expected = squares[name] / factors.predictions
        assert torch.allclose(block.curvature, expected, rtol=1e-3, atol=1e-4 * float(expected.max())), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_predicted_divergence_of_a_random_step_is_the_measured_one(
    kind: Kind, small_model: LanguageModel, deletion: Request
) -> None:
    """In nats a predicted token. One draw of labels a token and eight rows know it to a third or so."""
    layers = linear_layers(small_model.model, small_model.model.parameters())
    factors = factors_of(small_model, deletion, kind)
    batch = batches_of(small_model, deletion, 8)[0]
    predicted = measured = 0.0
    with torch.no_grad():
        before = torch.log_softmax(score(small_model, batch).logits, -1)
        for seed in range(6):
            step = {
                name: 1e-3 * draw(*layer.shape, seed=seed + 10 * i) for i, (name, layer) in enumerate(layers.items())
            }
            for name, layer in layers.items():
                layer.move(step[name], 1.0)
            after = torch.log_softmax(score(small_model, batch).logits, -1)
            for name, layer in layers.items():
                layer.move(step[name], -1.0)
            measured += float((before.exp() * (before - after)).sum(-1).double().mean())
            predicted += factors.predicted_kl(step)
    assert predicted == pytest.approx(measured, rel=0.35)


def test_labels_come_from_the_model_and_not_from_the_rows(small_model: LanguageModel, deletion: Request) -> None:
    """Other answers' tokens at the predicted places, the same context: only the context counts."""
    batch = batches_of(small_model, deletion, 8)[0]
    first = next(iter(sampled_passes(small_model, [batch], 0))).loss
    batch.labels = torch.where(batch.labels != -100, (batch.labels + 7) % 50, batch.labels)
    assert float(next(iter(sampled_passes(small_model, [batch], 0))).loss) == float(first)
    assert float(next(iter(sampled_passes(small_model, [batch], 1))).loss) != float(first)


def test_fitting_leaves_the_model_as_it_was(tiny: LanguageModel, deletion: Request) -> None:
    before = tiny.parameters_hash()
    tiny.model.lm_head.weight.requires_grad_(False)
    wanted = {name: p.requires_grad for name, p in tiny.model.named_parameters()}
    factors_of(tiny, deletion, "ekfac")
    assert tiny.parameters_hash() == before
    assert {name: p.requires_grad for name, p in tiny.model.named_parameters()} == wanted
    assert all(p.grad is None for p in tiny.model.parameters())


def test_a_layer_on_which_nothing_depends_has_no_block(tiny: LanguageModel, deletion: Request) -> None:
    with torch.no_grad():
        tiny.model.model.layers[2].mlp.down_proj.weight.zero_()  # no gradient passes into its inputs
    found = set(factors_of(tiny, deletion, "kfac").blocks)
    assert not found & {"model.layers.2.mlp.gate_proj", "model.layers.2.mlp.up_proj"}
    assert "model.layers.2.mlp.down_proj" in found


def test_rows_without_answers_are_refused() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(InputError, match="predict no token"):
        fit({"layer": as_linear(module, module.parameters())}, list, "kfac")


# Linear layers ------------------------------------------------------------------------------------------------------


def test_mlp_layers_are_found_by_structure_and_the_tied_output_matrix_is_not(
    tiny: LanguageModel, small_model: LanguageModel
) -> None:
    names = linear_layers(tiny.model, tiny.model.parameters())
    assert len(names) == 4 * 3
    assert all(".mlp." in name for name in names)
    assert len(linear_layers(tiny.model, tiny.model.parameters(), "all")) == 4 * 7
    assert set(linear_layers(small_model.model, small_model.model.parameters())) == {
        f"transformer.h.{i}.mlp.{part}" for i in (0, 1) for part in ("c_fc", "c_proj")
    }


def test_only_layers_in_the_scope_are_found(tiny: LanguageModel) -> None:
    chosen = [p for name, p in tiny.model.named_parameters() if "layers.3" in name]
    assert len(linear_layers(tiny.model, chosen)) == 3
    with pytest.raises(InputError, match="no linear layer in the blocks' MLPs"):
        linear_layers(tiny.model, [tiny.model.model.norm.weight])


def test_a_transposed_layer_with_a_bias_is_one_upright_matrix(small_model: LanguageModel) -> None:
    layer = linear_layers(small_model.model, small_model.model.parameters())["transformer.h.0.mlp.c_fc"]
    assert layer.shape == (32, 9)
    x, goal = draw(5, 8), draw(5, 32, seed=1)
    (layer.module(x) * goal).sum().backward()
    assert torch.allclose(layer.gradient(), goal.T @ layer.entered(x), atol=1e-5)
    step, before = draw(32, 9, seed=2), layer.module(x).detach()
    layer.move(step, 0.5)
    assert torch.allclose(layer.module(x), before + 0.5 * layer.entered(x) @ step.T, atol=1e-5)
    assert as_linear(layer.module, [layer.weight]).shape == (32, 8)  # a bias that stays where it is


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kfac", "ekfac", "diagonal", "identity"])
def test_factors_are_read_as_they_were_written(
    kind: Kind, small_model: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    factors = factors_of(small_model, deletion, kind)
    save_factors(factors, tmp_path / "kept")
    again = load_factors(tmp_path / "kept")
    assert (again.kind, again.tokens, again.predictions) == (kind, factors.tokens, factors.predictions)
    for a, b in pairs(factors, again):
        assert torch.equal(a.curvature, b.curvature)
        assert (a.left is None) == (b.left is None)
        assert torch.equal(dense(a), dense(b))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no curvature factors"):
        load_factors(tmp_path)


def test_factors_are_fitted_once_for_the_same_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHEON_CACHE", str(tmp_path))
    made: list[int] = []

    def make() -> Factors:
        made.append(1)
        return Factors("kfac", {"layer": Block(torch.ones(2, 2), torch.eye(2), torch.eye(2))}, 3, 3)

    first = cached({"weights": "a"}, make)
    assert torch.equal(cached({"weights": "a"}, make).blocks["layer"].curvature, first.blocks["layer"].curvature)
    assert len(made) == 1
    (place,) = (tmp_path / "kronecker").iterdir()
    (place / cache.FILE).write_bytes(b"torn")
    cached({"weights": "a"}, make)
    assert len(made) == 2  # what is torn is made again
    for name in "bcdefg":
        cached({"weights": name}, make)
    assert len(list((tmp_path / "kronecker").iterdir())) == cache.KEPT


def test_a_cache_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LETHEON_CACHE", str(tmp_path / "file"))
    assert cached({}, lambda: Factors("kfac", {}, 3, 3)).tokens == 3
    assert "not kept" in caplog.text
