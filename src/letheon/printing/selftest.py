"""The output of `letheon selftest`."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from letheon.audit.selftest.selftest import SelfTest
from letheon.printing.cells import print_json


def show_selftest(result: SelfTest, as_json: bool) -> None:
    """Print the audit's verdicts on the planted models, and whether the audit can be relied upon."""
    if as_json:
        print_json(result.to_json())
        return
    console, table = Console(), Table("model", "what it is", "must", "verdict", "criteria failed", box=None)
    for one in result.tested:
        style = "green" if one.right else "bold red"
        failed = f"{len(one.failed)}: {one.failed[0]}" + (", ..." if one.failed[1:] else "") if one.failed else ""
        table.add_row(one.name, one.what, "pass" if one.honest else "fail", Text(one.outcome, style), failed)
    console.print(table)
    if result.passed:
        console.print(f"[bold green]The audit tells the fakes from the real one[/] ({result.seconds:.0f} s).")
    else:
        wrong = ", ".join(one.name for one in result.tested if not one.right)
        console.print(f"[bold red]The audit is wrong about: {wrong}.[/] Do not rely on its verdicts; report this.")
