"""Steering by hooks and in weights against the model alone, and against steering-vectors and repeng where installed.

    python -m benchmarks.steering [--json] [--repeats N] [--threads N] [--model NAME]

`hooked_overhead` and `baked_overhead` are times of greedy generation divided by those of the model alone, minus 1.
`fit_ratio` is steering-vectors' time to fit a mean difference at every layer on the same pairs of texts divided by
ours, and `fit_ratio_repeng` that of repeng for a PCA. All sides take turns in one process; times are processor seconds
of all threads, and ratios medians over rounds. Give `--threads 1` on a machine that others use.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.common import Compared, begin, compare, in_turn, parser, say, show
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.steer.apply import steered
from letheon.steer.bake import bake
from letheon.steer.method import fit
from letheon.steer.steering import Steering
from letheon.steer.texts import Contrast

SUBJECTS = ("The cat", "A king", "My aunt", "The sea", "Rain", "A shoe", "Time", "Bread")
NEW_TOKENS = 48
BATCH = 32  # texts per forward pass, as here


def texts() -> Contrast:
    """Thirty-two pairs of short sentences."""
    forms = ("is", "was", "seems", "looks")
    pairs = [f"{subject} {form}" for subject in SUBJECTS for form in forms]
    return Contrast(
        [Example("", f"{one} good and kind.", id=one) for one in pairs],
        [Example("", f"{one} bad and mean.", id=one) for one in pairs],
    )


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


def overheads(model: LanguageModel, repeats: int) -> dict[str, Compared]:
    """Time the model alone, with hooks on a third of its layers, and baked, in turn."""
    count = model.base().config.num_hidden_layers
    steering = fit(model, texts(), f"mean_difference:layers={count // 3}-{2 * count // 3 - 1}")
    alone, baked = generation(model), generation(bake(model, [steering]))

    def hooked() -> None:
        with steered(model, steering):
            alone()

    sides = {"alone": alone, "hooked_overhead": hooked, "baked_overhead": baked}
    in_turn(sides, 1)
    times = in_turn(sides, repeats, time.process_time)
    first = times.pop("alone")
    return {name: overhead(first, one) for name, one in times.items()}


def overhead(alone: Sequence[float], ours: Sequence[float]) -> Compared:
    """Compare times with those of the model alone: the share that comes on top."""
    found = compare(ours, alone, f"share of the time to generate {NEW_TOKENS} tokens; field is the model alone")
    return replace(
        found, value=found.value - 1, low=found.low - 1, high=found.high - 1, theirs=found.ours, ours=found.theirs
    )


def fits(model: LanguageModel, repeats: int) -> dict[str, Compared]:
    """Time fits of all layers on the same texts, in turn with each library that is installed."""
    contrast = texts()
    pairs = [(good.answer, bad.answer) for good, bad in zip(contrast.toward, contrast.away, strict=True)]
    found = {}
    if importlib.util.find_spec("steering_vectors"):
        from steering_vectors import train_steering_vector

        theirs = partial(train_steering_vector, model.model, model.tokenizer, pairs, batch_size=BATCH)
        ours = partial(fit, model, contrast, "mean_difference:layers=all")
        cosine = agreement(ours(), theirs().layer_activations)
        found["fit_ratio"] = timed(theirs, ours, repeats, f"steering-vectors, batches of {BATCH}", cosine)
        theirs = partial(train_steering_vector, model.model, model.tokenizer, pairs)
        found["fit_ratio_one_by_one"] = timed(theirs, ours, repeats, "steering-vectors as it comes", cosine)
    else:
        say("steering-vectors is not installed: no fit_ratio")
    np.float_ = np.float64  # numpy 2 has dropped the name that repeng 0.4 reads
    if importlib.util.find_spec("repeng"):
        from repeng import ControlVector, DatasetEntry

        last = model.base().config.num_hidden_layers - 1
        rows = [DatasetEntry(positive=good, negative=bad) for good, bad in pairs]
        theirs = partial(ControlVector.train, model.model, model.tokenizer, rows, method="pca_center", batch_size=BATCH)
        ours = partial(fit, model, contrast, f"pca:layers=1-{last}")
        directions = theirs().directions
        del directions[last]  # taken behind the last norm there
        found["fit_ratio_repeng"] = timed(theirs, ours, repeats, "repeng", agreement(ours(), directions))
    else:
        say("repeng is not installed: no fit_ratio_repeng")
    return found


def timed(theirs: Callable[[], Any], ours: Callable[[], Any], repeats: int, name: str, cosine: float) -> Compared:
    """Time both sides in turn; how far they agree stands in the note."""
    times = in_turn({"theirs": theirs, "ours": ours}, repeats, time.process_time)
    return compare(times["theirs"], times["ours"], f"{name}; least cosine of a layer's directions {cosine:.4f}")


def agreement(steering: Steering, directions: Mapping[int, Any]) -> float:
    """Compute the least cosine between a layer's direction and theirs; ours are stored less that of the layer below."""
    below, found = torch.zeros(steering.shape.width), []
    for site, one in steering.maps.items():
        below = below + one.shift
        if site.layer in directions:
            theirs = torch.as_tensor(directions[site.layer]).float().flatten()
            found.append(float(torch.cosine_similarity(below, theirs, dim=0)))
    return min(found)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "").parse_args()
    begin(options)
    model = load(options.model, device="cpu")
    entries = overheads(model, options.repeats) | fits(model, options.repeats)
    show(entries, f"Steering {options.model}, processor seconds", options.json)


if __name__ == "__main__":
    main()
