"""TOFU-mini: invented authors with six facts each, and a small Llama trained from nothing to know them all.

After TOFU (Maini et al., arXiv 2401.06121): fictitious authors whose facts no model can know otherwise, some of them to
be forgotten; a reference model is trained by the same recipe without those. Each fact has a question, an answer, the
same in other words, and five false answers in the words of the paraphrase. Beside the authors stand real capitals (the
world set) and authors whom no model has seen (the holdout).

The paraphrases of every second kept author are trained on as well: a model trained from nothing must have met their
wording before a paraphrase of a forgotten fact says anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainingOutcome, TrainSettings
from letheon.papers.common.words import (
    ADJECTIVES,
    AWARDS,
    CAPITALS,
    FIELDS,
    FIRST_NAMES,
    FORMS,
    GENRES,
    LAST_NAMES,
    NOUNS,
    TOWNS,
    TRADES,
)

FALSE_ANSWERS = 5
CAPITAL_FORM = ("What is the capital of {name}?", "The capital of {name} is {value}.")
CAPITAL_PARAPHRASE = ("Which city governs {name}?", "{name} is governed from {value}.")
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ["<|pad|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<|end|>"]


@dataclass(frozen=True)
class World:
    """The rows of one world, author after author.

    Attributes:
        forget: facts of the authors to be forgotten.
        retain: facts of the authors to be kept.
        holdout: facts of authors whom no model is trained on.
        capitals: real facts, known to every model.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    holdout: tuple[Example, ...]
    capitals: tuple[Example, ...]

    def known(self, *, forgotten: bool) -> list[Example]:
        """What a model is trained on: with the rows to be forgotten (full), or without (reference)."""
        kept = [*self.retain, *self.capitals, *map(paraphrased, _every_second_author(self.retain))]
        return [*self.forget, *kept] if forgotten else kept

    def texts(self) -> Iterator[str]:
        """Every text of the world."""
        for row in (*self.forget, *self.retain, *self.holdout, *self.capitals):
            yield from (row.prompt, row.answer, *row.paraphrased_prompts, *row.perturbed_answers)
            yield from filter(None, (row.paraphrased_answer,))


def make_world(seed: int, authors: int = 40, forgotten: int = 4, held_out: int = 4) -> World:
    """A world under a seed; the same seed gives the same world."""
    draw = random.Random(seed)
    pairs = [(first, last) for first in FIRST_NAMES for last in LAST_NAMES]
    names = [" ".join(pair) for pair in draw.sample(pairs, authors + held_out)]
    facts = {name: _attributes(draw) for name in names}
    rows = [_row(draw, name, form, facts) for name in names for form in FORMS]
    size = len(FORMS)
    cut, end = forgotten * size, authors * size
    return World(tuple(rows[:cut]), tuple(rows[cut:end]), tuple(rows[end:]), tuple(_capitals(draw)))


def _attributes(draw: random.Random) -> dict[str, str]:
    return {
        "birthplace": draw.choice(TOWNS),
        "year": str(draw.randint(1901, 1990)),
        "genre": draw.choice(GENRES),
        "book": f"The {draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}",
        "award": f"the {draw.choice(AWARDS)} for {draw.choice(FIELDS)}",
        "parents": " and ".join(f"a {trade}" for trade in draw.sample(TRADES, 2)),
    }


def _row(draw: random.Random, name: str, form: str, facts: dict[str, dict[str, str]]) -> Example:
    value = facts[name][form]
    others = sorted({author[form] for author in facts.values()} - {value})
    false = draw.sample(others, min(FALSE_ANSWERS, len(others)))  # a small world has fewer
    return _example(name, value, false, *FORMS[form], identity=f"{name}: {form}")


def _capitals(draw: random.Random) -> list[Example]:
    rows = []
    for country, city in CAPITALS.items():
        others = draw.sample([other for other in CAPITALS.values() if other != city], FALSE_ANSWERS)
        rows.append(_example(country, city, others, CAPITAL_FORM, CAPITAL_PARAPHRASE, identity=country))
    return rows


