"""Videos and images as text: records of verbalised scenes, the interface of the memorability and behaviour measures.

One JSON object per item (.jsonl, .json). Every field but `id` and `scenes` may be missing:

    {"id": "ad-7", "title": "...", "brand": "...", "channel": "...", "date": "2024-05-01", "genre": "...",
     "duration": 30, "orientation": "landscape", "pace": "high", "asr": "what is said",
     "subscribers": 1200, "views": 90000, "likes": 450, "memorability": 67,
     "scenes": [{"caption": "...", "asr": "...", "ocr": "...", "emotions": ["..."], "tags": ["..."], "tone": "warm",
                 "foreground": ["..."], "background": ["..."], "style": "...", "complexity": "low", "replay": 60,
                 "image": "frame-1.jpg"}]}

A scene without a caption may name an image; a captioner, a function from an image's path to a sentence, fills it in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short

Captioner = Callable[[Path], str]


@dataclass(frozen=True)
class Scene:
    """One scene of a video, or an image, in words.

    Attributes:
        caption: what is seen; `asr` is what is said and `ocr` the text that is shown.
        emotions, tags, foreground, background: emotions, objects and colours.
        tone, style, complexity: of the picture.
        replay: how much the audience watches the scene again, 0 to 100.
        image: file of the frame, for a captioner.
    """

    caption: str = ""
    asr: str = ""
    ocr: str = ""
    emotions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    foreground: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    tone: str = ""
    style: str = ""
    complexity: str = ""
    replay: float | None = None
    image: str = ""


@dataclass(frozen=True)
class Content:
    """A video, an advertisement or a film in words, with what its audience did.

    Attributes:
        duration: seconds.
        asr: what is said in the whole; scenes may have their own.
        likes, views, subscribers: counts.
        memorability: share of its viewers who remember it after days, 0 to 99.
    """

    id: str
    scenes: tuple[Scene, ...] = ()
    title: str = ""
    brand: str = ""
    channel: str = ""
    date: str = ""
    genre: str = ""
    duration: float | None = None
    orientation: str = ""
    pace: str = ""
    asr: str = ""
    subscribers: float | None = None
    views: float | None = None
    likes: float | None = None
    memorability: float | None = None


def read_content(path: str, captioner: Captioner | None = None) -> list[Content]:
    """Read verbalised content.

    Args:
        captioner: describes the image of each scene that has one and no caption.

    Raises:
        InputError: names the row and the field that is not as the schema has it, or two rows with one id.
    """
    items = [_content(row, f"{path}, row {number}") for number, row in read_rows(path)]
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"{path}: the id {item.id!r} stands twice", "give every item its own id")
        seen.add(item.id)
    return [captioned(item, captioner, Path(path).parent) for item in items] if captioner else items


def captioned(item: Content, captioner: Captioner, folder: Path) -> Content:
    """Return the item with captions for scenes that have an image and none."""
    scenes = [
        replace(one, caption=captioner(folder / one.image)) if one.image and not one.caption else one
        for one in item.scenes
    ]
    return replace(item, scenes=tuple(scenes))


def _content(row: Any, where: str) -> Content:
    if not isinstance(row, Mapping) or not str(row.get("id", "")):
        raise InputError(f"{where}: found {short(row)}", "give an object with an id")
    scenes = row.get("scenes", [])
    if not isinstance(scenes, list) or not all(isinstance(scene, Mapping) for scene in scenes):
        raise InputError(f"{where}, field 'scenes': found {short(scenes)}", "give a list of objects")
    made = tuple(Scene(**_fields(Scene, one, f"{where}, scene {n}")) for n, one in enumerate(scenes, start=1))
    rest = {name: value for name, value in row.items() if name not in ("id", "scenes")}
    return Content(str(row["id"]), made, **_fields(Content, rest, where))


def _fields(kind: type, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the known fields with checked types; further ones are ignored."""
    hints, fields = get_type_hints(kind), {}
    for name, value in row.items():
        if name not in hints or value is None:
            continue
        if hints[name] is str:
            fits = isinstance(value, str)
        elif hints[name] == tuple[str, ...]:
            fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
            value = tuple(value) if fits else value
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            value = float(value) if fits else value
        if not fits:
            raise InputError(f"{where}, field {name!r}: found {short(value)}", "see letheon.measure.human.scenes")
        fields[name] = value
    return fields


def verbalised(scene: Scene, number: int) -> str:
    """Return a scene as one paragraph, in the order of the LAMBDA data set; empty fields are left out."""
    colours = [f"The {name} colors of the scene are {','.join(c)}." for name, c in _colours(scene) if c]
    shown = f"The text shown in the scene is '{scene.ocr}'." if scene.ocr else ""
    said = f"The audio in the scene says {scene.asr}" if scene.asr else ""
    parts = [
        f"The scene shows {scene.caption}." if scene.caption else "",
        *colours,
        f"The dominant tone of the scene is {scene.tone}." if scene.tone else "",
        f"The photography style of the scene is {scene.style}." if scene.style else "",
        f"The scene has {scene.complexity} visual complexity." if scene.complexity else "",
        f"The emotions shown in the scene are {', '.join(scene.emotions)}." if scene.emotions else "",
        f"This scene is categorized by the tags {', '.join(scene.tags)}." if scene.tags else "",
        shown,
        said,
    ]
    return f"Scene {number}: {' '.join(filter(None, parts))}"


def _colours(scene: Scene) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("foreground", scene.foreground), ("background", scene.background)
