"""The folder of a pruning: the pipeline, what was removed, the images, the record and the page."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from letheon.core.atomic import atomic_folder, atomic_write_text, check_writable, write_json
from letheon.core.errors import InputError
from letheon.forget.edits.memorized_images import Removed
from letheon.forget.images.page import render_images
from letheon.forget.images.pipeline import ImagePipeline
from letheon.forget.images.record import PrunedImages

PIPELINE, REMOVED, RECORD, PAGE = "pipeline", "removed.safetensors", "result.json", "images.html"
MASKS, VALUES = "masks.", "values."  # a matrix's two tensors in the file


def check_out(folder: Path) -> None:
    """Raise an `InputError` if a folder is not empty or cannot be written."""
    check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty", "choose another --out")


def save_pruned(folder: Path, pipeline: ImagePipeline, result: PrunedImages) -> None:
    """Write the folder, whole or not at all."""
    removed = result.removed
    size = pipeline.size_in_bytes + sum(mask.numel() for mask in removed.masks.values())
    with atomic_folder(folder, needed_bytes=int(1.05 * size)) as temporary:
        pipeline.pipe.save_pretrained(temporary / PIPELINE)
        masks = {MASKS + name: mask.contiguous().cpu() for name, mask in removed.masks.items()}
        save_file(masks | {VALUES + name: kept.cpu() for name, kept in removed.values.items()}, temporary / REMOVED)
        for model, taken in result.pictures.items():
            (temporary / "images" / model).mkdir(parents=True)
            for change, number, images in zip(result.changes, range(1, len(taken) + 1), taken, strict=True):
                for noise, image in enumerate(images, start=1):
                    name = f"{number:03d}-{change.kind}-noise{noise}.png"
                    Image.fromarray(image.numpy()).save(temporary / "images" / model / name)
        write_json(temporary / RECORD, result.to_json())
        atomic_write_text(temporary / PAGE, render_images(result))


def load_removed(file: Path) -> Removed:
    """Read `removed.safetensors`, for `restore`.

    Raises:
        InputError: there is no such file, or it holds no masks with their values.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} could not be read: {error}", "give removed.safetensors of a pruning") from None
    masks, values = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in (MASKS, VALUES)
    )
    if not masks or set(masks) != set(values):
        raise InputError(f"{file} holds no masks with their values", "give removed.safetensors of a pruning")
    return Removed(masks, values)
