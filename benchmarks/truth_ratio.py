"""Scoring right and wrong answers (the truth ratio) against the field's evaluator.

    python -m benchmarks.truth_ratio [--json] [--repeats N] [--model smollm2] [--threads N]

Twenty questions with six answers each: the paraphrased right one and five false ones. The field's evaluator runs each
set of answers by itself, 32 rows at a time, padded on the right, with logits at every position. Ours runs a question
once and branches from it. Tokenising is part of both sides.

Checked first: every answer's mean log-probability is the same to 1e-4 as what the field's pass gives when its logits
are summed in float64. The field's own float32 sum, which is the one that is timed, can be further off than that (see
`field.summed_nll`); the output says by how much.

Rows are those of `tofu_golden/forget05_perturbed.jsonl` in the folder that LETHEON_DATA names (else in `shared/data`
beside the repository); where there is no such file, invented ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import NO_BFLOAT16, Compared, begin, bfloat16, compare, has_bfloat16, in_turn, parser, say, show
from benchmarks.field import summed_nll
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example, read_examples
from letheon.core.scoring.answer_trees import score_answers

FILE = "tofu_golden/forget05_perturbed.jsonl"
ROWS, BATCH = 20, 32
SAME = 1e-4
# bfloat16 keeps 8 bits; a mean log-probability that moves by more than this would change what is concluded
SAME_BFLOAT16 = 0.1

Question = tuple[str, tuple[str, ...]]


def questions() -> tuple[list[Question], str]:
    """Twenty questions with six answers each, and where they come from."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    file = Path(os.environ.get("LETHEON_DATA", beside)) / FILE
    rows, source = (read_examples(file), "TOFU rows") if file.is_file() else (_invented(), "invented rows")
    return [(row.prompt, (row.paraphrased_answer or row.answer, *row.perturbed_answers)) for row in rows[:ROWS]], source


def _invented() -> Sequence[Example]:
    from letheon.papers.common.tofu_mini import make_world

    return make_world(seed=0).forget


def field_scores(model: LanguageModel, asked: Sequence[Question], *, exact: bool = False) -> list[list[float]]:
    """Mean log-probability of each answer, a forward pass for each set of answers."""
    encoder = model.encoder()
    columns = []
    for number in range(len(asked[0][1])):
        column: list[float] = []
        for start in range(0, len(asked), BATCH):
            chosen = asked[start : start + BATCH]
            rows = [encoder.encode(Example(prompt, answers[number])) for prompt, answers in chosen]
            batch = encoder.collate(rows, device=model.device)
            with torch.inference_mode():
                nll = summed_nll(model.base(), batch, exact=exact) / (batch.labels != -100).sum(-1)
            column += (-nll).tolist()
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def our_scores(model: LanguageModel, asked: Sequence[Question]) -> list[list[float]]:
    """The same numbers, a question once."""
    return [[float(answer.logp.mean()) for answer in row] for row in score_answers(model, asked)]


Table = Sequence[Sequence[float]]


def apart(first: Table, second: Table) -> float:
    """The largest difference between two tables of mean log-probabilities, nats."""
    return float(np.abs(np.array(first) - np.array(second)).max())


def check(expected: Table, ours: Table, tolerance: float) -> str:
    """Raises when an answer's mean log-probability differs, else says by how much at most."""
    off = apart(expected, ours)
    if not off <= tolerance:
        raise LetheonError(
            f"the two sides differ by {off:.2g} in a mean log-probability, {tolerance:g} is allowed",
            "a ratio between different computations says nothing: mend this first",
        )
    return f"log-probabilities ±{off:.0e}"


def measure(model: LanguageModel, asked: Sequence[Question], repeats: int) -> dict[str, Compared]:
    """All entries; the check of each side is its warm-up."""

    def fast() -> list[list[float]]:
        with bfloat16():
            return our_scores(model, asked)

    expected = field_scores(model, asked, exact=True)
    rounding = f"the field's own float32 sum ±{apart(expected, field_scores(model, asked)):.0e}"
    sides: dict[str, Callable[[], list[list[float]]]] = {"truth_ratio_float32": lambda: our_scores(model, asked)}
    if has_bfloat16():
        sides["truth_ratio_bfloat16"] = fast
    else:
        say(NO_BFLOAT16)
    entries = {}
    for name, ours in sides.items():
        note = check(expected, ours(), SAME if name.endswith("float32") else SAME_BFLOAT16)
        seconds = in_turn({"theirs": lambda: field_scores(model, asked), "ours": ours}, repeats)
        entries[name] = replace(compare(seconds["theirs"], seconds["ours"]), note=f"{note}; {rounding}")
    return entries


def main() -> None:
    """Parse, measure, print."""
    chosen = parser("Scoring right and wrong answers against the field's evaluator.").parse_args()
    begin(chosen)
    model, (asked, source) = load(chosen.model), questions()
    title = f"{chosen.model}, {len(asked)} {source} with {len(asked[0][1])} answers, {torch.get_num_threads()} threads"
    show(measure(model, asked, chosen.repeats), title, chosen.json)


if __name__ == "__main__":
    main()
