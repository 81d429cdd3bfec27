"""Post-training: directions by hand, a planted refusal direction, maps of knowledge, neurons; what changed inside."""

from __future__ import annotations

import copy
import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.probe.attention_maps import LayerAttention
from letheon.probe.changes import (
    ChangeSettings,
    activity,
    compare_models,
    head_differences,
    measure_changes,
    relative_change,
    weight_changes,
)
from letheon.probe.directions import (
    Contrast,
    TruthStates,
    cosine,
    mass_mean,
    prompt_states,
    refusal_direction,
    transfer,
    truth_states,
)
from letheon.probe.post_training.confidence import entropy_neurons, logit_variance, overlap
from letheon.probe.post_training.localisation import answer_pair, binned, matched_pairs, patching_map, pearson
from letheon.probe.post_training.report import PostTrainingSettings, beyond_random, probe_post_training
from letheon.probe.record import above_zero, render_probe
from letheon.probe.similarity import alignment, cka, mean_cosine, unbiased_hsic
from letheon.probe.statements import Statement, built_in
from letheon.steer.bake import bake
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering


def a_copy(model: LanguageModel) -> LanguageModel:
    return replace(model, model=copy.deepcopy(model.model), _encoder=None)


@pytest.mark.oracle("post-training")
def test_directions_by_hand() -> None:
    states = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([True, True, False, False])
    assert mass_mean(states, labels).tolist() == [3.0, -1.0]
    torch.testing.assert_close(refusal_direction(states[:2], states[2:]), torch.tensor([3.0, -1.0]) / 10**0.5)


@pytest.mark.oracle("post-training")
def test_a_truth_direction_transfers_to_a_topic_left_out_and_a_shuffled_one_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([True, False] * 60)
    truth = torch.randn(16, generator=generator)
    states = torch.randn(1, 120, 16, generator=generator) + torch.where(labels, 1.0, -1.0)[:, None] * truth
    topics = ("a",) * 60 + ("b",) * 60
    found = TruthStates(states, labels, topics)
    assert min(transfer(found, found, 0).values()) > 0.95
    assert found.split_half(0) > 0.9
    mixed = TruthStates(states, labels[torch.randperm(120, generator=generator)], topics)
    assert abs(sum(transfer(mixed, found, 0).values()) / 2 - 0.5) < 0.35
    assert abs(cosine(mixed.direction(0), found.direction(0))) < 0.6


def test_truth_states_are_centred_per_topic(tiny: LanguageModel) -> None:
    topics = {name: built_in()[name][:6] for name in ("capitals", "sizes")}
    found = truth_states(tiny, topics)
    for topic in topics:
        assert float(found.states[:, found.rows_of(topic)].mean(1).abs().max()) < 1e-5
    with pytest.raises(InputError, match="one kind only"):
        truth_states(tiny, {"a": [Statement("A is A.", True), Statement("B is B.", True)]})


def test_a_planted_refusal_direction_is_recovered(tiny: LanguageModel) -> None:
    """Post-training that adds a known vector where a mark is in the prompt moves the direction to that vector."""
    contrast = Contrast(tuple(f"Say # number {i}" for i in range(8)), tuple(f"Say a number {i}" for i in range(8)))
    planted = 3 * torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(5)), dim=0)
    post = a_copy(tiny)
    mark = post.tokenizer("#")["input_ids"][0]
    original = post.model.model.layers[1].forward

    def forward(hidden_states: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        out = original(hidden_states, *args, **kwargs)
        return out + planted * float(flags[0])  # one for all rows: those that begin alike may be run as one

    refusals = []
    for model in (tiny, post):
        sides = []
        for prompts in (contrast.refused, contrast.answered):
            flags = [mark in model.encoder().prompt(text) for text in prompts]
            assert len(set(flags)) == 1
            if model is post:
                post.model.model.layers[1].forward = forward
            sides.append(prompt_states(model, prompts))
        refusals.append(refusal_direction(sides[0][1], sides[1][1]))
    assert cosine(refusals[1], planted) > 0.95
    assert cosine(refusals[0], planted) < 0.6


RELEASED = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
RELEASED /= "refusal_directions"  # Refusal/refusal_directions of github.com/HZD01/post-training-mechanistic-analysis


@pytest.mark.oracle("post-training")
@pytest.mark.skipif(not RELEASED.is_dir(), reason=f"the released directions are not at {RELEASED}: set LETHEON_DATA")
def test_the_released_refusal_directions_have_the_published_cosines() -> None:
    base, tuned, instruct = (
        torch.load(RELEASED / f"refusal_dir_{name}.pt", weights_only=True, map_location="cpu").float()
        for name in ("llama-3.1-8b", "tulu", "llama-3.1-8b-instruct")
    )
    assert cosine(base, instruct) == pytest.approx(0.251, abs=5e-4)
    assert cosine(base, tuned) == pytest.approx(0.073, abs=5e-4)
    assert cosine(tuned, instruct) == pytest.approx(0.435, abs=5e-4)


@pytest.mark.oracle("post-training")
def test_binning_hides_the_lower_half_of_a_map() -> None:
    assert binned(torch.tensor([[0.0, 4.9, 5.0, 9.9, 10.0]])).tolist()[0] == pytest.approx([0, 0, 0.1, 1.0, 1.0])
    assert pearson(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 4.0]])) == pytest.approx(1.0)
    assert pearson(torch.ones(1, 2), torch.tensor([[2.0, 4.0]])) is None


