"""The output of `letheon papers`: the list, the page of one paper, the page of one outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from letheon.core.errors import InputError
from letheon.papers import catalogue
from letheon.papers.catalogue import Outcome, Paper, Scale, paper, papers
from letheon.papers.folder import write_outcome
from letheon.papers.outcome import check_recordable, readable

COLOURS = {
    "holds": "green",
    "fails": "red",
    "inconclusive": "yellow",
    "planned": "dim",
    "untested": "yellow",
    "runs": "cyan",
    "reconstructed": "magenta",
    "faithful": "blue",
    "reproduced": "green",
}
CAPTION = "* judged by an earlier rule; `letheon papers show KEY` names it"


def list_papers(as_json: bool = False) -> None:
    """Print every paper with its badge and its recorded verdict."""
    _print_json(listing_json()) if as_json else Console().print(listing())


def show_paper(key: str | int, as_json: bool = False) -> None:
    """Print the page of one paper, given its key, number or arXiv identifier."""
    entry = paper(key)
    _print_json(paper_json(entry)) if as_json else Console().print(paper_page(entry))


def run_paper(
    key: str | int, scale: Scale, as_json: bool = False, record: bool = False, out: Path | None = None
) -> Outcome:
    """Run a paper's claim, print its outcome, and save it with its figures under `out`.

    Args:
        key: key, number or arXiv identifier.
        scale: fast or full, which seeds, which device.
        as_json: print the outcome as JSON instead of a page.
        record: also store it in the catalogue's results.
        out: folder for `outcome.json`, `rows.json`, the figures and `index.html`; by default
            `letheon-papers/KEY`.

    Raises:
        InputError: the paper is planned and cannot be run, `out` cannot be a folder, or a verdict on another model is
            to be recorded.
    """
    entry = paper(key)
    if entry.planned:
        runnable = ", ".join(other.key for other in papers() if not other.planned) or "none yet"
        raise InputError(f"paper {entry.key!r} is planned and cannot be run", f"can be run: {runnable}")
    if record:
        check_recordable(scale.model)
    folder = Path("letheon-papers") / entry.key if out is None else out
    try:  # before the work, so that hours are not lost to a mistyped path
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be a folder: {error.strerror}", "choose another --out") from error

    outcome = entry.reproduce(scale)
    write_outcome(outcome, entry, folder)
    if record:
        catalogue.record(outcome, scale)
    if as_json:
        _print_json(outcome.to_json())
    else:
        Console().print(outcome_page(outcome), Text(f"\nsaved in {folder}", style="dim"))
    return outcome


def listing_json() -> list[dict[str, Any]]:
    """One dictionary per paper; `verdict` and `rule` are None where nothing has been recorded."""
    evidence, results = catalogue.read_evidence(), catalogue.read_results()
    return [
        {
            **{name: getattr(entry, name) for name in ("number", "key", "title", "room")},
            "badge": catalogue.badge(entry, evidence, results),
            "verdict": results.get(entry.key, {}).get("verdict"),
            "rule": catalogue.rule_of(results[entry.key]) if entry.key in results else None,
            "current": entry.key in results and catalogue.is_current(results[entry.key]),
        }
        for entry in papers()
    ]


def listing() -> Table:
    """The papers as a table, one line each; on a narrow screen only titles and rooms are cut."""
    lines = [
        {name: str(value or "-") for name, value in line.items() if name not in ("rule", "current")}
        | {"verdict": _marked(line)}
        for line in listing_json()
    ]
    # made without `new_table`, which breaks long titles into lines
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), expand=True, caption=CAPTION)
    for name in ("number", "key", "title", "room", "badge", "verdict"):
        heading = "" if name == "number" else name
        if name in ("title", "room"):
            share = 3 if name == "title" else 2
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=share)
        else:
            widest = max(len(text) for text in [heading, *(line[name] for line in lines)])
            table.add_column(heading, width=widest, no_wrap=True, justify="right" if name == "number" else "left")
    for line in lines:
        table.add_row(*(_coloured(text) for text in line.values()))
    return table


def _marked(line: dict[str, Any]) -> str:
    """The verdict of a line of the listing, with a star where an earlier rule gave it."""
    return f"{line['verdict'] or '-'}{'*' if line['verdict'] and not line['current'] else ''}"


def papers_markdown() -> str:
    """The papers as the table of `docs/papers.md`: title with link, use and what was inferred, badge, verdict."""
    lines = ["| | key | paper | gives | badge | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    for entry, facts in zip(papers(), listing_json(), strict=True):
        title = f"[{entry.title}](https://arxiv.org/abs/{entry.arxiv})" if entry.arxiv else entry.title
        gives = f"{entry.gives} Inferred: {entry.inferred}." if entry.inferred else entry.gives
        lines.append(
            f"| {entry.number} | `{entry.key}` | {title} | {gives} "
            f"| {facts['badge']} | {_marked(facts).removeprefix('-')} |"
        )
    return "\n".join(lines)


def paper_json(entry: Paper) -> dict[str, Any]:
    """Every field of the catalogue for one paper, with badges; `result` is None where nothing has been recorded."""
    cited = {name: getattr(entry, name) for name in ("number", "key", "title", "date", "arxiv")}
    told = {name: getattr(entry, name) for name in ("room", "gives", "claim")}
    return {
        **cited,
        "authors": list(entry.authors),
        "abstract": entry.abstract,
        "links": dict(entry.links),
        **told,
        "methods": {name: catalogue.method_badge(name) for name in entry.methods},
        "inferred": entry.inferred,
        "scales": ["fast", "full"] if entry.full else ["fast"],
        "seeds": entry.seeds,
        "pretrained": list(entry.pretrained),
        "badge": catalogue.badge(entry),
        "why": catalogue.badge_reason(entry),
        "result": catalogue.read_results().get(entry.key),
    }


def paper_page(entry: Paper) -> RenderableType:
    """Citation, abstract, use, claim, methods, links, badge with its reason, recorded result."""
    facts = paper_json(entry)
    cited = [f"arXiv {entry.arxiv}" if entry.arxiv else None, entry.date]
    methods = ", ".join(f"{name} ({state})" for name, state in facts["methods"].items())
    page = _facts(
        {
            "paper": f"{entry.number}, {entry.key}",
            "cited as": ", ".join(part for part in cited if part),
            **({"authors": ", ".join(entry.authors)} if entry.authors else {}),
            **({"abstract": entry.abstract} if entry.abstract else {}),
            "gives": entry.gives,
            "claim": entry.claim,
            "room": entry.room,
            "methods": methods or "none registered",
            **({"inferred": entry.inferred} if entry.inferred else {}),
            "scales": "fast and full" if entry.full else "one: --full is refused",
            **({"own model": f"--model at the scale {' or '.join(entry.pretrained)}"} if entry.pretrained else {}),
            **entry.links,
            "badge": Text.assemble(_coloured(facts["badge"]), f": {facts['why']}"),
        }
    )
    heading = Text(f"{entry.title}\n", style="bold")
    if facts["result"] is None:
        return Group(heading, page, Text("\nnot measured yet", style="dim"))
    return Group(heading, page, Text("\nrecorded result", style="bold"), _result_page(facts["result"]))


def outcome_page(outcome: Outcome) -> RenderableType:
    """An outcome: verdict in colour, claim, baselines by name, measured values, interval, seeds, seconds."""
    return Group(Text(f"{outcome.key}\n", style="bold"), _result_page(outcome.to_json()))


def _result_page(result: dict[str, Any]) -> RenderableType:
    facts: dict[str, str | Text] = {
        "verdict": Text.assemble(_coloured(result["verdict"]), f", by the rule {catalogue.rule_of(result)}"),
        **({"on model": result["model"]} if "model" in result else {}),
        "claim": result["claim"],
        "against": ", ".join(result["baselines"]) or "no baseline",
        **{name: readable(value) for name, value in result["measured"].items()},
        "interval": readable(result["interval"]),
        **{
            words: readable(result[name])
            for name, words in (("primary", "primary parts"), ("beside", "beside the claim"), ("checks", "checks"))
            if result.get(name)
        },
        "seeds": readable(result["seeds"]),
        "seconds": readable(result["seconds"]),
    }
    if "date" in result:  # recorded, not fresh
        machine = result["machine"]
        facts["recorded"] = f"{result['date']}, {result['scale']} scale, {machine['cpu']}, {machine['cores']} cores"
        facts["versions"] = readable(result["versions"])
    return _facts(facts)


def _facts(facts: dict[str, str | Text]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", max_width=32)
    table.add_column()
    for name, value in facts.items():
        table.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return table


def _coloured(word: str) -> Text:
    return Text(word, style=COLOURS.get(word.rstrip("*"), ""))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
