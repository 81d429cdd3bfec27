"""The output of `letheon demo`."""

from rich.console import Console
from rich.markup import escape

from letheon.jobs.demo import Demo
from letheon.printing.audit import audit_json, print_audit
from letheon.printing.cells import print_json


def show_demo(demo: Demo, as_json: bool) -> None:
    """Print the audit, and the commands to go on with."""
    if as_json:
        print_json(
            {
                **audit_json(demo.record, demo.folder),
                "taught_recall": demo.taught_recall,
                "stopped": demo.result.outcome.stopped,
                "seconds": demo.seconds,
            }
        )
        return
    console = Console()
    total = sum(demo.seconds.values())
    outcome = demo.result.outcome
    console.print(
        f"\n{demo.taught_recall:.0%} of the taught facts are recalled before the deletion. {total:.0f} s in all.\n"
        f"Forgetting took {outcome.steps} steps: {escape(outcome.stopped)}."
    )
    print_audit(console, demo.record, demo.folder)
    has_reference = any(model.role == "reference" for model in demo.record.models)
    reference = f" --reference {escape(str(demo.folder))}/reference" if has_reference else ""
    console.print(
        f"[dim]audit again: letheon audit {escape(str(demo.folder))}/before {escape(str(demo.folder))}/run/model "
        f"--request {escape(str(demo.folder))}/run/request.json{reference}\n"
        "your own data: letheon forget MODEL --forget rows.jsonl --retain keep.jsonl --out run/"
    )
