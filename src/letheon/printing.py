"""What the commands print: rich pages for people, one JSON object for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from letheon.audit.record import Audit, Metric
    from letheon.audit.selftest import SelfTest
    from letheon.audit.spillover import SpilloverReport
    from letheon.compare.record import Comparison
    from letheon.demo import Demo
    from letheon.forget.settings import Result
    from letheon.measure.bench import Bench
    from letheon.retain.compare import StrategyComparison
    from letheon.retain.learn import Learned

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


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


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


def show_plan(plan: dict[str, Any], as_json: bool) -> None:
    """What would be done."""
    if as_json:
        print_json(plan)
        return
    table = Table(title="What would be done (nothing was written)", show_header=False, box=None, title_justify="left")
    for name, value in plan.items():
        table.add_row(
            f"[dim]{name}", Text(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value))
        )
    Console().print(table)


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
            table.add_row(words, *(_cell(values.get(role)) for role in roles))
    learned = {one.model: one for one in record.continued}
    for name, words in LEARNING_NUMBERS if learned else ():
        table.add_row(words, *(_cell(getattr(learned[role], name)) if role in learned else "-" for role in roles))
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


def _cell(value: Any) -> str:
    if value is None or value.value is None:
        return "-"
    number = f"{value.value:.3g}"
    return number if value.low is None else f"{number} [dim]({value.low:.2g}..{value.high:.2g})"


def _print_answers(console: Console, record: Audit, rows: int = 3) -> None:
    table = Table(title="\nThree answers about the target", title_justify="left", title_style="bold", show_lines=True)
    for heading in ("asked", "before", "after", "kind"):
        table.add_column(heading, overflow="fold")
    for answer in [answer for answer in record.answers if answer.subset == "forget"][:rows]:
        # texts of models and users are data, not markup
        table.add_row(*(Text(_shown(text)) for text in (answer.prompt, answer.before, answer.after)), answer.kind)
    console.print(table)


def _shown(text: str, most: int = 160) -> str:
    """A text of a model or user made fit for a terminal: one line, no control characters, not too long."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def show_comparison(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """The table of a comparison: the choice of each method, what is gone, what is kept."""
    if as_json:
        print_json({**comparison.to_json(), "report": str(folder / "compare.html")})
        return
    from letheon.report.numbers import number

    table = Table(title=f"{len(comparison.entries)} methods on request {comparison.request}")
    columns = ("forget extraction strength", "relearned", "4-bit recall", "retain utility", "damaged answers")
    for name in ("method", "verdict", "rate", *columns):
        table.add_column(name, overflow="fold")
    for entry in comparison.entries:
        rate = f"{entry.chosen.learning_rate:.2g}" if entry.chosen and entry.chosen.learning_rate else ""
        numbers = [number(entry.numbers.get(name)) if entry.numbers else "" for name in columns]
        name = f"{entry.method} *" if entry.best else entry.method
        table.add_row(name, entry.error or entry.outcome, rate, *numbers)
    for name, found in (("before", comparison.before), ("reference", comparison.reference)):
        if found is not None:
            table.add_row(f"[dim]{name}", "", "", *(number(found.get(column)) for column in columns))
    console = Console()
    console.print(table)
    console.print("* no other method both forgets more (extraction strength) and keeps more (utility)")
    console.print(f"report: {folder / 'compare.html'}   numbers: {folder / 'compare.json'}", soft_wrap=True)


def show_bench(found: Bench, folder: Path, as_json: bool) -> None:
    """The table of a bench: a row a model, the field's columns."""
    if as_json:
        print_json({**found.to_json(), "report": str(folder / "bench.html")})
        return
    from letheon.report.numbers import number

    table = Table(title=f"{found.benchmark} {found.split}")
    for heading in ("model", *found.columns):
        table.add_column(heading, overflow="fold")
    for one in found.models:
        if one.scores is None:
            table.add_row(Text(one.name), Text(one.error))
            continue
        known = {score.name: score.estimate.value for score in one.scores.scores}
        shown = [known.get(name) for name in found.columns]
        table.add_row(Text(one.name), *("" if value is None else number(value) for value in shown))
    console = Console()
    console.print(table)
    console.print(f"report: {folder / 'bench.html'}   numbers: {folder / 'bench.json'}", soft_wrap=True, markup=False)


def show_learned(learned: Learned, as_json: bool) -> None:
    """The matrix and the metrics of a run of `letheon learn`."""
    if as_json:
        folder = str(learned.folder) if learned.folder else None
        print_json({**learned.to_json(), "matrix": learned.matrix.tolist(), "folder": folder})
        return
    from letheon.report.numbers import number

    table = Table(title=f"{learned.strategy} on {learned.stream}: accuracy", title_justify="left")
    for heading in ("after", *learned.tasks):
        table.add_column(Text(_shown(heading, 24)), overflow="fold")
    for name, row in zip(["(before)", *learned.tasks], learned.matrix, strict=True):
        table.add_row(Text(_shown(name, 24)), *(number(float(value)) for value in row))
    console = Console()
    console.print(table)
    for name, value in learned.metrics.items():
        console.print(f"[dim]{name}[/] {number(value)}")
    if learned.folder is not None:
        console.print(
            f"report: {learned.folder / 'learn.html'}   numbers: {learned.folder / 'learned.json'}", soft_wrap=True
        )


