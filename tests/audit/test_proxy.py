"""A proxy reference: refused without a base, trained on the retain rows only, and called by its name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from letheon.audit.measuring.proxy import Settings, check_reference, proxy_reference, resolve_reference
from letheon.cli import main
from letheon.core.atomic import read_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.scoring.answer_trees import score_answers
from letheon.forget.request import Request
from letheon.jobs.audit import AuditJob
from letheon.jobs.compare import CompareJob
from letheon.jobs.options import AuditCriteria, AuditScope, RequestFiles


def test_a_proxy_without_a_base_is_refused_with_the_reason() -> None:
    for text in ("proxy", "proxy:"):
        with pytest.raises(InputError, match="never saw the rows to forget") as refused:
            check_reference(text)
        assert "proxy:BASE" in refused.value.remedy
    with pytest.raises(InputError):
        check_reference("proxy:./no/such/folder")
    with pytest.raises(InputError):
        check_reference("./no/such/folder")
    check_reference("")
    check_reference("proxy:tiny")


def test_the_commands_refuse_it_before_a_model_is_loaded(tmp_path: Path, deletion: Request) -> None:
    deletion.write(tmp_path / "request.json")
    replace(deletion, retain=()).write(tmp_path / "bare.json")

    def audited(file: str, reference: str) -> dict[str, Any]:
        rows = RequestFiles(request=str(tmp_path / file))
        return AuditJob("tiny", "tiny", rows, AuditScope(reference), out=tmp_path / "out").plan()

    def compared(file: str, reference: str, method: str = "npo") -> dict[str, Any]:
        rows = RequestFiles(request=str(tmp_path / file))
        return CompareJob("tiny", method, rows, criteria=AuditCriteria(reference), out=tmp_path / "out").plan()

    for reference, words in (("proxy", "never saw"), ("proxy:./no/such/folder", "no/such/folder")):
        with pytest.raises(InputError, match=words):
            audited("request.json", reference)
        with pytest.raises(InputError, match=words):
            compared("request.json", reference)
    with pytest.raises(InputError, match="retain rows"):
        audited("bare.json", "proxy:tiny")
    with pytest.raises(InputError, match="retain rows"):
        compared("bare.json", "proxy:tiny", "gradient_ascent")
    assert audited("request.json", "proxy:tiny")["reference"] == "proxy:tiny"
    assert compared("request.json", "proxy:tiny")["reference"] == "proxy:tiny"


@pytest.mark.slow
def test_a_comparison_has_the_proxy_as_its_control(tmp_path: Path, deletion: Request, monkeypatch: Any) -> None:
    deletion.write(tmp_path / "request.json")
    words = (
        "compare tiny --methods gradient_ascent --budget 1s --steps 2 --batch-size 4 --reference proxy:tiny -q --json"
    )
    files = ["--request", str(tmp_path / "request.json"), "--out", str(tmp_path / "c")]
    monkeypatch.setattr(sys, "argv", ["letheon", *words.split(), *files])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    record = read_json(tmp_path / "c" / "gradient_ascent" / "audit.json")
    names = {model["role"]: model["name"] for model in record["models"]}
    assert names["reference"] == "proxy: tiny with 8 retain rows"
    assert any(warning.startswith("The reference is a proxy") for warning in record["warnings"])


def test_a_name_stays_a_name(deletion: Request) -> None:
    assert resolve_reference("", deletion) is None
    assert resolve_reference("some/model", deletion) == "some/model"


def test_without_retain_rows_there_is_nothing_to_learn(tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match="retain rows"):
        proxy_reference(tiny, replace(deletion, retain=()))


def test_it_learns_what_is_kept_and_leaves_the_base_alone(tiny: LanguageModel, deletion: Request) -> None:
    before = tiny.parameters_hash()
    proxy = proxy_reference(tiny, deletion, Settings(learning_rate=1e-2, epochs=10))
    assert tiny.parameters_hash() == before
    assert not tiny.has_adapter
    assert not proxy.has_adapter

    def gain(rows: tuple) -> float:  # type: ignore[type-arg]
        asked = [(row.prompt, [row.answer]) for row in rows]
        means = [[float(found[0].logp.mean()) for found in score_answers(model, asked)] for model in (tiny, proxy)]
        return sum(b - a for a, b in zip(*means, strict=True)) / len(rows)

    assert gain(deletion.retain) > gain(deletion.forget) + 0.1
    assert proxy.name == "proxy: tiny with 8 retain rows"
    assert any(note.startswith("The reference is a proxy") for note in proxy.notes)


def test_training_ends_once_the_rows_are_known(tiny: LanguageModel, deletion: Request) -> None:
    enough = proxy_reference(tiny, deletion, Settings(enough=100.0))
    one_epoch = proxy_reference(tiny, deletion, Settings(epochs=1))
    assert enough.parameters_hash() == one_epoch.parameters_hash()
