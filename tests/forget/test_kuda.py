"""KUDA: the deviation loss to the letter, its seat in the loop, the projected step, the traced window."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.training.gradients import norm
from letheon.core.training.loop import Loop
from letheon.core.training.settings import TrainSettings
from letheon.forget.objectives.kuda import KUDA, Settings, deviation, read_layer, tilted, token_mean
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.scopes.traced import Traced
from letheon.forget.updates.null_space import NullSpaceUpdate
from tests import naive

oracle = pytest.mark.oracle
FORGET, RETAIN = [0, 3, 4], [1, 5]  # of unlike lengths
RUN: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 4, "precision": "float32", "device": "cpu"}

# The loss -----------------------------------------------------------------------------------------------------------


@oracle("kuda")
def test_the_deviation_by_hand() -> None:
    cosine = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    loss = deviation(cosine, beta=2.0)
    assert loss.tolist() == pytest.approx([math.log(1 + math.e**2) / 2, math.log(2) / 2, math.log(1 + math.e**-2) / 2])
    slope = torch.autograd.grad(loss.sum(), cosine)[0]
    assert slope.tolist() == pytest.approx([1 / (1 + math.e**-2), 0.5, 1 / (1 + math.e**2)])  # σ(βc)
    assert torch.autograd.gradcheck(lambda c: deviation(c, 2.0), cosine)


@oracle("kuda")
def test_a_large_beta_stops_at_a_right_angle_and_a_small_one_goes_on() -> None:
    cosine = torch.tensor([0.7, -0.3], dtype=torch.float64, requires_grad=True)
    assert deviation(cosine, 1e4).tolist() == pytest.approx([0.7, 0.0], abs=1e-12)
    # β -> 0: half of c, up to a constant
    slope = torch.autograd.grad(deviation(cosine, 1e-4).sum(), cosine)[0]
    assert slope.tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


@oracle("kuda")
def test_a_mean_is_taken_over_each_row_s_own_tokens() -> None:
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, 9.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [False, False, True], [False] * 3])
    assert token_mean(values, mask).tolist() == [2, 9, 0]


@oracle("kuda")
def test_without_the_tilt_there_is_no_slope_to_start_on() -> None:
    generator = torch.Generator().manual_seed(0)
    original = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator)
    u = torch.nn.functional.normalize(torch.randn(8, dtype=torch.float64, generator=generator), dim=0)

    def slope(target: Tensor) -> Tensor:
        hidden = original.clone().requires_grad_()
        return torch.autograd.grad(torch.cosine_similarity(hidden, target, dim=-1).sum(), hidden)[0]

    assert float(slope(original).abs().max()) < 1e-15
    assert float(slope(tilted(original, u, 0.1)).norm(dim=-1).min()) > 1e-3
    assert float(torch.cosine_similarity(original, tilted(original, u, 0.1), dim=-1).min()) > 0.99


class Case:
    """A model that has moved away from its reference, with the objective prepared on the reference."""

    def __init__(self, model: LanguageModel, request: Request, **options: Any) -> None:
        self.rows, self.reference, self.model = naive.rows_of(model, request), naive.frozen_copy(model), model
        self.objective = KUDA(Settings(**options))
        self.objective.prepare(model, self.rows, [(FORGET, RETAIN)])
        naive.disturb(model, 0.05)

    def states(self, model: LanguageModel, row: Any) -> Tensor:
        output = model.base()(torch.tensor([row.ids]), output_hidden_states=True, use_cache=False)
        start = row.start if self.objective.settings.positions == "labels" else 1
        return output.hidden_states[self.objective.layer + 1][0, start:]


@oracle("kuda")
@pytest.mark.parametrize(
    "options", [{"layer": 2, "beta": 3.0}, {"layer": 1, "positions": "all"}, {"layer": 2, "form": "cosine"}]
)
def test_losses_and_gradients_equal_the_naive_formulation(
    options: dict[str, Any], tiny: LanguageModel, deletion: Request
) -> None:
    case = Case(tiny, deletion, **options)
    settings = case.objective.settings
    forget, retain = [], []
    for number in FORGET:
        now, then = (case.states(m, case.rows.forget[number]) for m in (tiny, case.reference))
        then = then.detach()
        target = then + 0.1 * then.norm(dim=-1, keepdim=True) * case.objective.direction
        c = (now * target).sum(-1) / (now.norm(dim=-1) * target.norm(dim=-1))
        pushed = c if settings.form == "cosine" else (1 + (settings.beta * c).exp()).log() / settings.beta
        forget.append(pushed.mean())
    for number in RETAIN:
        now, then = (case.states(m, case.rows.retain[number]) for m in (tiny, case.reference))
        retain.append((((now - then.detach()) ** 2).sum(-1) / (then.detach() ** 2).sum(-1)).mean())
    terms = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, RETAIN))
    for found, expected in ((terms.forget, torch.stack(forget).mean()), (terms.retain, torch.stack(retain).mean())):
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        both = [torch.autograd.grad(x, list(tiny.model.parameters()), retain_graph=True, allow_unused=True)
                for x in (found, expected)]  # fmt: skip
        used = [(a, b) for a, b in zip(*both, strict=True) if a is not None and b is not None]
        assert used
        # float32 sums in another order, through four layers
        assert naive.largest_difference([a for a, _ in used], [b for _, b in used]) < 3e-5
    assert -1 <= terms.metrics["forget_cosine"] < 1
    assert terms.metrics["retain_cosine"] < 1


@oracle("kuda")
def test_at_the_start_everything_is_in_its_place(tiny: LanguageModel, deletion: Request) -> None:
    rows, objective = naive.rows_of(tiny, deletion), KUDA()
    objective.prepare(tiny, rows, [(FORGET, RETAIN)])
    terms = objective.terms(tiny, naive.pair_of(rows, FORGET, RETAIN))
    assert terms.metrics["forget_cosine"] == pytest.approx(1, abs=1e-6)
    assert terms.metrics["retain_cosine"] == pytest.approx(1, abs=1e-6)
    assert terms.retain.item() == pytest.approx(0, abs=1e-8)
    assert all(not state.requires_grad for state in objective.before.rows.values())


@oracle("kuda")
def test_the_retain_loss_may_be_the_answers_likelihood(tiny: LanguageModel, deletion: Request) -> None:
    case = Case(tiny, deletion, layer=2, retain_loss="nll", alpha=0.5)
    terms = case.objective.terms(tiny, naive.pair_of(case.rows, FORGET, RETAIN))
    expected = naive.nll_of_tokens(tiny, [case.rows.retain[i] for i in RETAIN])
    assert terms.retain.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


# Which layer is read ------------------------------------------------------------------------------------------------


@oracle("kuda")
def test_the_layer_that_is_read_follows_the_scope(tiny: LanguageModel, deletion: Request) -> None:
    assert read_layer(tiny) == 3  # everything moves
    scope = Recipe.parse("kuda@layers=1-2:parameters=down_proj").scope.make()
    chosen = set(map(id, scope.select(tiny, deletion).values()))
    for parameter in tiny.model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    assert read_layer(tiny) == 2
    assert read_layer(tiny, 1) == 1
    with pytest.raises(InputError, match="kuda reads layer 0, which layers 1 and above cannot change"):
        read_layer(tiny, 0)
    with pytest.raises(InputError, match="layer 7 asked for, the model has 0-3"):
        read_layer(tiny, 7)


@oracle("kuda")
def test_frozen_layers_change_nothing_and_no_layer_above_is_run(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "kuda+null_space@layers=1-2:parameters=down_proj"
    with_cache = forget("tiny", deletion, text, steps=3, **RUN).outcome.history
    monkeypatch.setattr("letheon.forget.recipe_job.LARGEST_CACHE", 0)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a layer above the one that is read was run")

    handle = tiny.model.model.layers[3].register_forward_pre_hook(refuse)
    without = forget(tiny, deletion, text, steps=3, **RUN).outcome.history
    handle.remove()
    for a, b in zip(with_cache, without, strict=True):
        # the retain gradient begins as rounding alone, which Adam brings to full size
        assert a["forget_loss"] == pytest.approx(b["forget_loss"], rel=1e-3)


# The projected step -------------------------------------------------------------------------------------------------


def inputs_of(model: LanguageModel, name: str, request: Request) -> Tensor:
    """[tokens, inputs]: what enters a matrix on all retain rows."""
    found: list[Tensor] = []
    module = model.model.get_submodule(name.removesuffix(".weight"))
    handle = module.register_forward_pre_hook(lambda _, args: found.append(args[0][0]))
    with torch.no_grad():
        for row in model.encoder().encode_all(request.retain):
            model.model(torch.tensor([row.ids]))
    handle.remove()
    return torch.cat(found)


WINDOW = "@layers=1-1:parameters=down_proj"


def few(request: Request) -> Request:
    """A request whose retain row has fewer tokens than the matrix has inputs, so that a strict null space exists."""
    return Request(forget=request.forget, retain=request.retain[:1])


@oracle("null_space")
@pytest.mark.parametrize("objective", ["kuda:alpha=0", "gradient_ascent"])
@pytest.mark.parametrize("part", ["forget", "step"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_a_strict_threshold_the_retained_outputs_of_the_matrix_stay(
    objective: str, part: str, decay: float, tiny: LanguageModel, deletion: Request
) -> None:
    """Through Adam, momentum, clipping and decay. Only the window's weight differs."""
    request, name = few(deletion), "model.layers.1.mlp.down_proj.weight"
    start = {key: p.detach().clone() for key, p in tiny.model.named_parameters()}
    keys = inputs_of(tiny, name, request)
    assert len(keys) < keys.shape[1]
    text = f"{objective}+null_space:threshold=0,part={part}{WINDOW}"
    forget(tiny, request, text, steps=6, weight_decay=decay, **RUN)
    change = {key: p.detach() - start[key] for key, p in tiny.model.named_parameters()}
    assert [key for key, moved in change.items() if moved.abs().max() > 0] == [name]
    moved = change[name]
    assert float(moved.norm()) > 0.1
    # shares of what an unprojected change of this size would do; weights hold float32's rounding of each step
    assert float((moved @ keys.T).norm() / (moved.norm() * keys.norm())) < 1e-4


