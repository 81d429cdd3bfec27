"""Recipe: objective x update x scope x sampler, written `simnpo+geometric@lora%cyclic`, and the named ones.

Grammar: `OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]`, each part `NAME[=VALUE][:OPTION=VALUE,...]`; the bare value goes to
the part's first option (`layers=5-7`). What is left out is `joint`, `everything`, `paired`.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from letheon.core.atomic import plain
from letheon.core.errors import InputError, nearest
from letheon.core.parts import Part as Part
from letheon.core.parts import name_of, read_part
from letheon.core.registry import Kind, make_settings, methods

# Names that stand for a combination: a paper's, or ours (`fact_spans`; chosen by docs/results/demo_recipes.md).
NAMED = {
    "fact_spans": "ce_u:tokens=value,alpha=1.0,skip=0",
    "gu": "simnpo+geometric",
    "k-fade": "gradient_ascent+gauss_newton",
    "kl_min": "grad_diff:retain_loss=kl",
    "idk": "dpo:alternates=idk",
    "kuda": "kuda+null_space@traced",
    "melu": "npo%modular",
    "reglu": "inverted_hinge@reglu",
    "cure": "grad_diff+by_group@circuit",
    "ofmu": "grad_diff+bilevel",
    "sae-unlearning": "sae@lora",
    "attention_shifting": "attention_shifting@lora:targets=q_proj k_proj",
    "attention-shifting": "attention_shifting@lora:targets=q_proj k_proj",
}
# Papers' names of methods that stand alone.
ALONE: dict[str, str] = {"u-can": "attenuation", "rule": "reinforce"}
# Training settings that go with a named recipe, where nothing else is asked for.
RECOMMENDED: dict[str, dict[str, Any]] = {
    "attention_shifting": {"epochs": 24, "learning_rate": 5e-4, "weight_decay": 0.01, "batch_size": 64},  # TOFU's
    "attention-shifting": {"epochs": 24, "learning_rate": 5e-4, "weight_decay": 0.01, "batch_size": 64},
    "alternates": {"epochs": 6, "learning_rate": 2e-5, "stop": "auto"},
    "fact_spans": {"epochs": 6, "learning_rate": 2e-5},
    # steps over the whole forget set; the rate is the top of the paper's range and, under a KL budget, only a bound
    "k-fade": {
        "steps": 5,
        "learning_rate": 1e-2,
        "batch_size": 1_000_000,
        "micro_batch_size": 8,
        "keep_update": True,
    },
    # ours, on SmolLM2; RMU's rate, 5e-5 [inferred], is for models of 7B
    "kuda": {"steps": 100, "learning_rate": 3e-4, "batch_size": 4},
    "melu": {"epochs": 4, "learning_rate": 2e-5, "weight_decay": 0.01, "schedule": "linear"},
    # the paper's but for the rate, which is ours: its 2e-6 is for 8e9 weights and 300 questions
    "reinforce": {"steps": 20, "learning_rate": 2e-5, "batch_size": 32, "weight_decay": 0.01},
    "reglu": {"epochs": 5, "learning_rate": 1e-4, "weight_decay": 0.01, "batch_size": 32, "schedule": "linear"},
    "sae-unlearning": {"steps": 200, "learning_rate": 1e-4, "batch_size": 8},  # [inferred]
}
DEFAULTS: dict[Kind, str] = {"update": "joint", "scope": "everything", "sampler": "paired"}
MARKS: dict[str, Kind] = {"": "objective", "+": "update", "@": "scope", "%": "sampler"}


@dataclass(frozen=True)
class Recipe:
    """A way to forget.

    Attributes:
        objective, update, scope, sampler: the four parts.
        text: as the user wrote it.
    """

    objective: Part
    update: Part
    scope: Part
    sampler: Part
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe; an error names the part and the nearest known name.

        >>> str(Recipe.parse("simnpo+geometric@lora"))
        'simnpo+geometric@lora'
        """
        text = text.strip()
        pieces: dict[Kind, str] = {**DEFAULTS, **_expanded(_pieces(text))}
        recipe = cls(**{kind: _part(kind, piece) for kind, piece in pieces.items()}, text=text)
        recipe.check()
        return recipe

    @property
    def recommended(self) -> dict[str, Any]:
        """Training settings that go with the recipe's name."""
        return RECOMMENDED.get(re.split(r"[+@%:]", self.text)[0], {})

    def check(self) -> None:
        """Refuse combinations that cannot work, saying why."""
        value_tokens = getattr(self.objective.settings, "tokens", "answer") != "answer"
        if value_tokens and getattr(self.objective.settings, "positions", "labels") == "all":
            raise InputError("positions=all and tokens=value exclude each other", "choose one of the two")
        if value_tokens and self.update.method.name == "geometric" and not self.objective.settings.alpha:
            raise InputError(
                "geometric with tokens=value needs the objective's retain term, which has alpha=0",
                f"write {self.objective.method.name}:tokens=value,alpha=1.0",
            )
        if self.objective.method.name == "rmu" and self.scope.method.name == "layers":
            first = int(self.scope.settings.layers.split("-")[0])
            if first > self.objective.settings.layer:
                raise InputError(
                    f"rmu reads layer {self.objective.settings.layer}, which layers {first} and above cannot change",
                    f"let layers up to {self.objective.settings.layer} move, or read a later one: rmu:layer={first}",
                )

    def with_option(self, name: str, value: Any) -> Recipe:
        """The recipe with one option of its objective changed."""
        options = {
            f.name: getattr(self.objective.settings, f.name) for f in dataclasses.fields(self.objective.settings)
        }
        part = Part(self.objective.method, make_settings(self.objective.method, {**options, name: value}))
        return dataclasses.replace(self, objective=part)

    def needs(self) -> set[str]:
        """What the parts need beside forget rows."""
        parts = (self.objective, self.update, self.scope, self.sampler)
        return set().union(*(part.method.needs for part in parts))

    def config(self) -> dict[str, Any]:
        """All options of all parts, resolved."""
        kinds = ("objective", "update", "scope", "sampler")
        return {
            kind: {"name": getattr(self, kind).method.name, **plain(getattr(self, kind).settings)} for kind in kinds
        }

    def __str__(self) -> str:
        text = str(self.objective)
        implied = {} if self.objective.method.name in NAMED else DEFAULTS  # a named recipe implies other parts
        for mark, kind in list(MARKS.items())[1:]:
            part = str(getattr(self, kind))
            if part != implied.get(kind):
                text += mark + part
        return text


