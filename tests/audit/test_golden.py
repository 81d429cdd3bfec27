"""Every metric, row by row, against the numbers of the field's own evaluator.

The golden values come from open-unlearning (commit d3d7cf9, unmodified, float32) on a small cut of TOFU and two LoRA
adapters of the embedded model: `target` learned the rows to forget, `retain` never saw them. The data is looked for
in the folder that LETHEON_DATA names, else in `shared/data` beside the repository. All comparisons are to 1e-4, per
row: both sides compute in float32, in another order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import letheon
from letheon.audit.measuring.evaluate import Evaluation, answers_of, evaluate, scores_of
from letheon.audit.measuring.greedy_answers import answer_all
from letheon.audit.measuring.metrics import (
    closer_to_1_better,
    forget_quality,
    model_utility,
    normalised_probability,
    true_better,
)
from letheon.core.atomic import is_whole, read_json
from letheon.core.model.models import LanguageModel, cache_folder
from letheon.core.rows.examples import Example, read_examples
from letheon.core.scoring.memorisation import extraction_strength
from letheon.core.scoring.overlap import rouge

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "tofu_golden"
FILES = {
    "forget": "forget05_perturbed.jsonl",
    "retain": "retain_perturbed.jsonl",
    "ra": "real_authors_perturbed.jsonl",
    "wf": "world_facts_perturbed.jsonl",
}
CLOSE = 1e-4

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"golden data not found in {DATA}: set LETHEON_DATA"),
    pytest.mark.skipif(
        not is_whole(cache_folder() / "smollm2-135m-instruct"), reason="the embedded model is not in the cache"
    ),
]
adapters = pytest.mark.parametrize("adapter", ["target", pytest.param("retain", marks=pytest.mark.slow)])
# The retain rows are the most, and of the same kind as the forget rows; the world's facts are as the real authors.
MOST = [pytest.param(name, marks=pytest.mark.slow) if name in ("retain", "wf") else name for name in FILES]
sets = pytest.mark.parametrize("subset", MOST)


@pytest.fixture(autouse=True, scope="module")
def both_cores() -> Iterator[None]:
    """A real model is worth a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@cache
def model(adapter: str) -> LanguageModel:
    return letheon.load(DATA / "adapters" / adapter, device="cpu")


@cache
def examples(subset: str) -> list[Example]:
    return read_examples(DATA / FILES[subset])


@cache
def measured(adapter: str, subset: str) -> Evaluation:
    return evaluate(model(adapter), examples(subset), answers=False)


