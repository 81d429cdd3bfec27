"""GeRe: a small set of general texts is replayed in every task, and a margin keeps their activations in their states.

Paper:   Zhang et al., GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay,
         arXiv 2508.04676: threshold-based margin; variants with cross-entropy alone, KL, L1 and L2.
Differs: general texts join a step's task rows instead of taking their place, and pass through the model apart from
         them, as they are longer. By default each text weighs as much as a task row, as in the authors' code. States
         are recorded at all tokens of a text but the last. Of the activations only the states are stored, one byte per
         unit; L1, L2 and KL store the activations themselves, and KL also the vocabulary matrix, which turns them
         into the old logits. Means over a pass are means over tokens, not over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.model.hooks import head_input
from letheon.core.registry import check_settings, method
from letheon.core.rows.examples import Example, read_examples
from letheon.core.rows.sampling import by_length
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task
from letheon.retain.texts import EVALUATION_ROWS, TextLearner

Share = Literal["reference", "half"]
EPSILON = 1e-8  # in both quotients; the authors' code


@dataclass(frozen=True)
class Settings:
    texts: str = ""  # a file or hub data set with a field `text`; the paper: SlimPajama
    imitation: Literal["margin", "kl", "l1", "l2", "none"] = "margin"  # none: cross-entropy alone
    weight: float | None = None  # none: the imitation is as large as cross-entropy (the paper's "dy"); the code: 100
    share: Share = "reference"  # weight of a text: that of a task row; "half": all texts weigh as much as all task rows
    per_step: int = 0  # texts per step (batch interpolation); 0: each text once per epoch (plain)
    count: int = 1000  # number of texts, the first of the file; the paper
    tokens: int = 563  # longest text: 512 + 50 + 1, the code
    sigmas: float = 1.0  # standard deviations from the mean to the thresholds; fixed in the code
    temperature: float = 2.0  # temperature of KL; the code's helper

    def __post_init__(self) -> None:
        check_settings(self, positive=("count", "tokens", "sigmas", "temperature"))
        if self.tokens < 2:
            raise InputError("a text of 1 token has nothing to predict", "use tokens of 2 or more")
        if self.per_step < 0 or (self.weight is not None and not 0 < self.weight < float("inf")):
            raise InputError(
                f"per_step {self.per_step}, weight {self.weight}", "use per_step >= 0 and a weight above 0"
            )


class Thresholds(NamedTuple):
    """The activations at which each hidden unit's low and high state begin."""

    low: Float[Tensor, " width"]
    high: Float[Tensor, " width"]


def thresholds_of(hidden: Float[Tensor, "tokens width"], sigmas: float = 1.0) -> Thresholds:
    """Return each unit's mean minus and plus `sigmas` standard deviations (population) over all tokens."""
    exact = hidden.double()
    mean, spread = exact.mean(0), exact.std(0, correction=0)
    return Thresholds((mean - sigmas * spread).to(hidden), (mean + sigmas * spread).to(hidden))


def states_of(hidden: Float[Tensor, "tokens width"], at: Thresholds) -> Int8[Tensor, "tokens width"]:
    """Return each unit's state: -1 low, 0 neutral, 1 high."""
    high = hidden >= at.high
    return high.to(torch.int8) - ((hidden <= at.low) & ~high).to(torch.int8)


def margin_loss(
    hidden: Float[Tensor, "tokens width"], states: Int8[Tensor, "tokens width"], at: Thresholds
) -> Float[Tensor, ""]:
    """Return the mean distance of units from their state's interval, over the units outside it; 0 where there are none.

    The high state's interval begins at its threshold, the low state's ends at its own, the neutral one lies between.
    """
    bottom = torch.where(states > 0, at.high, torch.where(states < 0, -torch.inf, at.low))
    top = torch.where(states < 0, at.low, torch.where(states > 0, torch.inf, at.high))
    outside = (bottom - hidden).relu() + (hidden - top).relu()
    return outside.sum() / (outside.count_nonzero() + EPSILON)


def logit_imitation(
    logits: Float[Tensor, "tokens vocabulary"], old: Float[Tensor, "tokens vocabulary"], temperature: float
) -> Float[Tensor, ""]:
    """Return KL(old ‖ now) of softened distributions, a mean over tokens (nats), without the factor T²."""
    now, target = (logits / temperature).log_softmax(-1), (old / temperature).log_softmax(-1)
    return functional.kl_div(now, target, reduction="batchmean", log_target=True)


def balanced_weight(cross_entropy: Tensor, imitation: Tensor) -> Tensor:
    """Return the weight that makes the imitation as large as the cross-entropy, without a gradient."""
    return cross_entropy.detach() / (imitation.detach() + EPSILON)


