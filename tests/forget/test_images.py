"""Pruning a text-to-image pipeline: prompts, pixel correlations, what is measured, and a folder that can be undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.forget.edits.memorized_images import restore
from letheon.forget.images.page import render_images
from letheon.forget.images.pipeline import ImagePipeline, check_pipeline
from letheon.forget.images.prompts import Prompts
from letheon.forget.images.pruning import prune_images
from letheon.forget.images.record import PromptChange, PrunedImages, PruneSettings, conclusions
from letheon.forget.images.saving import check_out, load_removed, save_pruned
from letheon.forget.images.similarity import between, between_noises, between_prompts, pixel_correlation
from letheon.papers.common.digits_ddpm import FeedForward

SETTINGS = PruneSettings(steps=3, sparsity=0.15, sampler_steps=4)
PROMPTS = Prompts(("a cat", "<script>x</script>"), ("a house", "two birds"), ("", ""))


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.ModuleDict({"ff": FeedForward(6, 20)})

    def forward(self, x: Tensor) -> Tensor:
        return self.block["ff"](x)


class Pipe:
    """Stands for a pipeline of diffusers: images of 8 x 8 pixels, from the noise and the prompt's length."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.unet = Unet().eval()
        self.components = {"unet": self.unet}
        self.blank = ""  # a prompt whose images are blanked

    @torch.no_grad()
    def __call__(self, prompt: str, *, num_inference_steps: int, generator: torch.Generator, **_: Any) -> Any:
        x = torch.randn(64, 6, generator=generator) + len(prompt) / 10
        for _step in range(num_inference_steps):
            x = x + self.unet(x)
        image = x[:, :3].sigmoid().reshape(8, 8, 3) * (prompt != self.blank)
        return SimpleNamespace(images=image[None].numpy(), nsfw_content_detected=[prompt == self.blank])

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "model_index.json").write_text("{}")


@pytest.fixture
def pipeline() -> ImagePipeline:
    return ImagePipeline(Pipe(), "toy", steps=4)


# Prompts


def write(folder: Path, name: str, *lines: str) -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def test_prompts_are_lines_or_rows_and_the_reference_is_empty(tmp_path: Path) -> None:
    read = Prompts.read(
        write(tmp_path, "m.txt", " a cat ", "a dog"),
        write(tmp_path, "k.jsonl", '{"prompt": "a"}', "", '{"prompt": "b"}'),
    )
    assert read == Prompts(("a cat", "a dog"), ("a", "b"), ("", ""))
    assert read.sampled == ("a cat", "a dog", "a", "b")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"m.txt": []}, "m.txt holds no prompt"),
        ({"m.txt": ["a", "", "b"]}, "m.txt, row 2: found '', not a prompt"),
        ({"m.txt": ["a"]}, "m.txt holds 1 prompt"),
        ({"m.txt": ["a b", "c", "A  B"]}, "row 3: 'A  B' is also in .*m.txt, row 1"),
        ({"m.txt": ["a", "b"], "k.txt": ["c", "b"]}, "k.txt, row 2: 'b' is also in .*m.txt, row 2"),
        ({"m.txt": ["a", "b"], "k.txt": ["c"]}, "k.txt holds 1 prompt"),
        ({"m.txt": ["a", "b"], "r.txt": ["c"]}, "r.txt: 1, in .*m.txt: 2"),
        ({"m.txt": ["a", "b"], "r.txt": ["a", "c"]}, "r.txt, row 1: 'a' is also in"),
        ({"m.jsonl": ['{"prompt": "a"}', '{"text": "b"}']}, "m.jsonl, row 2: found nothing"),
        ({"m.jsonl": ['{"prompt": "a"}', "7"]}, "m.jsonl, row 2: found 7"),
        ({"m.jsonl": ['{"prompt": "a"}', '{"prompt": "\\ud800"}']}, "row 2: half a surrogate pair"),
        ({}, "m.txt does not exist"),
    ],
)
def test_bad_prompts_are_refused_by_file_and_row(tmp_path: Path, files: dict[str, list[str]], message: str) -> None:
    places = {name[0]: write(tmp_path, name, *lines) for name, lines in files.items()}
    with pytest.raises(InputError, match=message):
        Prompts.read(places.get("m", tmp_path / "m.txt"), places.get("k"), places.get("r"))


# Similarity


def image(*rows: list[int]) -> Tensor:
    """A grey image."""
    return torch.tensor(rows, dtype=torch.uint8)[:, :, None].repeat(1, 1, 3)


def test_the_correlation_of_pixels_is_pearson_s_and_blank_images_have_none() -> None:
    first, second = image([0, 10], [20, 30]), image([0, 20], [10, 30])
    # deviations (-15, -5, 5, 15) and (-15, 5, -5, 15): (225 - 25 - 25 + 225) / 500
    assert pixel_correlation(first, second) == pytest.approx(0.8)
    assert pixel_correlation(first, 30 - first) == pytest.approx(-1)
    assert pixel_correlation(first, first + 100) == pytest.approx(1)
    assert pixel_correlation(first, image([7, 7], [7, 7])) is None


