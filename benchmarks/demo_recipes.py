"""How recipes forget one of eight invented people: recall, probability, kept facts, fluency, attacks.

`python -m benchmarks.demo_recipes` teaches SmolLM2 the demo's world and a reference without the target, then runs
each recipe from the same taught weights. `--out FILE` writes the table as Markdown. Ten minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from letheon import LanguageModel, Request, load
from letheon.audit.attacks.asking import ask
from letheon.audit.attacks.base import success
from letheon.audit.attacks.prefill import FIRST_TOKEN, VALUE_PREFIX
from letheon.audit.attacks.relearning import relearn
from letheon.audit.attacks.wordings import PARAPHRASE
from letheon.audit.measuring.answer_kinds import fluency, recalls
from letheon.audit.plan import Settings, make_plan
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.spans import control_probability, value_probability
from letheon.forget.run import forget
from letheon.jobs.demo import teach
from letheon.jobs.demo_world import PEOPLE, TARGETS, facts_of, world


@dataclass(frozen=True)
class Arm:
    """A recipe with its learning rate and steps."""

    method: str
    learning_rate: float
    steps: int
    stop: str = "steps"


ARMS = (
    Arm("fact_spans", 2e-5, 6),
    Arm("simnpo:tokens=value,gamma=1.0", 2e-5, 16),
    Arm("npo", 2e-5, 8),
    Arm("npo:tokens=value", 2e-5, 8),
    Arm("undial:tokens=value,alpha=1.0", 2e-5, 10),
    Arm("wga:tokens=value", 2e-5, 12),
    Arm("dpo:alternates=idk", 2e-5, 8),
    Arm("simnpo:gamma=1.0", 2e-5, 15),
    Arm("simnpo:tokens=value,gamma=1.0", 2e-5, 16, "control"),
    Arm("dpo:alternates=perturbed", 2e-5, 8),
    Arm("undial:alpha=1.0", 5e-5, 8),
    Arm("simnpo:tokens=value,gamma=1.0,keep=0.0", 2e-5, 16),
    Arm("npo", 1e-5, 7),
    Arm("npo:tokens=value", 1e-5, 18),
    Arm("simnpo:tokens=value,gamma=1.0+geometric:rank=1", 2e-5, 16),
)
COLUMNS = ("recall", "first token", "value token", "paraphrase", "relearned", "prob", "value prob", "others", "fluency")


PAGE = """# How recipes forget one of eight invented people

Made by `python -m benchmarks.demo_recipes --seed {seed} --out docs/results/demo_recipes.md` on SmolLM2-135M-Instruct,
{machine}, CPU. Five facts to forget, thirty-five to keep, five forget and five retain rows a step.

