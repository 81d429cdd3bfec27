"""A world for memory add-ons: streams of facts and questions, and a small model whose attention ends after a window.

A token is a fact (this key has this value) or a question (which value has this key?); the answer is the model's next
token, which the stream does not contain. Every stream has its own values for the keys. Keys are drawn by Zipf's law:
rare ones recur after a long time. The model has three layers and attends to the last 8 tokens only: it cannot know a
fact that lies beyond their reach, and then guesses among 6 values.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from letheon.attend.attaching import AddOns
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.networks import seeded
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.kit.tuning import TUNING_SEEDS, choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

KEYS, VALUES = 8, 6
QUESTIONS = KEYS * VALUES  # first question token; fact tokens come before
ANSWERS = QUESTIONS + KEYS  # first answer token
LENGTH, WINDOW, LAYERS, WIDTH = 64, 8, 3, 64
SHORT = 32  # length of the training streams, up to the last third of the steps, which has whole ones
TOKENS = 768  # per training step
REACH = LAYERS * (WINDOW - 1)  # a token sees WINDOW tokens, itself among them
BASE_STEPS, TESTS = 250, 128
BASE_RATE = 5e-3
RATES = (2.5e-3, 5e-3, 1e-2)
ALLOWED_LOSS = 0.02  # of recall within the window, in every seed
NEAR, FAR = "within the window", "beyond reach"
KEPT_NEAR = f"recall {NEAR} is at most {ALLOWED_LOSS} below the model's under every seed"
RARE, FREQUENT = f"{FAR}, rare", f"{FAR}, frequent"

Make = Callable[[str, LanguageModel, int], AddOns]  # attaches an arm to the model, given the seed


@dataclass(frozen=True)
class Streams:
    """Rows of the world, each [rows, length]."""

    ids: Tensor  # facts and questions
    answers: Tensor  # token of the right answer at each question; -100 elsewhere, and where no true fact came before
    distance: Tensor  # tokens back to the last true fact about the key; 0 where there is no answer
    times: Tensor  # number of true facts about the key so far


def streams(rows: int, generator: Any, noise: float = 0.0, length: int = LENGTH) -> Streams:
    """Draw streams; a share `noise` of the facts has a random value."""

    def draw(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    shares = (1 / torch.arange(1, KEYS + 1)).expand(rows, -1)
    order = torch.rand(rows, KEYS, generator=generator).argsort(-1)
    keys = order.gather(1, torch.multinomial(shares, length, replacement=True, generator=generator))
    values = draw(VALUES, rows, KEYS).gather(1, keys)
    told = torch.where(torch.rand(rows, length, generator=generator) < noise, draw(VALUES, rows, length), values)
    fact = torch.rand(rows, length, generator=generator) < 0.5
    ids = torch.where(fact, keys * VALUES + told, QUESTIONS + keys)
    true = (fact & (told == values))[:, None] & (keys[:, :, None] == keys[:, None])  # [rows, now, earlier]
    place = torch.arange(length)
    latest = torch.where(true.tril(-1), place, -1).amax(-1)
    known = ~fact & (latest >= 0)
    answers = torch.where(known, ANSWERS + values, -100)
    return Streams(ids, answers, torch.where(known, place - latest, 0), true.tril(-1).sum(-1))


def windowed_model(seed: int, window: int | None = WINDOW) -> LanguageModel:
    """A model with random weights: three layers of width 64, attention to the last 8 tokens (None: to all)."""
    config = MistralConfig(
        vocab_size=ANSWERS + VALUES,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=window,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.1,
    )
    return LanguageModel(seeded(lambda: MistralForCausalLM(config).eval(), seed), None, "windowed")


def train(
    model: LanguageModel,
    parameters: Iterable[nn.Parameter],
    steps: int,
    seed: int,
    *,
    rate: float,
    noise: float = 0.0,
    penalty: Callable[[], Tensor] | None = None,
) -> list[float]:
    """Train some parameters on the answers with AdamW and freeze all other weights; return each step's loss (nats).

    `finetune` does not apply here, because the answers are not part of the text.
    """
    trained = list(parameters)
    for weight in model.model.parameters():
        weight.requires_grad_(False)
    for weight in trained:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / steps)
        length = SHORT if step < 2 * steps // 3 else LENGTH
        batch = streams(TOKENS // length, generator, noise, length)
        asked = batch.answers >= 0
        logits = model.model(batch.ids, use_cache=False).logits[asked]
        loss = torch.nn.functional.cross_entropy(logits, batch.answers[asked])
        losses.append(float(loss.detach()))
        torch.autograd.backward(loss + penalty() if penalty else loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


def right(model: LanguageModel, batch: Streams) -> Tensor:
    """Whether the most probable token at each position is the answer there: [rows, LENGTH]."""
    with torch.inference_mode():
        return model.model(batch.ids, use_cache=False).logits.argmax(-1) == batch.answers


def recall(model: LanguageModel, tests: Streams) -> dict[str, Any]:
    """Share of right answers by the fact's distance; beyond reach also for rare and for frequent keys."""
    correct, distance = right(model, tests), tests.distance
    beyond = distance > REACH
    rare = tests.times <= tests.times[beyond].median()
    places = {
        NEAR: (distance > 0) & (distance < WINDOW),
        "beyond the window": (distance >= WINDOW) & (distance <= REACH),
        FAR: beyond,
        RARE: beyond & rare,
        FREQUENT: beyond & ~rare,
    }
    shares: dict[str, Any] = {name: float(correct[place].float().mean()) for name, place in places.items()}
    edges = (1, 4, 8, 16, 22, 32, 48, 64)
    shares["by distance"] = {
        low: float(correct[(distance >= low) & (distance < high)].float().mean()) for low, high in pairwise(edges)
    }
    return shares


