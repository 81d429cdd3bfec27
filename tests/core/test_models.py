"""Loading and saving: plain formats, nothing that runs code, refusals before weights are read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from letheon.core.atomic import is_whole
from letheon.core.devices import check_device
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel, check_loadable, load, save_hash
from letheon.forget.request import Request
from letheon.forget.scopes.lora import LoRA

IDS = torch.arange(20)[None] + 30


def test_tiny_is_always_the_same_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load("tiny", device="cpu")
    assert torch.equal(torch.rand(1), expected)
    assert first.parameters_hash() == load("tiny", device="cpu").parameters_hash()
    assert not first.model.training
    assert load(first) is first


def test_full_weights_are_read_back_by_plain_transformers(tiny: LanguageModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny.save(tmp_path / "saved", card="# Card\n")
    model = AutoModelForCausalLM.from_pretrained(folder)
    kept, read = dict(tiny.model.named_parameters()), dict(model.named_parameters())
    assert all(torch.equal(read[name], parameter) for name, parameter in kept.items())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Who?")["input_ids"] == tiny.tokenizer("Who?")["input_ids"]
    assert tokenizer.chat_template == tiny.tokenizer.chat_template
    assert (folder / "README.md").read_text() == "# Card\n"
    assert is_whole(folder, hashes=True)
    assert load(folder).parameters_hash() == tiny.parameters_hash()
    assert len(save_hash(folder)) == 64


def adapted(model: LanguageModel, request: Request) -> LanguageModel:
    with torch.no_grad():
        for parameter in LoRA().select(model, request).values():
            parameter.add_(0.05)
    return model


def test_an_adapter_is_read_back_by_plain_peft_and_by_its_folder(
    tiny: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    from peft import PeftModel

    folder = adapted(tiny, deletion).save(tmp_path / "adapter")
    assert not (folder / "model.safetensors").exists()
    with torch.no_grad():
        logits = tiny.model(IDS).logits
        peft = PeftModel.from_pretrained(load("tiny", device="cpu").model, str(folder)).eval()
        assert torch.equal(peft(IDS).logits, logits)
        assert torch.equal(load(folder, device="cpu").model(IDS).logits, logits)
        assert torch.equal(load("tiny", device="cpu", adapter=folder).model(IDS).logits, logits)


def test_a_full_save_merges_the_adapter_and_keeps_the_model_in_memory(
    tiny: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    folder = adapted(tiny, deletion).save(tmp_path / "merged", what="full")
    assert tiny.has_adapter
    assert not (folder / "adapter_config.json").exists()
    with torch.no_grad():  # W + BA is rounded once
        assert torch.allclose(load(folder, device="cpu").model(IDS).logits, tiny.model(IDS).logits, atol=1e-5)


def test_saving_an_adapter_reaches_for_no_network(
    tiny: LanguageModel, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    reached: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        reached.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    adapted(tiny, deletion).save(tmp_path / "adapter")
    load(tmp_path / "adapter", device="cpu")
    assert not reached


def test_a_model_without_adapter_has_none_to_save(tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(LetheonError, match="no adapter to save"):
        tiny.save(tmp_path / "x", what="adapter")


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tiny: LanguageModel, tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "saved")


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_folder_with_pickled_weights_only_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for refuse in (load, check_loadable):
        with pytest.raises(InputError, match="only pickled weights, a format that can run code"):
            refuse(saved)


def test_pickled_weights_beside_safetensors_are_not_read(saved: Path) -> None:
    (saved / "pytorch_model.bin").write_bytes(b"no pickle")
    load(saved)


def test_an_adapter_that_is_pickled_is_refused(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    folder = adapted(tiny, deletion).save(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        load(folder, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "my_own", "architectures": ["MyOwn"], "auto_map": {"AutoConfig": "code.Config"}},
    ],
)
def test_what_is_no_causal_language_model_is_refused(changes: dict[str, Any], saved: Path) -> None:
    change_config(saved, **changes)
    for refuse in (load, check_loadable):
        with pytest.raises(InputError, match="is not a causal language model"):
            refuse(saved)


def test_private_keys_of_a_configuration_are_dropped_and_told(saved: Path) -> None:
    change_config(saved, _attn_implementation_internal="someone/kernel", _commit_hash=None)
    model = load(saved)
    assert any("_attn_implementation_internal" in note for note in model.notes)
    assert not any("_commit_hash" in note for note in model.notes)
    assert model.model.config._attn_implementation != "someone/kernel"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all"])
def test_a_path_that_is_missing_is_named(name: str) -> None:
    for refuse in (load, check_loadable):
        with pytest.raises(InputError, match="is not a folder"):
            refuse(name)


def test_a_folder_without_configuration_or_weights_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        load(saved)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="device 'tpu9'"):
        load("tiny", device="tpu9")


def test_a_model_without_chat_template_is_asked_in_plain_text_and_says_so(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (saved / "chat_template.jinja").unlink()
    with caplog.at_level(logging.WARNING, logger="letheon"):
        model = load(saved)
    assert "no chat template" in caplog.text
    assert any("no chat template" in note for note in model.notes)
    encoder = model.encoder()
    assert model.tokenizer.decode(encoder.prompt("Who?")) == "Who?\n"
    assert encoder.end == "<|im_end|>"


# What a model knows of itself ---------------------------------------------------------------------------------------


def test_the_hash_sees_every_weight(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    with torch.no_grad():
        tiny.model.model.norm.weight[3] += 1e-6
    assert tiny.parameters_hash() != before


def test_context_padding_and_base_are_read_from_the_model(tiny: LanguageModel, deletion: Request) -> None:
    assert tiny.context_length == 1024
    assert tiny.pad_id == tiny.tokenizer.pad_token_id
    base = tiny.base()
    adapted(tiny, deletion)
    assert tiny.base() is base
    assert tiny.encoder() is tiny.encoder()


def test_each_process_of_a_host_takes_an_accelerator_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert check_device("auto") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert check_device("auto") == "cuda:3"
    assert check_device("cuda") == "cuda:3", "not all on the first one"
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(InputError, match="use --processes 2"):
        check_device("auto")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert check_device("auto") == "cpu"


# Incomplete weights -------------------------------------------------------------------------------------------------


def change_tensors(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_lack_a_tensor_are_refused(saved: Path) -> None:
    """Transformers would draw it at random, and say so where nobody reads it."""
    change_tensors(saved, lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"lacks tensors .* asks for: model\.layers\.0\.mlp\.up_proj\.weight"):
        load(saved, device="cpu")


def test_weights_that_the_configuration_does_not_read_are_named(saved: Path) -> None:
    """A second set of weights could lie there, or a config.json without the last layer be put beside them."""
    change_config(saved, num_hidden_layers=3)
    (note,) = load(saved, device="cpu").notes
    assert "holds tensors that its configuration does not read: model.layers.3.input_layernorm.weight" in note
    assert note.endswith("and 6 more")


def test_buffers_of_old_checkpoints_are_no_reason_to_refuse(saved: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(saved, lambda tensors: tensors.update({name: torch.ones(8)}))
    assert load(saved, device="cpu").notes == []


def test_an_old_gpt2_is_read(tmp_path: Path) -> None:
    """Its file holds attention masks, its names lack their prefix, and the tied head is not in it."""
    from letheon.core.model.families import family_model

    model = family_model("gpt2")
    model.save(tmp_path / "old")

    def age(tensors: dict[str, torch.Tensor]) -> None:
        old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(old | {"h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.0.attn.masked_bias": torch.tensor(-1e4)})

    change_tensors(tmp_path / "old", age)
    read = load(tmp_path / "old", device="cpu")
    assert read.parameters_hash() == model.parameters_hash()
    assert any("does not read: h.0.attn.masked_bias" in note for note in read.notes)
