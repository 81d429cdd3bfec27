"""The output of `letheon learn`."""

from rich.console import Console
from rich.text import Text

from letheon.printing.cells import CLOSE, new_table, one_line, print_files, print_json
from letheon.report.numbers import number
from letheon.retain.learned import Learned


def show_learned(learned: Learned, as_json: bool) -> None:
    """Print accuracy and loss per task after each task, and the metrics."""
    if as_json:
        folder = str(learned.folder) if learned.folder else None
        print_json({**learned.to_json(), "matrix": learned.matrix.tolist(), "folder": folder})
        return
    console = Console()
    for what, unit in (("accuracy", ""), ("loss", ", nats")):
        title = f"{learned.strategy} on {learned.stream}: {what}{unit}"
        headings = [Text(one_line(heading, 60)) for heading in ("after", *learned.tasks)]
        table = new_table(Text(one_line(title, 100)), *headings, **CLOSE)
        for name, row in zip(["(before)", *learned.tasks], learned.curve.matrix(what), strict=True):
            table.add_row(Text(one_line(name, 60)), *(number(float(value)) for value in row))
        console.print(table)
    for name, value in learned.metrics.items():
        console.print(f"[dim]{name}[/] {number(value)}")
    if learned.folder is not None:
        print_files(console, learned.folder / "learn.html", learned.folder / "learned.json")
