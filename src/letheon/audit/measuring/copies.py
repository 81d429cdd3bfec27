"""A copy of a model that may be trained or rounded without touching the original."""

from __future__ import annotations

import copy

from letheon.core.model.models import LanguageModel


def plain_copy(model: LanguageModel) -> LanguageModel:
    """A copy without adapters: they are merged into its weights. Takes the memory of a second model."""
    copied = copy.deepcopy(model.model)
    if model.has_adapter:
        copied = copied.merge_and_unload()
    return LanguageModel(copied.eval(), model.tokenizer, model.name, list(model.notes))
