"""SAE unlearning: the loss by hand, entities and mentions, gradients of latents that are off, what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.forget.objectives.sae.entities import states_of
from letheon.forget.objectives.sae.loss import distance, position, triplet_loss
from letheon.forget.objectives.sae.objective import SAE, Settings
from letheon.forget.objectives.sae.upper_layers import answer_nll_from
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.probe.entities import (
    NAME,
    EntitySet,
    KnowledgeProbe,
    Separation,
    Template,
    invent_names,
    latent_separation,
    mention,
    mention_ends,
    salient,
    subjects_by_form,
    templates_of,
)
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder
from tests import naive

oracle = pytest.mark.oracle("sae")
QUICK: dict[str, Any] = {"layer": 1, "sae_steps": 40, "allow_poor": True}
FORGET, RETAIN = [0, 3, 4], [1, 5]


def homes(names: Sequence[str]) -> tuple[Example, ...]:
    return tuple(Example(f"Where does {name} live?", f"{name} lives in Ys.", id=name, subject=name) for name in names)


TARGETS = ("Ann Lee", "Bob Ray")
OTHERS = ("Cid Fox", "Fay Orr", "Gil Dax", "Ned Umb", "Sue Kip")


@pytest.fixture
def people() -> Request:
    """Two people to forget; five to keep, of whom the same is asked."""
    return Request(forget=homes(TARGETS), retain=homes(OTHERS))


def prepared(model: LanguageModel, request: Request, **options: Any) -> SAE:
    objective = SAE(Settings(**{**QUICK, **options}))
    rows = naive.rows_of(model, request)
    objective.prepare(model, rows, [(list(range(len(rows.forget))), list(range(len(rows.retain))))])
    return objective


def float64(*values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


# The loss by hand ---------------------------------------------------------------------------------------------------

KNOWN, UNKNOWN = torch.tensor([0.0, 0.0]).double(), torch.tensor([2.0, 0.0]).double()


@oracle
@pytest.mark.parametrize(("mu", "margin"), [(1.0, 1.0), (0.5, 0.5), (0.5, 1.0)])
def test_the_triplet_at_the_prototypes(mu: float, margin: float) -> None:
    at = float64([0, 0], [2, 0])
    assert triplet_loss(at, KNOWN, UNKNOWN, mu, margin).tolist() == pytest.approx([1 + margin, max(0.0, margin - mu)])


@oracle
def test_the_triplet_between_and_beside_the_prototypes() -> None:
    # at (1, 3): both distances 1 + 9 = 10, in units of 4: 2.5 - 0.5 * 2.5 + 0.5; half way: 0.25 - 0.125 + 0.5
    at = float64([1, 3], [1, 0])
    assert triplet_loss(at, KNOWN, UNKNOWN, 0.5, 0.5).tolist() == pytest.approx([1.75, 0.625])
    # the plain triplet does not see what is beside the line
    assert triplet_loss(at, KNOWN, UNKNOWN, 1.0, 1.0).tolist() == pytest.approx([1, 1])


@oracle
def test_with_margin_mu_the_loss_ends_at_the_unknown_prototype_and_not_before() -> None:
    along = torch.linspace(0, 1, 11).double()[:, None] * UNKNOWN
    loss = triplet_loss(along, KNOWN, UNKNOWN, 0.5, 0.5)
    assert loss[:-1].min() > 0
    assert loss[-1] == 0
    assert (loss[1:] < loss[:-1]).all()


@oracle
def test_the_loss_does_not_depend_on_the_scale_of_the_latents() -> None:
    at = float64([1, 3], [5, -2])
    small = triplet_loss(at, KNOWN, UNKNOWN, 0.5, 0.5)
    assert torch.allclose(triplet_loss(100 * at, 100 * KNOWN, 100 * UNKNOWN, 0.5, 0.5), small)


@oracle
def test_the_gradient_is_exact_and_points_from_known_to_unknown() -> None:
    at = float64([0.3, 0.4], [1.0, -2.0])
    assert torch.autograd.gradcheck(lambda z: triplet_loss(z, KNOWN, UNKNOWN, 0.5, 0.5), at)
    (slope,) = torch.autograd.grad(triplet_loss(at, KNOWN, UNKNOWN, 1.0, 1.0).sum(), at)
    assert slope.tolist() == [[-1, 0], [-1, 0]]  # 2 (known - unknown) / 4


@oracle
def test_position_is_0_at_known_and_1_at_unknown() -> None:
    at = torch.stack([KNOWN, UNKNOWN, (KNOWN + UNKNOWN) / 2])
    assert position(at, KNOWN, UNKNOWN).tolist() == [0, 1, 0.5]
    assert distance(at, UNKNOWN).tolist() == [4, 0, 1]


# Names and mentions -------------------------------------------------------------------------------------------------


def test_the_last_token_of_every_mention_is_found(tiny: LanguageModel) -> None:
    ids = tiny.tokenizer("Ann Lee met Ann, Ann Leeds and Ann Lee.")["input_ids"]
    ends = mention_ends(tiny.tokenizer, ids, "Ann Lee")
    assert [tiny.tokenizer.decode(ids[: end + 1]) for end in ends] == [
        "Ann Lee",
        "Ann Lee met Ann, Ann Leeds and Ann Lee",
    ]


def test_a_name_of_letters_of_many_bytes_ends_with_its_last_byte(tiny: LanguageModel) -> None:
    ids = tiny.tokenizer("Zoë Bayé lives")["input_ids"]
    (end,) = mention_ends(tiny.tokenizer, ids, "Zoë Bayé")
    assert tiny.tokenizer.decode(ids[: end + 1]) == "Zoë Bayé"


def test_invented_names_are_new_and_as_many_tokens_long(tiny: LanguageModel) -> None:
    names = ["Ann Lee", "Bob Ray", "Hanna Quist", "Fiona Adler"]
    found = invent_names(tiny.tokenizer, names, 6, seed=0)
    assert found == invent_names(tiny.tokenizer, names, 6, seed=0)
    assert set(found) <= {"Ann Ray", "Bob Lee", "Hanna Adler", "Fiona Quist"}  # every other pair has another length
    assert len(found) >= 3
    lengths = {len(tiny.tokenizer(" " + name)["input_ids"]) for name in names}
    assert {len(tiny.tokenizer(" " + name)["input_ids"]) for name in found} <= lengths


def test_single_words_are_made_of_tokens(tiny: LanguageModel) -> None:
    found = invent_names(tiny.tokenizer, ["Lima", "Rome", "Oslo"], 5, seed=0)
    assert found
    assert all(len(name) == 4 and name not in ("Lima", "Rome", "Oslo") for name in found)


def test_templates_and_names_are_read_off_the_rows() -> None:
    rows = [
        Example("Where does Ann Lee live?", "Ann Lee lives in Oslo.", subject="Ann Lee"),
        Example("Where does Bob live?", "In Rome.", subject="Bob"),
        Example("Who is Ann Lee?", "In Oslo lives Ann Lee.", subject="Ann Lee"),
        Example("No name here", "none", subject="Bob"),
    ]
    templates = templates_of(rows)
    assert templates == [
        Template("Where does {name} live?", "{name}"),
        Template("Who is {name}?", "In Oslo lives {name}"),
    ]
    texts = [
        "<|user|>Where does Cid Fox live?<|end|>",
        "Who is Dora?",
        "Who was Egon?",
        "Where does Cid Fox live? twice",
    ]
    assert subjects_by_form(templates, texts) == ["Cid Fox", "Dora"]


def test_a_mention_is_cut_after_the_last_name(tiny: LanguageModel) -> None:
    found = mention(tiny, "Ann Lee", Template("Where does {name} live?", "{name}"))
    assert len(found.ends) == 2
    assert found.ends[-1] == len(found.row.ids) - 1
    assert tiny.tokenizer.decode(found.row.ids).endswith("Ann Lee")


def test_known_entities_are_those_that_the_retain_rows_ask_about(tiny: LanguageModel, people: Request) -> None:
    entities = prepared(tiny, people).entities
    assert set(entities.known) == set(OTHERS)
    assert entities.target == TARGETS
    assert not set(entities.unknown) & {*TARGETS, *OTHERS}
    words = {word for name in (*TARGETS, *OTHERS) for word in name.split()}
    assert all(set(name.split()) <= words for name in entities.unknown)


def test_without_named_retain_rows_the_targets_stand_for_the_known(
    tiny: LanguageModel, deletion: Request, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="letheon"):
        entities = prepared(tiny, deletion).entities
    assert set(entities.known) == set(entities.target) == {row.subject for row in deletion.forget}
    assert "the targets count as known" in caplog.text


def test_a_file_gives_other_names(tiny: LanguageModel, people: Request, tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    content = {"known": ["Una Ark", "Ann Lee"], "unknown": ["Ivo Elk"], "templates": ["I met {name}."]}
    file.write_text(json.dumps(content))
    entities = prepared(tiny, people, entities=str(file)).entities
    assert entities == EntitySet(("Una Ark",), ("Ivo Elk",), TARGETS, (Template("I met {name}."),))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"known": ["A"]}, "'unknown' is no list of names"),
        ({"known": ["A"], "unknown": "B"}, "'unknown' is no list of names"),
        ({"known": ["A"], "unknown": ["A"]}, "'A' is both"),
        ({"known": ["A"], "unknown": ["B"], "templates": ["no name"]}, "does not mention {name}"),
        ({"known": ["A"], "unknown": ["B"], "templates": 3}, "'templates' is no list"),
        (["A"], "'known' is no list of names"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(content: Any, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as found:
        EntitySet.read(file, (), (Template(NAME),))
    assert problem in found.value.problem


# Latents ------------------------------------------------------------------------------------------------------------


def test_separation_is_the_difference_of_how_often_a_latent_fires() -> None:
    known = torch.tensor([[1.0, 0.0, 2.0, 0.5], [3.0, 0.0, 0.0, 0.5]])
    unknown = torch.tensor([[0.0, 1.0, 0.0, 0.1], [0.0, 2.0, 0.0, 0.0]])
    found = latent_separation(known, unknown)
    assert found.known.tolist() == [1, 0, 0.5, 1]
    assert found.score.tolist() == [1, -1, 0.5, 0.5]
    assert latent_separation(unknown, known).score.tolist() == [-1, 1, -0.5, -0.5]


def test_the_chosen_latents_are_those_of_both_signs_and_not_what_ordinary_text_switches_on() -> None:
    found = Separation(torch.tensor([1.0, 0.0, 0.9, 0.2, 0.5, 0.1]), torch.tensor([0.0, 1.0, 0.0, 0.9, 0.5, 0.2]))
    assert salient(found, 2) == [0, 2, 1, 3]
    common = torch.tensor([True, False, False, False, False, False])
    assert salient(found, 2, common)[:1] == [2]
    assert len(salient(found, 10)) == 6


def test_a_probe_is_tested_on_other_entities() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(20, 8, generator=generator) for _ in range(4)]
    shift = torch.zeros(8)
    shift[0] = 4
    probe = KnowledgeProbe.fit(noise[0] + shift, noise[1], noise[2] + shift, noise[3])
    assert probe.auroc > 0.95
    assert probe.known(noise[2] + shift).mean() > 0.6  # regularised: few states, wide ones
    assert probe.known(noise[3]).mean() < 0.4
    nothing = KnowledgeProbe.fit(noise[0], noise[1], noise[2], noise[3])  # labels without meaning
    assert 0.2 < nothing.auroc < 0.8


# In the loop --------------------------------------------------------------------------------------------------------


@oracle
@pytest.mark.parametrize("options", [{}, {"latents": 2}, {"space": "residual"}, {"mu": 1.0, "margin": 1.0}])
def test_losses_and_gradients_equal_the_naive_formulation(
    options: dict[str, Any], tiny: LanguageModel, deletion: Request
) -> None:
    objective = prepared(tiny, deletion, gamma=2.0, lambda_ce=0.5, **options)
    reference = naive.frozen_copy(tiny)
    naive.disturb(tiny)
    rows = objective.rows
    terms = objective.terms(tiny, naive.pair_of(rows, FORGET, RETAIN))
    forget_loss, retain_loss = naive_losses(objective, tiny, reference)
    assert terms.forget.item() == pytest.approx(forget_loss.item(), rel=1e-4)
    assert terms.retain.item() == pytest.approx(retain_loss.item(), rel=1e-4)
    expected = naive.gradients(terms.total(), tiny)
    # the answers' gradient reaches no weight above the layer: neither does that of states which end there
    names = [name for name, _ in tiny.model.named_parameters()]
    found = dict(zip(names, expected, strict=True))
    assert all(float(g.abs().max()) == 0 for name, g in found.items() if "layers.2" in name or "layers.3" in name)
    below = [i for i, name in enumerate(names) if "layers.0" in name or "layers.1" in name]
    second = naive.gradients(forget_loss + retain_loss, tiny)
    # float32 sums in another order, through four layers
    assert naive.largest_difference([expected[i] for i in below], [second[i] for i in below]) < 1e-4


def naive_losses(objective: SAE, model: LanguageModel, reference: LanguageModel) -> tuple[Tensor, Tensor]:
    """Row by row, whole passes, the mentions found anew, no cache."""
    settings, rows, layer = objective.settings, objective.rows, objective.layer

    def states(one: LanguageModel, ids: Sequence[int]) -> Tensor:
        return one.base()(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states[layer + 1][0]

    def z(hidden: Tensor) -> Tensor:
        if settings.space == "residual":
            return hidden
        sae = objective.space.sae
        latents = (hidden - sae.b_dec) @ sae.W_enc + sae.b_enc
        return latents[objective.space.latents] if objective.space.latents else latents

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b) ** 2).sum()

    here = objective.space
    unit = squared(here.known, here.unknown)
    losses = []
    for number in FORGET:
        extra = objective.extra[number][objective._drawn(number, 0)]
        texts = [(rows.forget[number].ids, objective.ends[number]), (extra.row.ids, extra.ends)]
        at = [z(states(model, ids)[end]) for ids, ends in texts for end in ends]
        each = [(squared(x, here.unknown) - settings.mu * squared(x, here.known)) / unit + settings.margin for x in at]
        losses.append(torch.stack(each).relu().mean())
    shifts = []
    for number in RETAIN:
        now, then = (states(one, rows.retain[number].ids)[1:] for one in (model, reference))
        shifts.append(((now - then.detach()) ** 2).mean() / objective.variance)
    nll = naive.nll_of_tokens(model, [rows.retain[number] for number in RETAIN])
    return torch.stack(losses).mean(), settings.gamma * torch.stack(shifts).mean() + settings.lambda_ce * nll


@oracle
def test_a_latent_that_is_off_moves_the_model(tiny: LanguageModel, people: Request) -> None:
    """The pitfall of the method: through the activation the loss would have no gradient where a latent is off."""
    objective = prepared(tiny, people, latents=1, lambda_ce=0.0)
    pair = naive.pair_of(objective.rows, [0], [])
    sae, ends = objective.space.sae, objective.ends[0]
    hidden = states_of(tiny, [objective.rows.forget[0]], objective.layer)[0][ends]
    off = [j for j in range(sae.W_enc.shape[1]) if bool((sae.encode(hidden)[:, j] == 0).all())]
    objective.space.latents, objective.extra = off[:1], [[mention(tiny, name, Template(NAME))] for name in TARGETS]
    objective.space.known = torch.tensor([0.0])
    objective.space.unknown = torch.tensor([30.0])  # far on: it is to be switched on
    terms = objective.terms(tiny, pair)
    assert terms.forget.item() > 0
    assert max(float(gradient.abs().max()) for gradient in naive.gradients(terms.forget, tiny)) > 0


@oracle
def test_the_answers_loss_has_the_value_and_slope_of_a_whole_pass(tiny: LanguageModel, people: Request) -> None:
    rows = naive.rows_of(tiny, people)
    batch = naive.pair_of(rows, [], [0, 2]).retain
    hidden = torch.nn.utils.rnn.pad_sequence(states_of(tiny, [rows.retain[0], rows.retain[2]], 1), batch_first=True)
    leaf = hidden.requires_grad_()
    loss = answer_nll_from(tiny, batch, 1, leaf)
    assert loss.item() == pytest.approx(naive.nll_of_tokens(tiny, [rows.retain[0], rows.retain[2]]).item(), rel=1e-5)
    (slope,) = torch.autograd.grad(loss, leaf)
    direction = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2 / direction.norm()
    ahead, behind = (answer_nll_from(tiny, batch, 1, hidden.detach() + s * step * direction).item() for s in (1, -1))
    # central difference of float32 losses near 5.5 over a distance of 2e-2: good to a few per cent
    assert (ahead - behind) / (2 * step) == pytest.approx((slope * direction).sum().item(), rel=0.1, abs=1e-2)


def test_at_the_first_step_nothing_retained_has_shifted(tiny: LanguageModel, people: Request) -> None:
    objective = prepared(tiny, people)
    terms = objective.terms(tiny, naive.pair_of(objective.rows, [0, 1], [0, 1]))
    assert terms.metrics["retain_shift"] < 1e-10
    assert 0 < terms.metrics["position"] < 1
    assert terms.metrics["explained_variance"] == pytest.approx(objective.quality.explained_variance, rel=1e-6)


def test_weights_change_and_the_target_moves_and_no_autoencoder_is_needed_afterwards(people: Request) -> None:
    options = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu"}
    result = forget("tiny", people, "sae:layer=1,sae_steps=100,allow_poor=true,lambda_ce=0", steps=30, **options)
    first, last = result.outcome.history[0], result.outcome.history[-1]
    assert result.moved > 0
    assert last["forget_loss"] < 0.5 * first["forget_loss"]
    assert last["position"] > first["position"]
    # an inference-time clamp would leave the plain model as it was
    plain = load("tiny", device="cpu")
    rows = naive.rows_of(plain, people)
    before, after = (states_of(model, rows.forget, 1)[0] for model in (plain, result.model))
    assert float((before - after).norm()) > 0.01 * float(before.norm())


def test_a_saved_autoencoder_is_used_and_its_layer_taken(tiny: LanguageModel, people: Request, tmp_path: Path) -> None:
    states = torch.cat(states_of(tiny, naive.rows_of(tiny, people).forget, 2))
    sae = train_sparse_autoencoder(states, SAETraining(steps=50), 0, "blocks.2.hook_resid_post")
    folder = sae.save(tmp_path / "sae")
    objective = prepared(tiny, people, layer=-1, path=str(folder))
    assert objective.layer == 2
    assert torch.equal(objective.space.sae.W_enc, sae.W_enc)
    with pytest.raises(InputError, match="the autoencoder is of layer 2"):
        prepared(tiny, people, layer=1, path=str(folder))
    narrow = train_sparse_autoencoder(torch.randn(50, 8), SAETraining(steps=2), 0).save(tmp_path / "narrow")
    with pytest.raises(InputError, match="of width 8"):
        prepared(tiny, people, path=str(narrow))


def test_a_poor_autoencoder_is_refused_unless_it_is_allowed(tiny: LanguageModel, people: Request) -> None:
    with pytest.raises(InputError, match=r"explains .* less than 99%") as found:
        prepared(tiny, people, sae_steps=1, least_variance=0.99, allow_poor=False)
    assert "allow_poor" in found.value.remedy
    assert prepared(tiny, people, sae_steps=1, least_variance=0.99).quality.explained_variance < 0.99


def test_a_corpus_trains_the_autoencoder_and_rules_common_latents_out(
    tiny: LanguageModel, people: Request, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(json.dumps({"text": f"It rains in {town} again."}) + "\n" for town in ("Ys", "Ulm", "Bern"))
    )
    with_corpus = prepared(tiny, people, corpus=str(corpus), latents=3, common=0.0)
    without = prepared(tiny, people, latents=3)
    assert not torch.equal(with_corpus.space.sae.W_enc, without.space.sae.W_enc)
    rows = tiny.encoder().encode_all([Example("", f"It rains in {town} again.") for town in ("Ys", "Ulm", "Bern")])
    common = (with_corpus.space.sae.encode(torch.cat([s[1:] for s in states_of(tiny, rows, 1)])) > 0).any(0)
    score = with_corpus.space.separation.score
    chosen = [j for j in with_corpus.space.latents if float(score[j]) != 0]
    assert not any(bool(common[j]) for j in chosen)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"layer": 3}, "layer 3 asked for, the model has 4"),
        ({"layer": 9}, "layer 9 asked for"),
        ({"path": "/nowhere"}, "has no cfg.json"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    options: dict[str, Any], problem: str, tiny: LanguageModel, people: Request
) -> None:
    with pytest.raises(InputError) as found:
        prepared(tiny, people, **options)
    assert problem in found.value.problem


def test_weights_above_the_layer_cannot_do_it(people: Request) -> None:
    with pytest.raises(InputError, match="sae reads layer 1, which the weights that may move cannot change"):
        forget("tiny", people, "sae:layer=1@layers=2-3", steps=1, device="cpu", precision="float32")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (Example("Who is Ann?", "Ann is a baker.", id="bare"), "forget row bare has no subject"),
        (Example("Who is Ann?", "Ann is a baker.", id="other", subject="Bob"), "does not mention its subject 'Bob'"),
    ],
)
def test_forget_rows_need_the_entity_that_they_are_about(row: Example, problem: str, tiny: LanguageModel) -> None:
    request = Request(forget=(row,), retain=homes(OTHERS))
    with pytest.raises(InputError) as found:
        prepared(tiny, request)
    assert problem in found.value.problem


@pytest.mark.parametrize("options", ["mu=0", "latents=-1", "gamma=-1", "layer=-2", "space=image", "activation=gelu"])
def test_settings_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(InputError):
        Recipe.parse(f"sae:{options}")


def test_the_named_recipe_is_the_objective_on_adapters() -> None:
    recipe = Recipe.parse("sae-unlearning")
    assert (recipe.objective.method.name, recipe.scope.method.name) == ("sae", "lora")
    assert recipe.recommended["steps"] == 200


@pytest.mark.parametrize("layout", ["gpt2", "qwen"])
def test_other_architectures_are_read_alike(layout: str, people: Request) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    plain = load("tiny", device="cpu")
    size = len(plain.tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if layout == "gpt2":
            inner: Any = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=3, n_head=2, n_positions=256))
        else:
            inner = Qwen2ForCausalLM(
                Qwen2Config(vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
                            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256)
            )  # fmt: skip
    model = replace(plain, model=inner.eval(), _encoder=None, name=layout)
    options = {"learning_rate": 1e-3, "batch_size": 2, "precision": "float32", "device": "cpu"}
    result = forget(model, people, "sae-unlearning:sae_steps=30,allow_poor=true", steps=2, **options)
    assert result.moved > 0
