"""Retrieval Head Mechanistically Explains Long-Context Factuality.

arXiv 2404.15574, 2024-04; ICLR 2025. Full scale in the paper: models of 6B to 47B with contexts to 50,000 tokens.
Here: SmolLM2 with needles that every seed makes up of its own words, in a text that begins elsewhere for every seed.
The positive control is a model whose weights are set by hand, so that one known head copies: the condition that the
scores find it decides nothing, but without it nothing is decided.
"""

from __future__ import annotations

import random
from typing import Any

import torch

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.handmade import POSITION, SCRATCH, TOKEN, Head, handmade
from letheon.papers.common.small_llama import word_tokenizer
from letheon.papers.kit.findings import Findings, Threshold
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.retrieval_heads.needles import Instance, Needle, build_instances
from letheon.probe.retrieval_heads.report import RetrievalSettings, mask_top_and_random
from letheon.probe.retrieval_heads.scoring import score_instances

# The parts that decide, named before any run.
HALVES = "rank correlation of the scores between halves of the prompts"
MASKED = "recall of the worst random mask minus recall without the best heads, on prompts that did not choose them"
BOUNDS = {HALVES: Threshold(above=0.8), MASKED: Threshold(above=0.1)}
PRIMARY = tuple(BOUNDS)
BESIDE = (
    "share of retrieval heads", "best score, permuted", "share of prompts answered", "planted head's score",
    "best other score",
)  # fmt: skip
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


def reproduce(scale: Scale, found: Findings) -> None:
    """Score the heads of SmolLM2 and mask the best ones; find the known head of a model that copies by it."""
    found.baselines += ["random heads outside the best ones", "needle's tokens permuted in the scoring"]
    model = load(scale.model, device=scale.device)
    rows = [{**measured(model, seed, LENGTHS[scale.name]), **control(seed)} for seed in scale.seeds]
    results = Results({"heads": rows})
    results.record(found)
    results.judge(found, "heads", BOUNDS, BESIDE)
    found.check("a planted copying head is found, and no other", all(results.column("heads", "planted head found")))


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
        HALVES: scored.split_half().value,
        MASKED: masking.effect.value if masking else None,
        "share of retrieval heads": float((scored.mean() >= 0.1).float().mean()),
        "best score, permuted": permuted,
        "share of prompts answered": len(scored.passed) / len(instances),
        "recall": [masking.plain, masking.top, masking.random] if masking else None,
    }


def planted(seed: int) -> tuple[LanguageModel, tuple[int, int]]:
    """Build a model of two layers that copies by one known head, which stands at a drawn place among others.

    A head of the first layer writes to each token which one stands before it; the copying head looks for the token
    that stands after the current one. The others look at the current token itself, at the first one, or at all alike.

    Returns:
        The model, and the copying head's layer and number.
    """
    tokenizer = word_tokenizer([Example(" ".join(["", *WORDS]), "x")])
    tokenizer.chat_template = None
    size = len(tokenizer.get_vocab())
    first = torch.zeros(size, size)
    first[:, 0] = 1.0  # whatever the position, ask for position 0
    previous = Head(POSITION, POSITION, TOKEN, SCRATCH, offset=-1, sharpness=6.0, gain=0.15)
    copying = Head(TOKEN, SCRATCH, TOKEN, TOKEN, sharpness=6.0, gain=6.0)
    same = Head(TOKEN, TOKEN, TOKEN, TOKEN, gain=0.0)
    begin = Head(POSITION, POSITION, TOKEN, TOKEN, table=first, gain=0.0)
    draw = random.Random(stream_seed(seed, "planted head"))
    layers: list[list[Head | None]] = [draw.sample([one, same, begin, None], 4) for one in (previous, copying)]
    model = LanguageModel(handmade(size, layers, size), tokenizer, "copier")
    return model, (1, layers[1].index(copying))


def control(seed: int, count: int = 24) -> dict[str, Any]:
    """Score the heads of the model with a known copying head, and mask the best one and random others."""
    model, place = planted(seed)
    ids = [token for word in WORDS for token in model.tokenizer(f" {word}")["input_ids"]]
    draw, instances = random.Random(stream_seed(seed, "copying")), []
    for _ in range(count):
        row, start = copy_row(draw, ids)
        span = (start + 1, start + NEEDLE)
        answer = model.tokenizer.decode(row[slice(*span)])
        instances.append(Instance(tuple(row[: -NEEDLE + 1]), span, answer, start))
    scored = score_instances(model, instances, budget=NEEDLE - 1)
    others = scored.mean()
    found = float(others[place])
    others[place] = 0.0
    masking = mask_top_and_random(
        model, instances, scored, RetrievalSettings(masked=1, draws=4, budget=NEEDLE - 1, seed=seed)
    )
    return {
        "planted head's score": found,
        "best other score": float(others.max()),
        "planted model's recall": [masking.plain, masking.top, min(masking.random)] if masking else None,
        "planted head found": scored.ranking()[0] == place and found > 0.9 and float(others.max()) < 0.1,
    }


def copy_row(draw: random.Random, ids: list[int]) -> tuple[list[int], int]:
    """Draw distinct words, of which `NEEDLE` in a row are repeated at the end; return the row and their place."""
    words = draw.sample(ids, STRAW + NEEDLE)
    place = draw.randrange(STRAW)
    return words + words[place : place + NEEDLE], place
