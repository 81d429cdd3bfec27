"""Reinforcement fine-tuning: advantages and the filter by hand, the exact gradient, what is kept over tasks, texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError, TrainingError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.reward_files import FileReward
from letheon.retain.strategies.rft import (
    RFT,
    Settings,
    advantages_of,
    drawn_classes,
    exact,
    kept_rows,
    policy_loss,
    similarity,
)
from letheon.retain.streams.texts import text_stream
from letheon.testing.strategies import sample_stream, sample_texts

pytestmark = pytest.mark.oracle("rft")
SIZES = [8, 16, 16, 6]


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    grpo = advantages_of(rewards, "grpo")
    assert grpo[0].tolist() == pytest.approx([0.866, -0.866, -0.866, 0.866], abs=1e-3)  # 0.5 / sqrt(1/3)
    assert advantages_of(rewards, "rloo")[2].tolist() == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 1.0])
    assert advantages_of(rewards, "rejection")[0].tolist() == pytest.approx([2.0, 0.0, 0.0, 2.0])
    assert grpo[1].abs().max() == 0
    assert advantages_of(rewards, "rloo")[1].abs().max() == 0


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_rounding_becomes_no_advantage(estimator: str) -> None:
    rewards = 0.3 + torch.tensor([[0.0, 1e-8, -1e-8]])
    assert advantages_of(rewards, estimator).abs().max() == 0  # type: ignore[arg-type]


def test_the_filter_keeps_what_is_solved_at_least_once() -> None:
    rewards = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert kept_rows(rewards, "solvable").tolist() == [False, True, True]
    assert kept_rows(rewards, "learnable").tolist() == [False, True, False]


def test_over_many_rollouts_the_rloo_gradient_is_that_of_the_expected_reward() -> None:
    """∇ E_p[r] = p (r - E r) for a softmax over classes: the covariance of reward and score, the paper's theory."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    drawn = drawn_classes(logits, 200_000, 1.0, generator)
    logp = logits.log_softmax(-1).gather(1, drawn)
    policy_loss(logp.flatten(), advantages_of(reward[drawn], "rloo").flatten(), None, 0.0).backward()
    p = logits.detach().softmax(-1)
    expected = -p * (reward - (p * reward).sum())
    assert torch.allclose(logits.grad, expected, atol=3e-3)  # type: ignore[arg-type]  # 200,000 draws: about 1e-3


def test_on_policy_the_gradient_is_the_advantage_times_the_score() -> None:
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([0.5, -4.0], dtype=torch.float64)
    policy_loss(logp, advantage, None, 0.0).backward()
    assert torch.allclose(logp.grad, -advantage / 2)  # type: ignore[arg-type]


def test_the_divergence_holds_to_the_reference_and_has_the_right_sign() -> None:
    """k3's gradient is 1 - p_ref/p; at the reference it is 0."""
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.5, -2.0], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    loss = policy_loss(logp, zero, reference, 0.5)
    loss.backward()
    assert loss.item() > 0
    expected = 0.5 * (1 - (reference - logp.detach()).exp()) / 2
    assert torch.allclose(logp.grad, expected)  # type: ignore[arg-type]


def test_rollouts_that_push_nothing_may_be_left_out() -> None:
    logp, advantage = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([0.5, 0.0, -1.0])
    whole = policy_loss(logp, advantage, None, 0.0)
    part = policy_loss(logp[[0, 2]], advantage[[0, 2]], None, 0.0, count=3)
    assert part.item() == pytest.approx(whole.item())


def test_rewards_of_texts_compare_the_whole_answer() -> None:
    row = Example("What is 2 + 2?", "Four plums.")
    assert [exact(text, row) for text in ("four  plums", "four", "What is 2 + 2? Four plums.")] == [1, 0, 0]
    assert similarity("four", row) == pytest.approx(2 * 4 / (4 + 10))


def test_a_reward_of_ones_own_is_asked_and_learned_without_a_label() -> None:
    """Any even class is right: afterwards even classes are drawn."""
    seen: list[tuple[int, ...]] = []

    def even(drawn: Tensor, rows: Any) -> Tensor:
        seen.append(tuple(drawn.shape))
        return (drawn % 2 == 0).float()

    model = mlp(SIZES)
    strategy = RFT(Settings(group=4, kl=0.0, filter="none"), even)
    result = learn(
        model, sample_stream("domain"), strategy, epochs=10, batch_size=10, optimizer="adam", learning_rate=0.01
    )
    assert set(seen) == {(10, 4)}
    inputs = torch.cat([task.test.inputs for task in result.learner.stream])
    assert float((model(inputs).argmax(1) % 2 == 0).float().mean()) > 0.9


