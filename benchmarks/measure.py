"""Multiple-choice items against lm-evaluation-harness, and memorisation subsets against a loop.

    python -m benchmarks.measure [--json] [--repeats N] [--model smollm2] [--threads N]

- `choices_ratio`: the questions of `letheon measure normad` (stories of our own, four conditions, three options of one
  token each). The harness (the extra lm-eval) runs a question once for all its options of one token, and every other
  option as a row with its question; at the quickest of three batch sizes. Ours runs once what questions share.
  The harness's documents and their texts are made before the clock starts; reading options is part of both sides.
  Checked first: every option has the same log-probability relative to the first of its question (the harness counts
  the line break that ends a chat template to every option).
- `texts_ratio`, `shots_ratio`: the same for questions about invented authors with four whole sentences as options,
  without and with three answered questions before each. Reported beside `choices_ratio`, which decides.
- `subsets_ratio`: training one small network per random subset of labelled rows, one after another, against all of
  them at once by `torch.func.vmap`. `subsets_seconds` are the seconds of 500 such networks on scikit-learn's digits.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import QUESTIONS, Compared, begin, compare, in_turn, parser, say, show
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.measure.asking.responder import LocalResponder, OptionLogp
from letheon.measure.lm_eval_tasks import ChoiceItem, HasChoices, export_tasks
from letheon.measure.memorization.estimators import draw_subsets
from letheon.measure.memorization.learners import Mlp
from letheon.measure.memorization.measure import planted_digits
from letheon.measure.normad import read_normad

RUNS, LOOPED = 500, 16  # subsets in all, and those that are timed one after another
ROWS, RATIO = 500, 0.7
BATCHES = (4, 16, 64)  # rows at once, of the harness
CLOSE = 1e-3  # nats, summed over an option: float32 sums in another order


@dataclass(frozen=True)
class Authors:
    """Questions about invented authors: the answer, and the answers to the next three questions, as options.

    Attributes:
        shots: number of other questions that stand, with their answers, before each.
    """

    shots: int

    name = "authors"

    def choices(self) -> dict[str, list[ChoiceItem]]:
        """Return the items."""
        return {"accuracy": [self._item(i) for i in range(self.shots, len(QUESTIONS))]}

    def _item(self, i: int) -> ChoiceItem:
        before = "".join(f"Question: {asked}\nAnswer: {answer}\n\n" for asked, answer in QUESTIONS[: self.shots])
        others = [QUESTIONS[(i + step) % len(QUESTIONS)][1] for step in range(1, 4)]
        return ChoiceItem(str(i), f"{before}Question: {QUESTIONS[i][0]}", (QUESTIONS[i][1], *others), 0)


def harness_side(model: LanguageModel, made: HasChoices) -> Callable[[int], list[OptionLogp]]:
    """Load the exported tasks and return a function of the batch size: the options' log-probabilities per question."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp())
    names = export_tasks(made, folder)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    wrapped = HFLM(pretrained=model.base(), tokenizer=model.tokenizer, device=str(model.device))

    def run(batch_size: int) -> list[OptionLogp]:
        wrapped.batch_size_per_gpu = batch_size
        found: Any = simple_evaluate(
            model=wrapped, tasks=names, task_manager=manager, bootstrap_iters=0,
            apply_chat_template=bool(model.tokenizer.chat_template),
        )  # fmt: skip
        answered = [one["filtered_resps"] for name in names for one in found["samples"][name]]
        return [np.array([float(logp) for logp, _ in options]) for options in answered]

    return run


def choices(model: LanguageModel, made: HasChoices, repeats: int) -> Compared:
    """Time both sides on the same items.

    Raises:
        LetheonError: an option's log-probability differs.
    """
    responder, theirs = LocalResponder(model), harness_side(model, made)
    items = [item for own in made.choices().values() for item in own]

    def ours() -> list[OptionLogp]:
        return responder.option_logp([([item.prompt], item.options) for item in items])

    pairs = zip(theirs(BATCHES[0]), ours(), strict=True)
    if not all(np.allclose(a - a[0], b - b[0], rtol=0, atol=CLOSE) for a, b in pairs):
        raise LetheonError("log-probabilities differ", "both sides must score the same prompts and options")
    warm = in_turn({str(size): lambda size=size: theirs(size) for size in BATCHES}, 1)
    best = min(BATCHES, key=lambda size: warm[str(size)])
    seconds = in_turn({"theirs": lambda: theirs(best), "ours": ours}, repeats)
    options = sum(len(item.options) for item in items)
    note = f"{len(items)} questions, {options} options, equal log-probabilities; theirs runs {best} rows at once"
    return compare(seconds["theirs"], seconds["ours"], note)


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
    model = load(options.model)
    for name, made in (("choices", read_normad()), ("texts", Authors(0)), ("shots", Authors(3))):
        say(name)
        entries[f"{name}_ratio"] = choices(model, made, options.repeats)
    show(entries, "Measuring", options.json)


if __name__ == "__main__":
    main()
