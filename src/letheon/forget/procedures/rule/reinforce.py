"""RULE: refuse questions about the target and answer all others, learned by reinforcement.

Paper:   RULE: Reinforcement UnLEarning Achieves Forget-Retain Pareto Optimality, arXiv 2506.07171. First rejection
         steering, a short fine-tuning on refusals of the forget questions; then refusal boundary optimisation: GRPO
         from there, with a reward that a rule computes, on forget questions and their twins about neighbours.
         maximise E[ r(x, y) ] − β KL(π || π_steered) over the model's own answers y.
Differs: the paper draws one refusal of 100 for each record from templates that name the target; ours are 40. Its
         matcher of refusals, its twins and its blanks are written anew (`core.scoring.refusals`, `boundary`). A step
         takes as many forget as boundary questions, where the paper shuffles a file that is half and half. Token
         losses are means over the whole step, which the authors' code takes per micro-batch. ROUGE-L is that of
         rouge_score. The steering's rate is a share of the learning rate, so that one number fits a smaller model. The
         paper trains all weights; here an adapter may move alone (`lora=8`, or one that the model has).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.adapters import attach_lora
from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.examples import Example, read_examples
from letheon.core.rows.sampling import epochs_of, stream_seed
from letheon.core.scoring.likelihood import score
from letheon.core.training.finetuning import prepare_batches
from letheon.core.training.gradients import backward
from letheon.core.training.loop import Loop, TrainingOutcome
from letheon.core.training.reinforcement import (
    Anchor,
    Rollout,
    clipped_surrogate,
    group_advantages,
    low_variance_kl,
    rollouts,
    token_logp,
)
from letheon.forget.objectives.dpo import read_refusals
from letheon.forget.procedure import Procedure, ProcedureContext
from letheon.forget.procedures.rule.boundary import Query, blanks, drawn_refusals, twins
from letheon.forget.procedures.rule.rewards import reward, reward_metrics, reward_warnings
from letheon.forget.procedures.rule.settings import Settings
from letheon.forget.procedures.rule.stage_state import History, StepLines, continue_stage, load_stage, save_stage
from letheon.forget.procedures.rule.trl_engine import check_trl, reinforce_with_trl

STEERED = "steering"  # the model after the first stage, in the run's folder
SAMPLES = "rollouts.jsonl"  # of each step the first answer to each question


def policy_loss(
    logp: Tensor, old: Tensor, reference: Tensor | None, advantage: Tensor, batch: Batch, settings: Settings
) -> tuple[Tensor, Tensor]:
    """This batch's share of the clipped surrogate and of β·KL, means over the step's answer tokens; inputs [tokens]."""
    surrogate = clipped_surrogate(logp, old, advantage, settings.clip_low, settings.clip_high, settings.clip_dual)
    penalty = low_variance_kl(logp, reference) if reference is not None else torch.zeros_like(logp)
    return batch.mean(surrogate, "tokens"), batch.mean(penalty, "tokens")


def trained(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The weights that move, by name: the adapter's where the model has one, else all.

    The reference policy of the second stage is a copy of these as the steering left them. Without a steering, that of a
    new adapter is the model with its adapter switched off.
    """
    return {name: p for name, p in model.model.named_parameters() if not model.has_adapter or "lora_" in name}


def cosine(step: int, total: int, warmup: int) -> float:
    """Learning-rate factor that falls by half a cosine after the warm-up."""
    return 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, total - warmup)))


