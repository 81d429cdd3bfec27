"""A small recommender: a Llama that knows what users take next, and a LoRA adapter of new users with a habit to forget.

A base model is trained on users who stay in a category of items; an adapter is fine-tuned on new ones, a quarter of
whose sessions follow a habit of their own, over categories that partly serve the other habit too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import to_device
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import score
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.forget.request import Request
from letheon.forget.scopes.lora import LoRA
from letheon.measure.recommendation import synthetic_log
from letheon.papers.common.tofu_mini import World as Rows
from letheon.papers.common.tofu_mini import copy_of, new_model
from letheon.papers.outcome import Scale

CATEGORIES, SIZE = 15, 10  # of items
SHARED, PRIVATE = 2, 3  # categories of the habit to be forgotten: the other habit's too, and its own
ITEMS = CATEGORIES * SIZE
FORGOTTEN = 0.25  # share of the interactions


@dataclass
class World:
    """The rows of one seed, the original and the retrained model, and their logits of items on the forget rows."""

    forget: list[Example]
    retain: list[Example]
    original: LanguageModel
    retrained: LanguageModel
    items: list[int]  # the items' tokens
    names: list[str]
    logits: dict[str, Tensor] = field(default_factory=dict)


def make_world(seed: int, scale: Scale) -> World:
    """A log, a base model, an adapter on all of the new users' interactions, and one on those to be kept."""
    users, epochs = (400, 8) if scale.name == "full" else (200, 4)
    usual, kept, private = habits(seed)
    base_log, _ = synthetic_log(seed, users, [usual])
    log, habit_of = synthetic_log(seed + 1000, users // 2, [kept, private], shares=(1 - FORGOTTEN, FORGOTTEN))
    base_rows = list(base_log.examples(history=5).values())
    rows = log.examples(history=5)
    forget = [row for interaction, row in rows.items() if habit_of[interaction] == 1]
    gone = {
        (row.prompt, row.answer) for row in forget
    }  # a request refuses rows to be kept that are also to be forgotten
    kept_rows = [row for interaction, row in rows.items() if habit_of[interaction] == 0]
    retain = [row for row in kept_rows if (row.prompt, row.answer) not in gone]
    base = new_model(Rows(tuple(forget), tuple(retain), tuple(base_rows), ()), seed, layers=2, width=64)
    base.model.to(scale.device)
    _train(base, base_rows, seed, epochs=epochs, learning_rate=3e-3, adapter=False)
    original, retrained = copy_of(base), copy_of(base)
    _train(original, [*forget, *retain], seed, epochs=3 * epochs, learning_rate=4e-3, adapter=True)
    _train(retrained, retain, seed, epochs=3 * epochs, learning_rate=4e-3, adapter=True)
    names = [f"i{item}" for item in range(ITEMS)]
    items = original.tokenizer.convert_tokens_to_ids(names)
    world = World(forget, retain, original, retrained, items, names)
    for name, model in (("original", original), ("retrained", retrained)):
        world.logits[name] = first_logits(model, some(forget))[:, items]
    return world


def habits(seed: int) -> list[dict[int, list[int]]]:
    """Which items usually follow which: for the base's users, the new ones, and the sessions to be forgotten.

    The base's users stay in a category; each other habit goes around its categories in an order of its own.
    """
    draw = random.Random(seed)
    common = CATEGORIES - PRIVATE
    stay = {category: category for category in range(CATEGORIES)}
    return [_items(stay), _items(_cycle(range(common), draw)), _items(_cycle(range(common - SHARED, CATEGORIES), draw))]


def _cycle(categories: range, draw: random.Random) -> dict[int, int]:
    order = draw.sample(categories, len(categories))
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _items(following: Mapping[int, int]) -> dict[int, list[int]]:
    members = {category: list(range(category * SIZE, (category + 1) * SIZE)) for category in range(CATEGORIES)}
    return {item: members[after] for category, after in following.items() for item in members[category]}


def _train(
    model: LanguageModel, rows: Sequence[Example], seed: int, *, epochs: int, learning_rate: float, adapter: bool
) -> None:
    parameters = LoRA().select(model, Request(forget=tuple(rows[:1]))) if adapter else None
    batch = 32
    steps = epochs * -(-len(rows) // batch)
    settings = TrainSettings(
        learning_rate, batch_size=batch, schedule="linear", warmup_steps=steps // 8, precision="float32", seed=seed
    )
    finetune(model, rows, settings, steps, parameters=parameters, title="recommender")


def some(rows: Sequence[Example], most: int = 250) -> list[Example]:
    """Evenly spaced rows."""
    return list(rows[:: max(1, len(rows) // most)])


def first_logits(model: LanguageModel, rows: Sequence[Example]) -> Tensor:
    """[rows, vocabulary]: logits of the first token of each answer."""
    encoder = model.encoder()
    batch = to_device(encoder.collate(encoder.encode_all(rows)), model.device)
    with torch.no_grad():
        scores = score(model, batch)
    return scores.logits[torch.searchsorted(scores.row, torch.arange(len(rows), device=scores.row.device))].cpu()


def distances(logits: Tensor, known: Mapping[str, Tensor]) -> dict[str, float]:
    """In nats a row: KL(original || this), and Jensen-Shannon to the retrained; the share of changed first choices."""
    now, original, retrained = (one.log_softmax(-1) for one in (logits, known["original"], known["retrained"]))
    middle = (0.5 * (now.exp() + retrained.exp())).log()
    jsd = 0.5 * sum((one.exp() * (one - middle)).sum(-1).mean() for one in (now, retrained))
    shift = (now.argmax(-1) != original.argmax(-1)).float().mean()
    kl = (original.exp() * (original - now)).sum(-1).mean()
    return {"kl": float(kl), "shift": float(shift), "jsd_to_retrained": float(jsd)}
