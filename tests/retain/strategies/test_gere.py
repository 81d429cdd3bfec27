"""GeRe: thresholds and states by hand, the margin and its gradient, a step's loss, and which texts come when."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.general_watch import GeneralWatch
from letheon.retain.learn import learn, make_learner
from letheon.retain.learned import Learned
from letheon.retain.rows import TaskRows
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.gere import (
    GeRe,
    Settings,
    Thresholds,
    balanced_weight,
    dealt,
    head_states,
    logit_imitation,
    margin_loss,
    states_of,
    step_loss,
    thresholds_of,
)
from letheon.retain.strategies.naive import Naive
from letheon.retain.texts import TextLearner
from letheon.testing.strategies import sample_texts

pytestmark = pytest.mark.oracle("gere")

TEXTS = ["Rain falls on the hills and runs to the sea.", "A mill grinds corn.", "Bees fly far."]
AT = Thresholds(torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0]))


def begun(options: dict[str, Any] | None = None, **training: Any) -> tuple[TextLearner, GeRe, TaskRows]:
    """A tiny language model before its first step, the strategy, and the rows of that step."""
    gere = GeRe(Settings(**{"per_step": 2, **(options or {})}), TEXTS)
    stream = sample_texts()
    learner = make_learner(
        load("tiny", device="cpu"), stream, Composition([gere], "gere"), LearnSettings(batch_size=3, **training)
    )
    assert isinstance(learner, TextLearner)
    learner.strategy.prepare(learner)
    learner.task, learner.task_steps = 0, 2
    gere.before_task(learner, stream.tasks[0])
    return learner, gere, learner.train_rows(stream.tasks[0]).part(0, 3)


def run(strategy: GeRe | str | Composition, **training: Any) -> Learned:
    given = {"batch_size": 3, "learning_rate": 1e-2, "epochs": 2} | training
    return learn(load("tiny", device="cpu"), sample_texts(), strategy, **given)


# Thresholds, states, margin


def test_thresholds_by_hand() -> None:
    """1, 3 and 5 have mean 3 and the population's variance 8/3."""
    at = thresholds_of(torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]), sigmas=0.5)
    half = 0.5 * math.sqrt(8 / 3)
    assert at.low.tolist() == pytest.approx([3 - half, 7.0])
    assert at.high.tolist() == pytest.approx([3 + half, 7.0])


def test_thresholds_of_large_activations_do_not_lose_their_variance() -> None:
    """E[h²] - μ² in float32 would be off by more than the variance itself, or below 0."""
    hidden = 3000 + torch.tensor([[0.0], [0.01]])
    at = thresholds_of(hidden, 1.0)
    assert float(at.high - at.low) == pytest.approx(float(hidden[1] - hidden[0]), rel=0.1)


def test_states_by_hand() -> None:
    hidden = torch.tensor([[-2.0, -1.0, -0.5], [0.0, 1.0, 1.5]])
    found = states_of(hidden, AT)
    assert found.tolist() == [[-1, -1, 0], [0, 1, 1]]
    assert found.dtype == torch.int8
    same = Thresholds(torch.zeros(3), torch.zeros(3))
    assert states_of(torch.zeros(1, 3), same).tolist() == [[1, 1, 1]], "without spread a unit has one state, not two"


def test_the_margin_by_hand() -> None:
    """Outside by 0.5 (a high unit), 1 (a low one) and 2 (a neutral one): mean 3.5 / 3, though there are six units."""
    states = torch.tensor([[1, -1, 0], [1, -1, 0]], dtype=torch.int8)
    hidden = torch.tensor([[0.5, 0.0, 3.0], [4.0, -4.0, 0.9]])
    assert float(margin_loss(hidden, states, AT)) == pytest.approx(3.5 / 3)


def test_the_margin_is_the_papers_four_hinges() -> None:
    draw = torch.Generator().manual_seed(0)
    then = torch.randn(40, 6, generator=draw, dtype=torch.float64)
    at = thresholds_of(then)
    states = states_of(then, at)
    hidden = (then + torch.randn(40, 6, generator=draw)).requires_grad_()
    hinges = torch.zeros_like(then)
    hinges = hinges + (states == 1) * (at.high - hidden).relu() + (states == -1) * (hidden - at.low).relu()
    hinges = hinges + (states == 0) * ((hidden - at.high).relu() + (at.low - hidden).relu())
    theirs = hinges.sum() / ((hinges > 0).sum() + 1e-8)
    mine = margin_loss(hidden, states, at)
    assert float(mine.detach()) == pytest.approx(float(theirs.detach()), rel=1e-12)
    (gradient,) = torch.autograd.grad(mine, hidden)
    (direct,) = torch.autograd.grad(theirs, hidden)
    assert torch.allclose(gradient, direct, atol=1e-15)
    count = int((hinges > 0).sum())
    assert gradient[hinges > 0].abs().tolist() == pytest.approx([1 / count] * count), "1 / violations each"


