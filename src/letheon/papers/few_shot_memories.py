"""Recognition, recall, and retention of few-shot memories in large language models.

arXiv 2303.17557, 2023-03; A. Emin Orhan.

Measured here: SmolLM2 studies generated sentences one to three times and then other sentences; recognition and the
recall of continuations are probed along the way, per seed with other sentences. Retention compares what is left of the
gain after three exposures. The learning rate was not tuned: it is one of the paper's. Full scale in the paper: models
of up to 13 billion weights, 600 pairs, 100,000 steps of interference.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import load
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.few_shot_memories import FewShotMemories, read_few_shot_memories
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale

PAIRS, STEPS = {"fast": 32, "full": 600}, {"fast": 20, "full": 100}
RATE = 1e-4
SHOTS = 3
ONCE = "recognition after one exposure"
SLOWER = "gain after one exposure: recall minus recognition"
RISES = [f"recall, {k} exposures minus {k - 1}" for k in (1, 2, 3)]
DECAY = "share of the gain that is left: recall minus recognition"
PRIMARY = [ONCE, SLOWER, *RISES, DECAY]


def reproduce(scale: Scale, found: Findings) -> None:
    """Study, probe, interfere and probe again, per seed."""
    found.baselines += ["the model before study", "foils that were not studied"]
    responder = LocalResponder(load(scale.model, device=scale.device))
    for seed in scale.seeds:
        made = read_few_shot_memories(
            limit=PAIRS[scale.name], seed=seed, steps=STEPS[scale.name], learning_rate=RATE, shots=SHOTS
        )
        found.rows.append(one_seed(made, responder, seed))
    judge(found.rows, found)


def one_seed(made: FewShotMemories, responder: LocalResponder, seed: int) -> dict[str, Any]:
    """Measure both scores at every time."""
    scores = made.evaluate(responder)
    times = [*(f"{k} shots" for k in range(SHOTS + 1)), *(f"{step} steps later" for step in made.probes)]
    row: dict[str, Any] = {"seed": seed, "last": times[-1]}
    for what in ("recognition", "recall"):
        row[what] = {time: scores.value(f"{what}, {time}") for time in times}
    return row


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide the parts of the claim; report the curves."""
    found.decide(ONCE, [row["recognition"]["1 shots"] for row in rows], above=0.9)
    gains = {
        what: [(row[what]["1 shots"] - row[what]["0 shots"]) / (1 - row[what]["0 shots"]) for row in rows]
        for what in ("recognition", "recall")
    }
    found.decide(SLOWER, Pairs(gains["recognition"], gains["recall"]), below=0.0)
    for k, part in enumerate(RISES, start=1):
        before, after = ([row["recall"][f"{n} shots"] for row in rows] for n in (k - 1, k))
        found.decide(part, Pairs(before, after), above=0.0)
    left = {what: [share_left(row, what) for row in rows] for what in ("recognition", "recall")}
    # where nothing was learned, no share of it is left
    found.decide(DECAY, Pairs(left["recognition"], left["recall"]), below=0.0, gaps=True)
    for what in ("recognition", "recall"):
        found.measured[what] = {time: sum(row[what][time] for row in rows) / len(rows) for time in rows[0][what]}


def share_left(row: dict[str, Any], what: str) -> float | None:
    """Return the gain of three exposures that is left at the end; None if there was none."""
    start, studied, end = (row[what][time] for time in ("0 shots", f"{SHOTS} shots", row["last"]))
    return (end - start) / (studied - start) if studied > start else None
