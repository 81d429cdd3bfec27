"""Multiple-choice measures as tasks of lm-evaluation-harness: one YAML file and one JSON Lines file per task.

    letheon measure normad --export-lm-eval tasks/
    lm_eval --model hf --model_args pretrained=MODEL --include_path tasks --tasks letheon_normad_rule \\
        --apply_chat_template

`acc` of a task is the measure's accuracy: the option with the highest sum of log-probabilities counts. A model with a
chat template needs `--apply_chat_template`, because the measure asks it as its user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError

VERSION = 1.0


@dataclass(frozen=True)
class ChoiceItem:
    """A question with options.

    Attributes:
        prompt: what the user asks.
        options: texts with which an answer may begin.
        answer: index of the right option.
    """

    id: str
    prompt: str
    options: tuple[str, ...]
    answer: int


@runtime_checkable
class HasChoices(Protocol):
    """A measure whose accuracy is that of choices between options."""

    name: str

    def choices(self) -> Mapping[str, Sequence[ChoiceItem]]:
        """Return the items by the name of their score, such as `rule: accuracy`."""
        ...


def task_name(measure: str, score: str) -> str:
    """Return the name of the task that gives a score: letheon_normad_rule for `rule: accuracy` of normad."""
    part = score.removesuffix("accuracy").strip(": ").replace(" ", "_")
    return "_".join(filter(None, ("letheon", measure, part)))


def export_tasks(made: Any, folder: Path) -> list[str]:
    """Write the tasks of a measure into a folder and return their names.

    Raises:
        InputError: the measure is no choice between options, or the folder cannot be written.
    """
    if not isinstance(made, HasChoices) or not (sets := made.choices()):
        raise InputError(
            f"{made.name} is no multiple-choice measure as it is set", "normad and metacognition with read=options are"
        )
    check_writable(folder)
    names = []
    for score, items in sets.items():
        names.append(name := task_name(made.name, score))
        rows = [{"id": i.id, "prompt": i.prompt, "options": i.options, "answer": i.answer} for i in items]
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write_text(folder / f"{name}.jsonl", "".join(lines))
        atomic_write_text(folder / f"{name}.yaml", _yaml(name, folder / f"{name}.jsonl"))
    return names


def _yaml(name: str, data: Path) -> str:
    """Return a task's settings; JSON is YAML, so that no further package is needed to write it."""
    settings = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": VERSION},
    }
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
