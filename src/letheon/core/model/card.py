"""The head of a saved model's card (README.md): the model on the hub from which it was made, and their relation."""

from __future__ import annotations

import os
import re
from pathlib import Path

EMBEDDED = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FROM_FOUR_BITS = (
    "The base model's weights were read from a 4-bit GGUF file (Q4_1) and dequantised; they are those of the model on "
    "the hub but for that rounding.\n\n"
)
SNAPSHOT = re.compile(r"models--(?P<owner>[^/\\]+)--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<revision>[0-9a-f]+)")


def card_head(name: str, adapter: bool) -> str:
    """Return the card's metadata between lines of dashes, and a sentence on the base model's revision or rounding.

    Args:
        name: what the model was loaded by: an embedded name, a hub id, or a local folder.
        adapter: whether an adapter is saved instead of whole weights.
    """
    base, revision = hub_base(name)
    lines = ["---"]
    if base:
        lines += [f"base_model: {base}", f"base_model_relation: {'adapter' if adapter else 'finetune'}"]
    lines += [f"library_name: {'peft' if adapter else 'transformers'}", "tags: [unlearning, letheon]", "---", "", ""]
    told = f"The base model is `{base}` at revision `{revision}`.\n\n" if revision else ""
    return "\n".join(lines) + (FROM_FOUR_BITS if name in EMBEDDED else told)


def hub_base(name: str) -> tuple[str, str]:
    """Return a model's id on the hub and its revision; empty where they are not known."""
    if name in EMBEDDED:
        return EMBEDDED[name], ""
    folder = Path(name)
    if folder.is_dir():
        cached = SNAPSHOT.search(str(folder.resolve()))
        if cached:
            return f"{cached['owner']}/{cached['name']}", cached["revision"]
        return _of_card(folder / "README.md"), ""
    return (name, _revision(name)) if HUB_ID.fullmatch(name) else ("", "")


def _of_card(card: Path) -> str:
    """Return the base model that a local model's own card names."""
    if not card.is_file():
        return ""
    found = re.search(r"^base_model: *(\S+)$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1] if found and HUB_ID.fullmatch(found[1]) else ""


def _revision(name: str) -> str:
    """Return the revision of a hub id that the local cache holds as `main`."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    place = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{name.replace('/', '--')}" / "refs" / "main"
    return place.read_text(encoding="utf-8").strip() if place.is_file() else ""
