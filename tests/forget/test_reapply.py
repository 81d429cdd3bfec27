"""An update that a run kept: written, read, added to a model that was trained further, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.reapply import held_share, read_update, reapply, save_update
from letheon.forget.request import Request
from letheon.forget.run import forget, resume

OPTIONS: dict[str, Any] = {"steps": 2, "learning_rate": 1e-3, "precision": "float32", "device": "cpu"}
NORM = "model.norm.weight"


def test_what_was_kept_brings_the_start_to_the_end(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    result = forget("tiny", deletion, "npo", keep_update=True, out=tmp_path / "run", **OPTIONS)
    reapply(tiny, read_update(tmp_path / "run" / "update" / "update.safetensors"))
    for (name, a), (_, b) in zip(tiny.model.named_parameters(), result.model.model.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7), name  # (end - start) + start rounds once


def test_a_resumed_run_keeps_the_whole_change(deletion: Request, tmp_path: Path) -> None:
    """Not only what was done since the restart."""
    whole = forget("tiny", deletion, "npo", keep_update=True, **OPTIONS)
    out = tmp_path / "run"
    forget("tiny", deletion, "npo", keep_update=True, out=out, checkpoint_steps=1, **OPTIONS)
    for name in ("model", "update"):
        for file in (out / name).iterdir():
            file.unlink()
    (out / "result.json").unlink()  # as if it had been killed after its last checkpoint
    resume(out, device="cpu")
    update = read_update(out / "update" / "update.safetensors")
    assert all(torch.equal(update[name], change) for name, change in whole.change.items() if change.any())


def test_nothing_is_written_unless_asked_for(deletion: Request, tmp_path: Path) -> None:
    result = forget("tiny", deletion, "npo", out=tmp_path / "run", **OPTIONS)
    assert not result.change
    assert not (tmp_path / "run" / "update").exists()


def test_weights_that_did_not_move_are_left_out(tiny: LanguageModel, tmp_path: Path) -> None:
    path = save_update(tmp_path, {"a": torch.zeros(3), "b": torch.ones(2)}, "npo", tiny)
    assert set(read_update(path)) == {"b"}


def test_it_is_added_to_what_further_training_made(tiny: LanguageModel, deletion: Request) -> None:
    change = forget("tiny", deletion, "npo", keep_update=True, **OPTIONS).change
    finetune(tiny, deletion.retain, TrainSettings(1e-3, precision="float32"), 2)
    trained = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    reapply(tiny, change, scale=0.5)
    for name, parameter in tiny.model.named_parameters():
        assert torch.allclose(parameter, trained[name] + 0.5 * change[name], atol=1e-7), name


def test_a_model_is_asked_how_much_of_an_update_it_holds(
    tiny: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    result = forget("tiny", deletion, "npo", keep_update=True, out=tmp_path / "run", **OPTIONS)
    path = tmp_path / "run" / "update" / "update.safetensors"
    assert held_share(tiny, path) == pytest.approx(0, abs=1e-3)
    assert held_share(result.model, path) == pytest.approx(1, abs=1e-3)
    for model, share in ((tiny, 0), (result.model, 1)):
        finetune(model, deletion.retain, TrainSettings(1e-3, precision="float32"), 2)  # as far as the deletion went
        assert held_share(model, path) == pytest.approx(share, abs=0.4)
    save_file(read_update(path), tmp_path / "older.safetensors")
    assert held_share(tiny, tmp_path / "older.safetensors") is None


def test_taken_back_nothing_remains_of_it(tiny: LanguageModel) -> None:
    before = tiny.model.model.norm.weight.detach().clone()
    update = {NORM: torch.full((64,), 0.25)}  # exact in float32
    reapply(tiny, update)
    assert torch.equal(tiny.model.model.norm.weight, before + 0.25)
    reapply(tiny, update, scale=-1.0)
    assert torch.equal(tiny.model.model.norm.weight, before)


@pytest.mark.parametrize(
    ("update", "scale", "message"),
    [
        ({NORM: torch.ones(64), "model.other.weight": torch.ones(2)}, 1.0, "no such weight"),
        ({NORM: torch.ones(64), "lm_head.weight": torch.ones(2)}, 1.0, "lm_head.weight"),
        ({NORM: torch.ones(32)}, 1.0, r"\(32,\), the model has \(64,\)"),
        ({NORM: torch.ones(64)}, float("nan"), "scale nan"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    update: dict[str, torch.Tensor], scale: float, message: str, tiny: LanguageModel
) -> None:
    before = tiny.parameters_hash()
    with pytest.raises(InputError, match=message):
        reapply(tiny, update, scale)
    assert tiny.parameters_hash() == before


def test_weights_of_less_precision_take_it_in_their_own(tiny: LanguageModel) -> None:
    tiny.model.to(torch.bfloat16)
    reapply(tiny, {NORM: torch.full((64,), 0.5)})
    assert tiny.model.model.norm.weight.dtype == torch.bfloat16
    assert float(tiny.model.model.norm.weight[0].detach()) == 1.5


def test_a_file_that_is_no_update_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(InputError, match="cannot be read as an update"):
        read_update(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match="cannot be read as an update"):
        read_update(tmp_path / "nowhere.safetensors")
    save_file({"a": torch.tensor([float("inf")])}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="not finite: a"):
        read_update(tmp_path / "bad.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(InputError, match="holds no change"):
        read_update(tmp_path / "empty.safetensors")


def test_the_command_line_adds_it_and_saves_the_model(tiny: LanguageModel, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from letheon.cli import app

    after = load("tiny", device="cpu")
    reapply(after, {NORM: torch.full((64,), 0.25)})
    path = save_update(tmp_path, {NORM: torch.full((64,), 0.25)}, "npo", after)
    held = after.save(tmp_path / "after")
    done = CliRunner().invoke(
        app, ["forget", "tiny", "--reapply", str(path), "--scale", "2", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    again = load(tmp_path / "out" / "model", device="cpu")
    assert torch.equal(again.model.model.norm.weight, tiny.model.model.norm.weight + 0.5)
    twice = CliRunner().invoke(app, ["forget", str(held), "--reapply", str(path), "--out", str(tmp_path / "twice")])
    assert isinstance(twice.exception, InputError)
    assert "still holds 100% of this update" in str(twice.exception)
    once = CliRunner().invoke(app, ["forget", "tiny", "--reapply", str(path), "--out", str(tmp_path / "once")])
    assert once.exit_code == 0, once.output
    refused = CliRunner().invoke(app, ["forget", "tiny", "--reapply", str(path), "--method", "npo"])
    assert isinstance(refused.exception, InputError)
    assert "--method" in str(refused.exception)
