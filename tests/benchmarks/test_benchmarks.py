"""The benchmarks: both sides compute the same, and the output is what the options promise."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.common import compare, has_bfloat16, in_turn
from benchmarks.duel import Case, Duel, Step
from benchmarks.forget_step import npo_duel, peak_bytes
from benchmarks.truth_ratio import check, field_scores, our_scores, questions

from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel

ROOT = Path(__file__).parents[2]


def run(name: str, *options: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--model", "tiny", "--repeats", "1", "--threads", "1"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "always", "with_bfloat16"),
    [
        pytest.param(
            "forget_step",
            {"npo_float32", "rmu_float32", "rmu_layers_float32", "memory"},
            {"npo_bfloat16"},
            marks=pytest.mark.slow,
        ),
        pytest.param("truth_ratio", {"truth_ratio_float32"}, {"truth_ratio_bfloat16"}, marks=pytest.mark.slow),
        pytest.param(
            "forget_methods",
            {"layers20_over_field", "layers20_over_frozen", "kfade_factor_epochs"},
            set(),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_json_is_one_object_of_ratios_with_their_spread(name: str, always: set[str], with_bfloat16: set[str]) -> None:
    entries = json.loads(run(name, "--json"))
    assert set(entries) == always | (with_bfloat16 if has_bfloat16() else set())
    for entry in entries.values():
        assert set(entry) == {"value", "low", "high"}
        assert 0 < entry["low"] <= entry["value"] <= entry["high"]


@pytest.mark.slow
def test_measures_are_timed_against_the_harness_on_equal_scores() -> None:
    pytest.importorskip("lm_eval")
    assert set(json.loads(run("measure", "--json"))) == {
        "choices_ratio", "texts_ratio", "shots_ratio", "subsets_ratio", "subsets_seconds"
    }  # fmt: skip


@pytest.mark.slow
def test_the_table_of_savings_names_each_and_how_well_both_sides_agree() -> None:
    shown = run("forget_step", "--tricks")
    for saving in ("labelled logits only", "one forward for both", "cached reference", "common prefix"):
        assert saving in shown
    assert "cosine" in shown


@pytest.fixture(scope="module")
def duel() -> Duel:
    return npo_duel(Case.load("tiny"))


def test_sides_that_compute_different_losses_are_refused(duel: Duel) -> None:
    def louder() -> Step:
        return replace(duel.ours, loss=lambda: (duel.ours.loss() or 0.0) * 1.001)  # type: ignore[return-value]

    duel.check()
    with pytest.raises(LetheonError, match="differ"):
        replace(duel, ours=louder()).check()


def test_answers_that_are_scored_differently_are_refused(tiny: LanguageModel) -> None:
    asked = questions()[0][:3]
    theirs, ours = field_scores(tiny, asked, exact=True), our_scores(tiny, asked)
    assert [len(row) for row in ours] == [6, 6, 6]
    check(theirs, ours, 1e-4)
    ours[0][0] += 1e-3
    with pytest.raises(LetheonError, match="differ"):
        check(theirs, ours, 1e-4)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux gives a peak of the process alone")
def test_the_peak_of_a_process_does_not_begin_at_its_parents() -> None:
    held = bytearray(b"1") * 1_000_000_000
    command = [sys.executable, "-c", "from benchmarks.forget_step import peak_bytes; print(peak_bytes())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < len(held) < peak_bytes()


def test_sides_are_run_in_turn() -> None:
    order: list[str] = []
    seconds = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert [len(found) for found in seconds.values()] == [3, 3]


def test_a_ratio_is_the_median_of_pairs_with_the_lowest_and_highest() -> None:
    found = compare([2.0, 6.0, 4.0], [1.0, 1.0, 1.0])
    assert (found.value, found.low, found.high) == (4.0, 2.0, 6.0)
