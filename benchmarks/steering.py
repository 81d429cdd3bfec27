"""Steering by hooks and in weights against the model alone, and against steering-vectors and repeng where installed.

    python -m benchmarks.steering [--json] [--repeats N] [--threads N] [--model NAME]

`hooked_overhead` and `baked_overhead` are times of greedy generation divided by those of the model alone, minus 1; the
runs take turns in one process. `fit_ratio` is their time to fit a mean difference (steering-vectors) or a PCA (repeng)
on the same pairs of texts, divided by ours.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import begin, parser
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.printing.cells import print_json
from letheon.steer.apply import steered
from letheon.steer.bake import bake
from letheon.steer.method import fit
from letheon.steer.texts import Contrast

SUBJECTS = ("The cat", "A king", "My aunt", "The sea", "Rain", "A shoe", "Time", "Bread")
NEW_TOKENS = 48


def texts() -> Contrast:
    """Thirty-two pairs of short sentences."""
    forms = ("is", "was", "seems", "looks")
    pairs = [f"{subject} {form}" for subject in SUBJECTS for form in forms]
    return Contrast(
        [Example("", f"{one} good and kind.", id=one) for one in pairs],
        [Example("", f"{one} bad and mean.", id=one) for one in pairs],
    )


def seconds(work: Callable[[], Any]) -> float:
    """Time one call, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def generation(model: LanguageModel) -> Callable[[], Any]:
    """Return a call that generates a fixed number of tokens greedily."""
    ids = torch.tensor([model.encoder().prompt("How do I boil an egg?")])

    def work() -> None:
        with torch.inference_mode():
            model.base().generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=model.pad_id,
            )

    return work


def overheads(model: LanguageModel, repeats: int) -> dict[str, float]:
    """Time the model alone, with hooks, and baked, in turn; return medians of the ratios of each round, minus 1."""
    steering = fit(model, texts(), "mean_difference:layers=10-19")
    baked = bake(model, [steering])
    alone, written = generation(model), generation(baked)

    def hooked() -> None:
        with steered(model, steering):
            alone()

    for work in (alone, hooked, written):
        work()
    rounds = [[seconds(work) for work in (alone, hooked, written)] for _ in range(repeats)]
    return {
        "hooked_overhead": statistics.median(one[1] / one[0] for one in rounds) - 1,
        "baked_overhead": statistics.median(one[2] / one[0] for one in rounds) - 1,
        "tokens_per_second": NEW_TOKENS / statistics.median(one[0] for one in rounds),
    }


def fits(model: LanguageModel) -> dict[str, float | None]:
    """Time fits on the same texts; a library that is not installed has None."""
    contrast = texts()
    pairs = [(good.answer, bad.answer) for good, bad in zip(contrast.toward, contrast.away, strict=True)]
    ours = seconds(lambda: fit(model, contrast, "mean_difference:layers=all"))
    ours_pca = seconds(lambda: fit(model, contrast, "pca:layers=1-29"))
    found: dict[str, float | None] = {"fit_seconds": ours, "fit_ratio": None, "fit_ratio_repeng": None}
    if importlib.util.find_spec("steering_vectors"):
        from steering_vectors import train_steering_vector

        found["fit_ratio"] = seconds(lambda: train_steering_vector(model.model, model.tokenizer, pairs)) / ours
    if importlib.util.find_spec("repeng"):
        from repeng import ControlModel, ControlVector, DatasetEntry

        wrapped = ControlModel(model.model, list(range(1, 30)))
        rows = [DatasetEntry(positive=good, negative=bad) for good, bad in pairs]
        theirs = seconds(lambda: ControlVector.train(wrapped, model.tokenizer, rows, method="pca_center"))
        found["fit_ratio_repeng"] = theirs / ours_pca
        wrapped.unwrap()
    return found


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "").parse_args()
    begin(options)
    model = load(options.model, device="cpu")
    result = {"model": options.model, **overheads(model, options.repeats), **fits(model)}
    if options.json:
        print_json(result)
        return
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
