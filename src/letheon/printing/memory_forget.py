"""The output of `letheon memory forget` with a ledger or a model."""

from __future__ import annotations

from dataclasses import asdict

from letheon.jobs.memory_forget import ErasedEverywhere
from letheon.printing.cells import print_json
from letheon.printing.forget import forget_json, show_forget
from letheon.printing.memory import erasure_json, show_erasure


def show_both(done: ErasedEverywhere, as_json: bool) -> None:
    """Print the erasure from the memory and, where a model forgot the same, its run and audit."""
    forgotten = done.forgotten
    if as_json:
        model = forget_json(forgotten) if forgotten else None
        print_json(
            {
                **erasure_json(done.proof),
                "meanwhile": asdict(done.meanwhile),
                "quoted_in": done.quoted_in,
                "model": model,
            }
        )
        return
    show_erasure(done.proof, as_json)
    later = done.meanwhile
    if later.erased:
        print(f"erased as well, without a row for a model: {_numbers(later.erased)}, derived from them meanwhile")
    if later.staying:
        print(f"about the subject, came meanwhile and STAY: {_numbers(later.staying)}; give the command again")
    if forgotten is not None:
        show_forget(forgotten, as_json)
    for folder in done.quoted_in:
        print(f"{folder} STILL QUOTES what was erased from the memory: delete it, but for model/, once it was read")


def _numbers(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
