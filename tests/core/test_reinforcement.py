"""Reinforcement: advantages, clipping and the KL estimate against hand-worked numbers; rollouts as they were drawn."""

from __future__ import annotations

import math

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import to_device
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.core.training.reinforcement import (
    Anchor,
    clipped_surrogate,
    equal_groups,
    group_advantages,
    low_variance_kl,
    rollouts,
    token_logp,
)

pytestmark = pytest.mark.oracle("reinforce")


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Advantages


def test_advantages_are_rewards_in_units_of_their_groups_deviation() -> None:
    # mean 0.5, deviations ±0.5, sample variance 4·0.25/3 = 1/3
    found = group_advantages(numbers(1, 1, 0, 0)[None])
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-6)
    torch.testing.assert_close(found, expected * numbers(1, 1, -1, -1)[None])


def test_each_group_is_compared_with_itself_alone() -> None:
    rewards = torch.stack([numbers(1, 0, 0, 0), numbers(1, 1, 1, 0)])
    found = group_advantages(rewards)
    torch.testing.assert_close(found[0], group_advantages(rewards[:1])[0])
    torch.testing.assert_close(found.sum(1), numbers(0, 0))
    assert found[0, 0] > found[1, 0] > 0  # the rarer success counts for more


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1.0])
def test_a_group_of_equal_rewards_has_no_advantage_and_no_noise(value: float) -> None:
    rewards = torch.full((1, 7), value)  # float32: a mean of 0.1s is not 0.1
    assert equal_groups(rewards).all()
    assert torch.equal(group_advantages(rewards), torch.zeros(1, 7))


# The surrogate


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.2, 1.0, -1.2),  # inside
        (1.5, 1.0, -1.3),  # clipped above, at 1 + 0.3
        (0.5, 1.0, -0.5),  # not clipped below for a good answer
        (0.5, -1.0, 0.8),  # clipped below, at 1 − 0.2
        (1.5, -1.0, 1.5),  # not clipped above for a bad answer
        (5.0, -1.0, 3.0),  # but never worse than 3
        (5.0, 1.0, -1.3),
    ],
)
def test_the_surrogate_is_clipped_as_worked_by_hand(ratio: float, advantage: float, loss: float) -> None:
    old = numbers(-1.7)
    found = clipped_surrogate(old + math.log(ratio), old, numbers(advantage))
    torch.testing.assert_close(found, numbers(loss))


def test_under_the_policy_that_drew_the_answers_the_gradient_is_the_policy_gradient() -> None:
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    advantage = numbers(1, -2, 0.5, 0, -0.1)
    (gradient,) = torch.autograd.grad(clipped_surrogate(logits, logits.detach(), advantage).sum(), logits)
    torch.testing.assert_close(gradient, -advantage)  # d(ratio·A)/d log p = A at ratio 1


def test_beyond_the_clip_nothing_pushes_further() -> None:
    old = numbers(0, 0, 0)
    logp = numbers(math.log(1.5), math.log(0.5), math.log(4)).requires_grad_()
    (gradient,) = torch.autograd.grad(clipped_surrogate(logp, old, numbers(1, -1, -1)).sum(), logp)
    assert torch.equal(gradient, numbers(0, 0, 0))


def test_neither_the_old_policy_nor_the_reference_receives_a_gradient() -> None:
    logp, old, reference = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    loss = clipped_surrogate(logp, old, torch.ones(4, dtype=torch.float64)) + low_variance_kl(logp, reference)
    loss.sum().backward()
    assert old.grad is None
    assert reference.grad is None
    assert logp.grad is not None


def test_the_surrogates_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    old, advantage = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    logp = (old + 0.1 * torch.randn(6, dtype=torch.float64)).requires_grad_()
    reference = torch.randn(6, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: clipped_surrogate(x, old, advantage), (logp,))
    torch.autograd.gradcheck(lambda x: low_variance_kl(x, reference), (logp,))


# KL


def test_the_estimate_of_kl_is_worked_by_hand_and_never_negative() -> None:
    found = low_variance_kl(numbers(-1, -1, -1), numbers(-1, -2, -1 + math.log(2)))
    torch.testing.assert_close(found, numbers(0, math.exp(-1), 1 - math.log(2)))
    assert (low_variance_kl(torch.randn(100), torch.randn(100)) >= 0).all()


def test_the_estimates_mean_over_the_policy_is_the_divergence() -> None:
    torch.manual_seed(1)
    p, q = torch.randn(7, dtype=torch.float64).softmax(0), torch.randn(7, dtype=torch.float64).softmax(0)
    expected = (p * (p.log() - q.log())).sum()
    torch.testing.assert_close((p * low_variance_kl(p.log(), q.log())).sum(), expected)


