"""Continued learning: what a stream of ordinary tasks brings back of the forgotten, and what it costs of the kept."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.test_run import LIGHT, REQUEST, ROWS, before, reference, retrained

from letheon.audit.criteria import Criterion
from letheon.audit.measuring.continuation import Continuation, ordinary_stream, read_continuation
from letheon.audit.measuring.continued_learning import ContinuedLearning, measured_rows, subjects_taught
from letheon.audit.page.page import render_audit
from letheon.audit.plan import make_plan
from letheon.audit.record.continued_learning import NO_KEPT, continued_section, with_first_task
from letheon.audit.record.evidence import Evidence
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import judge, load_profile
from letheon.cli import main
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.jobs.audit import AuditJob
from letheon.jobs.options import RequestFiles
from letheon.retain.metrics import Curve, backward_transfer, forgetting, minimum_accuracy, summary
from letheon.retain.settings import LearnSettings
from letheon.retain.streams.texts import text_stream

OTHERS = [
    Example(f"What has {name}?", f"{name} has a {pet}.", id=name)
    for name, pet in {"Gus": "ram", "Hal": "eel", "Ida": "bee", "Jon": "ant"}.items()
]
HOSTILE = "<script>alert(1)</script>"
STREAM = text_stream("others", {HOSTILE: (OTHERS[:2], OTHERS[:2]), "b": (OTHERS[2:], OTHERS[2:])})
GIVEN = Continuation(STREAM, settings=LearnSettings(batch_size=1, learning_rate=1e-3, evaluate_every=2))
# Two tasks of two steps each, looked at after every step; of the second no test row is asked during the first.
CURVE = Curve(
    tasks=2,
    step=[0, 1, 2, 3, 4],
    task=[-1, 0, 0, 1, 1],
    accuracy=[[0.0, 0.0], [0.5, np.nan], [1.0, 0.0], [0.5, 0.5], [0.5, 1.0]],
    loss=[[2.0, 2.0], [1.0, np.nan], [0.1, 1.9], [0.5, 1.0], [0.5, 0.1]],
    ends=[2, 4],
)
FORGOTTEN = [[0, 0], [0, 0], [1, 1], [1, 0], [1, 0]]
KEPT = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]


def learning() -> ContinuedLearning:
    recall = np.hstack([FORGOTTEN, KEPT]).astype(float)
    return ContinuedLearning(CURVE, recall, recall / 2, forgotten=2)


# From measurements to numbers -----------------------------------------------------------------------------------------


def test_what_comes_back_and_what_it_costs_by_hand() -> None:
    one = continued_section("after", learning(), GIVEN, seed=0)
    assert one.comes_back.value == 0.5  # nothing before, one of two at the end
    assert (one.highest.value, one.highest.n) == (1.0, 2)  # in between both were given
    assert one.kept_lost.value == 0.25
    assert (one.kept_lowest.value, one.kept_lowest.n) == (0.25, 4)
    assert one.stability_gap.value == 0.5  # a quarter at the worst, three quarters at the end
    assert [point.forgotten_recall for point in one.points] == [0, 0, 1, 0.5, 0.5]
    assert [point.forgotten_probability for point in one.points] == [0, 0, 0.5, 0.25, 0.25]
    assert [point.task for point in one.points] == [0, 1, 1, 2, 2]
    assert one.points[1].accuracy == [0.5, None]
    for value in (one.comes_back, one.kept_lost):
        assert (value.low or 0) <= (value.value or 0) <= (value.high or 0)


def test_they_are_the_metrics_of_continual_learning_with_the_set_as_the_task_that_was_learned_first() -> None:
    """The forgotten (or the kept) as the first of two tasks, the stream as the second."""
    one = continued_section("after", learning(), GIVEN, seed=0)

    def with_stream(rows: list[list[int]]) -> Curve:
        whole = Curve(1, CURVE.step, [min(task, 0) for task in CURVE.task], [[0.0]] * 5, [[0.0]] * 5, [4])
        return with_first_task(whole, np.mean(rows, 1).tolist())

    assert backward_transfer(with_stream(FORGOTTEN).matrix()) == one.comes_back.value
    assert forgetting(with_stream(KEPT).matrix()) == one.kept_lost.value
    assert minimum_accuracy(with_stream(KEPT)) == one.kept_lowest.value


def test_the_streams_metrics_take_the_kept_rows_as_the_first_task() -> None:
    one = continued_section("after", learning(), GIVEN, seed=0)
    whole = with_first_task(CURVE, np.mean(KEPT, 1).tolist())
    assert whole.matrix().tolist() == [[1, 0, 0], [1, 0, 0], [0.25, 1, 0], [0.75, 0.5, 1]]
    assert one.metrics["average accuracy"].value == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert one.metrics["forgetting"].value == pytest.approx(((1 - 0.75) + (1 - 0.5)) / 2)
    assert one.metrics["minimum accuracy"].value == pytest.approx((0.25 + 0.5) / 2)
    assert one.metrics["worst-case accuracy"].value == summary(whole)["worst-case accuracy"]


def test_without_kept_rows_their_numbers_are_missing_with_the_reason() -> None:
    bare = replace(learning(), recall=np.array(FORGOTTEN, float), probability=np.array(FORGOTTEN, float))
    one = continued_section("after", bare, GIVEN, seed=0)
    assert one.comes_back.value == 0.5
    for value in (one.kept_lost, one.kept_lowest, one.stability_gap, *one.metrics.values()):
        assert (value.value, value.reason) == (None, NO_KEPT)


# What may be learned --------------------------------------------------------------------------------------------------


def rows_named(name: str, n: int) -> list[Example]:
    return [Example(f"Where is {name} {i}?", f"In {i}.", id=f"{name}{i}") for i in range(n)]


def test_auto_takes_general_text_else_half_of_the_retain_rows_which_are_then_not_watched() -> None:
    general = [Example("", f"Text number {i}.", id=f"g{i}") for i in range(10)]
    request = Request(forget=ROWS[:2], retain=rows_named("r", 16), general=general)
    assert [(len(task.train), len(task.test)) for task in ordinary_stream(request)] == [(4, 1), (4, 1)]
    kept = replace(request, general=())
    stream = ordinary_stream(kept)
    taught = {row.id for task in stream for row in (*task.train, *task.test) if isinstance(row, Example)}
    forgotten, watched = measured_rows(make_plan(before(), kept, LIGHT), stream)
    assert taught == {f"r{i}" for i in range(0, 16, 2)}
    assert {row.id for row in watched} == {f"r{i}" for i in range(1, 16, 2)}
    assert [row.id for row in forgotten] == ["Ann", "Bob"]
    with pytest.raises(InputError, match="6 general and 3 retain"):
        ordinary_stream(REQUEST)


def test_what_cannot_be_learned_is_refused_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stream of images"):
        read_continuation("split-digits", REQUEST)
    with pytest.raises(InputError, match="no stream is called"):
        read_continuation("nothing", REQUEST)
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"question": row.prompt, "answer": f" {row.answer}"}) + "\n" for row in [*OTHERS, ROWS[1]])
    )
    (tmp_path / "stream.toml").write_text('[[task]]\nname = "t"\ntrain = "rows.jsonl"\n')
    with pytest.raises(InputError, match="is forget row Bob"):
        read_continuation(tmp_path / "stream.toml", REQUEST)
    request = replace(REQUEST, forget=ROWS[:1])
    assert read_continuation(tmp_path / "stream.toml", request).strategy == "naive"
    with pytest.raises(InputError, match="works with classes"):
        read_continuation(tmp_path / "stream.toml", request, "gdumb")
    with pytest.raises(InputError, match="strategy"):
        read_continuation(tmp_path / "stream.toml", request, "naivest")


def test_rows_that_name_a_forgotten_subject_are_counted() -> None:
    plan = make_plan(before(), REQUEST, LIGHT)
    taught = text_stream("s", {"t": ([*OTHERS[:1], Example("Who is Bob?", "A sailor.")], OTHERS[:1])})
    assert subjects_taught(plan, taught) == 1
    assert subjects_taught(plan, STREAM) == 0


# The audit with it ----------------------------------------------------------------------------------------------------


@cache
def record() -> Audit:
    settings = replace(LIGHT, thorough=False, relearn_steps=0, grids=())
    models: dict[str, Any] = {"reference": reference(), "judge": before(), "settings": settings}
    return audit(before(), retrained(), REQUEST, after_learning=GIVEN, seed=3, **models)


def test_every_model_learns_a_copy_and_is_asked_before_meanwhile_and_after() -> None:
    weights = before().parameters_hash()
    assert [one.model for one in record().continued] == ["before", "after", "reference"]
    for one in record().continued:
        assert [(point.step, point.task) for point in one.points] == [(0, 0), (2, 1), (4, 2)]
        assert one.ends == [2, 4]
        assert (one.forgotten, one.kept) == (2, 3)
    known, after, beside = record().continued
    assert known.points[0].forgotten_recall == known.points[0].kept_recall == after.points[0].kept_recall == 1.0
    assert after.points[0].forgotten_recall == 0.0
    recalls = [[point.forgotten_recall for point in one.points] for one in (after, beside)]
    assert recalls[0] == recalls[1]  # the same weights, but for a hair, learn the same
    assert before().parameters_hash() == weights
    told: Any = record().settings["after_learning"]
    assert (told["strategy"], told["settings"]["seed"], told["tasks"]["b"]) == ("naive", 3, {"train": 2, "test": 2})


def test_the_record_is_read_again_and_the_page_shows_the_curve_with_user_text_escaped() -> None:
    assert Audit.model_validate_json(record().model_dump_json()) == record()
    page = render_audit(record())
    assert "What continued learning brings back" in page
    assert "Recall of the forgotten: steps of learning others" in page
    assert "Recall of the kept: steps of learning others" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "What continued learning brings back" not in render_audit(record().model_copy(update={"continued": []}))


def test_a_point_that_does_not_fit_the_tasks_is_refused() -> None:
    broken = record().model_dump(mode="json")
    broken["continued"][0]["points"][1]["accuracy"].pop()
    with pytest.raises(ValueError, match="of 2 tasks"):
        Audit.model_validate(broken)


# Criteria -------------------------------------------------------------------------------------------------------------

DEMAND = """
[[criterion]]
name = "Ordinary training does not bring the facts back"
metric = "after_learning"
comparison = "<="
threshold = 0.1
basis = "plus reference"
otherwise = { threshold = 0.1 }
why = "The model is trained further every month."

