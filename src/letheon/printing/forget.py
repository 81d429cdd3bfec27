"""The output of `letheon forget`."""

from typing import Any

from rich.console import Console
from rich.markup import escape

from letheon.jobs.forget import Forgotten
from letheon.printing.audit import audit_json, print_audit
from letheon.printing.cells import print_json, print_notes


def forget_json(done: Forgotten) -> dict[str, Any]:
    """Return the facts of a run and its audit as a dictionary."""
    result, record = done.result, done.record
    return {
        "folder": str(result.folder),
        "model": str(result.folder / "model") if result.folder else None,
        "steps": result.outcome.steps,
        "stopped": result.outcome.stopped,
        **({"stages": result.stages} if result.stages else {}),
        "moved": result.moved,
        "seconds": round(result.outcome.seconds, 2),
        "warnings": result.warnings,
        "audit": audit_json(record, result.folder) if record else None,
    }


def show_forget(done: Forgotten, as_json: bool) -> None:
    """Print the steps that were taken, and the audit."""
    result, record = done.result, done.record
    if as_json:
        print_json(forget_json(done))
        return
    console = Console()
    console.print(
        f"{result.outcome.steps} steps, {result.outcome.stopped}; model in {escape(str(result.folder))}/model"
    )
    print_notes(console, result.warnings)
    if record is not None and result.folder is not None:
        print_audit(console, record, result.folder)
