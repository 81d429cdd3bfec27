"""Pages about one model and its audit: forgetting, the audit, the demo, the self-test, spillover."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from letheon.printing.cells import cell, one_line, print_json, show_plan

if TYPE_CHECKING:
    from letheon.audit.record.record import Audit, Metric
    from letheon.audit.selftest.selftest import SelfTest
    from letheon.audit.spillover.spillover import SpilloverReport
    from letheon.demo import Demo
    from letheon.forget.settings import Result

VERDICT_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}

# metric, subset, what a reader calls it
KEY_NUMBERS = (
    ("recall", "forget", "target: facts recalled"),
    ("attack:first_token_prefix", "", "target: recalled after the first token"),
    ("probability", "forget", "target: probability of the old answer"),
    ("value_probability", "forget", "target: probability of the fact's tokens"),
    ("rouge_l_recall", "forget", "target: ROUGE-L recall"),
    ("fluency", "forget", "target: fluency of the answers (nats a token)"),
    ("recall", "retain", "others: facts recalled"),
    ("probability", "retain", "others: probability of the answer"),
    ("recall", "neighbours", "neighbours: facts recalled"),
    ("forget_quality", "forget", "forget quality (KS p-value)"),
    ("perplexity", "general", "general text: perplexity"),
)

# the same of what continued learning brings back
LEARNING_NUMBERS = (
    ("comes_back", "learning on: target's recall comes back by"),
    ("highest", "learning on: highest recall of the target"),
    ("kept_lost", "learning on: others' recall falls by"),
    ("kept_lowest", "learning on: lowest recall of the others"),
    ("stability_gap", "learning on: others' recall lost only on the way"),
)


def show_demo_plan(out: Path, quick: bool, as_json: bool) -> None:
    """What the demo would do."""
    from letheon.demo import EPOCHS, METHOD, STEPS, TARGET
    from letheon.demo_world import PEOPLE

    plan = {
        "model": "smollm2",
        "people": len(PEOPLE),
        "facts": 5 * len(PEOPLE),
        "epochs": EPOCHS,
        "target": TARGET,
        "reference": not quick,
        "method": METHOD,
        "steps": STEPS,
        "out": str(out),
    }
    show_plan(plan, as_json)


def show_demo(demo: Demo, as_json: bool) -> None:
    """Table, three answers, verdict, paths."""
    if as_json:
        print_json(
            {**audit_json(demo.record, demo.folder), "taught_recall": demo.taught_recall, "seconds": demo.seconds}
        )
        return
    console = Console()
    total = sum(demo.seconds.values())
    console.print(
        f"\n{demo.taught_recall:.0%} of the taught facts are recalled before the deletion. {total:.0f} s in all."
    )
    _print_audit(console, demo.record, demo.folder)
    has_reference = any(model.role == "reference" for model in demo.record.models)
    reference = f" --reference {escape(str(demo.folder))}/reference" if has_reference else ""
    console.print(
        f"[dim]audit again: letheon audit {escape(str(demo.folder))}/before {escape(str(demo.folder))}/run/model "
        f"--request {escape(str(demo.folder))}/run/request.json{reference}\n"
        "your own data: letheon forget MODEL --forget rows.jsonl --retain keep.jsonl --out run/"
    )


def show_forget(result: Result, record: Audit | None, as_json: bool) -> None:
    """What forgetting did, and its audit."""
    if as_json:
        found = {
            "folder": str(result.folder),
            "model": str(result.folder / "model") if result.folder else None,
            "steps": result.outcome.steps,
            "stopped": result.outcome.stopped,
            "moved": result.moved,
            "seconds": round(result.outcome.seconds, 2),
            "warnings": result.warnings,
        }
        print_json({**found, "audit": audit_json(record, result.folder) if record else None})
        return
    console = Console()
    console.print(
        f"{result.outcome.steps} steps, {result.outcome.stopped}; model in {escape(str(result.folder))}/model"
    )
    for warning in result.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}")
    if record is not None and result.folder is not None:
        _print_audit(console, record, result.folder)


def show_audit(record: Audit, folder: Path, as_json: bool) -> None:
    """An audit."""
    print_json(audit_json(record, folder)) if as_json else _print_audit(Console(), record, folder)


def audit_json(record: Audit, folder: Path | None) -> dict[str, Any]:
    """The short form: verdict, criteria, key numbers, paths. `audit.json` has everything."""
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


def _print_audit(console: Console, record: Audit, folder: Path) -> None:
    roles = [model.role for model in record.models]
    table = Table(title="\nBefore and after", title_justify="left", title_style="bold")
    table.add_column("")
    for role in roles:
        table.add_column(role, justify="right")
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
    for warning in record.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}")
    console.print(
        f"report: [bold]{escape(str(folder / 'report.html'))}[/]   record: {escape(str(folder / 'audit.json'))}"
    )


def _print_answers(console: Console, record: Audit, rows: int = 3) -> None:
    table = Table(title="\nThree answers about the target", title_justify="left", title_style="bold", show_lines=True)
    for heading in ("asked", "before", "after", "kind"):
        table.add_column(heading, overflow="fold")
    for answer in [answer for answer in record.answers if answer.subset == "forget"][:rows]:
        # texts of models and users are data, not markup
        table.add_row(*(Text(one_line(text)) for text in (answer.prompt, answer.before, answer.after)), answer.kind)
    console.print(table)


def show_selftest(found: SelfTest, as_json: bool) -> None:
    """What the audit said of the planted models, and whether it may be relied upon."""
    if as_json:
        print_json(found.to_json())
        return
    console, table = Console(), Table("model", "what it is", "must", "verdict", "criteria failed", box=None)
    for one in found.tested:
        style = "green" if one.right else "bold red"
        failed = f"{len(one.failed)}: {one.failed[0]}" + (", ..." if one.failed[1:] else "") if one.failed else ""
        table.add_row(one.name, one.what, "pass" if one.honest else "fail", Text(one.outcome, style), failed)
    console.print(table)
    if found.passed:
        console.print(f"[bold green]The audit tells the fakes from the real one[/] ({found.seconds:.0f} s).")
    else:
        wrong = ", ".join(one.name for one in found.tested if not one.right)
        console.print(f"[bold red]The audit is wrong about: {wrong}.[/] Do not rely on its verdicts; report this.")


def show_spillover(report: SpilloverReport, folder: Path | None, as_json: bool) -> None:
    """What each domain refused before and after, and what to make of it."""
    if as_json:
        print_json(report.to_json())
        return
    from letheon.report.numbers import number

    console = Console()
    table = Table(title=f"Refusals, {len(report.answers)} prompts", title_justify="left")
    for heading in ("domain", "before", "after", "complied", "incoherent", "similarity"):
        table.add_column(heading, justify="left" if heading == "domain" else "right")
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
