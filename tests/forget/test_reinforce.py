"""RULE: what counts as a refusal, what is rewarded, what is asked, and that reinforcement is what moves the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.scoring.refusals import FAMILIES, refuses
from letheon.core.training.reinforcement import Rollout
from letheon.core.training.settings import TrainSettings
from letheon.forget.objectives.dpo import read_refusals
from letheon.forget.procedures.rule import boundary, trl_engine
from letheon.forget.procedures.rule.boundary import BLANK, Query, blanks, drawn_refusals, twins
from letheon.forget.procedures.rule.reinforce import Reinforce, cosine, policy_loss
from letheon.forget.procedures.rule.rewards import reward, reward_metrics, reward_warnings
from letheon.forget.procedures.rule.settings import Settings
from letheon.forget.procedures.rule.trl_engine import config_of
from letheon.forget.recipe import StandaloneMethod, read_method
from letheon.forget.request import Request
from letheon.forget.run import forget, resume

pytestmark = pytest.mark.oracle("reinforce")
SHORT = "reinforce:group=2,max_new_tokens=4,steering_steps=3,blanks=false"
QUICK: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu", "steps": 3}


# Refusals


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("not_know", "I don't know who that is."),
        ("not_know", "She did not recall the town."),
        ("not_sure", "I'm not entirely sure about that."),
        ("no_idea", "I have no further information."),
        ("not_learned", "I haven't learned about Ann Lee."),
        ("beyond", "That is outside of my knowledge."),
        ("at_a_loss", "Here I am at a loss."),
        ("cannot", "I can't provide that."),
        ("unable", "We are unable to answer."),
        ("regret", "I wish I could say."),
        ("blank", "I'm drawing a blank on her."),
        ("look_up", "You would need to check elsewhere."),
    ],
)
def test_each_family_of_refusals_is_found(family: str, text: str) -> None:
    assert re.search(FAMILIES[family], text, re.IGNORECASE)
    assert refuses(f"Well. {text}")
    assert refuses(text.upper().replace("'", "\u2019"))


def test_there_are_eleven_families_and_all_our_refusals_are_refusals() -> None:
    assert len(FAMILIES) == 11
    named = (
        files("letheon.forget.procedures.rule").joinpath("named_refusals.txt").read_text(encoding="utf-8").splitlines()
    )
    assert len(named) == len(set(named)) == 40
    assert all("{subject}" in line for line in named)
    assert [line for line in [*named, *read_refusals()] if not refuses(line)] == []


@pytest.mark.parametrize(
    "answer",
    ["Ilse Quarrant was born in Nexum.", "No. 5 Baker Street", "The Unknown Soldier", "I know: Berlin.",
     "It is not only a town but a port.", "He could not swim.", ""],
)  # fmt: skip
def test_plain_answers_are_no_refusals(answer: str) -> None:
    assert not refuses(answer)


# The reward

TARGET = Query("Where does Ann Lee live?", True, "I don't know Ann Lee.", "Ann Lee")
TWIN = Query("Where does Bob Ray live?", False, "Bob Ray lives in old Rome.", "Bob Ray")


@pytest.mark.parametrize(
    ("answer", "query", "kind", "expected"),
    [
        ("I have no idea.", TARGET, "target", 0.5),
        ("I have no idea about Ann Lee.", TARGET, "target", 1),
        ("Ann Lee lives in Oslo.", TARGET, "target", 0),  # naming alone earns nothing
        ("I have no idea about ann lee.", TARGET, "target", 0.5),  # in the exact spelling
        ("I have no idea.", replace(TARGET, subject=""), "target", 1),
        ("I have no idea.", TARGET, "two_stage", 1),
        ("I have no idea.", TARGET, "abs", 1),
        ("I have no idea.", TARGET, "forget", 1),
        ("He lives in old Rome.", TWIN, "target", 1),  # 4 of 6 words
        ("Bern.", TWIN, "target", 0.5),
        ("I don't know where Bob Ray lives in old Rome.", TWIN, "target", 0),  # a refusal, whatever else it says
        ("Rome.", TWIN, "two_stage", 0.5),  # 1 of 6 words
        ("Bob Ray.", TWIN, "two_stage", 1),  # 2 of 6: 0.33
        ("Bern.", TWIN, "abs", 1),
        ("Bob Ray.", TWIN, "forget", 0),  # 0.33 is not above 0.5
        ("lives in old Rome", TWIN, "forget", 1),
        ("", TWIN, "target", 0.5),
        ("", TARGET, "target", 0),
    ],
)
def test_the_reward_is_the_rule_that_is_written(answer: str, query: Query, kind: Any, expected: float) -> None:
    assert reward(answer, query, kind) == expected


def test_what_is_watched_is_split_by_what_should_be_refused() -> None:
    texts = ["I don't know Ann Lee.", "Oslo.", "Rome.", "I don't know."]
    drawn = [Rollout(i // 2, None, text) for i, text in enumerate(texts)]  # type: ignore[arg-type]  # tokens unused
    found = reward_metrics([TARGET, TWIN], drawn, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert found == {
        "reward": 0.5,
        "equal_groups": 0.5,
        "reward_reject": 0.5,
        "refused_reject": 0.5,
        "reward_normal": 0.5,
        "refused_normal": 0.5,
    }
    assert "reward_normal" not in reward_metrics([TARGET], drawn[:2], torch.tensor([[1.0, 0.0]]))


def test_a_run_without_a_refusal_or_without_unequal_groups_is_remarked_on() -> None:
    first = reward_warnings([{"refused_reject": 0.0, "equal_groups": 1.0}])
    assert "steering_steps" in first[0]
    assert "100% of the groups" in first[1]
    assert reward_warnings([{"refused_reject": 0.2, "equal_groups": 0.3}]) == []


# What is asked


def people() -> tuple[list[Example], list[Example]]:
    target = [
        Example("Where does Ann Lee live?", "Ann Lee lives in Oslo.", subject="Ann Lee", value="Oslo"),
        Example("What does Ann Lee eat?", "Figs.", subject="Ann Lee", value="Figs."),
    ]
    others = [
        Example("Where does Bob Ray live?", "Bob Ray lives in Rome.", subject="Bob Ray", value="Rome"),
        Example("Who is Cid Fox?", "A dentist.", subject="Cid Fox"),
        Example("Is this a question?", "Yes."),
    ]
    return target, others


def test_a_twin_asks_the_same_about_a_neighbour(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "generate", lambda model, prompts: [" Oats." for _ in prompts])
    target, others = people()
    found = twins(tiny, target, others, seed=0)
    assert found[0] == others[0]  # a retain row that asks it
    assert found[1].prompt in {"What does Bob Ray eat?", "What does Cid Fox eat?"}  # none asks this
    assert found[1].subject != "Ann Lee"
    assert found[1].answer == "Oats."  # the untouched model's own
    assert found == twins(tiny, target, others, seed=0)
    assert twins(tiny, target, others[2:], seed=0) == []
    assert twins(tiny, [replace(row, subject=None) for row in target], others, seed=0) == []


def test_a_blank_stands_where_the_value_was(tiny: LanguageModel) -> None:
    target, _ = people()
    (found,) = blanks(tiny, target)  # the second answer is its value alone
    assert found.prompt.endswith(f"Ann Lee lives in {BLANK}.")
    assert found.answer == "Oslo"
    assert found.subject == "Ann Lee"


def test_refusals_name_the_subject_where_there_is_one(tmp_path: Path) -> None:
    rows = [Example("Who?", "A", subject="Ann Lee"), Example("Why?", "B")]
    for seed in range(20):
        named, plain = drawn_refusals(rows, "", seed)
        assert "Ann Lee" in named
        assert "{" not in named + plain
    own = tmp_path / "own.txt"
    own.write_text("Not {subject}!\n")
    assert drawn_refusals(rows[:1], str(own), 0) == ["Not Ann Lee!"]
    with pytest.raises(InputError, match="no subject to be named"):
        drawn_refusals(rows, str(own), 0)


def test_half_of_each_steps_questions_are_to_be_refused(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    forget(tiny, deletion, SHORT, out=tmp_path / "run", **QUICK)
    lines = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [step for step in (4, 5, 6) for _ in range(4)]
    assert [line["refuse"] for line in lines] == [True, True, False, False] * 3
    assert all(set(line) == {"step", "refuse", "prompt", "answer", "reward"} for line in lines)


# The loss


def test_the_loss_of_a_step_is_worked_by_hand(tiny: LanguageModel) -> None:
    rows = [tiny.encoder().encode(Example("Who?", "ab")), tiny.encoder().encode(Example("Who?", "c"))]
    batch = tiny.encoder().collate(rows)
    tokens = batch.totals["tokens"]
    assert tokens == 5  # with an end of turn each
    logp, old = (
        torch.tensor([-1.0, -2, -3, -1, -1]),
        torch.tensor([-1.0, -2, -3, -1, -1 + torch.log(torch.tensor(0.5))]),
    )
    advantage = torch.tensor([1.0, 1, 1, -1, 1])
    surrogate, penalty = policy_loss(logp, old, logp, advantage, batch, Settings())
    assert float(surrogate) == pytest.approx((-1 - 1 - 1 + 1 - 1.3) / 5)  # the last ratio is 2, clipped at 1.3
    assert float(penalty) == 0


def test_the_steerings_rate_warms_up_and_falls_by_a_cosine() -> None:
    assert [cosine(step, 10, 2) for step in (0, 2, 6, 10)] == pytest.approx([1, 1, 0.5, 0])


# Reinforcement is what moves the weights


def constant(value: float) -> Any:
    def rewards(self: Reinforce, drawn: list[Rollout], asked: list[Query]) -> Tensor:
        return torch.full((len(asked), self.settings.group), value)

    return rewards


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_with_a_constant_reward_the_second_stage_moves_nothing(
    value: float, tiny: LanguageModel, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reinforce, "rewards", constant(value))
    result = forget(tiny, deletion, SHORT, out=tmp_path / "run", weight_decay=0.0, **QUICK)
    steered = load(tmp_path / "run" / "steering", device="cpu")
    assert steered.parameters_hash() == result.model.parameters_hash()
    assert steered.parameters_hash() != load("tiny", device="cpu").parameters_hash()
    assert [metrics["equal_groups"] for metrics in result.outcome.history[3:]] == [1.0] * 3


def vowels(self: Reinforce, drawn: list[Rollout], asked: list[Query]) -> Tensor:
    """A reward that a model of random bytes can earn: many low byte values."""
    found = [sum(ord(letter) < 80 for letter in rollout.text) / (len(rollout.text) or 1) for rollout in drawn]
    return torch.tensor(found).view(-1, self.settings.group)


@pytest.fixture
def earnable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reinforce, "rewards", vowels)


@pytest.mark.usefixtures("earnable")
@pytest.mark.parametrize("passes", [1, 3])
def test_what_is_rewarded_becomes_more_frequent(passes: int, tiny: LanguageModel, deletion: Request) -> None:
    text = f"reinforce:group=16,max_new_tokens=6,steering_steps=0,blanks=false,passes={passes}"
    result = forget(tiny, deletion, text, **{**QUICK, "steps": 12, "learning_rate": 3e-3})
    rewards = [metrics["reward"] for metrics in result.outcome.history]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3
    assert result.outcome.history[0]["kl"] == pytest.approx(0, abs=1e-6) or passes > 1
    assert result.outcome.history[-1]["kl"] > 0


def gradients_of(method: str, **options: Any) -> list[Tensor]:
    """What the optimizer is given at the first step."""
    found: list[Tensor] = []

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not found:
            found.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    handle = register_optimizer_step_pre_hook(take)
    try:
        forget("tiny", request(), method, **{**QUICK, "steps": 1, **options})
    finally:
        handle.remove()
    return found


def request() -> Request:
    from letheon.testing import sample_request

    return sample_request()


@pytest.mark.usefixtures("earnable")
def test_one_step_gives_one_gradient_however_it_is_split() -> None:
    method = "reinforce:group=4,max_new_tokens=5,steering_steps=0,blanks=false"
    whole = gradients_of(method)
    largest = max(float(gradient.abs().max()) for gradient in whole)
    assert largest > 0
    for size in (5, 1):
        parts = gradients_of(method, micro_batch_size=size)
        # sums of float32 in another order; rows of unlike lengths would differ by per cents
        assert max(float((a - b).abs().max()) for a, b in zip(whole, parts, strict=True)) < 1e-4 * largest


# Killed in either stage


@pytest.mark.usefixtures("earnable")
@pytest.mark.parametrize("kill_at", [0, 2, 3, 5])
def test_a_run_that_is_killed_in_either_stage_ends_where_an_unbroken_one_does(
    kill_at: int, tmp_path: Path, unbroken: Path
) -> None:
    from letheon.testing.kills import Killed, killed_before_step

    out = tmp_path / "run"
    with pytest.raises(Killed), killed_before_step(kill_at):
        forget("tiny", request(), SHORT, out=out, checkpoint_steps=1, **QUICK)
    result = resume(out, device="cpu")
    assert result.outcome.steps == 6
    assert result.model.parameters_hash() == load(unbroken / "model", device="cpu").parameters_hash()
    assert (out / "rollouts.jsonl").read_text() == (unbroken / "rollouts.jsonl").read_text()
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (out, unbroken)]
    bare = [[{key: value for key, value in line.items() if key != "time"} for line in run] for run in lines]
    assert bare[0] == bare[1]
    assert [line["step"] for line in bare[0]] == [1, 2, 3, 4, 5, 6]
    assert load(out / "steering", device="cpu").parameters_hash() != result.model.parameters_hash()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reinforce, "rewards", vowels)
        forget("tiny", request(), SHORT, out=out, checkpoint_steps=1, **QUICK)
        yield out


# Settings and refusals of bad input


def test_the_papers_name_stands_for_the_procedure_with_training_settings_of_its_own() -> None:
    method = read_method("rule:kl=0,reward=abs")
    assert isinstance(method, StandaloneMethod)
    assert method.part.method.name == "reinforce"
    assert (method.part.settings.kl, method.part.settings.reward) == (0, "abs")
    assert method.recommended == {"steps": 20, "learning_rate": 2e-5, "batch_size": 32, "weight_decay": 0.01}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 1}, "at least 2 rollouts"),
        ({"clip_low": 1.0}, "clip_low < 1"),
        ({"clip_dual": 1.0}, "clip_dual > 1"),
        ({"kl": -1.0}, "below 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"reward": "none"}, "two_stage"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)


def test_files_that_do_not_exist_are_refused_before_anything_is_written(deletion: Request, tmp_path: Path) -> None:
    for option in ("boundary", "refusals"):
        with pytest.raises(InputError, match="does not exist"):
            forget("tiny", deletion, f"{SHORT},{option}={tmp_path}/none.jsonl", out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_refused_or_scheduled_is_said_so(tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match="schedule of their own"):
        forget(tiny, deletion, SHORT, warmup_steps=2, **QUICK)
    text = replace(deletion, forget=(Example("", "Some running text."),))
    with pytest.raises(InputError, match="running text"):
        forget(tiny, text, SHORT, **QUICK)
    with pytest.raises(InputError, match="needs retain rows"):
        forget(tiny, replace(deletion, retain=()), SHORT, **QUICK)


def test_the_boundary_may_be_given_or_left_out(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    ready = tmp_path / "boundary.jsonl"
    ready.write_text('{"question": "Where does Zoe live?", "answer": "In Kiel."}\n')
    result = forget(tiny, deletion, f"{SHORT},boundary={ready}", out=tmp_path / "given", **QUICK)
    assert not [text for text in result.warnings if "neighbour" in text]
    lines = [json.loads(line) for line in (tmp_path / "given" / "rollouts.jsonl").read_text().splitlines()]
    assert {line["prompt"] for line in lines if not line["refuse"]} == {"Where does Zoe live?"}
    result = forget("tiny", deletion, f"{SHORT},boundary=none", **QUICK)
    assert "reward_normal" not in result.outcome.history[-1]
    result = forget("tiny", deletion, SHORT, **QUICK)  # its retain rows name no subject
    assert [text for text in result.warnings if "near neighbours may be refused" in text]


def test_steering_alone_ends_after_the_first_stage(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    result = forget(tiny, deletion, f"{SHORT},stages=steering", out=tmp_path / "run", **QUICK)
    assert result.outcome.steps == 3
    assert all(set(metrics) == {"loss"} for metrics in result.outcome.history)
    steered = load(tmp_path / "run" / "steering", device="cpu")
    assert steered.parameters_hash() == result.model.parameters_hash()


def test_nothing_of_a_loop_is_left_behind(tiny: LanguageModel, deletion: Request) -> None:
    forget(tiny, deletion, SHORT, **QUICK)
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


# TRL


def test_without_trl_the_engine_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_engine, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package trl\n.*letheon\[trl\]"):
        Reinforce(Settings(engine="trl"))


def test_trl_is_given_our_settings_under_its_names() -> None:
    training = TrainSettings(batch_size=4, micro_batch_size=2, clip=None)
    found = config_of(Settings(group=3, engine="trl"), training, questions=20, steps=7)
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (2, 6)
    assert (found["beta"], found["epsilon"], found["epsilon_high"], found["delta"]) == (0.01, 0.2, 0.3, 3.0)
    assert (found["max_steps"], found["max_grad_norm"]) == (7, 0.0)
    with pytest.raises(InputError, match="micro-batches of 5"):
        config_of(Settings(group=3), replace(training, micro_batch_size=5), questions=20, steps=7)
