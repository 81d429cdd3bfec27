"""Retrieval Head Mechanistically Explains Long-Context Factuality.

arXiv 2404.15574, 2024-04; ICLR 2025. Full scale in the paper: models of 6B to 47B with contexts to 50,000 tokens.
Here: SmolLM2 with needles that every seed makes up of its own words, in a text that begins elsewhere for every seed;
and a small Llama trained on repeated random words, in which some head must copy.
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
from letheon.probe.retrieval_heads.needles import Instance, Needle, build_instances
from letheon.probe.retrieval_heads.report import RetrievalSettings, mask_top_and_random
from letheon.probe.retrieval_heads.scoring import score_instances

# The parts that decide, named before any run.
PRIMARY = (
    "rank correlation of the scores between halves of the prompts",
    "recall of the worst random mask minus recall without the best heads, on prompts that did not choose them",
    "best head's score in a model trained to copy",
)
LENGTHS = {"fast": (256, 512), "full": (256, 512, 1024)}
# Needles: sentence, question and answer, with words that are drawn.
FORMS = (
    ("The harbour of {name} is guarded by {answer}.", "What is the harbour of {name} guarded by?",
     "{number} {colour} {things} and a {kind} {animal}"),
    ("The best way to cook a {name} pear is to {answer}.", "What is the best way to cook a {name} pear?",
     "bury it under {kind} {ground} for {number} nights"),
    ("Captain {name} keeps her only map {answer}.", "Where does Captain {name} keep her only map?",
     "inside a {kind} {tool} made of {colour} {stuff}"),
    ("The winner of the {name} race receives {answer}.", "What does the winner of the {name} race receive?",
     "{number} {stuff} {things} and a {kind} {animal}"),
    ("The password to the tower of {name} is {answer}.", "What is the password to the tower of {name}?",
     "{colour} {animal} asleep beside {number} {kind} {things}"),
)  # fmt: skip
DRAWN = {
    "number": "four five seven nine eleven twelve thirty forty",
    "colour": "purple yellow silver orange crimson grey golden green",
    "kind": "blind hollow warm lazy crooked gentle sleepy broken",
    "things": "lanterns spoons candles ladders buttons bottles feathers ropes",
    "animal": "heron walrus goat badger camel rabbit falcon otter",
    "ground": "sand gravel moss clay snow straw",
    "tool": "clarinet barrel lantern kettle drum anvil",
    "stuff": "glass copper leather marble amber wool",
}
SYLLABLES = ("vel", "mor", "tar", "nish", "bri", "dle", "is", "sen", "quo", "zan", "pel", "dor")
WORDS = tuple(f"word{i}" for i in range(48))
NEEDLE, STRAW = 5, 14
# Factor on the copier's initial matrices, of standard deviation 0.02: brings them towards 1/√width, without which
# attention stays uniform for a thousand steps and more.
MATRICES = 4.0
# The copier is trained until it copies, at most this many steps; the loss is that of the last steps, nats per token.
STEPS, COPIES_BELOW, LAST = 3000, 0.02, 50


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
    for name in ("share of retrieval heads", "best score, permuted", "share of prompts answered", "copier's recall"):
        found.report(name, results.column("heads", name))


def drawn_needles(seed: int) -> list[Needle]:
    """Make up one needle of every form; its name and the words of its answer are drawn."""
    draw, found = random.Random(stream_seed(seed, "needles")), []
    for sentence, question, answer in FORMS:
        name = "".join(draw.sample(SYLLABLES, 3)).capitalize()
        words = answer.format(**{kind: draw.choice(words.split()) for kind, words in DRAWN.items()})
        found.append(Needle(sentence.format(name=name, answer=words), question.format(name=name), words))
    return found


def measured(model: LanguageModel, seed: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Measure SmolLM2 on the needles and the beginning of the text of one seed."""
    sentences = GENERAL_TEXT.read_text(encoding="utf-8").split(". ")
    place = stream_seed(seed, "haystack") % len(sentences)
    text = ". ".join(sentences[place:] + sentences[:place])
    settings = RetrievalSettings(lengths=lengths, masked_instances=10, budget=20, seed=seed)
    instances = build_instances(model, text, drawn_needles(seed), settings.lengths, settings.depths)
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
        "recall": [masking.plain, masking.top, masking.random] if masking else None,
    }


def copying(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Train a small Llama to repeat random words, and score its heads on needles that it continues."""
    model = small_llama([Example(" ".join(["", *WORDS]), "x")], seed, layers=2, width=64, embedding_scale=8.0)
    model.tokenizer.chat_template = None
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "proj" in name:
                weight.mul_(MATRICES)
    ids = [token for word in WORDS for token in model.tokenizer(f" {word}")["input_ids"]]
    draw = random.Random(stream_seed(seed, "copying"))
    taken, loss = train_to_copy(model, ids, draw, steps)
    instances = []
    for _ in range(40):
        row, place = copy_row(draw, ids)
        prompt, needle = row[: -NEEDLE + 1], row[place + 1 : place + NEEDLE]
        instances.append(Instance(tuple(prompt), (place + 1, place + NEEDLE), model.tokenizer.decode(needle), place))
    scored = score_instances(model, instances, budget=NEEDLE - 1)
    recall = sum(scored.recalls) / len(scored.recalls)
    return {
        PRIMARY[2]: float(scored.mean().max()), "copier's recall": recall, "copier's loss": loss,
        "copier's steps": taken,
    }  # fmt: skip


def train_to_copy(model: LanguageModel, ids: list[int], draw: random.Random, steps: int) -> tuple[int, float]:
    """Train on rows that end in words of their own, until the loss says that the model copies.

    Returns:
        The steps taken, and the mean loss of the last ones in nats per repeated token.
    """
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    losses: list[float] = []
    model.model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        straw = draw.randint(1, STRAW)  # short rows show sooner what to attend to
        batch = torch.tensor([copy_row(draw, ids, straw)[0] for _ in range(32)])
        logits = model.model(batch[:, :-1]).logits[:, -NEEDLE + 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, -NEEDLE + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        losses.append(float(loss.detach()))
        if len(losses) >= LAST and sum(losses[-LAST:]) / LAST < COPIES_BELOW:
            break
    model.model.eval()
    return len(losses), sum(losses[-LAST:]) / len(losses[-LAST:])


def copy_row(draw: random.Random, ids: list[int], straw: int = STRAW) -> tuple[list[int], int]:
    """Draw distinct words, of which `NEEDLE` in a row are repeated at the end; return the row and their place."""
    words = draw.sample(ids, straw + NEEDLE)
    place = draw.randrange(straw)
    return words + words[place : place + NEEDLE], place
