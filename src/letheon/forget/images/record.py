"""What a pruning of memorised images was asked for, and what it changed: settings, comparisons, conclusions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from letheon.core.errors import InputError
from letheon.core.registry import Checked
from letheon.core.statistics import Estimate, estimate_mean
from letheon.forget.edits.memorized_images import FF_OUT, RATIO, SPARSITY, STEPS, Removed
from letheon.forget.images.pipeline import Picture, Precision
from letheon.probe.record import FEWEST

BEFORE, PRUNED, RANDOM = "before", "pruned", "random"


@dataclass(frozen=True)
class PruneSettings(
    Checked,
    positive=("steps", "sparsity", "sampler_steps"),
    not_negative=("guidance", "size", "control"),
    shares=("ratio", "sparsity"),
):
    """The masks, and the sampler that makes the images.

    Attributes:
        steps: first sampler steps in which activations are looked at.
        sparsity: share of each row's weights that a step may mask.
        ratio: share of the steps in which a weight has to be masked; 0 takes any step.
        module_suffix: end of the names of the matrices that are pruned.
        sampler_steps: sampler steps of an image.
        guidance: weight of classifier-free guidance.
        size: height and width of the images in pixels, a multiple of 8; 0 is the pipeline's own size.
        precision: number format in which the pipeline is loaded and saved: float32, float16 or bfloat16.
        control: random masks of equal density that are measured beside the found ones; 0 leaves them out.
    """

    steps: int = STEPS
    sparsity: float = SPARSITY
    ratio: float = RATIO
    module_suffix: str = FF_OUT
    sampler_steps: int = 50
    guidance: float = 7.5
    size: int = 0
    precision: Precision = "float32"
    control: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps > self.sampler_steps:
            raise InputError(
                f"steps {self.steps} of a sampler of {self.sampler_steps}", "look at no more steps than it takes"
            )
        if self.ratio == 1 or self.sparsity == 1:
            raise InputError("a ratio of 1 masks nothing, a sparsity of 1 every weight", "give a share below 1")
        if self.size % 8:
            raise InputError(f"size {self.size}", "give a multiple of 8")


@dataclass(frozen=True)
class PromptChange:
    """The images of one prompt: pixel correlations, None where an image is blank.

    Attributes:
        kind: `memorised` or `kept`.
        pruned, random: correlation with the images before, under equal noise.
        noises: model -> correlation of its images under different noise.
        others: correlation of the image before with those of other prompts.
    """

    prompt: str
    kind: str
    pruned: float | None
    random: float | None
    noises: Mapping[str, float | None]
    others: float | None


@dataclass(frozen=True)
class PrunedImages:
    """What was pruned, and what it changed.

    Attributes:
        pipeline, kind: name and class.
        density: share of the weights that are masked, per matrix.
        share, share_of_all: that share over all these matrices, and over the whole U-Net or transformer.
        changes: a record per prompt, memorised ones first.
        calls: calls of the U-Net or transformer per image.
        pictures: model -> images of each prompt, one per noise; of the random masks, the first.
        removed: the masks, and the weights' values.
    """

    pipeline: str
    kind: str
    device: str
    seed: int
    settings: PruneSettings
    reference: str
    density: dict[str, float]
    share: float
    share_of_all: float
    changes: list[PromptChange]
    calls: float
    notes: list[str]
    seconds: float
    date: str
    versions: dict[str, str]
    pictures: dict[str, list[list[Picture]]] = field(repr=False)
    removed: Removed = field(repr=False)

    def summary(self) -> dict[str, dict[str, Estimate]]:
        """Estimate the mean of every comparison over the memorised and over the kept prompts."""
        columns: dict[str, Callable[[PromptChange], float | None]] = {
            "before and pruned": lambda one: one.pruned,
            "before and random masks": lambda one: one.random,
            "random masks minus pruned": lambda one: _difference(one.random, one.pruned),
            "two noises, before": lambda one: one.noises[BEFORE],
            "two noises, pruned": lambda one: one.noises[PRUNED],
            "two noises, random masks": lambda one: one.noises.get(RANDOM),
            "different prompts, before": lambda one: one.others,
        }
        found = {}
        for kind in dict.fromkeys(one.kind for one in self.changes):
            ours = [one for one in self.changes if one.kind == kind]
            values = {name: [value for one in ours if (value := of(one)) is not None] for name, of in columns.items()}
            found[kind] = {name: estimate_mean(numbers) for name, numbers in values.items() if numbers}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return all but images and tensors as JSON-ready values."""
        names = ("pipeline", "kind", "device", "seed", "reference", "density", "share", "share_of_all", "calls")
        return {
            **{name: getattr(self, name) for name in names},
            "settings": asdict(self.settings),
            "similarity": "correlation of pixels, at most 64 x 64",
            "summary": {
                kind: {name: asdict(estimate) for name, estimate in found.items()}
                for kind, found in self.summary().items()
            },
            "prompts": [asdict(one) for one in self.changes],
            "notes": self.notes,
            "seconds": round(self.seconds, 1),
            "date": self.date,
            "versions": self.versions,
        }


def conclusions(result: PrunedImages) -> list[str]:
    """Say in sentences whether the found masks changed the images more than random ones did."""
    said = []
    for kind, found in result.summary().items():
        difference = found.get("random masks minus pruned")
        if difference is None:
            continue
        if difference.low is None or difference.high is None or difference.n < FEWEST:
            said.append(
                f"Images of {kind} prompts: {difference.n} are too few to compare the found masks with random ones."
            )
            continue
        words = "are not shown to change them more or less than"
        if difference.low > 0:
            words = "change them more than"
        elif difference.high < 0:
            words = "change them less than"
        said.append(f"Images of {kind} prompts: the found masks {words} random masks of equal density.")
    return said


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
