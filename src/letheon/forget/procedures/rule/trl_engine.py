"""RULE's second stage by TRL's GRPOTrainer instead of our own loop: the same questions and the same rewards.

For those who want TRL's generation back ends; needs the extra `trl`.
Differs: TRL shuffles both kinds of question together, as the paper does, so a step may hold more of one. It divides by
         std + 1e-4 in the advantage. A run that is killed in this stage starts it again, and a signal does not end it
         between two steps. One process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.training.reinforcement import Rollout
from letheon.core.training.settings import TrainSettings
from letheon.forget.procedures.rule.boundary import Query
from letheon.forget.procedures.rule.settings import Settings

# Given the rollouts of a step and their questions, [questions, group]; and given those, the rewards and TRL's log.
Rewards = Callable[[Sequence[Rollout], Sequence[Query]], Tensor]
Note = Callable[[Sequence[Query], Sequence[Rollout], Tensor, dict[str, float]], None]
LOGGED = {"loss": "loss", "kl": "kl"}


def check_trl() -> None:
    """Raise `InputError` if TRL is not installed."""
    if find_spec("trl") is None:
        raise InputError("engine=trl needs the package trl", "pip install 'letheon[trl]', or leave engine out")


def reinforce_with_trl(
    model: LanguageModel,
    questions: Sequence[Query],
    settings: Settings,
    training: TrainSettings,
    steps: int,
    rewards: Rewards,
    note: Note,
) -> None:
    """Take `steps` of GRPO from the present model, which is also the reference; the model is changed in place.

    TRL reads policy and reference from a folder, so the model is written there first.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    group = settings.group
    seen: list[tuple[list[Query], list[Rollout], Tensor]] = []

    def rule(completions: list[Any], number: list[int], **_: Any) -> list[float]:
        texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
        asked = [questions[i] for i in number[::group]]
        drawn = [Rollout(i // group, Encoded((), 0), text) for i, text in enumerate(texts)]
        seen.append((asked, drawn, rewards(drawn, asked)))
        found: list[float] = seen[-1][2].flatten().tolist()
        return found

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if seen and "loss" in logs:
                note(*seen.pop(), {ours: float(logs.get(theirs, 0.0)) for ours, theirs in LOGGED.items()})

    data = [{"prompt": _prompt(model, query.prompt), "number": i} for i, query in enumerate(questions)]
    with tempfile.TemporaryDirectory(prefix="letheon-trl-") as scratch:
        folder = model.save(Path(scratch) / "steered")
        options = config_of(settings, training, len(questions), steps)
        options |= {"output_dir": scratch, "use_cpu": model.device.type == "cpu"}
        trainer = GRPOTrainer(
            model=str(folder),
            reward_funcs=rule,
            args=GRPOConfig(**options, model_init_kwargs={"dtype": "float32"}),
            train_dataset=Dataset.from_list(data),
            processing_class=model.tokenizer,
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.model.load_state_dict(trainer.accelerator.unwrap_model(trainer.model).state_dict())


def config_of(settings: Settings, training: TrainSettings, questions: int, steps: int) -> dict[str, Any]:
    """Translate our settings into TRL's; features that TRL would add are off.

    Raises:
        InputError: micro-batches that do not add up to a step's rollouts.
    """
    rollouts = min(training.batch_size, questions) * settings.group
    micro = training.micro_batch_size or rollouts
    if rollouts % micro:
        raise InputError(f"{rollouts} rollouts a step in micro-batches of {micro}", "give a divisor: micro_batch_size")
    return {
        "max_steps": steps * settings.passes,  # TRL counts each pass
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rollouts // micro,
        "num_generations": settings.group,
        "num_iterations": settings.passes,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_new_tokens,
        "beta": settings.kl,
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
        "delta": settings.clip_dual,  # a cap of the ratio: for negative advantages the same bound
        "loss_type": "dapo",  # a mean over the step's tokens
        "scale_rewards": "group",
        "use_bias_correction_kl": False,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.clip or 0.0,
        "lr_scheduler_type": "constant",
        "bf16": training.precision == "bfloat16",
        "seed": training.seed,
        "disable_dropout": True,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _prompt(model: LanguageModel, text: str) -> Any:
    """The question in TRL's format: a conversation if the model has a chat template, else plain text."""
    if model.tokenizer.chat_template:
        return [{"role": "user", "content": text}]
    return text if text[-1].isspace() else text + "\n"
