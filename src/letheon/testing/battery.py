"""`check_method`: the battery that every registered method must pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.core.registry import Kind, find
from letheon.forget.recipe import Recipe
from letheon.testing import checks, steerings, strategies
from letheon.testing.samples import save_random_adapter
from letheon.testing.trial import CheckFailed, MethodTrial, recipe_of


def check_method(
    name: str, kind: Kind = "objective", *, options: Mapping[str, Any] | None = None, quick: bool = False
) -> None:
    """Run the battery on a registered method: it runs, keeps to its scope, repeats, saves, splits and resumes.

    Args:
        name: as registered.
        kind: what it is registered as; all parts of recipes but an objective are composed with `npo`.
        options: one option set; without it, every option set that the method declares as `tiny`.
        quick: leave out the promises that rest on what all option sets share: repeating, the seed, saving, resuming.

    Raises:
        CheckFailed: names the method, the promise that it broke, and the observation.
        InputError: no method of that kind has the name.
    """
    record = find(kind, name)
    for one in record.tiny if options is None else (options,):
        if kind == "strategy":
            for trial in strategies.trials(name, one):
                _check_all(trial, strategies.CHECKS, f"strategy {trial.text} ({trial.kind})")
            continue
        if kind == "steering":
            fitted = steerings.SteeringTrial(name, one)
            _check_all(fitted, steerings.CHECKS, f"steering {fitted.text}")
            continue
        recipe = recipe_of(name, kind, one)
        by_seed = checks.check_other_seed_differs if record.seeded else checks.check_ignores_the_seed
        repeats = [] if quick else [checks.check_repeats, by_seed]
        chosen: list[Callable[[MethodTrial], None]]
        if isinstance(recipe, Recipe):
            chosen = [checks.check_runs, checks.check_keeps_to_its_scope, *repeats, checks.check_splits_agree]
            lasting = [checks.check_saves, checks.check_resumes]
        else:
            chosen = [checks.check_edits, checks.check_changes_what_it_says, *repeats]
            lasting = [checks.check_saves, checks.check_restarts]
        if not quick:
            chosen += [*lasting, *([checks.check_turns] if record.turns else [])]
        with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
            start = save_random_adapter(Path(scratch) / "adapter") if record.adapter else "tiny"
            _check_all(MethodTrial(recipe, start), chosen, f"{kind} {name} ({recipe})")


def _check_all(trial: Any, chosen: Sequence[Callable[[Any], None]], what: str) -> None:
    for check in chosen:
        promise = (check.__doc__ or "").strip().splitlines()[0].rstrip(".")
        try:
            check(trial)
        except CheckFailed as failure:
            raise CheckFailed(f"{what}: broken promise: {promise}: {failure.problem}", failure.remedy) from None
        except InputError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{what}: broken promise: {promise}: {type(error).__name__}: {error}",
                "the cause is the exception above",
            ) from error
