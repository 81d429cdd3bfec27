"""Known and unknown entities: names, sentences that mention them, hidden states at the mention, latents.

Paper:   Ferrando et al., Do I Know This Entity?, arXiv 2411.14257: states are read at the last token of the mention,
         a latent's separation is the difference of how often it fires on known and on unknown entities, latents that
         ordinary text switches on are left out.
Differs: one type of entity at a time, so there is no minimum over types. Unknown names are made of the known ones'
         parts, each part replaced by one of as many tokens, so that length and tokenisation tell nothing apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.atomic import read_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example

NAME = "{name}"
ATTEMPTS = 50  # draws per invented name before giving up


class Template(NamedTuple):
    """A question with `{name}` in it, and the beginning of its answer up to the name, if the answer has the name."""

    prompt: str
    answer: str = ""


# Used if a request has few questions of its own.
PLAIN_TEMPLATES = tuple(
    map(Template, ("Tell me about {name}.", "Who is {name}?", "This is a text about {name}.", "{name}"))
)


@dataclass(frozen=True)
class EntitySet:
    """Names of known, unknown and target entities, and the sentences that mention them.

    Attributes:
        known, unknown: at least one name each.
        target: names to be made unknown.
        templates: sentences that mention a name.
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    target: tuple[str, ...] = ()
    templates: tuple[Template, ...] = PLAIN_TEMPLATES

    def __post_init__(self) -> None:
        for kind in ("known", "unknown"):
            if not getattr(self, kind):
                raise InputError(f"no {kind} entity", "give at least one of each kind")
        if shared := set(self.unknown) & {*self.known, *self.target}:
            raise InputError(f"{min(shared)!r} is both an unknown entity and a known or target one", "remove one")
        if missing := [template.prompt for template in self.templates if NAME not in template.prompt]:
            raise InputError(f"template {missing[0]!r} does not mention {NAME}", "write the name's place as {name}")
        if not self.templates:
            raise InputError("no template", "give at least one text with {name} in it")

    @classmethod
    def read(cls, path: str | Path, target: Sequence[str], templates: Sequence[Template]) -> EntitySet:
        """Read a JSON file `{"known": [...], "unknown": [...], "templates": [...]}`; `known` excludes targets."""
        content = read_json(Path(path))
        lists = content if isinstance(content, dict) else {}
        for kind in ("known", "unknown"):
            if not _is_texts(lists.get(kind)):
                raise InputError(f"{path}: {kind!r} is no list of names", 'write {"known": [...], "unknown": [...]}')
        if "templates" in lists and not _is_texts(lists["templates"]):
            raise InputError(f"{path}: 'templates' is no list of texts", "write texts with {name} in them")
        known = tuple(name for name in lists["known"] if name not in target)
        own = tuple(map(Template, lists.get("templates", ())))
        return cls(known, tuple(lists["unknown"]), tuple(target), own or tuple(templates))

    def split(self, seed: int) -> tuple[EntitySet, EntitySet]:
        """Split the known and unknown names into two random halves: one to select on, one to test on."""
        draw = random.Random(seed)
        known, unknown = (draw.sample(names, len(names)) for names in (self.known, self.unknown))
        halves = [
            EntitySet(tuple(known[i::2]), tuple(unknown[i::2]), self.target, self.templates)
            for i in range(2)
        ]  # fmt: skip
        return halves[0], halves[1]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


# Names --------------------------------------------------------------------------------------------------------------


def invent_names(tokenizer: Any, names: Sequence[str], number: int, seed: int) -> list[str]:
    """Invent up to `number` new names from the parts of `names`; the same seed gives the same names.

    Parts are words, or tokens if a name is one word. Each part is drawn from parts of other names at the same place
    with the same number of tokens; a name whose total number of tokens differs is discarded.
    """
    draw, parts = random.Random(seed), {name: _parts(tokenizer, name) for name in dict.fromkeys(names)}
    pool: dict[tuple[int, int, int], list[str]] = {}
    for found in parts.values():
        for place, (part, length) in enumerate(found):
            choices = pool.setdefault((len(found), place, length), [])
            choices += [part] if part not in choices else []
    invented: dict[str, None] = {}
    for i in range(number):
        model = list(parts)[i % len(parts)]
        for _ in range(ATTEMPTS):
            shape = [(len(parts[model]), place, length) for place, (_, length) in enumerate(parts[model])]
            name = "".join(draw.choice(pool[key]) for key in shape).strip()
            if name not in parts and name not in invented and _length(tokenizer, name) == _length(tokenizer, model):
                invented[name] = None
                break
    return list(invented)


def _parts(tokenizer: Any, name: str) -> list[tuple[str, int]]:
    """Split a name into parts (with their spaces), each with its number of tokens."""
    words = re.findall(r"\s*\S+", name)
    if len(words) > 1:
        return [(word, _length(tokenizer, word)) for word in words]
    ids = tokenizer(" " + name, add_special_tokens=False)["input_ids"]
    return [(tokenizer.decode([number]), 1) for number in ids]


def _length(tokenizer: Any, text: str) -> int:
    text = text if text.startswith(" ") else " " + text
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


# Mentions -----------------------------------------------------------------------------------------------------------


