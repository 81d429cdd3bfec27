"""The output of `letheon measure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from letheon.printing.cells import new_table, one_line, or_json, print_json
from letheon.report.numbers import interval, number

if TYPE_CHECKING:
    from letheon.measure.measurement import Measurement
    from letheon.measure.run import ScoreDifference


def show_measurement(result: Measurement, out: Path | None, as_json: bool) -> None:
    """Print a row per score of the table, then the remarks."""
    if as_json:
        print_json({**result.to_json(), "report": str(out / "measure.html") if out else None})
        return
    title = Text(f"{result.measure}: {one_line(result.model)}")
    table = new_table(title, "score", "value", "95 % interval", "items")
    for score in result.scores.scores:
        if score.name in result.columns:
            estimate = score.estimate
            value = Text(number(estimate.value) if estimate.value is not None else score.why or "none")
            table.add_row(Text(score.name), value, interval(estimate), str(estimate.n))
    console = Console()
    console.print(table)
    for note in result.scores.notes:
        console.print(Text(note))
    if out:
        console.print(f"report: {out / 'measure.html'}   items: {out / 'items.jsonl'}", soft_wrap=True, markup=False)


@or_json(lambda rows: [asdict(row) for row in rows])
def show_run_comparison(rows: Sequence[ScoreDifference]) -> None:
    """Print a row per score of both runs."""
    headings = ("score", "first", "second", "difference", "95 % interval", "p", "items")
    table = new_table("second minus first, over the items of both", *headings)
    for row in rows:
        shown = [number(value) if value is not None else "-" for value in (row.first, row.second, row.value)]
        p = "-" if row.p is None else number(row.p)
        table.add_row(Text(row.name), *shown, interval(row) if row.low is not None else "-", p, str(row.n))
    Console().print(table)


def show_tasks(names: Sequence[str], folder: Path, as_json: bool) -> None:
    """Print the names of the exported tasks and how the harness runs them."""
    if as_json:
        print_json({"folder": str(folder), "tasks": list(names)})
        return
    console = Console()
    console.print(f"{len(names)} tasks in {folder}: {', '.join(names)}", soft_wrap=True, markup=False)
    command = f"lm_eval --model hf --model_args pretrained=MODEL --include_path {folder} --tasks {','.join(names)}"
    console.print(f"{command} --apply_chat_template", soft_wrap=True, markup=False)
