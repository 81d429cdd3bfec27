"""Nothing measures nothing: a deletion, an adapter or a hook that does nothing is named, and so is unsound decoding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from letheon.audit.measuring.no_ops import Check, check_no_ops, demand_finite, failures
from letheon.core.errors import LetheonError
from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


def moved(model: LanguageModel) -> LanguageModel:
    other = LanguageModel(copy.deepcopy(model.model), model.tokenizer, "after")
    with torch.no_grad():
        next(iter(other.model.parameters()))[5] += 0.1
    return other


def adapted(model: LanguageModel) -> LanguageModel:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["down_proj"], task_type="CAUSAL_LM")
    return LanguageModel(get_peft_model(copy.deepcopy(model.model), config).eval(), model.tokenizer, "adapter")


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_an_honest_change_passes_every_check_that_applies(tiny: LanguageModel, deletion: Request) -> None:
    checks = by_name(check_no_ops(tiny, moved(tiny), deletion.forget))
    outcomes = {name: check.outcome for name, check in checks.items()}
    assert outcomes == {
        "weights": "passed",
        "adapter": "not applicable",
        "numbers": "passed",
        "hooks": "not applicable",
        "cached decoding": "passed",
        "padding": "passed",
        "batch size": "passed",
    }
    assert "1 of 38 tensors moved" in checks["weights"].detail
    assert failures(checks.values()) == []


def test_a_model_that_did_not_change_is_named(tiny: LanguageModel, deletion: Request) -> None:
    same = LanguageModel(copy.deepcopy(tiny.model), tiny.tokenizer, "same")
    checks = check_no_ops(tiny, same, deletion.forget)
    assert by_name(checks)["weights"].outcome == "failed"
    assert failures(checks) == ["Check of the weights failed: no weight moved: the bytes of all weights are the same."]
    assert by_name(check_no_ops(tiny, tiny, deletion.forget))["weights"].detail.endswith("one object")


def test_the_relative_norm_is_that_of_the_whole_change(tiny: LanguageModel, deletion: Request) -> None:
    other = LanguageModel(copy.deepcopy(tiny.model), tiny.tokenizer, "scaled")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter *= 1.01
    assert by_name(check_no_ops(tiny, other, deletion.forget))["weights"].detail.endswith("by 1.0e-02 of their norm")


def test_an_adapter_whose_gradient_never_flowed_is_named(tiny: LanguageModel, deletion: Request) -> None:
    adapter = adapted(tiny)
    checks = by_name(check_no_ops(tiny, adapter, deletion.forget))
    assert checks["adapter"].outcome == checks["weights"].outcome == "failed"
    matrix = next(p for name, p in adapter.model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        matrix.fill_(0.1)
    checks = by_name(check_no_ops(tiny, adapter, deletion.forget))
    assert checks["adapter"].outcome == checks["weights"].outcome == "passed"
    assert checks["adapter"].detail.startswith("1 of 4 B matrices")
    assert checks["weights"].detail.startswith("1 of 38 tensors moved")


def test_hooks_that_fire_on_every_token_pass(tiny: LanguageModel, deletion: Request) -> None:
    after = moved(tiny)
    kinds = ("residual", "attention", "mlp", "heads", "input")  # attention is called with keywords only
    with edit(after.model, {Site(1, kind): lambda hidden: hidden * 1.5 for kind in kinds}):
        checks = by_name(check_no_ops(tiny, after, deletion.forget))
    assert checks["hooks"].outcome == "passed"
    assert checks["hooks"].detail.startswith("4 hooked modules")
    assert checks["cached decoding"].outcome == "passed"  # the hook sees every token, cached or not


def test_a_hook_that_fires_on_the_prompt_only_is_named(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that later tokens bypass: its forward is called, its hooks are not."""
    after = moved(tiny)
    block = after.model.model.layers[1]
    call: Callable[..., Any] = type(block).__call__

    def past_the_hooks(self: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self is block and hidden.shape[1] == 1:
            return self.forward(hidden, *args, **kwargs)
        return call(self, hidden, *args, **kwargs)

    monkeypatch.setattr(type(block), "__call__", past_the_hooks)
    with edit(after.model, {Site(1): lambda hidden: hidden * 1.5}):
        checks = by_name(check_no_ops(tiny, after, deletion.forget))
    assert checks["hooks"].outcome == "failed"
    assert "ran 1 times for 4 decoded tokens" in checks["hooks"].detail
    assert checks["cached decoding"].outcome == "failed"  # without a cache every pass is a prompt


def test_an_edit_that_depends_on_who_else_is_asked_is_named(tiny: LanguageModel, deletion: Request) -> None:
    after = moved(tiny)
    with edit(after.model, {Site(2): lambda hidden: hidden + hidden.mean(0, keepdim=True)}):
        assert by_name(check_no_ops(tiny, after, deletion.forget))["batch size"].outcome == "failed"


def test_an_edit_that_counts_padding_is_named(tiny: LanguageModel, deletion: Request) -> None:
    after, short = moved(tiny), Example("A?", "B.", id="short")
    with edit(after.model, {Site(2): lambda hidden: hidden + hidden.mean(1, keepdim=True)}):
        assert by_name(check_no_ops(tiny, after, [short, *deletion.forget]))["padding"].outcome == "failed"


def test_weights_that_are_no_numbers_are_named(tiny: LanguageModel, deletion: Request) -> None:
    after = moved(tiny)
    with torch.no_grad():
        after.model.model.layers[2].mlp.down_proj.weight[0, 0] = float("nan")
    checks = by_name(check_no_ops(tiny, after, deletion.forget))
    assert checks["numbers"].outcome == "failed"
    assert "model.layers.2.mlp.down_proj.weight" in checks["numbers"].detail
    assert checks["padding"].outcome == "not applicable"
    with pytest.raises(LetheonError, match=r"cannot be audited: .*down_proj"):
        demand_finite(after, deletion.forget)


def test_finite_weights_that_overflow_are_traced_to_their_layer(tiny: LanguageModel, deletion: Request) -> None:
    after = moved(tiny)
    with edit(after.model, {Site(1): lambda hidden: hidden / 0}):
        assert "layer 1 gives" in by_name(check_no_ops(tiny, after, deletion.forget))["numbers"].detail


def test_running_text_is_decoded_from_its_first_half(tiny: LanguageModel) -> None:
    checks = by_name(check_no_ops(tiny, moved(tiny), [Example("", "Some running text.", id="text")]))
    assert checks["cached decoding"].outcome == "passed"


def test_other_shapes_are_said_and_not_compared(tiny: LanguageModel, deletion: Request) -> None:
    other = load("tiny", device="cpu")
    other.model.resize_token_embeddings(300)
    assert "other tensors" in by_name(check_no_ops(tiny, other, deletion.forget))["weights"].detail
