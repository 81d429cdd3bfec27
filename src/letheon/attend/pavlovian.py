"""Attention as Pavlovian conditioning: keys are conditional stimuli, values unconditional ones, queries test stimuli.

Paper:   Qiao, Understanding Transformers through the Lens of Pavlovian Conditioning, arXiv 2508.08289 (v3: Attention as
         Conditioning). Linear attention stores pairs by a Hebbian rule, S_t = S_{t-1} + eta v_t k_tᵀ, and reads S q.
Differs: only the abstract and summaries were available. From them: the mapping, error-free capacity O(sqrt(d_k)),
         average capacity O(d_k), depth hurts while width and heads help, delta rule = Rescorla-Wagner. [inferred] all
         derivations, the rules' exact forms (textbook ones), their rates, and the conditioning protocols. A trial is
         one token; it writes, then is read (causal attention). A compound stimulus is the sum of its keys, not
         normalised. Linear attention is not divided by the sum of its weights: that would be another rule.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.attend.fast_weights import fast_weights
from letheon.core.errors import InputError, nearest
from letheon.core.registry import check_settings

Name = Literal["hebb", "decay", "delta", "gated_delta", "oja", "bcm", "trace"]


@dataclass(frozen=True)
class Rule:
    """A learning rule for pairs of stimulus and outcome.

    hebb         S += eta v kᵀ                                linear attention: contiguity, grows without bound
    decay        S = decay S + eta v kᵀ                       RetNet: forgetting
    delta        S += beta (v - S k) kᵀ                       DeltaNet: Rescorla-Wagner, learns from surprise only
    gated_delta  S = decay S (I - beta k kᵀ) + beta v kᵀ      Gated DeltaNet
    oja          S += eta (v kᵀ - diag(v²) S)                 bounded norm
    bcm          S += eta v (v - theta) kᵀ                    theta: running mean of v² before the trial
    trace        S += eta v k̄ᵀ, k̄_t = trace k̄_{t-1} + k_t     the stimulus may come before its outcome

    Attributes:
        name: one of the rules above.
        eta, beta: learning rates; delta rules are stable for 0 < beta ‖k‖² < 2.
        decay, trace, sliding: shares of the matrix, the stimulus trace and theta that stay per trial.
    """

    name: Name = "hebb"
    eta: float = 1.0  # S = sum of v kᵀ, as in linear attention
    beta: float = 0.5  # [inferred]
    decay: float = 0.95  # [inferred]
    trace: float = 0.5  # [inferred]
    sliding: float = 0.9  # [inferred]

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise InputError(f"there is no learning rule {self.name!r}", nearest(self.name, list(get_args(Name))))
        check_settings(self, positive=("eta", "beta"), shares=("decay", "trace", "sliding"))


class State(NamedTuple):
    """A memory: the matrix [..., d_v, d_k], the stimulus trace [..., d_k], the sliding threshold [..., d_v]."""

    matrix: Tensor
    trace: Tensor
    theta: Tensor

    @classmethod
    def empty(cls, keys: Tensor, values: Tensor) -> Self:
        """Return an empty memory for keys [..., n, d_k] and values [..., n, d_v]."""
        matrix = values.new_zeros(*values.shape[:-2], values.shape[-1], keys.shape[-1])
        return cls(matrix, matrix[..., 0, :], matrix[..., 0])


def trial(state: State, key: Float[Tensor, "... d_k"], value: Float[Tensor, "... d_v"], rule: Rule) -> State:
    """Return the memory after one pairing of a stimulus and an outcome, by the rules of `Rule`."""
    matrix = state.matrix
    trace = rule.trace * state.trace + key
    theta = rule.sliding * state.theta + (1 - rule.sliding) * value**2
    pair = value[..., None] * key[..., None, :]
    if rule.name == "hebb":
        matrix = matrix + rule.eta * pair
    elif rule.name == "decay":
        matrix = rule.decay * matrix + rule.eta * pair
    elif rule.name in ("delta", "gated_delta"):
        kept = matrix * (rule.decay if rule.name == "gated_delta" else 1.0)
        surprise = value - (kept @ key[..., None])[..., 0]
        matrix = kept + rule.beta * surprise[..., None] * key[..., None, :]
    elif rule.name == "oja":
        matrix = matrix + rule.eta * (pair - value[..., None] ** 2 * matrix)
    elif rule.name == "bcm":
        matrix = matrix + rule.eta * (value * (value - state.theta))[..., None] * key[..., None, :]
    else:
        matrix = matrix + rule.eta * value[..., None] * trace[..., None, :]
    return State(matrix, trace, theta)


def condition_stepwise(
    keys: Float[Tensor, "... n d_k"],
    values: Float[Tensor, "... n d_v"],
    queries: Float[Tensor, "... n d_k"],
    rule: Rule,
) -> Float[Tensor, "... n d_v"]:
    """Return S_t q_t after each trial, by the recursion itself: the definition, for inspection and for tests."""
    state, outputs = State.empty(keys, values), []
    for t in range(keys.shape[-2]):
        state = trial(state, keys[..., t, :], values[..., t, :], rule)
        outputs.append((state.matrix @ queries[..., t, :, None])[..., 0])
    return torch.stack(outputs, -2)


def condition(
    keys: Float[Tensor, "... n d_k"],
    values: Float[Tensor, "... n d_v"],
    queries: Float[Tensor, "... n d_k"],
    rule: Rule,
) -> Float[Tensor, "... n d_v"]:
    """Compute `condition_stepwise` in chunks of tokens, except for `oja`, whose rows decay apart."""
    if rule.name == "oja":
        return condition_stepwise(keys, values, queries, rule)
    if rule.name == "bcm":
        values = values * (values - running(values**2, rule.sliding, 1 - rule.sliding, "before"))
    if rule.name == "trace":
        keys = running(keys, rule.trace, 1.0, "after")
    keep = rule.decay if rule.name in ("decay", "gated_delta") else 1.0
    corrects = rule.name in ("delta", "gated_delta")
    write = rule.beta if corrects else rule.eta
    return fast_weights(queries, keys, values, write, keep * rule.beta * corrects, keep)[0]


def running(x: Float[Tensor, "... n d"], keep: float, write: float, read: str) -> Float[Tensor, "... n d"]:
    """Return m_t = keep m_{t-1} + write x_t over tokens: a fast weight with the number 1 as key and query."""
    one = torch.ones_like(x[..., :1])
    return fast_weights(one, one, x, write, 0.0, keep, read=read)[0]


class AssociativeMemory:
    """A memory for single trials: present stimuli with outcomes, then test stimuli.

    Args:
        d_k, d_v: widths of stimuli and outcomes.
        rule: the learning rule; default `Rule()`.
    """

    def __init__(self, d_k: int, d_v: int, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self.state = State.empty(torch.zeros(1, d_k), torch.zeros(1, d_v))

    def present(self, stimulus: Float[Tensor, " d_k"], outcome: Float[Tensor, " d_v"]) -> None:
        """Learn one trial."""
        self.state = trial(self.state, stimulus, outcome, self.rule)

    def test(self, stimulus: Float[Tensor, " d_k"]) -> Float[Tensor, " d_v"]:
        """Return the response S q, without learning."""
        return self.state.matrix @ stimulus


# Conditioning protocols

_TRIAL = re.compile(r"([A-Z]+)([+-]|>[A-Z]+)")


def run_protocol(text: str, rule: Rule, salience: Mapping[str, float] | None = None) -> dict[str, float]:
    """Run a conditioning experiment and return the responses to the tested stimuli.

    Args:
        text: phases separated by `;`: trials with a number of repetitions, and last a test, as `A+ x20; AB+ x20; test
            A, B`. Several trials of a phase alternate. `+` is an outcome of strength 1, `-` none, and `B>A` pairs B
            with the present response to A (second order).
        salience: norm of a stimulus's key where it is not 1; keys are orthogonal.

    Returns:
        The response to each tested stimulus; the response to a compound is the sum over its keys.

    Raises:
        InputError: a phase that cannot be read.
    """
    *phases, last = [phase.strip() for phase in text.split(";")]
    letters = sorted(set(re.findall("[A-Z]", text)))
    keys = {one: torch.eye(len(letters))[i] * (salience or {}).get(one, 1.0) for i, one in enumerate(letters)}
    memory = AssociativeMemory(len(letters), 1, rule)

    def compound(name: str) -> Tensor:
        return torch.stack([keys[one] for one in name]).sum(0)

    for phase in phases:
        for stimulus, outcome in _trials(phase):
            evoked = memory.test(compound(outcome[1:])) if outcome.startswith(">") else torch.tensor([outcome == "+"])
            memory.present(compound(stimulus), evoked.float())
    if not last.startswith("test "):
        raise InputError(f"a protocol ends with a test, found {last!r}", "end it as in `A+ x20; test A`")
    return {name: float(memory.test(compound(name))) for name in re.findall("[A-Z]+", last)}


def _trials(phase: str) -> list[tuple[str, str]]:
    body, _, times = phase.partition(" x")
    found = [_TRIAL.fullmatch(one.strip()) for one in body.split(",")]
    if not all(found) or not (times or "1").strip().isdecimal():
        raise InputError(f"cannot read the phase {phase!r}", "write it as `A+ x20` or `A+, AB- x20`")
    return [(one[1], one[2]) for one in found if one] * int(times or 1)


# Capacity, and errors that add up


def recall_fidelity(
    keys: Float[Tensor, "... n d_k"], values: Float[Tensor, "... n d_v"], rule: Rule, presentations: int = 1
) -> Float[Tensor, " ..."]:
    """Return the mean cosine between the response to each stored key, after all pairs, and its value."""
    state = values.new_zeros(*values.shape[:-2], values.shape[-1], keys.shape[-1])
    corrects = rule.name == "delta"
    if rule.name not in ("hebb", "delta"):
        raise InputError(
            f"capacity is known of hebb and delta, not of {rule.name}", "other rules forget while they learn"
        )
    rate = rule.beta if corrects else rule.eta
    for _ in range(presentations):
        _, state = fast_weights(keys, keys, values, rate, rate * corrects, 1.0, state)
    return torch.cosine_similarity(keys @ state.mT, values, -1).mean(-1)


def expected_fidelity(pairs: int, d_k: int) -> float:
    """1 / sqrt(1 + (N - 1) / d_k): cosine of a value with the sum of it and N - 1 crosstalk terms of variance 1/d_k."""
    return (1 + (pairs - 1) / d_k) ** -0.5


def worst_case_capacity(keys: Float[Tensor, "n d_k"], error: float) -> int:
    """Return how many keys, in their order, can be stored before some values give some key more than this error.

    The worst values for key i are unit vectors along sign(k_j · k_i): the error is the sum of |k_j · k_i| over j != i.
    """
    overlap = (keys @ keys.mT).abs()
    overlap.fill_diagonal_(0.0)
    sums = overlap.cumsum(1)  # [key, how many are stored - 1]
    stored = torch.arange(len(keys), device=keys.device)
    worst = sums.masked_fill(stored[:, None] > stored, 0.0).amax(0)
    return int((worst <= error).sum())


def chain_accuracy(
    hops: int, heads: int, pairs: int, d_k: int, chains: int, generator: torch.Generator
) -> Float[Tensor, " hops"]:
    """Return the share of correct chains after each hop, where the answer of one hop is the query of the next.

    Each hop is a layer with its own memories: heads have independent random unit keys of the same items, and each
    answers with the item whose value is nearest to its response. The item with most votes is the next query (ties: the
    first).
    """
    on_track = torch.ones(chains, pairs, dtype=torch.bool)
    item = torch.arange(pairs).expand(chains, -1)
    truth, found = item, []
    for _ in range(hops):
        keys = _unit(torch.randn(chains, heads, pairs, d_k, generator=generator))
        values = _unit(torch.randn(chains, heads, pairs, d_k, generator=generator))
        follows = torch.rand(chains, pairs, generator=generator).argsort(-1)  # the successor of each item
        led = values.gather(2, follows[:, None, :, None].expand(-1, heads, -1, d_k))
        evoked = keys @ (led.mT @ keys).mT
        answers = (evoked @ values.mT).argmax(-1)  # [chains, heads, pairs]
        votes = torch.nn.functional.one_hot(answers, pairs).sum(1)
        item = votes.argmax(-1).gather(1, item)
        truth = follows.gather(1, truth)
        on_track = on_track & (item == truth)
        found.append(on_track.float().mean())
    return torch.stack(found)


def effective_dimension(keys: Float[Tensor, "n d_k"]) -> float:
    """Return the participation ratio (Σ λ)² / Σ λ² of the keys' second moments; d_k for isotropic keys."""
    moments = keys.mT @ keys
    return float(moments.trace() ** 2 / (moments**2).sum())


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)