def step_loss(
    task: Tensor, general: Tensor, imitation: Tensor | None, weight: float | None, texts: float, share: Share
) -> tuple[Float[Tensor, ""], float | Tensor | None]:
    """Return the loss of a step with general texts, and the weight of the imitation.

    reference: (1 - s) task + s (general + w imitation), as the authors' micro-batches of one sample add up. half: (task
    + general) / 2 + w imitation, as their micro-batches of both kinds do; at few texts the imitation weighs far more.

    Args:
        task, general: cross-entropies of task rows and of general texts.
        imitation: None for cross-entropy alone.
        weight: w; None makes the imitation as large as the cross-entropy that it is added to.
        texts: s, the share of general texts among the samples of the step.
    """
    cross_entropy = general if share == "reference" else (task + general) / 2
    used: float | Tensor | None = None
    if imitation is not None:
        used = balanced_weight(cross_entropy, imitation) if weight is None else weight
        cross_entropy = cross_entropy + used * imitation
    return ((1 - texts) * task + texts * cross_entropy if share == "reference" else cross_entropy), used


def dealt(first: int, last: int, texts: int, shuffled: Callable[[int], Int[Tensor, " n"]]) -> Int[Tensor, " m"]:
    """Return draws `first` to `last` - 1 of texts that come in rounds; each round has every text once.

    Args:
        shuffled: the permutation of the texts in a round, by its number.
    """
    rounds = range(first // texts, -(-last // texts))
    deck = torch.cat([shuffled(number) for number in rounds] or [torch.empty(0, dtype=torch.long)])
    return deck[first - rounds.start * texts : last - rounds.start * texts]


class Old(NamedTuple):
    """What a kind of imitation compares with: the model's activations before the first task, in the texts' order."""

    states: Sequence[Tensor] = ()  # per text [tokens, width], for the margin
    at: Thresholds | None = None  # for the margin
    hidden: Sequence[Tensor] = ()  # per text [tokens, width], for L1, L2 and KL
    head: Tensor | None = None  # [vocabulary, width], for KL
    source: str = ""  # a hash of texts and settings, where `GeReTrainer` recorded it


def old_of(hidden: Sequence[Tensor], head: Tensor, settings: Settings) -> Old:
    """Return what `settings.imitation` needs of the output head's inputs, [tokens, width] per text, and its weights."""
    if settings.imitation == "margin":
        at = thresholds_of(torch.cat(list(hidden)), settings.sigmas)
        return Old([states_of(one, at) for one in hidden], at)
    return Old(hidden=hidden, head=head.detach().clone() if settings.imitation == "kl" else None)


def head_logits(
    hidden: Float[Tensor, "tokens width"], head: Float[Tensor, "vocabulary width"]
) -> Float[Tensor, "tokens vocabulary"]:
    """Return a head's logits in float32, computed in the head's own number format as the model does."""
    return (hidden.to(head) @ head.T).float()


def check_logits(
    logits: Float[Tensor, "tokens vocabulary"],
    hidden: Float[Tensor, "tokens width"],
    head: Float[Tensor, "vocabulary width"],
) -> None:
    """Raise an `InputError` if a model's logits are not those of its head: capped, scaled, or with a bias."""
    if not torch.allclose(logits.float(), head_logits(hidden, head), rtol=0.02, atol=0.02):
        raise InputError("the model caps, scales or shifts its head's logits", "use another imitation than kl")


def imitation_loss(
    hidden: Float[Tensor, "tokens width"],
    logits: Float[Tensor, "tokens vocabulary"],
    places: Sequence[int],
    old: Old,
    settings: Settings,
) -> Float[Tensor, ""]:
    """Return how far the activations on the texts at `places`, one after another, have gone from the old ones."""
    if settings.imitation == "margin":
        assert old.at is not None
        return margin_loss(hidden, torch.cat([old.states[place] for place in places]), old.at)
    then = torch.cat([old.hidden[place] for place in places])
    if settings.imitation == "kl":
        assert old.head is not None
        return logit_imitation(logits.float(), head_logits(then, old.head), settings.temperature)
    distance = functional.l1_loss if settings.imitation == "l1" else functional.mse_loss
    return distance(hidden, then)


class Terms(NamedTuple):
    """The terms of a step's loss; terms of general texts are None in a step without them."""

    task: Tensor
    general: Tensor | None = None
    imitation: Tensor | None = None
    weight: float | Tensor | None = None


@method("strategy", "gere", Settings, paper="2508.04676")
class GeRe(Strategy):
    """General samples replay; it stores no row of any task.

    Args:
        texts: the general texts, in place of `settings.texts`.
    """

    keeps: ClassVar[tuple[str, ...]] = ("states", "low", "high", "hidden", "head")
    kinds: ClassVar[frozenset[str]] = frozenset({"texts"})
    states: list[Tensor]  # per text [tokens, width], before the first task
    low: Tensor | None
    high: Tensor | None
    hidden: list[Tensor]  # per text [tokens, width], for L1, L2 and KL
    head: Tensor | None  # [vocabulary, width], for KL
    general: TaskRows
    last: Terms | None = None  # the terms of the last step's loss, without gradients

    def __init__(self, settings: Settings | None = None, texts: Sequence[str] = ()) -> None:
        super().__init__(settings)
        self.texts = texts

    def prepare(self, learner: Learner) -> None:
        """Read and encode the texts.

        Raises:
            InputError: there are none.
        """
        if not self.texts and not self.settings.texts:
            raise InputError(
                "gere has no general texts", "name a file: gere:texts=general.jsonl, rows with a field text"
            )
        assert isinstance(learner, TextLearner)
        given = [Example("", text) for text in self.texts] or read_examples(self.settings.texts)
        self.general = encoded(learner, given[: self.settings.count], self.settings.tokens)
        self.states, self.hidden = [], []
        self.low = self.high = self.head = None

    def before_task(self, learner: Learner, task: Task) -> None:
        """Record the model's activations on the texts, before the first task."""
        if learner.task > 0 or self.settings.imitation == "none":
            return
        assert isinstance(learner, TextLearner)
        hidden, _ = head_states(learner, self.general)
        old = old_of(hidden, learner.language_model.base().get_output_embeddings().weight, self.settings)
        if old.head is not None:
            with torch.no_grad(), learner.evaluating():
                scores = learner.forward(self.general.at(torch.tensor([0], device=learner.device)))
                check_logits(scores.logits, hidden[0], old.head)
        self.states, self.hidden, self.head = list(old.states), list(old.hidden), old.head
        if old.at is not None:
            self.low, self.high = old.at

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        assert isinstance(learner, TextLearner)
        task = learner.loss(outputs, rows)
        places = self._places(learner)
        if not len(places):
            self.last = Terms(task.detach())
            return task
        general = self.general.at(places.to(learner.device))
        with head_input(learner.language_model.base()) as seen:
            scores = learner.forward(general)
        of_texts = learner.loss(scores, general)
        settings, imitation = self.settings, None
        if settings.imitation != "none":
            at = None if self.low is None or self.high is None else Thresholds(self.low, self.high)
            old = Old(self.states, at, self.hidden, self.head)
            imitation = imitation_loss(seen[0].float(), scores.logits, places.tolist(), old, settings)
        texts = len(places) / (len(places) + len(rows))
        loss, weight = step_loss(task, of_texts, imitation, settings.weight, texts, settings.share)
        self.last = Terms(task.detach(), of_texts.detach(), None if imitation is None else imitation.detach(), weight)
        return loss

    def _places(self, learner: Learner) -> Tensor:
        """Return the places of this step's texts."""
        step, texts = learner.task_step, len(self.general)
        each, steps = self.settings.per_step, 1
        if not each:
            each, steps = texts, learner.task_steps // learner.settings.epochs

        def shuffled(number: int) -> Tensor:
            return torch.randperm(texts, generator=learner.stream_generator("general texts", number))

        return dealt(step * each // steps, (step + 1) * each // steps, texts, shuffled)


def encoded(learner: TextLearner, texts: Sequence[Example], tokens: int) -> TaskRows:
    """Encode running texts as rows of at most `tokens` tokens.

    Raises:
        InputError: a text with fewer than two tokens.
    """
    coded = [learner.encoder.encode(text) for text in texts]
    short = next((number for number, one in enumerate(coded, start=1) if len(one.ids) < 2), None)
    if short is not None:
        raise InputError(f"general text {short} has fewer than two tokens", "leave it out")
    batch = learner.encoder.collate([replace(one, ids=one.ids[:tokens]) for one in coded])
    rows = TaskRows.of_task(batch.input_ids, batch.labels, 0, length=batch.attention_mask.sum(1))
    return rows.to(learner.device)


@torch.no_grad()
def head_states(learner: TextLearner, rows: TaskRows) -> tuple[list[Float[Tensor, "tokens width"]], float]:
    """Return the vocabulary matrix's inputs at all tokens but the last of a row, and the mean log-probability."""
    found: dict[int, Tensor] = {}
    total = 0.0
    with learner.evaluating():
        for numbers in by_length(rows.kept["length"].tolist(), EVALUATION_ROWS):
            with head_input(learner.language_model.base()) as seen:
                scores = learner.forward(rows.at(torch.tensor(numbers, device=rows.inputs.device)))
            parts = torch.split(seen[0].float(), scores.lengths().tolist())
            found.update((number, part.clone()) for number, part in zip(numbers, parts, strict=True))
            total += float(scores.logp.double().sum())
    return [found[number] for number in range(len(rows))], total / sum(map(len, found.values()))
