"""Tables are whole in a terminal of 80 columns: every heading, and every number of usual length."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import letheon.printing
from letheon.audit.selftest import selftest
from letheon.audit.selftest.pool import CONDITIONS, PoolTest, Ranked
from letheon.core.statistics import estimate_mean
from letheon.printing.compare import show_comparison
from letheon.printing.measure import show_measurement, show_run_comparison
from letheon.printing.selftest import show_selftest
from letheon.printing.spillover import show_spillover

METHOD = "alternates:base=HuggingFaceTB/SmolLM2-135M-Instruct+null_space@mlp"
ESTIMATE = estimate_mean([0.125, 0.25, 0.5, 0.75])


def comparison() -> None:
    numbers = dict.fromkeys(
        ("forget extraction strength", "relearned", "4-bit recall", "retain utility", "damaged answers"), 0.1234
    )
    chosen = SimpleNamespace(learning_rate=3.2e-5, folder="run")
    entry = SimpleNamespace(
        chosen=chosen, numbers=numbers, method=METHOD, best=True, error=None, outcome="inconclusive"
    )
    made = SimpleNamespace(entries=[entry], request="r", before=numbers, reference=numbers, model="smollm2")
    show_comparison(made, Path("out"), as_json=False)  # type: ignore[arg-type]


def measurement() -> None:
    score = SimpleNamespace(name="word_frequency_of_the_whole_list", estimate=ESTIMATE, why=None)
    scores = SimpleNamespace(scores=[score], notes=[])
    made = SimpleNamespace(measure="familiarity", model=METHOD, columns=[score.name], scores=scores)
    show_measurement(made, None, False)  # type: ignore[arg-type]


def difference() -> None:
    row = SimpleNamespace(
        name="word_frequency", first=0.1234, second=0.2345, value=-0.1111, low=-0.2345, high=0.1234, p=0.0123, n=12345
    )
    show_run_comparison([row], False)  # type: ignore[list-item]


def spillover() -> None:
    rates = SimpleNamespace(refuse=ESTIMATE, comply=ESTIMATE, incoherent=ESTIMATE)
    domains = {"chemistry of the kitchen": rates}
    made = SimpleNamespace(
        answers=[1, 2],
        rates_before=domains,
        rates_after=domains,
        early_similarity=lambda: dict.fromkeys(domains, 0.123),
        affected=[],
        unlearned="gardening",
        early=SimpleNamespace(value=None, p=None),
        notes=[],
    )
    show_spillover(made, None, False)  # type: ignore[arg-type]


def pool() -> None:
    ranked = Ranked("attack:first_token_prefix", dict.fromkeys(map(str, CONDITIONS), 0.1234), True)
    show_selftest(PoolTest("tiny", 2, [ranked], 1.0), False)


def planted() -> None:
    one = selftest.Tested(
        "rounded back", "an update that rounding to 4 bits undoes", False, "inconclusive", ["a", "b"], True
    )
    show_selftest(selftest.SelfTest("tiny", [one], 1.0), False)


@pytest.mark.parametrize(
    ("show", "headings"),
    [
        (
            comparison,
            "method verdict rate forget extraction strength relearned 4-bit recall retain utility damaged answers "
            "inconclusive 3.2e-05 0.12",
        ),
        (measurement, "score value 95 % interval items"),
        (difference, "score first second difference 95 % interval p items 0.12 0.012 12345"),
        (spillover, "domain before after complied incoherent similarity 0.406 (0.19..0.62) 0.12"),
        (pool, "metric as taught finetuned rounded 0.12"),
        (planted, "model what it is must verdict criteria failed inconclusive"),
    ],
)
def test_headings_and_numbers_are_whole_at_80_columns(
    show: Callable[[], None], headings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    show()
    printed = capsys.readouterr().out
    words = re.findall(r"[^\s│┃]+", printed)
    assert not [word for word in headings.split() if word not in words], printed
    assert "…" not in printed


def test_only_one_function_makes_tables_with_headings() -> None:
    folder = Path(letheon.printing.__file__).parent
    made = re.compile(r"\bTable\((?!show_header=False)")
    assert [file.name for file in folder.glob("*.py") if made.search(file.read_text(encoding="utf-8"))] == ["cells.py"]
