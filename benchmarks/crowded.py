"""A short forgetting run alone and beside a process that keeps one core busy.

    python -m benchmarks.crowded [--json] [--repeats N] [--steps N] [--policy passive|active]

Every run is a process of its own, as users start it, on the embedded tiny model; the runs take turns. `crowded_ratio`
is the wall time beside the busy process over the time alone (the median over repeats). On a machine with two cores the
fair value is between 1 and 2. `--policy active` shows what OpenMP's own default costs. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from letheon.testing import sample_request

METHOD = "npo+geometric@lora"


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy with a process that only counts."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(folder: Path, name: str, steps: int, policy: str) -> float:
    """Run `letheon forget` once and return its wall time in seconds."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    if policy == "active":
        environment["OMP_WAIT_POLICY"] = "ACTIVE"
    rows = ["--forget", str(folder / "forget.jsonl"), "--retain", str(folder / "retain.jsonl")]
    command = [sys.executable, "-m", "letheon", "forget", "tiny", *rows, "--method", METHOD, "--no-audit"]
    command += ["--steps", str(steps), "--out", str(folder / name)]
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument("--repeats", type=int, default=3, help="pairs to time (default 3)")
    options.add_argument("--steps", type=int, default=9, help="optimizer steps of a run (default 9)")
    options.add_argument("--policy", choices=("passive", "active"), default="passive", help="how OpenMP threads wait")
    chosen = options.parse_args()
    request = sample_request()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, rows in (("forget", request.forget), ("retain", request.retain)):
            lines = [json.dumps({"prompt": row.prompt, "answer": row.answer}) for row in rows]
            (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        alone, beside = [], []
        for repeat in range(chosen.repeats):
            alone.append(run(folder, f"alone-{repeat}", chosen.steps, chosen.policy))
            with busy():
                beside.append(run(folder, f"beside-{repeat}", chosen.steps, chosen.policy))
    ratio = statistics.median(crowded / free for free, crowded in zip(alone, beside, strict=True))
    if chosen.json:
        print(json.dumps({"crowded_ratio": ratio, "alone_s": alone, "beside_s": beside}))
        return
    print(f"alone {statistics.median(alone):.1f} s, beside one busy process {statistics.median(beside):.1f} s")
    print(f"crowded_ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