@method(
    "procedure",
    "reinforce",
    Settings,
    paper="2506.07171",
    needs={"retain", "reference", "alternates"},
    wants={"subject"},
    recipes={"rule": "reinforce"},
    # the paper's but for the rate, which is ours: its 2e-6 is for 8e9 weights and 300 questions
    recommended={"steps": 20, "learning_rate": 2e-5, "batch_size": 32, "weight_decay": 0.01},
    tiny={"group": 2, "max_new_tokens": 4, "steering_steps": 3, "blanks": False},
)
class Reinforce(Procedure):
    settings: Settings

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.ready: list[Example] = []
        if self.settings.boundary not in ("twins", "retain", "none"):
            self.ready = read_examples(self.settings.boundary)
        if self.settings.engine == "trl":
            check_trl()
        read_refusals(self.settings.refusals)  # a missing file is refused before anything is written

    def check(self, work: ProcedureContext) -> None:
        if work.training.schedule != "constant" or work.training.warmup_steps:
            raise InputError(
                "both stages of reinforce have a schedule of their own", "leave schedule and warmup_steps out"
            )
        if (text := next((row for row in work.request.forget if not row.prompt), None)) is not None:
            raise InputError(
                f"forget row {text.id} is running text, which cannot be refused", "give questions and answers"
            )
        if self.settings.engine == "trl" and (self.settings.lora or work.model.has_adapter):
            raise InputError("engine=trl trains all weights and no adapter", "leave engine out")

    def attach(self, work: ProcedureContext) -> None:
        self.adapts = bool(self.settings.lora) or work.model.has_adapter
        if self.adapts:
            attach_lora(work.model, self.settings.lora, 2 * self.settings.lora)

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        """Steer, then reinforce; a killed run continues in the stage where it was."""
        refuse, answer = self.questions(work)
        history = self.steer(work, refuse)
        if self.settings.stages == "steering":
            return TrainingOutcome(len(history), history=history)
        return self.optimize_boundary(work, refuse, answer, history)

    # What is asked

    def questions(self, work: ProcedureContext) -> tuple[list[Query], list[Query]]:
        """Make the questions to refuse and the questions to answer, with the untouched model."""
        rows = list(work.request.forget)
        boundary = self._boundary(work)
        if self.settings.blanks:
            rows, boundary = rows + blanks(work.model, rows), boundary + blanks(work.model, boundary)
        drawn = drawn_refusals(rows, self.settings.refusals, work.training.seed)
        refuse = [Query(row.prompt, True, text, row.subject or "") for row, text in zip(rows, drawn, strict=True)]
        return refuse, [Query(row.prompt, False, row.answer, row.subject or "") for row in boundary]

    def _boundary(self, work: ProcedureContext) -> list[Example]:
        retain = [row for row in work.request.retain if row.prompt]
        if self.settings.boundary in ("none", "retain"):
            return retain if self.settings.boundary == "retain" else []
        found = self.ready or twins(work.model, work.request.forget, retain, work.training.seed)
        if not found:
            work.warnings.append(
                "no forget question could be asked about a neighbour (rows need a subject that stands in the "
                "question): the retain rows are the boundary as they are, and near neighbours may be refused"
            )
        return found or retain

    # Stage 1: rejection steering

    def steer(self, work: ProcedureContext, refuse: Sequence[Query]) -> History:
        """Fine-tune on refusals of the forget questions (not on their blanks); returns the metrics of each step."""
        if (kept := load_stage(work.model, work.run, STEERED)) is not None:
            return kept
        settings, model = self.settings, work.model
        records = [Example(query.prompt, query.answer) for query in refuse[: len(work.request.forget)]]
        rows = model.encoder().encode_all(records, "refusal of forget row")
        training = replace(
            work.training,
            learning_rate=settings.steering_rate * work.training.learning_rate,
            batch_size=settings.steering_batch,
            weight_decay=0.0,
            warmup_steps=settings.steering_warmup,
        )
        total = settings.steering_steps
        plan = epochs_of(len(rows), training.batch_size, total, stream_seed(training.seed, "steering"))
        parameters = trained(model)
        loop = Loop(model, parameters, training, total, run=work.run, title="rejection steering")
        continue_stage(loop, 0)

        def step(number: int) -> dict[str, float]:
            for group in loop.optimizer.param_groups:
                group["lr"] *= cosine(number, total, settings.steering_warmup)
            parts = prepare_batches(model, rows, plan[number], training, loop.accelerator.num_processes)
            loss = 0.0
            for batch in loop.shard(parts):
                with loop.autocast():
                    share = -batch.mean(score(model, batch).logp, "tokens")
                backward(share)
                loss += share.item()
            return _stepped(loop, {"loss": loss})

        history = loop.run(step).history
        save_stage(model, work.run, STEERED, history)
        return history

    # Stage 2: refusal boundary optimisation

    def optimize_boundary(
        self, work: ProcedureContext, refuse: Sequence[Query], answer: Sequence[Query], history: History
    ) -> TrainingOutcome:
        """Run GRPO from the steered model, which is also the reference; its step numbers continue the steering's."""
        settings, model, training = self.settings, work.model, work.training
        first = settings.steering_steps
        half = min(training.batch_size // 2 or 1, len(answer), len(refuse)) if answer else training.batch_size
        most = max(len(refuse), len(answer))
        steps = work.settings.steps or work.settings.epochs * math.ceil(most / half)
        if settings.engine == "trl":
            return self._optimize_with_trl(work, [*refuse, *answer], history, steps)
        plan = _halves(refuse, answer, half, steps, training.seed)
        parameters = trained(model)
        anchor = Anchor(parameters) if settings.kl else None
        loop = Loop(model, parameters, training, first + steps, run=work.run, title="refusal boundary")
        loop.history = list(history)
        continue_stage(loop, first)
        samples = StepLines(work.run, SAMPLES, loop.step)

        def step(number: int) -> dict[str, float]:
            asked = plan[number - first]
            with loop.autocast():
                drawn = self.draw(model, asked, stream_seed(training.seed, "rollouts", number))
            rewards = self.rewards(drawn, asked)
            samples.add(_lines(number + 1, asked, drawn[:: settings.group], rewards[:, 0]))
            return self._reinforce(loop, drawn, rewards, anchor) | reward_metrics(asked, drawn, rewards)

        outcome = loop.run(step, describe=_words)
        work.warnings.extend(reward_warnings(outcome.history[first:]))
        return outcome

    def _optimize_with_trl(
        self, work: ProcedureContext, questions: Sequence[Query], history: History, steps: int
    ) -> TrainingOutcome:
        """Run the second stage with TRL; a killed run repeats it from its beginning."""
        first, run = self.settings.steering_steps, work.run
        if run is not None:
            run.keep_metrics(first)
        samples, group = StepLines(run, SAMPLES, first), self.settings.group
        history = list(history)

        def note(asked: Sequence[Query], drawn: Sequence[Rollout], rewards: Tensor, logs: dict[str, float]) -> None:
            history.append(logs | reward_metrics(asked, drawn, rewards))
            samples.add(_lines(len(history), asked, drawn[::group], rewards[:, 0]))
            if run is not None:
                run.log(step=len(history), **history[-1])

        reinforce_with_trl(work.model, questions, self.settings, work.training, steps, self.rewards, note)
        work.warnings.extend(reward_warnings(history[first:]))
        return TrainingOutcome(len(history), history=history)

    def draw(self, model: LanguageModel, asked: Sequence[Query], seed: int) -> list[Rollout]:
        """Sample a group of answers to each question from the present policy."""
        settings = self.settings
        prompts = [query.prompt for query in asked]
        most, heat = settings.max_new_tokens, settings.temperature
        return rollouts(model, prompts, settings.group, max_new_tokens=most, temperature=heat, seed=seed)

    def rewards(self, drawn: Sequence[Rollout], asked: Sequence[Query]) -> Tensor:
        """The reward of each answer, [questions, group]."""
        found = [reward(rollout.text, asked[rollout.prompt], self.settings.reward) for rollout in drawn]
        return torch.tensor(found).view(-1, self.settings.group)

    def _reinforce(
        self, loop: Loop, drawn: Sequence[Rollout], rewards: Tensor, anchor: Anchor | None
    ) -> dict[str, float]:
        """Take `passes` optimizer steps on the same rollouts, old and reference log-probabilities stay."""
        settings, model = self.settings, loop.model
        advantages = group_advantages(rewards).flatten().to(model.device)
        rows = [rollout.encoded for rollout in drawn]
        numbers = range(len(rows))
        parts = prepare_batches(model, rows, numbers, loop.settings, loop.accelerator.num_processes)
        batches = loop.shard(parts)
        reference: list[Tensor | None] = [None] * len(batches)
        if anchor is not None:
            with anchor.in_place(), loop.autocast():
                reference = [token_logp(model, batch, settings.temperature)[0] for batch in batches]
        old: list[Tensor] = []
        metrics: dict[str, float] = {}
        for _ in range(settings.passes):
            sums = {"loss": 0.0, "kl": 0.0}
            for i, batch in enumerate(batches):
                with loop.autocast():
                    logp, row = token_logp(model, batch, settings.temperature)
                    if len(old) == i:  # the first pass is taken under the policy that drew the answers
                        old.append(logp.detach())
                    advantage = advantages[batch.index[row]]
                    surrogate, penalty = policy_loss(logp, old[i], reference[i], advantage, batch, settings)
                    loss = surrogate + settings.kl * penalty
                backward(loss)
                sums = {"loss": sums["loss"] + loss.item(), "kl": sums["kl"] + penalty.item()}
            metrics = _stepped(loop, sums)
        return metrics


def _halves(refuse: Sequence[Query], answer: Sequence[Query], half: int, steps: int, seed: int) -> list[list[Query]]:
    """Plan the questions of each step: equally many of both kinds, each kind in its own permutations."""
    plan: list[list[Query]] = [[] for _ in range(steps)]
    for name, pool in (("refuse", refuse), ("answer", answer)):
        if pool:
            numbers = epochs_of(len(pool), half, steps, stream_seed(seed, name))
            plan = [[*asked, *(pool[i] for i in chosen)] for asked, chosen in zip(plan, numbers, strict=True)]
    return plan


def _lines(step: int, asked: Sequence[Query], drawn: Sequence[Rollout], rewards: Tensor) -> list[dict[str, Any]]:
    return [
        {"step": step, "refuse": query.refuse, "prompt": query.prompt, "answer": rollout.text, "reward": found}
        for query, rollout, found in zip(asked, drawn, rewards.tolist(), strict=True)
    ]


def _stepped(loop: Loop, sums: dict[str, float]) -> dict[str, float]:
    """Take one optimizer step with the accumulated gradients."""
    metrics = loop.reduce_metrics(sums)
    loop.sum_gradients()
    loop.clip()
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)
    return metrics


def _words(metrics: Mapping[str, Any]) -> str:
    shown = {name: metrics[name] for name in ("reward", "refused_reject", "refused_normal") if name in metrics}
    return "  ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in shown.items())
