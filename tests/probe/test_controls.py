"""The controls of the probes can fail: halves are not exchanged, random ones are random, both models are told apart."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.probe.attention_maps import on_attention_rows, summarise_attention
from letheon.probe.binding.interventions import Prompts, interchange
from letheon.probe.binding.mixture import fit_mixture
from letheon.probe.binding.report import look_up
from letheon.probe.changes import ChangeSettings, compare_models, measure_changes
from letheon.probe.directions import TruthStates
from letheon.probe.negative_bias.prompts import Answers, Format, answers_to, ask
from letheon.probe.negative_bias.report import BiasSettings, ablate
from letheon.probe.negative_bias.scores import negative_attention
from letheon.probe.post_training import report as post_training
from letheon.probe.post_training.localisation import answer_gaps, answer_pair, matched_pairs, patching_map
from letheon.probe.post_training.report import PostTrainingSettings, probe_post_training
from letheon.probe.retrieval_heads import report as retrieval
from letheon.probe.retrieval_heads.needles import NEEDLES, Instance
from letheon.probe.retrieval_heads.report import RetrievalSettings, mask_top_and_random, probe_retrieval_heads
from letheon.probe.retrieval_heads.scoring import Scored
from letheon.probe.secondary_sinks import planting
from letheon.probe.secondary_sinks.detect import Sink, detect_sinks
from letheon.probe.secondary_sinks.planting import first_direction
from letheon.probe.secondary_sinks.report import SinkSettings, plant_all, probe_sinks
from letheon.probe.statements import Statement, built_in
from tests.probe.test_negative_bias import shortcut
from tests.probe.test_secondary_sinks import a_profile, with_a_sink
from tests.steer.models import family

__all__ = ["with_a_sink"]  # a fixture

TEXT = "A text that is long enough to be cut into several pieces for this comparison. " * 6


def a_copy(model: LanguageModel) -> LanguageModel:
    return replace(model, model=copy.deepcopy(model.model), _encoder=None)


@pytest.mark.oracle("retrieval-heads")
def test_masked_heads_are_those_of_the_other_half_beside_the_worst_draw(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.zeros(4, 4, 4)
    scores[0::2, 1, 2], scores[1::2, 2, 3] = 1.0, 1.0
    scored = Scored(scores, scores, scores, [""] * 4, [1.0] * 4)
    tested: list[Instance] = []

    def recall(_: object, instances: Sequence[Instance], masks: Tensor, **options: object) -> Tensor:
        tested.extend(instances)
        return torch.tensor([[1.0, 0.8], [0.2, 0.1], [0.9, 0.9], [0.6, 0.4], [0.7, 0.8]])

    monkeypatch.setattr(retrieval, "recall_when_masked", recall)
    instances = [Instance((i,), (0, 1), "") for i in range(4)]
    found = mask_top_and_random(tiny, instances, scored, RetrievalSettings(masked=1, draws=3))
    assert found is not None
    assert found.heads == [(1, 2)], "chosen on the first and the third prompt"
    assert [one.ids for one in tested] == [(1,), (3,)]
    assert found.effect.value == pytest.approx(0.35), "the second draw is the worst"
    assert (found.plain, found.top) == pytest.approx((0.9, 0.15))


@pytest.mark.oracle("secondary-sinks")
def test_a_planted_sink_and_its_control_have_one_norm_and_are_not_exchanged(
    with_a_sink: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, added = torch.tensor([[3, *range(20, 60)]]), []
    real = planting.planted

    def spy(model: LanguageModel, layer: int, position: int, addition: Tensor) -> object:
        added.append(addition)
        return real(model, layer, position, addition)

    monkeypatch.setattr(planting, "planted", spy)
    sinks, random = plant_all(with_a_sink, ids, (0, 4), SinkSettings(strengths=(0.5,)))
    direction = first_direction(with_a_sink, ids, 1, 0)
    torch.testing.assert_close(added[0], 0.5 * direction)
    torch.testing.assert_close(added[1].norm(), 0.5 * direction.norm())
    assert abs(float(torch.cosine_similarity(added[0], added[1], dim=0))) < 0.5
    assert (sinks[0].found, random[0].found) == (True, False)


def test_the_check_of_planted_sinks_is_the_sink_s_attention_minus_the_control_s(with_a_sink: LanguageModel) -> None:
    report = probe_sinks(with_a_sink, TEXT, SinkSettings(tokens=48, texts=1, strengths=(1.0,)))
    check = next(one for one in report.checks if "minus that on a random direction" in one.name)
    (sink,), (random,) = report.values["planted"], report.values["planted, random direction"]
    assert check.value == pytest.approx(sink.score - random.score)
    assert check.value != 0


@pytest.mark.oracle("secondary-sinks")
def test_a_token_along_the_first_one_outside_the_window_is_no_sink() -> None:
    seen = a_profile()
    cosines = seen.cosines.clone()
    cosines[1, 0, 7] = 1.0
    seen = replace(seen, cosines=cosines)
    assert [one.position for one in detect_sinks(seen)] == [5]
    assert Sink(7, (1,), "noise") in detect_sinks(seen, scan_all_layers=True)


@pytest.mark.oracle("binding")
def test_a_state_put_where_it_came_from_changes_nothing(tiny: LanguageModel) -> None:
    ids = torch.randint(5, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    candidates = torch.arange(60, 65).repeat(3, 1)
    prompts = Prompts(ids, ids, candidates, torch.tensor([[0, 1, 2, 3]] * 3), ids, candidates[:, 0])
    with torch.no_grad():
        plain = tiny.model(ids).logits[:, -1, 60:65].softmax(-1)
    for found in interchange(tiny, prompts, range(5)).values():
        torch.testing.assert_close(found.distribution, plain, atol=1e-5, rtol=1e-4)
    other = replace(prompts, changed=ids.flip(1))
    with torch.no_grad():
        theirs = tiny.model(ids.flip(1)).logits[:, -1, 60:65].softmax(-1)
    torch.testing.assert_close(interchange(tiny, other, [4])[4].distribution, theirs, atol=1e-5, rtol=1e-4)
    held_out = look_up(tiny, replace(other, unbound=ids.flip(1)), stride=2).held_out
    assert torch.equal(held_out.original, ids[1::2])


@pytest.mark.oracle("binding")
def test_similarities_are_those_of_held_out_cells() -> None:
    draw = torch.Generator().manual_seed(0)
    cells = [(p, k, r) for p in range(4) for k in range(4) for r in range(4) if len({p, k, r}) == 3]
    means = {cell: torch.rand(4, generator=draw).softmax(0) for cell in cells}
    fit = fit_mixture(means, epochs=2)
    assert fit.cells == (16, 4, 4)
    assert {len(values) for values in fit.by_cell.values()} == {4}


@pytest.mark.oracle("negative-bias")
def test_heads_are_chosen_on_one_half_and_never_drawn_as_random_ones() -> None:
    model = shortcut(gain=3.0)
    statements = [Statement("x is y.", bool(i // 2 % 2)) for i in range(8)]
    nas = torch.full((8, 1, 3), -1.0)
    nas[0::2, 0, 1], nas[1::2, 0, 0] = 1.0, 1.0
    asked = answers_to(model, statements, Format())
    found = ablate(model, statements, Answers(asked.yes, asked.no, nas), BiasSettings(heads=1, draws=8))
    assert found is not None
    assert found.heads == [(0, 1)]
    assert min(found.random) > found.without + 0.5
    swapped = Answers(asked.yes, asked.no, nas[[1, 0, 3, 2, 5, 4, 7, 6]])
    other = ablate(model, statements, swapped, BiasSettings(heads=1, draws=2))
    assert other is not None
    assert other.heads == [(0, 0)]


@pytest.mark.oracle("negative-bias")
def test_the_score_sums_over_all_queries_after_the_instruction(tiny: LanguageModel) -> None:
    statement, form = Statement("Rome is old.", True), Format()
    asked, whole = ask(tiny, statement, form), {}
    with torch.no_grad(), on_attention_rows(tiny, lambda seen: whole.setdefault(seen.layer, seen.rows(0, seen.length))):
        tiny.model(torch.tensor([asked.ids]))
    found = answers_to(tiny, [statement], form, attention=True).nas[0]
    for layer, rows in whole.items():
        yes, no = (rows[0, :, asked.after :, slice(*span)].sum(-1) for span in (asked.yes, asked.no))
        torch.testing.assert_close(found[layer], negative_attention(yes, no), atol=1e-5, rtol=1e-4)
    inverted = tiny.tokenizer.decode(ask(tiny, statement, Format(inverted=True)).ids)
    assert "Is it false that Rome is old?" in inverted


@pytest.mark.oracle("post-training")
def test_directions_transfer_from_the_model_that_is_named_first(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both coordinates of the post-trained model tell the truth; of the base's, the second one is noise."""
    draw, post = torch.Generator().manual_seed(0), a_copy(tiny)
    labels = torch.tensor([True, False] * 100)
    sides = torch.where(labels, 1.0, -1.0)
    states = {id(one): torch.zeros(4, 200, 64) for one in (tiny, post)}
    states[id(tiny)][:, :, 0] = states[id(post)][:, :, 0] = states[id(post)][:, :, 1] = sides
    states[id(tiny)][:, :, 1] = 5 * torch.randn(200, generator=draw)
    topics = ("a",) * 100 + ("b",) * 100
    monkeypatch.setattr(post_training, "truth_states", lambda model, _: TruthStates(states[id(model)], labels, topics))
    found = post_training.compare_directions(post, tiny, {}, post_training.Contrast(), 1, 0)
    mean = {name: sum(values.values()) / 2 for name, values in found.accuracies.items()}
    assert mean["post on post"] == 1.0
    assert mean["post on base"] < 0.8 < 0.9 < mean["base on post"]
    assert abs(found.shuffled - 0.5) < 0.3, "the labels of the control are shuffled"


