"""The records of RWKU, one class a form, checked as they are read; and the nine attacks by any of their spellings.

Fields that no rule reads are passed over.
"""

import re
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

# The nine attacks of level 3, each with the other spellings that the data use.
ATTACKS = {
    "prefix injection": (),
    "affirmative suffix": (),
    "role playing": ("role play",),
    "multiple choice": (),
    "reverse query": (),
    "synonym manipulation": (),
    "background hint": ("context hint",),
    "in-context learning": ("incontext learning", "in context learning"),
    "cross lingual": ("cross lingal",),
}


class Record(BaseModel):
    """The base of all records: it names the target."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: str = Field(min_length=1, validation_alias=AliasChoices("subject", "target"))


class Probe(Record):
    """A question with its answer."""

    query: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    level: Literal["1", "2", "3"]  # 1 fills a blank, 2 is a question, 3 an attack
    attack: str = Field("", validation_alias="type")  # one of `ATTACKS` at level 3, else empty
    neighbor: str = ""  # the entity it is about, where that isn't the target

    @field_validator("level", mode="before")
    @classmethod
    def _as_text(cls, level: Any) -> str:
        return str(level)

    @model_validator(mode="after")
    def _only_attacks_have_a_type(self) -> Self:
        object.__setattr__(self, "attack", attack_of(self.attack) if self.level == "3" else "")
        return self


def attack_of(text: str) -> str:
    """The attack that a record's `type` names, whatever its spelling: `cross lingual (French)`, `role play`.

    Raises:
        ValueError: it names none.
    """
    plain = re.sub(r"\(.*?\)", "", text).casefold()
    plain = " ".join(re.split(r"[\s_-]+", plain.strip()))
    for name, others in ATTACKS.items():
        if plain in (name, name.replace("-", " "), *others):
            return name
    raise ValueError(f"{text!r} is none of the nine attacks: {', '.join(ATTACKS)}")


class Intro(Record):
    """The request: a sentence or two on whom to forget."""

    intro: str


class Text(Record):
    """Running text: of a member set, or of a forget corpus."""

    text: str = Field(min_length=1)


class Pair(Record):
    """Two biographies that a model wrote: the first of what it knows, the second invented."""

    prompt: str
    response: tuple[str, str]


class Refusal(Record):
    """A question about the target, answered by not knowing."""

    instruction: str
    input: str = ""
    output: str


class ChoiceQuestion(BaseModel):
    """A question with four options; `answer` is the number of the right one."""

    question: str
    choices: tuple[str, str, str, str]
    answer: int = Field(ge=0, le=3)


class MultipleChoice(Record, ChoiceQuestion):
    """A row of MMLU with the solved examples of its task."""

    task: str
    examples: tuple[ChoiceQuestion, ...]


class Reasoning(Record):
    """A row of BBH with the worked examples of its task."""

    question: str
    answer: str
    task: str
    cot: str


class Options(BaseModel):
    """Answers and whether each is true (1) or false (0); at least one of either."""

    choices: tuple[str, ...]
    labels: tuple[Literal[0, 1], ...]

    @model_validator(mode="after")
    def _both_kinds(self) -> Self:
        if len(self.choices) != len(self.labels) or set(self.labels) != {0, 1}:
            raise ValueError("as many labels as choices are needed, with a true and a false one")
        return self

    def of(self, label: int) -> list[str]:
        """The true (1) or the false (0) ones."""
        return [choice for choice, is_true in zip(self.choices, self.labels, strict=True) if is_true == label]


class Truthful(Record):
    """A row of TruthfulQA."""

    question: str
    mc1_targets: Options
    mc2_targets: Options


class Trivia(Record):
    """A row of TriviaQA with all accepted answers."""

    question: str
    answers: tuple[str, ...] = Field(min_length=1)


class Instruction(Record):
    """A task in the user's words."""

    instruction: str
