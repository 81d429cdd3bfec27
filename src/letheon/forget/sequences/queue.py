"""A queue of deletion requests on one model: filter, importance, targeted layers, a look back after each.

Each request is filtered against those before it; the norm of its loss gradient at the embeddings chooses among three
recipes, from aggressive to conservative; the recipe moves only the layers that the request depends on. Every request
has an optimizer of its own, and a sample of the earlier ones is asked again after it.

Paper:   FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning, arXiv 2601.21682.
Differs: the reference of NPO and of its KL term is the model before the request [inferred]. The filter's encoder is
         described in `letheon.forget.sequences.redundancy`. tau, epsilon, the percentiles and the number of epochs
         are starting values of a third party's description; the paper's own are not known to us.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import leaf_embeddings
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings
from letheon.core.rows.encoding import Encoded, to_device
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.memorisation import extraction_strength
from letheon.core.training.reinforcement import Anchor
from letheon.core.training.settings import TrainSettings
from letheon.forget.auto_retain import GENERAL_QUESTIONS
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import RecipeJob
from letheon.forget.request import Request, rows_hash
from letheon.forget.scopes.targeted import answer_losses
from letheon.forget.sequences.redundancy import (
    Filtered,
    StateEncoder,
    chunks_of,
    kept_chunks,
    loss_differences,
    nearest_similarity,
)
from letheon.forget.settings import ForgetSettings

Tier = Literal["low", "medium", "high"]
# An earlier request whose probability has risen by this much since it was served has come back; ours.
RETURNED = 0.1
# Answers that are still as probable as this (a token) after their request are said to be known; ours.
KNOWN = 0.5


@dataclass(frozen=True)
class SequenceSettings:
    """Settings of a queue.

    Attributes:
        low, medium, high: recipe of each tier of importance.
        thresholds: importances below and above which a request is low or high; None takes the 33rd and the 66th
            percentile over the first `calibration` requests.
        tau: cosine above which a chunk resembles an earlier one; above 1 nothing is filtered.
        epsilon: change of the loss (nats per token) above which such a chunk is trained on nevertheless.
        lost: rise of a chunk's loss (nats per token) since before the first request below which it counts as still
            known, and is trained on whatever it resembles; none leaves this out, as the paper does. 0.7 halves the
            probability of a token.
        chunk: tokens of a piece of running text.
        reaudit, reaudit_rows: how many earlier requests are asked again after each one, and rows of each.
    """

    low: str = "random_labels@targeted:k=8"
    medium: str = "npo:alpha=0@targeted:k=8"
    high: str = "npo:retain_loss=kl@targeted:k=8"
    thresholds: tuple[float, float] | None = None
    calibration: int = 16
    tau: float = 0.85
    epsilon: float = 0.01
    lost: float | None = 0.7  # ours
    chunk: int = 64  # ours
    reaudit: int = 4
    reaudit_rows: int = 8

    def __post_init__(self) -> None:
        check_settings(self, positive=("calibration", "chunk", "reaudit_rows"))
        if self.reaudit < 0 or self.epsilon < 0:
            raise InputError(f"reaudit {self.reaudit}, epsilon {self.epsilon}", "use 0 or more")
        if self.thresholds is not None and self.thresholds[0] > self.thresholds[1]:
            raise InputError(f"thresholds {self.thresholds} are upside down", "give the lower one first")

    def recipes(self) -> dict[Tier, Recipe]:
        """The three recipes, read."""
        return {"low": Recipe.parse(self.low), "medium": Recipe.parse(self.medium), "high": Recipe.parse(self.high)}


@dataclass
class Report:
    """The record of one served request.

    Attributes:
        number, request: its place in the queue, from 1, and its id.
        rows: hash of its rows.
        kept: ids of the chunks that were trained on.
        dropped: id, similarity, loss difference and rise of the loss of each redundant chunk.
        importance, tier, method, layers: None where everything was redundant; layers also where no scope chose them.
        losses: of each step.
        drift: distance of the weights from the queue's first weights.
        knowledge: probability and extraction strength of its rows afterwards (dropped ones too), means.
        earlier: the same of a sample of earlier requests, now and `then`, after their own turn.
        weights: hash of the weights afterwards.
    """

    number: int
    request: str
    rows: str
    kept: list[str]
    dropped: list[dict[str, Any]]
    importance: float | None = None
    tier: Tier | None = None
    method: str | None = None
    layers: list[int] | None = None
    losses: list[float] = field(default_factory=list)
    drift: float = 0.0
    knowledge: dict[str, float] = field(default_factory=dict)
    earlier: list[dict[str, Any]] = field(default_factory=list)
    weights: str = ""
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def importance(model: LanguageModel, rows: Sequence[Encoded]) -> float:
    """‖∂L/∂E‖₂ with E the embedding layer's output for all rows and L the mean loss of their answer tokens (nats).

    It falls with the number of tokens, so thresholds hold for requests of like size.
    """
    squares, tokens = 0.0, 0
    for row in rows:  # one at a time: of rows in a batch, a common beginning is embedded only once
        batch = to_device(model.encoder().collate([row]), model.device)
        with torch.enable_grad(), leaf_embeddings(model.base()) as seen:
            gradients = torch.autograd.grad(-score(model, batch).logp.sum(), seen)
        squares += sum(float(gradient.double().square().sum()) for gradient in gradients)
        tokens += int(batch.totals["tokens"])
    return float(squares**0.5 / max(tokens, 1))


def percentile_thresholds(found: Sequence[float]) -> tuple[float, float]:
    """The 33rd and the 66th percentile."""
    low, high = np.percentile(found, (33, 66))
    return float(low), float(high)


def tier_of(value: float, thresholds: tuple[float, float]) -> Tier:
    """The tier of an importance: low below the first threshold, high above the second, medium between."""
    return "low" if value < thresholds[0] else "high" if value > thresholds[1] else "medium"


def knowledge(model: LanguageModel, rows: Sequence[Example]) -> dict[str, float]:
    """Mean over rows of the answer's probability (geometric, per token) and of its extraction strength."""
    answers = [found[0] for found in score_answers(model, [(row.prompt, [row.answer]) for row in rows])]
    # the end of turn, which only an answer to a prompt has, is no part of what is extracted
    strengths = [
        extraction_strength(one.correct, ends=bool(row.prompt)) or 0.0 for one, row in zip(answers, rows, strict=True)
    ]
    probability = float(np.mean([one.probability for one in answers]))
    return {"probability": probability, "extraction_strength": float(np.mean(strengths))}


