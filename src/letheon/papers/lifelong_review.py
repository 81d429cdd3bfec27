"""Continual Lifelong Learning with Neural Networks: A Review.

arXiv 1802.07569, 2018-02; Parisi, Kemker, Part, Kanan, Wermter, Neural Networks 113, 2019. The methods are the
baseline strategies of `letheon.retain.strategies`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from letheon.core.errors import TrainingError
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.stream import Scenario
from letheon.retain.streams.digits import split_digits

# Clipped, so that a strong penalty cannot make the weights diverge.
TRAINING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 0.1, "clip": 5.0}
NETWORK = [64, 100, 100, 10]
# Each strategy with the settings that are tried for it under a seed that is not reported.
TUNED = {
    "ewc": ["ewc:strength=30.0", "ewc:strength=100.0", "ewc:strength=300.0"],
    "si": ["si:strength=3.0", "si:strength=10.0", "si:strength=30.0"],
    "lwf": ["lwf", "lwf:strength=3.0"],
}
OTHERS = ("naive", "replay", "der", "gem", "agem", "gdumb", "joint")
TUNING_SEED = 1000
# "About as bad": within this of naive training. "Far better": by at least this.
ALIKE, FAR = 0.05, 0.4
SCENARIOS: tuple[Scenario, ...] = ("class", "task", "domain")
PRIMARY = (
    *(f"class, {name} minus naive (alike)" for name in ("ewc", "si")),
    *(f"class, {name} minus naive (far better)" for name in ("replay", "der")),
    *(f"task, {name}: forgetting minus half of naive's" for name in TUNED),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare every family of strategies on split digits in class-, task- and domain-incremental form."""
    found.baselines += ["naive", "joint"]
    chosen = {scenario: {name: tuned(name, scenario) for name in TUNED} for scenario in SCENARIOS}
    tables: dict[Scenario, Results] = {}
    for scenario, best in chosen.items():
        progressive = {"progressive": "progressive"} if scenario == "task" else {}
        arms = {name: name for name in OTHERS} | best | progressive
        tables[scenario] = run_arms(_measure_in(scenario), arms, scale.seeds)
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


def tuned(name: str, scenario: Scenario) -> str:
    """The setting with the best average accuracy under the tuning seed; settings that diverge are skipped."""
    best, text = -1.0, TUNED[name][0]
    for candidate in TUNED[name]:
        try:
            accuracy = measured(candidate, scenario, TUNING_SEED)["average accuracy"]
        except TrainingError:
            continue
        if accuracy > best:
            best, text = accuracy, candidate
    return text


def _measure_in(scenario: Scenario) -> Callable[[str, int], dict[str, Any]]:
    return lambda text, seed: measured(text, scenario, seed)


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
