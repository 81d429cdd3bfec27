"""The output of `letheon audit`: key numbers, answers, verdict."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from letheon.audit.record.record import Audit, Metric
from letheon.printing.cells import cell, new_table, one_line, print_json, print_notes

VERDICT_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}

# metric, subset, its name for a reader
KEY_NUMBERS = (
    ("recall", "forget", "target: facts recalled"),
    ("attack:first_token_prefix", "", "target: recalled after the first token"),
    ("attack:text_begun", "", "target: recalled behind the beginning of a text"),
    ("probability", "forget", "target: probability of the old answer"),
    ("value_probability", "forget", "target: probability of the fact's tokens"),
    ("rouge_l_recall", "forget", "target: ROUGE-L recall"),
    ("fluency", "forget", "target: fluency of the answers (nats per token)"),
    ("recall", "retain", "others: facts recalled"),
    ("probability", "retain", "others: probability of the answer"),
    ("recall", "neighbours", "neighbours: facts recalled"),
    ("forget_quality", "forget", "forget quality (KS p-value)"),
    ("perplexity", "general", "general text: perplexity"),
)

# attribute of a continuation, its name for a reader
LEARNING_NUMBERS = (
    ("comes_back", "learning on: target's recall comes back by"),
    ("highest", "learning on: highest recall of the target"),
    ("kept_lost", "learning on: others' recall falls by"),
    ("kept_lowest", "learning on: lowest recall of the others"),
    ("stability_gap", "learning on: others' recall lost only on the way"),
)


def show_audit(record: Audit, folder: Path, as_json: bool) -> None:
    """Print an audit."""
    print_json(audit_json(record, folder)) if as_json else print_audit(Console(), record, folder)


def audit_json(record: Audit, folder: Path | None) -> dict[str, Any]:
    """Return the short form of a record: verdict, criteria, key numbers, paths. `audit.json` has everything."""
    return {
        "verdict": record.verdict.outcome,
        "words": record.verdict.words,
        "criteria": [
            {"name": outcome.criterion.name, "outcome": outcome.outcome, "words": outcome.words}
            for outcome in record.verdict.criteria
        ],
        "numbers": {
            f"{name} ({subset})" if subset else name: {
                role: value.model_dump() for role, value in _values(record, name, subset).items()
            }
            for name, subset, _ in KEY_NUMBERS
            if _values(record, name, subset)
        },
        "after_learning": {
            one.model: {name: getattr(one, name).model_dump() for name, _ in LEARNING_NUMBERS}
            for one in record.continued
        },
        "warnings": record.warnings,
        "report": str(folder / "report.html") if folder else None,
        "record": str(folder / "audit.json") if folder else None,
        "seconds": record.seconds,
    }


def _values(record: Audit, name: str, subset: str) -> dict[str, Any]:
    if name.startswith("attack:"):
        attack = next((attack for attack in record.attacks if attack.name == name.removeprefix("attack:")), None)
        found = {"before": attack.before, "after": attack.after, "reference": attack.reference} if attack else {}
        return {role: value for role, value in found.items() if value is not None}
    metrics: list[Metric] = [m for m in record.metrics if m.name == name and m.subset == subset]
    return {metric.model: metric.value for metric in metrics}


def print_audit(console: Console, record: Audit, folder: Path) -> None:
    """Print the table of key numbers, three answers, the verdict and the paths."""
    roles = [model.role for model in record.models]
    table = new_table("\nBefore and after", "", *roles, title_style="bold")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, subset, words in KEY_NUMBERS:
        values = _values(record, name, subset)
        if any(value.value is not None for value in values.values()):
            table.add_row(words, *(cell(values.get(role)) for role in roles))
    learned = {one.model: one for one in record.continued}
    for name, words in LEARNING_NUMBERS if learned else ():
        table.add_row(words, *(cell(getattr(learned[role], name)) if role in learned else "-" for role in roles))
    console.print(table)
    _print_answers(console, record)
    outcome = record.verdict.outcome
    style = VERDICT_STYLES[outcome]
    console.print(Panel(record.verdict.words, title=Text(outcome.upper(), style=style), border_style=style))
    print_notes(console, record.warnings)
    console.print(
        f"report: [bold]{escape(str(folder / 'report.html'))}[/]   record: {escape(str(folder / 'audit.json'))}"
    )


def _print_answers(console: Console, record: Audit, rows: int = 3) -> None:
    title, headings = "\nThree answers about the target", ("asked", "before", "after", "kind")
    table = new_table(title, *headings, title_style="bold", show_lines=True)
    for answer in [answer for answer in record.answers if answer.subset == "forget"][:rows]:
        # texts of models and users are data, not markup
        table.add_row(*(Text(one_line(text)) for text in (answer.prompt, answer.before, answer.after)), answer.kind)
    console.print(table)
