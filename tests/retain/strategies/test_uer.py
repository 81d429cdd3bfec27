"""UER against hand-worked logits, the invariance that tells its two losses apart, and plain replay."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.papers.common.networks import network
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.models import is_mlp, mlp, mlp_for
from letheon.retain.rows import TaskRows
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.uer import UER, BiasWatch, bias_report, decompose_logits
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("uer")
SIZES = [8, 16, 16, 6]


def learner_of(text: str = "uer:capacity=20") -> ClassLearner:
    learner = make_learner(network(SIZES, 0), sample_stream(), read_strategy(text), LearnSettings(batch_size=5))
    learner.strategy.prepare(learner)
    learner.task = 1
    assert isinstance(learner, ClassLearner)
    return learner


def rows_of(learner: ClassLearner, task: int, n: int = 8) -> TaskRows:
    return learner.train_rows(learner.stream.tasks[task]).part(0, n)


def test_logits_by_hand() -> None:
    """h = (3, 4), w = (1, 0) and (0, -2): dot 3 and -8, norms 5, 1, 2, cosines 0.6 and -0.8."""
    found = decompose_logits(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    assert found.dot.tolist() == [[3.0, -8.0]]
    assert found.feature_norm.tolist() == [5.0]
    assert found.weight_norm.tolist() == [1.0, 2.0]
    assert found.cosine[0].tolist() == pytest.approx([0.6, -0.8], abs=1e-6)  # EPSILON over a product of 5


def test_a_logit_is_its_factors_and_a_cosine_is_torch_s() -> None:
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randn(n, 7, generator=generator) for n in (5, 3))
    found = decompose_logits(features, weight)
    assert torch.allclose(found.dot, found.cosine * found.feature_norm[:, None] * found.weight_norm, atol=1e-4)
    theirs = functional.cosine_similarity(features[:, None], weight[None], dim=-1)
    assert torch.allclose(found.cosine, theirs, atol=1e-5)


def test_the_cosines_gradient_in_float64_also_at_a_dead_feature() -> None:
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randn(n, 4, generator=generator, dtype=torch.float64, requires_grad=True) for n in (3, 2))
    assert torch.autograd.gradcheck(lambda h, w: decompose_logits(h, w).cosine, (features, weight))
    dead = torch.zeros(1, 4, requires_grad=True)
    cosine = decompose_logits(dead, weight.float()).cosine
    cosine.sum().backward()
    assert cosine.tolist() == [[0.0, 0.0]]
    assert bool(torch.isfinite(dead.grad).all())  # type: ignore[arg-type]


def test_longer_class_weights_change_what_is_replayed_and_not_what_is_new() -> None:
    """The easy mistake is to swap the two."""
    learner = learner_of()
    strategy = learner.strategy.parts[0]

    def losses() -> tuple[float, float]:
        new, old = rows_of(learner, 1), rows_of(learner, 0)
        outputs = [learner.outputs(rows) for rows in (new, old)]
        found = strategy.loss(learner, new, outputs[0]), strategy.replay_loss(learner, old, outputs[1])
        return found[0].item(), found[1].item()

    before = losses()
    with torch.no_grad():
        learner.head.weight.mul_(3.0)
    after = losses()
    assert after[0] == pytest.approx(before[0], rel=1e-4)
    assert abs(after[1] - before[1]) > 1e-2


def test_the_loss_of_a_step_is_the_sum_of_two_means() -> None:
    learner = learner_of("uer:capacity=20,tau=0.5,batch=6")
    memory = learner.strategy.find(UER).memory
    memory.add(rows_of(learner, 0, 6))
    new, old = rows_of(learner, 1, 5), memory.rows()
    mine = float(learner.total_loss(new))
    weight = learner.head.weight
    h_new, h_old = (learner.model[:-1](rows.inputs) for rows in (new, old))  # type: ignore[index]
    cosines = functional.normalize(h_new, dim=1) @ functional.normalize(weight, dim=1).T
    theirs = functional.cross_entropy(cosines / 0.5, new.targets)
    theirs = theirs + functional.cross_entropy(h_old @ weight.T, old.targets)
    assert mine == pytest.approx(float(theirs), rel=1e-4)


def test_with_dot_products_on_both_sides_it_is_replay_to_the_bit() -> None:
    runs = [
        learn(network(SIZES, 0), sample_stream(), text, batch_size=5, learning_rate=0.05)
        for text in ("uer:capacity=20,current=dot,replay=dot", "replay:capacity=20,batch=10")
    ]
    for mine, theirs in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_predictions_are_dot_products() -> None:
    learner = learner_of()
    rows = rows_of(learner, 1)
    assert torch.equal(learner.outputs(rows), learner.model(rows.inputs))


def test_a_row_is_seen_once_outside_replay_and_drawn_before_it_is_kept() -> None:
    seen: list[tuple[int, int]] = []

    class Watched(UER):
        def replay(self, learner, rows):  # type: ignore[no-untyped-def]
            old = super().replay(learner, rows)
            new = set(zip(rows.task.tolist(), rows.index.tolist(), strict=True))
            seen.extend(new)
            if old is not None:
                assert not new & set(zip(old.task.tolist(), old.index.tolist(), strict=True))
            return old

    learn(network(SIZES, 0), sample_stream(), Watched(UER.Settings(capacity=20)), batch_size=5)  # type: ignore[attr-defined]
    assert len(seen) == len(set(seen)) == 60


def test_the_bias_report_by_hand() -> None:
    """Class 1 is new, its weight three times as long: the logit's gap is the norm's, the cosines are even."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    found = bias_report(features, weight, torch.tensor([0, 1]), [0], [1])
    assert (found.dot.old, found.dot.newest, found.dot.gap) == (0.5, 1.5, 1.0)
    assert found.cosine.gap == pytest.approx(0.0, abs=1e-6)
    assert found.weight_norm.gap == pytest.approx(2.0)
    assert found.accuracy == found.cosine_accuracy == (1.0, 1.0)
    biased = bias_report(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), weight, torch.tensor([0, 1]), [0], [1])
    assert biased.accuracy.old == 0.0, "2 < 3: the long weight takes the old row"
    assert biased.cosine_accuracy.old == 1.0, "2 / sqrt(5) > 1 / sqrt(5)"
    assert biased.cosine.old == pytest.approx((2 / math.sqrt(5) + 0) / 2, abs=1e-6)