def test_a_token_that_the_reference_knows_far_better_is_cut_and_leaves_a_finite_gradient() -> None:
    logp = torch.tensor([-200.0], requires_grad=True)
    found = low_variance_kl(logp, torch.tensor([-0.1]))
    found.sum().backward()
    assert found.item() == 10
    assert logp.grad is not None
    assert torch.isfinite(logp.grad).all()


# Rollouts

PROMPTS = ["Where does Ann live?", "Who?"]


def test_rollouts_come_in_groups_and_hold_the_tokens_that_were_drawn(tiny: LanguageModel) -> None:
    found = rollouts(tiny, PROMPTS, 3, max_new_tokens=5, seed=1)
    assert [rollout.prompt for rollout in found] == [0, 0, 0, 1, 1, 1]
    for rollout in found:
        prompt = tiny.encoder().prompt(PROMPTS[rollout.prompt])
        assert rollout.encoded.ids[: rollout.encoded.start] == prompt
        drawn = rollout.encoded.ids[rollout.encoded.start :]
        assert 1 <= len(drawn) <= 5
        assert tiny.tokenizer.decode(drawn, skip_special_tokens=True) == rollout.text
    assert len({rollout.text for rollout in found}) > 3
    assert found == rollouts(tiny, PROMPTS, 3, max_new_tokens=5, seed=1)
    assert found != rollouts(tiny, PROMPTS, 3, max_new_tokens=5, seed=2)


def test_an_answer_ends_with_the_token_that_ended_it(tiny: LanguageModel) -> None:
    head = tiny.base().get_output_embeddings()
    end = tiny.tokenizer.eos_token_id
    from letheon.core.scoring.generation import generate_ids, stop_tokens

    assert end in stop_tokens(tiny)
    with torch.no_grad():
        head.weight[:] = 0  # every token alike, so that samples end soon
    found = generate_ids(tiny, ["Who?"] * 40, max_new_tokens=200, temperature=1.0, seed=0)
    stops = set(stop_tokens(tiny))
    ended = [ids for ids in found if ids[-1] in stops]
    assert ended
    assert all(not stops & set(ids[:-1]) for ids in found)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_log_probabilities_are_those_of_the_temperature_that_was_sampled_at(
    tiny: LanguageModel, temperature: float
) -> None:
    drawn = rollouts(tiny, PROMPTS, 2, max_new_tokens=4, temperature=temperature, seed=0)
    batch = to_device(tiny.encoder().collate([rollout.encoded for rollout in drawn]), tiny.device)
    with torch.no_grad():
        logp, row = token_logp(tiny, batch, temperature)
        for i, rollout in enumerate(drawn):
            ids = torch.tensor([rollout.encoded.ids])
            logits = tiny.base()(ids).logits[0, rollout.encoded.start - 1 : -1] / temperature
            expected = logits.log_softmax(-1)[range(len(logits)), ids[0, rollout.encoded.start :]]
            torch.testing.assert_close(logp[row == i], expected, atol=1e-4, rtol=1e-4)


def test_sampled_tokens_have_the_frequencies_of_their_probabilities(tiny: LanguageModel) -> None:
    drawn = rollouts(tiny, ["Who?"], 2000, max_new_tokens=1, temperature=0.7, seed=0, batch_size=2000)
    first = torch.tensor([rollout.encoded.ids[-1] for rollout in drawn])
    with torch.no_grad():
        logits = tiny.base()(torch.tensor([tiny.encoder().prompt("Who?")])).logits[0, -1] / 0.7
    p = logits.softmax(0)
    found = torch.bincount(first, minlength=len(p)) / len(first)
    # a share of 2000 draws has a standard error below 0.0112; five of them
    assert float((found - p).abs().max()) < 0.056


def test_what_leaves_no_room_or_no_chance_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="the model's context"):
        rollouts(tiny, ["long " * tiny.context_length], 2, max_new_tokens=4)
    with pytest.raises(InputError, match="temperature"):
        rollouts(tiny, PROMPTS, 2, max_new_tokens=4, temperature=0)


def test_an_anchor_runs_in_its_own_weights_and_gives_the_models_back(tiny: LanguageModel) -> None:
    parameters = dict(tiny.model.named_parameters())
    before = tiny.parameters_hash()
    anchor = Anchor(parameters)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1)
    moved = tiny.parameters_hash()
    with anchor.in_place():
        assert tiny.parameters_hash() == before
        assert not torch.is_grad_enabled()
    assert tiny.parameters_hash() == moved != before


def test_recall_is_of_the_expected_answers_words() -> None:
    assert rouge_l_recall("She lives in Oslo, I think, or in Rome.", "lives in Oslo") == 1
    assert rouge_l_recall("Oslo", "lives in Oslo") == pytest.approx(1 / 3)
    assert rouge_l_recall("", "lives in Oslo") == 0