[[criterion]]
name = "What is kept survives it"
metric = "after_learning"
subset = "retain"
comparison = ">="
threshold = 0.5
basis = "times before"
why = "It is trained further."
"""


def outcomes(folder: Path, evidence: Evidence) -> dict[str, tuple[str, str]]:
    standard = Path(sys.modules["letheon.audit.criteria"].__file__ or "").with_name("profiles") / "standard.toml"
    (folder / "own.toml").write_text(standard.read_text(encoding="utf-8") + DEMAND, encoding="utf-8")
    verdict = judge(load_profile(folder / "own.toml"), evidence)
    return {one.criterion.name: (one.outcome, one.words) for one in verdict.criteria}


def learned(role: Any, highest: float, lowest: float) -> Any:
    one = continued_section(role, learning(), GIVEN, seed=0)
    part = {"highest": one.highest.model_copy(update={"value": highest, "low": None, "high": None})}
    return one.model_copy(update=part | {"kept_lowest": one.kept_lowest.model_copy(update={"value": lowest})})


def test_a_profile_may_demand_it(tmp_path: Path) -> None:
    back, kept = "Ordinary training does not bring the facts back", "What is kept survives it"
    none = outcomes(tmp_path, Evidence())
    assert none[back] == (
        "not computable",
        "Not computable: no stream was learned after the deletion (--after-learning).",
    )
    good = [learned("before", 0.9, 0.8), learned("after", 0.1, 0.7), learned("reference", 0.0, 0.8)]
    assert {outcomes(tmp_path, Evidence(continued=good))[name][0] for name in (back, kept)} == {"pass"}
    bad = [good[0], learned("after", 0.6, 0.3), good[2]]
    assert {outcomes(tmp_path, Evidence(continued=bad))[name][0] for name in (back, kept)} == {"fail"}
    lost = [learned("before", 0.0, 0.8), *good[1:]]
    assert "does not give the facts here either" in outcomes(tmp_path, Evidence(continued=lost))[back][1]


def test_the_criteria_that_the_documentation_shows_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    shown = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    metrics = [Criterion.model_validate(one).metric for block in shown for one in block["criterion"]]
    assert metrics == ["recall", "after_learning"]


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_learns_on_and_prints_what_came_back(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    replace(REQUEST, forget=ROWS[:1], neighbours=()).write(tmp_path / "request.json")
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"question": row.prompt, "answer": row.answer}) + "\n" for row in OTHERS)
    )
    (tmp_path / "stream.toml").write_text('[[task]]\nname = "t"\ntrain = "rows.jsonl"\n')
    words = ["letheon", "audit", "tiny", "tiny", "--request", "request.json", "--quick", "-q", "--json", "--out", "a"]
    learning = ["--after-learning", "stream.toml", "--strategy", "replay:capacity=2", "--evaluate-every", "1"]
    monkeypatch.setattr(sys, "argv", [*words, *learning, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert json.loads(capsys.readouterr().out)["after_learning"]["strategy"] == "replay:capacity=2"
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(sys, "argv", [*words, *learning])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    printed = json.loads(capsys.readouterr().out)["after_learning"]
    assert set(printed) == {"before", "after"}
    assert printed["after"]["comes_back"]["n"] == 1
    assert "What continued learning brings back" in (tmp_path / "a/report.html").read_text(encoding="utf-8")


def test_options_of_learning_without_a_stream_are_refused(tmp_path: Path) -> None:
    REQUEST.write(tmp_path / "request.json")
    job = AuditJob(
        "tiny",
        "tiny",
        RequestFiles(request=str(tmp_path / "request.json")),
        out=tmp_path / "a",
        learning={"evaluate_every": 5},
    )
    with pytest.raises(InputError, match="--evaluate-every without --after-learning"):
        job.plan()
