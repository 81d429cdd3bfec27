"""FPF moves what it says and nothing else, when it says; k-FPF's triggers; both losses; what replay cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.papers.common.networks import network
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.learned import Learned
from letheon.retain.learner import Learner
from letheon.retain.replay_cost import pass_operations, replay_cost
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.der import DER
from letheon.retain.strategies.fpf import FPF, due
from letheon.retain.strategies.replay import Replay
from letheon.retain.strategy import Strategy
from letheon.testing.strategies import StrategyTrial, check_resumes, sample_stream, sample_texts

pytestmark = pytest.mark.oracle("fpf")
SIZES = [8, 16, 16, 6]
TRAINING = {"epochs": 2, "batch_size": 5, "learning_rate": 0.05}  # 24 steps


def run(text: str | Strategy, **options: object) -> Learned:
    return learn(network(SIZES, 0, batch_norm=True), sample_stream(), text, **(TRAINING | options))  # type: ignore[arg-type]


def learner_of(text: str, **options: object) -> Learner:
    settings = LearnSettings(batch_size=5, **options)  # type: ignore[arg-type]
    learner = make_learner(network(SIZES, 0, batch_norm=True), sample_stream(), read_strategy(text), settings)
    learner.strategy.prepare(learner)
    learner.task = 0
    learner.model.train()
    return learner


def state(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


def test_only_the_chosen_parameters_and_the_running_statistics_move() -> None:
    learner = learner_of("fpf:capacity=20,steps=5", momentum=0.9)
    fpf = learner.strategy.find(FPF)
    for rows in learner.train_rows(learner.stream.tasks[0]).batches(torch.arange(20), 5):
        learner.one_step(rows)
    before, velocity = state(learner), [one.clone() for one in learner.optimizer.velocity]  # type: ignore[union-attr]
    for weight in learner.weights:
        weight.grad = None
    fpf.finetune(learner)
    moved = {name for name, tensor in state(learner).items() if not torch.equal(tensor, before[name])}
    norms = {f"{layer}.{name}" for layer in (1, 4) for name in ("weight", "bias", "running_mean", "running_var")}
    assert moved - {"1.num_batches_tracked", "4.num_batches_tracked"} == norms | {"6.weight"}
    assert all(weight.grad is None for weight in learner.weights), "weight decay would move what has a gradient"
    assert all(torch.equal(a, b) for a, b in zip(velocity, learner.optimizer.velocity, strict=True))  # type: ignore[union-attr]


def test_a_step_is_plain_descent_on_the_memory() -> None:
    """Against torch.optim.SGD on the same rows, with the loss of both forms."""
    for loss in ("ce", "kd"):
        learner = learner_of(f"fpf:steps=1,batch=20,rate=0.1,select=head,loss={loss},distillation=0.3,capacity=20")
        fpf = learner.strategy.find(FPF)
        rows = learner.train_rows(learner.stream.tasks[0])
        stored = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
        fpf.own.add(rows, logits=stored)
        twin = network(SIZES, 0, batch_norm=True).train()
        logits = twin(rows.inputs)
        total = nn.functional.cross_entropy(logits, rows.targets)
        total = total + (0.3 * (logits - stored).square().mean() if loss == "kd" else 0)
        total.backward()
        torch.optim.SGD(twin[6].parameters(), lr=0.1).step()
        fpf.finetune(learner)
        assert torch.allclose(learner.model[6].weight, twin[6].weight, atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize(("total", "k", "steps"), [(24, 1, []), (24, 4, [6, 12, 18]), (25, 4, [6, 12, 18]), (9, 0, [])])
def test_triggers_come_by_step_and_the_last_is_left_to_the_end(total: int, k: int, steps: list[int]) -> None:
    assert [step for step in range(1, total + 1) if due(step, total, k)] == steps


def test_k_fpf_finetunes_k_times_and_last_of_all_at_the_very_end() -> None:
    """24 steps, k = 5: at 4, 8, 12 and 16, which are no ends of tasks but 8 and 16, and after the last step."""
    at: list[int] = []

    class Watched(FPF):
        def finetune(self, learner: Learner) -> None:
            at.append(learner.step)
            super().finetune(learner)
            self.last = state(learner)

    strategy = Watched(FPF.Settings(k=5, steps=2, capacity=12, batch=4))  # type: ignore[attr-defined]
    result = run(strategy)
    assert at == [4, 8, 12, 16, 24]
    assert strategy.replayed == 5 * 2 * 4
    assert all(torch.equal(tensor, strategy.last[name]) for name, tensor in result.model.state_dict().items())
    at.clear()
    run(Watched(FPF.Settings(steps=2, capacity=12)))  # type: ignore[attr-defined]
    assert at == [24]


def test_rows_enter_the_memory_once_a_task_with_the_logits_they_had() -> None:
    fpf = run("fpf:capacity=30,loss=kd,steps=1").learner.strategy.find(FPF)
    assert fpf.own.seen == 60
    assert fpf.own.rows().kept["logits"].shape == (30, 6)


def test_beside_replay_its_memory_is_used() -> None:
    learner = run("replay:capacity=12,batch=3+fpf:steps=4,batch=6").learner
    fpf, replay = learner.strategy.find(FPF), learner.strategy.find(Replay)
    assert fpf.own is None
    assert fpf.memory is replay.memory
    assert replay.memory.drawn == 23 * 3 + 4 * 6, "the first step finds the memory empty"
    with_logits = run("der:capacity=12+fpf:steps=4,loss=kd").learner.strategy
    assert with_logits.find(FPF).memory is with_logits.find(DER).memory


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replay:capacity=12+fpf:loss=kd", "memory without logits"),
        ("fpf:capacity=9,select=haed", "no parameter that is trained"),
        ("fpf:capacity=9,k=25", "k=25 for a stream of 24 steps"),
        ("fpf:k=-1", "k: found -1"),
    ],
)
def test_what_cannot_work_is_refused_before_a_step(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(text)


def test_modules_can_be_chosen_by_name_by_role_and_by_sensitivity() -> None:
    def names(text: str) -> set[str]:
        learner = learner_of(text)
        chosen = {id(parameter) for parameter in learner.strategy.find(FPF).chosen(learner)}
        return {name for name, parameter in learner.parameters.items() if id(parameter) in chosen}

    assert names("fpf:capacity=9,select=3") == {"3.weight", "3.bias"}
    assert names("fpf:capacity=9,select=head/bottom") == {"0.weight", "0.bias", "6.weight"}
    assert names("fpf:capacity=9,select=all") == {
        name for name, _ in network(SIZES, 0, batch_norm=True).named_parameters()
    }
    learner = run("fpf:capacity=9,select=auto,steps=1,budget=0.3").learner
    fpf = learner.strategy.find(FPF)
    assert set(fpf.moved) > set(learner.parameters), "running statistics are watched too"
    chosen = fpf.chosen(learner)
    assert 0 < sum(p.numel() for p in chosen) <= 0.3 * sum(p.numel() for p in learner.weights)


def test_finetuning_the_head_and_norms_brings_old_tasks_back() -> None:
    accuracy = {
        text: run(text, epochs=5).metrics["average accuracy"]
        for text in ("naive", "fpf:capacity=30", "fpf:capacity=30,select=3")
    }
    assert accuracy["fpf:capacity=30"] > max(accuracy["naive"], accuracy["fpf:capacity=30,select=3"]) + 0.2  # type: ignore[type-var,operator]


def test_what_replay_cost_is_counted_by_hand() -> None:
    """Forward 2(8·16 + 16·16 + 16·6) operations a row; backward to the head 2·16·6, to all weights about twice."""
    learner = run("fpf:select=head,steps=3,batch=4,capacity=30").learner
    cost, forward = replay_cost(learner), 2 * (8 * 16 + 16 * 16 + 16 * 6)
    assert (cost.rows, cost.forward, cost.backward) == (12, 12 * forward, 12 * 2 * 16 * 6)
    row = learner.train_rows(learner.stream.tasks[0]).part(0, 1)
    assert pass_operations(learner, row, learner.weights)[1] == 2 * forward - 2 * 8 * 16, "inputs need no gradient"
    both = replay_cost(run("replay:capacity=12,batch=3+fpf:select=head,steps=4,batch=6").learner)
    assert both.rows == 23 * 3 + 4 * 6
    assert both.backward == 23 * 3 * (2 * forward - 2 * 8 * 16) + 24 * 2 * 16 * 6


def test_a_convolutional_network_with_normalisation() -> None:
    body = [nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(24, 6))
    first = model[1].weight.detach().clone()
    result = learn(model, sample_stream(), "fpf:capacity=9,steps=3,k=3", **TRAINING)  # type: ignore[arg-type]
    assert not torch.equal(model[1].weight, first), "ordinary steps move it"
    assert result.learner.strategy.find(FPF).replayed > 0


def test_language_models_have_norms_and_a_vocabulary_matrix() -> None:
    options = {"batch_size": 3, "learning_rate": 1e-3}
    result = learn(load("tiny", device="cpu"), sample_texts(), "fpf:steps=2,batch=4,capacity=9", **options)  # type: ignore[arg-type]
    fpf = result.learner.strategy.find(FPF)
    chosen = {id(parameter) for parameter in fpf.chosen(result.learner)}
    names = {name for name, parameter in result.learner.parameters.items() if id(parameter) in chosen}
    assert {"norm" in name or "embed" in name or "lm_head" in name for name in names} == {True}
    assert len(names) == 4 * 2 + 1 + 1
    for text, more, message in (("fpf", {"adapter": "lora"}, "adapter has none"), ("fpf:loss=kd", {}, "vocabulary")):
        with pytest.raises(InputError, match=message):
            learn(
                load("tiny", device="cpu"),
                sample_texts(),
                f"{text}:capacity=9" if ":" not in text else f"{text},capacity=9",
                **options,
                **more,
            )  # type: ignore[arg-type]


def test_k_fpf_survives_kills_to_the_bit() -> None:
    check_resumes(StrategyTrial("fpf:k=4,steps=3,select=auto,capacity=9", "classes"))
