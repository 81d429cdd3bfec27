"""Every table of the command line in a terminal of 80 columns: headings and figures are whole."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

import letheon.printing
from letheon.audit.selftest.pool import CONDITIONS, PoolTest, Ranked
from letheon.audit.selftest.selftest import PLANTED, SelfTest
from letheon.audit.selftest.selftest import Tested as Judged
from letheon.compare.record import METRICS as COMPARED
from letheon.compare.record import RELEARNED, ROUNDED, Attempt, Comparison, Entry
from letheon.core.registry import methods
from letheon.core.statistics import Estimate
from letheon.core.tasks import Ended
from letheon.forget.baselines import Behaviour
from letheon.jobs.methods import FamilyVerdict
from letheon.measure.benchmark import Bench, BenchedModel, Score, Scores
from letheon.measure.measurement import Measurement
from letheon.measure.run import ScoreDifference
from letheon.measure.tofu import Tofu
from letheon.printing.cells import LONGEST, LONGEST_NAME
from letheon.probe.record import Check, ProbeReport
from letheon.probe.record import Table as Probed
from letheon.retain.page import SHOWN
from tests.audit.specimen import specimen

OUT = Path("/data/experiments/unlearning/2026-03-02/letheon-runs/second")
METHODS = ("alternates:weight=0.25+null_space@mlp", "simnpo:beta=2.5,delta=0.1+geometric@lora", "grad_diff")
ROWS = 12_345
MEAN = Estimate(0.4567, 0.3456, 0.5678, ROWS)
LOSS = Estimate(-123.4, -234.5, -11.2, ROWS)
SCORES = Scores(tuple(Score(name, LOSS, "lower") for name in Tofu.columns))


def show(name: str, *given: Any, verb: str = "") -> Callable[[], None]:
    """Call `show_NAME` of the verb's file in `printing`, for a person."""
    return lambda: getattr(import_module(f"letheon.printing.{verb or name}"), f"show_{name}")(*given, False)


def comparison() -> Comparison:
    numbers = dict.fromkeys([*COMPARED, RELEARNED, ROUNDED], -0.00123)
    tried = Attempt(1.25e-5, {4: 0.5}, 4, "steps", True, 1.0, "runs/1")
    entries = [Entry(name, [tried], tried, numbers, "inconclusive", best=True) for name in METHODS]
    entries.append(Entry("npo", [], error="the loss is not a number after 3 steps at every learning rate"))
    return Comparison(str(OUT / "model"), "authors/forget05", entries, numbers, numbers, 600, 1.0, 0)


def learned() -> Any:
    tasks = [f"{number} a data set with a long name" for number in range(14)]
    matrix = np.full((15, 14), -1234.5)
    curve = Made(matrix=lambda what: matrix)
    return Made(strategy="ewc:weight=5000", stream="split-mnist", tasks=tasks, curve=curve, metrics={}, folder=OUT)


def probed() -> ProbeReport:
    words = ["weights", "states", "attention", "entropy"]
    columns = {
        "Changes by layer": ("layer", "attention weights", "MLP weights", "CKA", "CKA of shuffled tokens", "cosine",
                             "entropy before", "entropy after", "truth", "refusal"),
        "Planted sinks": ("strength", "found", "lifetime", "attention", "first token", "random found",
                          "random lifetime", "random attention", "first beside random"),
        "Bias by subset": ("subset", "n", "recall of yes", "recall of no", "bias", "soft bias", "low", "high",
                           "unparsed"),
    }  # fmt: skip
    tables = [Probed(title, names, [(12, *[-0.00123] * (len(names) - 1))]) for title, names in columns.items()]
    checks = [Check(f"the {word} of both halves agree", -0.00123, "at least 0.25", None) for word in words]
    return ProbeReport("changes", str(OUT / "model"), "What changed.", tables, checks)


def requests() -> list[dict[str, Any]]:
    row = {"request": "2026-0012-customer", "state": "forgotten", "reason": "withdrawal of consent, article 17 (1) b"}
    row |= {"received": "2026-03-02T09:30:00", "due": "2026-04-02T09:30:00", "overdue": True, "recheck": "2026-09-01"}
    return [row | {"verdict": "inconclusive", "returned": "came back", "entries": list(range(120, 132))}]


def ways() -> dict[str, Any]:
    numbers = {"bytes_per_weight": 12.25, "gib": 1234.5, "activations_gib": 123.4, "offloaded_gib": 1234.5}
    way = numbers | {"options": "--method fact_spans+geometric --scope lora", "fits": True, "fits_sharded": False}
    device = {"devices": 8, "device": "NVIDIA H100", "device_gib": 79.1}
    return device | {"model": f"{OUT}", "weights": 7e9, "ways": [way], "estimate": "within a tenth", "command": ""}


def spilled() -> Any:
    rates = {f"{name} advice": Made(refuse=MEAN, comply=MEAN, incoherent=MEAN) for name in ("cybersecurity", "medical")}
    similarity = dict.fromkeys(rates, -0.00123)
    return Made(answers=[], rates_before=rates, rates_after=rates, early_similarity=lambda: similarity, affected=[],
                unlearned="medical advice", early=Made(value=None), notes=[])  # fmt: skip