@oracle("null_space")
def test_adam_leaves_the_subspace_when_only_the_gradient_is_projected(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NullSpaceUpdate, "_correct", lambda *_: None)
    request, name = few(deletion), "model.layers.1.mlp.down_proj.weight"
    start, keys = tiny.model.get_parameter(name).detach().clone(), inputs_of(tiny, name, request)
    forget(tiny, request, f"gradient_ascent+null_space:threshold=0{WINDOW}", steps=6, **RUN)
    moved = tiny.model.get_parameter(name).detach() - start
    assert float((moved @ keys.T).norm() / (moved.norm() * keys.norm())) > 1e-2


@oracle("null_space")
@pytest.mark.parametrize("part", ["forget", "step"])
def test_the_step_equals_adam_written_out(part: str, tiny: LanguageModel, deletion: Request) -> None:
    """Two momenta over one set of denominators; forget share and decay are projected, the retain share stays."""
    rate, decay, clip = 1e-2, 0.1, 0.5
    text = f"kuda:layer=2,alpha=1+null_space:part={part},threshold=0.1@layers=2-2:parameters=down_proj"
    recipe, rows = Recipe.parse(text), naive.rows_of(tiny, deletion)
    update, objective, scope = recipe.update.make(), recipe.objective.make(), recipe.scope.make()
    settings = TrainSettings(rate, weight_decay=decay, clip=clip, precision="float32")
    loop = Loop(tiny, scope.select(tiny, deletion), settings, 4)
    objective.prepare(tiny, rows, [(FORGET, RETAIN)])
    update.prepare(loop, objective, rows, scope)
    (name, weight), (space,) = *loop.parameters.items(), update.spaces.values()
    blocked = space.protected.double() @ space.protected.double().T
    w = weight.detach().double()
    m_f = m_r = v = torch.zeros_like(w)
    for t in range(1, 5):
        with torch.no_grad():
            weight.copy_(w)
        pair = naive.pair_of(rows, FORGET, RETAIN)
        terms = objective.terms(tiny, pair)
        g_f, g_r = (torch.autograd.grad(x, weight, retain_graph=True)[0].double() for x in (terms.forget, terms.retain))
        free = g_f - g_f @ blocked
        share = min(1.0, clip / (float((free + g_r).norm()) + 1e-6))
        m_f, m_r = 0.9 * m_f + 0.1 * share * free, 0.9 * m_r + 0.1 * share * g_r
        v = 0.999 * v + 0.001 * (share * (free + g_r)) ** 2
        h = (v / (1 - 0.999**t)).sqrt() + 1e-8
        ours = -rate * (m_f / (1 - 0.9**t) / h + decay * w)
        theirs = -rate * m_r / (1 - 0.9**t) / h
        expected = w + ours - ours @ blocked + (theirs if part == "forget" else theirs - theirs @ blocked)
        update.step(loop, objective, [pair])
        loop.optimizer.zero_grad(set_to_none=True)
        # entries with next to no gradient have Adam's step of full size and rounding's sign: compare the whole
        assert float((weight.detach().double() - expected).norm() / (expected - w).norm()) < 2e-3, t
        w = weight.detach().double()
    assert name.endswith("layers.2.mlp.down_proj.weight")