def test_large_images_are_averaged_first() -> None:
    fine = torch.zeros(128, 128, 3, dtype=torch.uint8)
    fine[::2, ::2], fine[1::2, 1::2] = 200, 200
    assert pixel_correlation(fine, fine) is None  # every 2 x 2 block has one mean
    fine[:64] = 0
    assert pixel_correlation(fine, fine) == pytest.approx(1)


def test_comparisons_are_within_prompts_between_noises_and_between_prompts() -> None:
    first, second, blank = image([0, 10], [20, 30]), image([0, 20], [10, 30]), image([7, 7], [7, 7])
    pictures = [[first, second], [second, second], [blank, first]]
    assert between_noises(pictures) == [pytest.approx(0.8), pytest.approx(1), None]
    assert between_prompts(pictures) == [pytest.approx(0.8), pytest.approx(0.8), None]
    other = [[first, first], [first, second], [first, first]]
    assert between(pictures, other) == [pytest.approx(0.9), pytest.approx(0.9), pytest.approx(1)]


# Pruning


def test_the_masked_weights_alone_are_zero_and_can_be_restored_from_the_file(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in pipeline.denoiser.state_dict().items()}
    result = prune_images(pipeline, PROMPTS, SETTINGS)
    ((name, mask),) = result.removed.masks.items()
    for key, weight in pipeline.denoiser.state_dict().items():
        assert torch.equal(weight, before[key] * ~mask if key == f"{name}.weight" else before[key])
    assert 0 < result.share <= 3 * 0.15
    assert result.share == result.density[name]
    save_pruned(tmp_path / "o", pipeline, result)
    restore(pipeline.denoiser, load_removed(tmp_path / "o/removed.safetensors"))
    assert all(torch.equal(weight, before[key]) for key, weight in pipeline.denoiser.state_dict().items())


def test_what_is_reported_is_what_the_images_give(pipeline: ImagePipeline) -> None:
    fresh = ImagePipeline(Pipe(), "toy", steps=4)
    result = prune_images(pipeline, PROMPTS, replace(SETTINGS, control=2), seed=5)
    before, pruned, random = (result.pictures[name] for name in ("before", "pruned", "random"))
    assert torch.equal(before[1][0], fresh.sample(PROMPTS.memorised[1], 5 + 2 + 1))
    assert torch.equal(before[1][1], fresh.sample(PROMPTS.memorised[1], 5 + 2 + 1 + 4))
    assert torch.equal(pruned[3][1], pipeline.sample("two birds", 5 + 2 + 3 + 4)), "the pipeline is left pruned"
    assert not torch.equal(random[0][0], before[0][0])
    assert [one.kind for one in result.changes] == ["memorised", "memorised", "kept", "kept"]
    assert [one.pruned for one in result.changes] == between(before, pruned)
    assert [one.noises["pruned"] for one in result.changes] == between_noises(pruned)
    assert result.calls == 4
    again = prune_images(ImagePipeline(Pipe(), "toy", steps=4), PROMPTS, replace(SETTINGS, control=2), seed=5)
    assert again.changes == result.changes


def test_the_masks_are_found_in_other_noise_than_the_images_are_compared_in(
    pipeline: ImagePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    sample = ImagePipeline.sample
    monkeypatch.setattr(ImagePipeline, "sample", lambda *given: (seeds.append(given[2]), sample(*given))[1])
    prune_images(pipeline, PROMPTS, SETTINGS, seed=5)
    masks, images = seeds[:4], seeds[4:]
    assert masks == [5, 6, 5, 6]
    assert len(set(images)) == 8
    assert not set(masks) & set(images)


def test_missing_parts_are_said(pipeline: ImagePipeline) -> None:
    pipeline.pipe.blank = "a cat"
    result = prune_images(pipeline, replace(PROMPTS, kept=()), replace(SETTINGS, control=0))
    assert result.changes[0].pruned is None
    assert result.changes[0].random is None
    assert "random" not in result.pictures
    for words in ("2 memorised prompts", "no kept prompts", "no random masks", "safety checker blanked 4 images"):
        assert any(words in note for note in result.notes), words
    assert result.summary()["memorised"]["before and pruned"].n == 1
    render_images(result)


def test_a_sampler_that_calls_the_model_twice_a_step_is_noted(pipeline: ImagePipeline) -> None:
    pipeline.pipe.unet.register_forward_hook(lambda unet, args, out: unet.forward(*args))
    assert not any("calls of the model" in note for note in prune_images(pipeline, PROMPTS, SETTINGS).notes)
    pipeline.steps = 8
    assert any("8 calls of the model" in note for note in prune_images(pipeline, PROMPTS, SETTINGS).notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module_suffix": "nope"}, r"is called \*.nope"),
        ({"sparsity": 0.01}, "of 20 inputs"),
    ],
)
def test_masks_that_cannot_be_are_refused_before_images_are_made(
    pipeline: ImagePipeline, change: dict[str, Any], message: str
) -> None:
    pipeline.pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("an image was made"))
    with pytest.raises(InputError, match=message):
        prune_images(pipeline, PROMPTS, replace(SETTINGS, **change))


