"""Binding: counterfactuals by hand, the mixture and its fit, a hand-built model with a known mechanism."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.families import FAMILIES, family_model
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean
from letheon.papers.common.handmade import POSITION, SCRATCH, TOKEN, Head, handmade
from letheon.papers.common.small_llama import word_tokenizer
from letheon.probe.binding.interventions import (
    Effect,
    Patched,
    Prompts,
    answered_group,
    continues,
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


def plain_interchange(model: LanguageModel, original: Tensor, changed: Tensor, layer: int) -> Tensor:
    """The logits of x with the last state of x' at a layer, by one hook on whole sequences and without any cache."""
    kept: list[Tensor] = []
    layers = blocks(model.base())
    last = layer == len(layers)

    def put(tensor: Tensor) -> Tensor:
        if kept:
            tensor = tensor.clone()
            tensor[..., -1:, :] = kept[0]
        else:
            kept.append(tensor[..., -1:, :].clone())
        return tensor

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return (
            ((put(args[0]), *args[1:]), kwargs)
            if args
            else (args, {**kwargs, "hidden_states": put(kwargs["hidden_states"])})
        )

    def after(_: Any, __: Any, output: Any) -> Any:
        return (put(output[0]), *output[1:]) if isinstance(output, tuple) else put(output)

    block = layers[min(layer, len(layers) - 1)]
    handle = block.register_forward_hook(after) if last else block.register_forward_pre_hook(before, with_kwargs=True)
    with torch.no_grad():
        for ids in (changed, original):
            logits = model.base()(ids, use_cache=False).logits[:, -1]
    handle.remove()
    return logits


HEADED = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "head_dim": 8}
HEADED |= {"num_attention_heads": 4, "num_key_value_heads": 2}
WINDOWS = ["sliding_attention", "full_attention"]
# Windows shorter than the list, other states than keys and values, shared keys; and whether the cache serves.
OTHERS: dict[str, tuple[dict[str, Any], bool]] = {
    "mistral": ({**HEADED, "sliding_window": 8}, True),
    "gemma3_text": ({**HEADED, "sliding_window": 8, "layer_types": WINDOWS * 2}, True),
    "gpt_oss": ({**HEADED, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2}, True),
    "mamba": ({"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, True),
    "minimax": ({**HEADED, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention"] * 2}, False),
    "recurrent_gemma": ({**HEADED, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8}, False),
    "gemma3n_text": (
        {**HEADED, "sliding_window": 8, "layer_types": WINDOWS * 2, "num_kv_shared_layers": 2, "laurel_rank": 4}
        | {"vocab_size_per_layer_input": 259, "hidden_size_per_layer_input": 8}
        | {"activation_sparsity_pattern": [0.0] * 4},
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FAMILIES, *(f"{kind} apart" for kind in OTHERS)])
def test_the_cache_gives_what_whole_sequences_give_in_every_family(kind: str) -> None:
    serves = True
    if kind.endswith(" apart"):
        options, serves = OTHERS[kind.removesuffix(" apart")]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = AutoConfig.for_model(kind.removesuffix(" apart"), **options)
            model = LanguageModel(AutoModelForCausalLM.from_config(config).float().eval(), byte_tokenizer(), kind)
    else:
        model = family_model(kind)
    with torch.no_grad():
        for weight in model.model.parameters():  # so that layers say something
            if weight.ndim > 1:
                weight.mul_(8)
    draw = torch.Generator().manual_seed(1)
    x, changed, unbound = (torch.randint(3, 250, (3, 24), generator=draw) for _ in range(3))
    answers = torch.tensor([[10, 60, 110, 160, 210]] * 3)
    prompts = Prompts(x, changed, answers, torch.tensor([[1, 3, 2, 0]] * 3), unbound, torch.tensor([30] * 3))
    assert continues(model, x[:1]) is serves
    depth = len(blocks(model.base()))
    swept = interchange(model, prompts, range(depth + 1))
    for layer, found in swept.items():
        logits = plain_interchange(model, x, changed, layer)
        expected = logits.gather(1, answers).softmax(-1)
        torch.testing.assert_close(found.distribution, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(swept[0].distribution, swept[depth].distribution, atol=1e-2)
