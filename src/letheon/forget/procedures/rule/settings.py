"""The options of `reinforce`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.errors import InputError
from letheon.core.registry import check_settings
from letheon.forget.procedures.rule.rewards import Reward


@dataclass(frozen=True)
class Settings:
    """Options; the values are those of the paper's scripts for RWKU with Llama-3-8B-Instruct.

    Attributes:
        stages: both, or the rejection steering alone (the paper's baseline RS).
        engine: of the second stage: our own loop, or TRL's GRPOTrainer (`trl_engine`; the extra `trl`).
        boundary: `twins`; `retain` takes the retain rows as they are; `none` trains on forget questions alone, which
            over-refuses; else a file of boundary questions with answers.
        lora: rank of a new LoRA adapter that both stages train in the weights' place; 0 trains all weights. If the
            model comes with an adapter, that one is trained, with its own rank.
        max_new_tokens: the paper's limit is 1024; the answers of forget sets are a sentence or two.
        refusals: a file of refusals, one per line, with {subject} where the target is named; default our 40.
    """

    stages: Literal["both", "steering"] = "both"
    engine: Literal["letheon", "trl"] = "letheon"
    boundary: str = "twins"
    lora: int = 0
    blanks: bool = True  # ask both kinds of question also as texts to be completed
    reward: Reward = "target"  # forget_two_stage_abs_target
    steering_steps: int = 76  # two epochs of 300 records; the second stage starts from step 76 or 114
    steering_batch: int = 8
    steering_warmup: int = 20
    steering_rate: float = 0.2  # share of the learning rate: 4e-7 beside 2e-6
    group: int = 8  # rollouts per question
    temperature: float = 1.0
    max_new_tokens: int = 128
    clip_low: float = 0.2
    clip_high: float = 0.3
    clip_dual: float = 3.0
    kl: float = 1e-2
    passes: int = 1  # optimizer steps on the same rollouts
    refusals: str = ""

    def __post_init__(self) -> None:
        names = ("steering_batch", "steering_rate", "temperature", "max_new_tokens", "passes")
        check_settings(self, positive=names)
        if self.group < 2:
            raise InputError(f"groups of {self.group}", "a group needs at least 2 rollouts to compare")
        if not 0 <= self.clip_low < 1 or self.clip_high < 0 or self.clip_dual <= 1:
            found = f"clip_low {self.clip_low}, clip_high {self.clip_high}, clip_dual {self.clip_dual}"
            raise InputError(found, "0 <= clip_low < 1, clip_high >= 0, clip_dual > 1")
        if min(self.kl, self.steering_steps, self.steering_warmup, self.lora) < 0:
            raise InputError("kl, steering_steps, steering_warmup or lora below 0", "use 0 or more")