def test_the_watch_reports_after_each_task_but_the_first_and_refuses_a_bias() -> None:
    watch = BiasWatch()
    composed = Composition([*read_strategy("uer:capacity=20").parts, watch], "uer, watched")
    learn(network(SIZES, 0), sample_stream(), composed, batch_size=5, learning_rate=0.05)
    assert len(watch.reports) == 2
    with pytest.raises(InputError, match="head has a bias"):
        learn(mlp(SIZES), sample_stream(), Composition([*read_strategy("uer:capacity=20").parts, watch], "uer"))


def test_the_network_without_a_head_s_bias_has_logits_that_are_products() -> None:
    name, watch = "mlp=16-16/no-bias", BiasWatch()
    assert [is_mlp(one) for one in (name, "mlp/no-bias", "mlp/other")] == [True, True, False]
    model, biased = (mlp_for(sample_stream(), one, seed=3) for one in (name, "mlp=16-16"))
    assert model.state_dict().keys() == biased.state_dict().keys() - {"4.bias"}
    assert all(torch.equal(weight, biased.state_dict()[key]) for key, weight in model.state_dict().items())
    composed = Composition([*read_strategy("uer:capacity=20").parts, watch], "uer, watched")
    learner = learn(model, sample_stream(), composed, batch_size=5, learning_rate=0.05).learner
    rows = rows_of(learner, 2)
    found = decompose_logits(learner.features(rows.inputs), learner.head.weight)
    assert len(watch.reports) == 2
    assert torch.allclose(learner.outputs(rows), found.dot, atol=1e-6)
