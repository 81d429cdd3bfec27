"""A proxy reference: refused without a base, trained on the retain rows only, and called by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from letheon.audit.proxy import Settings, check_reference, proxy_reference, resolve_reference
from letheon.core.errors import InputError
from letheon.core.likelihood import score_answers
from letheon.core.models import LanguageModel
from letheon.forget.request import Request
from letheon.jobs.auditing import audit_plan


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


def test_the_command_refuses_it_before_a_model_is_loaded(tmp_path: Path, deletion: Request) -> None:
    deletion.write(tmp_path / "request.json")
    given: dict[str, Any] = {"profile": "standard", "out": tmp_path / "out", "request": tmp_path / "request.json"}
    with pytest.raises(InputError, match="never saw"):
        audit_plan("tiny", "tiny", reference="proxy", **given)
    assert audit_plan("tiny", "tiny", reference="proxy:tiny", **given)["reference"] == "proxy:tiny"


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
