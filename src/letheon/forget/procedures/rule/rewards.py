"""A verifiable reward for refusing, computed from an answer by a rule, and the metrics of a step's rewards.

Paper:   RULE, arXiv 2506.07171; the reward of its main runs and three of its other kinds.
Differs: the matcher of refusals and the scorer of ROUGE-L are our own and rouge_score's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from letheon.core.scoring.overlap import rouge_l_recall
from letheon.core.scoring.refusals import refuses
from letheon.core.training.reinforcement import Rollout, equal_groups
from letheon.forget.procedures.rule.boundary import Query

Reward = Literal["target", "two_stage", "abs", "forget"]


def reward(answer: str, query: Query, kind: Reward = "target") -> float:
    """The reward of an answer: 0, 0.5 or 1.

    A question about the target: `target` gives 0.5 for a refusal and 0.5 more if it names the subject (1 at once where
    the subject is not known); the other kinds give 1 for a refusal.
    A boundary question: `target` and `two_stage` give 0.5 for no refusal and 0.5 more if the answer's ROUGE-L recall
    of the reference is above 0.3; `abs` gives 1 for no refusal; `forget` gives 1 for a recall above 0.5.
    """
    refused = refuses(answer)
    if query.refuse:
        named = kind != "target" or query.subject in answer
        return (0.5 + 0.5 * named) if refused else 0.0
    if kind == "abs":
        return float(not refused)
    if kind == "forget":
        return float(rouge_l_recall(answer, query.answer) > 0.5)
    return 0.0 if refused else 0.5 + 0.5 * (rouge_l_recall(answer, query.answer) > 0.3)


def reward_metrics(asked: Sequence[Query], drawn: Sequence[Rollout], rewards: Tensor) -> dict[str, float]:
    """Mean reward and refusal rate per kind of question, and the share of groups with equal rewards (no gradient)."""
    refused = torch.tensor([float(refuses(rollout.text)) for rollout in drawn]).view(rewards.shape)
    found = {"reward": float(rewards.mean()), "equal_groups": float(equal_groups(rewards).float().mean())}
    for name, kind in (("reject", True), ("normal", False)):
        chosen = torch.tensor([query.refuse is kind for query in asked])
        if chosen.any():
            found[f"reward_{name}"] = float(rewards[chosen].mean())
            found[f"refused_{name}"] = float(refused[chosen].mean())
    return found


def reward_warnings(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Warnings about the second stage: no refusal to reinforce, or groups of equal rewards."""
    if not history:
        return []
    found = []
    if not any(metrics["refused_reject"] for metrics in history):
        found.append(
            "no answer to a forget question was ever a refusal, so there was none to reinforce: steer longer "
            "(steering_steps) or raise the learning rate"
        )
    equal = sum(metrics["equal_groups"] for metrics in history) / len(history)
    if equal > 0.9:
        found.append(f"{equal:.0%} of the groups had equal rewards and taught nothing")
    return found
