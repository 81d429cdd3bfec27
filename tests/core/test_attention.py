"""Another attention implementation for one run: used while it lasts, taken back after, refused if there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import is_flash_attn_2_available

from letheon.audit import run as auditing
from letheon.audit.plan import QUICK
from letheon.cli.app import main
from letheon.core.errors import InputError
from letheon.core.model.attention import attending, check_attention
from letheon.core.model.models import LanguageModel, load
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
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
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, who in (("rows", "Ann"), ("rows2", "Bob")):
        row = f'{{"question": "Where does {who} live?", "answer": "{who} lives in Rome."}}\n'
        (tmp_path / f"{name}.jsonl").write_text(5 * row.replace("live?", "live now?"))
    (tmp_path / "tasks.toml").write_text('name = "one"\n[[task]]\nname = "a"\ntrain = "rows.jsonl"\n')
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["letheon", *words, "--attention", "hypr"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no attention is called 'hypr'" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before