@torch.no_grad()
def test_patching_the_last_token_after_the_last_layer_gives_the_true_run_s_answer(tiny: LanguageModel) -> None:
    statements = [Statement("Rome is in Ohio.", False), Statement("Oslo is in Ohio.", True)]
    pairs = matched_pairs(tiny, statements, 4)
    assert len(pairs) == 1
    assert pairs[0].span[0] == 0
    found = patching_map(tiny, pairs)
    assert found.shape == (4, len(pairs[0].true))
    logits = tiny.model(torch.tensor([pairs[0].true])).logits[0, -1]
    first, second = answer_pair(tiny)
    torch.testing.assert_close(found[-1, -1], logits[first] - logits[second], atol=1e-5, rtol=1e-4)


def test_words_that_begin_alike_are_compared_where_they_differ(tiny: LanguageModel) -> None:
    first, second = answer_pair(tiny)
    assert [tiny.tokenizer.decode([token]) for token in (first, second)] == ["T", "F"]
    (pair,) = matched_pairs(tiny, [Statement("Rome is old.", False), Statement("Oslo is old.", True)], 1)
    assert tiny.tokenizer.decode(pair.true).endswith("This statement is: "), "their common beginning is in the prompt"


@pytest.mark.oracle("post-training")
def test_entropy_neurons_are_large_and_write_to_no_token_in_particular() -> None:
    head = torch.eye(4)
    out = torch.tensor([[9.0, 9.0, 9.0, 9.0], [20.0, 0, 0, 0], *[[0.1, 0.1, 0.1, 0.1]] * 6])
    assert float(logit_variance(out, head)[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(logit_variance(out, head)[1]) == pytest.approx(0.25)
    assert entropy_neurons(out, head, 1) == {0}
    assert overlap({1, 2}, {2, 3}) == pytest.approx(1 / 3)


def test_neurons_that_overlap_like_random_ones_pass_no_check() -> None:
    draws = [0.0, 0.05, 0.1, 0.15] * 5
    assert above_zero("overlap", beyond_random(0.075, draws)).passed is False
    assert above_zero("overlap", beyond_random(0.4, draws)).passed is True


# What changed


@pytest.mark.oracle("changes")
def test_cka_ignores_rotation_and_scale_and_the_cosine_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert cka(alignment(x, 3 * x @ turn + 5)) == pytest.approx(1.0)
    assert mean_cosine(x, 2 * x) == pytest.approx(1.0)
    assert abs(mean_cosine(x, x @ turn)) < 0.6
    assert relative_change({"a": torch.tensor([3.0, 4.0])}, {"a": torch.tensor([3.0, 5.0])}) == pytest.approx(0.2)


@pytest.mark.oracle("changes")
def test_unrelated_states_have_no_cka_even_with_fewer_tokens_than_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 40, 200, generator=generator).unbind()
    assert abs(cka(alignment(x, y))) < 0.05, "the biased form gives 0.8 here"
    assert abs(cka(alignment(x, x, torch.randperm(40, generator=generator)))) < 0.1


@pytest.mark.oracle("changes")
def test_the_unbiased_criterion_is_the_mean_over_distinct_rows() -> None:
    """Song et al.: the average of k_ij (l_ij + l_qr - 2 l_iq) over all different i, j, q, r."""
    k, l = (one @ one.T for one in torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double())  # noqa: E741
    places = list(itertools.permutations(range(5), 4))
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in places]
    torch.testing.assert_close(unbiased_hsic(k, l), torch.stack(terms).mean())


