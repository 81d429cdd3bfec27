"""The head of a model card names the model on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from letheon.core.model.card import card_head, hub_base


def test_the_base_is_a_hub_id_with_its_relation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\nbase_model_relation: finetune" in card_head(
        "smollm2", False
    )
    assert "base_model_relation: adapter\nlibrary_name: peft" in card_head("org/name", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123")
    assert hub_base("org/name") == ("org/name", "abc123")
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    assert hub_base(str(snapshot)) == ("org/name", "abc123")


def test_a_local_folder_is_no_hub_id_and_its_own_card_is_read(tmp_path: Path) -> None:
    assert "base_model" not in card_head(str(tmp_path), False)
    (tmp_path / "README.md").write_text("---\nbase_model: org/name\n---\n")
    assert hub_base(str(tmp_path)) == ("org/name", "")
    assert hub_base("my-model") == ("", "")


def test_a_card_says_that_embedded_weights_come_from_four_bits() -> None:
    assert "4-bit GGUF" in card_head("smollm2", False)
    assert "4-bit" not in card_head("org/name", False)
