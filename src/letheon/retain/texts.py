"""TextLearner: a language model that learns a stream of text tasks, with all its weights or an adapter.

Rows are token ids of one width; each batch is cut to its longest row. Outputs are `Scores`: logits at the answers'
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.hardware import resolve_precision
from letheon.core.model.adapters import attach_lora
from letheon.core.model.models import LanguageModel
from letheon.core.processes import number_of_process, process_count
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length, stream_seed
from letheon.core.scoring.likelihood import Scores, score
from letheon.core.training.gradients import Vector, backward
from letheon.core.training.sharding import Shards, Whole
from letheon.core.workers import Workers
from letheon.retain.composition import Composition
from letheon.retain.descent import make_optimizer
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream, Task

# Rows per pass in evaluations.
EVALUATION_ROWS = 16


class TextLearner(Learner):
    """A language model that learns tasks of examples.

    Attributes:
        language_model: the model with its tokenizer; `model` is its module.
        sharding: where the weights lie. In shards `parameters` are this process's parts of the trained weights.
        width: tokens of the longest row of the stream.
    """

    kind = "texts"
    default_clip: ClassVar[float | None] = 1.0

    def __init__(
        self,
        language_model: LanguageModel,
        stream: Stream,
        strategy: Composition,
        settings: LearnSettings,
        shards: torch.device | None = None,
    ) -> None:
        if not stream.is_text:
            raise InputError(f"stream {stream.name} holds tensors, the model is a language model", "give text tasks")
        self.language_model = language_model
        self.workers = Workers(number_of_process(), process_count())
        if settings.adapter == "lora":
            attach_lora(language_model, settings.rank, 2 * settings.rank)
        else:
            language_model.merge_adapter()
            language_model.model.requires_grad_(True)
        super().__init__(language_model.model, stream, strategy, settings)
        self.device = shards or self.device
        self._shards: Shards | None = None
        self.encoder = language_model.encoder()
        self.precision = resolve_precision(settings.precision, self.device)
        self._tests = {task.name: self._encoded(_examples(task.test), task.name) for task in stream}
        made = {task.name: self.encode(_examples(task.train), i, task.name) for i, task in enumerate(stream)}
        self.width = max(rows.inputs.shape[1] for rows in made.values())
        self._rows = {name: padded(rows, self.width) for name, rows in made.items()}
        if shards is not None:
            self._shards = Shards(language_model, self.parameters, shards)
            self._hold(self._shards.parameters)
            self.optimizer = make_optimizer(self.weights, *self._kind_and_rate(), settings)

    # Rows

    def encode(self, examples: Sequence[Example], number: int = 0, name: str = "rows") -> TaskRows:
        """Encode examples as rows on the model's device."""
        batch = self.encoder.collate(self._encoded(examples, name))
        rows = TaskRows.of_task(batch.input_ids, batch.labels, number, length=batch.attention_mask.sum(1))
        return rows.to(self.device)

    def _encoded(self, examples: Sequence[Example], name: str) -> list[Encoded]:
        return self.encoder.encode_all(examples, f"task {name}, row")

    def train_rows(self, task: Task) -> TaskRows:
        return self._rows[task.name]

    def examples(self, rows: TaskRows) -> list[Example]:
        """Return the examples of rows, by their task and place."""
        pairs = zip(rows.task.tolist(), rows.index.tolist(), strict=True)
        return [_examples(self.stream.tasks[task].train)[index] for task, index in pairs]

    def batch(self, rows: TaskRows) -> Batch:
        """Return rows as a `Batch`, cut to the longest row."""
        lengths = rows.kept["length"]
        longest = int(lengths.max())
        ids, labels = rows.inputs[:, :longest], rows.targets[:, :longest]
        mask = (torch.arange(longest, device=ids.device) < lengths[:, None]).long()
        batch = Batch(ids, labels, mask, rows.index, labels != -100)
        batch.totals = batch.count()
        return batch

    # Several processes: each takes every n-th row of a step, and holds all weights, or a part of each in shards

    @property
    def sharding(self) -> Whole:
        return self._shards or Whole(self.language_model, self.parameters)

    @property
    def sharded(self) -> bool:
        return self.sharding.sharded

    def whole(self, weight: str | None, tensor: Tensor) -> Tensor | None:
        return self.sharding.whole(weight, tensor) if self.sharded and weight else super().whole(weight, tensor)

    def part(self, weight: str | None, tensor: Tensor) -> Tensor:
        if not self.sharded:
            return tensor
        part = self.sharding.part(weight, tensor) if weight else tensor
        return part.to(self.device, copy=True)  # a whole tensor is freed at once

    def _hold(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Let other tensors stand for the trained weights, and the language model's present module for the model."""
        self.model, self.parameters, self.weights = self.language_model.model, dict(parameters), [*parameters.values()]

    def release(self, gather: bool) -> None:
        if self._shards is None:
            return
        self._shards.end(gather)
        self._shards = None
        self._hold({name: self.language_model.model.get_parameter(name) for name in self.parameters})

    def gradient_of(self, loss: Tensor) -> Vector:
        if self._shards is None:
            return super().gradient_of(loss)
        before = [weight.grad for weight in self.weights]
        self.optimizer.zero_grad()
        backward(loss / self.workers.count)  # the same loss in every process, and gradients are summed over them
        self._shards.collect()
        found = self.gradients()
        for weight, gradient in zip(self.weights, before, strict=True):
            weight.grad = gradient
        return found

    def _clip(self, limit: float) -> None:
        self.sharding.clip(limit)

    def own_part(self, rows: TaskRows) -> TaskRows:
        """Return every n-th row; where none is left, a row that counts for nothing, since all make the same passes."""
        if self.workers.count == 1:
            return rows
        places = torch.arange(self.workers.rank, len(rows), self.workers.count, device=rows.inputs.device)
        own = rows.at(places if len(places) else places.new_zeros(1))
        own.tokens = float((rows.targets[:, 1:] != -100).sum()) if len(places) else math.inf
        return own

    def summed(self, loss: Tensor) -> Tensor:
        if self.workers.count == 1:
            return loss.detach()
        self.sharding.collect()
        return self._total(loss.detach())

    def any_process(self, here: bool) -> bool:
        if self.workers.count == 1:
            return here
        return bool(self._total(torch.tensor(float(here), device=self.device)))

    def _total(self, value: Tensor) -> Tensor:
        dist.all_reduce(value)
        return value

    # Passes

    def forward(self, rows: TaskRows) -> Scores:
        enabled = self.precision == "bfloat16" and torch.is_grad_enabled()
        cache = not self.language_model.sharded  # it would keep every block's cast weights after its shards are freed
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cache):
            return score(self.language_model, self.batch(rows))

    def losses_of(self, outputs: Scores, rows: TaskRows) -> Tensor:
        return outputs.per_row(-outputs.logp) / outputs.lengths()

    def loss(self, outputs: Scores, rows: TaskRows) -> Tensor:
        return -outputs.logp.sum() / rows.tokens if rows.tokens else -outputs.logp.mean()

    def split(self, outputs: Scores, sizes: Sequence[int]) -> list[Scores]:
        ends = torch.tensor(list(sizes)).cumsum(0).tolist()
        return [outputs.part(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def _kind_and_rate(self) -> tuple[str, float]:
        kind = "adamw" if self.settings.optimizer == "auto" else self.settings.optimizer
        return kind, self.settings.learning_rate or (2e-4 if self.settings.adapter == "lora" else 1e-5)

    # Saving: checkpoints hold the trained weights alone

    def weights_to_keep(self) -> dict[str, Tensor]:
        return {name: weight.contiguous() for name, weight in self.snapshot().items()}

    def load_weights(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(state[name])

    def result(self) -> LanguageModel:
        return self.language_model

    def save(self, folder: Path) -> None:
        self.language_model.save(folder)

    # Evaluation

    @torch.no_grad()
    def evaluate(self, tasks: int, most: int | None = None) -> tuple[list[float], list[float]]:
        """Return the share of answers whose tokens are all the model's first choice, and the loss per token (nats)."""
        found = [self._evaluate(task.name, most) for task in self.stream.tasks[:tasks]]
        return [accuracy for accuracy, _ in found], [loss for _, loss in found]

    def _evaluate(self, name: str, most: int | None) -> tuple[float, float]:
        rows = self._tests[name]
        if most is not None and len(rows) > most:
            generator = torch.Generator().manual_seed(stream_seed(0, f"evaluation/{name}"))
            rows = [rows[i] for i in torch.randperm(len(rows), generator=generator)[:most].tolist()]
        batches = by_length([len(row.ids) for row in rows], EVALUATION_ROWS)
        pieces = [partial(self._scored, [rows[i] for i in numbers]) for numbers in batches]
        if self.language_model.sharded:  # all processes must make the same passes
            pieces += pieces[:1] * (-len(pieces) % self.workers.count)
        found = self.workers.share(pieces)[: len(batches)]
        right, losses, tokens = ([batch[i] for batch in found] for i in range(3))
        return sum(right) / len(rows), sum(losses) / max(sum(tokens), 1)

    def _scored(self, rows: Sequence[Encoded]) -> tuple[int, float, int]:
        """Return the number of answers that are right, the summed loss (nats) and the number of tokens."""
        scores = score(self.language_model, self.encoder.collate(rows, device=self.device))
        wrong = scores.per_row((scores.logits.argmax(-1) != scores.labels).to(scores.logits.dtype))
        return int((wrong == 0).sum()), -float(scores.logp.double().sum()), len(scores.labels)


def padded(rows: TaskRows, width: int) -> TaskRows:
    """Pad token rows to a width, so that rows of all tasks fit into one memory."""
    more = width - rows.inputs.shape[1]
    ids, labels = functional.pad(rows.inputs, (0, more)), functional.pad(rows.targets, (0, more), value=-100)
    return TaskRows(ids, labels, rows.task, rows.index, rows.kept)


def _examples(data: Any) -> tuple[Example, ...]:
    return data