def test_units_in_their_state_have_no_loss_and_no_gradient() -> None:
    then = torch.randn(30, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    at = Thresholds(*(one.detach() for one in thresholds_of(then)))
    loss = margin_loss(then, states_of(then, at), at)
    (gradient,) = torch.autograd.grad(loss, then)
    assert float(loss.detach()) == 0.0
    assert not gradient.any()


def test_logit_imitation_by_hand() -> None:
    """Probabilities 1/2, 1/2 against 3/4, 1/4 at temperature 1; logits of twice the size at temperature 2 alike."""
    now, old = torch.log(torch.tensor([[3.0, 1.0]])), torch.zeros(1, 2)
    exact = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(logit_imitation(now, old, 1.0)) == pytest.approx(exact)
    assert float(logit_imitation(2 * now, old, 2.0)) == pytest.approx(exact)


def test_the_dynamic_weight_makes_terms_equal_and_has_no_gradient() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    cross_entropy, imitation = x.square(), 3 * x
    weight = balanced_weight(cross_entropy, imitation)
    assert float(weight * imitation) == pytest.approx(float(cross_entropy))
    (gradient,) = torch.autograd.grad(cross_entropy + weight * imitation, x)
    assert float(gradient) == pytest.approx(2 * 2 + 4 / 6 * 3)


# Which texts come when


def test_every_text_comes_once_a_round() -> None:
    rounds = {0: [2, 0, 1], 1: [1, 2, 0], 2: [0, 1, 2]}
    found = [dealt(4 * i // 2, 4 * (i + 1) // 2, 3, lambda n: torch.tensor(rounds[n])).tolist() for i in range(4)]
    assert found == [[2, 0], [1, 1], [2, 0], [0, 1]]
    assert dealt(3, 3, 3, lambda n: torch.tensor(rounds[n])).tolist() == []


def test_plain_mixing_gives_every_text_once_an_epoch() -> None:
    learner, gere, _ = begun({"per_step": 0}, epochs=2)
    learner.task_steps = 8
    found = []
    for learner.task_step in range(8):
        found.append(gere._places(learner).tolist())
    assert [sorted(chain(*found[epoch : epoch + 4])) for epoch in (0, 4)] == [[0, 1, 2]] * 2
    assert max(map(len, found)) == 1


# In the loop


def test_the_first_steps_margin_is_0_for_texts_of_unlike_lengths_in_one_batch() -> None:
    """States were recorded in other batches; the rounding of a pass moves units at a threshold by 1e-5 at most."""
    learner, gere, rows = begun({"per_step": 3})
    learner.total_loss(rows)
    assert gere.last is not None
    assert float(gere.last.imitation) < 1e-5  # type: ignore[arg-type]


def test_the_weights_of_a_step_are_those_of_the_references_samples() -> None:
    """1000 texts and 5000 rows at w = 100: the margin counts 100 · 1000 / 5000 = 20 times as much as the task."""
    terms = [torch.tensor(one, requires_grad=True) for one in (2.0, 3.0, 0.5)]
    loss, _ = step_loss(*terms, 100.0, 1 / 6, "reference")
    by_task, by_text, by_margin = (float(one) for one in torch.autograd.grad(loss, terms))
    assert (by_task, by_text) == pytest.approx((5 / 6, 1 / 6))
    assert by_margin / by_task == pytest.approx(20.0)
    dynamic, weight = step_loss(*terms, None, 1 / 6, "reference")
    assert float(weight) == pytest.approx(3.0 / 0.5)  # type: ignore[arg-type]
    assert float(dynamic.detach()) == pytest.approx(5 / 6 * 2.0 + 1 / 6 * (3.0 + 3.0))


def test_half_weighs_the_margin_alike_whatever_the_number_of_texts() -> None:
    terms = [torch.tensor(one, requires_grad=True) for one in (2.0, 3.0, 0.5)]
    for texts in (0.01, 0.5):
        loss, _ = step_loss(*terms, 100.0, texts, "half")
        assert [float(one) for one in torch.autograd.grad(loss, terms)] == pytest.approx([0.5, 0.5, 100.0])


@pytest.mark.parametrize("share", ["reference", "half"])
def test_a_steps_loss_is_its_formula(share: str) -> None:
    learner, gere, rows = begun({"weight": 7.0, "share": share})
    with torch.no_grad():
        for weight in learner.weights:
            weight.mul_(1.1)
    mine = learner.total_loss(rows)
    model, batch = learner.model, learner.batch(rows)
    logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    task = functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten())
    places = gere._places(learner)
    losses, hidden = [], []
    for place in places.tolist():
        n = int(gere.general.kept["length"][place])
        ids = gere.general.inputs[place : place + 1, :n]
        found = model(ids, output_hidden_states=True)
        losses.append(functional.cross_entropy(found.logits[0, :-1], ids[0, 1:], reduction="none"))
        hidden.append(found.hidden_states[-1][0, :-1])
    of_texts = torch.cat(losses).mean()
    states = torch.cat([gere.states[place] for place in places.tolist()])
    margin = margin_loss(torch.cat(hidden), states, Thresholds(gere.low, gere.high))  # type: ignore[arg-type]
    assert float(margin) > 0.01
    wanted = (task + of_texts) / 2 + 7.0 * margin if share == "half" else (3 * task + 2 * (of_texts + 7 * margin)) / 5
    assert float(mine) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("imitation", ["kl", "l1", "l2"])
def test_imitations_are_0_at_the_start_and_above_it_later(imitation: str) -> None:
    learner, gere, rows = begun({"imitation": imitation, "weight": 1.0})
    learner.total_loss(rows)
    assert float(gere.last.imitation) == pytest.approx(0.0, abs=1e-5)  # type: ignore[union-attr,arg-type]
    with torch.no_grad():
        for weight in learner.weights:
            weight.mul_(1.1)
    loss = learner.total_loss(rows)
    assert float(gere.last.imitation) > 1e-4  # type: ignore[union-attr,arg-type]
    assert any(gradient.any() for gradient in learner.gradient_of(loss))


def test_the_margin_changes_the_gradient() -> None:
    """Replaying texts with cross-entropy alone is not the method."""
    gradients = []
    for imitation in ("none", "margin"):
        learner, _, rows = begun({"imitation": imitation})
        with torch.no_grad():
            for weight in learner.weights:
                weight.mul_(1.1)
        gradients.append(learner.gradient_of(learner.total_loss(rows)))
    assert any(not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_no_row_of_a_task_is_kept_and_states_stay_those_before_the_first_task() -> None:
    gere = GeRe(Settings(per_step=1), TEXTS)
    result = run(gere)
    learner = result.learner
    texts = [learner.language_model.tokenizer.decode(row[row != 0]) for row in gere.general.inputs]
    assert all("eat" not in text for text in texts)
    fresh, other, _ = begun({"per_step": 1})
    assert all(torch.equal(a, b) for a, b in zip(gere.states, other.states, strict=True))
    now, _ = head_states(learner, gere.general)
    then, _ = head_states(fresh, other.general)
    assert not torch.allclose(now[0], then[0])


def test_the_margin_keeps_states_and_cross_entropy_alone_does_not() -> None:
    """On the replayed texts themselves, where nothing but the loss decides."""
    flipped = {}
    for imitation in ("none", "margin"):
        watch = GeneralWatch(TEXTS)
        gere = GeRe(Settings(imitation=imitation, per_step=3), TEXTS)  # type: ignore[arg-type]
        run(Composition([gere, watch], "watched"), epochs=2, learning_rate=3e-3)
        flipped[imitation] = watch.kept[-1].flipped
    assert flipped["margin"] < flipped["none"]


def test_by_default_tasks_are_learned_and_states_kept() -> None:
    """At weight 100, the default of the authors' code, few rows beside few texts are hardly learned."""
    fall, flipped = {}, {}
    arms = {"naive": Naive(), "default": GeRe(Settings(), TEXTS), "weight 100": GeRe(Settings(weight=100.0), TEXTS)}
    for name, strategy in arms.items():
        watch = GeneralWatch(TEXTS)
        loss = run(Composition([strategy, watch], "watched"), epochs=4, learning_rate=3e-3).curve.matrix("loss")
        fall[name], flipped[name] = (loss[0] - loss[-1]).mean(), watch.kept[-1].flipped
    assert fall["default"] > 0.5 * fall["naive"] > 0.0
    assert fall["default"] > 1.2 * fall["weight 100"]
    assert flipped["default"] < 0.5 * flipped["naive"]


@pytest.mark.parametrize(
    ("text", "adapter"),
    [("gere:texts={}+ewc", "full"), ("replay:capacity=6+gere:texts={},weight=100", "lora")],
)
def test_it_composes(text: str, adapter: str) -> None:
    path = Path(__file__).with_name("general.jsonl")
    result = run(read_strategy(text.format(path)), epochs=1, learning_rate=1e-3, adapter=adapter)
    assert result.steps == 6
    assert all(math.isfinite(loss) for loss in result.curve.loss[-1])


def test_texts_are_cut_and_counted() -> None:
    _, gere, _ = begun({"tokens": 9, "count": 2, "per_step": 1})
    assert gere.general.inputs.shape == (2, 9)
    assert [len(states) for states in gere.states] == [8, 8]


# What is refused


def test_texts_are_asked_for_by_name() -> None:
    with pytest.raises(InputError, match="no general texts"):
        run("gere")


def test_a_text_without_anything_to_predict_is_refused() -> None:
    with pytest.raises(InputError, match="general text 2 has fewer than two tokens"):
        run(GeRe(Settings(), ["Bees fly far.", "a"]))


@pytest.mark.parametrize("options", [{"per_step": -1}, {"weight": 0.0}, {"count": 0}, {"imitation": "cosine"}])
def test_settings_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Settings(**options)