@oracle("null_space")
def test_norms_biases_and_embeddings_take_no_forget_part(tiny: LanguageModel, deletion: Request) -> None:
    start = {key: p.detach().clone() for key, p in tiny.model.named_parameters()}
    forget(tiny, deletion, "gradient_ascent+null_space", steps=3, weight_decay=0.1, **RUN)
    for key, parameter in tiny.model.named_parameters():
        same = float((parameter.detach() - start[key]).abs().max()) < 1e-7  # adding and taking away rounds
        assert same == ("proj" not in key), key


@oracle("null_space")
def test_a_stricter_threshold_passes_less_and_the_projected_gradient_is_nearer_to_a_right_angle(
    deletion: Request,
) -> None:
    passed = []
    for threshold in (0.3, 0.05, 0.005):
        text = f"kuda+null_space:threshold={threshold}@layers=1-2:parameters=down_proj"
        history = forget("tiny", deletion, text, steps=6, **RUN).outcome.history
        passed.append(history[0]["passed"])
        assert 0 < history[0]["kept"] < 1
        sizes = [sum(abs(m[key]) for m in history[1:]) for key in ("alignment", "alignment_unprojected")]
        if threshold < 0.1:
            assert sizes[0] < sizes[1]
    assert passed == sorted(passed, reverse=True)
    assert passed[-1] < passed[0] < 1


