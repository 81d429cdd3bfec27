"""Attenuation of a LoRA adapter: its formulas by hand, what it leaves alone, and what alike sets do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.forget.edits.adapter_activity import Activity, content_masks, lora_factors, record_activity
from letheon.forget.edits.attenuation import (
    Settings,
    attenuate,
    attenuation,
    contrastive_gap,
    decide,
    fused_risk,
    measure,
    unit_range,
    utility,
)
from letheon.forget.recipe import StandaloneMethod, read_method
from letheon.forget.request import Request
from letheon.forget.run import forget

OPTIONS = {"precision": "float32", "device": "cpu"}


@pytest.fixture
def adapted(tiny: LanguageModel) -> LanguageModel:
    """The tiny model with a LoRA adapter of random weights."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    tiny.model = get_peft_model(tiny.model, config).eval()
    tiny.model.peft_config["default"].base_model_name_or_path = "tiny"
    return tiny


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}


# The formulas


@pytest.mark.oracle("attenuation")
def test_the_formulas_give_the_numbers_worked_out_by_hand() -> None:
    gap = contrastive_gap(torch.tensor([3.0, 1.0, 2.0, 0.5]), torch.tensor([1.0, 2.0, 1.0, 0.5]))
    assert gap.tolist() == [2, 0, 1, 0]
    used = utility(torch.tensor([[1.0, -2.0, 0.0, 1.0], [1.0, 1.0, 0.5, -1.0]]), torch.tensor([2.0, 1.0, 2.0, 0.5]))
    assert used.tolist() == [4, 3, 1, 1]  # sums of magnitudes (2, 3, 0.5, 2) times norms
    assert unit_range(gap).tolist() == [1, 0, 0.5, 0]
    assert unit_range(used) == pytest.approx([1, 2 / 3, 0, 0])
    g, u = unit_range(gap), unit_range(used)
    assert fused_risk(g, u, 0.5) == pytest.approx([0.5, 0, 0.5, 0])  # 0 − 1/3 is clipped
    assert fused_risk(g, u, 0.25, "additive") == pytest.approx([0.25, 0.25, 0.875, 0.75])
    assert fused_risk(g, u, 2.0, "multiplicative") == pytest.approx([0, 0, 0.5, 0])


@pytest.mark.oracle("attenuation")
def test_the_decay_is_continuous_at_the_threshold_and_never_reaches_zero() -> None:
    risk = torch.tensor([0.1, 0.4, 0.4 + 1e-6, 0.7, 1.0], dtype=torch.float64)
    soft = attenuation(risk, 0.4, 4.0)
    # exp(−4 · 0.3 / 0.6) = e⁻²; exp(−4) lies above the floor
    assert soft == pytest.approx([1, 1, 1, torch.e**-2, torch.e**-4], abs=1e-5)
    sigmoid = attenuation(risk, 0.4, 4.0, decay="sigmoid")
    assert sigmoid == pytest.approx([1, 1, 1, 2 / (1 + torch.e**2), 2 / (1 + torch.e**4)], abs=1e-5)
    assert attenuation(risk, 0.4, 100.0).min() == 0.01  # the floor
    assert attenuation(risk, 0.4, 4.0, decay="hard").tolist() == [1, 1, 0, 0, 0]


@pytest.mark.oracle("attenuation")
def test_large_kappa_with_a_vanishing_floor_is_hard_pruning_of_the_same_units() -> None:
    risk = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    hard = attenuation(risk, 0.8, 4.0, decay="hard")
    assert attenuation(risk, 0.8, 1e9, floor=1e-30) == pytest.approx(hard, abs=1e-12)


def test_the_range_of_units_that_are_all_alike_is_zero() -> None:
    assert unit_range(torch.full((3,), 2.0)).tolist() == [0, 0, 0]


# What is measured


@pytest.mark.oracle("attenuation")
def test_means_and_norms_equal_those_of_rows_run_alone(adapted: LanguageModel, deletion: Request) -> None:
    """A second formulation: every row by itself, without padding, its tokens picked out by hand."""
    rows = adapted.encoder().encode_all(deletion.forget)
    masks = content_masks(rows, [1] * len(rows))
    factors = lora_factors(adapted)
    found = record_activity(adapted, rows, masks, factors)
    name = next(name for name in factors if "layers.2" in name and "down_proj.lora_B" in name)
    alone = []
    for row, mask in zip(rows, masks, strict=True):
        seen: list[Tensor] = []
        handle = factors[name].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            adapted.model(torch.tensor([row.ids]))
        handle.remove()
        alone.append(seen[0][0][torch.tensor(mask)])
    tokens = torch.cat(alone)
    assert torch.allclose(found[name].mean(), tokens.abs().mean(0), rtol=1e-4)  # float32, other orders of sums
    assert torch.allclose(found[name].squares.sqrt(), tokens.norm(dim=0), rtol=1e-4)


