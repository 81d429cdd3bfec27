"""RULE on a LoRA adapter, a new one or the model's own: what moves, the reference policy, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.encoding import Batch
from letheon.core.training.reinforcement import Rollout, token_logp
from letheon.forget.procedures.rule import reinforce
from letheon.forget.procedures.rule.boundary import Query
from letheon.forget.procedures.rule.reinforce import Reinforce
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.testing.kills import Killed, killed_before_step
from letheon.testing.samples import sample_request, save_random_adapter

pytestmark = pytest.mark.oracle("reinforce")
SHORT = "rule:group=4,max_new_tokens=5,steering_steps=3,blanks=false"
QUICK: dict[str, Any] = {"learning_rate": 3e-2, "batch_size": 4, "precision": "float32", "device": "cpu", "steps": 3}
KINDS = ["new", "own"]


def low(self: Reinforce, drawn: list[Rollout], asked: list[Query]) -> Tensor:
    """A reward that a model of random bytes can earn: many low byte values."""
    found = [sum(ord(letter) < 80 for letter in rollout.text) / (len(rollout.text) or 1) for rollout in drawn]
    return torch.tensor(found).view(-1, self.settings.group)


@pytest.fixture(autouse=True)
def earnable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reinforce, "rewards", low)


def start(kind: str, folder: Path) -> tuple[str, str]:
    """The model that a run starts from, and its method."""
    return ("tiny", f"{SHORT},lora=4") if kind == "new" else (save_random_adapter(folder / "adapter"), SHORT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_moves_and_the_weights_below_it_do_not(kind: str, tmp_path: Path) -> None:
    name, method = start(kind, tmp_path)
    result = forget(name, sample_request(), method, out=tmp_path / "run", **QUICK)
    assert result.outcome.steps == 6
    moved = dict(result.model.model.named_parameters())
    plain = dict(load("tiny", device="cpu").model.named_parameters())
    base = {name: p for name, p in moved.items() if "lora_" not in name}
    assert len(base) == len(plain)
    for name, parameter in base.items():
        bare = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert torch.equal(parameter, plain[bare])
    assert 0 < result.moved < 1  # of the adapter's entries, not of the weights below
    for folder in ("model", "steering"):  # PEFT reads both
        saved = PeftModel.from_pretrained(load("tiny", device="cpu").model, str(tmp_path / "run" / folder))
        adapter = {name: p for name, p in saved.named_parameters() if "lora_" in name}
        assert adapter.keys() == moved.keys() - base.keys()
        assert folder == "steering" or all(torch.equal(p, moved[name]) for name, p in adapter.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steering", [0, 3])
def test_the_reference_is_the_steered_policy_and_without_steering_the_one_that_the_run_began_with(
    kind: str, steering: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new adapter that was not steered is then the model with its adapter switched off."""
    seen: list[tuple[Batch, Tensor, Tensor]] = []
    loss = reinforce.policy_loss

    def noted(logp: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, batch: Batch, settings: Any) -> Any:
        seen.append((batch, reference, logp.detach()))
        return loss(logp, old, reference, advantage, batch, settings)

    monkeypatch.setattr(reinforce, "policy_loss", noted)
    name, method = start(kind, tmp_path)
    method = method.replace("steering_steps=3", f"steering_steps={steering}")
    result = forget(name, sample_request(), method, out=tmp_path / "run", **QUICK)
    began = load(tmp_path / "run" / "steering" if steering else name, device="cpu")

    def largest(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().max())

    with torch.no_grad():
        for number, (batch, reference, present) in enumerate(seen):
            assert largest(reference, token_logp(began, batch, 1.0)[0]) < 1e-4
            assert number == 0 or largest(reference, present) > 1e-3, "the policy has moved"
        if kind == "new" and not steering:
            with result.model.model.disable_adapter():
                assert largest(seen[-1][1], token_logp(result.model, seen[-1][0], 1.0)[0]) < 1e-4
    assert result.outcome.history[steering]["kl"] == pytest.approx(0, abs=1e-6)
    assert result.outcome.history[-1]["kl"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_makes_answers_likelier_by_their_advantage(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Batch, Tensor, Tensor]] = []
    loss = reinforce.policy_loss

    def noted(logp: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, batch: Batch, settings: Any) -> Any:
        seen.append((batch, logp.detach(), advantage))
        return loss(logp, old, reference, advantage, batch, settings)

    monkeypatch.setattr(reinforce, "policy_loss", noted)
    name, method = start(kind, tmp_path)
    method = method.replace("steering_steps=3", "steering_steps=0")
    result = forget(name, sample_request(), method, **{**QUICK, "steps": 1, "learning_rate": 1e-3})
    ((batch, before, advantage),) = seen
    with torch.no_grad():
        gained = token_logp(result.model, batch, 1.0)[0] - before
    assert float((advantage * gained).sum()) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_either_stage_it_ends_where_an_unbroken_run_does(kind: str, tmp_path: Path) -> None:
    name, method = start(kind, tmp_path)
    unbroken = forget(name, sample_request(), method, **QUICK).model.parameters_hash()
    for kill_at in (2, 4):
        out = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed), killed_before_step(kill_at):
            forget(name, sample_request(), method, out=out, checkpoint_steps=1, **QUICK)
        result = resume(out, device="cpu")
        assert result.model.parameters_hash() == unbroken
        assert load(out / "model", device="cpu").parameters_hash() == unbroken


def test_what_trains_all_weights_refuses_an_adapter(
    tiny: LanguageModel, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reinforce, "check_trl", lambda: None)
    own = load(save_random_adapter(tmp_path / "adapter"), device="cpu")
    for model, method in ((tiny, f"{SHORT},lora=4"), (own, SHORT)):
        with pytest.raises(InputError, match="engine=trl trains all weights"):
            forget(model, deletion, f"{method},engine=trl", **QUICK)
        with pytest.raises(InputError, match="trains an adapter, and depth=deep"):
            forget(model, deletion, method, depth="deep", out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="lora below 0"):
        forget(tiny, deletion, f"{SHORT},lora=-1", **QUICK)
