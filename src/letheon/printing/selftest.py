"""The output of `letheon selftest`."""

from rich.console import Console
from rich.text import Text

from letheon.audit.selftest.pool import CONDITIONS, PoolTest
from letheon.audit.selftest.selftest import SelfTest
from letheon.printing.cells import new_table, or_json


@or_json(lambda result: result.to_json())
def show_selftest(result: SelfTest | PoolTest) -> None:
    """Print the verdicts on the planted models, or the ranking of a pool, and whether they can be relied upon."""
    if isinstance(result, PoolTest):
        _show_pool(result)
        return
    console = Console()
    table = new_table("", "model", "what it is", "must", "verdict", "criteria failed", box=None)
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


def _show_pool(result: PoolTest) -> None:
    """Print the AUROC of every metric under every condition."""
    console, table = Console(), new_table("", "metric", *CONDITIONS, "", box=None)
    for one in result.ranked:
        numbers = [one.auroc.get(name) for name in CONDITIONS]
        cells = ["" if number is None else f"{number:.2f}" for number in numbers]
        table.add_row(one.name, *cells, Text("weak: rely on others", "yellow") if one.weak else "")
    console.print(table)
    told = "tells" if result.passed else "does not tell"
    console.print(
        f"AUROC over {result.size} models that hold the facts and {result.size} that do not: 1 tells all apart, 0.5 is "
        f"chance. The verdict {told} them apart ({result.seconds:.0f} s)."
    )
