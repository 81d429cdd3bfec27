"""Binding: counterfactuals by hand, the mixture and its fit, a hand-built model with a known mechanism."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean
from letheon.papers.common.handmade import POSITION, SCRATCH, TOKEN, Head, handmade
from letheon.papers.common.small_llama import word_tokenizer
from letheon.probe.binding.interventions import (
    Effect,
    Patched,
    answered_group,
    copied_shares,
    effect_of,
    interchange,
)
from letheon.probe.binding.mixture import ABLATIONS, Fit, Mixture, cell_means, fit_mixture, jensen_shannon
from letheon.probe.binding.report import (
    BindingSettings,
    answered_pairs,
    best_layer,
    bound_share,
    encode_pairs,
    look_up,
    probe_binding,
)
from letheon.probe.binding.tasks import Groups, Schema, counterfactual, draw_pairs
from letheon.probe.record import above_zero

GROUPS = Groups((("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")), 0)


@pytest.mark.oracle("binding")
def test_a_counterfactual_points_to_four_different_groups() -> None:
    made = counterfactual(GROUPS, p=1, r=2, s=3)
    assert made.changed.pairs == (("a", "1"), ("d", "3"), ("c", "2"), ("b", "4"), ("e", "5"))
    assert made.changed.asked == 1, "the question asks for the word that now stands at p"
    assert (made.p, made.k, made.r, made.q) == (1, 3, 2, 0)
    assert made.original.pairs[made.k][0] == made.changed.pairs[made.changed.asked][0], "lexical: where that word is"
    assert made.original.pairs[made.r][1] == made.changed.pairs[made.changed.asked][1], "reflexive: where its answer is"
    with pytest.raises(InputError, match="coincide"):
        counterfactual(GROUPS, p=1, r=2, s=1)


@pytest.mark.oracle("binding")
def test_the_divergence_is_in_bits() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert float(jensen_shannon(one, other)) == pytest.approx(1.0)
    assert float(jensen_shannon(one, one)) == pytest.approx(0.0)
    half = torch.tensor([0.5, 0.5])
    expected = 0.5 * (math.log2(1 / 0.75)) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert float(jensen_shannon(one, half)) == pytest.approx(expected)


@pytest.mark.oracle("binding")
def test_the_mixture_by_hand() -> None:
    mixture = Mixture(3)
    with torch.no_grad():
        mixture.w_pos.fill_(2.0)
        mixture.w_lex[2], mixture.w_ref[1] = 1.0, 0.5
        mixture.spread[:] = torch.tensor([0.0, 3.0, 1.0])  # sigma at p = 1 of 3 groups: 3/3 + 1 = 2
    logits = torch.tensor([2 * math.exp(-1 / 8), 2.0 + 0.5, 2 * math.exp(-1 / 8) + 1.0])
    torch.testing.assert_close(mixture(torch.tensor([[1, 2, 1]]))[0], logits.log_softmax(0), atol=1e-5, rtol=1e-5)


def test_a_known_mixture_is_recovered_on_held_out_cells_and_ablations_are_worse() -> None:
    truth, n = Mixture(5), 5
    with torch.no_grad():
        truth.w_pos.fill_(4.0)
        truth.w_lex[:] = torch.tensor([0.5, 2.0, 3.0, 2.0, 0.5])
        truth.w_ref[:] = torch.tensor([1.0, 1.5, 2.0, 1.5, 1.0])
        truth.spread[:] = torch.tensor([-1.0, 1.0, 0.4])
        cells = [(p, k, r) for p in range(n) for k in range(n) for r in range(n) if len({p, k, r}) == 3]
        means = dict(zip(cells, truth(torch.tensor(cells)).exp(), strict=True))
    fit = fit_mixture(means, epochs=400, patience=100)
    assert fit.similarity["full"] > 0.99
    assert all(fit.similarity["full"] > value for name, value in fit.similarity.items() if name != "full")
    assert fit.permuted < fit.similarity["uniform"], "with the groups permuted the mixture predicts nothing"
    torch.testing.assert_close(fit.mixture.w_lex, truth.w_lex, atol=0.5, rtol=0)


def test_cells_average_their_samples() -> None:
    means = cell_means([(0, 1, 2), (0, 1, 2), (1, 0, 2)], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    assert means[0, 1, 2].tolist() == [0.5, 0.5]
    assert len(means) == 2


def test_an_effect_is_named_by_the_group_that_is_answered() -> None:
    named = [effect_of(group, 1, 3, 2, 0) for group in range(5)]
    assert named == ["no effect", "positional", "reflexive", "lexical", "mixed"]


QUERIED, ANSWERS = tuple("abcdefgh"), tuple("ABCDEFGH")
SCHEMA = Schema("letters", QUERIED, ANSWERS, "{query} {answer}", "{query}", ".")


@pytest.fixture
def lexical() -> LanguageModel:
    """A model that looks an entity up by its word: layer 0 writes the previous token beside each token, layer 1 finds
    the token whose previous token is the queried word, and answers with it.
    """
    words = " ".join([*QUERIED, *ANSWERS])
    tokenizer = word_tokenizer([Example(f"{words}, {words}. {words}", words.upper() + " " + " ".join(ANSWERS))])
    tokenizer.chat_template = None
    size = len(tokenizer.get_vocab()) + 2
    previous = Head(POSITION, POSITION, TOKEN, SCRATCH, offset=-1, sharpness=6.0, gain=0.15)
    lookup = Head(TOKEN, SCRATCH, TOKEN, TOKEN, sharpness=6.0, gain=6.0)
    return LanguageModel(handmade(size, [[previous, None, None], [lookup, None, None]], size), tokenizer, "lexical")


@pytest.mark.oracle("binding")
def test_the_known_mechanism_of_a_hand_built_model_is_found(lexical: LanguageModel) -> None:
    pairs = draw_pairs(SCHEMA, 5, 24, seed=0)
    ids = lexical.tokenizer(" a A")["input_ids"]
    assert len(ids) == 2
    prompts = encode_pairs(lexical, SCHEMA, pairs)
    assert answered_group(lexical, prompts.original, prompts.candidates) == prompts.pointers[:, 3].tolist()
    assert len(answered_pairs(lexical, prompts)) == len(prompts.original)
    swept = interchange(lexical, prompts, [0, 1, 2])
    assert swept[1].shares()["lexical"] == 1.0, "the state of the word points to where the word is"
    assert swept[2].shares()["reflexive"] == 1.0, "after the lookup the state holds the answer itself"
    assert float(swept[1].mass.mean()) > 0.5


def test_an_absent_answer_tells_a_copied_answer_from_a_pointer(lexical: LanguageModel) -> None:
    prompts = encode_pairs(lexical, SCHEMA, draw_pairs(SCHEMA, 5, 12, seed=1))
    assert copied_shares(lexical, prompts, [0, 1, 2]) == {0: 0.0, 1: 0.0, 2: 1.0}
    swept = interchange(lexical, replace(prompts, changed=prompts.unbound), [1, 2])
    assert swept[1].shares()["lexical"] == 1.0
    assert float(swept[2].mass.mean()) < 0.3, "the model names the absent answer: the answer was copied, no pointer"


@pytest.mark.oracle("binding")
def test_a_layer_that_holds_the_copied_answer_is_not_chosen(lexical: LanguageModel) -> None:
    pointing: list[Effect] = ["lexical"] * 8 + ["mixed"] * 2
    sweep = {i: Patched(torch.ones(10, 5) / 5, torch.ones(10), effects)
             for i, effects in enumerate((["no effect"] * 10, pointing, ["reflexive"] * 10))}  # fmt: skip
    assert best_layer(sweep, {0: 0.0, 1: 0.0, 2: 1.0}) == 1, "at layer 2 the answer itself was put in"
    assert best_layer(sweep, {0: 0.0, 1: 0.0, 2: 0.1}) == 2
    seen = look_up(lexical, encode_pairs(lexical, SCHEMA, draw_pairs(SCHEMA, 5, 24, seed=2)))
    assert (seen.layer, seen.copied_there) == (0, 0.0), "the last token is the queried word: it points at once"
    assert len(seen.held_out.original) == 12, "the layer is chosen on one half and measured on the other"
    assert bound_share(seen.patched) == 1.0


def test_the_permuted_mixture_and_the_best_ablation_have_intervals() -> None:
    mixture = Mixture(3)
    cells = {"full": [0.9, 0.8] * 4, "uniform": [0.5] * 8, "permuted": [0.4, 0.5] * 4}
    fit = Fit(cells | {name: [0.9, 0.8] * 4 for name in ABLATIONS if name not in cells}, (1, 1, 8), mixture)
    equal = above_zero("full minus best", fit.difference("full", fit.best_ablation))
    assert equal.passed is False, "no effect is no pass"
    assert above_zero("uniform minus permuted", fit.difference("uniform", "permuted")).passed is True
    assert above_zero("few", estimate_mean([0.2, 0.3, 0.2])).passed is None


def test_the_report_says_when_too_few_lists_are_answered(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="task 'boxs'"):
        BindingSettings(task="boxs")
    with pytest.raises(InputError, match="as single tokens"):
        probe_binding(tiny, BindingSettings(pairs=4))
