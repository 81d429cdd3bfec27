"""The demo: where it is killed, the same command goes on, and ends with the bits of an unbroken one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from letheon.core.atomic import read_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.models import load as load_model
from letheon.forget.settings import Result
from letheon.jobs import demo
from letheon.jobs.demo import DemoJob
from letheon.jobs.options import Machine


@dataclass
class Killed(Exception):
    """In a process's place."""


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tiny model in the real one's place, taught for an epoch; the list fills with what is taught."""
    titles: list[str] = []

    def small(name: str | Path, **options: Any) -> LanguageModel:
        return load_model("tiny" if name == demo.MODEL else name, **options)

    finetune = demo.finetune

    def teaching(model: LanguageModel, *rest: Any, title: str) -> None:
        finetune(model, *rest, title=title)
        titles.append(title)

    monkeypatch.setattr(demo, "load", small)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "recall_share", lambda *_: 1.0)
    monkeypatch.setattr(demo, "finetune", teaching)
    return titles


def job(out: Path) -> DemoJob:
    return DemoJob(out, quick=False, method="grad_diff", machine=Machine(device="cpu"))


def killed(monkeypatch: pytest.MonkeyPatch, out: Path, name: str, by: Callable[..., Any]) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(demo, name, by)
        with pytest.raises(Killed):
            job(out).work()


def test_a_killed_demo_goes_on_and_ends_in_the_bits_of_an_unbroken_one(
    taught: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(before: LanguageModel, after: LanguageModel, *_: Any, **options: Any) -> tuple[str, ...]:
        return before.name, after.name, options["reference"].name

    def finished(_: str, result: Result, record: Any, before: str, out: Path) -> Any:
        assert (Path(before), result.folder) == (out / "before", out / "run")
        return record

    monkeypatch.setattr(demo, "audit", names)
    monkeypatch.setattr(demo, "finish_run", finished)
    whole = job(tmp_path / "whole").work()
    both, broken = ["teaching 8 people", "training the reference"], tmp_path / "broken"
    assert taught == both
    teach = demo.teach

    def until_the_reference(rows: Any, seed: int, device: str, title: str) -> LanguageModel:
        if title == both[1]:
            raise Killed
        return teach(rows, seed, device, title)

    def in_the_third_step(*given: Any, **options: Any) -> None:
        def stop(model: LanguageModel, taken: int) -> None:
            if taken == 3:
                raise Killed

        demo_forget(*given, **options, on_step=stop)

    def before_the_audit(*_: Any, **__: Any) -> None:
        raise Killed

    demo_forget = demo.forget
    killed(monkeypatch, broken, "teach", until_the_reference)
    killed(monkeypatch, broken, "forget", in_the_third_step)
    killed(monkeypatch, broken, "audit", before_the_audit)
    assert (broken / "run" / "result.json").exists()
    spent = read_json(broken / "seconds.json")
    last = job(broken).work()
    assert all(last.seconds[stage] >= spent[stage] for stage in ("load", "teach", "reference", "forget"))
    assert spent["forget"] > 0, "of the step that was killed too"
    assert taught == both + both, "nothing is taught twice"
    assert last.record == whole.record
    assert last.result.outcome.steps == whole.result.outcome.steps
    for place in ("before", "reference", "run/model"):
        own, other = (load_file(tmp_path / name / place / "model.safetensors") for name in ("whole", "broken"))
        assert own.keys() == other.keys()
        assert all(bool((own[key] == other[key]).all()) for key in own)


def test_a_finished_demo_and_one_with_other_options_are_refused(taught: list[str], tmp_path: Path) -> None:
    job(tmp_path)._begin()
    job(tmp_path)._begin()
    for other in (
        replace(job(tmp_path), machine=Machine(device="cpu", seed=1)),
        replace(job(tmp_path), method="npo"),
        replace(job(tmp_path), quick=True),
    ):
        with pytest.raises(InputError, match="begun with other options"):
            other.work()
    assert read_json(tmp_path / "demo.json")["seed"] == 0
    (tmp_path / "report.html").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="holds an earlier demo"):
        job(tmp_path).work()
    for name in ("run", "before"):  # of which nobody knows with which seed it was made
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(InputError, match="holds an earlier demo"):
            job(tmp_path / name).work()
    assert not taught