@oracle("null_space")
def test_the_projector_is_made_of_a_random_share_of_the_retain_rows(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    draws: list[list[int]] = []
    original = naive.rows_of(tiny, deletion)
    monkeypatch.setattr(type(original), "retain_batch", lambda self, numbers: seen.append(list(numbers)) or numbers)
    monkeypatch.setattr("letheon.forget.updates.null_space.null_spaces", lambda _, batches, *__: (list(batches), {})[1])
    loop = Loop(tiny, dict(tiny.model.named_parameters()), TrainSettings(), 1)
    for seed in (0, 0, 1):
        original.seed = seed
        Recipe.parse("npo+null_space:ratio=0.5").update.make().prepare(loop, None, original, None)
        draws.append(sorted(number for numbers in seen for number in numbers))
        seen.clear()
    assert [len(draw) for draw in draws] == [4, 4, 4]  # half of eight, three times
    assert draws[0] == draws[1] != draws[2]
    assert all(numbers != [0, 1, 2, 3] for numbers in draws)


def test_an_empty_null_space_is_told(deletion: Request, caplog: pytest.LogCaptureFixture) -> None:
    request = Request(forget=deletion.forget, retain=deletion.retain * 1)
    with caplog.at_level(logging.INFO, "letheon"):
        forget("tiny", request, "npo+null_space:threshold=0@layers=1-1:parameters=q_proj", steps=1, **RUN)
    assert "0 of 64 directions" in caplog.text
    assert "the null space is empty" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("npo+null_space@layers=1-1:parameters=norm", "no matrix of a block moves"),
        ("npo+null_space:threshold=1.0", "below 1"),
        ("npo+null_space:threshold=-1,mode=absolute", "threshold -1"),
        ("npo+null_space:ratio=2", "ratio 2"),
        ("kuda:beta=0", "beta: found 0"),
        ("kuda@traced:width=9", "a window of 9 layers, the model has 4"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str, deletion: Request) -> None:
    with pytest.raises(InputError) as found:
        forget("tiny", deletion, text, steps=1, **RUN)
    assert message in str(found.value)


def test_retain_rows_are_needed(deletion: Request) -> None:
    with pytest.raises(InputError, match="needs retain rows"):
        forget("tiny", Request(forget=deletion.forget), "kuda", steps=1)


# The traced window and the named recipe -----------------------------------------------------------------------------


@oracle("traced")
@torch.no_grad()
def test_the_window_holds_the_layer_that_carries_the_facts(tiny: LanguageModel, deletion: Request) -> None:
    for i in (0, 1, 2):
        tiny.model.model.layers[i].mlp.down_proj.weight.zero_()
    scope = Recipe.parse("kuda@traced:width=1,rows=4").scope.make()
    before = tiny.parameters_hash()
    effect = scope.trace(tiny, deletion).effect.mean(0)
    names = scope.select(tiny, deletion)
    best = int(effect.argmax())
    assert list(names) == [f"model.layers.{best}.mlp.down_proj.weight"]
    assert [line["moves"] for line in scope.table] == [i == best for i in range(4)]
    assert [line["effect"] for line in scope.table] == effect.tolist()
    assert tiny.parameters_hash() == before


@oracle("traced")
def test_the_whole_mlp_of_the_window_may_move(tiny: LanguageModel, deletion: Request) -> None:
    scope = Recipe.parse("kuda@traced:width=2,matrices=all").scope.make()
    names = scope.select(tiny, deletion)
    assert {name.split(".")[2] for name in names} == {str(layer) for layer in scope.window}
    assert {name.split(".")[4] for name in names} == {"gate_proj", "up_proj", "down_proj"}


@oracle("traced")
def test_rows_without_a_subject_are_traced_by_their_prompts(tiny: LanguageModel, deletion: Request) -> None:
    nameless = Request(forget=deletion.retain)
    scope = Traced()
    assert len(scope.select(tiny, nameless)) == 3
    assert all(math.isfinite(line["effect"]) for line in scope.table)


def test_kuda_is_the_objective_with_the_projected_step_in_the_traced_window() -> None:
    recipe = Recipe.parse("kuda")
    assert str(recipe) == "kuda+null_space@traced%paired"
    assert Recipe.parse(str(recipe)) == recipe
    assert recipe.recommended == {"steps": 100, "learning_rate": 3e-4, "batch_size": 4}
    changed = Recipe.parse("kuda:beta=3+joint@layers=5-7")
    assert str(changed) == "kuda:beta=3.0+joint@layers:layers=5-7%paired"


@oracle("kuda")
def test_kuda_turns_the_forget_states_and_leaves_the_retain_states(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    history = forget(model, deletion, "kuda:positions=all", steps=40, **{**RUN, "batch_size": 8}).outcome.history
    first, last = history[0], history[-1]
    assert first["forget_cosine"] == pytest.approx(1, abs=1e-6)
    assert last["forget_cosine"] < last["retain_cosine"] - 0.1
    assert last["forget_loss"] < first["forget_loss"]


def test_gpt2_s_transposed_weights_are_projected_too(deletion: Request) -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    from letheon.core.model.embedded import byte_tokenizer

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=3, n_head=4, n_positions=256)
    config.update({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    built = AutoModelForCausalLM.from_config(config).float().eval()
    model = LanguageModel(built, byte_tokenizer(), "gpt2")
    request, name = few(deletion), "transformer.h.1.mlp.c_proj.weight"
    start, keys = built.get_parameter(name).detach().clone(), inputs_of(model, name, request)
    text = "kuda:alpha=0+null_space:threshold=0@layers=1-1:parameters=mlp.c_proj.weight"
    forget(model, request, text, steps=4, **RUN)
    moved = (built.get_parameter(name).detach() - start).T
    assert norm([moved]) > 0.1
    assert float((moved @ keys.T).norm() / (moved.norm() * keys.norm())) < 1e-4
