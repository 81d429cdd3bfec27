"""What lies beside the weights: every model is asked with the files of the model before, whatever it came with.

The weights are what is audited. Chat template, tokenizer and generation settings lie beside them, and anybody can
exchange them: a template that is taken away keeps an audit from asking in turns, a tokenizer can hide a name where it
splits a text or where it decodes one, and one more stop token ends an answer before the fact. Every model is therefore
asked with the template, the tokenizer and the stop tokens of the model before, and by the attack `own_template` with
its own template too. That cannot be done where the tokens of the model before have other rows in the embedding table
of the model after; it is then asked with its own, the audit says so, and its verdict is never "pass". `config.json`
decides what the weights compute and cannot be exchanged; an audit names the fields in which it differs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.generation import stop_tokens

# Fields of a configuration that name things, or that asking a model does not read.
NAMES = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
# Parts of a tokenizer that are set anew by each call.
SET_BY_CALLS = {"padding", "truncation"}
MOST_FIELDS = 8


@dataclass(frozen=True)
class Template:
    """The chat template that a model came with, and how its other files compare with those of the model before.

    Attributes:
        text: None where there is none.
        asked: whether the model was asked with it, and not with that of the model before.
        same_tokenizer: whether the model's tokenizer is, in every part, that of the model before.
        own_tokenizer: whether the model was asked with its own tokenizer, template and stop tokens, since those of the
            model before do not fit its embedding table.
        config: the fields in which its configuration differs from that of the model before.
    """

    text: str | None
    asked: bool = True
    same_tokenizer: bool = True
    own_tokenizer: bool = False
    config: tuple[str, ...] = ()

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
    """How the model before is asked.

    Attributes:
        tokenizer: its tokenizer, with its chat template.
        stops: the tokens that end its answers.
        rows: the length of its embedding table.
        config: the fields of its configuration.
    """

    tokenizer: Any
    stops: tuple[int, ...]
    rows: int
    config: Mapping[str, Any]

    @classmethod
    def of(cls, before: LanguageModel) -> Asking:
        """Return how the model before is asked."""
        return cls(before.tokenizer, tuple(stop_tokens(before)), _rows(before), _fields(before))

    def alike(self, model: LanguageModel) -> tuple[LanguageModel, Template]:
        """Return a model as it is asked, and the template that it came with; the given model stays as it is."""
        same_template, own = model.tokenizer.chat_template == self.tokenizer.chat_template, not self._fits(model)
        config = _fields(model)
        came = replace(
            template_of(model),
            asked=same_template or own,
            same_tokenizer=model.tokenizer is self.tokenizer or parts(model.tokenizer) == parts(self.tokenizer),
            own_tokenizer=own,
            config=tuple(k for k in sorted({**self.config, **config}) if self.config.get(k) != config.get(k)),
        )
        if own:
            return model, came
        return replace(model, tokenizer=self.tokenizer, stops=self.stops, _encoder=None), came

    def _fits(self, model: LanguageModel) -> bool:
        """Say whether the model can be asked with the tokens of the model before.

        It can where both embedding tables are of one length, whatever its tokenizer calls their rows, and where its
        table has another length but the tokens of the model before have the same numbers.
        """
        rows, tokens = _rows(model), self.tokenizer.get_vocab()
        alike = max(tokens.values(), default=0) < rows and tokens.items() <= model.tokenizer.get_vocab().items()
        return rows == self.rows or alike


def _rows(model: LanguageModel) -> int:
    return int(model.base().get_input_embeddings().weight.shape[0])


def _fields(model: LanguageModel) -> dict[str, Any]:
    """Return the fields of a model's configuration by name; those of a part are named `part.field`."""
    flat: dict[str, Any] = {}

    def add(fields: Mapping[str, Any], prefix: str) -> None:
        for name, value in fields.items():
            if name not in NAMES and value is not None:
                add(value, f"{prefix}{name}.") if isinstance(value, dict) else flat.update({f"{prefix}{name}": value})

    add(json.loads(model.base().config.to_json_string(use_diff=False)), "")
    return flat


def parts(tokenizer: Any) -> Any:
    """Return all of a tokenizer but its chat template: whatever decides how it splits and how it decodes."""
    special = [tokenizer.eos_token_id, tokenizer.pad_token_id, sorted(tokenizer.all_special_ids)]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [type(tokenizer).__qualname__, tokenizer.get_vocab(), special]
    return [{k: v for k, v in json.loads(backend.to_str()).items() if k not in SET_BY_CALLS}, special]


def changed(templates: Mapping[str, Template]) -> list[str]:
    """Return sentences on the models that came with other files than the model before."""
    before, sentences = templates.get("before"), []
    for role, one in templates.items():
        if one.own_tokenizer:
            sentences.append(
                f"The model {role} was asked with its own tokenizer, which can hide what the weights hold: its "
                "embedding table is of another length than that of the model before, and its tokens have other numbers."
            )
        elif not one.same_tokenizer:
            sentences.append(
                f"The model {role} came with another tokenizer than the model before; it was asked with that of the "
                "model before."
            )
        if one.config:
            more = f" and {len(one.config) - MOST_FIELDS} more" if len(one.config) > MOST_FIELDS else ""
            sentences.append(
                f"The configuration of the model {role} differs from that of the model before in "
                f"{', '.join(one.config[:MOST_FIELDS])}{more}: equal weights compute something else under it."
            )
        if before is None or one.text == before.text:
            continue
        came = "no chat template" if one.text is None else "another chat template"
        how = "with its own, since its tokens are others too" if one.asked else "with that of the model before"
        own = "" if one.asked else "; own_template asks with its own"
        sentences.append(f"The model {role} came with {came}, unlike the model before; it was asked {how}{own}.")
    return sentences


def held_back(templates: Mapping[str, Template]) -> str:
    """Return why the verdict cannot be "pass", whatever was measured; empty where it can."""
    after = templates.get("after")
    if after is None or not after.own_tokenizer:
        return ""
    return (
        "The verdict is inconclusive, whatever the criteria say: the model after was asked with a tokenizer of its "
        "own, which can hide what the weights hold."
    )
