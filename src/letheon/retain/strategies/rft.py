"""Reinforcement fine-tuning (RFT): a task is learned from the model's own answers and a verifiable reward, by GRPO.

Paper:   Lai et al., Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training,
         arXiv 2507.05386. GRPO with advantages within a group, a KL term to the model at the start of the stage, and
         rollout-based instance filtering (RIF): rows that the model never solves in a few rollouts are not trained on.
Differs: one optimizer step per set of rollouts, so that the policy is the one that drew them and clipping never acts.
         Tokens are averaged over the whole batch. The rule of the filter and its eight rollouts are [inferred].
         For classes the policy is the softmax over classes, and a rollout is one class [our extension]. No format
         reward and no chain of thought, which the paper finds not to be the cause. `rejection` (fine-tuning on the
         model's own right answers) is the control between supervised fine-tuning and reinforcement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.errors import InputError, TrainingError
from letheon.core.registry import check_settings, method
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.training.reinforcement import (
    Anchor,
    Rollout,
    clipped_surrogate,
    equal_groups,
    group_advantages,
    low_variance_kl,
    rollouts,
    token_logp,
)
from letheon.retain.learner import Learner
from letheon.retain.reward_files import FileReward
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

Estimator = Literal["grpo", "rloo", "rejection"]
Filter = Literal["solvable", "learnable", "none"]
ClassReward = Callable[[Int[Tensor, "n group"], TaskRows], Float[Tensor, "n group"]]
TextReward = Callable[[str, Example], float]


@dataclass(frozen=True)
class Settings:
    """Options of reinforcement fine-tuning.

    Attributes:
        estimator: advantage within a group (GRPO), against the other rollouts (RLOO), or right answers alone.
        kl: weight of the divergence from the reference; 0 is the run without it.
        reference: the model at the start of each task (`stage`) or of the stream (`base`).
        filter: train on rows solved at least once (`solvable`), sometimes but not always (`learnable`), or all.
        reward: reward of texts: the whole answer (`exact`), similarity with it (`similarity`), or one of your own,
            `FILE.py:FUNCTION`, a function of a text and its example (of classes: as `RFT` takes it) [our extension].
    """

    group: int = 5  # rollouts per row; EasyR1's default, the authors' framework
    kl: float = 0.01  # EasyR1
    estimator: Estimator = "grpo"
    reference: Literal["stage", "base"] = "stage"  # the authors' scripts
    filter: Filter = "solvable"
    filter_rollouts: int = 8  # [inferred] from another implementation
    temperature: float = 1.0  # EasyR1
    max_new_tokens: int = 64
    reward: str = "exact"

    def __post_init__(self) -> None:
        check_settings(self, positive=("filter_rollouts", "temperature", "max_new_tokens"), not_negative=("kl",))
        if self.reward not in REWARDS and not Path(self.reward.rpartition(":")[0]).is_file():
            raise InputError(f"reward: found {self.reward!r}", f"{', '.join(REWARDS)}, or FILE.py:FUNCTION")
        if self.group < 2:
            raise InputError(f"groups of {self.group}", "a group needs at least 2 rollouts to compare")


def advantages_of(rewards: Float[Tensor, "n group"], estimator: Estimator) -> Float[Tensor, "n group"]:
    """Return the advantage of each rollout; 0 in groups whose rewards are all equal.

    grpo: (r - mean) / (std + eps). rloo: r minus the mean of the other rollouts. rejection: group · r / Σ r, so that
    the mean over rollouts is that over the right ones.
    """
    if estimator == "grpo":
        return group_advantages(rewards)
    group = rewards.shape[1]
    if estimator == "rloo":
        centred = (rewards - rewards.mean(1, keepdim=True)) * group / (group - 1)
        return centred.masked_fill(equal_groups(rewards)[:, None], 0.0)
    return group * rewards / rewards.sum(1, keepdim=True).clamp(min=1e-6)


def policy_loss(
    logp: Float[Tensor, " rollouts"],
    advantage: Float[Tensor, " rollouts"],
    reference: Float[Tensor, " rollouts"] | None,
    kl: float,
    count: int = 0,
) -> Float[Tensor, ""]:
    """mean(-ρ A) + β mean(e^q - q - 1), q = log p_ref - log p; ρ = p/p_old is 1 and has the gradient ∇log p.

    Args:
        count: number that the means divide by, where rollouts (tokens) with a term of 0 were left out; default all.
    """
    loss = clipped_surrogate(logp, logp.detach(), advantage)
    if reference is not None:
        loss = loss + kl * low_variance_kl(logp, reference)
    return loss.sum() / (count or len(loss))


def kept_rows(rewards: Float[Tensor, "n rollouts"], rule: Literal["solvable", "learnable"]) -> Bool[Tensor, " n"]:
    """RIF: return which rows are solved at least once, or sometimes but not always."""
    solved = rewards.amax(1) > 0
    return solved if rule == "solvable" else solved & ~equal_groups(rewards)


def drawn_classes(
    logits: Float[Tensor, "n classes"], group: int, temperature: float, generator: torch.Generator
) -> Int[Tensor, "n group"]:
    """Draw `group` classes per row from the softmax."""
    probability = (logits.detach() / temperature).softmax(-1).cpu()
    return torch.multinomial(probability, group, replacement=True, generator=generator).to(logits.device)


def right_class(drawn: Int[Tensor, "n group"], rows: TaskRows) -> Float[Tensor, "n group"]:
    """Reward 1 where the row's own class was drawn."""
    return (drawn == rows.targets[:, None]).float()


