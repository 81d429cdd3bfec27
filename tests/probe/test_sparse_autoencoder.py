"""Sparse autoencoders: each activation by hand, gradients, training of all three kinds, the sae-lens format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from letheon.core.errors import InputError
from letheon.probe.sae.autoencoder import (
    BANDWIDTH,
    GEMMA_SCOPE,
    WEIGHTS,
    SparseAutoencoder,
    explained_variance,
    jump_relu,
    topk,
)
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder

KINDS = ["topk", "relu", "jumprelu"]


def sparse_data(tokens: int = 4000, width: int = 16, parts: int = 24) -> Tensor:
    """Sums of three of `parts` directions and a common offset: what an autoencoder should find."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(parts, width, generator=generator), dim=1)
    chosen = torch.stack([torch.randperm(parts, generator=generator)[:3] for _ in range(tokens)])
    size = 1 + torch.rand(tokens, 3, generator=generator)
    return 5 + 3 * (directions[chosen] * size[..., None]).sum(1)


def example(activation: str = "topk", **options: object) -> SparseAutoencoder:
    """Two inputs, three latents, weights that can be followed by hand."""
    sae = SparseAutoencoder(2, 3, activation, k=1, **options)  # type: ignore[arg-type]  # texts in tests
    with torch.no_grad():
        sae.W_enc.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]))
        sae.b_enc.copy_(torch.tensor([0.0, 1.0, 0.5]))
        sae.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        sae.b_dec.copy_(torch.tensor([1.0, 2.0]))
        if sae.threshold is not None:
            sae.threshold.copy_(torch.tensor([0.5, 3.0, 0.0]))
    return sae


# By hand ------------------------------------------------------------------------------------------------------------


def test_latents_and_reconstruction_by_hand() -> None:
    # h - b_dec = (2, 1): pre-activations 2, 1 + 1, -3 + 0.5
    hidden = torch.tensor([[3.0, 3.0]])
    assert example("relu").pre_activations(hidden).tolist() == [[2, 2, -2.5]]
    assert example("relu").encode(hidden).tolist() == [[2, 2, 0]]
    assert example("relu")(hidden).tolist() == [[3, 4]]
    assert example("jumprelu").encode(hidden).tolist() == [[2, 0, 0]]  # 2 is not above the threshold 3
    assert example("jumprelu")(hidden).tolist() == [[3, 2]]
    assert example("topk").encode(hidden).count_nonzero() == 1


def test_without_centring_the_encoder_sees_the_input_itself() -> None:
    assert example("relu", centred=False).pre_activations(torch.tensor([[3.0, 3.0]])).tolist() == [[3, 4, -5.5]]


def test_topk_keeps_the_k_largest_and_nothing_below_zero() -> None:
    assert topk(torch.tensor([[3.0, -1.0, 2.0, 1.0]]), 2).tolist() == [[3, 0, 2, 0]]
    assert topk(torch.tensor([[-3.0, -1.0]]), 1).tolist() == [[0, 0]]


def test_explained_variance_is_one_when_perfect_and_zero_for_the_mean() -> None:
    hidden = sparse_data(50)
    assert explained_variance(hidden, hidden) == 1
    assert explained_variance(hidden, hidden.mean(0).expand_as(hidden)) == pytest.approx(0, abs=1e-6)


def test_jump_relu_passes_gradients_where_it_is_on_and_to_thresholds_nearby() -> None:
    near, far = 0.5 + BANDWIDTH / 4, 2.0
    pre = torch.tensor([[near, far, 0.1]], requires_grad=True)
    threshold = torch.tensor([0.5, 0.5, 0.5], requires_grad=True)
    jump_relu(pre, threshold).sum().backward()
    assert pre.grad is not None
    assert threshold.grad is not None
    assert pre.grad.tolist() == [[1, 1, 0]]
    # -(θ / ε) within half a bandwidth ε of the threshold, 0 elsewhere (Rajamanoharan et al., Eq. 11)
    assert threshold.grad.tolist() == pytest.approx([-0.5 / BANDWIDTH, 0, 0])


def test_a_latent_that_is_off_has_no_gradient_and_its_pre_activation_has_one() -> None:
    for kind in KINDS:
        sae, hidden = example(kind), torch.tensor([[3.0, 3.0]], requires_grad=True)
        off = sae.encode(hidden)[0, 2]
        assert off == 0
        (dead,) = torch.autograd.grad(off, hidden)
        assert dead.abs().sum() == 0, kind
        (alive,) = torch.autograd.grad(sae.pre_activations(hidden)[0, 2], hidden)
        assert alive.tolist() == [[-1, -1]]


# Training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "penalty", "most"),
    [("topk", 0.0, 4.0), ("relu", 0.5, 32.0), ("jumprelu", 0.2, 12.0)],  # of 128 latents; the data has 3 causes
)
def test_training_finds_a_sparse_description(kind: str, penalty: float, most: float) -> None:
    data = sparse_data()
    settings = SAETraining(kind, k=4, penalty=penalty, steps=600)  # type: ignore[arg-type]  # texts in tests
    sae = train_sparse_autoencoder(data[:3000], settings, seed=0)
    quality = sae.quality(data[3000:])
    assert quality.explained_variance > 0.85
    assert 0 < quality.l0 <= most
    assert not any(parameter.requires_grad for parameter in sae.parameters())


