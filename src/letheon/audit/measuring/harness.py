"""General ability by lm-evaluation-harness: run tasks on a model in memory, one value per document.

The harness is the extra `lm-eval`. Its own tasks are fetched from the hub where they are not cached; a folder of task
files adds local ones, and tasks that it holds need no network.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.progress import is_quiet

# Metrics that the harness gives per document, in the order of preference for the table.
METRICS = ("acc", "acc_norm", "exact_match", "f1")


@dataclass(frozen=True)
class TaskScores:
    """The values of one task.

    Attributes:
        metric: name of the metric, as the harness has it.
        items: value per document, by the document's number.
    """

    task: str
    metric: str
    items: Mapping[str, float]


@dataclass(frozen=True)
class GeneralTasks:
    """The tasks that every model of an audit is evaluated under.

    Attributes:
        names: tasks of the harness, or of the folder.
        path: folder with further task files.
    """

    names: tuple[str, ...]
    path: Path | None = None

    @classmethod
    def read(cls, names: str, path: Path | None = None) -> Self | None:
        """Read and check names separated by commas; None where there are none.

        Raises:
            InputError: a folder without names, or what `check_harness` refuses.
        """
        wanted = tuple(name.strip() for name in names.split(",") if name.strip())
        if not wanted:
            if path is not None:
                raise InputError(f"--lm-eval-path {path} without --lm-eval", "name the tasks: --lm-eval TASK,TASK")
            return None
        check_harness(wanted, path)
        return cls(wanted, path)

    def run(self, model: LanguageModel) -> list[TaskScores]:
        """Evaluate a model."""
        return run_harness(model, self.names, self.path)


def check_harness(tasks: Sequence[str], path: Path | None = None) -> None:
    """Check before any model is loaded that the harness is installed and knows the tasks.

    Raises:
        InputError: the extra is missing, the folder does not exist, or there is no such task.
    """
    if find_spec("lm_eval") is None:
        raise InputError("--lm-eval needs the package lm-eval", "pip install 'letheon[lm-eval]'")
    if path is not None and not path.is_dir():
        raise InputError(f"--lm-eval-path {path} is no folder", "give the folder of your task files")
    known = list(_manager(tasks, path).all_tasks)
    for name in tasks:
        if name not in known:
            raise InputError(f"the harness has no task {name!r}", nearest(name, known))


def run_harness(
    model: LanguageModel, tasks: Sequence[str], path: Path | None = None, *, limit: int = 0, chat: bool = False
) -> list[TaskScores]:
    """Evaluate a model under tasks, zero-shot unless a task says otherwise.

    Args:
        path: folder with further task files.
        limit: documents per task; 0 takes all.
        chat: ask through the model's chat template.

    Raises:
        InputError: the extra is missing, or there is no such task.
    """
    check_harness(tasks, path)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    wrapped = HFLM(pretrained=model.base(), tokenizer=model.tokenizer, batch_size=16, device=str(model.device))
    with redirect_stderr(io.StringIO()) if is_quiet() else nullcontext():  # its progress bars
        found = simple_evaluate(
            model=wrapped, tasks=list(tasks), task_manager=_manager(tasks, path), limit=limit or None, log_samples=True,
            bootstrap_iters=0, apply_chat_template=chat and bool(model.tokenizer.chat_template),
        )  # fmt: skip
    return [scores for task in sorted(found["samples"]) if (scores := _scores(task, found["samples"][task]))]


def _scores(task: str, samples: Sequence[Mapping[str, Any]]) -> TaskScores | None:
    metric = next((one for one in METRICS if samples and one in samples[0]), None)
    if metric is None:
        return None
    return TaskScores(task, metric, {str(one["doc_id"]): float(one[metric]) for one in samples})


def _manager(tasks: Sequence[str], path: Path | None) -> Any:
    """Return the index of tasks; the harness's own thousands are read only where a task is none of the folder's."""
    from lm_eval.tasks import TaskManager

    if path is not None:
        local = TaskManager(include_path=str(path), include_defaults=False)
        if set(tasks) <= set(local.all_tasks):
            return local
    return TaskManager(include_path=str(path) if path else None)
