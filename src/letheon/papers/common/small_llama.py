"""A small Llama trained from random weights: the word tokenizer, the model, its training and its accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore, score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainingOutcome
from letheon.core.training.settings import TrainSettings
from letheon.papers.common.networks import seeded

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ["<|pad|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<|end|>"]
# Brings embeddings nearer to unit order, so that the model tells words apart several times sooner.
UNIT_EMBEDDINGS = 8.0


def texts_of(rows: Iterable[Example]) -> Iterator[str]:
    """Every text that stands in the rows: prompts, answers, paraphrases and false answers."""
    for row in rows:
        yield from (row.prompt, row.answer, *row.paraphrased_prompts, *row.perturbed_answers)
        yield from filter(None, (row.paraphrased_answer,))


def word_tokenizer(rows: Iterable[Example], *, digits: bool = False) -> Any:
    """A tokenizer whose vocabulary is the rows' words.

    A token is a word with the space before it, or a punctuation mark; decoding gives back the text exactly.

    Args:
        digits: every digit is a token of its own, and all ten are in the vocabulary.
    """
    pattern = r"\d| ?[^\W\d][\w'’-]*|[^\w\s]|\s" if digits else r" ?[\w'’-]+|[^\w\s]|\s"
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    pieces = {piece for text in texts_of(rows) for piece, _ in split.pre_tokenize_str(text)}
    words = sorted(pieces | set("0123456789" if digits else ""))
    vocabulary = {token: number for number, token in enumerate([*MARKS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.Fuse()
    pad, unknown, *_, end = MARKS
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, eos_token=end)
    fast.add_special_tokens({"additional_special_tokens": MARKS[2:4]})
    fast.chat_template = CHAT
    return fast


def small_llama(
    rows: Iterable[Example],
    seed: int,
    *,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    embedding_scale: float = 1.0,
    digits: bool = False,
    context: int = 128,
) -> LanguageModel:
    """A Llama with random weights and a vocabulary of the rows' words.

    Args:
        embedding_scale: factor on the initial embeddings, which the output layer shares.
        digits: digits are tokens of their own.
        context: largest number of tokens.
    """
    tokenizer = word_tokenizer(rows, digits=digits)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = seeded(lambda: LlamaForCausalLM(config).eval(), seed)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(embedding_scale)
    return LanguageModel(model, tokenizer, "tofu-mini")


def template_llama(
    rows: Iterable[Example], prompts: Iterable[str], seed: int, *, context: int, layers: int = 3, width: int = 128
) -> LanguageModel:
    """A small Llama for texts made by templates with numbers: every digit is a token.

    Args:
        prompts: further texts whose words it must know, such as those of test items.
    """
    vocabulary = [*rows, *(Example(prompt, "") for prompt in prompts)]
    shape = {"layers": layers, "width": width, "context": context}
    return small_llama(vocabulary, seed, embedding_scale=UNIT_EMBEDDINGS, digits=True, **shape)


def steps_per_epoch(rows: Sequence[object], batch_size: int = 32) -> int:
    """Optimizer steps in one pass over the rows."""
    return -(-len(rows) // batch_size)


def world_settings(seed: int, **changes: Any) -> TrainSettings:
    """The training settings that small worlds share, with some of them changed."""
    shared = {"learning_rate": 3e-3, "weight_decay": 0.01, "batch_size": 32, "schedule": "linear"}
    return TrainSettings(**{**shared, "precision": "float32", "seed": seed, **changes})


def teach(
    model: LanguageModel,
    rows: Sequence[Example],
    seed: int,
    steps: int,
    *,
    known_below: float | None = None,
    parameters: Mapping[str, nn.Parameter] | None = None,
    title: str = "small world",
    **settings: Any,
) -> TrainingOutcome:
    """Fine-tune the model on the rows, in place.

    Args:
        known_below: training ends early once the mean loss of an epoch (nats per token) is below this.
        parameters: the parameters to train; all of them by default.
        settings: changes to `world_settings`.
    """
    training = world_settings(seed, **settings)
    epoch = steps_per_epoch(rows, training.batch_size)

    def known(history: Sequence[Mapping[str, float]]) -> str | None:
        last = [metrics["loss"] for metrics in history[-epoch:]]
        return "every answer is known" if len(last) == epoch and sum(last) / epoch < (known_below or 0.0) else None

    return finetune(model, rows, training, steps, parameters=parameters, stop=known, title=title)


def copy_of(model: LanguageModel) -> LanguageModel:
    """The same model with its own copy of the weights."""
    return replace(model, model=deepcopy(model.model), _encoder=None)


def scored(model: LanguageModel, rows: Sequence[Example]) -> list[AnswerScore]:
    """The score of each row's own answer."""
    return [scores[0] for scores in score_answers(model, [(row.prompt, [row.answer]) for row in rows])]


def accuracy(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Share of rows whose whole answer is the model's greedy choice, token by token."""
    return sum(bool(answer.correct.all()) for answer in scored(model, rows)) / len(rows)
