"""The output of `letheon memory`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from letheon.printing.cells import one_line, or_json, print_json
from letheon.recall.erasure import Erasure


@or_json()
def show_entries(entries: list[dict[str, Any]]) -> None:
    """Print memories, a line each: number, score where there is one, speaker, subject and text."""
    for entry in entries:
        score = f"  {entry['score']:.3f}" if "score" in entry else ""
        about = f" [{entry['subject']}]" if "subject" in entry else ""
        print(f"{entry['id']:>5}{score}  {entry['kind']} of {entry['role']}{about}: {one_line(entry['text'])}")
    if not entries:
        print("no memories")


def erasure_json(proof: Erasure) -> dict[str, Any]:
    """Return an erasure as a dictionary."""
    return {**asdict(proof), "proven": proof.proven}


def show_completed(path: Path, more: bool, as_json: bool) -> None:
    """Print that an earlier erasure was completed; where more follows, beside the output."""
    words = "the erasure that was cut short is completed: the file is rebuilt from what remains, and was not searched"
    if as_json and not more:
        print_json({"completed": str(path)})
    else:
        print(f"{path}: {words}", file=sys.stderr if as_json else sys.stdout)


@or_json(lambda proof: erasure_json(proof))
def show_erasure(proof: Erasure) -> None:
    """Print what was erased and whether the raw files hold anything of it."""
    print(f"erased {len(proof.ids)} of the memories, {len(proof.derived)} of them derived from others")
    files = ", ".join(f"{name} ({size:,} bytes)" for name, size in proof.files.items())
    print(f"searched {files} for {proof.needles} texts, words and vectors, and the index for {proof.stems} stems")
    print("nothing of them is left" if proof.proven else "STILL THERE: " + ", ".join(map(one_line, proof.remains)))
    if proof.similar:
        print(
            f"these memories stay and may say the same: {', '.join(map(str, proof.similar))}; see letheon memory list"
        )
