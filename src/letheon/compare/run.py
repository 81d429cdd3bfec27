"""`letheon.compare`: several methods on the same request, each at the learning rate that suits it.

Every method gets an equal share of the budget. Its first run uses the learning rate that goes with its name; higher and
lower ones follow while it gets better and the share lasts, each looked at after a quarter, half and all of its steps
and stopped when it is not among the better half (`halving`). The best run of each method is audited against the same
model before. A comparison that is stopped goes on where it was: finished runs and audits are read from its folder.
Every run keeps its folder; the weights are kept of the best run of each method only.

With several jobs each method is a process with an equal share of the budget, counted in its own processor seconds. The
comparison then goes through the folders as it would alone and spends what was left over, so rates, halving and
decisions are those of one job.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from letheon.audit.verdict import load_profile
from letheon.compare.record import Comparison, Entry, with_front
from letheon.compare.runner import Model, Runner
from letheon.core.atomic import atomic_write_text, canonical_hash, write_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, check_loadable
from letheon.core.parallel import ALONE, Parallel, run_tasks
from letheon.core.runs import Run
from letheon.core.tasks import Task
from letheon.forget.method_lists import read_methods
from letheon.forget.request import Request
from letheon.forget.run import check_model


def compare(
    model: Model,
    request: Request,
    methods: Sequence[str],
    *,
    out: str | Path,
    budget: float = 1200.0,
    reference: Model | None = None,
    profile: str | Path = "standard",
    seed: int = 0,
    device: str = "auto",
    parallel: Parallel = ALONE,
    **options: Any,
) -> Comparison:
    """Run each method on the request, choose its learning rate, audit the best run of each.

    Args:
        model: the model before, or what `load` takes; it is not changed.
        methods: recipes, edits and procedures, as `letheon.forget` takes them.
        out: folder for `compare.json`, `compare.html`, and `METHOD/` with the runs and the audit of each.
        budget: seconds for all runs together, in equal shares (audits are not counted); each method gets a run.
        reference: a model trained without the forget rows.
        parallel: methods that run at once; model and reference must then be names or folders.
        options: further options of `letheon.forget` for every run, such as `steps` or `batch_size`.

    Raises:
        InputError: before a model is loaded, for what cannot work.
    """
    from letheon.compare.page import render_comparison

    recipes = read_methods(methods, request)
    criteria = load_profile(profile)
    _check([name for name in (model, reference) if name is not None], parallel)
    for recipe in recipes.values():
        check_model(recipe, model)
    folder, clock = Path(out), time.monotonic()
    settings = {"budget": None, "seed": seed, "options": options, "rows": _rows(request)}
    with Run.begun(folder, settings, "a comparison with other rows, seed or options"):
        runner = Runner(model, request, folder, criteria, reference, seed, device, dict(options))
        lost = _at_once(runner, list(recipes), budget / len(recipes), profile, parallel) if parallel.several else {}
        entries, spent = [], 0.0
        for i, (text, recipe) in enumerate(recipes.items()):
            # what others left over is shared; a slow first run of one takes nothing from the next
            share = max(budget / len(recipes), (budget - spent) / (len(recipes) - i))
            entry = Entry(text, [], error=lost[text]) if text in lost else runner.enter(text, recipe, share)
            spent += sum(attempt.seconds for attempt in entry.attempts)
            entries.append(entry)
        comparison = Comparison(
            model=runner.name,
            request=request.id,
            entries=with_front(entries),
            before=runner.controls.get("before", {}),
            reference=runner.controls.get("reference"),
            budget=budget,
            seconds=round(time.monotonic() - clock, 1),
            seed=seed,
        )
        write_json(folder / "compare.json", comparison.to_json())
        atomic_write_text(folder / "compare.html", render_comparison(comparison))
    return comparison


def _check(models: Sequence[Model], parallel: Parallel) -> None:
    """Refuse models that cannot be loaded, or not by the processes of several jobs (`InputError`)."""
    for name in models:
        if not isinstance(name, LanguageModel):
            check_loadable(name)
        elif parallel.several:
            raise InputError("several jobs cannot share a model in memory", "give its name or folder, or use one job")


def _at_once(
    runner: Runner, methods: list[str], share: float, profile: str | Path, parallel: Parallel
) -> dict[str, str]:
    """Let processes fill the folders of the methods; return one problem per process that ended early."""
    rows = runner.folder / "request.json"
    runner.request.write(rows)
    arguments = {
        "model": str(runner.model),
        "request": str(rows),
        "folder": str(runner.folder),
        "share": share,
        "profile": str(profile),
        "reference": None if runner.reference is None else str(runner.reference),
        "seed": runner.seed,
        "device": runner.device,
        "options": runner.options,
    }
    tasks = [Task(text, f"{__name__}:enter_method", {**arguments, "method": text}) for text in methods]
    return {text: ended.problem for text, ended in run_tasks(tasks, parallel).items() if ended.problem}


def enter_method(method: str, request: str, folder: str, share: float, profile: str, **held: Any) -> None:
    """Run and audit one method of a comparison, in a process of its own; the results are in the method's folder.

    Args:
        held: the other attributes of the `Runner`.
    """
    rows = Request.read(request)
    runner = Runner(request=rows, folder=Path(folder), criteria=load_profile(profile), **held)
    for text, recipe in read_methods([method], rows).items():
        runner.enter(text, recipe, share)


def seconds_of(text: str) -> float:
    """A length of time such as `90s`, `20m`, `1.5h`, in seconds.

    >>> seconds_of("20m")
    1200.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise InputError(f"budget: found {text!r}", "write a time such as 90s, 20m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _rows(request: Request) -> str:
    rows = [[replace(row, id="") for row in getattr(request, name)] for name in ("forget", "retain")]
    return canonical_hash(rows)
