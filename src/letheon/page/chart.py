"""The map of papers as shapes: a dot per paper, and a label where there is room for one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letheon.page.entries import Entry

WIDTH, HEIGHT, MARGIN = 1000, 700, 60
LETTER, LINE = 7.6, 13.0  # width and height of a letter of the labels, generously
APART = 20.0  # pixels between dots, while there is room
ROUNDS = 60
LARGEST_LINKED = 2000  # papers up to which each dot is a link with a title
FIRST = 400  # papers that are links where there are more; the others are points
LISTED = 300  # papers of the table
LABELLED = 150  # papers that get labels; more would cover each other


@dataclass(frozen=True)
class Dot:
    """A paper on the map; `label` is empty where there is no room, `anchor` says on which side of x it stands."""

    entry: Entry
    x: float
    y: float
    label: str = ""
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"


@dataclass(frozen=True)
class Chart:
    """The map: its size, its dots with links, the number of papers per wing, and an SVG path of points per wing."""

    width: int
    height: int
    dots: list[Dot]
    wings: dict[str, int]
    points: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of papers on the map."""
        return sum(self.wings.values())


def chart_of(entries: Sequence[Entry], positions: NDArray[np.float64]) -> Chart:
    """Draw the papers at their positions in the unit square [papers, 2]."""
    places = positions * [WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN] + MARGIN
    if len(entries) <= LABELLED:
        places = spread(places)
    linked = len(entries) if len(entries) <= LARGEST_LINKED else FIRST
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    dots = []
    for place, (entry, (x, y)) in enumerate(zip(entries[:linked], places[:linked], strict=True)):
        label: dict[str, Any] = {}
        if len(entries) <= LABELLED:
            label, box = _label(entry.key, float(x), float(y), boxes[:place] + boxes[place + 1 :])
            boxes += [box] if box else []
        dots.append(Dot(entry, round(float(x), 1), round(float(y), 1), **label))
    counted = Counter(entry.wing or "imported" for entry in entries)
    points: dict[str, list[str]] = defaultdict(list)
    for entry, (x, y) in zip(entries[linked:], places[linked:], strict=True):
        points[entry.wing or "imported"].append(f"M{x:.0f} {y:.0f}h0")
    paths = {wing: "".join(dict.fromkeys(steps)) for wing, steps in points.items()}
    return Chart(WIDTH, HEIGHT, dots, dict(sorted(counted.items())), paths)


def spread(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Push dots apart that would touch; each stays near its place."""
    moved = places.copy()
    for _ in range(ROUNDS):
        difference = moved[:, None] - moved[None]
        length = np.linalg.norm(difference, axis=2)
        np.fill_diagonal(length, np.inf)
        push = np.clip(APART - length, 0, None) / np.maximum(length, 1e-3) / 2
        moved = moved + (difference * push[:, :, None]).sum(axis=1)
        moved = np.clip(moved, MARGIN / 2, [WIDTH - MARGIN / 2, HEIGHT - MARGIN / 2])
    return moved


Box = tuple[float, float, float, float]


def _label(text: str, x: float, y: float, taken: Sequence[Box]) -> tuple[dict[str, Any], Box | None]:
    """A place for a label beside, above or below its dot that covers nothing; none if there is none."""
    width = LETTER * len(text)
    choices: list[tuple[str, float, float, float]] = [  # anchor, x and y of the text, left edge
        ("start", x + 10, y + 4, x + 10),
        ("end", x - 10, y + 4, x - 10 - width),
        ("middle", x, y - 10, x - width / 2),
        ("middle", x, y + 19, x - width / 2),
        ("start", x + 7, y - 7, x + 7),
        ("start", x + 7, y + 16, x + 7),
        ("end", x - 7, y - 7, x - 7 - width),
        ("end", x - 7, y + 16, x - 7 - width),
    ]
    for anchor, label_x, label_y, left in choices:
        box = (left, label_y - LINE + 2, left + width, label_y + 3)
        inside = box[0] >= 2 and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= HEIGHT - 2
        if inside and not any(_touch(box, other) for other in taken):
            placed = {"label": text, "label_x": round(label_x, 1), "label_y": round(label_y, 1), "anchor": anchor}
            return placed, box
    return {}, None


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
