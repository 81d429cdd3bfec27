"""Reinforcement with verifiable rewards: rollouts, advantages within a group, the clipped surrogate, the KL estimate.

Papers:  group-relative advantages: Shao et al., DeepSeekMath, arXiv 2402.03300; clipping: Schulman et al., PPO,
         arXiv 1707.06347, with an upper bound of its own as in DAPO, arXiv 2503.14476; the second bound for negative
         advantages: Ye et al., arXiv 1912.09729; the estimator of KL: Schulman, "Approximating KL divergence", k3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.scoring.generation import generate_ids
from letheon.core.scoring.likelihood import score

# Rewards of a group that differ by less count as equal: rounding must not become an advantage.
EQUAL = 1e-6
# A log-ratio beyond this is cut before it is exponentiated, and the estimate of KL per token afterwards, as peers do.
LARGEST_LOG_RATIO, LARGEST_KL = 20.0, 10.0


def equal_groups(rewards: Float[Tensor, "prompts group"]) -> Bool[Tensor, " prompts"]:
    """Mark the groups whose rewards are all equal, from which nothing can be learned."""
    return rewards.amax(1) - rewards.amin(1) < EQUAL


def group_advantages(rewards: Float[Tensor, "prompts group"], eps: float = 1e-6) -> Float[Tensor, "prompts group"]:
    """Compute (r − mean) / (std + eps) within each group (sample standard deviation); 0 if all rewards are equal."""
    centred = rewards - rewards.mean(1, keepdim=True)
    advantages = centred / (rewards.std(1, keepdim=True) + eps)
    return advantages.masked_fill(equal_groups(rewards)[:, None], 0.0)


def clipped_surrogate(
    logp: Float[Tensor, " tokens"],
    old: Float[Tensor, " tokens"],
    advantage: Float[Tensor, " tokens"],
    low: float = 0.2,
    high: float = 0.3,
    dual: float = 3.0,
) -> Float[Tensor, " tokens"]:
    """−min(ρA, clip(ρ, 1 − low, 1 + high) A) with ρ = p/p_old; for A < 0 at most −dual·A. One loss per token.

    Args:
        logp: log-probabilities (nats) under the policy, with gradients.
        old: log-probabilities under the policy that drew the tokens.
    """
    ratio = (logp - old.detach()).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    return torch.where(advantage < 0, torch.minimum(loss, -dual * advantage), loss)


def low_variance_kl(logp: Float[Tensor, " tokens"], reference: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """exp(q) − q − 1 with q = log p_ref − log p: an estimate of KL(p || p_ref) per drawn token that is never negative.

    Over tokens drawn from p its mean is the KL divergence; cut at 10 nats.
    """
    q = (reference.detach() - logp).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return (q.exp() - q - 1).clamp(max=LARGEST_KL)


def token_logp(
    model: LanguageModel, batch: Batch, temperature: float
) -> tuple[Float[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Compute log-probabilities (nats) of the answers' tokens at a temperature, and each token's row."""
    scores = score(model, batch)
    if temperature == 1:
        return scores.logp, scores.row
    return -cross_entropy(scores.logits / temperature, scores.labels, reduction="none"), scores.row


@dataclass(frozen=True)
class Rollout:
    """One sampled answer."""

    prompt: int  # index of the prompt
    encoded: Encoded  # prompt and answer, as the sampled tokens
    text: str  # the answer, without special tokens


def rollouts(
    model: LanguageModel,
    prompts: Sequence[str],
    group: int,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Rollout]:
    """Sample `group` answers per prompt, one group after another.

    An answer ends with an end token, at `max_new_tokens`, or when the model's context is full.

    Raises:
        InputError: a prompt leaves no room for an answer, or the temperature is 0 (samples would all be alike).
    """
    if temperature <= 0:
        raise InputError(f"rollouts at temperature {temperature}", "give one above 0, or all samples are alike")
    encoder = model.encoder()
    asked = [encoder.prompt(prompt) for prompt in prompts]
    longest = max(map(len, asked), default=0)
    if longest >= model.context_length:
        raise InputError(f"a prompt has {longest} tokens, the model's context {model.context_length}", "shorten it")
    answers = generate_ids(
        model,
        [prompt for prompt in prompts for _ in range(group)],
        max_new_tokens=min(max_new_tokens, model.context_length - longest),
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
    )
    found = []
    for number, ids in enumerate(answers):
        prompt = asked[number // group]
        text = model.tokenizer.decode(ids, skip_special_tokens=True)
        found.append(Rollout(number // group, Encoded((*prompt, *ids), len(prompt)), text))
    return found


class Anchor:
    """Stores a copy of a policy's weights, in which a block can later run without a second model.

    Args:
        weights: the weights to store; the parameters' present values by default.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor] | None = None) -> None:
        self._parameters = dict(parameters)
        if weights is None:
            weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._kept = dict(weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Run the block with the stored weights and without gradients."""
        self._swap()
        try:
            with torch.no_grad():
                yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._kept[name] = self._kept[name], parameter.data
        torch.clear_autocast_cache()  # autocast would go on with casts of the weights that were exchanged
