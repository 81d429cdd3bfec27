"""A stream of three text domains for SmolLM2, and several strategies on it.

    python -m benchmarks.text_domains DATA --out domains [--rows 48] [--seeds 3] [--strategies naive,replay,...]

Spanish words (taught as questions, tested in another wording), verse (Shakespeare; tested on later verse), fictitious
authors (TOFU rows, asked again), in this order; general texts for GeRe are prose (Carroll). `DATA` is a folder with
`truth_statements/sp_en_trans.csv` (Marks & Tegmark), `public_domain_text/tinyshakespeare.txt` and `alice.txt`, and
`tofu/retain95.json`. Writes the stream's files to `--out`/stream and runs `letheon compare-strategies` on them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

# Not tuned; the Fisher information of a language model is small, so that EWC's default for small networks hardly holds.
STRATEGIES = (
    "naive",
    "replay:capacity=48",
    "gere:texts={general},count=16,tokens=96",
    "ewc",
    "ewc:strength=100000",
    "dilution",
    "joint",
)
LENGTH = 220  # characters of a piece of verse or prose, to the end of its line
TESTS = 24  # rows

Row = dict[str, str]


def words(path: Path, rows: int) -> tuple[list[Row], list[Row]]:
    """Spanish words and their meanings; the same words asked in another way."""
    with path.open(encoding="utf-8") as file:
        statements = [row["statement"] for row in csv.DictReader(file) if row["label"] == "1"]
    found = [
        match.groups() for text in statements if (match := re.match(r"The Spanish word '(.+)' means '(.+)'", text))
    ]
    taught = [{"question": f"What does the Spanish word '{word}' mean?", "answer": means} for word, means in found]
    asked = [{"question": f"Translate '{word}' from Spanish into English.", "answer": means} for word, means in found]
    return taught[:rows], asked[: min(rows, TESTS)]


def pieces(path: Path, rows: int) -> tuple[list[Row], list[Row]]:
    """Pieces of a text, one after another; the last ones are for tests."""
    found: list[str] = [""]
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[40:]:
        if len(found[-1]) >= LENGTH:
            found.append("")
        found[-1] += line
        if len(found) > rows + TESTS:
            break
    texts = [{"text": text.strip()} for text in found[: rows + TESTS]]
    return texts[:rows], texts[rows:]


def authors(path: Path, rows: int) -> tuple[list[Row], list[Row]]:
    """Questions about fictitious authors; every second one asked again."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:rows]]
    taught = [{"question": line["question"], "answer": line["answer"]} for line in lines]
    return taught, taught[::2][:TESTS]


def write_stream(data: Path, folder: Path, rows: int) -> None:
    """Make the stream's files: stream.toml, two files a task, general.jsonl."""
    prose, texts = data / "public_domain_text", {}
    texts["words"] = words(data / "truth_statements" / "sp_en_trans.csv", rows)
    texts["verse"] = pieces(prose / "tinyshakespeare.txt", rows)
    texts["authors"] = authors(data / "tofu" / "retain95.json", rows)
    folder.mkdir(parents=True, exist_ok=True)
    entries = ['name = "domains"\n']
    for name, (train, test) in texts.items():
        for file, part in ((f"{name}.jsonl", train), (f"{name}-test.jsonl", test)):
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        entries.append(f'[[task]]\nname = "{name}"\ntrain = "{name}.jsonl"\ntest = "{name}-test.jsonl"\n')
    general, _ = pieces(prose / "alice.txt", 64)
    (folder / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in general), encoding="utf-8")
    (folder / "stream.toml").write_text("\n".join(entries), encoding="utf-8")


def main() -> None:
    """Write the stream and run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("domains"))
    parser.add_argument("--rows", type=int, default=48, help="that each task teaches (default 48)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    stream = options.out / "stream"
    write_stream(options.data, stream, options.rows)
    strategies = options.strategies.replace("{general}", str(stream / "general.jsonl"))
    command = ["compare-strategies", options.model, "--stream", str(stream / "stream.toml"), "--strategies", strategies]
    command += ["--epochs", str(options.epochs), "--seeds", str(options.seeds), "--lr", str(options.learning_rate)]
    command += ["--out", str(options.out)]
    print("letheon", *command, flush=True)
    sys.exit(subprocess.run([sys.executable, "-m", "letheon", *command], check=False).returncode)


if __name__ == "__main__":
    main()
