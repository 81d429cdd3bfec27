"""`letheon prune-images`: check, prune a pipeline's memorised images, write what changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.forget.images.pipeline import ImagePipeline, check_diffusers, check_pipeline
from letheon.forget.images.prompts import Prompts
from letheon.forget.images.pruning import prune_images
from letheon.forget.images.record import PrunedImages, PruneSettings
from letheon.forget.images.saving import check_out, save_pruned
from letheon.jobs.options import Machine


@dataclass(frozen=True)
class PruneImagesJob:
    """A pruning of memorised images, as the command line asks for it."""

    pipeline: str
    memorised: Path
    out: Path
    kept: Path | None = None
    reference: Path | None = None
    settings: PruneSettings = field(default_factory=PruneSettings)
    machine: Machine = field(default_factory=Machine)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts, read and checked."""
        return Prompts.read(self.memorised, self.kept, self.reference)

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        prompts = {"memorised": len(self.prompts.memorised), "kept": len(self.prompts.kept)}
        check_out(self.out)
        check_pipeline(self.pipeline)
        check_diffusers()
        return {
            "pipeline": self.pipeline,
            "prompts": prompts,
            "reference": str(self.reference or "the empty prompt"),
            "settings": asdict(self.settings),
            "out": str(self.out),
        }

    def work(self) -> PrunedImages:
        """Check, load, prune, compare, and write the folder."""
        self.plan()
        given = self.settings
        pipeline = ImagePipeline.load(
            self.pipeline,
            self.machine.device,
            given.precision,
            steps=given.sampler_steps,
            guidance=given.guidance,
            size=given.size,
        )
        result = prune_images(pipeline, self.prompts, given, self.machine.seed)
        save_pruned(self.out, pipeline, result)
        return result
