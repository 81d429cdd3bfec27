"""Text for pages: visible forms of hostile characters, times, durations, names of measures."""

from __future__ import annotations

from datetime import UTC, datetime

LABELS = {"rouge_l_recall": "ROUGE-L recall", "damage": "Damaged answers", "attacks:any": "Any attack"}
# Control characters have pictures; invisible characters that act on the text around them are written by name.
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
    *range(0xE0000, 0xE0080),  # tags: invisible letters
)
NAMED = {code: f"⟨U+{code:04X}⟩" for code in ACTING}
HALVES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # half a pair is no character
SHOWN = PICTURES | NAMED | HALVES


def visible(text: str) -> str:
    """Replace characters that would act on the page, the printer or their neighbours by visible ones."""
    return text.translate(SHOWN)


def clip(text: str, length: int) -> str:
    """Cut a text after `length` characters and say how many more there are."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length:,} more characters)"


def moment(time: datetime) -> str:
    """Format a time as `2 March 2026, 09:30 UTC`."""
    utc = time.astimezone(UTC) if 1 < time.year < 9999 else time  # at the ends of the calendar UTC may be out of range
    return f"{utc.day} {utc:%B %Y, %H:%M} {utc:%Z}"


def duration(seconds: float) -> str:
    """Format a duration as `45 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def label(name: str) -> str:
    """Turn the machine name of a metric or attack into words."""
    return visible(LABELS.get(name, name.replace("_", " ").capitalize()))
