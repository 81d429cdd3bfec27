"""`letheon prune-images`: a folder for good input, 2 for bad, nothing on a dry run, a word without diffusers."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from letheon.cli import main
from letheon.forget.edits.memorized_images import restore
from letheon.forget.images.saving import load_removed
from tests.diffusion import tiny_unet

needs_diffusers = pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra `diffusers` is not installed")
INDEX = '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["letheon", "prune-images", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "memorized.txt").write_text("a cat on a mat\nthe dog\n")
    (tmp_path / "kept.jsonl").write_text('{"prompt": "a red house"}\n{"prompt": "two birds"}\n')
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd/model_index.json").write_text(INDEX)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = ("sd", "--prompts", "memorized.txt", "--kept", "kept.jsonl", "--out", "o", "--quiet")
SMALL = ("--sampler-steps", "4", "--steps", "2", "--sparsity", "0.05")


def installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr("letheon.forget.images.pipeline.find_spec", lambda name: name if there else None)


def test_the_help_names_the_options_and_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "letheon[diffusers]" in shown
    for option in ("--prompts", "--kept", "--reference", "--sparsity", "--module-suffix", "--control", "--out"):
        assert option in shown, option


def test_a_dry_run_loads_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    installed(monkeypatch, True)
    monkeypatch.setattr("letheon.jobs.prune_images.ImagePipeline.load", lambda *_, **__: pytest.fail("it was loaded"))
    assert run(monkeypatch, *WORDS, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["prompts"] == {"memorised": 2, "kept": 2}
    assert plan["settings"]["module_suffix"] == "ff.net.2"
    assert not (folder / "o").exists()


def test_the_missing_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    installed(monkeypatch, False)
    assert run(monkeypatch, *WORDS) == 2
    assert "pip install 'letheon[diffusers]'" in capsys.readouterr().err


def test_bad_input_is_refused_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    installed(monkeypatch, False)
    (folder / "both.txt").write_text("the dog\nthe sea\n")
    assert run(monkeypatch, *WORDS, "--kept", "both.txt") == 2
    assert "both.txt, row 1: 'the dog' is also in memorized.txt, row 2" in capsys.readouterr().err
    assert run(monkeypatch, *WORDS, "--steps", "60") == 2
    assert "steps 60 of a sampler of 50" in capsys.readouterr().err
    assert run(monkeypatch, *WORDS, "--out", "sd") == 2
    assert "sd is not empty" in capsys.readouterr().err
    assert run(monkeypatch, "nothing", *WORDS[1:]) == 2
    assert "nothing is neither a folder nor a hub id" in capsys.readouterr().err
    assert not (folder / "o").exists()


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline of random weights, a few channels and an alphabet."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    text = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    folder = tmp_path_factory.mktemp("pipelines") / "sd"
    StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=16),
        unet=tiny_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@needs_diffusers
def test_a_pipeline_is_pruned_saved_and_restored(
    folder: Path, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from diffusers import AutoPipelineForText2Image

    assert run(monkeypatch, str(stable_diffusion), *WORDS[1:], *SMALL, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "o/result.json").read_text()) == printed
    assert printed["kind"] == "StableDiffusionPipeline"
    assert printed["calls"] == 4
    assert len(printed["density"]) == 4  # a block down, the middle, two up
    assert "diffusers" in printed["versions"]
    assert not list((folder / "o").rglob("*.bin"))
    pruned, original = (
        AutoPipelineForText2Image.from_pretrained(path, use_safetensors=True).unet
        for path in (folder / "o/pipeline", stable_diffusion)
    )
    removed = load_removed(folder / "o/removed.safetensors")
    for name, mask in removed.masks.items():
        assert torch.equal(pruned.get_submodule(name).weight, original.get_submodule(name).weight * ~mask)
    restore(pruned, removed)
    ours, theirs = pruned.state_dict(), original.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    assert (folder / "o/images.html").read_text().startswith("<!doctype html>")


@needs_diffusers
def test_a_table_for_people(
    folder: Path, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, str(stable_diffusion), *WORDS[1:], *SMALL, "--control", "0") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Correlation of pixels" in printed
    assert "no random masks were measured" in printed
    assert "no proof of forgetting" in printed


@needs_diffusers
def test_what_diffusers_cannot_load_is_one_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, *WORDS) == 2
    assert "sd could not be loaded" in capsys.readouterr().err
    index = json.loads(INDEX) | {"scheduler": ["somewhere", "Scheduler"]}
    (folder / "sd/model_index.json").write_text(json.dumps(index))
    assert run(monkeypatch, *WORDS) == 2
    assert "sd names a class of 'somewhere'" in capsys.readouterr().err
    assert not (folder / "o").exists()
