"""The output of `letheon spillover`."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from letheon.audit.spillover.spillover import SpilloverReport
from letheon.printing.cells import CLOSE, cell, new_table, one_line, print_json
from letheon.report.numbers import number


def show_spillover(report: SpilloverReport, folder: Path | None, as_json: bool) -> None:
    """Print the refusals per domain before and after, and the conclusion."""
    if as_json:
        print_json(report.to_json())
        return
    console = Console()
    headings = ("domain", "before", "after", "complied", "incoherent", "similarity")
    table = new_table(f"Refusals, {len(report.answers)} prompts", *headings, **CLOSE)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    similarity = report.early_similarity()
    for domain, before in report.rates_before.items():
        after = report.rates_after[domain]
        shares = (cell(before.refuse), cell(after.refuse), cell(after.comply), cell(after.incoherent))
        table.add_row(Text(one_line(domain)), *shares, number(similarity[domain]) if domain in similarity else "")
    console.print(table)
    others = ", ".join(map(one_line, report.affected)) or "none"
    console.print(
        Text(f"unlearned: {one_line(report.unlearned)}. Other domains shown to have lost refusals: {others}.")
    )
    order = report.early
    if order.value is not None and order.p is not None:
        console.print(
            f"rank correlation of early similarity with the loss: {order.value:.2f} "
            f"(p = {order.p:.2g}, {order.n} domains)"
        )
    for note in report.notes:
        console.print(Text(f"note: {one_line(note)}", style="yellow"))
    if folder is not None:
        console.print(f"report: [bold]{escape(str(folder / 'spillover.html'))}[/]", soft_wrap=True)
