"""Another attention implementation for one run: used while it lasts, taken back after, refused if there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, BloomConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import is_flash_attn_2_available

from letheon.attend.far.binding import use_far
from letheon.attend.hyper.binding import use_hyper
from letheon.audit import run as auditing
from letheon.audit.plan import QUICK
from letheon.cli.app import main
from letheon.core.errors import InputError
from letheon.core.model.attention import WATCHED, attending, check_attention, on_attention
from letheon.core.model.families import family_config, family_model
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import attention, blocks
from letheon.core.model.structure import check_taken
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.probe.attention_maps import on_attention_rows
from letheon.retain.learn import learn
from letheon.retain.streams.digits import split_digits
from letheon.testing.kills import Killed, killed_before_step
from letheon.testing.strategies import sample_texts

FORGET: dict[str, Any] = {"device": "cpu", "precision": "float32", "learning_rate": 1e-3, "batch_size": 4, "steps": 2}


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """The layers that attended by the implementation `counted`, call by call."""
    seen: list[int] = []

    def counted(module: Any, *tensors: Any, **options: Any) -> Any:
        seen.append(module.layer_idx)
        return sdpa_attention_forward(module, *tensors, **options)

    AttentionInterface.register("counted", counted)
    AttentionMaskInterface.register("counted", sdpa_mask)
    yield seen
    del AttentionInterface._global_mapping["counted"], AttentionMaskInterface._global_mapping["counted"]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with rows and a stream."""
    for name, who in (("rows", "Ann"), ("rows2", "Bob")):
        row = f'{{"question": "Where does {who} live?", "answer": "{who} lives in Rome."}}\n'
        (tmp_path / f"{name}.jsonl").write_text(5 * row.replace("live?", "live now?"))
    (tmp_path / "tasks.toml").write_text('name = "one"\n[[task]]\nname = "a"\ntrain = "rows.jsonl"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def used(model: LanguageModel) -> str:
    """The name of a model's attention implementation."""
    return str(model.base().config._attn_implementation)


def test_it_is_used_within_the_block_and_taken_back_after_it(tiny: LanguageModel, calls: list[int]) -> None:
    before = used(tiny)
    with attending(tiny.base(), "counted"):
        tiny.base()(**tiny.tokenizer("one two", return_tensors="pt"))
        assert calls == [0, 1, 2, 3]
    with attending(tiny.base(), ""):
        assert used(tiny) == before


def test_a_name_that_is_not_there_is_refused_with_the_nearest() -> None:
    check_attention("")
    check_attention("hyper")
    check_attention("eager")
    with pytest.raises(InputError, match="no attention is called"):  # without a causal mask
        check_attention("paged|eager")
    with pytest.raises(InputError, match="no attention is called 'hypr'") as error:
        check_attention("hypr")
    if not is_flash_attn_2_available():
        with pytest.raises(InputError, match="needs a package that is not here"):
            check_attention("flash_attention_2")
    assert "hyper" in error.value.remedy


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss"])
@pytest.mark.parametrize("name", ["far", "hyper"])
def test_a_model_that_attends_in_its_own_way_keeps_it(kind: str, name: str, tmp_path: Path) -> None:
    """SDPA knows neither bounded logits nor learned sinks, and these names stand on SDPA."""
    model = family_model(kind)
    with pytest.raises(InputError, match="ForCausalLM bounds its attention logits, has learned sinks"):
        use_far(model) if name == "far" else use_hyper(model)
    with pytest.raises(InputError, match="ForCausalLM bounds its attention logits, has learned sinks"):
        check_taken(model, name)
    assert used(model) == "eager"
    check_taken(model, "eager")
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match="ForCausalLM bounds its attention logits, has learned sinks"):
        load(tmp_path / "model", device="cpu", attention=name)


@pytest.mark.parametrize("option", ["softcap", "s_aux", "indices"])
def test_an_observer_refuses_what_it_does_not_compute(tiny: LanguageModel, option: str) -> None:
    x, module = torch.zeros(1, 4, 3, 8), attention(blocks(tiny.base())[0])
    observers = [on_attention(tiny.base(), lambda *_: None)]
    observers += [on_attention_rows(tiny)] if option == "indices" else []  # it computes the others
    for observed in observers:
        with observed, pytest.raises(InputError, match=r"this model .* would leave out"):
            AttentionInterface()[WATCHED](module, x, x, x, None, scaling=1.0, **{option: torch.zeros(4)})


