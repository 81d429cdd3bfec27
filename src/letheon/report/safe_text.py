"""Words for pages: hostile text made visible, times and durations, names of measures, limits of criteria."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

LABELS = {"rouge_l_recall": "ROUGE-L recall", "damage": "Damaged answers"}
# Control characters have pictures; others that act on what stands around them, and are not seen, are named.
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {127: "\u2421"}
ACTING = (
    *range(0x80, 0xA0),  # further control characters
    0x2028,  # line and paragraph separators
    0x2029,
    *range(0x202A, 0x202F),  # embeddings and overrides of the direction
    *range(0x2066, 0x206A),  # isolates
    0x200B,  # spaces and joiners of no width
    0x2060,
    0xFEFF,
    *range(0xE0000, 0xE0080),  # tags: letters that nobody sees
)
NAMED = {code: f"⟨U+{code:04X}⟩" for code in ACTING}
HALVES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # half a pair is no character
SHOWN = PICTURES | NAMED | HALVES


def visible(text: str) -> str:
    """Text in which characters that would act on the page, the printer or their neighbours are shown instead."""
    return text.translate(SHOWN)


def clip(text: str, length: int) -> str:
    """The text, or its first `length` characters and how many more there are."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length:,} more characters)"


def moment(time: datetime) -> str:
    """`2 March 2026, 09:30 UTC`."""
    utc = time.astimezone(UTC) if 1 < time.year < 9999 else time  # at the calendar's ends another zone may not exist
    return f"{utc.day} {utc:%B %Y, %H:%M} {utc:%Z}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def label(name: str) -> str:
    """A metric's or attack's machine name in words."""
    return visible(LABELS.get(name, name.replace("_", " ").capitalize()))
