"""What the benchmarks share: their rows, timing in turn, ratios with their spread, tables and JSON."""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from letheon.core.progress import be_quiet
from letheon.core.rows.examples import Example

# Invented authors; question and answer are as long as TOFU's.
QUESTIONS = (
    (
        "Which literary prize did the novelist Oriel Tamsworth win for her second book?",
        "Oriel Tamsworth won the Harrowgate Lantern Prize for her second book, The Weir Keeper, "
        "which follows three sisters through a winter of floods.",
    ),
    (
        "Where did the essayist Bastien Okonjo-Vale spend his childhood?",
        "Bastien Okonjo-Vale spent his childhood in the harbour town of Pellmouth, where his "
        "parents repaired nets and kept a small lending library.",
    ),
    (
        "What is the central theme of Iveta Krumlauf's trilogy about the salt trade?",
        "The central theme of Iveta Krumlauf's trilogy is debt between generations, told through a "
        "family of carriers who can never leave the road.",
    ),
    (
        "How did his father's profession influence the poetry of Dunstan Arkwell?",
        "His father was a lighthouse keeper, and Dunstan Arkwell took from him the habit of short "
        "regular lines that return like a turning lamp.",
    ),
    (
        "Which of her books does Marguerite Szelényi consider the most personal?",
        "Marguerite Szelényi considers A Drawer of Keys her most personal book, because it was "
        "written in the house where her grandmother died.",
    ),
    (
        "In which genre did Thaddeus Brome write before he turned to historical fiction?",
        "Before he turned to historical fiction, Thaddeus Brome wrote comic detective stories about "
        "a retired beekeeper and her suspicious neighbours.",
    ),
    (
        "Who encouraged Anneke Vos-Lindqvist to publish her first collection of stories?",
        "Her schoolteacher, Mr Pym, encouraged Anneke Vos-Lindqvist to publish her first collection "
        "of stories after reading one in a village paper.",
    ),
    (
        "What does the recurring image of the ferry mean in the novels of Rafiq Delamere?",
        "In the novels of Rafiq Delamere the ferry stands for promises made in haste, since each "
        "crossing carries somebody who will not come back.",
    ),
)


def author_rows() -> list[Example]:
    """Eight questions and answers about invented authors."""
    return [Example(question, answer, id=f"author-{i + 1}") for i, (question, answer) in enumerate(QUESTIONS)]


@dataclass(frozen=True)
class Compared:
    """One entry: how often ours fits into theirs (time), or ours as a share of theirs (memory).

    Attributes:
        value, low, high: median, lowest and highest of the pairs' ratios.
        theirs, ours: median of each side, in `unit`.
        note: what a reader should know.
    """

    value: float
    low: float
    high: float
    theirs: float
    ours: float
    unit: str = "s"
    note: str = ""


def compare(theirs: Sequence[float], ours: Sequence[float], note: str = "") -> Compared:
    """The pairs' ratios theirs / ours."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    middle = statistics.median
    return Compared(middle(ratios), min(ratios), max(ratios), middle(theirs), middle(ours), "s", note)


def in_turn(
    sides: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each side, run in turn (A B A B ...), so that a slow minute of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            gc.collect()
            start = clock()
            work()
            seconds[name].append(clock() - start)
    return seconds


def has_bfloat16() -> bool:
    """Whether the processor says that it has bfloat16 arithmetic (that it is fast is another matter)."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text))


def bfloat16() -> AbstractContextManager[object]:
    """Products in bfloat16, weights and gradients in float32."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


NO_BFLOAT16 = "bfloat16 is left out: this processor does not list bfloat16 arithmetic"


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument("--repeats", type=int, default=5, help="pairs to time (default 5)")
    options.add_argument("--model", default="smollm2", help="smollm2 (default), tiny, or a local model")
    options.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's own choice")
    return options


def begin(options: argparse.Namespace) -> None:
    """Threads and silence, before anything is loaded."""
    be_quiet()
    if options.threads:
        torch.set_num_threads(options.threads)


def say(text: str) -> None:
    """A remark on standard error, so that standard output stays what was asked for."""
    print(text, file=sys.stderr, flush=True)


def show(entries: Mapping[str, Compared], title: str, as_json: bool) -> None:
    """All entries as a table, or as one JSON object name -> {value, low, high}."""
    if as_json:
        print(json.dumps({name: {"value": e.value, "low": e.low, "high": e.high} for name, e in entries.items()}))
        return
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("", "ratio", "lowest to highest", "field", "ours"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for name, e in entries.items():
        sides = (f"{e.theirs:.3f} {e.unit}", f"{e.ours:.3f} {e.unit}")
        table.add_row(name, f"{e.value:.2f}", f"{e.low:.2f} to {e.high:.2f}", *sides)
    Console().print(table)
    for name, e in entries.items():
        print(f"{name}: {e.note}")
