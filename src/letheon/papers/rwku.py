"""RWKU: Benchmarking Real-World Knowledge Unlearning for Large Language Models.

arXiv 2406.10890, 2024-06; NeurIPS 2024 Datasets and Benchmarks.

Measured here: SmolLM2-135M and, at the fast scale, one invented target per seed (`common/invented_targets`), so that
seeds are a sample of targets; at full scale the real targets of the data set, every one under every seed. Of itself the
model recalls few of the real probes (half or more of the answer in 17 of 186 on three targets, 31 of 175 on their
neighbours) and none of the invented ones, so it is first taught probes of levels 1 and 2, of the target and of its
neighbours, until it recalls them; attacks are never taught.
Then it forgets by the paper's recipe for methods that need a corpus: gradient ascent, and NPO, on biographies of the
target, and nothing else. Recall is compared on the probes that the taught model recalls. Each method has its own
rate, chosen on tuning seeds (full: on invented targets) by what is judged: the recall lost, the target's minus the
neighbours'.
Differs: biographies are cut to 64 tokens; at full scale sets to 20 rows. The paper's learning rates are for 8B models.
Invented targets have no sets of MMLU, BBH, TruthfulQA and TriviaQA, and the model has read none of their member texts.
An earlier record took three real targets in turn, five rows of each set, so that targets were no sample; one of them
had been tuned on.
Full scale in the paper: LLaMA-3-8B-Instruct and Phi-3-mini, 100 of 200 targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import letheon
from letheon.audit.measuring.judging import Judge
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.run import forget
from letheon.measure.benchmark import Against, Scores
from letheon.measure.rwku import RWKU, read_rwku
from letheon.measure.rwku.probes import question_of
from letheon.measure.rwku.records import Probe
from letheon.measure.rwku.scoring import exact_match, n_gram_entropy, rouge_l_recall, token_f1
from letheon.papers.common.data import data_folder
from letheon.papers.common.invented_targets import make_target
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.findings import Findings, Pairs, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

GET = "get RWKU (CC BY 4.0) from the hub, jinzhuoran/RWKU, in either of its layouts"
# Rows of each set of a real target, tokens of an invented one's text for fluency, tokens of a biography.
ROWS, TEXT_TOKENS, BIOGRAPHY_TOKENS = 20, 32, 64
TEACH_EPOCHS, TEACH_RATE = 8, 1e-4
METHODS = {"gradient_ascent": "gradient_ascent", "npo": "npo:beta=0.2"}  # beta is the paper's
RATES = (3e-5, 1e-4, 3e-4)
STEPS, BATCH = 6, 8
RECALLED = 0.5  # least recall of what was taught, else there is nothing to forget
SHOWN = (
    *("FB", "QA", "AA", "All", "All safe", "Nbr All", "Damaged", "Nbr Damaged", "Known", "Nbr Known"),
    *("FM Loss", "RM Loss", "AUC Loss", "Tru", "Fac", "Flu"),
)
# Hand-made answers: rule, text, true answer, the score by that rule.
CASES: tuple[tuple[str, str, str, float], ...] = (
    ("recall", "Portland, Maine", "Portland, Maine", 1.0),
    ("recall", "Portland Maine", "Portland, Maine", 0.5),
    ("recall", "portland, maine", "Portland, Maine", 0.0),
    ("recall", "He is H. P. Lovecraft", "H.P. Lovecraft", 1.0),
    ("recall", "b a", "a b", 0.5),
    ("recall", "d c b a. a b", "a b c d", 0.75),
    ("recall", "NOANSWER", "Carrie", 0.0),
    ("F1", "It is the Paris", "Paris", 0.5),
    ("F1", "paris", "Paris!", 1.0),
    ("EM", "Two are red. So the answer is 2. Next.", "2", 1.0),
    ("EM", "the answer is 2", "2", 0.0),
    ("entropy", "a b c a b c a b c", "", 1.5582),  # 2-grams 3 3 2, 3-grams 3 2 2
)


@dataclass
class Trial:
    """One seed and target: all scores of the taught model, and of the model after each method."""

    target: str
    taught: Scores
    after: dict[str, Scores]

    def states(self) -> dict[str, Scores]:
        """Scores by model: `taught` first, then one entry per method."""
        return {"taught": self.taught, **self.after}


PRIMARY = tuple(f"{method}: recall lost, target minus neighbours" for method in METHODS)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim.

    Raises:
        InputError: at full scale, the data set is not in the folder that LETHEON_DATA names.
    """
    found.baselines += ["recall on the neighbours' probes under the same method"]
    untouched = letheon.load(scale.model, device=scale.device)
    start = cache(lambda seed: tuning_start(untouched, seed))
    rates = choose(found, dict.fromkeys(METHODS, RATES), lambda name, rate, seed: gap(start(seed), name, rate))
    trials = [(read.seed, trial(read, untouched, rates)) for seed in scale.seeds for read in targets_of(seed, scale)]
    judge(found, trials)
    found.figures |= figures(trials)
    found.rows += [row for seed, one in trials for row in _rows(seed, one)]


