"""Rounding meets hand-made numbers and torch's own quantiser, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import letheon
from letheon.audit.measuring.quantise import Grid, matrices, quantised, round_to_nearest
from letheon.audit.plan import QUICK
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.jobs.audit import AuditJob
from letheon.jobs.options import AuditScope, RequestFiles


def test_two_bits_by_hand() -> None:
    # Asymmetric: from -1 to 2 in steps of 1, zero among them. Symmetric: multiples of 2 from -4 to 2.
    weight = torch.tensor([[-1.0, 0.2, 0.6, 2.0]])
    assert round_to_nearest(weight, Grid(2, None)).tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    assert round_to_nearest(weight, Grid(2, None, symmetric=True)).tolist() == [[0.0, 0.0, 0.0, 2.0]]


def test_each_group_has_its_own_scale_and_the_last_may_be_short() -> None:
    weight = torch.tensor([[-1.0, 2.0, -100.0, 200.0, 0.5]])
    assert round_to_nearest(weight, Grid(2, 2)).tolist() == [[-1.0, 2.0, -100.0, 200.0, 0.5]]
    assert round_to_nearest(weight, Grid(2, None))[0, 0] == 0.0  # one scale for all: the small weights vanish


def test_zero_weights_stay_zero() -> None:
    assert not round_to_nearest(torch.zeros(2, 8), Grid(4, 4)).any()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_agrees_with_torchs_fake_quantisation(bits: int, symmetric: bool) -> None:
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    groups = weight.reshape(-1, 16)
    if symmetric:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        scale = groups.abs().amax(1) / high
        zero = torch.zeros_like(scale)
    else:
        low, high = 0, 2**bits - 1
        scale = (groups.amax(1) - groups.amin(1)) / high
        zero = (-groups.amin(1) / scale).round()
    expected = torch.fake_quantize_per_channel_affine(groups, scale, zero.int(), 0, low, high).reshape(weight.shape)
    torch.testing.assert_close(round_to_nearest(weight, Grid(bits, 16, symmetric)), expected, atol=1e-6, rtol=1e-5)


def test_rounding_twice_changes_nothing_more() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    once = round_to_nearest(weight, Grid(4, 32, symmetric=True))
    torch.testing.assert_close(round_to_nearest(once, Grid(4, 32, symmetric=True)), once)


def test_a_model_is_rounded_inside_the_block_and_itself_again_afterwards() -> None:
    model = letheon.load("tiny", device="cpu")
    before = {name: parameter.clone() for name, parameter in model.model.named_parameters()}
    with quantised(model, Grid(4, 16)) as rounded:
        assert rounded is model
        changed = {n for n, p in model.model.named_parameters() if not torch.equal(p, before[n])}
    assert len(changed) == len(matrices(model.base()))
    assert not any("embed" in name or "norm" in name for name in changed)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.model.named_parameters())


def test_weights_come_back_after_an_error_too() -> None:
    model = letheon.load("tiny", device="cpu")
    before = model.parameters_hash()

    def fail_inside() -> None:
        with quantised(model, Grid(2, None)):
            assert model.parameters_hash() != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert model.parameters_hash() == before


def test_an_adapter_is_merged_before_it_is_rounded() -> None:
    from peft import LoraConfig, get_peft_model

    model = letheon.load("tiny", device="cpu")
    model.model = get_peft_model(model.model, LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    before = model.parameters_hash()
    with quantised(model, Grid(8)) as rounded:
        assert not rounded.has_adapter
    assert model.has_adapter
    assert model.parameters_hash() == before


@pytest.mark.parametrize("file_type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_gguf_file_s_rounding_is_the_file_s_own(file_type: str) -> None:
    """Rows of a length that fills whole blocks meet the library row by row; others are filled up and cut again."""
    from gguf import GGMLQuantizationType, quants

    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    kind = GGMLQuantizationType[file_type]
    expected = quants.dequantize(quants.quantize(weight.numpy(), kind), kind)
    grid = Grid.of_file(file_type)
    torch.testing.assert_close(round_to_nearest(weight, grid), torch.from_numpy(expected))
    assert round_to_nearest(weight[:, :50], grid).shape == (3, 50)
    assert grid.bits == int(file_type[1])


def test_q8_0_by_hand() -> None:
    """The largest magnitude is 127 steps: of 1.27 a step is 0.01, and 0.304 goes to 0.30; scales are float16 (5e-4)."""
    weight = torch.tensor([[1.27, 0.304, -0.5] + [0.0] * 29])
    assert round_to_nearest(weight, Grid.of_file("Q8_0"))[0, :3].tolist() == pytest.approx([1.27, 0.30, -0.5], rel=5e-4)
    with pytest.raises(InputError, match="Q2_K"):
        Grid.of_file("Q2_K")


def test_an_audit_rounds_as_the_gguf_files_that_it_was_told(tmp_path: Path) -> None:
    Request(forget=(Example("A question?", "An answer"),)).write(tmp_path / "request.json")
    rows = RequestFiles(request=str(tmp_path / "request.json"))
    job = AuditJob("tiny", "tiny", rows, AuditScope(quick=True, gguf=["Q4_0", "Q8_0"]), out=tmp_path / "a")
    assert job.plan()["rounding"] == ["4 bits", "Q4_0", "Q8_0"]
    assert job.settings == replace(QUICK, grids=(Grid(4), Grid.of_file("Q4_0"), Grid.of_file("Q8_0")))
    with pytest.raises(InputError, match="Q9_9"):
        replace(job, scope=AuditScope(gguf=["Q9_9"])).plan()


@pytest.mark.parametrize(("bits", "group"), [(1, 64), (32, 64), (4, 0)])
def test_impossible_grids_are_refused(bits: int, group: int) -> None:
    with pytest.raises(InputError, match="bits"):
        Grid(bits, group)
