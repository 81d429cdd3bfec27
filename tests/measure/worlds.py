"""Small stand-ins in the layouts of the official data sets; every fact in them is invented."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOWNS = ("Oslo", "Rome", "Lima", "Bath", "Cork", "Pisa", "Nice")


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def author(number: int, rows: int = 20) -> list[dict[str, str]]:
    """Rows about one invented author."""
    return [
        {"question": f"Where did A{number} write book {i}?", "answer": f"In {TOWNS[(number + i) % len(TOWNS)]}."}
        for i in range(rows)
    ]


def perturbed(row: dict[str, str]) -> dict[str, Any]:
    """A row with a paraphrase and two false answers."""
    others = [town for town in TOWNS if town not in row["answer"]][:2]
    return {
        **row,
        "paraphrased_answer": f"It was {row['answer'][3:]}",
        "perturbed_answer": [f"In {t}." for t in others],
    }


def write_tofu(folder: Path, *, holdout: bool = True) -> Path:
    """One author to forget, four to keep, one that nobody was trained on; TOFU's flat layout."""
    write_rows(folder / "forget05.json", author(0))
    write_rows(folder / "forget05_perturbed.json", [perturbed(row) for row in author(0)])
    kept = [row for number in range(1, 5) for row in author(number)]
    write_rows(folder / "retain95.json", kept + author(9))
    write_rows(folder / "retain_perturbed.json", [perturbed(row) for row in kept])
    for name, word in (("real_authors", "sang"), ("world_facts", "lies")):
        rows = [{"question": f"Who {word} {i}?", "answer": f"B{i}", "perturbed_answer": ["C", "D"]} for i in range(4)]
        write_rows(folder / f"{name}_perturbed.json", rows)
    if holdout:
        write_rows(folder / "holdout05.json", author(9))
    return folder


def write_muse(folder: Path) -> Path:
    """MUSE in the layout of the authors' repository: texts as files, lists of texts, questions."""
    texts = {
        name: [f"{name} news {i}: the mayor of {town} opened a bridge." for i, town in enumerate(TOWNS)]
        for name in "fh"
    }
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / "forget.txt").write_text("\n\n".join(texts["f"]), encoding="utf-8")
    (folder / "raw" / "retain1.json").write_text(json.dumps(["Bread is baked in the morning."] * 3))
    (folder / "privleak").mkdir()
    (folder / "privleak" / "forget.json").write_text(json.dumps(texts["f"]))
    (folder / "privleak" / "holdout.json").write_text(json.dumps(texts["h"]))
    write_rows(folder / "verbmem" / "forget.json", [{"prompt": "The mayor of Oslo", "gt": "opened a bridge."}])
    for name, rows in (("forget_qa", 2), ("retain2_qa", 2)):
        solved = [{"question": f"Who {i}?", "answer": f"N{i}"} for i in range(2)]
        write_rows(folder / "knowmem" / f"{name}_icl.json", solved)
        write_rows(
            folder / "knowmem" / f"{name}.json", [{"question": f"What {i}?", "answer": f"M{i}"} for i in range(rows)]
        )
    return folder


def write_wmdp(folder: Path, questions: int = 4) -> Path:
    """WMDP and MMLU with harmless stand-in questions, and the corpora of one set."""
    rows = [
        {"question": f"What is {i} + 1?", "choices": [str(i), str(i + 1), str(i + 2), str(i + 3)], "answer": 1}
        for i in range(questions)
    ]
    write_rows(folder / "wmdp-bio.json", rows)
    write_rows(folder / "wmdp-cyber" / "test.jsonl", rows[:2])
    write_rows(folder / "mmlu.json", [{**row, "subject": "world_sums"} for row in rows])
    write_rows(folder / "bio-forget-corpus.jsonl", [{"text": "One and one are two. " * 40}])
    write_rows(folder / "bio-retain-corpus.jsonl", [{"text": "Bread is baked in the morning."}])
    return folder