def pruned() -> Any:
    names = ("random masks minus pruned", "two noises, random masks", "different prompts, before")
    means = {kind: dict.fromkeys(names, LOSS) for kind in ("memorised", "kept")}
    return Made(summary=lambda: means, share=0.01, share_of_all=0.01, density={}, notes=[], settings=Made(), changes=[])


def curve() -> Any:
    point = Made(strength=-0.125, target=MEAN, perplexity=12345.6, kl=0.00123, refusals=0.123, repetition=0.00123)
    return Made(model=str(OUT / "model"), points=[point], random=[[point]], recommended=None, reason="", collapsed=())


TESTED = [
    Judged(one.name, one.what, one.honest, "inconclusive", ["value probability, forget"], False) for one in PLANTED
]
RANKED = [Ranked("attack:first_token_prefix", dict.fromkeys(CONDITIONS, 0.123), True)]
MODELS = [BenchedModel(name, "unlearned", SCORES) for name in ("target", "reference", *METHODS)]
STRATEGY = Made(strategy="ewc:weight=5000", metrics=dict.fromkeys(SHOWN, MEAN), error="")
STRATEGIES = Made(stream="split-mnist", scenario="class", seeds=[0], entries=[STRATEGY])
DIFFERENCES = [ScoreDifference("forget truth ratio", -123.4, -234.5, -111.1, -222.2, -100.1, 0.00123, ROWS)]
COPY = {"entry": 123, "kind": "adapter", "path": f"{OUT}/model-q4.gguf", "sha256": "ab12" * 16, "holds": ["2026-0012"]}
MEASURED = Measurement("tofu", f"{OUT}/model", Tofu.columns, {}, SCORES, 1.0)
REFUSED = FamilyVerdict("objective attention_shifting", "Mixture of experts", "it has no such states; " * 9)
TABLES = {
    "audit": show("audit", specimen(), OUT),
    "baselines": show("baselines", [Behaviour("guardrail", 0.123, 0.123, None, 0.123)]),
    "bench": show("bench", Bench("tofu", {"data": {}}, Tofu.columns, ("", ""), tuple(MODELS), 1.0), OUT),
    "compare": show("comparison", comparison(), OUT, verb="compare"),
    "compare_strategies": show("strategies", STRATEGIES, OUT, verb="compare_strategies"),
    "doctor": show("needs", ways(), verb="doctor"),
    "learn": show("learned", learned(), verb="learn"),
    "ledger: requests": show("requests", requests(), verb="ledger"),
    "ledger: derivatives": show("derivatives", [COPY], verb="ledger"),
    "measure": show("measurement", MEASURED, OUT, verb="measure"),
    "measure: two runs": show("run_comparison", DIFFERENCES, verb="measure"),
    "methods": show("methods", methods()),
    "methods: families": show("families", [REFUSED], verb="methods"),
    "papers": show("papers", {"emergent_misalignment": Ended({"verdict": "inconclusive", "seconds": 12345})}, OUT),
    "probe": show("probe", probed(), OUT),
    "prune_images": show("pruned", pruned(), OUT, verb="prune_images"),
    "selftest": show("selftest", SelfTest("tiny", TESTED, 1.0)),
    "selftest: pool": show("selftest", PoolTest("tiny", 2, RANKED, 1.0)),
    "spillover": show("spillover", spilled(), OUT),
    "steer": show("curve", curve(), verb="steer"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_headings_and_figures_are_whole_in_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(Console, "print", lambda console, *what, **options: printed.extend(what))
    TABLES[name]()
    monkeypatch.undo()
    tables = [one for one in printed if isinstance(one, Table)]
    assert tables
    for table in tables:
        headings, cells = [], []
        for number, column in enumerate(table.columns):
            column.header = str(column.header).upper()  # so that no word of a cell is one of a heading
            headings += column.header.split()
            words = [word for one in column.cells for word in Text.from_markup(str(one)).plain.split()]
            cells += [word for word in words if len(word) <= (LONGEST if number else LONGEST_NAME)]
        Console(width=80, file=(screen := io.StringIO())).print(table)
        lines = screen.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        assert not Counter([*headings, *cells]) - Counter(re.split(r"[\s│┃]+", screen.getvalue()))


def test_texts_of_users_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    failed = Entry("[/] red", [], error="no file /data/[/x]")
    hostile = replace(comparison(), entries=[failed], request="[/] of [red]x")
    show("comparison", hostile, OUT, verb="compare")()
    show("papers", {"fit": Ended(problem="no file /data/[/x]")}, OUT)()
    printed = capsys.readouterr().out
    assert "[/] of [red]x" in printed
    assert printed.count("/data/[/x]") == 2


def test_every_table_is_made_whole_and_looked_at() -> None:
    sources = {file.stem: file.read_text() for file in Path(letheon.printing.__path__[0]).glob("*.py")}
    assert [name for name, source in sources.items() if "rich.table" in source] == ["cells"]
    made = {name for name, source in sources.items() if "new_table(" in source} - {"cells"}
    assert made == {name.partition(":")[0] for name in TABLES}
