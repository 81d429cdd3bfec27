"""A copy of a model, adapters merged, that may be trained or rounded without changing the original."""

from __future__ import annotations

import copy

from letheon.core.model.models import LanguageModel


def merged_copy(model: LanguageModel) -> LanguageModel:
    """Copy a model and merge its adapters into the copy's weights. The copy takes the memory of a second model."""
    copied = copy.deepcopy(model.model)
    if model.has_adapter:
        copied = copied.merge_and_unload()
    return LanguageModel(copied.eval(), model.tokenizer, model.name, list(model.notes), stops=model.stops)
