"""The runner of measures against people, norms and training data: one model, one page; two runs side by side.

    OUT/measure.json, measure.html   scores with intervals, configuration, remarks
    OUT/items.jsonl                  one object per item: prompt, answer, what was read from it
    OUT/lm_eval.json                 the layout of lm-evaluation-harness

Measures differ from benchmarks of unlearning (`letheon.measure.bench`) in that nothing is deleted; both keep the
protocol of `letheon.measure.benchmark`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from letheon.core.atomic import atomic_write_text, canonical_hash, check_writable, read_json, write_json
from letheon.core.errors import InputError, nearest
from letheon.core.runs import utc_now
from letheon.core.statistics import paired_difference
from letheon.measure.asking.parsing import degenerate
from letheon.measure.benchmark import Bench, BenchedModel, Measure, Score, Scores
from letheon.measure.lm_eval import results
from letheon.measure.measurement import Measurement
from letheon.measure.measurement_page import render_measurement

# Where each measure is read.
MEASURES = {
    "norming": "letheon.measure.human.norming:read_norming",
    "word_features": "letheon.measure.human.word_features:read_word_features",
    "memorability": "letheon.measure.human.memorability.measure:read_memorability",
    "tip_of_tongue": "letheon.measure.human.tip_of_tongue.measure:read_tip_of_tongue",
    "behaviour": "letheon.measure.human.behaviour.measure:read_behaviour",
    "metacognition": "letheon.measure.metacognition.battery:read_metacognition",
    "memorization": "letheon.measure.memorization.measure:read_memorization",
    "compression_decay": "letheon.measure.compression_decay.measure:read_compression_decay",
    "priming": "letheon.measure.priming_measure:read_priming",
    "few_shot_memories": "letheon.measure.few_shot_memories:read_few_shot_memories",
    "normad": "letheon.measure.normad:read_normad",
    "egonormia": "letheon.measure.egonormia:read_egonormia",
    "normgenesis": "letheon.measure.normgenesis:read_normgenesis",
}


def read_measure(name: str, data: str = "", *, limit: int = 0, seed: int = 0, **options: str) -> Measure[Any]:
    """Read a measure's data.

    Args:
        data: file or folder; the measure's own items where it is empty and the measure has some.
        limit: number of items, drawn under `seed`; 0 takes all.
        options: further arguments of the measure's reading function, as text.

    Raises:
        InputError: no such measure or option, or the data are not as they should be.
    """
    if name not in MEASURES:
        raise InputError(f"no measure {name!r}", nearest(name, list(MEASURES)))
    module, function = MEASURES[name].split(":")
    read = getattr(importlib.import_module(module), function)
    hints, known = get_type_hints(read), inspect.signature(read).parameters
    given: dict[str, Any] = {}
    for option, text in options.items():
        if option not in known or option in ("data", "limit", "seed"):
            own = [one for one in known if one not in ("data", "limit", "seed")]
            raise InputError(f"{name} has no option {option!r}", nearest(option, own) if own else "leave it out")
        given[option] = _value(option, text, hints[option])
    made: Measure[Any] = read(data, limit=limit, seed=seed, **given)
    return made


def _value(option: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise InputError(f"--set {option}={text}", "write true or false")
        return text.lower() in ("true", "yes", "1")
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise InputError(f"--set {option}={text}", f"give a number ({kind.__name__})") from None


def measure(made: Measure[Any], model: Any, facts: Mapping[str, Any], *, out: Path | None = None) -> Measurement:
    """Evaluate a model under a measure and write its files.

    Args:
        model: a `Responder`; for memorization a learner.
        facts: how the model answers, for the configuration.
        out: folder of the files; None writes none.

    Raises:
        InputError: the folder holds another measurement, or cannot be written.
    """
    config = {"measure": made.name, "data": made.config(), "answers": dict(facts)}
    if out is not None:
        check_writable(out)
        if (out / "measure.json").is_file() and read_json(out / "measure.json").get("measure") != made.name:
            raise InputError(f"{out} holds another measurement", "choose another --out")
    began = time.monotonic()
    scores = made.evaluate(model)
    scores = replace(scores, notes=(*scores.notes, *degenerate(scores.records)))
    seconds = round(time.monotonic() - began, 1)
    name = str(getattr(model, "name", model))
    result = Measurement(made.name, name, made.columns, config, scores, seconds, utc_now())
    if out is not None:
        write(result, out)
    return result


def write(result: Measurement, out: Path) -> None:
    """Write scores, items, page and the harness's layout."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in result.scores.records)
    atomic_write_text(out / "items.jsonl", "".join(lines))
    write_json(out / "measure.json", result.to_json())
    atomic_write_text(out / "measure.html", render_measurement(result))
    benched = BenchedModel(result.model, "target", result.scores)
    columns = result.columns
    bench = Bench(result.measure, result.config, columns, (columns[0], columns[-1]), (benched,), result.seconds)
    write_json(out / "lm_eval.json", results(bench, benched))


@dataclass(frozen=True)
class ScoreDifference:
    """One score of two runs.

    Attributes:
        first, second: the scores' values.
        value, low, high: mean of second minus first over the items of both, with its 95 % interval; None where the
            score has no value per item.
        p: two-sided p-value of a sign-flip test over these items.
        n: number of items that both have.
    """

    name: str
    first: float | None
    second: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int = 0


def compare_runs(first: Path, second: Path) -> list[ScoreDifference]:
    """Compare two measurements item by item.

    Raises:
        InputError: a folder holds no measurement, or they are of different measures or data.
    """
    contents = [_stored(folder) for folder in (first, second)]
    names = [content["measure"] for content in contents]
    if names[0] != names[1]:
        raise InputError(f"{first} measures {names[0]}, {second} measures {names[1]}", "compare runs of one measure")
    hashes = [canonical_hash(content["config"]["data"]) for content in contents]
    if hashes[0] != hashes[1]:
        raise InputError(
            f"{first} and {second} differ in data, prompts or options", "measure both models by the same command"
        )
    scores = [Scores.from_json(content["scores"]) for content in contents]
    other = {score.name: score for score in scores[1].scores}
    return [_difference(score, other[score.name]) for score in scores[0].scores if score.name in other]


def _stored(folder: Path) -> dict[str, Any]:
    content = read_json(folder / "measure.json")
    if not isinstance(content, dict) or not {"measure", "config", "scores"} <= set(content):
        raise InputError(f"{folder}/measure.json is no measurement", "give the --out folder of letheon measure")
    return content


def _difference(first: Score, second: Score) -> ScoreDifference:
    values = [(a, second.items.get(row)) for row, a in first.items.items()]
    pairs = [(a, b) for a, b in values if a is not None and b is not None]
    own = (first.name, first.estimate.value, second.estimate.value)
    if len(pairs) < 2:
        return ScoreDifference(*own)
    found = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    return ScoreDifference(*own, found.value, found.low, found.high, found.p, found.n)