class Queue:
    """Requests served one after another on one model, which is changed in place.

    It looks back only: what a request does depends on those before it and on the thresholds of importance.
    """

    def __init__(
        self, model: LanguageModel, settings: SequenceSettings, forget: ForgetSettings, training: TrainSettings
    ) -> None:
        self.model, self.settings, self.forget, self.training = model, settings, forget, training
        self.recipes = settings.recipes()
        for recipe in self.recipes.values():
            recipe.check_model(model.base())
        model.merge_adapter()
        self.start = {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}
        self.thresholds = settings.thresholds
        self.encoder: StateEncoder | None = None
        self.history = torch.zeros(0, device=model.device)  # [chunks kept so far, width]
        self.served: list[Request] = []
        self.reports: list[Report] = []

    def calibrate(self, requests: Sequence[Request]) -> None:
        """Thresholds of importance from a sample of requests under the model as it is."""
        rows = [self.model.encoder().encode_all(request.forget, "forget row") for request in requests]
        self.thresholds = percentile_thresholds([importance(self.model, one) for one in rows])

    def serve(self, request: Request) -> Report:
        """Filter, weigh, forget, look back.

        Raises:
            InputError: there are no thresholds yet.
        """
        if self.thresholds is None:
            raise InputError("the queue has no thresholds of importance", "call calibrate() with a few requests first")
        started = time.monotonic()
        filtered = self._filter(request)
        report = Report(
            number=len(self.served) + 1,
            request=request.id,
            rows=rows_hash(request),
            kept=[chunk.id for chunk in filtered.kept],
            dropped=filtered.dropped,
        )
        if filtered.kept:
            self._forget(dataclasses.replace(request, forget=tuple(filtered.kept)), self.thresholds, report)
        self._look_at(request, report)
        self._look_back(report)
        self.served.append(request)
        self.reports.append(report)
        report.seconds = time.monotonic() - started
        return report

    # Filter

    def _filter(self, request: Request) -> Filtered:
        """Choose the chunks that are new, and add them to the history."""
        chunks = chunks_of(self.model, request.forget, self.settings.chunk)
        encoded = self.model.encoder().encode_all(chunks, "forget row")
        embedded = self._embed(request, encoded)
        similarity = nearest_similarity(embedded, self.history).cpu()
        losses, tokens = answer_losses(self.model, encoded)
        with self._as_it_began():
            rise = (losses - answer_losses(self.model, encoded)[0]) / tokens
        difference, settings = loss_differences(losses, tokens), self.settings
        keep = kept_chunks(similarity, difference, rise, settings.tau, settings.epsilon, settings.lost)
        self.history = torch.cat([self.history.reshape(-1, embedded.shape[1]), embedded[keep.to(embedded.device)]])
        return Filtered(chunks, keep.tolist(), similarity.tolist(), difference.tolist(), rise.tolist())

    def _embed(self, request: Request, encoded: Sequence[Encoded]) -> Tensor:
        """Embed texts under the first weights, so that one encoder compares all of them."""
        with self._as_it_began():
            if self.encoder is None:
                general = [Example("", question) for question in GENERAL_QUESTIONS]
                self.encoder = StateEncoder.of(self.model, request.retain or general)
            return self.encoder.embed(self.model, encoded)

    def _as_it_began(self) -> AbstractContextManager[None]:
        return Anchor(dict(self.model.model.named_parameters()), self.start).in_place()

    # Importance, and the recipe that it chooses

    def _forget(self, request: Request, thresholds: tuple[float, float], report: Report) -> None:
        """Run one recipe with its own optimizer and seed."""
        report.importance = importance(self.model, self.model.encoder().encode_all(request.forget))
        report.tier = tier_of(report.importance, thresholds)
        recipe = self.recipes[report.tier]
        seed = stream_seed(self.training.seed, "request", report.number)
        job = RecipeJob(self.model, request, recipe, self.forget, dataclasses.replace(self.training, seed=seed))
        job.prepare()
        result = job.work(None)
        self.model.merge_adapter()
        report.method, report.layers = str(recipe), getattr(job.scope, "layers", None)
        report.losses = [metrics["loss"] for metrics in result.outcome.history if "loss" in metrics]
        report.warnings += result.warnings
        if not request.retain:
            report.warnings.append("no retain rows: nothing held the rest of the model in place")

    # What is left

    def _look_at(self, request: Request, report: Report) -> None:
        """Measure the weights' distance, and the knowledge that is left of the request."""
        now = self.model.model.named_parameters()
        squares = [(parameter.detach() - self.start[name]).double().square().sum() for name, parameter in now]
        report.drift = float(torch.stack(squares).sum().sqrt())
        report.weights = self.model.parameters_hash()
        report.knowledge = knowledge(self.model, self._sample(request, report.number))
        if report.knowledge["probability"] > KNOWN:
            known = f"its answers are still known (probability {report.knowledge['probability']:.2f})"
            report.warnings.append(f"{known}; {len(report.dropped)} chunks were dropped as redundant")

    def _look_back(self, report: Report) -> None:
        """Question a sample of the earlier requests again; the cost is the sample's size."""
        draw = random.Random(stream_seed(self.training.seed, "re-audit", report.number))
        for i in sorted(draw.sample(range(len(self.served)), min(self.settings.reaudit, len(self.served)))):
            then, now = self.reports[i].knowledge, knowledge(self.model, self._sample(self.served[i], i + 1))
            report.earlier.append({"request": self.served[i].id, "number": i + 1, **now, "then": then})
            if now["probability"] > then["probability"] + RETURNED:
                change = f"{then['probability']:.2f} -> {now['probability']:.2f}"
                report.warnings.append(f"request {i + 1} ({self.served[i].id}) has come back: probability {change}")

    def _sample(self, request: Request, number: int) -> list[Example]:
        """A fixed sample of a request's rows."""
        draw = random.Random(stream_seed(self.training.seed, "rows", number))
        return draw.sample(request.forget, min(self.settings.reaudit_rows, len(request.forget)))