def exact(text: str, example: Example) -> float:
    """Reward 1 if the text equals the answer up to case, spaces and a full stop."""
    return float(_plain(text) == _plain(example.answer))


def similarity(text: str, example: Example) -> float:
    """Reward 2 · matching characters / all characters: a signal where no answer is fully right."""
    return SequenceMatcher(None, _plain(text), _plain(example.answer), autojunk=False).ratio()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".").rstrip()


REWARDS: dict[str, TextReward] = {"exact": exact, "similarity": similarity}


@method(
    "strategy",
    "rft",
    Settings,
    paper="2507.05386",
    # a random model meets no answer whole
    tiny={"group": 2, "max_new_tokens": 4, "filter": "none", "reward": "similarity"},
)
class RFT(Strategy):
    """Reinforcement fine-tuning.

    Args:
        reward: function of drawn classes [n, group] and their rows, or of a text and its example; default as the
            settings say.

    Raises:
        InputError: the settings name a reward's file that cannot be used; see `FileReward`.
    """

    keeps: ClassVar[tuple[str, ...]] = ("reference", "kept", "shares")
    wants: ClassVar[frozenset[str]] = frozenset()  # texts are scored as drawn, not as in the rows
    reference: dict[str, Tensor]  # weights of the reference in the KL term
    kept: Tensor | None  # [rows of the task] whether a row is trained on
    shares: list[float]  # per task the share of such rows

    def __init__(self, settings: Settings | None = None, reward: ClassReward | TextReward | None = None) -> None:
        super().__init__(settings)
        self.reward: Any = reward
        named = reward is None and self.settings.reward not in REWARDS
        self.file_reward = FileReward(self.settings.reward) if named else None  # read before any model is

    def prepare(self, learner: Learner) -> None:
        self.reference, self.kept, self.shares = {}, None, []
        self.anchor: Anchor | None = None
        if self.reward is None:
            if self.file_reward is not None:
                self.reward = self.file_reward.of_text if learner.kind == "texts" else self.file_reward.of_classes
            else:
                self.reward = REWARDS[self.settings.reward] if learner.kind == "texts" else right_class
        if learner.kind == "texts":
            _refuse_running_text(learner.stream.tasks)

    def before_task(self, learner: Learner, task: Task) -> None:
        settings = self.settings
        if settings.kl and (settings.reference == "stage" or not self.reference):
            self.reference = learner.snapshot()
            self.anchor = None
        rows = learner.train_rows(task)
        self.kept = torch.ones(len(rows), dtype=torch.bool)
        if settings.filter != "none":
            self.kept = kept_rows(self._rewards(learner, rows), settings.filter)
        self.shares.append(float(self.kept.float().mean()))
        if not bool(self.kept.any()):
            raise TrainingError(
                f"task {task.name}: in {settings.filter_rollouts} rollouts per row no row is solved, so that there is "
                "nothing to learn from",
                "fine-tune a little first, draw more (filter_rollouts), or reward what is partly right "
                "(reward=similarity)",
            )

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        assert self.kept is not None
        return learner.train_rows(task).at(self.kept.nonzero().flatten().to(learner.device))

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        if learner.kind == "texts":
            return self._loss_of_texts(learner, rows)
        return self._loss_of_classes(learner, rows, learner.outputs(rows) if outputs is None else outputs)

    # Classes

    def _loss_of_classes(self, learner: Any, rows: TaskRows, outputs: Tensor) -> Tensor:
        settings = self.settings
        logits = learner.masked(outputs, rows.task) / settings.temperature
        drawn = drawn_classes(logits, settings.group, 1.0, learner.generator)
        advantage = advantages_of(self.reward(drawn, rows), settings.estimator)
        logp = logits.log_softmax(-1).gather(1, drawn)
        reference = None
        if settings.kl:
            with self._anchored(learner).in_place():
                old = learner.masked(learner.outputs(rows), rows.task) / settings.temperature
            reference = old.log_softmax(-1).gather(1, drawn).flatten()
        return policy_loss(logp.flatten(), advantage.flatten(), reference, settings.kl)

    # Texts

    def _loss_of_texts(self, learner: Any, rows: TaskRows) -> Tensor:
        settings, model = self.settings, learner.language_model
        examples = learner.examples(rows)
        drawn = self._draw(learner, examples, settings.group, "rollouts")
        advantage = advantages_of(self._of_texts(drawn, examples), settings.estimator).flatten()
        tokens = sum(len(one.encoded.ids) - one.encoded.start for one in drawn)
        if not settings.kl:  # rollouts without an advantage have no gradient
            places = advantage.nonzero().flatten().tolist()
            drawn, advantage = [drawn[i] for i in places], advantage[places]
        if not drawn:
            return torch.zeros((), device=learner.device)
        batch = learner.encoder.collate([one.encoded for one in drawn], device=learner.device)
        reference = None
        if settings.kl:
            with self._anchored(learner).in_place():
                reference = token_logp(model, batch, settings.temperature)[0]
        logp, row = token_logp(model, batch, settings.temperature)
        return policy_loss(logp, advantage.to(learner.device)[row], reference, settings.kl, tokens)

    def _draw(self, learner: Any, examples: Sequence[Example], group: int, name: str) -> list[Rollout]:
        settings = self.settings
        return rollouts(
            learner.language_model,
            [example.prompt for example in examples],
            group,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=stream_seed(learner.settings.seed, name, learner.step),
        )

    def _of_texts(self, drawn: Sequence[Rollout], examples: Sequence[Example]) -> Float[Tensor, "n group"]:
        found = [self.reward(one.text, examples[one.prompt]) for one in drawn]
        return torch.tensor(found, dtype=torch.float32).view(len(examples), -1)

    # Both

    @torch.no_grad()
    def _rewards(self, learner: Any, rows: TaskRows) -> Float[Tensor, "n rollouts"]:
        """Return the rewards of the filter's rollouts under the current model, before the task."""
        settings, number = self.settings, self.settings.filter_rollouts
        if learner.kind == "texts":
            examples = learner.examples(rows)
            return self._of_texts(self._draw(learner, examples, number, "filter"), examples)

        def work(part: TaskRows) -> Tensor:
            logits = learner.masked(learner.outputs(part), part.task)
            return self.reward(drawn_classes(logits, number, settings.temperature, learner.generator), part)

        return learner.map_rows(rows, work)

    def _anchored(self, learner: Learner) -> Anchor:
        if self.anchor is None:
            self.anchor = Anchor(learner.parameters, self.reference)
        return self.anchor


def _refuse_running_text(tasks: Sequence[Task]) -> None:
    for task in tasks:
        examples = task.train if isinstance(task.train, tuple) else ()
        row = next((row for row in examples if not row.prompt), None)
        if row is not None:
            raise InputError(
                f"task {task.name}, row {row.id}: running text has no answer that could be verified",
                "give questions and answers, or use another strategy",
            )