def test_a_reward_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text("def even(drawn, rows):\n    return (drawn % 2 == 0).float()\n", encoding="utf-8")
    model, training = mlp(SIZES), {"epochs": 10, "batch_size": 10, "optimizer": "adam", "learning_rate": 0.01}
    result = learn(model, sample_stream("domain"), f"rft:group=4,kl=0.0,filter=none,reward={path}:even", **training)
    inputs = torch.cat([task.test.inputs for task in result.learner.stream])
    assert float((model(inputs).argmax(1) % 2 == 0).float().mean()) > 0.9
    with pytest.raises(InputError, match="has no function 'odd'"):
        learn(mlp(SIZES), sample_stream(), f"rft:reward={path}:odd")


@pytest.mark.parametrize(
    ("code", "problem", "remedy"),
    [
        ("def judge(text, example)\n    return 1.0\n", "expected ':' in line 1", "correct it"),
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere'", "install it"),
        ("limits = {}\nlimits['low']\n", "KeyError in line 2: 'low'", "define the function"),
        ("import sys\nsys.exit('no answers')\n", "SystemExit in line 2: no answers", "define the function"),
        ("def right(text, example):\n    return 1.0\n", "has no function 'judge'", "FILE.py:FUNCTION"),
        ("def judge(text):\n    return 1.0\n", "takes (text), and is given two", "def judge(text, example)"),
    ],
)
def test_a_reward_file_that_cannot_be_used_is_refused_before_the_model_is_read(
    code: str, problem: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "judge.py"
    path.write_text(code, encoding="utf-8")
    monkeypatch.setattr("letheon.retain.learn.load_for", lambda *_: pytest.fail("the model was read"))
    with pytest.raises(InputError, match=re.escape(problem)) as refused:
        learn("tiny", sample_texts(), f"rft:reward={path}:judge")
    assert str(path) in refused.value.problem
    assert "judge" in refused.value.problem.replace(str(path), "")
    assert remedy in refused.value.remedy
    assert "\n" not in refused.value.problem


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 1 / (len(text) * 0)", "failed for the text 'aa' of row 7: ZeroDivisionError in line 2: division by"),
        ("return None", "returned None for the text 'aa' of row 7"),
        ("return float('nan')", "returned nan for the text 'aa' of row 7"),
        ("return '1'", "returned '1' for the text 'aa' of row 7"),
        ("return [1.0, 0.0]", "returned [1.0, 0.0] for the text 'aa' of row 7"),
    ],
)
def test_a_reward_of_texts_that_is_no_number_is_refused(body: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text(f"def judge(text, example):\n    {body}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(f"{path}:judge {problem}")) as refused:
        FileReward(f"{path}:judge").of_text("aa", Example("Say a", "aaa", id="7"))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return drawn.no_such_thing", "failed for drawn classes of shape (20, 8): AttributeError in line 2"),
        ("return None", "returned None for drawn"),
        ("return 1.0", "returned 1.0 for drawn"),
        ("return drawn[0]", "returned a tensor of shape (8,) for drawn"),
        ("return drawn / 0", "returned numbers that are not finite for drawn"),
    ],
)
def test_a_reward_of_classes_that_is_no_tensor_of_numbers_is_refused(body: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text(f"def judge(drawn, rows):\n    {body}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(f"{path}:judge {problem}")):
        learn(mlp(SIZES), sample_stream(), f"rft:reward={path}:judge")


def test_a_language_model_is_rewarded_by_a_function_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text("def judge(text, example):\n    return len(text) > 1\n", encoding="utf-8")
    options = f"rft:group=2,filter=none,max_new_tokens=2,reward={path}:judge"
    assert learn("tiny", sample_texts(), options, batch_size=6, device="cpu").steps == 3
    assert FileReward(f"{path}:judge").of_text("aa", Example("Say a", "aaa")) == 1.0


@pytest.mark.parametrize("name", ["best", "gone.py:even", "exact:"])
def test_an_unknown_reward_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"FILE\.py:FUNCTION"):
        Settings(reward=name)


@pytest.mark.parametrize("reference", ["stage", "base"])
def test_the_reference_is_the_start_of_the_stage_or_of_the_stream(reference: str) -> None:
    model = mlp(SIZES)
    first = [weight.detach().clone() for weight in model.parameters()]
    strategy = RFT(Settings(group=4, kl=0.5, reference=reference))  # type: ignore[arg-type]
    result = learn(model, sample_stream(), strategy, epochs=3, batch_size=5, learning_rate=0.05)
    same = [torch.equal(a, b) for a, b in zip(strategy.reference.values(), first, strict=True)]
    assert all(same) == (reference == "base")
    assert len(strategy.shares) == len(result.tasks)
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), first, strict=True))


def test_a_stronger_divergence_moves_the_policy_less() -> None:
    def moved(kl: float) -> float:
        model = mlp(SIZES)
        stream = sample_stream("domain")
        inputs = torch.cat([task.test.inputs for task in stream])
        before = model(inputs).log_softmax(-1).detach()
        learn(model, stream, RFT(Settings(group=8, kl=kl, reference="base")), epochs=5, batch_size=5, learning_rate=0.1)
        return (before.exp() * (before - model(inputs).log_softmax(-1))).sum(-1).mean().item()

    assert moved(3.0) < 0.5 * moved(0.0)


