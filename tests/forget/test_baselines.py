"""The baselines that leave the weights as they are: what each changes, on which rows, and that nothing is left."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from letheon.cli.app import main
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.settings import TrainSettings
from letheon.forget import baselines, guards
from letheon.forget.baselines import measure_baselines
from letheon.forget.guards import InContext
from letheon.forget.request import Request
from letheon.forget.sequences import sharding
from letheon.forget.sequences.sharding import Sharded, ShardSettings
from letheon.jobs.baselines import BaselineOptions
from letheon.probe.erasure import concept_states, erased, fit_eraser


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch, deletion: Request) -> None:
    """Every greedy answer is the true answer to the question that ends the prompt."""
    answers = {row.prompt: row.answer for row in (*deletion.forget, *deletion.retain)}

    def answered(model: LanguageModel, prompts: Sequence[str], **options: Any) -> list[str]:
        return [next(text for asked, text in answers.items() if prompt.endswith(asked)) for prompt in prompts]

    monkeypatch.setattr(baselines, "generate", answered)
    monkeypatch.setattr(guards, "generate", answered)


def probability(model: LanguageModel, rows: Sequence[Example], prompts: Sequence[str]) -> float:
    scored = score_answers(model, [(prompt, [row.answer]) for prompt, row in zip(prompts, rows, strict=True)])
    return float(np.mean([found[0].probability for found in scored]))


@pytest.mark.usefixtures("knowing")
def test_each_baseline_changes_what_it_says(tiny: LanguageModel, deletion: Request) -> None:
    weights = tiny.parameters_hash()
    plain, context, guard, leace = measure_baselines(tiny, deletion, layer=1)
    assert tiny.parameters_hash() == weights
    assert [one.name for one in (plain, context, guard, leace)] == ["none", "in-context", "guardrail", "leace, layer 1"]
    assert (plain.forget_rouge, plain.retain_rouge) == (1.0, 1.0)
    assert guard.forget_rouge < 0.5 < guard.retain_rouge, "the filter stands before the rows to forget, not the others"
    assert guard.forget_probability is None
    before = InContext(deletion, 4, 0)
    asked = [before.prompt(row.prompt) for row in deletion.forget]
    assert context.forget_probability == pytest.approx(probability(tiny, deletion.forget, asked))
    with erased(tiny, 1, fit_eraser(*concept_states(tiny, deletion.forget, deletion.retain, 1))):
        expected = probability(tiny, deletion.retain, [row.prompt for row in deletion.retain])
    assert leace.retain_probability == pytest.approx(expected)
    assert leace.retain_probability != plain.retain_probability


def test_what_cannot_be_asked_is_refused(tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match="questions about both sides"):
        measure_baselines(tiny, replace(deletion, retain=()))
    nameless = tuple(replace(row, subject=None, value=None) for row in deletion.forget)
    with pytest.raises(InputError, match="a guardrail has nothing to look for"):
        measure_baselines(tiny, replace(deletion, forget=nameless))
    with pytest.raises(InputError, match="--others -1"):
        BaselineOptions(others=-1)
    with pytest.raises(InputError, match="layer 4 of a model with 4 layers"):
        measure_baselines(tiny, deletion, layer=4)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, people, rest in (("f", "Ann Bea", "lives in Oslo"), ("k", "Cid Dan", "eats kale")):
        rows = [
            {"question": f"What about {one}?", "answer": f"{one} {rest}.", "subject": one} for one in people.split()
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The object that a command prints."""
    monkeypatch.setattr(sys, "argv", ["letheon", *words, "--quiet", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def test_the_command_prints_every_baseline(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("--forget", "f.jsonl", "--retain", "k.jsonl", "--max-new-tokens", "2")
    found = run(monkeypatch, capsys, "baselines", "tiny", *rows)
    assert [one["name"] for one in found] == ["none", "in-context", "guardrail", "leace, layer 2"]
    monkeypatch.setattr(sys, "argv", ["letheon", "baselines", "tiny", *rows, "--layer", "9", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "layer 9 of a model with 4 layers" in capsys.readouterr().err


def test_shards_are_trained_emptied_of_rows_and_asked(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "all.jsonl").write_text((files / "f.jsonl").read_text() + (files / "k.jsonl").read_text())
    training = ("--shards", "2", "--slices", "1", "--epochs", "1", "--batch-size", "2", "--learning-rate", "1e-2")
    made = run(monkeypatch, capsys, "sisa", "train", "tiny", "--rows", "all.jsonl", *training, "--out", "s")
    assert sum(made["rows of each shard"]) == 4
    asked = run(monkeypatch, capsys, "sisa", "ask", "s", "--rows", "k.jsonl")
    assert len(asked["probability"]) == 2
    planned = run(monkeypatch, capsys, "sisa", "forget", "s", "--rows", "f.jsonl", "--dry-run")
    assert planned["rows that are left"] == 2
    assert run(monkeypatch, capsys, "sisa", "forget", "s", "--rows", "f.jsonl")["rows that are left"] == 2
    assert "Ann" not in (files / "s" / "sharded.json").read_text()


class Killed(BaseException):
    pass


def test_what_a_killed_training_or_deletion_left_is_done_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Example(f"Where is {i}?", f"In {i}.") for i in range(6)]
    settings, training = ShardSettings("tiny", shards=2, slices=1, epochs=1), TrainSettings(learning_rate=1e-3)
    learn, calls = sharding.finetune, iter([True, False, True, True, False])

    def dies(*words: Any, **options: Any) -> None:
        if not next(calls, True):
            raise Killed
        learn(*words, **options)

    monkeypatch.setattr(sharding, "finetune", dies)
    with pytest.raises(Killed):
        Sharded.train(rows, tmp_path, settings, training)
    with pytest.raises(InputError, match="shard 1 has no slice 0"):
        Sharded(tmp_path).constituents()
    with pytest.raises(InputError, match="holds a sharded model"):
        Sharded.train(rows[1:], tmp_path, settings, training)
    made = Sharded.train(rows, tmp_path, settings, training)
    assert made.missing() is None
    with pytest.raises(InputError, match="holds a sharded model"):
        Sharded.train(rows, tmp_path, settings, training)
    next(calls)
    with pytest.raises(Killed):
        made.forget(rows[:1])
    again = Sharded(tmp_path)
    assert list(again.forget(rows[:1])) == [made.place(rows[0])[0]]
    assert len(again.constituents()) == 2
    with pytest.raises(InputError, match="no shard has the row"):
        again.forget(rows[:1])
