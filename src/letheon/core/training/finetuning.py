"""Fine-tuning on the tokens of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch, Encoded, to_device, with_totals
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import epochs_of, micro_batches
from letheon.core.runs import Run
from letheon.core.scoring.likelihood import score
from letheon.core.training.loop import Loop, TrainingOutcome
from letheon.core.training.settings import TrainSettings


def finetune(
    model: LanguageModel,
    examples: Sequence[Example],
    settings: TrainSettings,
    steps: int,
    *,
    parameters: Mapping[str, nn.Parameter] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    stop: Callable[[Sequence[Mapping[str, float]]], str | None] | None = None,
    run: Run | None = None,
    title: str = "fine-tuning",
) -> TrainingOutcome:
    """Fine-tune in place on the answers' tokens (mean negative log-likelihood over the effective batch).

    Args:
        parameters: the parameters to train; all by default.
        penalty: called after each forward pass; its mean over micro-batches is added to the loss.
        stop: takes the metrics of all steps so far; returns a reason to stop, or None.
        run: folder of metrics and checkpoints; training continues from the newest checkpoint in it.
    """
    encoder = model.encoder()
    rows = encoder.encode_all(examples)
    parameters = parameters or dict(model.model.named_parameters())
    loop = Loop(model, parameters, settings, steps, run=run, title=title)
    loop.resume()
    plan = epochs_of(len(rows), settings.batch_size, steps, settings.seed)

    def step(number: int) -> dict[str, float]:
        batches = loop.shard(prepare_batches(model, rows, plan[number], settings, loop.accelerator.num_processes))
        total = 0.0
        for batch in batches:
            with loop.autocast():
                loss = -batch.mean(score(model, batch).logp, "tokens")
                loss = loss + penalty() / len(batches) if penalty else loss
            loss.backward()
            total += loss.item()
        metrics = loop.reduce_metrics({"loss": total})
        loop.sum_gradients()
        loop.clip()
        loop.optimizer.step()
        return metrics

    return loop.run(step, stop)


def prepare_batches(
    model: LanguageModel,
    rows: Sequence[Encoded],
    numbers: Sequence[int],
    settings: TrainSettings,
    processes: int,
) -> list[Batch]:
    """Make the micro-batches of an effective batch, each with the effective batch's totals."""
    encoder = model.encoder()
    parts = micro_batches(numbers, settings.micro_batch_size, processes)
    return with_totals([to_device(encoder.collate([rows[i] for i in part], part), model.device) for part in parts])