def test_a_run_attends_by_it_and_stores_it(deletion: Request, tmp_path: Path, calls: list[int]) -> None:
    plain = forget("tiny", deletion, "npo@lora", **FORGET)
    assert not calls
    result = forget("tiny", deletion, "npo@lora", attention="counted", out=tmp_path / "run", **FORGET)
    assert set(calls) == {0, 1, 2, 3}
    assert used(result.model) == used(plain.model)
    assert result.model.parameters_hash() == plain.model.parameters_hash()
    assert used(load(tmp_path / "run" / "model", device="cpu")) == used(plain.model)


def test_a_resumed_run_attends_by_it_again(deletion: Request, tmp_path: Path, calls: list[int]) -> None:
    with pytest.raises(Killed), killed_before_step(1):
        forget("tiny", deletion, "npo", attention="counted", out=tmp_path / "run", checkpoint_steps=1, **FORGET)
    calls.clear()
    resume(tmp_path / "run", device="cpu")
    assert calls


def test_a_stream_of_texts_is_learned_by_it_and_no_other(tiny: LanguageModel, calls: list[int]) -> None:
    learn(tiny, sample_texts(), "naive", attention="counted")
    assert calls
    assert used(tiny) != "counted"
    with pytest.raises(InputError, match="on a stream without texts"):
        learn("mlp", split_digits(), "naive", attention="counted")


@pytest.mark.usefixtures("calls")
def test_an_audit_examines_every_model_under_it(
    deletion: Request, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def examined(model: LanguageModel, *_: Any) -> None:
        seen.append(used(model))
        if len(seen) == 2:
            raise Killed

    monkeypatch.setattr(auditing, "examine_once", examined)
    monkeypatch.setattr(auditing, "examine", examined)
    before, after = used(tiny), load("tiny", device="cpu")
    with pytest.raises(Killed):
        auditing.audit(tiny, after, deletion, settings=replace(QUICK, attention="counted"))
    assert seen == ["counted", "counted"]
    assert (used(tiny), used(after)) == (before, before)


@pytest.mark.parametrize(
    "words",
    [
        ("forget", "tiny", "--forget", "rows.jsonl", "--retain", "auto"),
        ("learn", "tiny", "--stream", "tasks.toml"),
        ("audit", "tiny", "tiny", "--forget", "rows.jsonl", "--retain", "rows2.jsonl"),
    ],
)
def test_a_command_refuses_what_is_not_there_before_it_writes(
    words: tuple[str, ...], rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(rows.iterdir())
    monkeypatch.setattr(sys, "argv", ["letheon", *words, "--attention", "hypr"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no attention is called 'hypr'" in capsys.readouterr().err
    assert set(rows.iterdir()) == before


@pytest.mark.parametrize("kind", ["gemma2", "bloom"])
@pytest.mark.parametrize(
    "words",
    [
        ("forget", "model", "--forget", "rows.jsonl", "--retain", "rows2.jsonl", "--method", "npo@lora"),
        ("learn", "model", "--stream", "tasks.toml"),
        ("audit", "model", "model", "--forget", "rows.jsonl", "--retain", "rows2.jsonl"),
        ("compare", "model", "--methods", "npo@lora", "--forget", "rows.jsonl", "--retain", "rows2.jsonl"),
    ],
)
def test_a_dry_run_refuses_a_model_that_does_not_take_it(
    words: tuple[str, ...], kind: str, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = family_config("gemma2") if kind == "gemma2" else BloomConfig(vocab_size=259, hidden_size=32, n_layer=1)
    config.architectures = ["Gemma2ForCausalLM" if kind == "gemma2" else "BloomForCausalLM"]
    config.save_pretrained(rows / "model")
    (rows / "model" / "model.safetensors").touch()  # no weights are read
    monkeypatch.setattr(sys, "argv", ["letheon", *words, "--attention", "far", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "the attention 'far'" in " ".join(capsys.readouterr().err.split())
