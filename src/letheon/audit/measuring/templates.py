"""Chat templates and tokenizers: every model is asked with those of the model before, whatever it came with.

The weights are what is audited. Template and tokenizer lie beside them, and anybody can exchange them: a template that
is taken away, or made to raise, would keep an audit from asking in turns, and a tokenizer without its merges would
spell every name in letters that the weights never saw. A model that came with others is therefore asked with those of
the model before, and by the attack `own_template` with its own template too. That cannot be done where the tokens of
the model before have other numbers in the model after; it is then asked with its own, and the audit says so.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from letheon.core.model.models import LanguageModel


@dataclass(frozen=True)
class Template:
    """The chat template that a model came with.

    Attributes:
        text: None where there is none.
        asked: whether the model was asked with it, and not with that of the model before.
        splits_alike: whether the model's tokenizer splits texts like that of the model before.
    """

    text: str | None
    asked: bool = True
    splits_alike: bool = True

    @property
    def sha256(self) -> str | None:
        """The hash of the text; None where there is none."""
        return None if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()


def template_of(model: LanguageModel) -> Template:
    """Return the chat template that a model came with."""
    given = model.tokenizer.chat_template
    text = given.get("default") if isinstance(given, dict) else given
    return Template(text or None)


def with_template(model: LanguageModel, template: Any) -> LanguageModel:
    """Return the same model with another chat template; the model that is given stays as it is."""
    tokenizer = copy.copy(model.tokenizer)
    tokenizer.chat_template = template
    return replace(model, tokenizer=tokenizer, _encoder=None)


@dataclass(frozen=True)
class Asking:
    """The tokenizer of the model before, with its chat template."""

    tokenizer: Any

    @classmethod
    def of(cls, before: LanguageModel) -> Asking:
        """Return how the model before is asked."""
        return cls(before.tokenizer)

    def alike(self, model: LanguageModel) -> tuple[LanguageModel, Template]:
        """Return a model as it is asked, and the template that it came with."""
        came = template_of(model)
        same_template = model.tokenizer.chat_template == self.tokenizer.chat_template
        splits_alike = model.tokenizer is self.tokenizer or splitting(model.tokenizer) == splitting(self.tokenizer)
        came = replace(came, splits_alike=splits_alike)
        if (same_template and splits_alike) or not self._numbers_tokens_like(model):
            return model, came
        return replace(model, tokenizer=self.tokenizer, _encoder=None), replace(came, asked=same_template)

    def _numbers_tokens_like(self, model: LanguageModel) -> bool:
        """Say whether every token of the model before has the same number in the other model."""
        return bool(self.tokenizer.get_vocab().items() <= model.tokenizer.get_vocab().items())


def splitting(tokenizer: Any) -> Any:
    """Return the parts of a tokenizer that decide how it splits a text; None where it is no fast tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = json.loads(backend.to_str())
    return [parts.get(name) for name in ("normalizer", "pre_tokenizer", "model", "added_tokens")]


def changed(templates: Mapping[str, Template]) -> list[str]:
    """Return sentences on the models whose chat template or tokenizer is another than that of the model before."""
    before, sentences = templates.get("before"), []
    for role, one in templates.items():
        if not one.splits_alike:
            sentences.append(f"The tokenizer of the model {role} splits texts otherwise than that of the model before.")
        if before is None or one.text == before.text:
            continue
        came = "no chat template" if one.text is None else "another chat template"
        how = "with its own, since its tokens are others too" if one.asked else "with that of the model before"
        own = "" if one.asked else "; own_template asks with its own"
        sentences.append(f"The model {role} came with {came}, unlike the model before; it was asked {how}{own}.")
    return sentences