@dataclass(frozen=True)
class StandaloneMethod:
    """A method that stands alone: a one-shot edit of weights, or a procedure in several stages.

    Attributes:
        part: its record and options.
        text: as the user wrote it.
    """

    part: Part
    text: str = field(default="", compare=False)

    @property
    def recommended(self) -> dict[str, Any]:
        """Training settings that go with its name."""
        return RECOMMENDED.get(self.part.method.name, {})

    def needs(self) -> set[str]:
        """What it needs beside forget rows."""
        return set(self.part.method.needs)

    def config(self) -> dict[str, Any]:
        """All options, resolved."""
        return {self.part.method.kind: {"name": self.part.method.name, **plain(self.part.settings)}}

    def __str__(self) -> str:
        return str(self.part)


def read_method(text: str) -> Recipe | StandaloneMethod:
    """A recipe, or a method that stands alone."""
    text = text.strip()
    name = re.split(r"[=:]", ALONE.get(text.partition(":")[0], text))[0]
    alone = {record.name: record.kind for kind in ("edit", "procedure") for record in methods(kind)}
    if name not in alone:
        return Recipe.parse(text)
    head, colon, options = text.partition(":")
    return StandaloneMethod(_part(alone[name], ALONE.get(head, head) + colon + options), text)


def _pieces(text: str) -> dict[Kind, str]:
    """What stands before and after the marks, by kind of part."""
    found = re.findall(r"([+@%]?)([^+@%]+)", text)
    if not found or "".join(mark + piece for mark, piece in found) != text or found[0][0]:
        raise InputError(f"method {text!r} cannot be read", "write OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]")
    pieces: dict[Kind, str] = {}
    for mark, piece in found:
        if MARKS[mark] in pieces:
            raise InputError(f"method {text!r} has two {MARKS[mark]}s", f"leave one of them out: {piece!r}")
        pieces[MARKS[mark]] = piece
    return pieces


def _expanded(pieces: dict[Kind, str]) -> dict[Kind, str]:
    """With a named recipe spelled out: its parts where none is given; options after its name go to its objective."""
    name, _, options = pieces["objective"].partition(":")
    if name not in NAMED:
        return pieces
    named = _pieces(NAMED[name])
    objective = named["objective"]
    if options:
        objective += ("," if ":" in objective else ":") + options
    return {**named, **pieces, "objective": objective}


def _part(kind: Kind, text: str) -> Part:
    name = name_of(text)
    if kind == "objective" and name not in [m.name for m in methods()]:
        alone = [method.name for kind in ("edit", "procedure") for method in methods(kind)]
        known = [*NAMED, *ALONE, *alone, *(method.name for method in methods("objective"))]
        raise InputError(f"no method is called {name!r}", nearest(name, known))
    return read_part(kind, text)
