"""Reinforcement by TRL's GRPO trainer, where the extra `trl` is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letheon.core.model.models import load
from letheon.forget.request import Request
from letheon.forget.run import forget
from tests.forget.test_reinforce import QUICK
from tests.forget.test_reinforce import earnable as earnable


@pytest.mark.usefixtures("earnable")
def test_trl_reinforces_by_the_same_rewards(deletion: Request, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    text = "reinforce:engine=trl,group=16,max_new_tokens=6,steering_steps=2,blanks=false"
    options = {**QUICK, "steps": 12, "learning_rate": 3e-3, "batch_size": 4}
    result = forget("tiny", deletion, text, out=tmp_path / "run", **options)
    history = result.outcome.history[2:]
    assert result.outcome.steps == len(history) + 2 == 14
    rewards = [metrics["reward"] for metrics in history]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3
    assert history[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert history[-1]["kl"] > 0  # against the steered model
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 15))
    assert (tmp_path / "run" / "rollouts.jsonl").exists()
    assert load(tmp_path / "run" / "model", device="cpu").parameters_hash() == result.model.parameters_hash()
