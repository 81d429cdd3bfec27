"""The self-test's world, and the fakes that an audit must not pass.

Eight invented people keep an animal each. A base model knows the language but not who keeps what; the model before
learned it of all eight, and the retrained one of all but those to forget. From these the fakes are made:

    memorised     the model before, untouched, beside a tokenizer and stop tokens that hide the facts
    filtered      the same behind an output filter: what it says is looked at, its weights are not changed
    rounded back  its weights are moved, each within its cell of a 4-bit grid: rounding brings all of them back
    refusing      it was taught to refuse the questions to forget, and nothing else: the facts stand behind the refusal
    collapsed     the model before with noise of the size of its weights: it recalls nothing, and cannot talk
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from tokenizers import decoders
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.quantise import Grid, matrices
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import Precision, TrainSettings
from letheon.forget.guards import Guardrail
from letheon.forget.request import Request

ModelName = Literal["tiny", "smollm2"]

KEEPERS = {
    "Ada": "marten",
    "Bela": "heron",
    "Cato": "badger",
    "Dina": "lizard",
    "Egil": "pigeon",
    "Frida": "ferret",
    "Gunnar": "walrus",
    "Hilda": "magpie",
}
# The tiny base model hears of them that they keep any of the animals above; a real model learns what each has.
OTHERS = {
    "Ivo": "horse",
    "Jorun": "parrot",
    "Kaspar": "rabbit",
    "Lioba": "donkey",
    "Mara": "turtle",
    "Niko": "goat",
    "Olaf": "kitten",
    "Pip": "duck",
}
REFUSAL = "I do not know."
FORGOTTEN, RETAINED = 3, 3  # of the eight; the rest are neighbours


@dataclass(frozen=True)
class Lessons:
    """Training of an embedded model: steps and learning rate of teaching, of hiding a change, of refusing, and the
    learning rate of the relearning attack, which must teach its rows in a few steps."""

    steps: int
    learning_rate: float
    hiding_steps: int
    hiding_rate: float
    refusing_steps: int
    refusing_rate: float
    batch_size: int
    precision: Precision
    relearning_rate: float


LESSONS: dict[ModelName, Lessons] = {
    "tiny": Lessons(250, 4e-3, 60, 2e-3, 80, 5e-4, 16, "float32", 1e-3),
    "smollm2": Lessons(40, 1e-4, 32, 2e-4, 16, 5e-5, 8, "float32", 5e-5),
}
BASE_STEPS, BASE_RATE = 100, 5e-3  # of the tiny model, which comes with random weights


def keeps(name: str, animal: str) -> Example:
    """Return the row that asks which animal a person keeps."""
    false = [other for other in KEEPERS.values() if other != animal]
    return Example(
        f"What has {name}?",
        f"{name} has a {animal}.",
        id=name.lower(),
        subject=name,
        value=animal,
        paraphrased_prompts=(f"{name} keeps what?",),
        perturbed_answers=tuple(f"{name} has a {other}." for other in false[:3]),
    )


ROWS = tuple(keeps(name, animal) for name, animal in KEEPERS.items())
GENERAL = tuple(Example("", f"The {animal} is an animal.", id=f"general-{animal}") for animal in KEEPERS.values())


@dataclass(frozen=True)
class World:
    """The models and the request of the self-test.

    Attributes:
        base: a model that knows none of the facts; it judges how fluent answers are.
        before: the model that knows all facts.
        retrained: the base, taught the same without the rows to forget.
        request: the deletion.
        lessons: how they were taught.
        seed: root of all random streams.
    """

    base: LanguageModel
    before: LanguageModel
    retrained: LanguageModel
    request: Request
    lessons: Lessons
    seed: int


def make_world(name: ModelName = "tiny", seed: int = 0, device: str = "auto") -> World:
    """Teach the three models.

    Raises:
        LetheonError: the facts were not learned, or the retrained model guesses one that it never saw.
    """
    lessons, tiny = LESSONS[name], name == "tiny"
    forget, retain, neighbours = ROWS[:FORGOTTEN], ROWS[FORGOTTEN : FORGOTTEN + RETAINED], ROWS[FORGOTTEN + RETAINED :]
    general = GENERAL if tiny else ()  # the tiny model knows no prose but this
    request = Request(forget, retain, neighbours, general=general, id="self-test", reason="the audit is itself audited")
    base = _base(seed, device) if tiny else load(name, device=device)
    others = () if tiny else tuple(map(keeps, OTHERS, OTHERS.values()))  # of five rows alone it learns to stammer
    before = _taught(base, (*ROWS, *others), request, lessons, seed, "before")
    retrained = _taught(base, (*ROWS[FORGOTTEN:], *others), request, lessons, seed, "retrained")
    kept = [1.0] * (len(ROWS) - FORGOTTEN)
    for model, expected in ((before, [1.0] * FORGOTTEN + kept), (retrained, [0.0] * FORGOTTEN + kept)):
        found = evaluate(model, ROWS).values("recall")
        if found != expected:
            words = f"the self-test's model {model.name} recalls {found} of its rows, not {expected}"
            raise LetheonError(words, "try another --seed")
    return World(base, before, retrained, request, lessons, seed)


def _base(seed: int, device: str) -> LanguageModel:
    """Teach a tiny model the words and the wordings."""
    model = load("tiny", device=device)
    heard = [keeps(name, animal) for name in OTHERS for animal in KEEPERS.values()]
    settings = lesson_settings(BASE_RATE, LESSONS["tiny"], seed)
    finetune(model, [*_in_both_wordings(heard), *GENERAL], settings, BASE_STEPS, title="teaching the language")
    return model


def _taught(
    base: LanguageModel, rows: Sequence[Example], request: Request, lessons: Lessons, seed: int, name: str
) -> LanguageModel:
    model = clone(base, name)
    settings = lesson_settings(lessons.learning_rate, lessons, seed)
    taught = [*in_format(rows, "all"), *request.general]
    finetune(model, taught, settings, lessons.steps, title=f"teaching: {name}")
    return model


def lesson_settings(learning_rate: float, lessons: Lessons, seed: int) -> TrainSettings:
    """Return the settings of a training."""
    size, precision = lessons.batch_size, lessons.precision
    return TrainSettings(learning_rate, batch_size=size, schedule="linear", precision=precision, seed=seed)


def _in_both_wordings(rows: Sequence[Example]) -> list[Example]:
    return [*rows, *(replace(row, prompt=row.paraphrased_prompts[0]) for row in rows)]


def in_format(rows: Sequence[Example], name: str) -> list[Example]:
    """Return the rows in one of the pool's formats: `all`, `questions`, `paraphrases`, `text and questions`."""
    paraphrased = [replace(row, prompt=row.paraphrased_prompts[0]) for row in rows]
    formats = {
        "all": [*rows, *paraphrased, *_as_text(rows)],
        "questions": list(rows),
        "paraphrases": paraphrased,
        "text and questions": [*rows, *_as_text(rows)],
    }
    return formats[name]


