"""GeRe for transformers' `Trainer`: whoever finetunes with it changes the trainer's class and names general texts.

Paper:   Zhang et al., GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay,
         arXiv 2508.04676, and the authors' trainer: texts are mixed into the rows, and a micro-batch has its own means.
Differs: task rows and texts of a micro-batch pass through the model apart, as a user's own collator makes the rows.
         Thresholds, states and losses are those of `strategies/gere`, which `letheon learn` runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.model.hooks import head_input
from letheon.retain.mixing import IGNORED, Collator, Mixed, MixingSampler
from letheon.retain.strategies.gere import Old, Settings, Share, check_logits, imitation_loss, old_of, step_loss

TERMS = ("ori_loss", "gere_ce_loss", "gere_margin_loss", "total_ce_loss", "total_loss")


class GeReTrainer(Trainer):
    """`transformers.Trainer` whose batches also hold general texts, which keep the model's activations in their states.

    The log gains the authors' names: `ori_loss` (task rows), `gere_ce_loss` (texts), `gere_margin_loss` (imitation),
    `total_ce_loss` and `total_loss`, each the mean of the micro-batches (of all processes) that had it.

    Args:
        general: running texts; the first `settings.count` are taken, each cut to `settings.tokens` tokens.
        settings: what `letheon learn --strategy gere:...` takes, but for `texts` and `share`. `per_step` counts texts
            per effective batch (devices x batch x accumulation); 0 shuffles each text once per epoch among the rows.
        old: the activations that are kept, `trainer.old` of the trainer of the first task. Without them, `train` reads
            them from the model that it is given (its base, where an adapter is trained), so that a resumed
            run needs the model as it was before the first step, not a checkpoint's.

    Raises:
        InputError: no texts, a text of fewer than two tokens, no tokenizer, no space for rows beside `per_step` texts,
            several devices in one process, an order of rows other than random, `old` of other texts or of another
            imitation; for "kl", a model that changes its head's logits.
    """

    loss_is_scaled_for_ga = False  # a micro-batch's own means, as the authors' code has them

    def __init__(
        self,
        *args: Any,
        general: Sequence[str],
        settings: Settings | None = None,
        old: Old | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = False  # the same, before transformers 5.10
        self.settings, self.old = settings or Settings(), old
        if self.processing_class is None:
            raise InputError("GeReTrainer has no tokenizer for the general texts", "give processing_class=tokenizer")
        if self.args.n_gpu > 1:
            raise InputError(f"{self.args.n_gpu} devices in one process", "start one process per device, with torchrun")
        if (order := getattr(self.args, "train_sampling_strategy", "random")) != "random":
            raise InputError(f"train_sampling_strategy={order} would mix no texts in", "leave it at random")
        if self.accelerator.ddp_handler is not None:  # it would wait: processes make unequal numbers of forward passes
            self.accelerator.ddp_handler.broadcast_buffers = False
        self.texts = tokens_of(self.processing_class, general, self.settings)
        given = self.settings
        self._source = canonical_hash([self.texts, given.imitation, given.sigmas])
        if old is not None and given.imitation != "none" and old.source not in ("", self._source):
            raise InputError(
                "old holds the activations of other texts, or those of another imitation",
                "give the general texts and settings of the trainer that recorded it",
            )
        self._terms: dict[str, Tensor] = {}  # name -> the sum over micro-batches, and their number

    def train(self, *args: Any, **options: Any) -> Any:
        """Record the model's activations on the texts, then train as `Trainer` does."""
        if self.old is None and self.settings.imitation != "none":
            self.old = self._recorded()
        return super().train(*args, **options)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches of task rows and texts."""
        rows, collate = self.train_dataset, self.data_collator
        if rows is None or isinstance(rows, IterableDataset) or not hasattr(rows, "__len__"):
            raise InputError("GeReTrainer needs a train_dataset of known length", "give a list or a Dataset")
        if isinstance(rows, datasets.Dataset):
            rows = self._remove_unused_columns(rows, "training")
        else:
            collate = self._get_collator_with_removed_columns(collate, "training")
        arguments = self.args
        batch = self._train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        if self.settings.per_step >= batch:
            raise InputError(
                f"per_step={self.settings.per_step} texts leave no space in a batch of {batch}",
                "use fewer texts per step, or a larger batch",
            )
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        sampler = MixingSampler(len(rows), len(self.texts), self.settings.per_step, batch, seed)
        loader: DataLoader[Any] = DataLoader(
            Mixed(rows, sampler),
            batch_size=self._train_batch_size,
            sampler=sampler,
            collate_fn=Collator(collate, self.texts, self._padding()),
            drop_last=arguments.dataloader_drop_last,
            num_workers=arguments.dataloader_num_workers,
            pin_memory=arguments.dataloader_pin_memory,
            persistent_workers=arguments.dataloader_persistent_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a micro-batch of task rows, texts or both; other inputs (evaluation) pass through."""
        if "task" not in inputs and "places" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        without = "task" not in inputs or ("places" in inputs and _unlabelled(inputs["task"]))
        task = None if without else super().compute_loss(model, inputs["task"])
        if "places" not in inputs:
            self._note(ori_loss=task, total_ce_loss=task, total_loss=task)
            return task
        of_texts, imitation = self._on_texts(model, inputs["general"], inputs["places"].tolist())
        share: Share = "reference" if task is None else "half"
        first = of_texts if task is None else task
        loss, _ = step_loss(first, of_texts, imitation, self.settings.weight, 1.0, share)
        self._note(
            ori_loss=task,
            gere_ce_loss=of_texts,
            gere_margin_loss=imitation,
            total_ce_loss=of_texts if task is None else (task + of_texts) / 2,
            total_loss=loss,
        )
        return loss

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Add the terms since the last line to a line of training."""
        if {"loss", "learning_rate"} <= logs.keys():  # a line that the trainer writes in every process
            nothing = torch.zeros(2, device=self.args.device)
            found = self.accelerator.reduce(torch.stack([self._terms.get(name, nothing) for name in TERMS]), "sum")
            logs |= {name: total / n for name, (total, n) in zip(TERMS, found.tolist(), strict=True) if n}
            self._terms.clear()
        super().log(logs, *args, **options)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return the operations of both parts of a micro-batch."""
        return sum(super(GeReTrainer, self).floating_point_ops(part) for part in _parts(inputs))

    def _track_num_input_tokens(self, inputs: Any) -> None:
        parts, names = _parts(inputs), ("input_ids", "attention_mask")
        shared = [name for name in names if all(name in part for part in parts)]
        super()._track_num_input_tokens({name: torch.cat([part[name].flatten() for part in parts]) for name in shared})

    def _on_texts(self, model: Any, batch: Mapping[str, Tensor], places: list[int]) -> tuple[Tensor, Tensor | None]:
        """Return the cross-entropy per token of texts, and the imitation."""
        with head_input(self.accelerator.unwrap_model(model)) as seen:
            outputs = model(**batch)
        if self.settings.imitation == "none":
            return outputs.loss, None
        if not seen:
            raise InputError("the model does not call its output head", "train without a kernel that fuses it away")
        assert self.old is not None
        kept = batch["attention_mask"].flatten().bool()
        logits = outputs.logits.flatten(0, 1)[kept]
        return outputs.loss, imitation_loss(seen[0].float()[kept], logits, places, self.old, self.settings)

    @torch.no_grad()
    def _recorded(self) -> Old:
        """Return the activations of the model (without its adapter) on the texts, one text at a time."""
        model = self.model
        training = model.training
        model.eval()
        hidden = []
        with getattr(model, "disable_adapter", nullcontext)(), self.accelerator.autocast(), head_input(model) as seen:
            for ids in self.texts:
                logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
                hidden.append(seen.pop().float())
            old = old_of(hidden, model.get_output_embeddings().weight, self.settings)
            if old.head is not None:
                check_logits(logits, hidden[-1], old.head)
        model.train(training)
        return old._replace(source=self._source)

    def _padding(self) -> int:
        pad = getattr(self.processing_class, "pad_token_id", None)
        return 0 if pad is None else int(pad)

    def _note(self, **terms: Tensor | None) -> None:
        for name, value in terms.items():
            if value is not None:
                one = torch.stack([value.detach().float(), torch.ones((), device=value.device)])
                self._terms[name] = self._terms[name] + one if name in self._terms else one


def _parts(inputs: Mapping[str, Any]) -> list[Any]:
    """Return what passes through the model: rows and texts of a micro-batch, or the inputs themselves."""
    return [inputs[name] for name in ("task", "general") if name in inputs] or [inputs]


def _unlabelled(rows: Mapping[str, Any]) -> bool:
    """Whether no token of some rows has a loss, whose mean would be no number."""
    labels = rows.get("labels")
    return labels is not None and bool((labels[..., 1:] == IGNORED).all())


def tokens_of(tokenizer: Any, texts: Sequence[str], settings: Settings) -> list[list[int]]:
    """Return each text's tokens, without special ones.

    Raises:
        InputError: no texts, or one of fewer than two tokens.
    """
    if not texts:
        raise InputError("GeReTrainer has no general texts", "give general=[...], some hundred short texts")
    found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts[: settings.count]]
    short = next((number for number, ids in enumerate(found, start=1) if len(ids) < 2), None)
    if short is not None:
        raise InputError(f"general text {short} has fewer than two tokens", "leave it out")
    return [ids[: settings.tokens] for ids in found]
