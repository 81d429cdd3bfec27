"""Moments in eight bits: what a byte stands for, how far a number moves, and that AdamW still goes its way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from letheon.core.training import eight_bits
from letheon.core.training.eight_bits import BLOCK, EightBits, decoded, dynamic_code, encoded
from letheon.core.training.optimizers import make_optimizer
from letheon.core.training.settings import TrainSettings


@pytest.mark.parametrize("signed", [True, False])
def test_a_byte_stands_for_seven_decades_that_get_finer_upwards(signed: bool) -> None:
    code = dynamic_code(signed)
    assert len(code) == len(code.unique()) == 256
    positive = code[code > 0]
    each = [int(((positive > 10.0 ** (d - 7)) & (positive < 10.0 ** (d - 6))).sum()) for d in range(7)]
    assert each == [2**d if signed else 2 ** (d + 1) for d in range(7)]
    assert float(code[-2]) == pytest.approx(1 - 0.45 / 64 if signed else 1 - 0.45 / 128)  # half a step below 1
    assert float(positive[0]) == pytest.approx(0.55e-6 if signed else 0.325e-6)
    assert torch.equal(code[:127], -code[128:255].flip(0)) if signed else float(code[0]) == 0


def test_a_number_keeps_its_sign_and_a_hundredth_of_its_block_s_largest() -> None:
    values = torch.randn(3, BLOCK + 44, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-6], [1.0], [9e3]]
    )
    values[0, 0] = 0.0
    found, scale = encoded(values, signed=True)
    assert (found.dtype, found.shape, scale.shape) == (torch.uint8, values.shape, (3, 2))
    back = decoded(found, scale, signed=True)
    largest = scale.repeat_interleave(BLOCK, 1)[:, : values.shape[1]]
    assert float(((back - values).abs() / largest).max()) <= 0.45 / 64 + 1e-6  # half the widest gap, in the top decade
    assert float(back[0, 0]) == 0
    assert bool((back * values >= 0).all())
    assert torch.equal(back.abs().amax(1), values.abs().amax(1)), "the largest of a block stays as it is"


def test_a_second_moment_that_is_not_zero_stays_above_zero() -> None:
    values = torch.tensor([[1.0, 1e-12, 0.0]])
    back = decoded(*encoded(values, signed=False), signed=False)
    assert back[0].tolist() == pytest.approx([1.0, 0.325e-6, 0.0])


def test_a_row_s_bytes_do_not_depend_on_the_other_rows() -> None:
    values = torch.randn(4, 300, generator=torch.Generator().manual_seed(1))
    whole, part = encoded(values, True), encoded(values[2:], True)
    assert all(torch.equal(one[2:], two) for one, two in zip(whole, part, strict=True))


@pytest.mark.parametrize("at_once", [eight_bits.AT_ONCE, 600])
def test_adamw_goes_its_way_with_moments_in_a_quarter_of_their_memory(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight_bits, "AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(8, 2, 300, generator=draw)
    weights = {
        kind: [nn.Parameter(torch.zeros(8, 2, 300)), nn.Parameter(torch.zeros(300))] for kind in ("adamw8bit", "adamw")
    }
    optimizers = {
        kind: make_optimizer(some, TrainSettings(optimizer=kind, learning_rate=0.02, weight_decay=0.01))  # type: ignore[arg-type]  # both are names of optimizers
        for kind, some in weights.items()
    }
    for _ in range(60):
        noise = torch.randn(target.shape, generator=draw)
        for kind, (matrix, vector) in weights.items():
            matrix.grad = matrix.detach() - target + 0.1 * noise
            vector.grad = vector.detach() - target[0, 0]
            optimizers[kind].step()
    (ours, vector), (theirs, _) = weights["adamw8bit"], weights["adamw"]
    assert torch.allclose(vector, weights["adamw"][1], atol=1e-5), "a vector has float32 moments"
    off = (ours - theirs).detach().norm() / theirs.detach().norm()
    assert 0 < float(off) < 0.05
    state = optimizers["adamw8bit"].state[ours]
    held = sum(value.nbytes for name, value in state.items() if name != "step")
    assert held == ours.numel() * 2 + 2 * 4 * 8 * math.ceil(600 / BLOCK)


def test_an_empty_shard_has_the_state_s_tensors_all_the_same() -> None:
    state: dict[str, torch.Tensor] = {}
    EightBits(state, "exp_avg", torch.zeros(0, 5), True)
    assert {name: tuple(value.shape) for name, value in state.items()} == {"exp_avg": (0, 5), "exp_avg/scale": (0, 1)}