@pytest.mark.oracle("changes")
def test_a_head_s_change_is_the_total_variation_of_its_rows_and_entropies_leave_the_first_token_out() -> None:
    keys = torch.tensor([[[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]])
    flat = LayerAttention(0, torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2), None, 1.0)
    sharp = LayerAttention(0, torch.full((1, 1, 3, 2), 50.0), keys, None, 1.0)
    distance, entropy = head_differences(flat, sharp)
    # rows: (1, 0, 0) both; (1/2, 1/2) against (0, 1); thirds against (0, 1, 0)
    assert distance.tolist() == pytest.approx([(0.5 + 2 / 3) / 3])
    assert entropy[0].tolist() == pytest.approx([0.6931 / 2], abs=1e-3), "ln 2 among two tokens, 0 with one alone"
    assert entropy[1].tolist() == pytest.approx([0.0], abs=1e-3)
    away = LayerAttention(0, torch.full((1, 1, 3, 2), 9.0), torch.tensor([[[[1.0, 1], [0, 0], [0, 0]]]]), None, 1.0)
    assert head_differences(flat, away)[1][1].tolist() == pytest.approx([0.6931 / 2], abs=1e-3), "beside a sink as well"


TEXT = "A text that is long enough to be cut into several pieces for this comparison. " * 4


def test_equal_models_differ_in_nothing_and_a_changed_layer_is_located(tiny: LanguageModel) -> None:
    settings = ChangeSettings(tokens=48, texts=2, items=0)
    same = compare_models(tiny, a_copy(tiny), TEXT, settings)
    assert "equal" in same.headline
    assert same.values["changes"].itself == 0.0
    assert max(map(abs, same.values["changes"].cka_shuffled)) < 0.5
    moved = a_copy(tiny)
    with torch.no_grad():
        blocks(moved.model)[2].self_attn.q_proj.weight.mul_(4)
    report = compare_models(tiny, moved, TEXT, settings)
    assert "Weights changed most in layer 2" in report.headline
    assert "of layer 2" in report.headline or "of layer 3" in report.headline
    changes = report.values["changes"]
    assert [row["attention"] > 0 for row in changes.weights] == [False, False, True, False]
    assert changes.cka[:2] == pytest.approx([1.0, 1.0])
    assert float(changes.heads[:2].max()) < 1e-5 < float(changes.heads[2].max())
    assert "<svg" in render_probe(report)


def test_a_model_with_a_baked_steering_is_compared_with_the_plain_one(tiny: LanguageModel) -> None:
    moved = bake(tiny, [Steering({Site(1): Displacement(shift=torch.ones(64))}, Shape.of(tiny), "by hand")])
    found = weight_changes(tiny, moved)
    assert [row["mlp"] > 0 for row in found] == [False, True, False, False]
    assert not any(row["attention"] for row in found)
    assert weight_changes(moved, tiny)[1]["mlp"] > 0


def test_a_large_first_token_does_not_hide_a_change(tiny: LanguageModel) -> None:
    """With the first token's massive state in it, the usual CKA of any two models is 1."""
    generator = torch.Generator().manual_seed(0)
    pieces = [torch.cat([torch.tensor([[3]]), torch.randint(5, 200, (1, 40), generator=generator)], 1) for _ in "ab"]
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight[3] = 1000.0
    moved = a_copy(tiny)
    with torch.no_grad():
        words = moved.model.get_input_embeddings().weight
        words[5:] = torch.randn(words[5:].shape, generator=generator)
    assert max(measure_changes(tiny, moved, pieces, ChangeSettings(items=0)).cka) < 0.5
    x, y = ((one - one.mean(0)).double() for one in (activity(model, pieces[0]).states[0] for model in (tiny, moved)))
    assert float((y.T @ x).norm() ** 2 / (x.T @ x).norm() / (y.T @ y).norm()) > 0.99


def test_models_of_different_size_are_refused(tiny: LanguageModel) -> None:
    other = a_copy(tiny)
    other.model.model.layers = other.model.model.layers[:3]
    with pytest.raises(InputError, match="layers, width"):
        measure_changes(tiny, other, [torch.arange(9)[None]], ChangeSettings(items=0))


def test_the_report_compares_a_model_with_its_base(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    post, rows = a_copy(tiny), []
    monkeypatch.setattr(
        "letheon.probe.post_training.report.heat_map", lambda _, down, *rest, **options: rows.append(down) or ""
    )
    with torch.no_grad():
        blocks(post.model)[1].mlp.down_proj.weight.add_(0.05)
    topics = {name: built_in()[name] for name in ("capitals", "sizes")}
    report = probe_post_training(post, tiny, topics, settings=PostTrainingSettings(items=8, pairs=1, stride=2))
    assert len(report.checks) == 8
    assert rows == [["0", "2"]] * 2, "every other layer is patched"
    assert "Entropy neurons" in report.headline
    with record(tiny.model, [Site(0)]) as found:
        tiny.model(torch.arange(4)[None])
    assert found, "the base can still be hooked afterwards"
