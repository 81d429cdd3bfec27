"""Attention shifting: targets and divergences by hand, content tokens, and what the loss sees of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.forget.objectives.attention_shifting import (
    AttentionShifting,
    Settings,
    attention_divergence,
    attention_maps,
    balance,
    eager_attention,
    reinforced,
    suppressed,
)
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.probe.importance import content_importance, entropy_importance, most_important
from tests import naive

oracle = pytest.mark.oracle("attention_shifting")


def double(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Targets and divergences ----------------------------------------------------------------------------------------------


@oracle
def test_the_suppressed_target_by_hand() -> None:
    # λ = 0.5 halves the middle weight: (0.2, 0.2, 0.4) / 0.8
    found = suppressed(double([0.2, 0.4, 0.4]), torch.tensor([False, True, False]), 0.5)
    assert found.tolist()[0] == pytest.approx([0.25, 0.25, 0.5])


@oracle
def test_the_reinforced_target_by_hand() -> None:
    # γ = 0.5: (0.2, 0.6, 0.4) / 1.2
    found = reinforced(double([0.2, 0.4, 0.4]), torch.tensor([False, True, False]), 0.5)
    assert found.tolist()[0] == pytest.approx([1 / 6, 0.5, 1 / 3])


@oracle
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.99, 1.0])
def test_targets_are_distributions_and_causal_zeros_stay_zero(lam: float) -> None:
    scores = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    causal = torch.tril(torch.ones(5, 5, dtype=torch.bool))
    attention = scores.masked_fill(~causal, -math.inf).softmax(-1)
    mask = torch.tensor([False, True, True, False, True])
    for target in (suppressed(attention, mask, lam), reinforced(attention, mask, lam)):
        torch.testing.assert_close(target.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
        assert not target[..., ~causal].any()
    if lam == 0:
        torch.testing.assert_close(suppressed(attention, mask, lam), attention)


def test_a_query_that_sees_masked_tokens_alone_keeps_its_row() -> None:
    found = suppressed(double([0.3, 0.7]), torch.tensor([True, True]), 1.0)
    assert found.tolist() == [[0.3, 0.7]]


@oracle
def test_the_divergence_by_hand_and_its_direction() -> None:
    # KL((1/2, 1/2) || (1/4, 3/4)) = ½ ln 2 + ½ ln 2/3; the other way round it is another number
    ours, target = double([[[0.5, 0.5]]])[0][None], double([[[0.25, 0.75]]])[0][None]
    assert attention_divergence(ours, target).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert attention_divergence(target, ours).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


@oracle
def test_the_divergence_is_the_mean_over_heads_and_zero_on_the_target() -> None:
    one, two = double([0.5, 0.5]), double([0.9, 0.1])
    attention = torch.stack([one, two])[None, :, 0][:, :, None]
    target = torch.stack([one, one])[None, :, 0][:, :, None]
    alone = attention_divergence(two[None, None], one[None, None]).item()
    assert attention_divergence(attention, target).item() == pytest.approx(alone / 2)
    assert attention_divergence(target, target).item() == pytest.approx(0.0)


@oracle
def test_the_slope_is_log_a_minus_log_target_plus_one() -> None:
    """The derivative that the paper gives, up to the constant 10⁻⁸: positive where too much is attended to."""
    attention = double([0.7, 0.2, 0.1])[None, None].requires_grad_()
    target = double([0.1, 0.5, 0.4])[None, None]
    (slope,) = torch.autograd.grad(attention_divergence(attention, target).sum(), attention)
    torch.testing.assert_close(slope, (attention / target).log().detach() + 1, rtol=1e-6, atol=1e-6)
    assert slope[0, 0, 0, 0] > 0 > slope[0, 0, 0, 1] - 1


def test_a_weight_that_has_vanished_gives_a_finite_loss_and_slope() -> None:
    attention = double([1.0, 0.0])[None, None].requires_grad_()
    loss = attention_divergence(attention, double([0.0, 1.0])[None, None]).sum()
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, attention)[0]).all()


@pytest.mark.parametrize(("losses", "alpha"), [((3, 1), 0.75), ((1, 0), 0.9), ((0, 1), 0.1), ((0, 0), 0.5)])
def test_alpha_follows_the_losses_within_bounds(losses: tuple[float, float], alpha: float) -> None:
    assert balance(*losses) == alpha


# Content tokens -------------------------------------------------------------------------------------------------------


def words_at(model: LanguageModel, row: Encoded, scores: list[float], value: float) -> set[str]:
    """Words of the row whose tokens have a score."""
    kept = [i if score == value else model.tokenizer.encode(" ")[0] for i, score in zip(row.ids, scores, strict=True)]
    return set(model.tokenizer.decode(kept).split())


def test_names_and_numbers_come_before_content_words_before_function_words(tiny: LanguageModel) -> None:
    example = Example("Where does Ann Lee live?", "She has lived in Oslo, at home, since 1999.")
    row = tiny.encoder().encode(example)
    scores = content_importance(tiny.tokenizer, row).tolist()
    assert words_at(tiny, row, scores, 2.0) == {"Ann", "Lee", "Oslo", "1999"}
    assert words_at(tiny, row, scores, 1.0) == {"live", "lived", "home"}


def test_marks_and_roles_of_the_chat_template_carry_no_content(tiny: LanguageModel) -> None:
    row = tiny.encoder().encode(Example("Ask the user?", "No."))
    scores = content_importance(tiny.tokenizer, row).tolist()
    assert words_at(tiny, row, scores, 1.0) == {"Ask", "user"}  # the role before the question is not counted
    special = set(tiny.tokenizer.all_special_ids)
    assert all(score == 0 for i, score in zip(row.ids, scores, strict=True) if i in special)


def test_letters_of_several_tokens_are_scored_as_their_word(tiny: LanguageModel) -> None:
    row = tiny.encoder().encode(Example("In", "the Zürich"))
    scores = content_importance(tiny.tokenizer, row)
    assert scores.tolist().count(2.0) == len("Zürich".encode())


def test_the_top_share_is_never_all_and_later_tokens_break_ties() -> None:
    scores, everything = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.0]), torch.ones(5, dtype=torch.bool)
    assert most_important(scores, 0.6, everything).tolist() == [False, True, True, True, False]
    assert most_important(scores, 0.4, everything).tolist() == [False, True, False, True, False]
    assert int(most_important(scores, 0.999, everything).sum()) == 4
    assert not most_important(scores, 0.9, ~everything).any()


@oracle
def test_entropy_importance_against_one_pass_a_token(tiny: LanguageModel, deletion: Request) -> None:
    row = tiny.encoder().encode(deletion.forget[1])
    scores = entropy_importance(tiny, row)

    def entropies(hidden: int | None) -> np.ndarray:
        mask = torch.ones(1, len(row.ids), dtype=torch.long)
        if hidden is not None:
            mask[0, hidden] = 0
        with torch.no_grad():
            logits = tiny.model(torch.tensor([row.ids]), attention_mask=mask).logits[0]
        return torch.distributions.Categorical(logits=logits).entropy().numpy()

    whole = entropies(None)
    for hidden in (0, 5, row.start, len(row.ids) - 3):
        later = [j for j in range(row.start - 1, len(row.ids) - 1) if j > hidden]
        expected = np.mean([entropies(hidden)[j] - whole[j] for j in later])
        assert float(scores[hidden]) == pytest.approx(expected, abs=1e-4)
    assert scores[-2:].tolist() == [0, 0]  # nothing is predicted after them


# On a model -----------------------------------------------------------------------------------------------------------


def prepared(model: LanguageModel, deletion: Request, **options: Any) -> tuple[AttentionShifting, Any]:
    rows = naive.rows_of(model, deletion)
    objective = AttentionShifting(Settings(**options))
    objective.prepare(model, rows, [([0, 3], [1, 5])])
    return objective, rows


@oracle
def test_the_loss_against_a_naive_formulation(tiny: LanguageModel, deletion: Request) -> None:
    """One row, layer, head and query at a time, from maps of a model that was loaded with eager attention."""
    objective, rows = prepared(tiny, deletion, alpha=0.6)
    frozen = load("tiny", device="cpu", attention="eager")
    naive.disturb(tiny)
    moved = load("tiny", device="cpu", attention="eager")
    moved.model.load_state_dict(tiny.model.state_dict())
    sums: dict[str, list[float]] = {"forget": [], "retain": []}
    for name, numbers in (("forget", [0, 3]), ("retain", [1, 5])):
        for number in numbers:
            row = getattr(rows, name)[number]
            ids = torch.tensor([row.ids])
            mask = objective.masks[number + (len(rows.forget) if name == "retain" else 0)].numpy()
            factor = 1 - 0.99 * mask if name == "forget" else 1 + 0.2 * mask
            ours, before = (m.model(ids, output_attentions=True).attentions for m in (moved, frozen))
            for query in range(1, len(row.ids)):
                found = []
                for layer in range(4):
                    for head in range(4):
                        a = ours[layer][0, head, query, : query + 1].detach().double().numpy()
                        b = before[layer][0, head, query, : query + 1].detach().double().numpy() * factor[: query + 1]
                        found.append(float((a * np.log((a + 1e-8) / (b / b.sum() + 1e-8))).sum()))
                sums[name].append(float(np.mean(found)))
    terms = objective.terms(tiny, naive.pair_of(rows, [0, 3], [1, 5]))
    assert float(terms.forget) == pytest.approx(0.6 * np.mean(sums["forget"]), rel=1e-4)
    assert float(terms.retain) == pytest.approx(0.4 * np.mean(sums["retain"]), rel=1e-4)


def test_no_label_enters_the_loss(tiny: LanguageModel, deletion: Request) -> None:
    objective, rows = prepared(tiny, deletion)
    pair = naive.pair_of(rows, [0, 3], [1, 5])
    scrambled = replace(
        pair,
        forget=replace(pair.forget, labels=torch.full_like(pair.forget.labels, 7)),
        retain=replace(pair.retain, labels=torch.full_like(pair.retain.labels, 7)),
    )
    assert float(objective.terms(tiny, pair).total()) == float(objective.terms(tiny, scrambled).total())


def test_no_probability_of_a_token_enters_the_loss(tiny: LanguageModel, deletion: Request) -> None:
    """The vocabulary's matrix is never called: with its own weights, not the embeddings', no gradient reaches it."""
    objective, rows = prepared(tiny, deletion)

    def refuse(*_: Any) -> None:
        raise AssertionError("logits were computed")

    handle = tiny.model.get_output_embeddings().register_forward_hook(refuse)
    try:
        objective.terms(tiny, naive.pair_of(rows, [0], [1])).total().backward()
    finally:
        handle.remove()


def test_targets_are_those_of_the_untouched_model(tiny: LanguageModel, deletion: Request) -> None:
    """From the current model λ would compound from step to step: with λ = 0 the loss must grow as the model moves."""
    objective, rows = prepared(tiny, deletion, lam=0.0, gain=0.0, alpha=0.5)
    pair = naive.pair_of(rows, [0], [1])
    assert float(objective.terms(tiny, pair).forget) == pytest.approx(0, abs=1e-6)
    naive.disturb(tiny)
    assert float(objective.terms(tiny, pair).forget) > 1e-4


def test_the_first_token_and_marks_are_never_masked(tiny: LanguageModel, deletion: Request) -> None:
    for importance in ("content", "entropy"):
        objective, rows = prepared(tiny, deletion, importance=importance, threshold=0.9)
        special = set(tiny.tokenizer.all_special_ids)
        for number in (0, 3):
            mask = objective.masks[number].tolist()
            assert any(mask)
            assert not mask[0]
            assert not any(m for m, token in zip(mask, rows.forget[number].ids, strict=True) if token in special)


def test_maps_are_one_for_each_query_head_and_sum_to_one(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    maps = attention_maps(tiny, rows.forget_batch([0, 3]))
    assert len(maps) == 4
    assert tiny.model.config.num_key_value_heads == 2
    assert all(found.shape[:2] == (2, 4) for found in maps)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(maps[0].shape[:-1]))


def test_the_models_own_attention_comes_back_even_after_an_error(tiny: LanguageModel) -> None:
    before = tiny.model.config._attn_implementation
    assert before != "eager"

    def fail() -> None:
        with eager_attention(tiny.model):
            assert tiny.model.config._attn_implementation == "eager"
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert tiny.model.config._attn_implementation == before
    assert tiny.model.model.layers[0].self_attn.config._attn_implementation == before


# Runs -----------------------------------------------------------------------------------------------------------------

TRAINING: dict[str, Any] = {"batch_size": 8, "precision": "float32", "device": "cpu", "learning_rate": 1e-2}


def test_attention_on_masked_tokens_falls(deletion: Request) -> None:
    history = forget("tiny", deletion, "attention_shifting", steps=40, **TRAINING).outcome.history
    assert history[-1]["masked_attention"] < 0.5 * history[0]["masked_attention"]
    assert history[-1]["forget_loss"] < 0.5 * history[0]["forget_loss"]
    assert history[-1]["retain_loss"] < 0.1


def test_a_run_leaves_the_models_own_attention(deletion: Request) -> None:
    result = forget("tiny", deletion, "attention_shifting", steps=1, **TRAINING)
    assert result.model.base().config._attn_implementation == "sdpa"


def test_the_paper_moves_adapters_on_queries_and_keys(deletion: Request) -> None:
    result = forget("tiny", deletion, "attention-shifting", steps=1, **TRAINING)
    moved = {name.split(".")[-4] for name, p in result.model.model.named_parameters() if "lora_" in name}
    assert moved == {"q_proj", "k_proj"}
    assert Recipe.parse("attention-shifting@everything").scope.method.name == "everything"
    assert Recipe.parse("attention-shifting:lam=0.5").objective.settings.lam == 0.5
    assert Recipe.parse("attention_shifting:alpha=0.4").objective.settings.alpha == 0.4


@pytest.mark.parametrize("scope", ["everything", "lora:targets=v_proj", "layers=2-"])
def test_other_weights_may_move(deletion: Request, scope: str) -> None:
    """Values reach the maps of later layers only; frozen lower layers give the same loss as if they were run."""
    result = forget("tiny", deletion, f"attention_shifting@{scope}", steps=2, **TRAINING)
    assert result.moved > 0
    plain = forget("tiny", deletion, "attention_shifting", steps=1, **TRAINING)
    first, other = (found.outcome.history[0]["forget_loss"] for found in (plain, result))
    assert other == pytest.approx(first, rel=1e-5)


def test_alpha_is_of_the_whole_batch_however_it_is_split(deletion: Request) -> None:
    whole = forget("tiny", deletion, "attention_shifting:gain=20", steps=1, **TRAINING).outcome.history[0]
    parts = forget("tiny", deletion, "attention_shifting:gain=20", steps=1, micro_batch_size=3, **TRAINING)
    assert 0.1 < whole["alpha"] < 0.9
    assert parts.outcome.history[0]["alpha"] == pytest.approx(whole["alpha"], rel=1e-5)


@pytest.fixture
def gpt2(tiny: LanguageModel) -> Iterator[LanguageModel]:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tiny.tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=2)
        yield LanguageModel(GPT2LMHeadModel(config).eval(), tiny.tokenizer, "small-gpt2")


def test_names_that_the_model_does_not_have_are_refused_with_its_own(gpt2: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match=r"no matrix is called q_proj(?s:.*)targets=NAME.*c_attn"):
        forget(gpt2, deletion, "attention-shifting@lora:targets=q_proj", steps=1, **TRAINING)


def test_queries_and_keys_are_found_by_structure_where_they_share_a_matrix(
    gpt2: LanguageModel, deletion: Request
) -> None:
    result = forget(gpt2, deletion, "attention-shifting", steps=10, **TRAINING)
    names = {name for name, p in result.model.model.named_parameters() if "lora_" in name}
    assert names
    assert all("c_attn" in name for name in names)
    history = result.outcome.history
    assert history[-1]["masked_attention"] < history[0]["masked_attention"]


@pytest.mark.parametrize("option", ["threshold=0", "threshold=1", "lam=1.1", "gain=-1", "alpha=1", "importance=pos"])
def test_settings_that_cannot_be_are_refused(option: str) -> None:
    with pytest.raises(InputError):
        Recipe.parse(f"attention_shifting:{option}")


def test_rows_without_content_are_refused(deletion: Request) -> None:
    request = replace(deletion, forget=(Example("Is it?", "It is.", id="empty"),))
    with pytest.raises(InputError, match="no forget row has a token that carries content"):
        forget("tiny", request, "attention_shifting", steps=1, **TRAINING)


def test_retain_rows_are_needed(deletion: Request) -> None:
    with pytest.raises(InputError, match=r"attention_shifting\S* .*retain rows"):
        forget("tiny", Request(forget=deletion.forget), "attention_shifting", steps=1)