def show_strategies(found: StrategyComparison, folder: Path, as_json: bool) -> None:
    """The table of a comparison of strategies."""
    if as_json:
        print_json({**found.to_json(), "report": str(folder / "compare.html")})
        return
    from letheon.report.learning import SHOWN

    table = Table(title=f"{found.stream}, {found.scenario}-incremental, {len(found.seeds)} seeds", title_justify="left")
    for heading in ("strategy", *SHOWN):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        cells = [_cell(entry.metrics.get(name)) for name in SHOWN]
        table.add_row(Text(entry.strategy), *([Text(f"did not run: {entry.error}")] if entry.error else cells))
    console = Console()
    console.print(table)
    console.print(f"report: {folder / 'compare.html'}   numbers: {folder / 'compare.json'}", soft_wrap=True)


def show_methods(kind: str, as_json: bool) -> None:
    """The parts of a recipe."""
    from typing import get_args

    from letheon.core.errors import InputError, nearest
    from letheon.core.registry import Kind, methods
    from letheon.forget.recipe import NAMED
    from letheon.papers.catalogue import method_badge

    if kind and kind not in get_args(Kind):
        raise InputError(f"no kind {kind!r}", nearest(kind, list(get_args(Kind))))
    found = methods(kind or None)  # type: ignore[arg-type]  # checked above
    if as_json:
        print_json(
            [
                {
                    "name": method.name,
                    "kind": method.kind,
                    "summary": method.summary,
                    "needs": sorted(method.needs),
                    "wants": sorted(method.wants),
                    "paper": method.paper,
                    "badge": method_badge(method.name),
                }
                for method in found
            ]
        )
        return
    table = Table(title="Parts of a recipe", title_justify="left", show_lines=False, box=None, padding=(0, 1))
    for heading in ("part", "name", "badge", "paper"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it does, what it needs")
    for method in found:
        words = {"needs": method.needs, "better with": method.wants}
        needs = "".join(f" [dim]{word} {', '.join(sorted(names))}" for word, names in words.items() if names)
        table.add_row(
            method.kind, f"[bold]{method.name}", method_badge(method.name), method.paper or "", method.summary + needs
        )
    console = Console()
    console.print(table)
    console.print(Text("\nOBJECTIVE[+UPDATE][@SCOPE][%SAMPLER], each NAME[=VALUE][:OPTION=VALUE,...]", style="dim"))
    console.print("[dim]named recipes: " + ", ".join(f"{name} = {recipe}" for name, recipe in NAMED.items()))


def methods_markdown() -> str:
    """The parts of a recipe as the table that the README holds."""
    from letheon.core.registry import methods
    from letheon.papers.catalogue import method_badge

    lines = ["| part | name | what it does | badge | paper |", "| --- | --- | --- | --- | --- |"]
    for method in methods():
        paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else ""
        lines.append(f"| {method.kind} | `{method.name}` | {method.summary} | {method_badge(method.name)} | {paper} |")
    return "\n".join(lines)


def show_doctor(facts: dict[str, Any], as_json: bool) -> None:
    """Versions, speed, models, extras."""
    if as_json:
        print_json(facts)
        return
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in facts["versions"].items():
        table.add_row(f"[dim]{name}", value)
    table.add_row("[dim]device", f"{facts['device']}, {facts['cores']} cores, {facts['threads']} threads")
    speeds = ", ".join(f"{name} {speed} GFLOP/s" for name, speed in facts["gflops"].items())
    table.add_row("[dim]matrix products", f"{speeds}: precision auto is {facts['precision']} here")
    table.add_row("[dim]letheon demo", f"about {facts['demo_minutes']} minutes")
    models = ", ".join(facts["cache"]["models"]) or "none"
    table.add_row("[dim]cached models", f"{models} in {facts['cache']['folder']} ({facts['disk_free_gb']} GB free)")
    for name, extra in facts["extras"].items():
        state = "[green]installed" if extra["installed"] else "[dim]not installed"
        table.add_row(f"[dim]extra {name}", f"{state}[/]: {extra['unlocks']}")
    console.print(table)
    for line in facts["advice"]:
        console.print(f"[yellow]note:[/] {escape(line)}")


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
        shares = (_cell(before.refuse), _cell(after.refuse), _cell(after.comply), _cell(after.incoherent))
        table.add_row(Text(_shown(domain)), *shares, number(similarity[domain]) if domain in similarity else "")
    console.print(table)
    others = ", ".join(map(_shown, report.affected)) or "none"
    console.print(Text(f"unlearned: {_shown(report.unlearned)}. Other domains that lost refusals: {others}."))
    order = report.early
    if order.value is not None and order.p is not None:
        console.print(
            f"rank correlation of early similarity with the loss: {order.value:.2f} "
            f"(p = {order.p:.2g}, {order.n} domains)"
        )
    for note in report.notes:
        console.print(Text(f"note: {_shown(note)}", style="yellow"))
    if folder is not None:
        console.print(f"report: [bold]{escape(str(folder / 'spillover.html'))}[/]", soft_wrap=True)
