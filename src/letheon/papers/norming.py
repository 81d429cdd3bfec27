"""Adding LLMs to the psycholinguistic norming toolbox: a practical guide to getting the most out of human ratings.

arXiv 2509.14405, 2025-09; Conde et al.

Measured here: the agreement of the published estimates with human familiarity, recomputed from the published tables;
and, per seed, a split of words on which SmolLM2 is asked without training, probed, and fine-tuned. Which prompt is
asked, at which rate the model is fine-tuned, and whether probe or fine-tuning is judged, is chosen on a seed that is
not judged. Baselines that know no meaning are word length and a ridge regression on input embeddings. Full scale in the
paper: GPT-4o-mini, Gemini and Llama-3.1-8B on 2,545 words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.asking.templates import Template
from letheon.measure.human.norming import PROMPT, Norming, read_norming
from letheon.measure.human.published import agreement
from letheon.measure.human.spreadsheet import read_sheet
from letheon.measure.human.tuning import Tuning
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale

JOINT = "llm_output__Glasgow_MRC_joint_norms_inner_join_english_output.xlsx"
HELD_OUT = "llm_output__1_test_random_MRC_Glas.xlsx"
NORM = "FAM_Glas"
# Estimates -> file, column, rank correlation with Glasgow familiarity as published, to two digits.
PUBLISHED = {
    "two human norms": (JOINT, "FAM_MRC", 0.80),
    "base model": (JOINT, "logprobs_v02_standard_prompt_gpt4omini", 0.82),
    "fine-tuned": (HELD_OUT, "fam_ft_v01_glas_gpt4omini", 0.92),
}
# Further read-outs, reported beside the claim.
BESIDE = {
    "base model, argmax": (JOINT, "fam_v02_standard_prompt_gpt4omini"),
    "base model, short prompt": (JOINT, "fam_v01_short_prompt_gpt4omini"),
    "base model, few-shot": (JOINT, "logprobs_v09_few_shot_gpt4omini"),
    "Llama-3.1-8B, argmax": (JOINT, "fam_v02_standard_prompt_llama3.1-8B"),
    "Llama-3.1-8B": (JOINT, "logprobs_v02_standard_prompt_llama3.1-8B"),
    "Llama-3.1-8B, fine-tuned": (HELD_OUT, "fam_ft_v01_glas_mrc_mean_llama3.1-8B"),
}
TRAINED = "trained minus zero-shot"
MEANING = "trained minus ridge regression on input embeddings"
ZERO = "zero-shot"
PRIMARY = [*(f"published: {name}" for name in PUBLISHED), TRAINED, MEANING, ZERO]
POOR = 0.3  # a zero-shot correlation below it is a failure
WORDS, EPOCHS = {"fast": 240, "full": 2545}, 3
RATES, TUNING_SEEDS = (2e-4, 6e-4), (100,)
# Prompts for asking without training: the product's, one sentence, and one with the paper's three examples.
PROMPTS = {
    "standard": PROMPT,
    "short": Template("short", "1", 'Familiarity of "{word}" from {low} to {high}:'),
    "examples": Template(
        "examples", "1", "Familiarity of English words from {low} to {high}. imam: 2. theology: 4. fridge: 7. {word}:"
    ),
}
GET = "get WordsGPT/psycholinguistics_framework (Apache-2.0): its tables of norms and estimates"


def reproduce(scale: Scale, found: Findings) -> None:
    """Recompute the published agreement, then compare zero-shot, probe and fine-tuning on a small model."""
    folder = data_folder("familiarity_llm", GET)
    found.baselines += ["zero-shot prompting", "word length", "ridge regression on input embeddings"]
    published(folder, found)
    responder = LocalResponder(load(scale.model, device=scale.device))
    table, words = str(folder / JOINT), WORDS[scale.name]

    def asked(arm: str, prompt: str, seed: int) -> float | None:
        study = read_norming(table, rating=NORM, limit=words, seed=seed, test_share=0.5)
        return study_with(study, prompt).evaluate(responder).value("rho expected")

    def trained(arm: str, rate: float, seed: int) -> float | None:
        probe = arm == "probe"  # which has no rate
        study = read_norming(
            table, rating=NORM, limit=words, seed=seed, test_share=0.5, probe=probe, epochs=0 if probe else EPOCHS
        )
        tuning = None if probe else Tuning(epochs=EPOCHS, learning_rate=rate)
        return replace(study, tuning=tuning).evaluate(responder).value("rho probe" if probe else "rho tuned")

    prompt = choose(found, {"zero-shot": tuple(PROMPTS)}, asked, TUNING_SEEDS, by="its correlation")["zero-shot"]
    rates = choose(found, {"tuned": RATES, "probe": (0.0,)}, trained, TUNING_SEEDS, by="their correlation")
    scores = found.measured[f"scores of the search on seeds {TUNING_SEEDS[0]}, by their correlation"]
    way = max(scores, key=lambda arm: max(value or -1.0 for value in scores[arm].values()))
    found.measured["judged as trained"] = way
    found.rows += [one_seed(table, responder, words, seed, prompt, rates["tuned"]) for seed in scale.seeds]
    judge(found.rows, found, way)


def published(folder: Any, found: Findings) -> None:
    """Decide whether each published correlation is recomputed to its two digits."""
    tables = {name: read_sheet(folder / name) for name in (JOINT, HELD_OUT)}
    for name, (file, column, stated) in PUBLISHED.items():
        value = agreement(tables[file], column, NORM).rho.value
        found.measured[f"published: {name}"] = value
        found.recompute(f"published: {name}", [value is not None and round(value, 2) == stated])
    for name, (file, column) in BESIDE.items():
        one = agreement(tables[file], column, NORM)
        found.measured[name] = {"rho": one.rho.value, "r": one.r.value, "words": one.parsed, "unparsed": one.unparsed}


def study_with(study: Norming, prompt: str) -> Norming:
    """Return the study with another prompt."""
    return replace(study, asking=replace(study.asking, template=PROMPTS[prompt]))


def one_seed(table: str, responder: LocalResponder, words: int, seed: int, prompt: str, rate: float) -> dict[str, Any]:
    """Measure rank correlations on the test words of one split.

    Args:
        prompt: asked without training; what is fitted has the standard one.
        rate: of the fine-tuning.
    """
    study = read_norming(table, rating=NORM, second="FAM_MRC", limit=words, seed=seed, probe=True, epochs=EPOCHS)
    study = replace(study, tuning=Tuning(epochs=EPOCHS, learning_rate=rate))
    row = correlations(study, responder, seed)
    if prompt != "standard":
        asked = study_with(replace(study, probe=False, tuning=None), prompt).evaluate(responder)
        row |= {name: asked.value(f"rho {name}") for name in ("expected", "argmax")}
    return row


def correlations(study: Norming, responder: LocalResponder, seed: int) -> dict[str, Any]:
    """Evaluate a study; correlations that could not be computed are None."""
    scores = study.evaluate(responder)
    names = ("expected", "argmax", "probe", "tuned", "embeddings", "length", "human")
    row: dict[str, Any] = {"seed": seed} | {name: scores.value(f"rho {name}") for name in names}
    return row | {"mass": scores.value("mass"), "unparsed tuned": scores.value("unparsed tuned")}


def judge(rows: list[dict[str, Any]], found: Findings, way: str) -> None:
    """Decide whether training beats zero-shot prompting and embeddings, and whether prompting fails; report the rest.

    Args:
        way: `probe` or `tuned`, which is judged as trained.
    """
    column = Columns(rows)
    found.decide(TRAINED, column.pairs(way, "expected"), above=0.0)
    found.decide(MEANING, column.pairs(way, "embeddings"), above=0.0)
    found.decide(ZERO, column("expected"), below=POOR)
    for name in ("probe", "tuned"):
        for baseline in ("expected", "embeddings", "length"):
            found.report(f"{name} above {baseline}", column.pairs(name, baseline), above=0.0)
    for name in ("argmax", "probe", "tuned", "embeddings", "length", "human"):
        found.report(f"rho {name}", column(name))
