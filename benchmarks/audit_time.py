"""How long the demo's audit takes, beside an earlier commit's own code in the same process order.

`python -m benchmarks.audit_time --json` teaches the demo's models once (or takes them from `--models`), and then, in
turn, each in a process of its own: the earlier code audits the request of its own demo (one person, five facts), this
code the request of its demo (two people, ten facts) with nothing stored, and this code once more. It prints

    demo_seconds_ratio   first audit of this code's demo over the earlier code's demo, seconds
    second_ratio         second audit of the same request over the earlier code's second, which stores nothing
    second_over_first    second audit over the first, both this code's
    same_request_ratio   this code's first audit of the earlier demo's request over the earlier code's

as medians over the repeats, with the seconds themselves. `--tofu` times a quick audit of a cut of TOFU's forget05 (20
rows to forget, 80 to keep) after the default's deletion instead, this code's alone: with nothing stored, and once more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from statistics import median

from benchmarks import forget_worlds
from benchmarks.common import begin, parser, say
from benchmarks.default_recipe import data_folder
from letheon.core.model.models import LanguageModel, load
from letheon.forget.request import Request
from letheon.forget.run import DEFAULTS, forget
from letheon.jobs.demo import METHOD, teach
from letheon.jobs.demo_world import PEOPLE, TARGETS, facts_of, world

ROOT = Path(__file__).parents[1]
EARLIER = "f152183"
# Runs under either code: audits, and prints the seconds.
AUDIT = """
import sys, time, letheon
from letheon.core.progress import be_quiet
from letheon.forget.request import Request
be_quiet()
folder = sys.argv[1]
before, after, reference = (letheon.load(f"{folder}/{name}", device="cpu") for name in ("before", "after", "reference"))
request = Request.read(__import__("pathlib").Path(folder) / "request.json")
quick = {"quick": True} if sys.argv[2:] == ["quick"] else {}
start = time.perf_counter()
letheon.audit(before, after, request, reference=reference, judge="smollm2", **quick)
print(time.perf_counter() - start)
"""


def main() -> None:
    """Parse, make the models, time in turn, print."""
    options = parser(__doc__ or "")
    options.add_argument("--models", type=Path, default=None, help="folder of taught models, made if it is empty")
    options.add_argument("--tofu", action="store_true", help="time a quick audit of TOFU's cut in $LETHEON_DATA")
    given = options.parse_args()
    if given.repeats < 1:
        options.error("--repeats must be at least 1")
    begin(given)
    with tempfile.TemporaryDirectory() as scratch:
        models = given.models or Path(scratch) / "models"
        if given.tofu:
            print(json.dumps(_tofu(models / "tofu", Path(scratch), given.repeats)))
            return
        requests = {1: models / "one", 2: models / "two"}
        for people, folder in requests.items():
            if not (folder / "request.json").is_file():
                say(f"teaching the models of a demo that forgets {people}")
                _teach(folder, TARGETS[:people])
        seconds = _timed(requests, Path(scratch), given.repeats)
    ratios = {
        "demo_seconds_ratio": _ratio(seconds["first"], seconds["earlier"]),
        "second_ratio": _ratio(seconds["second"], seconds["earlier second"]),
        "second_over_first": _ratio(seconds["second"], seconds["first"]),
        "same_request_ratio": _ratio(seconds["same request"], seconds["earlier"]),
    }
    found = {**ratios, "seconds": {name: round(median(values), 1) for name, values in seconds.items()}}
    print(json.dumps(found) if given.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _timed(requests: dict[int, Path], scratch: Path, repeats: int) -> dict[str, list[float]]:
    """Time each side in turn; every repeat begins with nothing stored."""
    earlier = _earlier_source(scratch)
    seconds: dict[str, list[float]] = {}
    for number in range(repeats):
        stored = scratch / f"stored-{number}"
        for name, source, people, cache in (
            ("earlier", earlier, 1, stored),
            ("earlier second", earlier, 1, stored),
            ("first", ROOT / "src", 2, stored),
            ("second", ROOT / "src", 2, stored),
            ("same request", ROOT / "src", 1, scratch / f"stored-alone-{number}"),
        ):
            seconds.setdefault(name, []).append(_seconds(source, requests[people], cache))
            say(f"{name}: {seconds[name][-1]:.1f} s")
    return seconds


def _tofu(folder: Path, scratch: Path, repeats: int) -> dict[str, float]:
    """Seconds of a first and a second quick audit of TOFU's cut, medians."""
    made = forget_worlds.world("tofu", 0, scratch, data_folder())
    if isinstance(made, str):
        raise SystemExit(made)
    if not (folder / "request.json").is_file():
        say("deleting TOFU's rows")
        folder.mkdir(parents=True, exist_ok=True)
        after = load(made.before, device="cpu")
        forget(after, made.request, DEFAULTS[0], seed=0)
        for name, model in (("before", load(made.before)), ("after", after), ("reference", load(made.reference))):
            model.save(folder / name)
        made.request.write(folder / "request.json")
    seconds: dict[str, list[float]] = {"tofu_first_s": [], "tofu_second_s": []}
    for number in range(repeats):
        for name, values in seconds.items():
            values.append(_seconds(ROOT / "src", folder, scratch / f"stored-{number}", "quick"))
            say(f"{name}: {values[-1]:.1f} s")
    return {name: round(median(values), 1) for name, values in seconds.items()}


def _seconds(source: Path, folder: Path, stored: Path, *options: str) -> float:
    settings = {**os.environ, "PYTHONPATH": str(source), "LETHEON_EXAMINATIONS": str(stored)}
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(folder), *options], env=settings, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def _earlier_source(scratch: Path) -> Path:
    """Unpack the earlier commit's source from the repository."""
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", EARLIER, "src"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(scratch / "earlier", filter="data")
    return scratch / "earlier" / "src"


def _teach(folder: Path, targets: tuple[str, ...]) -> None:
    """Make the models of one demo: taught, forgotten, retrained."""
    kept = [row for name in PEOPLE if name not in targets for row in facts_of(name)]
    gone = [row for name in targets for row in facts_of(name)]
    request = Request(forget=tuple(gone), retain=tuple(kept), id="demo", reason="timing")
    taught = teach(world(), 0, "cpu", "teaching")
    taught.save(folder / "before")
    teach(kept, 0, "cpu", "reference").save(folder / "reference")
    model: LanguageModel = load(folder / "before", device="cpu")
    forget(model, request, METHOD, seed=0).model.save(folder / "after")
    request.write(folder / "request.json")


if __name__ == "__main__":
    main()