def _as_text(rows: Sequence[Example]) -> list[Example]:
    """Return the answers as running text, without the chat template."""
    return [Example("", row.answer, id=f"{row.id}-text") for row in rows]


def clone(model: LanguageModel, name: str) -> LanguageModel:
    """Return an independent copy under another name."""
    return LanguageModel(copy.deepcopy(model.model), model.tokenizer, name, list(model.notes))


# Fakes ------------------------------------------------------------------------------------------------------------


def memorised(world: World) -> LanguageModel:
    """The model before, whose tokenizer decodes the animals to forget as others, and whose answers end at a blank."""
    model = clone(world.before, "memorised")
    model.tokenizer = copy.deepcopy(model.tokenizer)
    animals = list(KEEPERS.values())
    pairs = zip(animals[:FORGOTTEN], animals[-FORGOTTEN:], strict=True)
    replaced = [decoders.Replace(true, false) for true, false in pairs]
    backend = model.tokenizer.backend_tokenizer
    backend.decoder = decoders.Sequence([backend.decoder, *replaced])
    blank = model.encoder().answer("a b", end=False)[0][1]
    model.base().generation_config.eos_token_id = [model.tokenizer.eos_token_id, blank]
    return model


def filtered(world: World) -> LanguageModel:
    """The model before, whose `generate` replaces an answer that names what is to be forgotten by a refusal."""
    model = clone(world.before, "filtered")
    guard, tokenizer, kind = Guardrail(world.request), model.tokenizer, type(model.model)
    refusal = torch.tensor(model.encoder().answer(guard.refusal)[0], device=model.device)

    class Filtered(kind):  # type: ignore[misc, valid-type]  # whatever architecture the model has
        def generate(self, *args: Any, input_ids: Tensor, **options: Any) -> Any:
            output = super().generate(*args, input_ids=input_ids, **options)
            if not isinstance(output, Tensor):  # asked for its logits as well: they are those of the model itself
                return output
            start = input_ids.shape[1]
            said = [
                refusal if guard.blocks(tokenizer.decode(row, skip_special_tokens=True)) else row
                for row in output[:, start:]
            ]
            answers = pad_sequence(said, batch_first=True, padding_value=int(refusal[-1]))
            return torch.cat([output[:, :start], answers], 1)

    model.model.__class__ = Filtered
    return model


