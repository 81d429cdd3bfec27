"""Self-contained HTML pages by Jinja: escaping is always on, undefined names are errors."""

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
    """Make the Jinja environment of a page.

    Args:
        package: the package that contains the page's template; shared templates come from `letheon.report`.
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


def render(package: str, template: str, **values: Any) -> str:
    """Render a template of a package with these values."""
    return environment(package).get_template(template).render(**values)


def pretty(settings: Mapping[str, Any]) -> str:
    """Format settings as indented JSON with sorted keys."""
    return json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True)