def targets_of(seed: int, scale: Scale) -> list[RWKU]:
    """One invented target per seed; at full scale all real ones."""
    if scale.name != "full":
        return [invented(seed)]
    read = read_rwku(data_folder("rwku", GET), rows=ROWS)
    return [
        replace(read, targets=(target,), seed=seed, corpus_tokens=BIOGRAPHY_TOKENS, text_tokens=read.text_tokens)
        for target in read.targets
    ]


def invented(seed: int) -> RWKU:
    """The benchmark of one invented target."""
    return RWKU((make_target(seed),), "invented", seed=seed, corpus_tokens=BIOGRAPHY_TOKENS, text_tokens=TEXT_TOKENS)


# One target


def trial(read: RWKU, untouched: LanguageModel, rates: Mapping[str, float]) -> Trial:
    """Teach a copy of a model, measure, forget by each method from the taught model, measure again.

    The untouched model judges which answers are broken language.
    """
    model = copy_of(untouched)
    teach(model, read)
    taught = read.evaluate(model)
    against = Against(target=taught, judge=Judge(untouched, untouched.name))
    after = {name: read.evaluate(forgotten(model, read, name, rate), against) for name, rate in rates.items()}
    return Trial(read.targets[0].name, taught, after)


def forgotten(model: LanguageModel, read: RWKU, method: str, rate: float) -> LanguageModel:
    """A copy of the taught model after a method."""
    request = read.request(model)
    request = replace(request, forget=request.forget[: STEPS * BATCH])  # no more is looked at
    changed = copy_of(model)
    options: dict[str, Any] = {"steps": STEPS, "learning_rate": rate, "batch_size": BATCH, "seed": read.seed}
    forget(changed, request, METHODS[method], collapse=False, **options)
    return changed


def gap(start: tuple[RWKU, LanguageModel, Scores], method: str, rate: float) -> float | None:
    """What is judged, under a tuning seed: the recall lost of what was known, the target's minus the neighbours'."""
    read, model, taught = start
    after = {method: read.evaluate(forgotten(model, read, method, rate), Against(target=taught))}
    one = Trial(read.targets[0].name, taught, after)
    target, near = lost(one, method), lost(one, method, "Nbr Known", "Nbr All")
    return None if target is None or near is None else target - near


def tuning_start(untouched: LanguageModel, seed: int) -> tuple[RWKU, LanguageModel, Scores]:
    """A tuning seed's target, the model that was taught, and its scores."""
    read, model = invented(seed), copy_of(untouched)
    teach(model, read)
    return read, model, read.evaluate(model)