*recall*: the fact occurs in the greedy answer. *first token*, *value token*: the same when the old answer's first
token, or all of it up to the value's first token, is given. *paraphrase*: two other wordings a fact. *relearned*: the
highest recall of three facts before and while the other two are learned again, six steps at 5e-5. *prob*: exp of the
mean log-probability of the old answer; *value prob*: of the tokens that carry the fact. *others*: recall of the seven
other people's facts. *fluency*: mean log-probability a token (nats) of the new answers under the untouched model.
Control level of the taught model (value under unknown subjects): {control:.3f}.
"""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", type=int, default=len(ARMS), help="only the first so many recipes")
    parser.add_argument(
        "--demo", type=Path, help="the folder of a full `letheon demo`: its models are used, none taught"
    )
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.seed, ARMS[: arguments.arms], arguments.demo)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)
    if arguments.out:
        arguments.out.write_text(markdown(rows, arguments.seed), encoding="utf-8")


def measure(seed: int, arms: tuple[Arm, ...], demo: Path | None = None) -> list[dict[str, Any]]:
    """One row for the taught model, one for the reference, one for each recipe."""
    one = TARGETS[0]
    target = facts_of(one)
    others = [row for name in PEOPLE if name != one for row in facts_of(name)]
    untouched = load("smollm2")
    if demo is not None:
        taught, reference = load(demo / "before"), load(demo / "reference")
    else:
        taught = teach(world(), seed, "auto", "teaching 8 people")
        reference = teach(others, seed, "auto", "training the reference")
    control = float(np.mean([level for level in control_probability(taught, target) if level is not None]))
    rows = [
        {"recipe": "taught", "control": control, **examine(clone(taught), untouched, target, others)},
        {"recipe": "retrained reference", **examine(reference, untouched, target, others)},
    ]
    request = Request(forget=tuple(target), retain=tuple(others), id="demo")
    for arm in arms:
        model, start = clone(taught), time.monotonic()
        result = forget(
            model,
            request,
            arm.method,
            learning_rate=arm.learning_rate,
            steps=arm.steps,
            stop=arm.stop,
            batch_size=len(target),
            seed=seed,
        )
        name = f"{arm.method}, lr {arm.learning_rate:g}, {result.outcome.steps} steps"
        name += " (control level)" if result.outcome.stopped.startswith("control") else ""
        seconds = time.monotonic() - start
        rows.append({"recipe": name, "seconds": round(seconds, 1), **examine(model, untouched, target, others)})
    return rows


def clone(model: LanguageModel) -> LanguageModel:
    """A copy with weights of its own."""
    return LanguageModel(copy.deepcopy(model.model), model.tokenizer, model.name)


def examine(model: LanguageModel, judge: LanguageModel, target: list[Example], others: list[Example]) -> dict[str, Any]:
    """What a model still knows of the target, and of the others."""
    answers = generate(model, [row.prompt for row in target], max_new_tokens=24)
    fluencies = fluency(judge, [row.prompt for row in target], answers)
    judged = [one.value for one in fluencies if one is not None and not one.repeats]
    whole = score_answers(model, [(row.prompt, [row.answer]) for row in target])
    plan = make_plan(judge, Request(forget=tuple(target)), Settings())
    tries = ask(model, [FIRST_TOKEN, VALUE_PREFIX, PARAPHRASE], plan, max_new_tokens=24)
    points = relearn(model, target[:2], target[2:])
    return {
        "recall": share(target, answers),
        "first token": success(tries["first_token_prefix"]).value,
        "value token": success(tries["value_prefix"]).value,
        "paraphrase": success(tries["paraphrase"]).value,
        "relearned": max(point.recall for point in points),
        "prob": float(np.mean([one[0].probability for one in whole])),
        "value prob": float(np.mean([p for p in value_probability(model, target) if p is not None])),
        "others": share(others, generate(model, [row.prompt for row in others], max_new_tokens=24, batch_size=64)),
        "fluency": float(np.mean(judged)),
        "answer": answers[0],
    }


def share(rows: list[Example], answers: list[str]) -> float:
    """Share of answers that give their row's fact."""
    return float(np.mean([recalls(answer, row, row.answer) for answer, row in zip(answers, rows, strict=True)]))


def show(rows: list[dict[str, Any]]) -> None:
    """The table on the terminal."""
    table = Table()
    for heading in ("recipe", *COLUMNS, "an answer"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row["recipe"], *(f"{row[name]:.3g}" for name in COLUMNS), row["answer"])
    Console().print(table)


def markdown(rows: list[dict[str, Any]], seed: int) -> str:
    """The table as a page."""
    text = PAGE.format(seed=seed, machine=platform.machine(), control=rows[0]["control"])
    lines = [text, "| recipe | " + " | ".join(COLUMNS) + " | an answer |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for row in rows:
        numbers = " | ".join(f"{row[name]:.3f}" if "prob" in name else f"{row[name]:.2f}" for name in COLUMNS)
        answer = row["answer"].replace("|", " ").replace("\n", " ")[:80]
        lines.append(f"| {row['recipe']} | {numbers} | {answer} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