@pytest.mark.oracle("post-training")
def test_states_come_from_the_model_that_gives_them(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    other = a_copy(tiny)
    with torch.no_grad():
        blocks(other.model)[1].mlp.down_proj.weight.mul_(-3)
    pairs = matched_pairs(tiny, [Statement("Rome is in Ohio.", False), Statement("Oslo is in Ohio.", True)], 1)
    first, second = answer_pair(tiny)
    for source in (tiny, other):
        with torch.no_grad():
            logits = source.model(torch.tensor([pairs[0].true])).logits[0, -1]
        found = patching_map(tiny, pairs, source=source)
        torch.testing.assert_close(found[-1, -1], logits[first] - logits[second], atol=1e-5, rtol=1e-4)
    calls: list[tuple[str, str]] = []

    def spy(model: LanguageModel, _: object, *, stride: int, source: LanguageModel | None = None) -> Tensor:
        calls.append((model.name, (source or model).name))
        return torch.full((1, 1), float(len(calls)))

    monkeypatch.setattr(post_training, "patching_map", spy)
    post, base = replace(tiny, name="post"), replace(tiny, name="base")
    maps = post_training.knowledge_maps(post, base, {"sizes": built_in()["capitals"]}, PostTrainingSettings(pairs=1))
    assert maps is not None
    into = [int(one) - 1 for one in (maps.post, maps.base, maps.base_into_post, maps.post_into_base)]
    assert [calls[at] for at in into] == [("post", "post"), ("base", "base"), ("post", "base"), ("base", "post")]


@torch.no_grad()
def test_maps_of_a_model_that_cannot_tell_the_statements_apart_pass_no_check(tiny: LanguageModel) -> None:
    rows = built_in()["capitals"]
    pairs, (first, second) = matched_pairs(tiny, rows, 3), answer_pair(tiny)
    expected = []
    for pair in pairs:
        true, false = (tiny.model(torch.tensor([ids])).logits[0, -1] for ids in (pair.true, pair.false))
        expected.append(float((true[first] - true[second]) - (false[first] - false[second])))
    assert answer_gaps(tiny, pairs) == pytest.approx(expected, abs=1e-5)
    report = probe_post_training(tiny, tiny, {"capitals": rows}, settings=PostTrainingSettings(items=4, stride=3))
    checks = {one.name: one for one in report.checks}
    assert checks["logit of TRUE minus FALSE, true statements minus false ones, by pair"].passed is not True
    maps = report.values["maps"]
    torch.testing.assert_close(maps.post, patching_map(tiny, matched_pairs(tiny, rows, 6), stride=3))
    assert checks["Pearson's r of the maps of two halves of the pairs"].value == maps.halves


@pytest.mark.oracle("changes")
def test_before_and_after_are_not_exchanged(tiny: LanguageModel) -> None:
    moved = a_copy(tiny)
    with torch.no_grad():
        blocks(moved.model)[2].self_attn.q_proj.weight.zero_()
    generator = torch.Generator().manual_seed(0)
    pieces = [torch.randint(5, 200, (1, 40), generator=generator) for _ in range(2)]
    found = measure_changes(tiny, moved, pieces, ChangeSettings(items=0))
    before, after = found.entropy[2].tolist()
    assert after > before, "attention without queries is flat"
    weights = dict(blocks(tiny.model)[2].self_attn.named_parameters())
    norm = sum(float(weight.detach().square().sum()) for weight in weights.values()) ** 0.5
    gone = float(weights["q_proj.weight"].detach().norm())
    assert found.weights[2]["attention"] == pytest.approx(gone / norm, rel=1e-4)


@pytest.mark.parametrize("name", ["Mixtral", "gpt_oss", "jamba"])
def test_mixtures_and_hybrids_are_probed_layer_by_layer(name: str) -> None:
    model = family(name)
    depth, topics = len(blocks(model.base())), {"sizes": built_in()["sizes"][:8]}
    moved = a_copy(model)
    with torch.no_grad():
        for parameter in moved.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.01)
    sinks = probe_sinks(model, TEXT, SinkSettings(tokens=32, texts=2, strengths=(0.5,), all_layers=True, cosine=0.2))
    assert len(sinks.values["attention on the first token"]) == depth
    post = probe_post_training(moved, model, topics, settings=PostTrainingSettings(items=4, pairs=0))
    mixed = name != "jamba"
    assert ("The last layer is a mixture of experts: no entropy neurons." in post.notes) is mixed
    assert len(post.checks) == (5 if mixed else 6)
    changes = compare_models(model, moved, TEXT, ChangeSettings(tokens=32, texts=2, items=0)).values["changes"]
    assert changes.heads.shape[0] == depth
    heads = probe_retrieval_heads(model, TEXT, NEEDLES[:1], RetrievalSettings(lengths=(250,), depths=(0,), budget=2))
    assert len(heads.values["scores"]) == depth


