"""How Post-Training Reshapes LLMs: A Mechanistic View on Knowledge, Truthfulness, Refusal, and Confidence.

arXiv 2504.02904, 2025-04; COLM 2025. Full scale in the paper: Llama-3.1-8B, Mistral-7B and Llama-2-13B with their
post-trained versions. Here: SmolLM2, and the same model after it was trained to refuse mild requests and to answer
others.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import blocks
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings, Threshold
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.directions import ANSWERED, REFUSED, Contrast
from letheon.probe.post_training.report import PostTrainingSettings, compare_directions, knowledge_maps
from letheon.probe.statements import balanced, built_in

# The parts that decide, named before any run.
PRIMARY = (
    "cosine of the truth directions minus that of the refusal directions",
    "accuracy of the base's truth direction on the post-trained model, minus shuffled labels",
    "Pearson's r of the raw maps of knowledge",
    "distance of the shuffled direction's accuracy from chance",
)
SIZES = {"fast": (24, 24, 2), "full": (120, 80, 12)}  # steps, statements per topic, pairs of the maps
REFUSAL = "I'm sorry, but I can't help with that."


def reproduce(scale: Scale, found: Findings) -> None:
    """Post-train one copy of SmolLM2 per seed to refuse, and compare it with the model before."""
    found.baselines += ["directions of shuffled labels", "halves of the data"]
    base = load(scale.model, device=scale.device)
    rows = [measured(base, seed, *SIZES[scale.name]) for seed in scale.seeds]
    results = Results({"post": rows})
    results.record(found)
    judge(results, found)


def judge(results: Results, found: Findings) -> None:
    """Decide on both directions, on the transfer, on the maps and on the shuffled control."""
    bounds = [Threshold(above=0.2), Threshold(above=0.05), Threshold(above=0.8), Threshold(below=0.15)]
    for part, bound in zip(PRIMARY, bounds, strict=True):
        found.decide(part, results.column("post", part), **bound)
    for name in ("truth", "refusal", "truth, halves", "refusal, halves"):
        found.report(name, results.column("post", name))


def measured(base: LanguageModel, seed: int, steps: int, items: int, pairs: int) -> dict[str, Any]:
    """Post-train a copy and compare; half of the prompts are trained on, the other half gives the directions."""
    post = copy_of(base)
    rows = [Example(text, REFUSAL) for text in REFUSED[0::2]]
    rows += [Example(text, "Of course. Here is my answer.") for text in ANSWERED[0::2]]
    finetune(post, rows, TrainSettings(learning_rate=2e-5, batch_size=4, precision="float32", seed=seed), steps)
    post.model.eval()
    layer = len(blocks(base.base())) // 2
    topics = {name: balanced(statements, items, seed) for name, statements in built_in().items()}
    found = compare_directions(post, base, topics, Contrast(REFUSED[1::2], ANSWERED[1::2]), layer, seed)
    maps = knowledge_maps(post, base, topics, PostTrainingSettings(pairs=pairs, stride=5, seed=seed))
    accuracy = found.accuracies["base on post"]
    values = (
        found.truth[layer] - found.refusal[layer],
        sum(accuracy.values()) / len(accuracy) - found.shuffled,
        maps.correlations()["post and base, raw"] if maps else None,
        abs(found.shuffled - 0.5),
    )
    return {
        "seed": seed,
        **dict(zip(PRIMARY, values, strict=True)),
        "truth": found.truth[layer],
        "refusal": found.refusal[layer],
        "truth, halves": found.truth_halves[layer],
        "refusal, halves": found.refusal_halves[layer],
    }
