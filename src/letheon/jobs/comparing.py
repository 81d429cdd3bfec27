"""`letheon compare`: what is checked before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letheon.audit.measuring.proxy import check_reference
from letheon.audit.verdict import load_profile
from letheon.core.atomic import check_writable
from letheon.core.model.models import check_loadable
from letheon.forget.method_lists import read_methods
from letheon.forget.request import Request
from letheon.forget.settings import resolve


def compare_plan(
    model: str, request: Request, methods: Sequence[str], reference: str, profile: str, out: Path
) -> dict[str, Any]:
    """Check the arguments of a comparison and say what would be done."""
    recipes = read_methods(methods, request)
    check_writable(out)
    check_loadable(model)
    check_reference(reference, request)
    load_profile(profile)
    rates = {text: resolve(recipe, None, None, {})[1].learning_rate for text, recipe in recipes.items()}
    return {
        "model": model,
        "rows": {"forget": len(request.forget), "retain": len(request.retain)},
        "first learning rates": rates,
        "reference": reference or None,
        "profile": profile,
        "out": str(out),
    }
