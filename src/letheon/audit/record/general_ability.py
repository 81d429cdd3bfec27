"""The record's numbers of general ability: each task's metric per model, and paired differences of the model after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from letheon.audit.measuring.harness import TaskScores
from letheon.audit.record.evidence import Item, Metric, Role
from letheon.audit.record.metric_table import NO_ROWS, as_value
from letheon.core.statistics import estimate_mean, paired_difference

Ability = Mapping[Role, Sequence[TaskScores]]
ZERO_OR_ONE = {"acc", "acc_norm", "exact_match"}


def ability_metrics(ability: Ability, seed: int) -> list[Metric]:
    """Return one metric per task and model, with the value of every document."""
    return [_metric(role, one, seed) for role, tasks in ability.items() for one in tasks]


def _metric(role: Role, scores: TaskScores, seed: int) -> Metric:
    values = list(scores.items.values())
    estimate = estimate_mean(values, share=scores.metric in ZERO_OR_ONE, seed=seed)
    return Metric(
        name=f"lm_eval:{scores.task}",
        subset="general",
        model=role,
        value=as_value(estimate, NO_ROWS),
        unit="share" if scores.metric in ZERO_OR_ONE else scores.metric,
        better="higher",
        definition=f"{scores.metric} of the task {scores.task} of lm-evaluation-harness, mean over its documents.",
        items=[Item(id=document, value=value) for document, value in scores.items.items()],
    )


def ability_differences(ability: Ability, seed: int) -> list[dict[str, Any]]:
    """Compare the model after with each other one, task by task, paired by document."""
    after = {one.task: one for one in ability.get("after", ())}
    rows = []
    for role, tasks in ability.items():
        for other in tasks if role != "after" else ():
            mine = after[other.task]
            both = [document for document in other.items if document in mine.items]
            change = paired_difference([other.items[i] for i in both], [mine.items[i] for i in both], seed=seed)
            rows.append({"task": other.task, "metric": other.metric, "against": role, **asdict(change)})
    return rows
