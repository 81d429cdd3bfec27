"""Pages as one HTML file each: escaping always on, undefined names refused, nothing loaded from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from letheon.report.numbers import interval, number
from letheon.report.safe_text import clip, duration, label, moment, visible


@cache
def environment(package: str) -> Environment:
    """Jinja with escaping always on and undefined names refused.

    Args:
        package: the package in whose folder the page's own template lies; shared templates come from this kit.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("letheon.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "visible": visible,
        "clip": clip,
        "moment": moment,
        "label": label,
        "duration": duration,
        "pretty": pretty,
    }
    return environment


def pretty(settings: Mapping[str, Any]) -> str:
    """Settings as indented JSON, with sorted names."""
    return json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True)
