"""Unforgettable Generalization in Language Models.

arXiv 2409.02228, 2024-09; Zhang, Choshen, Andreas, COLM 2024.

Measured here, on a small Llama trained from nothing on 21 tasks of four options (`common/skills`): from rules to
facts, each known surely to least surely. Each task but the control is forgotten in turn by fine-tuning on half of its
rows with random answers, drawn once per task and as often each, until accuracy on these is near random. Then: the share
of what was known that is gone on the held-out rows (the forget ratio), on other tasks, and what linear probes still
read from the states (rows of one quality never on both sides). The ratio is that of recognition (the most probable of
the options); how much less is said unprompted stands beside. The right answers in place of the random ones control for
training as such, a condition of the experiment; at full scale flipped answers stand beside them. The rate is chosen on
tuning seeds by what is judged first, how much more of rules than of facts is gone.
An earlier record had nine yes/no tasks, so that two options' bias was most of a ratio and nine points a correlation.
Full scale in the paper: some twenty tasks of understanding on models of billions of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import rank_correlation
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.papers.common.skills import CONTROL, Task, learned, make_tasks
from letheon.papers.common.small_llama import accuracy, copy_of
from letheon.papers.kit.findings import Findings, Threshold, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.probe.choices import Answered, Choice, answered, forget_ratio, option_probabilities, relabelled
from letheon.probe.forgetting_depth import all_probes, variability
from letheon.probe.linear_probes import token_states
from letheon.report.plots import heat_map, lines, scatter

RATES, BATCH, STEPS, LOOK = (1e-4, 3e-4, 1e-3), 16, 60, 3
NEAR_RANDOM = 0.4  # forgetting ends at this accuracy on the rows trained on; chance is a quarter
WHEN = ("accuracy_before", "accuracy")
CONTROLS: dict[str, tuple[Literal["true", "flipped"], ...]] = {"fast": ("true",), "full": ("true", "flipped")}
PROBED = 24  # enough qualities to hold some out, enough rows of each: where probes are judged
# part (see `of_seed`) -> threshold
DECIDED = {
    "ratio on held-out rows, rules": Threshold(above=0.5),
    "ratio on held-out rows, facts": Threshold(below=0.5),
    "rules minus facts": Threshold(above=0.0),
    "correlation of ratio with confidence": Threshold(below=0.0),
    "correlation of ratio with variability": Threshold(below=0.0),
    "probe minus output accuracy after": Threshold(above=0.0),
    "share of the probe's skill kept": Threshold(above=0.5),
}
PRIMARY = tuple(DECIDED)
TRAINED, FORGOTTEN = "ratio on rows trained on", 0.5  # in the mean, else nothing was forgotten
RIGHT, UNCHANGED = "ratio under right answers", 0.1  # in the mean, else training as such forgets


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim."""
    found.baselines += ["no forgetting", *(f"the same steps with {labels} answers" for labels in CONTROLS[scale.name])]
    rate = choose(found, {"random answers": RATES}, lambda _, rate, seed: spread(seed, scale, rate))["random answers"]
    start.cache_clear()
    found.rows += [row for seed in scale.seeds for row in forgettings(seed, scale, rate)]
    judge(found, found.rows)
    found.figures |= figures(found.rows)


@cache
def start(seed: int, scale: Scale) -> tuple[dict[str, Task], LanguageModel]:
    """The tasks of a seed and the model that knows them."""
    tasks = make_tasks(seed)
    model = learned(tasks, seed, epochs=6 if scale.name == "full" else 3)
    model.model.to(scale.device)
    return tasks, model


def spread(seed: int, scale: Scale, rate: float) -> float | None:
    """How much more of rules than of facts is gone; None if the rows trained on were not forgotten."""
    tasks, model = start(seed, scale)
    held: dict[str, list[float | None]] = {"rule": [], "fact": []}
    trained = []
    for name, task in tasks.items():
        if name == CONTROL or task.kind not in held:
            continue
        before, after = measures(model, task), measures(tuned(model, task, name, "random", seed, rate)[0], task)
        held[task.kind].append(forget_ratio(before["held_out"], after["held_out"]))
        trained.append(forget_ratio(before["train"], after["train"]))
    rule, fact, both = mean(held["rule"]), mean(held["fact"]), mean(trained)
    return None if rule is None or fact is None or both is None or both <= FORGOTTEN else rule - fact


def forgettings(seed: int, scale: Scale, rate: float) -> list[dict[str, Any]]:
    """Each task but the control forgotten from the same model."""
    tasks, model = start(seed, scale)
    start.cache_clear()
    before = {name: measures(model, task) for name, task in tasks.items()}
    return [forgetting(model, tasks, before, name, seed, scale, rate) for name in tasks if name != CONTROL]


