"""How Post-Training Reshapes LLMs: A Mechanistic View on Knowledge, Truthfulness, Refusal, and Confidence.

arXiv 2504.02904, 2025-04; COLM 2025. Full scale in the paper: Llama-3.1-8B, Mistral-7B and Llama-2-13B with their
post-trained versions. Here: SmolLM2, and the same model after it was trained to refuse mild requests and to answer
others. Statements and requests that are measured are dealt out, so that every seed has its own. As a control, the same
requests are trained with replies that are drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import blocks
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.papers.common.known_facts import parts_of_topics
from letheon.papers.common.requests import DECLINED, GRANTED
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings, Threshold, mean
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.directions import ANSWERED, REFUSED, Contrast, cosine, prompt_states, refusal_direction
from letheon.probe.post_training.report import PostTrainingSettings, compare_directions, knowledge_maps
from letheon.probe.statements import Statement

# The parts that decide, named before any run.
BOUNDS = {
    "cosine of the truth directions minus that of the refusal directions": Threshold(above=0.2),
    "accuracy of the base's truth direction on the post-trained model, minus shuffled labels": Threshold(above=0.05),
    "Pearson's r of the raw maps of knowledge": Threshold(above=0.8),
}
PRIMARY = tuple(BOUNDS)
BESIDE = (
    "truth", "refusal", "refusal, replies drawn at random", "truth, halves", "refusal, halves", "shuffled labels",
    "log odds of refusing, requests to refuse", "log odds of refusing, requests to answer",
)  # fmt: skip
SIZES = {"fast": (24, 2), "full": (120, 6)}  # steps, pairs of the maps
REFUSAL, REPLY = "I'm sorry, but I can't help with that.", "Of course. Here is my answer."


def reproduce(scale: Scale, found: Findings) -> None:
    """Post-train two copies of SmolLM2 per seed, and compare them with the model before."""
    found.baselines += ["directions of shuffled labels", "the same training with replies drawn at random"]
    base, count = load(scale.model, device=scale.device), len(scale.seeds)
    parts = zip(scale.seeds, parts_of_topics(count), parts_of_requests(count), strict=True)
    rows = [measured(base, seed, topics, contrast, *SIZES[scale.name]) for seed, topics, contrast in parts]
    results = Results({"post": rows})
    results.record(found)
    results.judge(found, "post", BOUNDS, BESIDE)


def parts_of_requests(count: int) -> list[Contrast]:
    """Deal the requests out to parts without a common one."""
    order, size = random.Random(0).sample(range(len(DECLINED)), len(DECLINED)), len(DECLINED) // count
    chosen = [order[i * size : (i + 1) * size] for i in range(count)]
    return [Contrast(tuple(DECLINED[i] for i in one), tuple(GRANTED[i] for i in one)) for one in chosen]


def measured(
    base: LanguageModel,
    seed: int,
    topics: Mapping[str, Sequence[Statement]],
    contrast: Contrast,
    steps: int,
    pairs: int,
) -> dict[str, Any]:
    """Post-train a copy on requests of its own and compare it with the base on the statements and requests given."""
    rows = [Example(text, REFUSAL) for text in REFUSED] + [Example(text, REPLY) for text in ANSWERED]
    post = post_trained(base, rows, seed, steps)
    layer = len(blocks(base.base())) // 2
    found = compare_directions(post, base, topics, contrast, layer, seed)
    maps = knowledge_maps(post, base, topics, PostTrainingSettings(pairs=pairs, stride=5, seed=seed))
    replies = [row.answer for row in rows]
    random.Random(stream_seed(seed, "replies")).shuffle(replies)
    mixed = [Example(row.prompt, reply) for row, reply in zip(rows, replies, strict=True)]
    control = post_trained(base, mixed, seed, steps)
    refusals = [
        refusal_direction(prompt_states(one, contrast.refused)[layer], prompt_states(one, contrast.answered)[layer])
        for one in (control, base)
    ]
    values = (
        found.truth[layer] - found.refusal[layer],
        (mean(found.accuracies["base on post"].values()) or 0.0) - found.shuffled,
        maps.correlations()["post and base, raw"] if maps else None,
    )
    beside = (
        found.truth[layer], found.refusal[layer], cosine(*refusals), found.truth_halves[layer],
        found.refusal_halves[layer], found.shuffled, log_odds(post, contrast.refused),
        log_odds(post, contrast.answered),
    )  # fmt: skip
    return {"seed": seed, **dict(zip(PRIMARY, values, strict=True)), **dict(zip(BESIDE, beside, strict=True))}


def post_trained(base: LanguageModel, rows: Sequence[Example], seed: int, steps: int) -> LanguageModel:
    """Train a copy on requests and replies."""
    post = copy_of(base)
    settings = TrainSettings(learning_rate=2e-5, batch_size=4, precision="float32", seed=seed)
    finetune(post, list(rows), settings, steps)
    post.model.eval()
    return post


def log_odds(model: LanguageModel, prompts: Sequence[str]) -> float:
    """Return the log-probability of the refusal minus that of the reply, nats per token, mean over requests."""
    scored = score_answers(model, [(text, [REFUSAL, REPLY]) for text in prompts])
    return float(mean(float(no.logp.mean() - yes.logp.mean()) for no, yes in scored) or 0.0)
