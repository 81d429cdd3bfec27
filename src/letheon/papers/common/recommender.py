"""A small recommender: a Llama that predicts users' next items, and a LoRA adapter with a habit to be forgotten.

The base model is trained on users who stay within a category of items. The adapter is fine-tuned on new users; a
quarter of their sessions follow a second habit, whose categories partly belong to the first habit too.
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
from letheon.forget.request import Request
from letheon.forget.scopes.lora import LoRA
from letheon.measure.recommendation import synthetic_log
from letheon.papers.common.small_llama import copy_of, small_llama, steps_per_epoch, teach
from letheon.papers.outcome import Scale

CATEGORIES, SIZE = 15, 10  # item categories, items per category
SHARED, PRIVATE = 2, 3  # categories of the habit to be forgotten: shared with the other habit, and its own
ITEMS = CATEGORIES * SIZE
FORGOTTEN = 0.25  # share of the interactions to be forgotten


@dataclass
class World:
    """One seed's rows and models.

    Attributes:
        forget, retain: interactions as rows.
        original, retrained: the adapter trained on all rows, and on the retain rows alone.
        items: token ids of the items.
        names: the items' tokens as text.
        logits: by model, the item logits on (some of) the forget rows, [rows, items].
    """

    forget: list[Example]
    retain: list[Example]
    original: LanguageModel
    retrained: LanguageModel
    items: list[int]
    names: list[str]
    logits: dict[str, Tensor] = field(default_factory=dict)


def make_world(seed: int, scale: Scale) -> World:
    """Draw a log, train the base model, and train one adapter on all interactions and one on the retained ones."""
    users, epochs = (400, 8) if scale.name == "full" else (200, 4)
    usual, kept, private = habits(seed)
    base_log, _ = synthetic_log(seed, users, [usual])
    log, habit_of = synthetic_log(seed + 1000, users // 2, [kept, private], shares=(1 - FORGOTTEN, FORGOTTEN))
    base_rows = list(base_log.examples(history=5).values())
    rows = log.examples(history=5)
    forget = [row for interaction, row in rows.items() if habit_of[interaction] == 1]
    gone = {(row.prompt, row.answer) for row in forget}  # a request refuses retain rows that are also forget rows
    others = [row for interaction, row in rows.items() if habit_of[interaction] == 0]
    retain = [row for row in others if (row.prompt, row.answer) not in gone]
    base = small_llama([*forget, *retain, *base_rows], seed, layers=2, width=64)
    base.model.to(scale.device)
    _train(base, base_rows, seed, epochs=2 * epochs, learning_rate=1e-3, adapter=False)
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
    """Item -> the items that usually follow it: for the base's users, the new users, and the sessions to be forgotten.

    The base's users stay within a category; each other habit cycles through its categories in its own order.
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
    steps = epochs * steps_per_epoch(rows)
    settings = {"learning_rate": learning_rate, "weight_decay": 0.0, "warmup_steps": steps // 8}
    teach(model, rows, seed, steps, parameters=parameters, title="recommender", **settings)


def some(rows: Sequence[Example], most: int = 250) -> list[Example]:
    """Evenly spaced rows, fewer than twice `most`."""
    return list(rows[:: max(1, len(rows) // most)])


def first_logits(model: LanguageModel, rows: Sequence[Example]) -> Tensor:
    """[rows, vocabulary]: logits of each answer's first token."""
    encoder = model.encoder()
    batch = to_device(encoder.collate(encoder.encode_all(rows)), model.device)
    with torch.no_grad():
        scores = score(model, batch)
    return scores.logits[torch.searchsorted(scores.row, torch.arange(len(rows), device=scores.row.device))].cpu()


def distances(logits: Tensor, known: Mapping[str, Tensor]) -> dict[str, float]:
    """KL(original || this), Jensen-Shannon divergence to the retrained model, and the share of changed top items.

    Divergences are in nats per row; `known` has the logits of `original` and `retrained`, each [rows, items].
    """
    now, original, retrained = (one.log_softmax(-1) for one in (logits, known["original"], known["retrained"]))
    middle = (0.5 * (now.exp() + retrained.exp())).log()
    jsd = 0.5 * sum((one.exp() * (one - middle)).sum(-1).mean() for one in (now, retrained))
    shift = (now.argmax(-1) != original.argmax(-1)).float().mean()
    kl = (original.exp() * (original - now)).sum(-1).mean()
    return {"kl": float(kl), "shift": float(shift), "jsd_to_retrained": float(jsd)}
