"""Outcomes in files that somebody else may have written: every field that a page uses is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LARGEST = 16 << 20  # bytes
VERDICTS = ("holds", "fails", "inconclusive")


def read_outcome(folder: Path, root: Path | None = None) -> dict[str, Any] | None:
    """The `outcome.json` of a folder that `letheon papers run` wrote; None if there is none that can be shown.

    Args:
        folder: where the file is.
        root: folder that the file must lie in, links included; by default `folder`.
    """
    with suppress(OSError, ValueError, RecursionError):
        path = (folder / "outcome.json").resolve()
        if path.is_relative_to((root or folder).resolve()) and path.is_file() and path.stat().st_size <= LARGEST:
            outcome = json.loads(path.read_text(encoding="utf-8"))
            return outcome if is_outcome(outcome) else None
    return None


def is_outcome(value: Any) -> bool:
    """Whether a value has every field of an outcome that pages use, each of its type."""
    if not isinstance(value, dict):
        return False
    machine = value.get("machine", {})
    return (
        isinstance(value.get("key"), str)
        and value.get("verdict") in VERDICTS
        and isinstance(value.get("seeds"), list)
        and _number(value.get("seconds"))
        and _texts(value.get("baselines"))
        and isinstance(value.get("date", ""), str)
        and isinstance(value.get("rule", ""), str)
        and isinstance(value.get("model", ""), str)
        and isinstance(machine, dict)
        and (not machine or {"cpu", "cores"} <= machine.keys())
        and isinstance(value.get("checks", {}), dict)
        and _measured(value.get("measured"))
        and _parts(value.get("primary", {}))
        and _parts(value.get("beside", {}))
        and _intervals(value.get("interval"))
    )


def _number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _measured(value: Any) -> bool:
    parts = value.get("parts", {}) if isinstance(value, Mapping) else None
    return isinstance(parts, dict) and all(isinstance(verdict, str) for verdict in parts.values())


def _parts(value: Any) -> bool:
    figures = ("mean", "p", "above", "below")
    return isinstance(value, dict) and all(
        isinstance(part, dict)
        and isinstance(part.get("verdict"), str)
        and all(_number(part[name]) for name in figures if part.get(name) is not None or name in part.keys() - {"mean"})
        for part in value.values()
    )


def _intervals(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return value is None or _ends(value)
    return all(_ends(ends) for ends in value.values())


def _ends(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) in (0, 2) and all(map(_number, value)))
