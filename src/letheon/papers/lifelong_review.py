"""Continual Lifelong Learning with Neural Networks: A Review.

arXiv 1802.07569, 2018-02; Parisi, Kemker, Part, Kanan, Wermter, Neural Networks 113, 2019. The methods are the
baseline strategies of `letheon.retain.strategies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from letheon.core.errors import TrainingError
from letheon.papers.kit.findings import Findings, means
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.stream import Scenario
from letheon.retain.streams.digits import split_digits

# Clipped, so that a strong penalty cannot make the weights diverge.
TRAINING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 0.1, "clip": 5.0}
NETWORK = [64, 100, 100, 10]
# Each strategy with the settings that are tried for it under seeds that are not judged, by what is judged: average
# accuracy in the class-incremental form; forgetting in the task-incremental form, among the settings whose
# average accuracy is not below naive training's.
TUNED = {
    "ewc": [f"ewc:strength={strength}" for strength in (100.0, 300.0, 500.0, 1000.0, 3000.0)],
    "si": [f"si:strength={strength}" for strength in (10.0, 30.0, 50.0, 100.0, 300.0)],
    "lwf": [f"lwf:strength={strength}" for strength in (0.3, 1.0, 3.0, 10.0, 30.0)],
}
TUNING_SEEDS = (1000, 1001, 1002, 1003, 1004)
# "About as bad": within this of naive training. "Far better": by at least this.
ALIKE, FAR = 0.05, 0.4
# What is run beside the tuned strategies and naive training. The domain-incremental form is no part of the claim.
ARMS: dict[Scenario, tuple[str, ...]] = {
    "class": ("replay", "der", "gem", "agem", "gdumb", "icarl", "joint", "dual_memory"),
    "task": ("replay", "progressive"),
}
PRIMARY = (
    *(f"class, {name} minus naive (alike)" for name in ("ewc", "si")),
    *(f"class, {name} minus naive (far better)" for name in ("replay", "der")),
    *(f"task, {name}: forgetting minus half of naive's" for name in TUNED),
    *(f"task, {name}: average accuracy above naive" for name in TUNED),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare every family of strategies on split digits in class- and task-incremental form."""
    found.baselines += ["naive", "joint"]
    chosen = {scenario: {name: tuned(name, scenario) for name in TUNED} for scenario in ARMS}
    tables: dict[Scenario, Results] = {}
    for scenario, best in chosen.items():
        arms = {name: name for name in ("naive", *ARMS[scenario])} | best
        rows = {name: [measured(text, scenario, seed) for seed in scale.seeds] for name, text in arms.items()}
        tables[scenario] = Results(rows)
    for scenario, table in tables.items():
        means = table.means(("average accuracy", "forgetting"))
        found.measured |= {f"{scenario}, {name}": values for name, values in means.items()}
        found.rows += [{"scenario": scenario, "strategy": row.pop("arm"), **row} for row in table.rows()]
    found.measured["chosen"] = chosen
    judge(tables, found)
    lost = max(tables["task"].column("progressive", "largest change"))
    found.check("task, progressive networks forget exactly 0", lost == 0)
    found.figures |= figures(tables)


def judge(tables: Mapping[Scenario, Results], found: Findings) -> None:
    """Decide on average accuracy in the class-incremental form, and on forgetting in the task-incremental form."""
    accuracy, classes = "average accuracy", tables["class"]
    for name in ("ewc", "si"):
        classes.decide(found, f"class, {name} minus naive (alike)", accuracy, name, "naive", below=ALIKE)
    for name in ("replay", "der"):
        classes.decide(found, f"class, {name} minus naive (far better)", accuracy, name, "naive", above=FAR)
    lost = tables["task"].column("naive", "forgetting")
    for name in TUNED:
        # accuracies are near their ceiling here, so the part compares forgetting with half of naive training's
        ours = tables["task"].column(name, "forgetting")
        left = [mine - theirs / 2 for mine, theirs in zip(ours, lost, strict=True)]
        found.decide(f"task, {name}: forgetting minus half of naive's", left, below=0.0, value=False)
        tables["task"].decide(found, f"task, {name}: average accuracy above naive", accuracy, name, "naive", above=0.0)
    for name in ("dual_memory", "gem", "agem", "gdumb", "icarl"):
        if name in classes.arms:
            classes.report(found, f"class, {name} minus replay", accuracy, name, "replay", above=0.0)


def tuned(name: str, scenario: Scenario) -> str:
    """The best setting by what is judged in the scenario, under the tuning seeds; settings that diverge are skipped."""
    floor = _tried("naive", scenario)[0] if scenario == "task" else 0.0
    scores = {}
    for candidate in TUNED[name]:
        try:
            accuracy, forgetting = _tried(candidate, scenario)
        except TrainingError:
            continue
        scores[candidate] = -forgetting if scenario == "task" and accuracy >= floor else accuracy - 1
    return max(scores, key=lambda text: scores[text], default=TUNED[name][0])


def _tried(text: str, scenario: Scenario) -> tuple[float, float]:
    """Mean average accuracy and forgetting under the tuning seeds."""
    runs = means([measured(text, scenario, seed) for seed in TUNING_SEEDS])
    return runs["average accuracy"], runs["forgetting"]


def measured(text: str, scenario: Scenario, seed: int) -> dict[str, Any]:
    """Accuracy and forgetting of one run, and the largest change of a task's accuracy after its own training."""
    run = learn(mlp(NETWORK, seed), split_digits(scenario=scenario), text, seed=seed, **TRAINING)
    matrix = run.matrix
    k = len(matrix) - 1
    change = max(abs(float(matrix[row, i] - matrix[i + 1, i])) for i in range(k) for row in range(i + 1, k + 1))
    metrics = {name: run.metrics[name] for name in ("average accuracy", "forgetting")}
    return {"seed": seed, **metrics, "largest change": change, "seconds": run.seconds}


def figures(tables: Mapping[Scenario, Results]) -> dict[str, str]:
    """Average accuracy of each strategy, one figure per scenario."""
    words = "Average accuracy after the last task, {}-incremental digits"
    return {
        scenario: dots(table.dots("average accuracy"), "average accuracy", words.format(scenario))
        for scenario, table in tables.items()
    }