@cache
def golden(adapter: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(DATA / "golden.json")["models"][adapter]
    return found


def expected(adapter: str, metric: str, field: str) -> list[Any]:
    items = golden(adapter)[metric]["items"]
    return [items[str(i)][field] for i in range(len(items))]


def close(ours: Any, theirs: Any, relative: float = 0.0) -> None:
    np.testing.assert_allclose(np.array(ours, dtype=float), np.array(theirs, dtype=float), rtol=relative, atol=CLOSE)


def test_tokens_and_labels_are_the_evaluators() -> None:
    row = read_json(DATA / "golden.json")["example_row0_of_forget05"]
    encoded = model("target").encoder().encode(examples("forget")[0])
    assert list(encoded.ids) == row["input_ids"]
    assert encoded.start == row["labels"].count(-100)


@adapters
@sets
def test_probabilities(adapter: str, subset: str) -> None:
    found = measured(adapter, subset)
    close(found.values("probability"), expected(adapter, f"{subset}_Q_A_Prob", "prob"))
    close(found.estimate("probability").value, golden(adapter)[f"{subset}_Q_A_Prob"]["value"])
    close([row.perturbed for row in found.rows], expected(adapter, f"{subset}_Q_A_PERT_Prob", "prob"))
    if subset in ("forget", "retain"):
        close(found.values("paraphrased"), expected(adapter, f"{subset}_Q_A_PARA_Prob", "prob"))


@adapters
@sets
def test_truth_ratios(adapter: str, subset: str) -> None:
    metric = "forget_truth_ratio" if subset == "forget" else f"{subset}_Truth_Ratio"
    ratios = measured(adapter, subset).known("truth_ratio")
    # A ratio of small probabilities has no upper bound (some here exceed 800): large ones agree to 1e-4 of themselves.
    close(ratios, expected(adapter, metric, "score"), relative=CLOSE)
    aggregate = closer_to_1_better if subset == "forget" else true_better
    close(aggregate(ratios), golden(adapter)[metric]["value"])


def normalised(adapter: str, subset: str) -> list[float]:
    return [normalised_probability(row.probability, row.perturbed) for row in measured(adapter, subset).rows]


@adapters
@pytest.mark.parametrize("subset", ["ra", pytest.param("wf", marks=pytest.mark.slow)])
def test_option_normalised_probabilities(adapter: str, subset: str) -> None:
    metric = f"{subset}_Q_A_Prob_normalised"
    close(normalised(adapter, subset), expected(adapter, metric, "prob"))
    close(np.mean(normalised(adapter, subset)), golden(adapter)[metric]["value"])


@adapters
def test_exact_memorization(adapter: str) -> None:
    found = measured(adapter, "forget")
    close(found.values("exact_memorization"), expected(adapter, "exact_memorization", "score"))
    close(found.estimate("exact_memorization").value, golden(adapter)["exact_memorization"]["value"])


@adapters
def test_extraction_strength_in_the_fields_form_and_in_ours(adapter: str) -> None:
    rows = examples("forget")[:8]
    scores = [found[0].correct for found in scores_of(model(adapter), [(r.prompt, [r.answer]) for r in rows])]
    theirs = [extraction_strength(correct, peer=True) for correct in scores]
    close(theirs, expected(adapter, "extraction_strength", "score")[: len(rows)])
    of_rows = measured(adapter, "forget").values("extraction_strength")[: len(rows)]
    for ours, peers, correct in zip(of_rows, theirs, scores, strict=True):
        assert ours == (peers if correct[-2] else 0.0)  # they part where the last token before the end is wrong


def test_forget_quality() -> None:
    reference = expected("retain", "forget_truth_ratio", "score")  # ours are equal: test_truth_ratios
    ratios = measured("target", "forget").known("truth_ratio")
    close(forget_quality(ratios, reference), golden("target")["forget_quality"]["value"])


def utility(adapter: str, rouge_l: dict[str, float]) -> float:
    parts = [measured(adapter, "retain").estimate("probability").value or 0.0]
    parts += [float(np.mean(normalised(adapter, subset))) for subset in ("ra", "wf")]
    parts += [true_better(measured(adapter, subset).known("truth_ratio")) for subset in ("retain", "ra", "wf")]
    return model_utility([*parts, *rouge_l.values()])


@pytest.mark.slow
@adapters
def test_model_utility_with_the_evaluators_own_rouge(adapter: str) -> None:
    theirs = {subset: golden(adapter)[f"{subset}_Q_A_ROUGE"]["value"] for subset in ("retain", "ra", "wf")}
    close(utility(adapter, theirs), golden(adapter)["model_utility"]["value"])


@adapters
@sets
def test_rouge_of_the_evaluators_answers(adapter: str, subset: str) -> None:
    items = golden(adapter)[f"{subset}_Q_A_ROUGE"]["items"].values()
    for item in items:
        found = rouge(item["generation"], item["ground_truth"])
        close(
            [found.rouge1_recall, found.rougeL_recall, found.rougeL_f1],
            [item[name] for name in ("rouge1_recall", "rougeL_recall", "rougeL_f1")],
        )


@cache
def rouge_of_answers(adapter: str, subset: str, most: int | None = None) -> list[float]:
    rows = examples(subset)[:most]
    answers = answer_all(model(adapter), rows, 200)
    return [rouge(text, row.answer).rougeL_recall for text, row in zip(answers, rows, strict=True)]


def test_rouge_of_our_own_greedy_answers_to_some_rows() -> None:
    ours = rouge_of_answers("target", "forget", 6)
    close(ours, expected("target", "forget_Q_A_ROUGE", "rougeL_recall")[: len(ours)])


@pytest.mark.slow
@adapters
@pytest.mark.parametrize("subset", list(FILES))
def test_rouge_of_our_own_greedy_answers(adapter: str, subset: str) -> None:
    close(rouge_of_answers(adapter, subset), expected(adapter, f"{subset}_Q_A_ROUGE", "rougeL_recall"))


@pytest.mark.slow
@adapters
def test_model_utility_from_the_weights_alone(adapter: str) -> None:
    ours = {subset: float(np.mean(rouge_of_answers(adapter, subset))) for subset in ("retain", "ra", "wf")}
    close(utility(adapter, ours), golden(adapter)["model_utility"]["value"])


def test_all_answers_of_a_row_are_scored_in_one_tree() -> None:
    row = examples("forget")[0]
    assert answers_of(row) == [row.answer, row.paraphrased_answer, *row.perturbed_answers]