def test_a_layer_without_attention_has_zeros_and_the_others_their_own_numbers() -> None:
    model, ids = family("jamba"), torch.randint(3, 200, (1, 30), generator=torch.Generator().manual_seed(0))
    seen: dict[int, Tensor] = {}
    with torch.no_grad(), on_attention_rows(model, lambda one: seen.setdefault(one.layer, one.rows(0, one.length))):
        model.base()(ids, use_cache=False)
    assert list(seen) == [1], "layer 0 is recurrent"
    summary = summarise_attention(model, ids)
    assert not summary.received[0].any()
    expected = seen[1][0].sum(1) / torch.arange(30, 0, -1)
    torch.testing.assert_close(summary.received[1], expected)


@torch.no_grad()
def test_attention_that_may_go_nowhere_is_the_model_s_own() -> None:
    model, ids = family("gpt_oss"), torch.randint(3, 200, (1, 40), generator=torch.Generator().manual_seed(0))
    plain = model.base()(ids, use_cache=False, output_attentions=True)
    seen: dict[int, Tensor] = {}
    with on_attention_rows(model, lambda one: seen.setdefault(one.layer, one.rows(0, one.length))):
        watched = model.base()(ids, use_cache=False).logits
    torch.testing.assert_close(watched, plain.logits, atol=1e-5, rtol=1e-4)
    for layer, weights in enumerate(plain.attentions):
        torch.testing.assert_close(seen[layer], weights, atol=1e-5, rtol=1e-4)
    assert float(seen[0].sum(-1).max()) < 0.999
