"""A study of priming: each text is learned alone from the same weights and read before and after, with cures beside.

Paper:   Sun et al., How new data permeates LLM knowledge and how to dilute it, arXiv 2504.09522: the text takes the
         place of one element of each minibatch of ordinary data, 20 or 40 times; variants: every K-th batch only, or in
         the prompt instead of the weights. The scores are those of `letheon.measure.priming`.
Differs: none known; optimizer and rates were not read, and are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.priming import Priming, Sample, read_samples
from letheon.retain.composition import Composition, as_strategy
from letheon.retain.learn import learn
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.streams.texts import text_stream

Weights = dict[str, Tensor]
Cure = Callable[[Weights, Weights], Weights]


class Presented(Strategy):
    """The first row takes one place in every `every`-th batch; all other places go to the rows after it, in turn.

    Args:
        presentations: how often the row is shown.
        every: batches from one presentation to the next.
    """

    def __init__(self, presentations: int, every: int = 1) -> None:
        super().__init__(settings=())
        self.presentations, self.every = presentations, every

    def epochs(self, learner: Learner, task: Any) -> int:
        return 1

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        size, generator = learner.settings.batch_size, learner.stream_generator("order")
        batches, background = self.presentations * self.every, len(rows) - 1
        if not background:
            return torch.zeros(self.presentations * size, dtype=torch.long)
        turns = -(-batches * size // background)
        places = torch.cat([1 + torch.randperm(background, generator=generator) for _ in range(turns)])
        order = places[: batches * size].view(batches, size)
        order[:: self.every, 0] = 0
        return order.flatten()


def learn_text(
    model: LanguageModel,
    text: str,
    background: Sequence[str] = (),
    *,
    presentations: int = 20,
    every: int = 1,
    strategy: str | Strategy = "naive",
    **options: Any,
) -> None:
    """Learn one text in place: it takes the place of one row in each minibatch of ordinary text.

    Args:
        background: ordinary texts; without any the text is learned alone.
        presentations: 20 with instruction tuning, 40 with continued pre-training (the paper's numbers).
        strategy: composed with the order of the rows, as in `dilution` or `dilution+ewc`.
        options: of `letheon.learn`; by default batches of 8 (of the text alone, 1), AdamW.
    """
    rows = [Example("", one, id=str(number)) for number, one in enumerate((text, *background))]
    stream = text_stream("one text", {"text": (rows, rows[:1])})
    composed = as_strategy(strategy)
    parts = Composition([Presented(presentations, every), *composed.parts], f"presented+{composed.text}")
    learn(model, stream, parts, **{"batch_size": 8 if background else 1, **options})


def study(
    model: LanguageModel,
    samples: Sequence[Sample],
    prefixes: Mapping[str, Sequence[str]],
    background: Sequence[str] = (),
    *,
    cures: Mapping[str, Cure] | None = None,
    **options: Any,
) -> list[Priming]:
    """Learn each sample from the same weights and measure priming and memorisation; the model ends as it began.

    Args:
        cures: by name, made of the weights before and after (`letheon.retain.strategies.dilution.diluted`): each is
            measured beside the change as it is, whose name is empty. One training serves all.
        options: of `learn_text`.
    """
    before = read_samples(model, samples, prefixes)
    results = []
    with restored(model) as (weights, put):
        for sample, reading in zip(samples, before, strict=True):
            put(weights)
            learn_text(model, sample.text, background, **options)
            learned = {name: p.detach().clone() for name, p in model.model.named_parameters()}
            for name, cure in {"": lambda _, after: after, **(cures or {})}.items():
                put(cure(weights, learned))
                results.append(Priming(sample, reading, read_samples(model, [sample], prefixes)[0], name))
    return results


@contextmanager
def restored(model: LanguageModel) -> Iterator[tuple[Weights, Callable[[Mapping[str, Tensor]], None]]]:
    """The weights as they are and a function that puts weights in; at the end they are as they were."""
    parameters = dict(model.model.named_parameters())
    weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    moving = {name: parameter.requires_grad for name, parameter in parameters.items()}

    @torch.no_grad()
    def put(given: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter.copy_(given[name])

    try:
        yield weights, put
    finally:
        put(weights)
        for name, parameter in parameters.items():
            parameter.requires_grad_(moving[name])


def in_context(model: LanguageModel, samples: Sequence[Sample], prefixes: Mapping[str, Sequence[str]]) -> list[Priming]:
    """The same with nothing learned: the text stands before every prefix instead, as a prompt.

    The sample's own prefix is asked after the text, too.
    """
    before = read_samples(model, samples, prefixes)
    results = []
    for sample, reading in zip(samples, before, strict=True):
        prompted = {theme: [f"{sample.text} {prefix}" for prefix in contexts] for theme, contexts in prefixes.items()}
        again = f"{sample.text} {sample.prefix}"
        moved = replace(sample, prefix=again, text=f"{again} {sample.keyword}")
        results.append(Priming(sample, reading, read_samples(model, [moved], prompted)[0], "in context"))
    return results
