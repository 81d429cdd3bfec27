"""Chat templates: every model is asked with the template of the model before, whatever template it came with.

The weights are what is audited. A template is a text beside them that anybody can exchange: taken away, or made to
raise, it would keep an audit from asking in turns. A model that came with another template is therefore asked with that
of the model before, and by the attack `own_template` with its own too. Tokenizers with other tokens cannot share a
template; such a model is asked with its own.
"""

from __future__ import annotations

import copy
import hashlib
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
    """

    text: str | None
    asked: bool = True

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
    """The template of the model before and the tokens that it was written for."""

    template: Any
    tokens: Mapping[str, int]

    @classmethod
    def of(cls, before: LanguageModel) -> Asking:
        """Return how the model before is asked."""
        return cls(before.tokenizer.chat_template, before.tokenizer.get_vocab())

    def alike(self, model: LanguageModel) -> tuple[LanguageModel, Template]:
        """Return a model as it is asked, and the template that it came with."""
        came = template_of(model)
        same_tokens = model.tokenizer.get_vocab() == self.tokens
        if not same_tokens or model.tokenizer.chat_template == self.template:
            return model, came
        return with_template(model, self.template), replace(came, asked=False)


def changed(templates: Mapping[str, Template]) -> list[str]:
    """Return sentences on the models whose chat template is another than that of the model before."""
    before, sentences = templates.get("before"), []
    for role, one in templates.items():
        if before is None or one.text == before.text:
            continue
        came = "no chat template" if one.text is None else "another chat template"
        how = "with its own, since its tokens are others too" if one.asked else "with that of the model before"
        own = "" if one.asked else "; own_template asks with its own"
        sentences.append(f"The model {role} came with {came}, unlike the model before; it was asked {how}{own}.")
    return sentences
