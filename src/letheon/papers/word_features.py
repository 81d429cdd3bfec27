"""Psycholinguistic Word Features: a new approach for the evaluation of LLMs' alignment with humans.

arXiv 2506.22439, 2025-05; Conde et al., GEM workshop 2025.

Measured here: rank correlation of SmolLM2's ratings with the Glasgow norms for seven features, zero-shot and from a
probe of its states on other words, per seed a different draw of words. The check-point is the published table of
familiarity, read through the same code. The Lancaster norms are read where the user has them. Full scale in the paper:
commercial and open models on all words of both norms.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.human.published import agreement
from letheon.measure.human.spreadsheet import read_sheet
from letheon.measure.human.word_features import WordFeatures, read_word_features
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Findings, Pairs, mean
from letheon.papers.norming import JOINT
from letheon.papers.outcome import Scale

FEATURES = "concreteness,valence,familiarity"  # at the fast scale; all seven at the full one
WORDS = {"fast": 60, "full": 1000}
CHECKS = {
    "logprobs_v02_standard_prompt_gpt4omini": 0.820,
    "fam_v02_standard_prompt_gpt4omini": 0.745,
}
TRAINED = "probe minus zero-shot, mean over features"
PRIMARY = [*(f"published: {column}" for column in CHECKS), TRAINED]
GET = "get the Glasgow norms (Scott et al. 2019, supplement ESM2) as glasgow_norms/glasgow_norms.csv"


def reproduce(scale: Scale, found: Findings) -> None:
    """Reproduce the check-points, then compare the probe with zero-shot prompting on drawn words."""
    found.baselines += ["zero-shot prompting"]
    table = read_sheet(data_folder("familiarity_llm", "get WordsGPT/psycholinguistics_framework") / JOINT)
    for column, stated in CHECKS.items():
        value = agreement(table, column, "FAM_Glas").rho.value
        found.measured[f"published: {column}"] = value
        found.recompute(f"published: {column}", [value is not None and round(value, 3) == stated])
    norms = str(data_folder("glasgow_norms", GET) / "glasgow_norms.csv")
    responder = LocalResponder(load(scale.model, device=scale.device))
    chosen = FEATURES if scale.name == "fast" else ""
    for seed in scale.seeds:
        made = read_word_features(norms, limit=WORDS[scale.name], seed=seed, features=chosen, probe=True)
        found.rows.append(one_seed(made, responder, seed))
    judge(found.rows, found)


def one_seed(made: WordFeatures, responder: LocalResponder, seed: int) -> dict[str, Any]:
    """Measure every feature's correlations, None where a side is constant."""
    scores = made.evaluate(responder)
    row: dict[str, Any] = {"seed": seed, "mass": scores.value("mass")}
    for feature in made.features:
        for kind in ("expected", "argmax", "probe"):
            row[f"{feature.name} {kind}"] = scores.value(f"{feature.name}: rho {kind}")
    return row


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide by the mean over features; report each feature with its interval over draws of words."""
    names = [name.removesuffix(" probe") for name in rows[0] if name.endswith(" probe")]
    sides = [[mean(row[f"{name} {kind}"] for name in names) for row in rows] for kind in ("expected", "probe")]
    found.decide(TRAINED, Pairs(*sides), above=0.0)
    for name in names:
        for kind in ("expected", "probe"):
            found.report(f"{name}: rho {kind}", [row[f"{name} {kind}"] for row in rows])
    constant = sum(row[f"{name} argmax"] is None for row in rows for name in names)
    found.measured["argmax constant"] = f"{constant} of {len(rows) * len(names)}"
