"""Whether a recipe serves unlike requests with no option given: what an audit says, and what it costs.

`python -m benchmarks.default_recipe --worlds DIR --data DIR --json` runs each recipe (`fact_spans` and the default)
with its own settings on every request and seed, audits it against a retrained reference by the profile `standard`, and
prints per recipe

    passed          share of the audits that pass
    options_excess  four options, four draws per fact: share of right choices above the reference's
    retain_drop     recall of the retain rows before, less after
    fluency_gap     how much less fluent (nats per token) the new answers are than the reference's; 0 if they are not,
                    and not counted where either has no answer that can be judged
    forget_quality  p-value of the truth ratios against the reference's
    cost            CPU seconds over those of `fact_spans` as it is recommended, on the same request

as means over requests and seeds (worst for forget_quality). The recipe `retrained` deletes nothing: it takes a model
that was taught without the rows under another seed than the reference, and shows what a perfect deletion measures.

A request whose data is missing is left out with a message. Models are taught once; every finished run is added to
`runs.jsonl` beside them and not made again, unless the package's code or the extent of the audit changed. Development
uses seeds from 100 on; smaller ones judge.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import letheon
from benchmarks.common import say
from benchmarks.forget_worlds import REAL, TAUGHT, World, retrained_again, world
from letheon import LanguageModel, load
from letheon.audit.attacks.base import Attempt
from letheon.audit.attacks.multiple_choice import CHOICE, OPTIONS, names_the_right_one, options_for
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.atomic import canonical_hash
from letheon.core.hardware import resolve_precision
from letheon.core.progress import be_quiet
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.forget.request import Request
from letheon.forget.run import DEFAULTS, forget

PLAIN, CONTROL = "fact_spans", "retrained"
DRAWS = 4
# Share of right choices of each reference, by its folder.
_SHARES: dict[str, float | None] = {}
MEASURES = ("passed", "options_excess", "retain_drop", "fluency_gap", "forget_quality", "cost")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=f"{PLAIN},{DEFAULTS[0]}", help="separated by commas")
    parser.add_argument("--requests", default=",".join([*TAUGHT, *REAL, "tofu", "tofu01"]), help="separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--quick", action="store_true", help="quick audits instead of whole ones")
    options = parsed(parser)
    rows = measure(options)
    summary = {recipe: summed([row for row in rows if row["recipe"] == recipe]) for recipe in _split(options.recipes)}
    if options.json:
        print(json.dumps({"summary": summary, "runs": rows}, indent=1))
        return
    for recipe, found in summary.items():
        print(recipe, "  ".join(f"{name} {value}" for name, value in found.items()))


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add what benchmarks of worlds share, parse, and set the threads."""
    parser.add_argument("--worlds", type=Path, default=Path("worlds"), help="where taught models and runs are kept")
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of data sets; default $LETHEON_DATA")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's own choice")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    be_quiet()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per request, seed and recipe; rows that an earlier call has written are read."""
    judge, rows, ledger = load("smollm2"), [], options.worlds / "runs.jsonl"
    known = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()] if ledger.is_file() else []
    code = _code_hash()
    for name in _split(options.requests):
        for seed in map(int, _split(options.seeds)):
            made = world(name, seed, options.worlds, options.data)
            if isinstance(made, str):
                say(f"left out: {made}")
                break
            for recipe in _split(options.recipes):
                key = {"request": name, "seed": seed, "recipe": recipe, "quick": options.quick, "code": code}
                same = [row for row in known if all(row[field] == value for field, value in key.items())]
                if not same:
                    row = _row(made, recipe, key, judge, options.worlds, known)
                    if row is None:
                        say(f"left out: {name} has no second retrained model")
                        continue
                    same = [key | row]
                    known += same
                    options.worlds.mkdir(parents=True, exist_ok=True)
                    with ledger.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(same[0]) + "\n")
                rows.append(same[-1])
                say(json.dumps(rows[-1]))
    return rows


def _row(
    made: World, recipe: str, key: dict[str, Any], judge: LanguageModel, worlds: Path, known: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """What a recipe did, with its cost; the control costs nothing, and there is none for `tofu`."""
    name, seed, quick = key["request"], key["seed"], key["quick"]
    if recipe == CONTROL:
        again = retrained_again(name, made.request, seed, worlds)
        return None if again is None else audited(made, load(again), recipe, seed, judge, quick) | {"cost": None}
    row, seconds = run_one(made, recipe, seed, judge, quick)
    plain = seconds if recipe == PLAIN else _plain_seconds(made, name, seed, known)
    return {**row, "cost": round(seconds / plain, 2)}


def _code_hash() -> str:
    """A hash of the package's code: what one version measured is not another's."""
    package = Path(letheon.__file__).parent
    return canonical_hash([file.read_text(encoding="utf-8") for file in sorted(package.rglob("*.py"))])


def _plain_seconds(made: World, name: str, seed: int, known: Sequence[dict[str, Any]]) -> float:
    """CPU seconds of the plain recipe: of a run that is known, else of one that is made for it."""
    found = [row["seconds"] for row in known if (row["request"], row["seed"], row["recipe"]) == (name, seed, PLAIN)]
    return float(found[-1]) if found else seconds_of(made, PLAIN, seed)


def run_one(made: World, recipe: str, seed: int, judge: LanguageModel, quick: bool) -> tuple[dict[str, Any], float]:
    """What a recipe does with a request, and the CPU seconds that it takes."""
    after = load(made.before)
    start = time.process_time()
    result = forget(after, made.request, recipe, seed=seed)
    seconds = time.process_time() - start
    steps = {"steps": result.outcome.steps, "stopped": result.outcome.stopped, "seconds": round(seconds, 1)}
    return audited(made, after, recipe, seed, judge, quick) | steps, seconds


def audited(
    made: World, after: LanguageModel, recipe: str, seed: int, judge: LanguageModel, quick: bool
) -> dict[str, Any]:
    """What an audit says of a model after a deletion."""
    before, reference = load(made.before), load(made.reference)
    record = audit(before, after, made.request, reference=reference, judge=judge, seed=seed, quick=quick, method=recipe)
    excess = None
    if made.reference not in _SHARES:  # every recipe is measured beside the same one
        _SHARES[made.reference] = options_share(reference, made.request)
    right = [options_share(after, made.request), _SHARES[made.reference]]
    if right[0] is not None and right[1] is not None:
        excess = round(right[0] - right[1], 3)
    gap = _difference(record, ("fluency", "forget", "reference"), ("fluency", "forget", "after"))
    return {
        "passed": record.verdict.outcome == "pass",
        "verdict": record.verdict.outcome,
        "failed": _missed(record, "fail"),
        "undecided": [*_missed(record, "inconclusive"), *_missed(record, "not computable")],
        "attacks": _above_the_reference(record),
        "options_excess": excess,
        "retain_drop": _difference(record, ("recall", "retain", "before"), ("recall", "retain", "after")),
        "fluency_gap": None if gap is None else max(0.0, gap),
        "forget_quality": _value(record, "forget_quality", "forget", "after"),
        "recall": _value(record, "recall", "forget", "after"),
        "precision": resolve_precision("auto", after.device),
    }


def seconds_of(made: World, recipe: str, seed: int) -> float:
    """CPU seconds of a recipe on a request."""
    model, start = load(made.before), time.process_time()
    forget(model, made.request, recipe, seed=seed)
    return time.process_time() - start


def options_share(model: LanguageModel, request: Request) -> float | None:
    """Share of right choices among four values, `DRAWS` draws per fact; None where the rows have no values."""
    pool = [*request.forget, *request.retain]
    tries = [trial for draw in range(DRAWS) for trial in _choices(request.forget, pool, draw)]
    if not tries:
        return None
    answers = generate(model, [trial.prompt for trial in tries], max_new_tokens=16)
    return mean(float(names_the_right_one(trial, text)) for trial, text in zip(tries, answers, strict=True))


def _choices(rows: Sequence[Example], pool: Sequence[Example], draw: int) -> list[Attempt]:
    made = []
    for i, row in enumerate(rows):
        others = [other for other in pool if other.id != row.id]
        offered = options_for(row, others, (i + draw) % OPTIONS, 100 * draw + i)
        if offered:
            listed = "\n".join(f"- {option}" for option in offered)
            made.append(Attempt(row, CHOICE.format(question=row.prompt, options=listed), options=offered))
    return made


def summed(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Means over runs; the worst forget quality."""
    found: dict[str, float | None] = {}
    for name in MEASURES:
        values = [float(row[name]) for row in rows if row[name] is not None]
        worst = min(values, default=None) if name == "forget_quality" else mean(values) if values else None
        found[name] = None if worst is None else round(worst, 3)
    return found


def _value(record: Audit, metric: str, subset: str, model: str) -> float | None:
    found = record.metric(metric, subset, model)
    value = None if found is None else found.value.value
    return None if value is None else round(value, 4)


def _difference(record: Audit, first: tuple[str, str, str], second: tuple[str, str, str]) -> float | None:
    values = [_value(record, *one) for one in (first, second)]
    return None if values[0] is None or values[1] is None else round(values[0] - values[1], 4)


def _above_the_reference(record: Audit) -> dict[str, list[float]]:
    """Per attack that brings more back than from the reference, what it brings back from both."""
    found = {one.name: (one.after.value, one.reference.value if one.reference else None) for one in record.attacks}
    return {name: [after, given or 0.0] for name, (after, given) in found.items() if after and after > (given or 0.0)}


def _missed(record: Audit, outcome: str) -> list[str]:
    return [
        f"{one.criterion.metric}/{one.criterion.subset} {one.measured.value}"
        for one in record.verdict.criteria
        if one.criterion.required and one.outcome == outcome and not one.is_set_aside
    ]


def data_folder() -> Path | None:
    """The folder that $LETHEON_DATA names."""
    given = os.environ.get("LETHEON_DATA")
    return Path(given) if given else None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    main()