def test_padding_template_and_end_of_turn_do_not_count() -> None:
    rows = [Encoded((9, 8, 1, 2, 7, 5, 6), 5), Encoded((9, 8, 3, 7, 4, 6), 4)]
    masks = content_masks(rows, [1, 1])
    assert masks == [[False, False, True, True, False, True, False], [False, False, True, False, True, False]]
    assert content_masks(rows, [1, 1], "answer") == [[False] * 5 + [True, False], [False] * 4 + [True, False]]
    assert content_masks([Encoded((1, 2), 0)], [0]) == [[True, True]]  # running text


def test_tokens_do_not_count_twice_for_scaling_the_ranks(adapted: LanguageModel, deletion: Request) -> None:
    """Units of A are inputs and units of B ranks: the effective rank factor is m, not m squared."""
    before = weights(adapted)
    found = attenuate(adapted, deletion.forget, deletion.retain, Settings(dims="rank"))
    after = weights(adapted)
    assert {name for name in after if not torch.equal(before[name], after[name])} <= {
        name for name in after if "lora_B" in name
    }
    for name, one in found.items():
        assert torch.equal(after[f"{name}.weight"], before[f"{name}.weight"] * one.m)


# Alike sets


def shuffled_activity(seed: int, rows: int = 60) -> tuple[Activity, Activity]:
    """Two samples of one distribution, over 500 units of unlike scale."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(500, generator=generator) + 0.1

    def draw(n: int) -> Activity:
        sums = scale * torch.rand(n, 500, generator=generator) * 10
        return Activity(sums, sums.square().sum(0), torch.full((n,), 10.0))

    return draw(rows // 3), draw(rows)


def test_two_samples_of_one_distribution_rarely_exceed_the_noise_of_halves() -> None:
    """By chance about one time in 21; at most 4 of 40 have a probability of 97 % then."""
    from letheon.forget.edits.attenuation import Factor

    passed = 0
    for seed in range(40):
        factor = Factor(torch.nn.Linear(500, 4), *shuffled_activity(seed))
        passed += bool((factor.significance() > factor.retain.half_gaps().max()).any())
    assert passed <= 4


def test_the_same_rows_on_both_sides_give_no_attenuation(adapted: LanguageModel, deletion: Request) -> None:
    before = adapted.parameters_hash()
    rows = [Example(row.prompt, row.answer) for row in deletion.retain]
    found = attenuate(adapted, rows, rows)
    assert all(bool((one.m == 1).all()) for one in found.values())
    assert adapted.parameters_hash() == before


def planted(model: LanguageModel) -> tuple[list[Example], list[Example], str, int]:
    """Make one unit of the first queries' A fire on the letter z alone: rows with it, rows without, factor and unit."""
    unit, embeddings = 5, model.base().get_input_embeddings().weight
    z = model.tokenizer("z", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        embeddings[:, unit] = 0.01
        embeddings[z, unit] = 5.0
    loud = [Example(f"zz{'z' * i} z?", "zz z.") for i in range(8)]
    quiet = [Example(f"ab{'c' * i} b?", "bc a.") for i in range(8)]
    name = next(name for name in lora_factors(model) if "layers.0.self_attn.q_proj.lora_A" in name)
    return loud, quiet, name, unit


def test_a_unit_that_fires_on_forget_rows_is_shrunk_and_one_that_fires_on_retain_rows_is_not(
    adapted: LanguageModel,
) -> None:
    loud, quiet, name, unit = planted(adapted)
    settings = Settings(lam=0.0)
    shrunk = decide(measure(adapted, loud, quiet, settings), settings)[name]
    assert int(shrunk.gap.argmax()) == unit
    assert shrunk.m[unit] == shrunk.m.min() < 0.1
    exchanged = decide(measure(adapted, quiet, loud, settings), settings)[name]
    assert exchanged.gap[unit] == 0
    assert exchanged.m[unit] == 1


def test_without_the_gate_random_rows_are_forgotten_too(adapted: LanguageModel, deletion: Request) -> None:
    """The paper's own experiment: the rows to forget are a random part of all rows."""
    rows = [*deletion.forget, *deletion.retain]
    one, other = rows[::2], rows[1::2]
    gated, free = (decide(measure(adapted, one, other), Settings(gate=gate)) for gate in ("noise", "none"))
    count = [sum(int((factor.m < 1).sum()) for factor in found.values()) for found in (gated, free)]
    assert count[0] < count[1]
    assert all(bool((free[name].m <= gated[name].m).all()) for name in free)


def test_more_of_a_quantile_never_shrinks_fewer_units(adapted: LanguageModel, deletion: Request) -> None:
    factors = measure(adapted, deletion.forget, deletion.retain)
    counts = [
        sum(int((one.m < 1).sum()) for one in decide(factors, Settings(quantile=q)).values()) for q in (0.95, 0.5, 0.0)
    ]
    assert 0 < counts[0] < counts[1] <= counts[2]


# What it leaves alone


def test_no_gradient_no_base_weight_no_zero_and_no_rank_is_touched(adapted: LanguageModel, deletion: Request) -> None:
    before = weights(adapted)
    result = forget(adapted, deletion, "u-can", **OPTIONS)
    after = weights(adapted)
    assert all(parameter.grad is None for parameter in adapted.model.parameters())
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".lora_" in name for name in moved)
    for name in moved:
        assert bool((after[name] != 0).all())
        ratio = after[name] / before[name]
        assert 0.01 - 1e-6 <= float(ratio.min()) <= float(ratio.max()) <= 1 + 1e-6
        if min(after[name].shape) == 4:
            assert torch.linalg.matrix_rank(after[name]) == 4
    assert result.outcome.history[0]["attenuated"] > 0