def test_empty_masks_are_refused(pipeline: ImagePipeline) -> None:
    same = replace(PROMPTS, memorised=("ab", "ba"), reference=("cd", "dc"))  # of one length: equal scores
    with pytest.raises(InputError, match="no weight is masked in more than 0% of the steps"):
        prune_images(pipeline, same, SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 60}, "steps 60 of a sampler of 50"),
        ({"steps": 0}, "steps: found 0"),
        ({"sparsity": 1.5}, "sparsity: found 1.5"),
        ({"ratio": 1.0}, "masks nothing"),
        ({"size": 13}, "size 13"),
        ({"control": -1}, "control: found -1"),
        ({"precision": "int8"}, "precision: found 'int8'"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneSettings(**change)


# The record and the page


def with_changes(result: PrunedImages, pruned: float, random: float, n: int = 6) -> PrunedImages:
    changes = [
        PromptChange(f"p{i}", "memorised", pruned + i / 100, random + i / 100, {"before": 0.0, "pruned": 0.0}, 0.0)
        for i in range(n)
    ]
    return replace(result, changes=changes)


def test_the_found_masks_are_only_set_apart_from_random_ones_where_prompts_suffice(pipeline: ImagePipeline) -> None:
    result = prune_images(pipeline, PROMPTS, SETTINGS)
    assert "too few" in conclusions(with_changes(result, 0.5, 0.9, n=5))[0]
    assert "change them more than random masks" in conclusions(with_changes(result, 0.5, 0.9))[0]
    assert "change them less than random masks" in conclusions(with_changes(result, 0.9, 0.5))[0]
    assert "not shown" in conclusions(with_changes(result, 0.9, 0.9))[0]


def test_the_page_escapes_prompts_holds_its_images_and_says_what_it_does_not_show(pipeline: ImagePipeline) -> None:
    pipeline.name = "<img src=x>"
    page = render_images(prune_images(pipeline, PROMPTS, SETTINGS))
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<img src=x>" not in page
    assert page.count("data:image/jpeg;base64,") == 4 * 5
    assert "img-src data:" in page
    for words in ("no proof of forgetting", "random masks of a higher density", "2507.16880", "SSCD"):
        assert words in page, words


def test_the_folder_is_whole_and_its_record_is_what_was_returned(pipeline: ImagePipeline, tmp_path: Path) -> None:
    result = prune_images(pipeline, PROMPTS, SETTINGS)
    save_pruned(tmp_path / "o", pipeline, result)
    assert json.loads((tmp_path / "o/result.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert (tmp_path / "o/pipeline/model_index.json").is_file()
    assert len(list((tmp_path / "o/images").rglob("*.png"))) == 3 * 4 * 2
    with pytest.raises(InputError, match="is not empty"):
        check_out(tmp_path / "o")
    pipeline.pipe.save_pretrained = lambda folder: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with pytest.raises(Exception, match="could not write"):
        save_pruned(tmp_path / "p", pipeline, result)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_other_files_hold_nothing_to_restore(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be read"):
        load_removed(write(tmp_path, "x.safetensors", "no"))
    with pytest.raises(InputError, match="could not be read"):
        load_removed(tmp_path / "nothing.safetensors")


# Pipelines in folders


def pipeline_folder(folder: Path, index: Any = None, **files: str) -> Path:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]} | (index or {})
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, name in files.items():
        (folder / part).mkdir()
        (folder / part / name).write_text("")
    return folder


def test_a_folder_with_safetensors_and_a_hub_id_pass(tmp_path: Path) -> None:
    check_pipeline(str(pipeline_folder(tmp_path / "a", unet="diffusion_pytorch_model.safetensors")))
    check_pipeline("org/name")


@pytest.mark.parametrize(
    ("index", "files", "message"),
    [
        ({}, {"unet": "diffusion_pytorch_model.bin"}, "unet holds only pickled weights"),
        ({}, {"unet": "diffusers.py"}, "unet holds code"),
        ({"_class_name": ["code", "Mine"]}, {}, "names no class of diffusers"),
        ({"unet": [None, None]}, {}, "has no part called unet or transformer"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, index: Any, files: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_pipeline(str(pipeline_folder(tmp_path / "a", index, **files)))


def test_what_is_no_folder_of_a_pipeline_is_refused(tmp_path: Path) -> None:
    for name, message in (
        (str(tmp_path), "has no model_index.json"),
        (str(write(tmp_path, "model.ckpt", "")), "is a single file"),
        ("nothing", "neither a folder nor a hub id"),
        (str(tmp_path / "nothing"), "neither a folder nor a hub id"),
    ):
        with pytest.raises(InputError, match=message):
            check_pipeline(name)
