"""Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training.

arXiv 2507.05386, 2025-07; ICML 2026. Full scale in the paper: seven multimodal tasks, Qwen2.5-VL-7B.
Here: parity of digits (the design of "RL's Razor"). A network sees 64 pixels and a task bit. It knows the ten classes
of digits with permuted pixels (bit 0), and parity a little (bit 1). The new task is parity alone, where any class of
the right parity is right: supervised fine-tuning gets the targets 0 and 1, reinforcement finds classes of its own.
All arms are compared at the step where they first reach the target accuracy on the new task, on half of its test rows,
from which no other number comes; each at its own rate, the one that keeps most of the old task under seeds that are not
judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from letheon.core.statistics import estimate_mean
from letheon.papers.common.networks import several
from letheon.papers.common.parity import Matched, Parity, fine_tuned, make_parity, right_parity
from letheon.papers.kit.findings import Findings, Pairs, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.report.plots import lines
from letheon.retain.strategies.naive import Naive
from letheon.retain.strategies.rft import RFT, Settings
from letheon.retain.strategy import Strategy

EACH = 2  # runs per seed: six in all with three seeds
TARGET = 0.97  # accuracy on the new task at which all arms are compared
# A run that has not reached the target after these epochs has no values.
TRAINING: dict[str, Any] = {"optimizer": "adam", "batch_size": 32, "epochs": 60}
RATES, TUNING_SEEDS = (1e-4, 3e-4, 1e-3, 3e-3), (100, 101, 102)
SFT, NO_KL, WITH_KL = "SFT", "GRPO, no KL", "GRPO, KL 0.04"
RLOO = "RLOO, no KL"  # advantages are not divided by their group's standard deviation
OWN, SOLVABLE, LEARNABLE = "own right answers", "GRPO, no KL, solvable rows", "GRPO, no KL, learnable rows"
# Options of the strategy `rft`; None is plain fine-tuning.
ARMS: dict[str, dict[str, Any] | None] = {
    SFT: None,
    NO_KL: {"kl": 0.0, "filter": "none"},
    WITH_KL: {"kl": 0.04, "filter": "none"},
    RLOO: {"kl": 0.0, "filter": "none", "estimator": "rloo"},
    OWN: {"kl": 0.0, "filter": "none", "estimator": "rejection"},
    SOLVABLE: {"kl": 0.0, "filter": "solvable"},
    LEARNABLE: {"kl": 0.0, "filter": "learnable"},
}
GROUP = 8

Runs = Mapping[str, Sequence[Matched]]
PRIMARY = tuple(f"old accuracy: {name} minus SFT" for name in (NO_KL, WITH_KL))


def reproduce(scale: Scale, found: Findings) -> None:
    """Train every arm from the same network, and compare where the new task's accuracy first reaches the target."""
    found.baselines += ["supervised fine-tuning (SFT)", "fine-tuning on the model's own right answers"]
    found.seeds = several(scale.seeds, EACH)
    rates = tuned(found)
    seeds = {seed: arms_of(seed, rates) for seed in found.seeds}
    runs = {name: [arms[name] for arms in seeds.values()] for name in ARMS}
    found.measured |= {name: summary(ones) for name, ones in runs.items()}
    judge(runs, found)
    found.figures |= figures(runs)
    found.rows += [{"arm": name, "seed": seed, **asdict(seeds[seed][name])} for name in ARMS for seed in seeds]


def judge(runs: Runs, found: Findings) -> None:
    """Decide on old accuracy at equal new accuracy, GRPO minus SFT with and without KL; report the controls."""

    def pairs(ours: str, other: str) -> Pairs:
        return Pairs(*([run.old for run in runs[name]] for name in (other, ours)))

    for name in (NO_KL, WITH_KL):
        found.decide(f"old accuracy: {name} minus SFT", pairs(name, SFT), above=0.0, value=False)
    controls = {
        "own right answers minus SFT": (OWN, SFT),
        "GRPO without KL minus own right answers": (NO_KL, OWN),
        "RLOO minus GRPO, both without KL": (RLOO, NO_KL),
        "RLOO without KL minus own right answers": (RLOO, OWN),
        "KL minus no KL": (WITH_KL, NO_KL),
        "solvable rows minus all": (SOLVABLE, NO_KL),
        "learnable rows minus all": (LEARNABLE, NO_KL),
    }
    for name, arms in controls.items():
        found.report(f"old accuracy: {name}", pairs(*arms), above=0.0, value=False)


def arms_of(seed: int, rates: Mapping[str, float]) -> dict[str, Matched]:
    """The arms of one seed that have a rate, from the same base network."""
    world = make_parity(seed)
    return {name: run(world, name, rate, seed) for name, rate in rates.items()}


def run(world: Parity, name: str, rate: float, seed: int) -> Matched:
    """One arm at one rate, where it first reaches the target."""
    return fine_tuned(world, strategy_of(ARMS[name]), seed, TARGET, learning_rate=rate, **TRAINING)


def tuned(found: Findings) -> dict[str, float]:
    """Each arm's rate: most of the old task is kept under the tuning seeds, all of which reach the target."""
    worlds = {seed: make_parity(seed) for seed in TUNING_SEEDS}

    def kept(name: str, rate: float, seed: int) -> float | None:
        return run(worlds[seed], name, rate, seed).old

    return choose(found, dict.fromkeys(ARMS, RATES), kept, TUNING_SEEDS)


def strategy_of(options: dict[str, Any] | None) -> Strategy:
    """Plain fine-tuning on the targets 0 and 1, or rollouts rewarded for the right parity."""
    return Naive() if options is None else RFT(Settings(group=GROUP, **options), right_parity)


def summary(runs: Sequence[Matched]) -> dict[str, Any]:
    """Means over the runs that reached the target, and how many did."""
    return {
        "old accuracy": mean([one.old for one in runs]),
        "new accuracy": mean([one.new for one in runs]),
        "KL from base on the new task": mean([one.divergence for one in runs]),
        "steps": mean([one.steps for one in runs]),
        "share of rows kept": mean([one.kept for one in runs]),
        "met the target": sum(one.old is not None for one in runs),
        "base, old and new": [mean([one.base_old for one in runs]), mean([one.base_new for one in runs])],
    }


def figures(runs: Runs) -> dict[str, str]:
    """Old accuracy by arm, and old over new accuracy during training for the first seed."""
    accuracies = {name: estimate_mean([one.old for one in ones if one.old is not None]) for name, ones in runs.items()}
    paths = {name: runs[name][0].path for name in (SFT, NO_KL, WITH_KL, RLOO, OWN)}
    words = "Old accuracy over new accuracy while the new task is learned"
    return {
        "old accuracy": dots({"old task": accuracies}, "accuracy", "Old accuracy where the new task's is met"),
        "paths": lines(paths, "new accuracy", "old accuracy", words),
    }
