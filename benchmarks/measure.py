"""Multiple-choice items against lm-evaluation-harness, and memorisation subsets against a loop.

    python -m benchmarks.measure [--json] [--repeats N] [--model smollm2] [--threads N]

- `choices_ratio`: the questions of `letheon measure normad` (stories of our own, four conditions, three options). The
  harness (the extra lm-eval) runs prompt and option as one row, 16 at a time. Ours runs a question once and branches
  into its options. Its documents and their texts are made before the clock starts; reading options is part of both
  sides. Checked first: every item has the same score.
- `subsets_ratio`: training one small network per random subset of labelled rows, one after another, against all of
  them at once by `torch.func.vmap`. `subsets_seconds` are the seconds of 500 such networks on scikit-learn's digits.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Compared, begin, compare, in_turn, parser, say, show
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.lm_eval_tasks import export_tasks, task_name
from letheon.measure.memorization.estimators import draw_subsets
from letheon.measure.memorization.learners import Mlp
from letheon.measure.memorization.measure import planted_digits
from letheon.measure.normad import NormAd, read_normad

RUNS, LOOPED = 500, 16  # subsets in all, and those that are timed one after another
ROWS, RATIO = 500, 0.7


def harness_side(model: LanguageModel, made: NormAd) -> Callable[[], dict[str, list[float]]]:
    """Load the exported tasks and return a function that evaluates them: the value of each document by task."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp())
    names = export_tasks(made, folder)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    wrapped = HFLM(pretrained=model.base(), tokenizer=model.tokenizer, batch_size=16, device=str(model.device))

    def run() -> dict[str, list[float]]:
        found: Any = simple_evaluate(
            model=wrapped, tasks=names, task_manager=manager, bootstrap_iters=0,
            apply_chat_template=bool(model.tokenizer.chat_template),
        )  # fmt: skip
        return {name: [float(one["acc"]) for one in found["samples"][name]] for name in names}

    return run


def choices(model: LanguageModel, repeats: int) -> Compared:
    """Time both sides on the same items.

    Raises:
        LetheonError: an item's score differs.
    """
    made, responder = read_normad(), LocalResponder(model)
    theirs = harness_side(model, made)

    def ours() -> dict[str, list[float]]:
        scores = made.evaluate(responder)
        return {task_name("normad", part): scores[part].values() for part in made.choices()}

    expected, found = theirs(), ours()
    for task, values in expected.items():
        if values != found[task]:
            raise LetheonError(f"{task}: the scores differ", "both sides must score the same prompts and options")
    seconds = in_turn({"theirs": theirs, "ours": ours}, repeats)
    items = sum(map(len, expected.values()))
    return compare(seconds["theirs"], seconds["ours"], f"{items} questions with three options; every score is equal")


def subsets(repeats: int) -> dict[str, Compared]:
    """Train on random subsets one after another and all at once."""
    rows, learner = planted_digits(ROWS, seed=0).rows, Mlp()
    masks = draw_subsets(len(rows.labels), RATIO, RUNS, seed=0)

    def loop() -> None:
        for i in range(LOOPED):
            learner.run(rows, masks[i : i + 1], seed=i)

    seconds = in_turn({"theirs": loop, "ours": lambda: learner.run(rows, masks[:LOOPED], seed=0)}, repeats)
    ratio = compare(seconds["theirs"], seconds["ours"], f"{LOOPED} subsets of {len(rows.labels)} rows")
    start = time.perf_counter()
    learner.run(rows, masks, seed=0)
    took = time.perf_counter() - start
    return {"subsets_ratio": ratio, "subsets_seconds": Compared(took, took, took, float(np.nan), took, note="")}


def main() -> None:
    """Run both and show them."""
    options = parser("Measuring against the field's harness.").parse_args()
    begin(options)
    say("subsets")
    entries = subsets(options.repeats)
    say("choices")
    entries = {"choices_ratio": choices(load(options.model), options.repeats), **entries}
    show(entries, "Measuring", options.json)


if __name__ == "__main__":
    main()
