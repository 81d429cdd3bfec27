"""Recognition, recall, and retention of few-shot memories in large language models.

arXiv 2303.17557, 2023-03; A. Emin Orhan.

Measured here: SmolLM2 studies generated sentences one to three times and then other sentences; recognition and the
recall of continuations are probed along the way, per seed with other sentences. All sentences follow one pattern, which
a model learns too: recall counts only above that of unstudied sentences of the pattern at the same time, recognition
only above chance, both as shares of what is possible. Retention compares what is left of both after three exposures.
The learning rate is chosen from the paper's grid by recognition after one exposure and recall after three, on a seed
that is not judged. Full scale in the paper: models of up to 13 billion weights, 600 pairs, 100,000 steps of
interference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.few_shot_memories import FewShotMemories, read_few_shot_memories
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale

PAIRS, STEPS = {"fast": 32, "full": 600}, {"fast": 20, "full": 100}
RATES, TUNING_SEEDS = (3e-5, 1e-4), (100,)
SHOTS = 3
ONCE = "recognition after one exposure"
SLOWER = "memory after one exposure: recall minus recognition"
RISES = [f"recall above unstudied sentences, {k} exposures minus {k - 1}" for k in (1, 2, 3)]
DECAY = "share of the memory that is left: recall minus recognition"
PRIMARY = [ONCE, SLOWER, *RISES, DECAY]


def reproduce(scale: Scale, found: Findings) -> None:
    """Study, probe, interfere and probe again, per seed."""
    found.baselines += ["the model before study", "foils that were not studied", "recall of unstudied sentences"]
    responder = LocalResponder(load(scale.model, device=scale.device))

    def fit(arm: str, rate: float, seed: int) -> float:
        row = one_seed(study(scale, seed, rate, interfere=False), responder, seed)
        return row["recognition"]["1 shots"] + memory(row, "recall", f"{SHOTS} shots")

    rate = choose(found, {"study": RATES}, fit, TUNING_SEEDS)["study"]
    found.rows += [one_seed(study(scale, seed, rate), responder, seed) for seed in scale.seeds]
    judge(found.rows, found)


def study(scale: Scale, seed: int, rate: float, interfere: bool = True) -> FewShotMemories:
    """The pairs and the schedule of a seed; without interference only the study."""
    pairs, steps = PAIRS[scale.name], STEPS[scale.name] if interfere else 0
    made = read_few_shot_memories(limit=pairs, seed=seed, steps=steps, learning_rate=rate, shots=SHOTS)
    return replace(made, probes=made.probes[-1:], foils_recalled=True)


def one_seed(made: FewShotMemories, responder: LocalResponder, seed: int) -> dict[str, Any]:
    """Measure recognition, recall, and the recall of unstudied sentences at every time."""
    scores = made.evaluate(responder)
    times = [*(f"{k} shots" for k in range(SHOTS + 1)), *(f"{step} steps later" for step in made.probes)]
    row: dict[str, Any] = {"seed": seed, "last": times[-1]}
    for what in ("recognition", "recall", "recall of foils"):
        row[what] = {time: scores.value(f"{what}, {time}") for time in times}
    return row


def memory(row: dict[str, Any], what: str, time: str) -> float:
    """Return recognition above chance or recall above that of unstudied sentences, as a share of what is possible."""
    floor = 0.5 if what == "recognition" else row["recall of foils"][time]
    return float((row[what][time] - floor) / (1 - floor))


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide the parts of the claim; report the curves."""
    found.decide(ONCE, [row["recognition"]["1 shots"] for row in rows], above=0.9)

    def of(what: str, time: str) -> list[float]:
        return [memory(row, what, time) for row in rows]

    found.decide(SLOWER, Pairs(of("recognition", "1 shots"), of("recall", "1 shots")), below=0.0)
    for k, part in enumerate(RISES, start=1):
        found.decide(part, Pairs(of("recall", f"{k - 1} shots"), of("recall", f"{k} shots")), above=0.0)
    left = {what: [share_left(row, what) for row in rows] for what in ("recognition", "recall")}
    # where nothing was learned, no share of it is left
    found.decide(DECAY, Pairs(left["recognition"], left["recall"]), below=0.0, gaps=True)
    for what in ("recognition", "recall", "recall of foils"):
        found.measured[what] = {time: sum(row[what][time] for row in rows) / len(rows) for time in rows[0][what]}


def share_left(row: dict[str, Any], what: str) -> float | None:
    """Return the share of the memory after three exposures that is left at the end; None if there was none."""
    studied, end = (memory(row, what, time) for time in (f"{SHOTS} shots", row["last"]))
    return end / studied if studied > 0 else None