def test_training_repeats_under_a_seed_and_scales_with_its_data() -> None:
    data, settings = sparse_data(300), SAETraining(steps=20, k=4)
    first, second = (train_sparse_autoencoder(data, settings, seed=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = train_sparse_autoencoder(data, settings, seed=2)
    assert not torch.equal(first.W_enc, other.W_enc)
    # the scale is folded into the weights: ten times the data, the same latents
    large = train_sparse_autoencoder(10 * data, settings, seed=1)
    assert torch.allclose(large.encode(10 * data), first.encode(data), atol=1e-3)
    assert torch.allclose(large(10 * data), 10 * first(data), atol=1e-2)


def test_training_leaves_the_global_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    train_sparse_autoencoder(sparse_data(50), SAETraining(steps=3), seed=0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_dead_latents_are_revived() -> None:
    data = sparse_data(2000)
    few = train_sparse_autoencoder(data, SAETraining(steps=400, k=2), seed=0)
    assert few.quality(data).dead < 0.9


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(InputError, match="1 tokens"):
        train_sparse_autoencoder(torch.zeros(1, 4), SAETraining(), seed=0)


# The format ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_read_back(kind: str, tmp_path: Path) -> None:
    sae = example(kind, site="blocks.5.hook_resid_post")
    read = SparseAutoencoder.load(sae.save(tmp_path / "sae", model="tiny"))
    hidden = torch.randn(7, 2)
    assert torch.equal(read(hidden), sae(hidden))
    assert (read.activation, read.layer) == (kind, 5)
    assert kind != "topk" or read.k == 1
    names = {"W_enc", "b_enc", "W_dec", "b_dec"} | ({"threshold"} if kind == "jumprelu" else set())
    assert set(load_file(tmp_path / "sae" / WEIGHTS)) == names


def written(folder: Path, config: dict[str, object], sae: SparseAutoencoder) -> Path:
    """A folder as sae-lens writes it, with a configuration of its own."""
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({"d_in": 2, "d_sae": 3, **config}))
    save_file({name: tensor.contiguous() for name, tensor in sae.state_dict().items()}, folder / WEIGHTS)
    return folder


def test_configurations_of_before_version_6_are_read(tmp_path: Path) -> None:
    config = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 2},
        "hook_name": "blocks.8.hook_resid_pre",
        "apply_b_dec_to_input": False,
    }
    sae = SparseAutoencoder.load(written(tmp_path / "old", config, example()))
    assert (sae.activation, sae.k, sae.centred, sae.layer) == ("topk", 2, False, 7)  # what enters 8 is what 7 puts out


def test_rescaling_by_decoder_norms_is_folded_into_the_weights(tmp_path: Path) -> None:
    plain = example()
    config: dict[str, object] = {"architecture": "topk", "k": 1, "rescale_acts_by_decoder_norm": True}
    sae = SparseAutoencoder.load(written(tmp_path / "scaled", config, plain))
    # what sae-lens computes: chosen by pre-activation times decoder norm, decoded without that norm
    hidden = torch.tensor([[0.0, 0.5], [3.0, 3.0]])
    norms = plain.W_dec.norm(dim=1)
    expected = (topk(plain.pre_activations(hidden) * norms, 1) / norms) @ plain.W_dec + plain.b_dec
    assert torch.allclose(sae(hidden), expected)


def test_where_it_was_trained_is_known_only_for_the_residual_stream() -> None:
    assert SparseAutoencoder(2, 3, site="blocks.3.hook_mlp_out").layer is None
    assert SparseAutoencoder(2, 3).layer is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"architecture": "gated"}, "architecture gated"),
        ({"architecture": "standard", "activation_fn": "tanh-relu"}, "standard with tanh-relu"),
        ({"normalize_activations": "layer_norm"}, "normalised (layer_norm)"),
        ({"normalize_activations": "expected_average_only_in"}, "normalised (expected_average_only_in)"),
        ({"architecture": "jumprelu"}, "threshold should be (3,), found nothing"),
    ],
)
def test_what_cannot_be_computed_faithfully_is_refused(config: dict[str, object], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        SparseAutoencoder.load(written(tmp_path / "bad", config, example()))
    assert problem in found.value.problem


def test_a_folder_of_gemma_scope_is_a_jump_relu_of_the_block_in_its_path(tmp_path: Path) -> None:
    ours, folder = example("jumprelu", centred=False), tmp_path / "layer_12" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    arrays = {name: tensor.detach().numpy() for name, tensor in ours.state_dict().items()}
    np.savez(folder / GEMMA_SCOPE, **arrays)
    sae, hidden = SparseAutoencoder.load(folder), torch.tensor([[0.0, 0.5], [3.0, 3.0]])
    assert (sae.activation, sae.centred, sae.layer) == ("jumprelu", False, 12)
    assert torch.equal(sae(hidden), ours(hidden))
    assert torch.equal(sae.encode(hidden), torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]]))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"W_dec": np.zeros((3, 2))}, "no matrix W_enc"),
        ({"W_enc": np.zeros((2, 3))}, "b_enc should be"),
        ({"W_enc": np.array([object()])}, "cannot be read"),
    ],
)
def test_a_wrong_file_of_gemma_scope_is_refused(arrays: dict[str, Any], problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / GEMMA_SCOPE, **arrays)
    with pytest.raises(InputError, match=problem):
        SparseAutoencoder.load(tmp_path)


def test_a_folder_without_configuration_or_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cfg\.json"):
        SparseAutoencoder.load(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(InputError, match="has no sae_weights"):
        SparseAutoencoder.load(tmp_path)
    (tmp_path / "sae_weights.pt").write_bytes(b"\x80")
    with pytest.raises(InputError, match="no safetensors"):
        SparseAutoencoder.load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        SparseAutoencoder.load(tmp_path)
