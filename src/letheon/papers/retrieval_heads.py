"""Retrieval Head Mechanistically Explains Long-Context Factuality.

arXiv 2404.15574, 2024-04; ICLR 2025. Full scale in the paper: models of 6B to 47B with contexts to 50,000 tokens.
Here: SmolLM2 with made-up needles in a text that begins elsewhere for every seed, and a small Llama trained on repeated
random words, in which some head must copy.
"""

from __future__ import annotations

import random
from typing import Any

import torch

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.small_llama import small_llama
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.retrieval_heads.needles import NEEDLES, Instance, build_instances
from letheon.probe.retrieval_heads.report import RetrievalSettings, mask_top_and_random
from letheon.probe.retrieval_heads.scoring import score_instances

# The parts that decide, named before any run.
PRIMARY = (
    "rank correlation of the scores between halves of the prompts",
    "recall of the worst random mask minus recall without the best heads, on prompts that did not choose them",
    "best head's score in a model trained to copy",
)
LENGTHS = {"fast": (256, 512), "full": (256, 512, 1024, 1900)}
WORDS = tuple(f"word{i}" for i in range(48))
NEEDLE, STRAW, STEPS = 5, 14, 700


def reproduce(scale: Scale, found: Findings) -> None:
    """Score the heads of SmolLM2 and mask the best ones; score the heads of a model that was trained to copy."""
    found.baselines += ["random heads outside the best ones", "needle's tokens permuted in the scoring"]
    model = load(scale.model, device=scale.device)
    rows = [{**measured(model, seed, LENGTHS[scale.name]), **copying(seed)} for seed in scale.seeds]
    results = Results({"heads": rows})
    results.record(found)
    judge(results, found)


def judge(results: Results, found: Findings) -> None:
    """Decide on reliability, masking and the trained copier; report the number of heads and the shuffled control."""
    for part, above in zip(PRIMARY, (0.8, 0.1, 0.8), strict=True):
        found.decide(part, results.column("heads", part), above=above)
    for name in ("share of retrieval heads", "best score, permuted", "share of prompts answered"):
        found.report(name, results.column("heads", name))


def measured(model: LanguageModel, seed: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Measure SmolLM2 on one beginning of the text."""
    sentences = GENERAL_TEXT.read_text(encoding="utf-8").split(". ")
    place = stream_seed(seed, "haystack") % len(sentences)
    text = ". ".join(sentences[place:] + sentences[:place])
    settings = RetrievalSettings(lengths=lengths, masked_instances=10, seed=seed)
    instances = build_instances(model, text, NEEDLES, settings.lengths, settings.depths)
    scored = score_instances(model, instances, settings.budget)
    masking = mask_top_and_random(model, instances, scored, settings)
    permuted = float(scored.shuffled[scored.passed].mean(0).max()) if scored.passed else None
    return {
        "seed": seed,
        PRIMARY[0]: scored.split_half().value,
        PRIMARY[1]: masking.effect.value if masking else None,
        "share of retrieval heads": float((scored.mean() >= 0.1).float().mean()),
        "best score, permuted": permuted,
        "share of prompts answered": len(scored.passed) / len(instances),
    }


def copying(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Train a small Llama on repeated random words, and score its heads on needles that it continues."""
    model = small_llama([Example(" ".join(["", *WORDS]), "x")], seed, layers=2, width=64, embedding_scale=8.0)
    model.tokenizer.chat_template = None
    ids = [token for word in WORDS for token in model.tokenizer(f" {word}")["input_ids"]]
    draw = random.Random(stream_seed(seed, "copying"))
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=3e-3)
    model.model.train()
    for _ in range(steps):
        rows = [copy_row(draw, ids) for _ in range(32)]
        batch = torch.tensor([row for row, _ in rows])
        logits = model.model(batch[:, :-1]).logits[:, -NEEDLE + 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, -NEEDLE + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    model.model.eval()
    instances = []
    for _ in range(40):
        row, place = copy_row(draw, ids)
        prompt, needle = row[: -NEEDLE + 1], row[place + 1 : place + NEEDLE]
        instances.append(Instance(tuple(prompt), (place + 1, place + NEEDLE), model.tokenizer.decode(needle), place))
    scored = score_instances(model, instances, budget=NEEDLE - 1)
    recall = sum(scored.recalls) / len(scored.recalls)
    return {PRIMARY[2]: float(scored.mean().max()), "copier's recall": recall, "copier's loss": float(loss.detach())}


def copy_row(draw: random.Random, ids: list[int]) -> tuple[list[int], int]:
    """Draw distinct words, of which `NEEDLE` in a row are repeated at the end; return the row and their place."""
    words = draw.sample(ids, STRAW + NEEDLE)
    place = draw.randrange(STRAW)
    return words + words[place : place + NEEDLE], place
