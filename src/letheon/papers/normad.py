"""NormAd: A Framework for Measuring the Cultural Adaptability of Large Language Models.

arXiv 2404.12464, 2024-04; Rao et al., NAACL 2025.

The authors' 2,633 stories are distributed encrypted and are not contained; `letheon measure normad --data` takes the
user's own copy. Measured here: the paper's question, whether the stated rule helps to judge an act, on dialogues of
NormGenesis that follow or break a norm. Per seed SmolLM2 judges one dialogue of each kind for other norms, without
context, with the norm as rule of thumb, and with another norm as rule. A small model says yes to nearly everything, and
the accuracy of its answers is that of a constant, under every condition. What decides is therefore how well it tells
the dialogues apart: the chance that it leans more to yes for one that follows its norm than for one that breaks its
norm (0.5 for a constant, whatever it says). Accuracy is reported. Full scale in the paper: 75 countries, four
conditions, models of 7B to 70B and people.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from letheon.core.model.models import load
from letheon.core.rows.sampling import stream_seed
from letheon.measure.asking.responder import LocalResponder, Responder
from letheon.measure.normad import LABELS, SHOWN, Story
from letheon.measure.normgenesis.dialogues import Dialogue, read_dialogues
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.outcome import Scale

KINDS = {"adherence": "yes", "violation": "no"}
RULE = "AUROC of the lean to yes: with the rule minus without context"
OWN = "AUROC of the lean to yes: with the rule minus with another norm's rule"
PRIMARY = [RULE, OWN]
NORMS = 15  # per seed; eight seeds have all 120
CONDITIONS = {"none": "none", "rule": "rule", "another rule": "rule"}
LONGEST = 1200  # letters of a dialogue
ASKED = "Is what is done in this dialogue socially acceptable?"
GET = "get bk123477/NormGenesis (CC BY-SA 4.0): dialogue_american_adherence.json and _violation"


def reproduce(scale: Scale, found: Findings) -> None:
    """Ask about the dialogues of each seed's norms under three conditions."""
    found.baselines += ["no context", "another norm's rule", "always yes"]
    folder = data_folder("normgenesis", GET)
    kinds = {kind: read_dialogues(folder / f"dialogue_american_{kind}.json") for kind in KINDS}
    responder = LocalResponder(load(scale.model, device=scale.device))
    found.rows += [one_seed(responder, kinds, seed, NORMS) for seed in scale.seeds]
    judge(found.rows, found)


def judge(rows: Sequence[Mapping[str, Any]], found: Findings) -> None:
    """Decide whether the rule helps, and whether it helps by what it says; report the share of yes."""
    of = Columns(rows)
    found.decide(RULE, of.pairs("AUROC, rule", "AUROC, none"), above=0.0)
    found.decide(OWN, of.pairs("AUROC, rule", "AUROC, another rule"), above=0.0)
    found.report("AUROC with the rule", of("AUROC, rule"), above=0.5)
    found.report("accuracy with the rule minus without context", of.pairs("accuracy, rule", "accuracy, none"))
    found.report("accuracy with the rule", of("accuracy, rule"), above=0.5)  # half of the dialogues follow their norm
    found.report("says yes with the rule", of("says yes"))


def one_seed(responder: Responder, kinds: Mapping[str, Sequence[Dialogue]], seed: int, count: int) -> dict[str, Any]:
    """Judge one dialogue of each kind for `count` norms; seeds below 8 share no norm."""
    norms = sorted({one.norm for one in kinds["adherence"]} & {one.norm for one in kinds["violation"]})
    random.Random(stream_seed(0, "norms")).shuffle(norms)
    chosen = [norms[(seed * count + i) % len(norms)] for i in range(count)]
    draw = random.Random(stream_seed(seed, "dialogues"))
    stories = tuple(
        story_of(draw.choice([one for one in kinds[kind] if one.norm == norm]), label)
        for norm in chosen
        for kind, label in KINDS.items()
    )
    # each norm has two stories in a row: the rule of the next norm is two places further
    misled = tuple(replace(one, rule=stories[(i + 2) % len(stories)].rule) for i, one in enumerate(stories))
    row: dict[str, Any] = {"seed": seed}
    accepted = [story.label == 0 for story in stories]
    for name, asked in (("none", stories), ("rule", stories), ("another rule", misled)):
        logp = responder.option_logp([([story.prompt(CONDITIONS[name])], SHOWN) for story in asked])
        row[f"AUROC, {name}"] = float(roc_auc_score(accepted, [one[0] - one[1] for one in logp]))
        said = [int(np.argmax(one)) for one in logp]
        row[f"accuracy, {name}"] = float(np.mean([a == story.label for a, story in zip(said, asked, strict=True)]))
        if name == "rule":
            row["says yes"] = said.count(0) / len(said)
    return row


def story_of(dialogue: Dialogue, label: str) -> Story:
    """Make a story of a dialogue; its end is cut, for the model's context."""
    text = f"{dialogue.dialogue[:LONGEST]}\n{ASKED}"
    return Story(dialogue.id + label, "american", dialogue.category, "", dialogue.norm, text, LABELS.index(label))