def measures(model: LanguageModel, task: Task) -> dict[str, Answered]:
    """A model's answers to each split of a task."""
    splits = {"train": task.train, "held_out": task.held_out, "paraphrases": task.paraphrases}
    return {name: answered(rows, option_probabilities(model, rows)) for name, rows in splits.items() if rows}


def forgetting(
    model: LanguageModel,
    tasks: Mapping[str, Task],
    before: Mapping[str, Mapping[str, Answered]],
    name: str,
    seed: int,
    scale: Scale,
    rate: float,
) -> dict[str, Any]:
    """One task forgotten with random answers, and the controls with as many steps."""
    task = tasks[name]
    after, steps = tuned(model, task, name, "random", seed, rate)
    found = {other: measures(after, one) for other, one in tasks.items()}
    controls = {}
    for labels in CONTROLS[scale.name]:
        now = measures(tuned(model, task, name, labels, seed, rate, steps)[0], task)["held_out"]
        controls[f"ratio_{labels}"] = forget_ratio(before[name]["held_out"], now)
    states = token_states(model, [model.encoder().prompt(row.prompt) for row in task.train])
    probes = all_probes(model, after, task.held_out, seed) if task.qualities == PROBED else {}
    return {
        "seed": seed,
        "task": name,
        "kind": task.kind,
        "noise": task.noise,
        "steps": steps,
        "ratios": {split: forget_ratio(before[name][split], now) for split, now in found[name].items()},
        "accuracy_before": {split: then.accuracy.value for split, then in before[name].items()},
        "accuracy": {split: now.accuracy.value for split, now in found[name].items()},
        "gold_probability": {split: now.gold_probability for split, now in found[name].items()},
        "said": [said(one, task.held_out) for one in (model, after)],
        "commonest": found[name]["held_out"].commonest,
        "elsewhere": {other: forget_ratio(before[other]["held_out"], now["held_out"]) for other, now in found.items()},
        **controls,
        "confidence": before[name]["train"].confidence,
        "variability": variability(states[len(states) // 2]),
        "probes": probes,
    }


def tuned(
    model: LanguageModel,
    task: Task,
    name: str,
    labels: Literal["random", "flipped", "true"],
    seed: int,
    rate: float,
    steps: int = 0,
) -> tuple[LanguageModel, int]:
    """A copy fine-tuned on the train rows, and the steps taken.

    Without a number of steps it ends where the rows' accuracy is near random. The task's name gives it labels of its
    own.
    """
    copy = copy_of(model)

    def forgotten(history: Sequence[Any]) -> str | None:
        if len(history) % LOOK:
            return None
        known = answered(task.train, option_probabilities(copy, task.train)).accuracy.value or 0.0
        return "near random" if known <= NEAR_RANDOM else None

    settings = TrainSettings(rate, batch_size=BATCH, precision="float32", seed=seed)
    rows = relabelled(task.train, labels, stream_seed(seed, name))
    stop = None if steps else forgotten
    outcome = finetune(copy, rows, settings, steps or STEPS, stop=stop, title="forgetting")
    return copy, outcome.steps


def said(model: LanguageModel, rows: Sequence[Choice]) -> float:
    """Share of rows whose right answer the model says by itself, without options to choose from."""
    return accuracy(model, [Example(row.prompt, row.answer) for row in rows])


# The verdict


def of_seed(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The parts of the claim as numbers of one seed."""
    known = [row for row in rows if row["ratios"]["held_out"] is not None]
    held = {
        kind: mean([row["ratios"]["held_out"] for row in known if row["kind"] == kind]) for kind in ("rule", "fact")
    }
    ratios = [row["ratios"]["held_out"] for row in known]
    probed = [{**skill(row), "output": row["accuracy"]["held_out"]} for row in known if row["probes"]]
    rule, fact = held["rule"], held["fact"]
    return {
        TRAINED: mean([row["ratios"]["train"] for row in rows]),
        "ratio on held-out rows, rules": rule,
        "ratio on held-out rows, facts": fact,
        "rules minus facts": None if rule is None or fact is None else rule - fact,
        "correlation of ratio with confidence": rank_correlation([row["confidence"] for row in known], ratios).value,
        "correlation of ratio with variability": rank_correlation([row["variability"] for row in known], ratios).value,
        "probe minus output accuracy after": mean([(one["after"] or 0.0) - one["output"] for one in probed]),
        "share of the probe's skill kept": mean([one["kept"] for one in probed]),
        RIGHT: mean([row["ratio_true"] for row in known]),
    }


def skill(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Probe accuracies at the layer that is best before; `kept` is the share left of what exceeds random weights."""
    probes: Mapping[str, list[float]] = row["probes"]
    layer = max(range(len(probes["before"])), key=lambda one: probes["before"][one])
    at = {name: values[layer] for name, values in probes.items()}
    above = at["before"] - at["untrained"]
    return {**at, "layer": float(layer), "kept": (at["after"] - at["untrained"]) / above if above > 0.1 else None}


def judge(found: Findings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Measured values, intervals over seeds, and a verdict for each part of the claim."""
    seeds = [[row for row in rows if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in rows)]
    values = [of_seed(mine) for mine in seeds]
    for part, threshold in DECIDED.items():
        found.decide(part, [one[part] for one in values], **threshold)
    found.measured[TRAINED] = trained = mean(one[TRAINED] for one in values)
    found.check(f"{TRAINED} above {FORGOTTEN}", trained is not None and trained > FORGOTTEN)
    found.measured[RIGHT] = right = mean(one[RIGHT] for one in values)
    found.check(f"{RIGHT} below {UNCHANGED}", right is not None and right < UNCHANGED)
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        found.measured[f"{task}: ratio trained on, held out"] = [
            mean([row["ratios"][split] for row in mine]) for split in ("train", "held_out")
        ]
    found.measured |= {
        "facts: ratio on paraphrases": mean([row["ratios"].get("paraphrases") for row in rows]),
        "answers said on held-out rows, before and after": {
            kind: [mean([row["said"][when] for row in rows if row["kind"] == kind]) for when in (0, 1)]
            for kind in ("rule", "mixed", "fact")
        },
        "answers chosen on held-out rows, before and after": {
            kind: [mean([row[when]["held_out"] for row in rows if row["kind"] == kind]) for when in WHEN]
            for kind in ("rule", "mixed", "fact")
        },
        "ratio on the control": mean([row["elsewhere"]["control"] for row in rows]),
        "ratio under flipped answers": mean([row.get("ratio_flipped") for row in rows]),
        "correlation of ratio with accuracy before": mean([_difficulty(mine) for mine in seeds]),
        "probes": {
            name: mean([skill(row)[name] for row in rows if row["probes"]])
            for name in ("before", "after", "shuffled", "untrained", "layer")
        },
        "output accuracy where probed": mean([row["accuracy"]["held_out"] for row in rows if row["probes"]]),
        "tasks too little known for a ratio": sum(row["ratios"]["held_out"] is None for row in rows),
    }


def _difficulty(rows: Sequence[Mapping[str, Any]]) -> float | None:
    known = [row for row in rows if row["ratios"]["held_out"] is not None]
    ratios = [row["ratios"]["held_out"] for row in known]
    return rank_correlation([row["accuracy_before"]["held_out"] for row in known], ratios).value


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Ratios by split, spread to other tasks, the two predictors, and probes over layers."""
    names = list(dict.fromkeys(row["task"] for row in rows))
    by_task = {name: [row for row in rows if row["task"] == name] for name in names}
    splits = ("train", "held_out")
    table = [[mean([row["ratios"][split] for row in by_task[name]]) for split in splits] for name in names]
    words = "Forget ratio of each task on the rows trained on and on held-out rows, mean of the seeds"
    drawn = {"ratios": heat_map(table, names, ("trained on", "held out"), words, low=0, high=1)}
    others = list(rows[0]["elsewhere"])
    spill = [[mean([row["elsewhere"][other] for row in by_task[name]]) for other in others] for name in names]
    words = "Forget ratio of each task (across) after another (down) was forgotten, held-out rows, mean of the seeds"
    drawn["elsewhere"] = heat_map(spill, names, others, words, low=0, high=1)
    for what in ("confidence", "variability"):
        points = {
            name: (mean([row[what] for row in mine]) or 0.0, mean([row["ratios"]["held_out"] for row in mine]) or 0.0)
            for name, mine in by_task.items()
        }
        drawn[what] = scatter(points, f"{what} before", "forget ratio, held out", f"Forget ratio over {what}, by task")
    probed = [row["probes"] for row in rows if row["probes"]]
    if probed:
        series = {
            name: [(float(i), sum(one[name][i] for one in probed) / len(probed)) for i in range(len(probed[0][name]))]
            for name in probed[0]
        }
        words = "Accuracy of linear probes on held-out rows over the layers, and of the two controls"
        drawn["probes"] = lines(series, "layer", "accuracy of the probe", words)
    return drawn
