"""Comparing methods: rates by successive halving, an audit a method, the front, a page, continuing what was stopped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from letheon.compare import runner as running
from letheon.compare.halving import Halving, next_step, pareto, rungs, score
from letheon.compare.quick_score import QuickScore
from letheon.compare.record import Entry
from letheon.compare.run import compare, seconds_of
from letheon.core.errors import InputError, TrainingError
from letheon.core.model.models import load, save_hash
from letheon.core.parallel import ALONE, Parallel
from letheon.core.runs import Run
from letheon.forget.method_lists import read_methods, split_methods
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.printing.compare import show_comparison

QUICK: dict[str, Any] = {"steps": 4, "batch_size": 4, "precision": "float32"}


@pytest.fixture
def few(deletion: Request) -> Request:
    """A request with three rows to forget and three to keep."""
    return replace(deletion, forget=deletion.forget[:3], retain=deletion.retain[:3])


def test_a_run_is_looked_at_after_a_quarter_half_and_all_of_its_steps() -> None:
    assert rungs(16) == [4, 8, 16]
    assert rungs(2) == [1, 2]


def test_only_the_better_half_of_the_runs_goes_past_a_rung() -> None:
    halving = Halving()
    # the first always; then the best of two, of three; the two best of four
    assert [halving.goes_on(4, value) for value in (0.5, 0.4, 0.6, 0.55)] == [True, False, True, True]
    assert halving.goes_on(8, 0.1)  # each rung by itself


def test_rates_climb_from_the_method_s_own_until_both_neighbours_of_the_best_are_worse() -> None:
    def path(score_of: Any) -> list[int]:
        scores: dict[int, float] = {}
        while (step := next_step(scores)) is not None:
            scores[step] = score_of(step)
        return list(scores)

    assert path(lambda step: -abs(step)) == [0, 1, -1]
    assert path(lambda step: -abs(step - 3)) == [0, 1, 2, 3, 4]
    assert path(lambda step: -abs(step + 2)) == [0, 1, -1, -2, -3]
    assert path(lambda step: step) == [0, 1, 2, 3, 4, 5, 6]
    assert path(lambda step: 0) == [0, 1, 2, 3, 4, 5, 6]  # nothing happens yet: go on upwards


def test_the_score_is_the_harmonic_mean_and_nothing_makes_up_for_a_lost_part() -> None:
    assert score(1, 1, 1) == pytest.approx(1)
    assert score(0.5, 1, 1) == pytest.approx(3 / (2 + 1 + 1))
    assert score(1, 0, 1) == 0
    assert score(1.7, 1, -0.2) == 0


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    points = {"a": (0.0, 0.5), "b": (0.2, 0.9), "c": (0.3, 0.8), "d": (0.2, 0.9)}
    assert pareto(points) == {"a", "b", "d"}


def test_a_glance_sees_nothing_forgotten_in_the_model_itself(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    glance = QuickScore(model, deletion, seed=0)
    assert glance(model) == 0
    forget(model, deletion, "gradient_ascent", device="cpu", learning_rate=1e-3, **QUICK)
    assert 0 < glance(model) <= 1


def test_methods_are_split_at_commas_that_are_not_before_an_option() -> None:
    text = "npo:beta=0.1,alpha=2, simnpo+geometric,rmu@layers=5-7:parameters=down_proj"
    assert split_methods(text) == ["npo:beta=0.1,alpha=2", "simnpo+geometric", "rmu@layers=5-7:parameters=down_proj"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("45", 45)])
def test_a_budget_is_a_length_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0m", "5 days"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("methods", "words"), [([], "no method"), (["npo", "npo"], "twice"), (["nqo"], "no method is called")]
)
def test_bad_lists_of_methods_are_refused(methods: list[str], words: str, deletion: Request) -> None:
    with pytest.raises(InputError, match=words):
        read_methods(methods, deletion)


def test_a_comparison_is_run_written_and_continued(
    few: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "next_step", lambda scores: len(scores) if len(scores) < 2 else None)
    out, methods = tmp_path / "out", ["grad_diff", "npo@layers=2-"]
    first = compare("tiny", few, methods, out=out, budget=600, device="cpu", **QUICK)
    assert [entry.method for entry in first.entries] == methods
    for entry in first.entries:
        assert entry.chosen is not None
        assert entry.outcome in {"pass", "fail", "inconclusive"}
        assert len(entry.attempts) == 2
        assert (out / entry.chosen.folder / "model").is_dir()
    assert any(entry.best for entry in first.entries)
    page = (out / "compare.html").read_text()
    assert "<svg" in page
    assert "npo@layers=2-" in page
    show_comparison(first, out, as_json=False)
    command = re.search(r"quick audits; .*: letheon audit tiny (\S+) --request (\S+)", capsys.readouterr().out)
    assert command is not None
    assert all(Path(path).exists() for path in command.groups())  # the whole audit can be run as it stands there
    written = json.loads((out / "compare.json").read_text())
    assert written["before"]["retain recall"] == first.before["retain recall"]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(running, "forget", never)
    again = compare("tiny", few, methods, out=out, budget=1, device="cpu", **QUICK)
    assert again.entries == first.entries
    with pytest.raises(InputError, match="other rows, seed or options"):
        compare("tiny", few, methods, out=out, seed=1, device="cpu", **QUICK)


def test_a_method_that_fails_at_every_rate_is_reported_and_the_others_go_on(
    few: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, request: Any, recipe: Any, **options: Any) -> Any:
        if str(recipe) == "npo":
            raise TrainingError("loss is not finite at step 1", "")
        return forget(model, request, recipe, **options)

    monkeypatch.setattr(running, "forget", broken)
    found = compare("tiny", few, ["npo", "grad_diff"], out=tmp_path / "out", budget=1, device="cpu", **QUICK)
    assert [(entry.outcome == "failed", bool(entry.error)) for entry in found.entries] == [(True, True), (False, False)]
    assert "did not run: loss is not finite" in (tmp_path / "out" / "compare.html").read_text()


def test_an_adversarial_method_name_cannot_leave_the_folder(deletion: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        compare("tiny", deletion, ["../../npo"], out=tmp_path / "out", device="cpu")


@pytest.mark.slow
def test_several_jobs_compare_as_one_does(deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ["grad_diff", "npo"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    single, several = (
        compare("tiny", deletion, methods, out=tmp_path / name, budget=0.01, device="cpu", parallel=jobs, **QUICK)
        for name, jobs in (("one", ALONE), ("two", Parallel(jobs=2)))
    )
    assert [timeless(entry) for entry in several.entries] == [timeless(entry) for entry in single.entries]
    assert several.before == single.before
    for entry in single.entries:
        assert entry.chosen is not None
        folder = Path(entry.chosen.folder) / "model"
        assert save_hash(tmp_path / "one" / folder) == save_hash(tmp_path / "two" / folder)
    loaded = load("tiny", device="cpu")
    with pytest.raises(InputError, match="cannot share a model in memory"):
        compare(loaded, deletion, methods, out=tmp_path / "x", parallel=Parallel(jobs=2))


def timeless(entry: Entry) -> Entry:
    """Take the seconds out of an entry."""
    attempts = [replace(attempt, seconds=0.0) for attempt in entry.attempts]
    return replace(entry, attempts=attempts, chosen=entry.chosen and replace(entry.chosen, seconds=0.0))


@pytest.mark.slow
def test_a_run_that_was_cut_off_is_continued(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "next_step", lambda scores: None if scores else 0)
    options = {**QUICK, "checkpoint_steps": 1}
    whole = compare("tiny", deletion, ["grad_diff"], out=tmp_path / "whole", device="cpu", **options)
    logged, stepped = Run.log, []

    def cut_off(run: Run, **values: Any) -> None:
        logged(run, **values)
        stepped.append(values["step"])
        if stepped == [1, 2, 3]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", cut_off)
    cut = {"methods": ["grad_diff"], "out": tmp_path / "cut", "device": "cpu", **options}
    with pytest.raises(KeyboardInterrupt):
        compare("tiny", deletion, **cut)
    continued = compare("tiny", deletion, **cut)
    assert stepped == [1, 2, 3, 3, 4]  # its checkpoint held two steps
    assert [timeless(entry) for entry in continued.entries] == [timeless(entry) for entry in whole.entries]