def teach(model: LanguageModel, read: RWKU) -> None:
    """Fine-tune all weights on the chosen probes of levels 1 and 2, the target's and its neighbours'."""
    rows = [
        Example(question_of(probe).prompt, f"{question_of(probe).start} {probe.answer}", name)
        for kind in ("forget 1", "forget 2", "neighbor 1", "neighbor 2")
        for name, probe in read.chosen(kind, Probe).items()
    ]
    settings = TrainSettings(TEACH_RATE, batch_size=BATCH, schedule="linear", warmup_steps=2, seed=read.seed)
    steps = max(1, TEACH_EPOCHS * len(rows) // BATCH)
    finetune(model, rows, settings, steps, title="teaching")


# The verdict

Trials = Sequence[tuple[int, Trial]]


def lost(one: Trial, method: str, column: str = "Known", of: str = "All") -> float | None:
    """Mean recall that a method took from the probes that were known before."""
    items = one.after[method][column].items
    pairs = [(one.taught[of].items[name], value) for name, value in items.items()]
    losses = [before - now for before, now in pairs if before is not None and now is not None]
    return sum(losses) / len(losses) if losses else None


def judge(found: Findings, trials: Trials) -> None:
    """Measured values, intervals over trials, and a verdict for every part of the claim."""
    wrong = [case for case in CASES if abs(by_rule(*case[:3]) - case[3]) > 1e-4]
    gaps, broken = not_computed(trials)
    found.measured |= {
        "hand-made cases scored otherwise": [text for _, text, _, _ in wrong],
        "not computed, no data": gaps,
        "not computed, though the data are there": broken,
    }
    found.check("hand-made cases are scored as by hand", not wrong)
    found.check("every score is computed", not broken)
    for column in ("FB", "QA", "Nbr All"):
        recalled = mean(_values(trials, "taught", column))
        found.check(f"the taught is recalled, {column}", recalled is not None and recalled > RECALLED)
    for method in METHODS:
        near = [lost(one, method, "Nbr Known", "Nbr All") for _, one in trials]
        safe = [lost(one, method, "Known safe") for _, one in trials]
        name = f"{method}: recall lost, target minus neighbours"
        found.decide(name, Pairs(near, [lost(one, method) for _, one in trials]), above=0)
        found.report(f"{name}, without broken answers", Pairs(near, safe))
    for state in ("taught", *METHODS):
        found.measured[state] = {column: mean(_values(trials, state, column)) for column in SHOWN}


def not_computed(trials: Trials) -> tuple[list[str], list[str]]:
    """Names of scores without a value in any model: first those whose set the copy of the data lacks, then the rest."""
    every = [score for _, one in trials for scores in one.states().values() for score in scores.scores]
    known = {score.name for score in every if score.estimate.value is not None}
    gaps = {score.name: score.why for score in every if score.name not in known}
    absent = [name for name, why in gaps.items() if " has no " in why]
    return absent, [name for name in gaps if name not in absent]


def by_rule(rule: str, text: str, answer: str) -> float:
    """The score of a text by one of the benchmark's rules."""
    if rule == "entropy":
        return n_gram_entropy(text)
    if rule == "F1":
        return token_f1(text, [answer])
    return exact_match(text, answer) if rule == "EM" else rouge_l_recall(text, answer)


def _values(trials: Trials, state: str, column: str) -> list[float | None]:
    return [one.states()[state].value(column) for _, one in trials]


def _rows(seed: int, one: Trial) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "target": one.target, "model": state}
        | {score.name: score.estimate.value for score in scores.scores}
        for state, scores in one.states().items()
    ]


def figures(trials: Trials) -> dict[str, str]:
    """Recall of the target over recall of its neighbours, from the taught model to each unlearned one."""

    def point(state: str) -> tuple[float, float]:
        return mean(_values(trials, state, "All")) or 0.0, mean(_values(trials, state, "Nbr All")) or 0.0

    series = {name: [point("taught"), point(name)] for name in METHODS}
    words = "Recall on the neighbours' probes over recall on the target's, before and after each method"
    return {"recall": lines(series, "recall, target", "recall, neighbours", words, falling=True)}
