"""Weights in fewer bits, blocks that are run again in the backward pass, and answers without thoughts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import recomputed
from letheon.core.rows.encoding import Encoder
from letheon.core.scoring.generation import without_thought
from letheon.core.scoring.likelihood import hidden_states, score
from letheon.core.training.optimizers import make_optimizer
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.testing.kills import Killed, killed_before_step

QUICK: dict[str, Any] = {"steps": 2, "learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu"}


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_tiny_in_a_format_is_what_its_saved_folder_is(base: Any, tmp_path: Path) -> None:
    """Buffers too: rotary frequencies in bfloat16 would turn the hidden states elsewhere."""
    made = load("tiny", device="cpu", base=base)
    read = load(made.save(tmp_path / "tiny"), device="cpu", base=base)
    for one, other in ((made.model.named_parameters(), read.model.named_parameters()),
                       (made.model.named_buffers(), read.model.named_buffers())):  # fmt: skip
        for (name, tensor), (_, again) in zip(one, other, strict=True):
            assert tensor.dtype == again.dtype, name
            assert torch.equal(tensor, again), name


# Checkpointing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["simnpo+geometric@lora", "rmu", "npo@layers=2-"])
def test_running_blocks_again_changes_the_weights_by_rounding_only(method: str, deletion: Request) -> None:
    plain, again = (forget("tiny", deletion, method, gradient_checkpointing=g, **QUICK) for g in (False, True))
    for a, b in zip(plain.model.model.parameters(), again.model.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)  # steps of 1e-3; the common beginning is not run once for all rows
    assert plain.outcome.history[0]["loss"] == pytest.approx(again.outcome.history[0]["loss"], rel=1e-4, abs=1e-9)
    assert not again.model.recomputes
    assert not any("forward" in module.__dict__ for module in again.model.model.modules())


def test_attention_that_is_read_is_not_computed_again(deletion: Request) -> None:
    with pytest.raises(InputError, match="reads attention"):
        forget("no/such/model", deletion, "attention_shifting", gradient_checkpointing=True, **QUICK)


def test_running_blocks_again_keeps_less_for_the_backward_pass(tiny: LanguageModel, deletion: Request) -> None:
    batch = tiny.encoder().collate(tiny.encoder().encode_all(deletion.forget))

    def kept() -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            score(tiny, batch).logp.sum()
        return sum(sizes.values())

    tiny.recomputes = True
    plain = kept()
    with recomputed(tiny.base()):
        assert kept() < 0.5 * plain
        assert torch.allclose(hidden_states(tiny, batch, 2), hidden_states(tiny, batch, 2))


# The optimizer without moments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["npo", "npo+null_space@layers=2-:parameters=down_proj", "npo+geometric"])
def test_plain_gradient_steps_are_as_long_as_the_rate_says_and_resume(
    method: str, deletion: Request, tmp_path: Any
) -> None:
    options = {**QUICK, "optimizer": "sgd", "keep_update": True, "clip": None}
    one, two = (forget("tiny", deletion, method, **{**options, "steps": 1, "learning_rate": r}) for r in (1e-4, 2e-4))
    name = max(one.change, key=lambda name: float(one.change[name].norm()))
    assert torch.allclose(2 * one.change[name], two.change[name], atol=1e-6, rtol=1e-2)
    whole = forget("tiny", deletion, method, **options).model.parameters_hash()
    with killed_before_step(1), pytest.raises(Killed):
        forget("tiny", deletion, method, out=tmp_path / "run", checkpoint_steps=1, **options)
    assert resume(tmp_path / "run", device="cpu").model.parameters_hash() == whole


# Formats ------------------------------------------------------------------------------------------------------------


def test_an_adapter_is_trained_in_float32_on_weights_in_bfloat16(deletion: Request) -> None:
    result = forget("tiny", deletion, "npo@lora", base="bfloat16", **QUICK)
    kinds = {name: parameter.dtype for name, parameter in result.model.model.named_parameters()}
    assert {kinds[name] for name in kinds if "lora_" in name} == {torch.float32}
    assert {kinds[name] for name in kinds if "lora_" not in name} == {torch.bfloat16}
    assert result.moved > 0
    assert any("weights in bfloat16" in warning for warning in result.warnings)


@pytest.mark.parametrize("method", ["npo+geometric", "npo@reglu", "k-fade", "task_vector"])
def test_weights_that_more_than_the_optimizer_changes_are_not_held_in_fewer_bits(
    method: str, deletion: Request
) -> None:
    with pytest.raises(InputError, match=r"(?s)can take no step.*@lora"):
        forget("no/such/model", deletion, method, base="bfloat16", **QUICK)
    with pytest.raises(InputError, match=r"(?s)can take no step.*@lora"):
        forget("no/such/model", deletion, "npo", base="bfloat16", optimizer="sgd", **QUICK)
    if method != "npo@reglu":
        with pytest.raises(InputError, match="offload holds the states of AdamW"):
            forget("no/such/model", deletion, method, offload=True, **QUICK)
        with pytest.raises(InputError, match="adamw8bit holds the states of AdamW"):
            forget("no/such/model", deletion, method, optimizer="adamw8bit", **QUICK)


def test_states_in_the_processor_s_memory_take_adamw_s_own_steps() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(5, 7), torch.randn(6, 5, 7)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [
        make_optimizer([weight], TrainSettings(learning_rate=1e-2, weight_decay=0.1, offload=offload))
        for weight, offload in ((ours, True), (theirs, False))
    ]
    for gradient in gradients:
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, start, atol=1e-2)


def test_steps_below_the_precision_of_bfloat16_add_up() -> None:
    ours, plain = (nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(2))
    optimizers = [
        make_optimizer([ours], TrainSettings(learning_rate=1e-4)),
        torch.optim.AdamW([plain], lr=1e-4, weight_decay=0),
    ]
    for _ in range(200):
        for weight, optimizer in zip((ours, plain), optimizers, strict=True):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
    assert torch.allclose(ours.float(), torch.full((4,), 0.98), atol=2**-8)  # 200 steps of 1e-4, rounded at the end
    assert torch.equal(plain.float(), torch.ones(4))  # each step was lost


@pytest.mark.parametrize(
    "options",
    [
        {"base": "bfloat16"},
        {"offload": True},
        {"base": "bfloat16", "offload": True},
        {"optimizer": "adamw8bit"},
        {"optimizer": "adamw8bit", "base": "bfloat16"},
    ],
)
def test_runs_with_other_states_move_and_resume(options: Any, deletion: Request, tmp_path: Any) -> None:
    settings = {**QUICK, **options}
    whole = forget("tiny", deletion, "npo", **settings)
    kinds = {parameter.dtype for parameter in whole.model.model.parameters()}
    assert kinds == {torch.bfloat16 if "base" in options else torch.float32}
    assert whole.moved > 0
    with killed_before_step(1), pytest.raises(Killed):
        forget("tiny", deletion, "npo", out=tmp_path / "run", checkpoint_steps=1, **settings)
    assert resume(tmp_path / "run", device="cpu").model.parameters_hash() == whole.model.parameters_hash()


def test_a_loaded_model_must_have_the_format(tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match="holds its weights in float32"):
        forget(tiny, deletion, "npo@lora", base="bfloat16", **QUICK)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_without_bitsandbytes_are_refused_before_loading(deletion: Request) -> None:
    with pytest.raises(InputError, match="needs bitsandbytes"):
        forget("no/such/model", deletion, "npo@lora", base="4bit", **QUICK)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_an_adapter_is_trained_on_weights_in_four_bits(deletion: Request, tmp_path: Any) -> None:
    folder = load("tiny", device="cpu").save(tmp_path / "base")
    result = forget(str(folder), deletion, "npo@lora", base="4bit", out=tmp_path / "run", **QUICK)
    assert result.moved > 0
    assert load(tmp_path / "run/model", device="cpu", base="4bit").has_adapter


# Thoughts -----------------------------------------------------------------------------------------------------------

SWITCH = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
OPENS = SWITCH.partition("{% if enable_thinking")[0] + "<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "words"), [(SWITCH, "enable_thinking=False"), (OPENS, "closed at once")], ids=["switch", "opens"]
)
def test_a_question_ends_where_the_answer_begins_without_a_thought(
    template: str, words: str, tiny: LanguageModel
) -> None:
    tiny.tokenizer.chat_template = template
    encoder = Encoder(tiny.tokenizer, tiny.pad_id, 1024)
    assert tiny.tokenizer.decode(encoder.prompt("Where?")).endswith("assistant\n<think>\n\n</think>\n\n")
    assert words in encoder.thoughts
    assert encoder.end == "<|im_end|>"


def test_the_record_says_that_thoughts_are_left_out(tmp_path: Any) -> None:
    model = load("tiny", device="cpu")
    model.tokenizer.chat_template = SWITCH
    loaded = load(model.save(tmp_path / "model"), device="cpu")
    assert any("thoughts are switched off" in note for note in loaded.notes)
    assert not any("thought" in note for note in load("tiny", device="cpu").notes)


def test_a_whole_thought_is_stripped_from_an_answer() -> None:
    assert without_thought("<think>\nAnn lives in ...\n</think>\n\nOslo.") == "Oslo."
    assert without_thought("<think>\nAnn lives in Oslo") == "<think>\nAnn lives in Oslo"  # a leak is not hidden
    assert without_thought("Oslo </think>") == "Oslo </think>"