def test_only_kept_rows_are_trained_on() -> None:
    seen: set[int] = set()

    def reward(drawn: Tensor, rows: Any) -> Tensor:
        seen.update(rows.index.tolist())
        return (rows.index[:, None] % 2 == 0).float().expand(drawn.shape)

    strategy = RFT(Settings(group=2), reward)

    class Spy(RFT):
        def before_task(self, learner: Any, task: Any) -> None:
            super().before_task(learner, task)
            seen.clear()

    spy = Spy(strategy.settings, reward)
    learn(mlp(SIZES), sample_stream(), spy, batch_size=5)
    assert spy.shares == [0.5] * 3
    assert seen == set(range(0, 20, 2))


def test_nothing_solved_is_said() -> None:
    with pytest.raises(TrainingError, match="no row is solved"):
        learn(mlp(SIZES), sample_stream(), RFT(Settings(), lambda drawn, rows: torch.zeros(drawn.shape)))


def test_a_language_model_learns_to_be_similar(tiny: LanguageModel) -> None:
    settings = Settings(group=6, kl=0.0, filter="none", reward="similarity", max_new_tokens=3)
    strategy = RFT(settings)
    rewards: list[float] = []
    of_texts = strategy._of_texts

    def watched(drawn: Any, examples: Any) -> Tensor:
        found = of_texts(drawn, examples)
        rewards.append(float(found.mean()))
        return found

    strategy._of_texts = watched  # type: ignore[method-assign]
    rows = [Example(f"Say a, {i}", "aaa", id=str(i)) for i in range(4)]
    learn(tiny, text_stream("a", {"a": (rows, rows)}), strategy, epochs=25, batch_size=4, learning_rate=3e-3)
    assert sum(rewards[-5:]) > 3 * sum(rewards[:5])


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_the_loss_of_texts_is_that_of_a_plain_pass_over_the_drawn_tokens(tiny: LanguageModel, kl: float) -> None:
    """Prompt tokens carry no loss; every drawn token carries its rollout's advantage; the mean is over all of them."""
    rows = [Example(f"Say a, {i}", "aaa", id=str(i)) for i in range(2)]
    strategy = RFT(Settings(group=4, kl=kl, filter="none", reward="similarity", max_new_tokens=3))
    seen: list[Any] = []
    draw = strategy._draw

    def watched(*given: Any) -> Any:
        seen.extend(draw(*given))
        return list(seen)

    strategy._draw = watched  # type: ignore[method-assign]
    losses: list[float] = []

    class Stop(Exception):
        pass

    loss_of = strategy._loss_of_texts

    def once(learner: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            for weight in learner.weights:  # the policy is no longer its reference
                weight.mul_(1.01)
        losses.append(loss_of(learner, batch).item())
        raise Stop

    strategy._loss_of_texts = once  # type: ignore[method-assign]
    with pytest.raises(Stop):
        learn(tiny, text_stream("a", {"a": (rows, rows)}), strategy, batch_size=2)
    reward = torch.tensor([similarity(one.text, Example("", "aaa")) for one in seen]).view(2, 4)
    advantages = advantages_of(reward, "grpo").flatten()
    total, tokens = 0.0, 0

    def logp_of(one: Any) -> Tensor:
        ids = torch.tensor([one.encoded.ids])
        logits = tiny.model(ids).logits[0].log_softmax(-1)
        return logits[:-1].gather(1, ids[0, 1:, None])[one.encoded.start - 1 :, 0]

    with torch.no_grad():
        now = [logp_of(one) for one in seen]
        for name, weight in tiny.model.named_parameters():
            if kl:
                weight.copy_(strategy.reference[name])
        before = [logp_of(one) for one in seen]
    for advantage, logp, reference in zip(advantages.tolist(), now, before, strict=True):
        q = reference - logp
        total += float((-advantage + kl * (q.exp() - q - 1)).sum())
        tokens += len(logp)
    assert losses[0] == pytest.approx(total / tokens, abs=1e-5)


def test_what_cannot_be_verified_is_refused(tiny: LanguageModel) -> None:
    rows = [Example("", "running text", id="7")]
    with pytest.raises(InputError, match="row 7: running text"):
        learn(tiny, text_stream("texts", {"one": (rows, rows)}), "rft")
    for options in ({"group": 1}, {"kl": -1.0}, {"filter": "hard"}):
        with pytest.raises(InputError):
            Settings(**options)  # type: ignore[arg-type]


def test_texts_go_through_the_filter_too(tiny: LanguageModel) -> None:
    with pytest.raises(TrainingError, match="no row is solved"):
        learn(tiny, sample_texts(), "rft:filter_rollouts=2,max_new_tokens=2")
