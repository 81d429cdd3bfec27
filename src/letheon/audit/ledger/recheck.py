"""Ask the newest model again for what earlier requests had removed: later training, rounding or a new deletion may
bring it back.

The ledger has no rows. They come from request files that the user still has, and are known by their commitments as
long as the request's key lives.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from letheon.audit.ledger.cases import OPEN, Case, cases
from letheon.audit.ledger.commitments import commitment
from letheon.audit.ledger.entry import Asked, Entry, ModelRef, Return
from letheon.audit.ledger.ledger_action import MEASURED
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.evidence import Value
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.forget.request import Request
from letheon.forget.sequences.queue import RETURNED

if TYPE_CHECKING:
    from letheon.core.model.models import LanguageModel

# Smaller rises are not spoken of: the same model on another processor differs by less.
NOTABLE = 0.01
RETURNS: tuple[Return, ...] = ("still gone", "higher, within the interval", "came back")

DESTROYED = "its key was destroyed: which rows it had can no longer be shown, so it cannot be asked again by rows"


@dataclass
class RecheckPlan:
    """Which requests can be asked again, with which rows, and why others cannot."""

    rows: dict[str, list[Example]] = field(default_factory=dict)
    not_asked: dict[str, str] = field(default_factory=dict)


def returned(then: Value, now: Value) -> Return:
    """Came back: above the upper end of what was recorded after the deletion.

    Where no interval was recorded (one row, a queue's sample), a rise counts as the queue itself counts it.
    """
    if then.value is None or now.value is None:
        return "still gone"
    limit = then.value + RETURNED if then.high is None else then.high
    if now.value > limit:
        return "came back"
    return "higher, within the interval" if now.value > then.value + NOTABLE else "still gone"


def plan(ledger: Ledger, files: Path, sample: int = 0, seed: int = 0) -> RecheckPlan:
    """Find the rows of earlier requests in request files.

    Args:
        files: a request.json, or a folder that is searched for `request*.json`.
        sample: at most so many requests, drawn by the seed; 0 takes all.

    Raises:
        InputError: the ledger has no carried-out request, or no request file is found.
    """
    done = [case for case in cases(ledger.entries()).values() if case.state not in OPEN and case.measured]
    if not done:
        raise InputError("the ledger has no request whose outcome was measured", "audit a deletion with --ledger first")
    if 0 < sample < len(done):
        drawn = random.Random(stream_seed(seed, "recheck")).sample(range(len(done)), sample)
        done = [done[i] for i in sorted(drawn)]
    pool = read_rows(files)
    found = RecheckPlan()
    for case in done:
        rows = matching(ledger, case, pool)
        if isinstance(rows, str):
            found.not_asked[case.request] = rows
        else:
            found.rows[case.request] = rows
    return found


def read_rows(files: Path) -> list[Example]:
    """The forget rows of a request file, or of all in a folder, each once.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    if files.is_file():
        return list(Request.read(files).forget)
    paths = sorted(files.rglob("request*.json")) if files.is_dir() else []
    if not paths:
        raise InputError(
            f"{files} holds no request*.json", "give --requests: a request.json, or a folder that has some"
        )
    rows: dict[tuple[str, str], Example] = {}
    for path in paths:
        for row in Request.read(path).forget:
            rows.setdefault((row.prompt, row.answer), row)
    return list(rows.values())


def matching(ledger: Ledger, case: Case, pool: Iterable[Example]) -> list[Example] | str:
    """The rows that a request had, known by their commitments; or why there are none."""
    for made in reversed(case.commitments):
        if (key := ledger.keys.get(made.key)) is not None:
            wanted = set(made.rows.get("forget", []))
            rows = [row for row in pool if commitment(key, row) in wanted]
            return rows or "none of its rows is in the given files"
    return DESTROYED


def recheck(ledger: Ledger, model: LanguageModel | str | Path, chosen: RecheckPlan, device: str = "auto") -> Entry:
    """Ask a model for the rows of a plan, compare with what was recorded, and record it.

    Raises:
        InputError: nothing in the plan can be asked.
    """
    from letheon.core.model.models import load

    if not chosen.rows:
        reasons = "; ".join(f"{request}: {reason}" for request, reason in chosen.not_asked.items())
        raise InputError(f"no request can be asked again ({reasons})", "give --requests with their request files")
    model = load(model, device=device)
    known = cases(ledger.entries())
    asked = [_ask(model, known[request], rows) for request, rows in chosen.rows.items()]
    ref = ModelRef(name=model.name, sha256=model.parameters_hash())
    return ledger.append("recheck", model=ref, asked=asked, not_asked=chosen.not_asked)


def _ask(model: LanguageModel, case: Case, rows: Sequence[Example]) -> Asked:
    """One request on the model as it is now."""
    from letheon.audit.measuring.evaluate import evaluate
    from letheon.audit.record.metric_table import as_value

    known = evaluate(model, rows, answers="recall" in case.measured)
    now = {
        name: as_value(known.estimate(name, 0), "there are no such rows") for name in MEASURED if name in case.measured
    }
    outcomes = [returned(case.measured[name], now[name]) for name in now]
    return Asked(
        request=case.request,
        rows=len(rows),
        of=len(case.commitments[-1].rows.get("forget", [])),
        then=case.measured,
        now=now,
        outcome=max(outcomes, key=RETURNS.index),
    )
