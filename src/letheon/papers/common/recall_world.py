"""A world for memory add-ons: streams of facts and questions, and a small model whose attention ends after a window.

A token is a fact (this key has this value) or a question (which value has this key?); the answer is what the model says
next, and is not part of the stream. Every stream has its own values for the keys, which are drawn by Zipf's law: rare
ones come back after long. The model attends to the last 8 tokens only, three layers deep: a fact that lies further back
than that reaches cannot be known, whatever the model learns; an answer is then one of 6 at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from letheon.attend.attaching import AddOns
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.figures import lines

KEYS, VALUES = 8, 6
QUESTIONS = KEYS * VALUES  # the first question; facts come before
ANSWERS = QUESTIONS + KEYS  # the first answer
LENGTH, WINDOW, LAYERS, WIDTH = 128, 8, 3, 64
SHORT = 32  # training begins on streams so long, in which a fact is soon found; its last third is on whole ones
TOKENS = 1536  # of a step
REACH = LAYERS * (WINDOW - 1)  # a token sees WINDOW tokens, itself among them
BASE_STEPS, STEPS, TESTS = 250, 300, 64
BASE_RATE, RATE = 5e-3, 1e-2


@dataclass(frozen=True)
class Streams:
    """Rows of the world, each [rows, length].

    Attributes:
        ids: facts and questions.
        answers: the token of the right answer at each question; -100 elsewhere, and where no true fact came before.
        distance: tokens back to the last true fact of the key; 0 where there is no answer.
        times: how often a true fact of the key came before.
    """

    ids: Tensor
    answers: Tensor
    distance: Tensor
    times: Tensor


def streams(rows: int, generator: Any, noise: float = 0.0, length: int = LENGTH) -> Streams:
    """Fresh streams; with noise, this share of the facts has a value at random."""

    def draw(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    shares = (1 / torch.arange(1, KEYS + 1)).expand(rows, -1)
    order = torch.rand(rows, KEYS, generator=generator).argsort(-1)
    keys = order.gather(1, torch.multinomial(shares, length, replacement=True, generator=generator))
    values = draw(VALUES, rows, KEYS).gather(1, keys)
    told = torch.where(torch.rand(rows, length, generator=generator) < noise, draw(VALUES, rows, length), values)
    fact = torch.rand(rows, length, generator=generator) < 0.5
    ids = torch.where(fact, keys * VALUES + told, QUESTIONS + keys)
    true = (fact & (told == values))[:, None] & (keys[:, :, None] == keys[:, None])  # [rows, now, earlier]
    place = torch.arange(length)
    latest = torch.where(true.tril(-1), place, -1).amax(-1)
    known = ~fact & (latest >= 0)
    answers = torch.where(known, ANSWERS + values, -100)
    return Streams(ids, answers, torch.where(known, place - latest, 0), true.tril(-1).sum(-1))


def windowed_model(seed: int) -> LanguageModel:
    """Three layers of width 64 with attention to the last 8 tokens; random weights."""

    config = MistralConfig(
        vocab_size=ANSWERS + VALUES,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=WINDOW,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageModel(MistralForCausalLM(config).eval(), None, "windowed")


def train(
    model: LanguageModel,
    parameters: Iterable[nn.Parameter],
    steps: int,
    seed: int,
    *,
    rate: float,
    noise: float = 0.0,
    penalty: Callable[[], Tensor] | None = None,
) -> list[float]:
    """AdamW with a linear fall, on the answers; all other weights are frozen. The loss (nats) of each step.

    Answers are no part of the text, so this is no `finetune`: labels stand beside the stream.
    """

    trained = list(parameters)
    for weight in model.model.parameters():
        weight.requires_grad_(False)
    for weight in trained:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / steps)
        length = SHORT if step < 2 * steps // 3 else LENGTH
        batch = streams(TOKENS // length, generator, noise, length)
        asked = batch.answers >= 0
        logits = model.model(batch.ids, use_cache=False).logits[asked]
        loss = torch.nn.functional.cross_entropy(logits, batch.answers[asked])
        losses.append(float(loss.detach()))
        torch.autograd.backward(loss + penalty() if penalty else loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


def right(model: LanguageModel, batch: Streams) -> Tensor:
    """[rows, LENGTH]: whether the most probable token at each place is the answer there."""

    with torch.inference_mode():
        return model.model(batch.ids, use_cache=False).logits.argmax(-1) == batch.answers


def recall(model: LanguageModel, tests: Streams) -> dict[str, Any]:
    """Share of right answers by the distance of the fact, and of the far ones for rare and for frequent keys."""
    correct, distance = right(model, tests), tests.distance
    beyond = distance > REACH
    rare = tests.times <= tests.times[beyond].median()
    places = {
        "within the window": (distance > 0) & (distance < WINDOW),
        "beyond the window": (distance >= WINDOW) & (distance <= REACH),
        "beyond reach": beyond,
        "beyond reach, rare": beyond & rare,
        "beyond reach, frequent": beyond & ~rare,
    }
    found: dict[str, Any] = {name: float(correct[place].float().mean()) for name, place in places.items()}
    edges = (1, 4, 8, 16, 22, 32, 48, 64, 128)
    found["by distance"] = {
        low: float(correct[(distance >= low) & (distance < high)].float().mean()) for low, high in pairwise(edges)
    }
    return found


def compared(
    arms: Sequence[str],
    make: Callable[[str, LanguageModel, int], AddOns],
    noises: Sequence[float],
    seed: int,
    base_steps: int,
    steps: int,
) -> dict[str, dict[str, Any]]:
    """What the model alone and each arm recall; all arms learn from the same streams and are tested on the same.

    Args:
        make: an arm, put beside the frozen model with this seed.
        noises: shares of noise; recall on streams with them is under `noise`, on clean ones beside it.
    """

    def drawn(noise: float) -> Streams:
        return streams(TESTS, torch.Generator().manual_seed(stream_seed(seed, "test")), noise)

    def tested() -> dict[str, Any]:
        torch.manual_seed(stream_seed(seed, "gate"))
        return recall(model, drawn(0.0)) | {"noise": {noise: recall(model, drawn(noise)) for noise in noises}}

    model = windowed_model(stream_seed(seed, "model"))
    train(model, model.model.parameters(), base_steps, stream_seed(seed, "base"), rate=BASE_RATE)
    ids, found = drawn(0.0).ids[:4], {"model": tested()}
    for arm in arms:
        with torch.inference_mode():
            before = model.model(ids, use_cache=False).logits
        addons = make(arm, model, seed)
        train(model, addons.parameters().values(), steps, stream_seed(seed, "addon"), rate=RATE, penalty=addons.penalty)
        found[arm] = tested() | {"parameters": sum(p.numel() for p in addons.parameters().values())}
        with addons.off(), torch.inference_mode():
            after = model.model(ids, use_cache=False).logits
        found[arm]["logits changed when off"] = int((before != after).sum())
        addons.detach()
    return found


def recall_figure(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """Recall over the distance of the fact, first seed."""

    one = next(iter(found.values()))
    curves = {arm: list(values["by distance"].items()) for arm, values in one.items()}
    return lines(curves, "tokens back", "recall", "Recall of a fact over its distance, by arm")
