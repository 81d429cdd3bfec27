"""General ability in the audit: paired differences by hand, the page, the harness on a local task, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from letheon import audit
from letheon.audit.measuring import harness
from letheon.audit.measuring.harness import GeneralTasks, TaskScores, run_harness
from letheon.audit.page.page import ability_of
from letheon.audit.record.general_ability import ability_differences, ability_metrics
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.jobs.forget import ResumedForget
from letheon.jobs.options import AuditOptions
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.benchmark import Score
from letheon.measure.lm_eval_tasks import export_tasks, task_name
from letheon.measure.run import read_measure


def test_models_are_compared_document_by_document() -> None:
    before = TaskScores("sums", "acc", {str(i): 1.0 for i in range(8)})
    after = TaskScores("sums", "acc", {str(i): float(i > 1) for i in range(8)})
    ability = {"before": [before], "after": [after]}
    (row,) = ability_differences(ability, seed=0)
    assert (row["task"], row["against"], row["value"], row["n"]) == ("sums", "before", -0.25, 8)
    assert row["low"] < row["value"] < row["high"] <= 0
    metrics = ability_metrics(ability, seed=0)
    assert [(one.name, one.model, one.value.value) for one in metrics] == [
        ("lm_eval:sums", "before", 1.0), ("lm_eval:sums", "after", 0.75),
    ]  # fmt: skip
    (shown,) = ability_of({"general_ability": [row]})
    assert (shown.against, shown.change.value, shown.n) == ("before", -0.25, 8)
    assert ability_of({}) == []


def test_tasks_without_the_extra_or_with_a_wrong_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert GeneralTasks.read("") is None
    with pytest.raises(InputError, match="without --lm-eval"):
        GeneralTasks.read("", tmp_path)
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"(?s)needs the package lm-eval.*letheon\[lm-eval\]"):
        GeneralTasks.read("arc_easy")


def test_a_resumed_run_is_audited_under_the_tasks_that_it_was_started_with() -> None:
    labels = {"audit": True, "lm_eval": "sums", "lm_eval_path": "/tasks"}
    resumed = SimpleNamespace(given=SimpleNamespace(audit=AuditOptions()), config={"labels": labels})
    options = ResumedForget.audit.fget(resumed)  # type: ignore[attr-defined]
    assert (options.lm_eval, options.lm_eval_path) == ("sums", Path("/tasks"))


def test_measures_that_choose_are_exported_and_others_refused(tmp_path: Path) -> None:
    assert task_name("normad", "country_value: accuracy") == "letheon_normad_country_value"
    names = export_tasks(read_measure("normad", limit=3), tmp_path)
    assert names[-1] == "letheon_normad_rule"
    settings = json.loads((tmp_path / "letheon_normad_rule.yaml").read_text())  # JSON is YAML
    data = Path(settings["dataset_kwargs"]["data_files"]["test"])
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    assert [row["options"] for row in rows] == [["Yes", "No", "Neither"]] * 3
    for made in (read_measure("normad", read="text"), read_measure("compression_decay")):
        with pytest.raises(InputError, match="no multiple-choice measure"):
            export_tasks(made, tmp_path)


@pytest.mark.slow
def test_the_harness_gives_the_scores_of_the_measure(
    tiny: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    expected: dict[str, Score] = {}
    for name in ("normad", "metacognition"):
        made = read_measure(name, limit=12)
        scores = made.evaluate(LocalResponder(tiny))
        export_tasks(made, tmp_path)
        expected |= {task_name(name, part): scores[part] for part in made.choices()}  # type: ignore[attr-defined]
    found = {one.task: one for one in run_harness(tiny, list(expected), tmp_path, chat=True)}
    assert "it/s" not in capsys.readouterr().err  # quiet, as all tests are
    for task, score in expected.items():
        assert list(found[task].items.values()) == list(score.items.values()), task
    with pytest.raises(InputError, match="no task 'letheon_normad_ruel'"):
        run_harness(tiny, ["letheon_normad_ruel"], tmp_path)


@pytest.mark.slow
def test_an_audit_runs_a_local_task_on_every_model(tiny: LanguageModel, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": f"{i} and {i} is", "choices": [str(2 * i), "x"], "gold": 0} for i in range(1, 9)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path}/sums.jsonl\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: '{{gold}}'\nmetric_list:\n  - metric: acc\n"
    )
    tasks = GeneralTasks.read("sums", tmp_path)
    facts = [Example(f"Who is number {i}?", f"Person {i}.", id=f"r{i}") for i in range(6)]
    request = Request(forget=facts[:3], retain=facts[3:])
    record = audit(tiny, tiny, request, general_tasks=tasks, quick=True, cache=False, out=tmp_path / "audit")
    assert [one.value.n for one in record.metrics if one.name == "lm_eval:sums"] == [8, 8]
    (row,) = record.settings["general_ability"]  # type: ignore[misc]
    assert (row["value"], row["against"]) == (0.0, "before")  # type: ignore[index,call-overload]
    assert "General ability" in (tmp_path / "audit" / "report.html").read_text()