def mention_ends(tokenizer: Any, ids: Sequence[int], name: str) -> list[int]:
    """Return the index of the last token of each mention of a name."""
    grown = [tokenizer.decode(ids[: i + 1], clean_up_tokenization_spaces=False) for i in range(len(ids))]
    text = grown[-1] if grown else ""
    ends = [match.end() for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    return [next(i for i, part in enumerate(grown) if part.startswith(text[:end])) for end in ends]


def templates_of(rows: Iterable[Example]) -> list[Template]:
    """Make templates from rows: distinct questions with `{name}` for the subject, answers up to its first mention."""
    found: dict[str, str] = {}
    for row in rows:
        if row.subject and row.subject in row.prompt:
            before, there, _ = row.answer.partition(row.subject)
            answer = before + NAME if there else ""
            found.setdefault(row.prompt.replace(row.subject, NAME), answer)
    return [Template(prompt, answer) for prompt, answer in found.items()]


def subjects_by_form(templates: Sequence[Template], texts: Sequence[str]) -> list[str]:
    """Find other entities by matching the questions' templates against texts."""
    forms = [re.escape(template.prompt) for template in templates if template.prompt != NAME]
    name, again = re.escape(NAME), "(?P=name)"
    patterns = [re.compile(form.replace(name, "(?P<name>.{1,60}?)", 1).replace(name, again)) for form in forms]
    found = [match["name"].strip() for text in texts for pattern in patterns if (match := pattern.search(text))]
    return list(dict.fromkeys(filter(None, found)))


class Mention(NamedTuple):
    """A text cut after the last mention of a name, with the last token of each mention."""

    row: Encoded
    ends: tuple[int, ...]
    name: str


def mention(model: LanguageModel, name: str, template: Template) -> Mention:
    """Encode a template with a name, cut after the name's last mention.

    Raises:
        InputError: the name is not found in its decoded tokens.
    """
    encoder = model.encoder()
    ids = list(encoder.prompt(template.prompt.replace(NAME, name)))
    start = len(ids)
    if template.answer:
        ids += encoder.answer(template.answer.replace(NAME, name), end=False)[0]
    ends = mention_ends(model.tokenizer, ids, name)
    if not ends:
        raise InputError(f"{name!r} is not found among its own tokens", "spell the name in letters that the model has")
    return Mention(Encoded(tuple(ids[: ends[-1] + 1]), min(start, ends[-1] + 1)), tuple(ends), name)


def mentions(model: LanguageModel, names: Sequence[str], templates: Sequence[Template]) -> list[Mention]:
    """Encode every name in every template, name by name."""
    return [mention(model, name, template) for name in names for template in templates]


# Latents ------------------------------------------------------------------------------------------------------------


class Separation(NamedTuple):
    """Share of known and of unknown entities on which each latent fires; `score` is their difference."""

    known: Float[Tensor, " latents"]
    unknown: Float[Tensor, " latents"]

    @property
    def score(self) -> Float[Tensor, " latents"]:
        """1 if a latent fires on all known and no unknown entities, −1 for the reverse."""
        return self.known - self.unknown


def latent_separation(known: Float[Tensor, "entities latents"], unknown: Float[Tensor, "others latents"]) -> Separation:
    """Compute f_j, the share of entities whose latent j is above 0, for known and unknown entities."""
    return Separation((known > 0).float().mean(0), (unknown > 0).float().mean(0))


def salient(separation: Separation, k: int, common: Bool[Tensor, " latents"] | None = None) -> list[int]:
    """Select the k latents most specific to known entities, then the k most specific to unknown ones.

    Args:
        common: latents that fire on ordinary text; they are skipped.
    """
    score = separation.score if common is None else separation.score.masked_fill(common, 0.0)
    order = score.argsort(descending=True, stable=True).tolist()
    k = min(k, len(order) // 2)
    return order[:k] + order[::-1][:k]


@dataclass(frozen=True)
class KnowledgeProbe:
    """A linear probe that separates states at known entities from states at unknown ones.

    Attributes:
        weight, bias: σ(x·weight + bias) is the probability of "known".
        auroc: area under the ROC curve on entities that it was not fitted on.
    """

    weight: Float[Tensor, " width"]
    bias: float
    auroc: float

    @classmethod
    def fit(
        cls,
        known: Float[Tensor, "entities width"],
        unknown: Float[Tensor, "others width"],
        test_known: Float[Tensor, "tested width"],
        test_unknown: Float[Tensor, "others_tested width"],
    ) -> KnowledgeProbe:
        """Fit a logistic regression on standardised states, and test it on other entities."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

        states = torch.cat([known, unknown]).double().cpu().numpy()
        mean, deviation = states.mean(0), states.std(0) + 1e-6
        labels = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
        fitted = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500).fit(
            (states - mean) / deviation, labels
        )
        weight = fitted.coef_[0] / deviation
        bias = float(fitted.intercept_[0] - weight @ mean)
        tests = torch.cat([test_known, test_unknown]).double().cpu().numpy() @ weight
        truth = np.r_[np.ones(len(test_known)), np.zeros(len(test_unknown))]
        return cls(torch.tensor(weight, dtype=torch.float32), bias, float(roc_auc_score(truth, tests)))

    def known(self, states: Float[Tensor, "entities width"]) -> Float[Tensor, " entities"]:
        """Compute the probability of "known" for each state."""
        return torch.sigmoid(states @ self.weight.to(states) + self.bias)
