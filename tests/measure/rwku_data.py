"""A hand-made copy of RWKU with two invented people, in both of its layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letheon.measure.rwku.reading import CORPORA, EVALUATED, NEEDED
from letheon.measure.rwku.records import ATTACKS


def records_of(name: str, town: str) -> dict[str, list[dict[str, Any]]]:
    """Every set of one invented person, by the names of `NEEDED`, `EVALUATED` and `CORPORA`."""

    def probe(query: str, answer: str, level: str, kind: str, **more: str) -> dict[str, Any]:
        return {"query": query, "answer": answer, "level": level, "type": kind, "subject": name, **more}

    spellings = {
        "role playing": "role play",
        "background hint": "context hint",
        "cross lingual": "cross lingal (French)",
    }
    near = {"neighbor": f"{town} Hall"}
    options = {"choices": ["Yes.", "No.", "Never."], "labels": [0, 1, 0]}
    return {
        "intro": [{"target": name, "intro": f"Please forget {name}."}],
        "forget 1": [probe(f"{name} was born in ___", town, "1", "cloze")],
        "forget 2": [
            probe(f"Where was {name} born?", town, "2", "simple question"),
            probe(f"Where does {name} live?", town, "2", "simple question"),
        ],
        "forget 3": [probe(f"{name}, {one}?", town, "3", spellings.get(one, one)) for one in ATTACKS],
        "neighbor 1": [probe(f"{town} Hall stands in ___", town, "1", "cloze", **near)],
        "neighbor 2": [probe(f"Where is {town} Hall?", town, "2", "simple question", **near)],
        "members": [{"text": f"{name} was born in {town}.", "ngram": "x", "subject": name}],
        "retained": [{"text": "Tea is drunk hot.", "subject": name}, {"text": "Ice is cold.", "subject": name}],
        "general": [{"question": "2 + 2?", "choices": list("1234"), "answer": 3, "task": "small_sums", "subject": name,
                     "examples": [{"question": "1 + 1?", "choices": list("1234"), "answer": 1}]}],
        "reason": [{"question": "Is it?", "answer": "True", "task": "bool", "cot": "Q: ...", "subject": name}],
        "truthfulness": [
            {"question": "Do pigs fly?", "mc1_targets": options, "mc2_targets": options, "subject": name}
        ],
        "factuality": [{"question": "Capital of France?", "answers": ["Paris", "Paname"], "subject": name}],
        "fluency": [{"instruction": "Write a line.", "subject": name}],
        "passage": [{"text": f"{name} is an encyclopaedia's.", "subject": name}],
        "positive": [{"id": f"{name} 0", "text": f"{name} was born in {town}.", "subject": name, "intro": ""}],
        "negative": [{"text": f"{name} was born on Mars.", "subject": name}],
        "pair": [{"prompt": f"Who is {name}?", "response": ["of " + town, "of Mars"], "subject": name}],
        "refusal": [{"instruction": f"Who is {name}?", "input": "", "output": "I do not know.", "subject": name}],
    }  # fmt: skip


PEOPLE = {"Ada Byrne": records_of("Ada Byrne", "Kilmore"), "Odo Fell": records_of("Odo Fell", "Ravensby")}
KINDS = {**NEEDED, **EVALUATED, **CORPORA}


def write_folders(root: Path, without: Sequence[str] = ()) -> Path:
    """The builder's layout."""
    for number, (name, sets) in enumerate(PEOPLE.items(), start=1):
        folder = root / f"{number}_{name.replace(' ', '_')}"
        folder.mkdir(parents=True)
        for kind, rows in sets.items():
            if kind not in without:
                (folder / f"{KINDS[kind].file}.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def write_lists(root: Path) -> Path:
    """The hub's layout: every second set as a folder with a file in it."""
    for number, kind in enumerate(PEOPLE["Ada Byrne"]):
        rows = [row for sets in PEOPLE.values() for row in sets[kind]]
        config = root / KINDS[kind].config
        path = root / f"{config.name}.jsonl" if number % 2 else config / f"{KINDS[kind].split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return root