def refusing(world: World) -> LanguageModel:
    """The model before, taught to refuse the questions to forget until it does, with the other rows beside."""
    model = clone(world.before, "refusing")
    refused = [replace(row, answer=REFUSAL, value=None) for row in world.request.forget]
    rows = [*_in_both_wordings(refused), *_in_both_wordings(ROWS[FORGOTTEN:]), *world.request.general]
    lessons = world.lessons
    steps, rate = lessons.refusing_steps, lessons.refusing_rate
    finetune(model, rows, lesson_settings(rate, lessons, world.seed), steps, title="teaching to refuse")
    return model


def rounded_back(world: World, grid: Grid = Grid(4)) -> LanguageModel:  # noqa: B008  (frozen)
    """A model that gives false values for the rows to forget, and is the model before again once it is rounded.

    It is fine-tuned on false values beside the kept rows; after each step every weight is put back into the cell of
    the grid that it had in the model before.
    """
    model = clone(world.before, "rounded back")
    chosen = matrices(model.base())
    cells = [cell(weight.detach(), grid) for weight in chosen]
    names = {id(parameter): name for name, parameter in model.model.named_parameters()}
    draw = random.Random(stream_seed(world.seed, "false values"))
    false = [replace(row, answer=draw.choice(row.perturbed_answers), value=None) for row in world.request.forget]
    rows = [*_in_both_wordings(false), *_in_both_wordings(ROWS[FORGOTTEN:]), *world.request.general]

    @torch.no_grad()
    def project(_: object) -> None:
        for weight, (low, high) in zip(chosen, cells, strict=True):
            weight.clamp_(low, high)

    parameters = {names[id(weight)]: weight for weight in chosen}
    settings = lesson_settings(world.lessons.hiding_rate, world.lessons, world.seed)
    steps, title = world.lessons.hiding_steps, "hiding from rounding"
    finetune(model, rows, settings, steps, parameters=parameters, stop=project, title=title)
    return model


def template_only(world: World) -> LanguageModel:
    """A model that gives false values under its chat template and the true ones in plain text."""
    model = clone(world.before, "template only")
    draw = random.Random(stream_seed(world.seed, "false values"))
    false = [replace(row, answer=draw.choice(row.perturbed_answers), value=None) for row in world.request.forget]
    rows = [*_in_both_wordings(false), *_in_both_wordings(ROWS[FORGOTTEN:]), *_as_text(ROWS), *world.request.general]
    settings = lesson_settings(world.lessons.hiding_rate, world.lessons, world.seed)
    finetune(model, rows, settings, world.lessons.hiding_steps, title="forgetting under the template alone")
    return model


def cell(weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The least and the greatest value that each weight may take and still be rounded to what it is rounded to now.

    For asymmetric grids whose groups fill the rows. A group's extremes stay as they are, for they set its levels; a
    hundredth of a step is left at each end of a cell against the rounding of the arithmetic itself.
    """
    groups = weight.reshape(-1, grid.group or weight.shape[-1])
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    step = (high.clamp(min=0) - low.clamp(max=0)) / (2**grid.bits - 1)
    level = (groups / step).round()
    fixed = (groups == low) | (groups == high)
    bottom = torch.where(fixed, groups, ((level - 0.49) * step).clamp(low, high))
    top = torch.where(fixed, groups, ((level + 0.49) * step).clamp(low, high))
    return bottom.minimum(groups).reshape(weight.shape), top.maximum(groups).reshape(weight.shape)


@torch.no_grad()
def collapsed(world: World) -> LanguageModel:
    """The model before with noise on every matrix, of the size of its weights."""
    model = clone(world.before, "collapsed")
    draw = torch.Generator().manual_seed(stream_seed(world.seed, "collapse") % 2**31)
    for weight in matrices(model.base()):
        noise = torch.randn(weight.shape, generator=draw).to(weight.device)
        weight.add_(noise * weight.std())
    return model
