"""Text-to-image pipelines of diffusers: checked before they are loaded, loaded from safetensors only, sampled by seed.

`diffusers` is an extra: pip install 'letheon[diffusers]'. Code that comes with a pipeline is never run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from letheon.core.atomic import read_json
from letheon.core.devices import check_device
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import quiet

INDEX = "model_index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
DENOISERS = ("unet", "transformer")
Precision = Literal["float32", "float16", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {name: getattr(torch, name) for name in get_args(Precision)}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

Picture = UInt8[Tensor, "height width channels"]


def check_diffusers() -> None:
    """Raise an `InputError` if diffusers is not installed."""
    if find_spec("diffusers") is None:
        raise InputError("pipelines of images need the package diffusers", "pip install 'letheon[diffusers]'")


def check_pipeline(name: str) -> None:
    """Check the folder of a pipeline without reading weights; of a hub id, its form.

    Raises:
        InputError: no pipeline, one without a U-Net or transformer, one with code of its own, or pickled weights.
    """
    folder = Path(name)
    if not folder.exists() and HUB_ID.fullmatch(name):
        return
    if not folder.is_dir():
        what = "is a single file" if folder.exists() else "is neither a folder nor a hub id (org/name)"
        raise InputError(f"{name} {what}", "give a folder that diffusers' save_pretrained wrote, or a hub id")
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} has no {INDEX}", "give a folder that diffusers' save_pretrained wrote")
    index = read_json(folder / INDEX)
    check_index(index, name)
    for part in sorted(path for path in folder.iterdir() if path.is_dir() and path.name in index):
        files = {file.suffix for file in part.iterdir()}
        if ".py" in files:  # some versions of diffusers would run it
            raise InputError(f"{part} holds code, which is never run", "give a pipeline of diffusers' own classes")
        if ".safetensors" not in files and files & {*PICKLES}:
            raise InputError(
                f"{part} holds only pickled weights, a format that can run code",
                "convert them, where you trust them: DiffusionPipeline.from_pretrained(...).save_pretrained(...)",
            )


def check_index(index: Any, name: str) -> None:
    """Raise an `InputError` if a pipeline's index names a class of its own, or no denoiser that can be pruned."""
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(kind, str):
        raise InputError(f"{name}: {INDEX} names no class of diffusers", "pipelines with code of their own are not run")
    if not any(isinstance(index.get(part), list) and index[part][:1] != [None] for part in DENOISERS):
        raise InputError(f"{name} ({kind}) has no part called {' or '.join(DENOISERS)}", "give another pipeline")


def check_libraries(index: Mapping[str, Any], name: str) -> None:
    """Raise an `InputError` if a part's class is of no known library: diffusers would import what is named there."""
    from diffusers import pipelines

    libraries = {entry[0] for entry in index.values() if isinstance(entry, list) and entry and entry[0] is not None}
    for library in sorted(map(str, libraries - {"diffusers", "transformers"})):
        if not (library.isidentifier() and hasattr(pipelines, library)):
            raise InputError(f"{name} names a class of {library!r}", "give a pipeline of diffusers' own classes")


def _imported() -> Any:
    """Import diffusers' class for text-to-image pipelines, with its messages off."""
    try:
        from diffusers import AutoPipelineForText2Image
        from diffusers.utils import logging
    except (ImportError, RuntimeError) as error:  # its lazy imports raise RuntimeError
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"diffusers {version('diffusers')} cannot be imported: {reason}", "pip install -U 'letheon[diffusers]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoPipelineForText2Image


@dataclass
class ImagePipeline:
    """A loaded text-to-image pipeline.

    Attributes:
        pipe: the pipeline of diffusers.
        name: folder or hub id.
        steps: steps of the sampler.
        guidance: weight of classifier-free guidance; up to 1 it is off.
        size: height and width in pixels; 0 is the pipeline's own size.
        blanked: images that the pipeline's own safety checker has blanked so far.
    """

    pipe: Any
    name: str
    steps: int = 50
    guidance: float = 7.5
    size: int = 0
    blanked: int = 0

    @classmethod
    def load(cls, name: str, device: str = "auto", precision: Precision = "float32", **sampling: Any) -> ImagePipeline:
        """Load a pipeline; `sampling` are the fields from `steps` on.

        Raises:
            InputError: see `check_pipeline`; diffusers is not installed; no text-to-image pipeline.
        """
        check_pipeline(name)
        check_diffusers()
        place = check_device(device)
        from huggingface_hub import constants
        from safetensors import SafetensorError

        constants.HF_HUB_DISABLE_TELEMETRY = True  # diffusers reads it as it is imported
        try:
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of libraries about each other
                auto = _imported()
                index = auto.load_config(name)
                check_index(index, name)
                check_libraries(index, name)
                pipe = auto.from_pretrained(name, use_safetensors=True, torch_dtype=DTYPES[precision])
        except (OSError, ValueError, ImportError, AttributeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{name} could not be loaded: {reason}",
                "give a text-to-image pipeline of diffusers with weights in safetensors, local or on the hub",
            ) from None
        pipe.set_progress_bar_config(disable=True)
        return cls(pipe.to(place), name, **sampling)

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net or the transformer."""
        return next(part for name in DENOISERS if (part := getattr(self.pipe, name, None)) is not None)

    @property
    def size_in_bytes(self) -> int:
        """Bytes of all weights."""
        parts = [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]
        return sum(weight.nbytes for part in parts for weight in part.state_dict().values())

    def sample(self, prompt: str, seed: int) -> Picture:
        """Make an image; the noise is drawn on the processor, so that a seed gives the same on every device.

        Raises:
            InputError: the pipeline does not take the prompt or a setting.
            LetheonError: out of memory.
        """
        sized = {"height": self.size, "width": self.size} if self.size else {}
        try:
            with quiet():
                made = self.pipe(
                    prompt,
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    generator=torch.Generator().manual_seed(seed),
                    output_type="np",
                    **sized,
                )
        except (TypeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self.name} makes no image: {reason}", "change --size, --guidance or --sampler-steps"
            ) from None
        except torch.OutOfMemoryError:
            raise LetheonError("out of memory", "use a smaller --size, or --precision float16") from None
        self.blanked += sum(map(bool, getattr(made, "nsfw_content_detected", None) or []))
        return torch.from_numpy(made.images[0]).nan_to_num(0).mul(255).round().clamp(0, 255).to(torch.uint8)

    def cut(self, prompts: Sequence[str]) -> int:
        """Count the prompts that are longer than any of the pipeline's text encoders reads."""
        readers = [part for name, part in self.pipe.components.items() if name.startswith("tokenizer") and part]
        if not readers:
            return 0
        longest = max(readers, key=lambda reader: reader.model_max_length)
        with quiet():
            return sum(len(longest(prompt).input_ids) > longest.model_max_length for prompt in prompts)

    @contextmanager
    def counted(self) -> Iterator[list[int]]:
        """Count the calls of the denoiser while the block runs, in the yielded list's only item."""
        calls = [0]

        def count(*_: object) -> None:
            calls[0] += 1

        handle = self.denoiser.register_forward_pre_hook(count)
        try:
            yield calls
        finally:
            handle.remove()
