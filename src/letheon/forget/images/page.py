"""The page of a pruning: images side by side, what changed beside random masks, and what that does not show."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict

from markupsafe import Markup
from PIL import Image

from letheon.core.statistics import Estimate
from letheon.forget.images.pipeline import Picture
from letheon.forget.images.record import BEFORE, PRUNED, RANDOM, PromptChange, PrunedImages, conclusions
from letheon.report import figures
from letheon.report.html import render

WIDEST = 384  # pixels; the files beside the page are as they were made
TITLES = {"memorised": "Memorised prompts", "kept": "Kept prompts"}


def render_images(result: PrunedImages) -> str:
    """Render the page, with all images in it."""
    summary = result.summary()
    return render(
        "letheon.forget.images",
        "images.html.j2",
        result=result,
        conclusions=conclusions(result),
        summary=summary,
        titles=TITLES,
        figure=Markup(_figure(summary)),
        prompts={
            kind: [
                (change, _columns(change, {model: taken[place] for model, taken in result.pictures.items()}))
                for place, change in enumerate(result.changes)
                if change.kind == kind
            ]
            for kind in summary
        },
        settings=asdict(result.settings),
    )


def _columns(change: PromptChange, images: Mapping[str, list[Picture]]) -> list[tuple[str, str, str, float | None]]:
    """List the images that stand side by side: title, source, what the number says, the number."""
    same = "mean correlation with before under equal noise"
    columns = [
        ("before", embedded(images[BEFORE][0]), "", None),
        ("pruned", embedded(images[PRUNED][0]), same, change.pruned),
        ("before, other noise", embedded(images[BEFORE][1]), "correlation with the first image", change.noises[BEFORE]),
        (
            "pruned, other noise",
            embedded(images[PRUNED][1]),
            "correlation of both pruned images",
            change.noises[PRUNED],
        ),
    ]
    if RANDOM in images:
        columns.insert(2, ("random masks", embedded(images[RANDOM][0]), same, change.random))
    return columns


def embedded(image: Picture) -> str:
    """Encode an image as the address of its own JPEG."""
    picture, buffer = Image.fromarray(image.numpy()), io.BytesIO()
    picture.thumbnail((WIDEST, WIDEST))
    picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(summary: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Draw the means over memorised and over kept prompts; the difference stands in the table alone."""
    groups = {
        TITLES[kind]: {name: estimate for name, estimate in found.items() if "minus" not in name}
        for kind, found in summary.items()
    }
    return figures.dots(groups, "correlation of pixels", "Correlations of images with 95 % intervals over prompts")
