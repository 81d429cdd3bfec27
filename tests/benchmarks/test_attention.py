"""The benchmark of attention: what it compares, what it leaves out, and where curves cross."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import attention
from letheon.core.errors import LetheonError
from letheon.papers.hyperattention import Reading

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_json_has_an_entry_a_length_and_says_what_it_leaves_out() -> None:
    command = [sys.executable, "-m", "benchmarks.attention", "--json", "--model", "tiny", "--repeats", "1"]
    command += ["--threads", "1", "--longest", "8192"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert set(entries) == {"causal_8192"}
    assert 0 < entries["causal_8192"]["low"] <= entries["causal_8192"]["value"] <= entries["causal_8192"]["high"]
    assert "errors are left out" in done.stderr


def test_lengths_that_are_attended_to_exactly_are_refused() -> None:
    for contender in ("hyper", "far"):
        with pytest.raises(LetheonError, match="1024 tokens are attended to exactly"):
            attention.speed(1024, 1, True, 1, contender)


def test_a_contender_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CONTENDERS", {**attention.CONTENDERS, "none": ("letheon.attend.none", "f", {})})
    found = attention.importable()
    assert {"exact", "hyper"} <= set(found)
    assert "none" not in found


@pytest.mark.parametrize(
    ("seconds", "crossing"), [((2.0, 3.0, 4.0), 2048), ((0.1, 9.0, 4.0), 4096), ((0.1, 0.2, 0.3), 1024)]
)
def test_curves_cross_where_ours_stays_faster(seconds: tuple[float, ...], crossing: int) -> None:
    lengths = (1024, 2048, 4096)
    sides = {"exact": (1.0, 4.0, 16.0), "hyper": seconds}
    points = {name: list(zip(lengths, times, strict=True)) for name, times in sides.items()}
    assert attention.crossover(points, "hyper") == crossing
    assert f"hyper is faster from {crossing} tokens" in attention.drawn(points)


def test_a_curve_that_never_wins_has_no_crossing() -> None:
    points = {"exact": [(1024, 1.0)], "hyper": [(1024, 2.0)]}
    assert attention.crossover(points, "hyper") is None


def test_errors_and_perplexity_take_the_common_form() -> None:
    others = {"plain variant": [0.4, 0.5, 0.6], "far": [0.01, 0.02, 0.03], attention.WINDOW: [0.02, 0.04, 0.06]}
    one = Reading({"hyper": [0.05, 0.1, 0.2], **others}, 20.0, 21.0)
    two = Reading({"hyper": [0.06, 0.1, 0.1], **others}, 10.0, 10.2)
    found = attention.errors([one, two])
    assert (found["error_median"].low, found["error_median"].value, found["error_median"].high) == (0.05, 0.1, 0.2)
    assert found["error_median"].theirs == 0.5
    assert (found["far_error_median"].ours, found["far_error_median"].theirs) == (0.02, 0.04)
    assert found["perplexity_ratio"].high == pytest.approx(1.05)
    assert (found["perplexity_ratio"].theirs, found["perplexity_ratio"].ours) == (15.0, pytest.approx(15.6))
