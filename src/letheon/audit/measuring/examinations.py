"""Examinations of the models before and reference, stored so that a second audit of a request asks them nothing.

A stored examination is named by a hash of the weights, the tokenizer, the plan (all rows and settings), Letheon's code
and the versions that compute. Files hold the rows and answers of the request: they lie in a folder that only the user
can read, the newest `MOST_FILES` of at most `MOST_DAYS` days; `letheon audit --no-cache` neither reads nor writes them,
nor does any command where `$LETHEON_EXAMINATIONS` is empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from transformers import GenerationMixin

from letheon.audit.measuring.findings import ModelFindings, Report, examine
from letheon.audit.plan import AuditPlan
from letheon.core.atomic import atomic_write_text, canonical_hash, plain
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, cache_folder
from letheon.core.runs import versions
from letheon.core.scoring.generation import stop_tokens
from letheon.core.workers import ALONE, Workers

MOST_FILES, MOST_DAYS = 32, 14
PACKAGE = Path(__file__).parents[2]
# Rooms whose code decides what an examination finds.
ROOMS = ("audit", "core", "probe", "retain", "steer")
# Learning a stream leaves arrays and is asked for rarely; it is not stored.
NOT_STORED = "continued"


def folder() -> Path | None:
    """Return the folder of stored examinations: `$LETHEON_EXAMINATIONS`, else `examinations` in Letheon's cache.

    It is None where that variable is empty: nothing is stored then.
    """
    given = os.environ.get("LETHEON_EXAMINATIONS")
    if given is None:
        return cache_folder() / "examinations"
    return Path(given) if given else None


def examine_once(model: LanguageModel, plan: AuditPlan, report: Report, workers: Workers = ALONE) -> ModelFindings:
    """Return the stored examination of this model by this plan, or examine it and store the result.

    Of several processes, process 0 reads and stores.
    """
    place = folder()
    own = type(model.base()).generate is not GenerationMixin.generate
    file: Path | None = None
    if place is not None and not own and plan.continuation is None:
        file = place / f"{key_of_examination(model, plan)}.json"
    stored = workers.from_main(lambda: _read(file) if file is not None else None)
    if stored is not None:
        for stage in stored.seconds:
            report(f"{stage} (stored)")
        return stored
    found = examine(model, plan, report, workers)
    if file is not None and workers.is_main:
        _write(file, found)
    return found


def key_of_examination(model: LanguageModel, plan: AuditPlan) -> str:
    """Return the hash of everything that decides what an examination finds."""
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    known = {
        "weights": model.parameters_hash(),
        "architecture": f"{type(model.base()).__qualname__} {model.base().config.to_json_string()}",
        "tokenizer": tokenizer.to_str() if tokenizer is not None else sorted(model.tokenizer.get_vocab().items()),
        "template": str(model.tokenizer.chat_template),
        "stops": stop_tokens(model),
        "name": [model.name, *model.notes],
        "device": model.device.type,
        "plan": plain(asdict(replace(plan, states_before=None))),
        "states before": [_hash_of(states) for states in plan.states_before or ()],
        "code": code_hash(),
        "versions": versions(),
    }
    return canonical_hash(known)


def _hash_of(states: Tensor) -> str:
    return hashlib.sha256(states.cpu().contiguous().numpy().tobytes()).hexdigest()


@cache
def code_hash() -> str:
    """Return the SHA-256 of the code of the rooms that measure, with their profiles and texts."""
    digest = hashlib.sha256()
    every = (path for room in ROOMS for path in (PACKAGE / room).rglob("*") if path.suffix in (".py", ".toml", ".txt"))
    for file in sorted(every):
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(ModelFindings)
    return {one.name: TypeAdapter(hints[one.name]) for one in fields(ModelFindings) if one.name != NOT_STORED}


def to_text(found: ModelFindings) -> str:
    """Return an examination as JSON text."""
    return json.dumps({name: one.dump_python(getattr(found, name), mode="json") for name, one in _adapters().items()})


def from_text(text: str) -> ModelFindings:
    """Read an examination that `to_text` wrote.

    Raises:
        ValueError: the text is none.
    """
    content = json.loads(text)
    return ModelFindings(**{name: one.validate_python(content[name]) for name, one in _adapters().items()})


def _read(file: Path) -> ModelFindings | None:
    """Read a stored examination; None where there is none, or one that cannot be read."""
    try:
        return from_text(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, ValidationError):
        return None


def _write(file: Path, found: ModelFindings) -> None:
    """Store an examination if it can be read back as it was; a folder that cannot be written is no fault."""
    text = to_text(found)
    if from_text(text) != found:
        return
    with contextlib.suppress(OSError, LetheonError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.parent.chmod(0o700)
        atomic_write_text(file, text)
        file.chmod(0o600)
        _prune(file.parent)


def _prune(place: Path) -> None:
    """Remove the oldest files beyond `MOST_FILES`, and those older than `MOST_DAYS`."""
    files = sorted(place.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    oldest = time.time() - MOST_DAYS * 86_400
    for number, file in enumerate(files):
        if number >= MOST_FILES or file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)