def trained_base(seed: int, steps: int, window: int | None = WINDOW) -> LanguageModel:
    """The model of a seed, trained and then frozen, to which arms are attached one after another."""
    model = windowed_model(stream_seed(seed, "model"), window)
    train(model, model.model.parameters(), steps, stream_seed(seed, "base"), rate=BASE_RATE)
    return model


def recalled(model: LanguageModel, seed: int, noises: Sequence[float] = ()) -> dict[str, Any]:
    """Recall of the model as it is on the seed's test streams; with noise in them it is listed under `noise`."""

    def drawn(noise: float) -> Streams:
        return streams(TESTS, torch.Generator().manual_seed(stream_seed(seed, "test")), noise)

    torch.manual_seed(stream_seed(seed, "gate"))
    return recall(model, drawn(0.0)) | {"noise": {noise: recall(model, drawn(noise)) for noise in noises}}


def with_arm(
    model: LanguageModel, arm: str, make: Make, seed: int, steps: int, rate: float, noises: Sequence[float] = ()
) -> dict[str, Any]:
    """Recall with an arm beside the model, trained on the seed's streams and then taken away again."""
    ids = streams(4, torch.Generator().manual_seed(stream_seed(seed, "test"))).ids
    with torch.inference_mode():
        before = model.model(ids, use_cache=False).logits
    addons = make(arm, model, seed)
    trained = addons.parameters().values()
    losses = train(model, trained, steps, stream_seed(seed, "addon"), rate=rate, penalty=addons.penalty)
    found = recalled(model, seed, noises) | {"parameters": sum(p.numel() for p in trained)}
    tenth = max(1, steps // 10)
    found["fall of the loss at the end"] = sum(losses[-2 * tenth : -tenth]) / tenth - sum(losses[-tenth:]) / tenth
    with addons.off(), torch.inference_mode():
        after = model.model(ids, use_cache=False).logits
    found["logits changed when off"] = int((before != after).sum())
    addons.detach()
    return found


def compared(
    arms: Mapping[str, float], make: Make, noises: Sequence[float], seed: int, base_steps: int, steps: int
) -> dict[str, dict[str, Any]]:
    """Recall of the model alone and of each arm; all arms are trained and tested on the same streams.

    Args:
        arms: name -> learning rate.
        make: attaches an arm to the frozen model, given the seed.
        noises: shares of noise; recall on such streams is listed under `noise`.
    """
    model = trained_base(seed, base_steps)
    alone = {"model": recalled(model, seed, noises)}
    return alone | {arm: with_arm(model, arm, make, seed, steps, rate, noises) for arm, rate in arms.items()}


def tuned_rates(
    found: Findings, arms: Iterable[str], make: Make, place: str, scale: Scale, steps: int
) -> dict[str, float]:
    """Each arm's rate with the best recall at a place under the tuning seeds; the search is recorded."""
    times = 1 if scale.name == "fast" else 4
    models = {seed: trained_base(seed, times * BASE_STEPS) for seed in TUNING_SEEDS}

    def score(arm: str, rate: float, seed: int) -> float:
        return float(with_arm(models[seed], arm, make, seed, times * steps, rate)[place])

    return choose(found, dict.fromkeys(arms, RATES), score)


def attached(arm: str, kind: Callable[..., Any], settings: Any, model: LanguageModel, seed: int) -> AddOns:
    """An add-on of a kind beside the model; the seed draws its weights."""
    return seeded(lambda: AddOns(model, {arm: kind(WIDTH, LAYERS, settings)}), seed)


def recall_results(arms: Mapping[str, float], make: Make, noises: Sequence[float], scale: Scale, steps: int) -> Results:
    """Compare the arms (name -> rate) under every seed of the scale; full scale trains four times as long."""
    times = 1 if scale.name == "fast" else 4
    runs = {seed: compared(arms, make, noises, seed, times * BASE_STEPS, times * steps) for seed in scale.seeds}
    return Results({arm: [{"seed": seed, **one[arm]} for seed, one in runs.items()] for arm in ("model", *arms)})


def recall_parts(ours: str, label: str, arms: Sequence[str]) -> tuple[str, ...]:
    """Names of the parts that `judge_recall` decides, against these arms."""
    return tuple(f"{label}, minus {arm}" for arm in arms if arm != ours)


def judge_recall(
    results: Results, found: Findings, ours: str, place: str, label: str, *, beside: Sequence[str] = ()
) -> None:
    """Check that off is exact and little is lost nearby; decide whether more is recalled far away.

    What is lost nearby is no part: where both recall everything there, equal values would leave it undecided for ever.

    Args:
        place, label: where recall is compared with every other arm, and the name of that part.
        beside: arms that are weaker by construction, and decide nothing.
    """
    found.check("logits are unchanged when off", max(results.column(ours, "logits changed when off")) == 0)
    found.report(f"recall {NEAR}, minus the model's", results.pairs(NEAR, ours, "model"))
    near = zip(results.column("model", NEAR), results.column(ours, NEAR), strict=True)
    found.check(KEPT_NEAR, all(beside >= alone - ALLOWED_LOSS for alone, beside in near))
    for arm in results.arms:
        if arm != ours:
            judged = found.report if arm in beside else found.decide
            judged(f"{label}, minus {arm}", results.pairs(place, ours, arm), above=0.0)
    trained = {arm: rows for arm, rows in results.arms.items() if arm != "model"}
    found.measured["parameters"] = {arm: rows[0]["parameters"] for arm, rows in trained.items()}
    fall = "fall of the loss at the end"
    found.measured[f"{fall}, nats per tenth of the steps"] = {
        arm: statistics.mean(results.column(arm, fall)) for arm in trained
    }


def mean_recall(results: Results, place: str) -> dict[str, float]:
    """Arm -> mean recall over seeds."""
    return {arm: statistics.mean(results.column(arm, place)) for arm in results.arms}


def recall_figure(results: Results) -> str:
    """Recall over the distance of the fact, first seed."""
    curves = {arm: list(rows[0]["by distance"].items()) for arm, rows in results.arms.items()}
    return lines(curves, "tokens back", "recall", "Recall of a fact over its distance, by arm")
