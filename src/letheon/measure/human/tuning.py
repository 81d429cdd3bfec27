"""Supervised fine-tuning of a model on human ratings: the rating as decimal text, learned by a LoRA adapter.

Source: the open-weight recipe of WordsGPT/psycholinguistics_framework: rank 16, alpha 32, learning rate 2e-4 that falls
        to zero, 3 epochs, batches of 16.
Differs: the loss covers the answer's tokens only, and prompts follow the chat template; the reference concatenates
        "User: ... Assistant: ..." and trains on the prompt too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from letheon.core.errors import InputError
from letheon.core.model.adapters import attach_lora
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings


@dataclass(frozen=True)
class Tuning:
    """Settings of the fine-tuning.

    Attributes:
        epochs: passes over the training words.
        learning_rate: of AdamW, falling linearly to zero.
        batch_size: words per optimizer step.
        rank, alpha: of the adapter.
    """

    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 16
    rank: int = 16
    alpha: int = 32

    def settings(self, rows: int, seed: int) -> tuple[TrainSettings, int]:
        """Return training settings and the number of steps."""
        steps = self.epochs * -(-rows // self.batch_size)
        settings = TrainSettings(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            schedule="linear",
            seed=seed,
            checkpoint_seconds=0.0,
        )
        return settings, steps


@contextmanager
def tuned(
    model: LanguageModel,
    prompts: Sequence[str],
    ratings: Sequence[float],
    tuning: Tuning,
    *,
    seed: int = 0,
    adapter: Path | None = None,
) -> Iterator[None]:
    """Fine-tune on ratings while the block runs; afterwards the model is as before.

    Args:
        adapter: folder to save the adapter in.

    Raises:
        InputError: the model already has an adapter.
    """
    rows = [Example(prompt, f"{value:.2f}") for prompt, value in zip(prompts, ratings, strict=True)]
    with tuned_on(model, rows, tuning, seed=seed, adapter=adapter, title="learning the ratings"):
        yield


@contextmanager
def tuned_on(
    model: LanguageModel,
    rows: Sequence[Example],
    tuning: Tuning,
    *,
    seed: int = 0,
    adapter: Path | None = None,
    title: str = "fine-tuning",
) -> Iterator[None]:
    """Fine-tune an adapter on the rows' answers while the block runs; afterwards the model is as before.

    Args:
        adapter: folder to save the adapter in.

    Raises:
        InputError: the model already has an adapter.
    """
    if model.has_adapter:
        raise InputError(f"{model.name} has an adapter, and fine-tuning would change it", "merge it first")
    trained = [name for name, weight in model.model.named_parameters() if weight.requires_grad]
    parameters = attach_lora(model, tuning.rank, tuning.alpha)
    try:
        settings, steps = tuning.settings(len(rows), seed)
        finetune(model, rows, settings, steps, parameters=parameters, title=title)
        model.model.eval()
        if adapter is not None:
            model.save(adapter, "adapter")
        yield
    finally:
        model.model = model.model.unload()
        for name, weight in model.model.named_parameters():
            weight.requires_grad_(name in trained)