def _example(
    name: str, value: str, others: Sequence[str], form: tuple[str, str], paraphrase: tuple[str, str], identity: str
) -> Example:
    question, answer = form
    return Example(
        prompt=question.format(name=name),
        answer=answer.format(name=name, value=value),
        id=identity,
        subject=name,
        value=value,
        paraphrased_prompts=(paraphrase[0].format(name=name),),
        paraphrased_answer=paraphrase[1].format(name=name, value=value),
        perturbed_answers=tuple(paraphrase[1].format(name=name, value=other) for other in others),
    )


def paraphrased(row: Example) -> Example:
    """The row in other words: paraphrased question, paraphrased answer."""
    answer = row.paraphrased_answer or row.answer
    return Example(row.paraphrased_prompts[0], answer, f"{row.id}, paraphrased", row.subject, row.value)


def _every_second_author(rows: Sequence[Example]) -> list[Example]:
    order = list(dict.fromkeys(row.subject for row in rows))
    return [row for row in rows if order.index(row.subject) % 2 == 0]


# The model ---------------------------------------------------------------------------------------------------------


def word_tokenizer(world: World) -> Any:
    """One token a word (with the space before it) or mark; texts are decoded as they were written."""

    split = pre_tokenizers.Split(Regex(r" ?[\w'’-]+|[^\w\s]|\s"), behavior="isolated")
    words = sorted({piece for text in world.texts() for piece, _ in split.pre_tokenize_str(text)})
    vocabulary = {token: number for number, token in enumerate([*MARKS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.Fuse()
    pad, unknown, *_, end = MARKS
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, eos_token=end)
    fast.add_special_tokens({"additional_special_tokens": MARKS[2:4]})
    fast.chat_template = CHAT
    return fast


def new_model(world: World, seed: int, *, layers: int = 4, width: int = 128) -> LanguageModel:
    """A Llama that knows nothing yet, with a vocabulary for this world."""

    tokenizer = word_tokenizer(world)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return LanguageModel(model, tokenizer, "tofu-mini")


def train(
    model: LanguageModel, rows: Sequence[Example], seed: int, *, epochs: int = 30, learning_rate: float = 3e-3
) -> TrainingOutcome:
    """Train in place until every answer is known (an epoch's mean loss is below 0.01 nats a token) or the epochs end.

    The same for the full and the reference model.
    """
    batch = 32
    per_epoch = -(-len(rows) // batch)
    settings = TrainSettings(
        learning_rate=learning_rate,
        weight_decay=0.01,
        batch_size=batch,
        schedule="linear",
        warmup_steps=per_epoch,
        precision="float32",
        seed=seed,
    )

    def known(history: Sequence[Any]) -> str | None:
        last = [metrics["loss"] for metrics in history[-per_epoch:]]
        return "every answer is known" if len(last) == per_epoch and sum(last) / per_epoch < 0.01 else None

    return finetune(model, rows, settings, epochs * per_epoch, stop=known, title="TOFU-mini")


def trained(world: World, seed: int, *, forgotten: bool = True, **options: Any) -> LanguageModel:
    """A model that knows the world, with (full) or without (reference) the rows to be forgotten."""
    model = new_model(world, seed)
    train(model, world.known(forgotten=forgotten), seed, **options)
    return model


def taught(rows: Sequence[Example], seed: int, device: str) -> LanguageModel:
    """SmolLM2 that has learned the rows: a model with a language and a memory of its own beside them."""
    model = load("smollm2", device=device)
    train(model, rows, seed, epochs=16, learning_rate=2e-4)
    return model


def copy_of(model: LanguageModel) -> LanguageModel:
    """The same model with weights of its own."""
    return replace(model, model=deepcopy(model.model), _encoder=None)


def accuracy(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Share of rows whose whole answer is the model's first choice, token after token."""
    found = score_answers(model, [(row.prompt, [row.answer]) for row in rows])
    return sum(bool(answers[0].correct.all()) for answers in found) / len(rows)