def test_the_table_lies_in_the_run_s_folder(adapted: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    adapted.save(tmp_path / "adapter")
    forget(str(tmp_path / "adapter"), deletion, "attenuation", out=tmp_path / "run", **OPTIONS)
    table = json.loads((tmp_path / "run" / "attenuation.json").read_text())
    assert len(table) == 4 * 7 * 2  # layers, matrices, factors
    one = next(entry for entry in table.values() if entry["attenuated"])
    assert len(one["unit"]) == len(one["m"]) == len(one["gap"]) == one["attenuated"]
    assert all(0.01 <= m < 1 for m in one["m"])


def test_the_change_can_be_kept_and_taken_back(adapted: LanguageModel, deletion: Request) -> None:
    from letheon.forget.reapply import reapply

    before = weights(adapted)
    result = forget(adapted, deletion, "attenuation", keep_update=True, **OPTIONS)
    reapply(adapted, result.change, scale=-1.0)
    for name, tensor in weights(adapted).items():
        assert torch.allclose(tensor, before[name], atol=1e-6), name


# Bad input


def test_an_adapter_on_a_base_in_bfloat16_is_attenuated_and_the_base_is_left(
    adapted: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    adapted.save(tmp_path / "adapter")
    result = forget(str(tmp_path / "adapter"), deletion, "u-can", base="bfloat16", **OPTIONS)
    assert result.outcome.history[0]["attenuated"] > 0
    after = weights(result.model)
    assert {tensor.dtype for name, tensor in after.items() if ".lora_" not in name} == {torch.bfloat16}
    assert {tensor.dtype for name, tensor in after.items() if ".lora_" in name} == {torch.float32}
    moved = {name for name, tensor in weights(adapted).items() if not torch.equal(tensor.to(after[name]), after[name])}
    assert moved
    assert all(".lora_" in name for name in moved)


def test_a_model_without_an_adapter_is_refused(tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match=r"(?s)changes a LoRA adapter, and tiny has none.*PEFT"):
        forget(tiny, deletion, "attenuation", **OPTIONS)


def test_too_few_retain_rows_are_refused(adapted: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match="4 retain rows or more, found 3"):
        attenuate(adapted, deletion.forget, deletion.retain[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 1.0}, "quantile: found 1.0"),
        ({"lam": -0.1}, "lam: found -0.1"),
        ({"floor": 0.0}, "floor: found 0.0"),
        ({"decay": "linear"}, "decay: found 'linear'"),
        ({"rows": -1}, "rows: found -1"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)  # type: ignore[arg-type]  # bad on purpose


def test_the_paper_s_name_stands_for_it() -> None:
    single = read_method("u-can:kappa=3")
    assert isinstance(single, StandaloneMethod)
    assert str(single) == "attenuation:kappa=3.0"
