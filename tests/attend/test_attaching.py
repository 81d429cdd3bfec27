"""Add-ons in a model: nothing at the start and when off, sound decoding, training beside frozen weights, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import letheon
from letheon.attend.addon import Call, Memory
from letheon.attend.attaching import AddOns, attach, load_addons
from letheon.attend.controls import Settings as Adapter
from letheon.attend.resonance import Settings as Resonance
from letheon.attend.reweaving import Settings as Reweave
from letheon.audit.measuring.no_ops import NEW_TOKENS, check_batch_size, check_cache, check_hooks, check_padding
from letheon.core.atomic import read_json, write_json
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.hooks import hooked_modules
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import decode_with_logits
from letheon.core.scoring.likelihood import hidden_states, score
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings

SMALL = {
    "reweaving": Reweave(window=3, width=8, bottleneck=8),
    "resonance": Resonance(layers=(1, 2), width=4),
    "adapter": Adapter(parameters=500),
}
NAMES = ["reweaving", "resonance", "reweaving+resonance"]


def small(names: str) -> dict[str, object]:
    return {name: SMALL[name] for name in names.split("+")}


def text(n: int, rows: int = 2) -> Tensor:
    return torch.randint(3, 250, (rows, n), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def logits(model: LanguageModel, ids: Tensor, **options: object) -> Tensor:
    return model.model(ids, use_cache=False, **options).logits


def stirred(addons: AddOns) -> AddOns:
    """With weights as after training: none is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in addons.parameters().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return addons


@pytest.fixture(params=NAMES)
def names(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_public_names_are_there() -> None:
    assert letheon.attend.attach is attach
    assert letheon.attend.load_addons is load_addons
    assert letheon.attend.resonance.Settings is Resonance
    for name in letheon.attend.__all__:
        assert getattr(letheon.attend, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="no attribute 'titans'"):
        letheon.attend.titans  # noqa: B018


def test_at_the_start_when_off_and_when_detached_the_model_is_itself_to_the_bit(
    tiny: LanguageModel, names: str
) -> None:
    wanted = logits(tiny, text(40))
    addons = attach(tiny, names, small(names))
    assert torch.equal(logits(tiny, text(40)), wanted)
    stirred(addons)
    assert not torch.allclose(logits(tiny, text(40)), wanted, atol=1e-3)
    with addons.off():
        assert torch.equal(logits(tiny, text(40)), wanted)
    addons.detach()
    assert torch.equal(logits(tiny, text(40)), wanted)
    assert hooked_modules(tiny.model) == {}


def test_decoding_agrees_with_and_without_cache_padding_and_company(tiny: LanguageModel, names: str) -> None:
    stirred(attach(tiny, names, small(names)))
    starts = [tiny.encoder().prompt(one) for one in ("What is the capital?", "Who?", "Why is the sky so blue today?")]
    together = decode_with_logits(tiny, starts, NEW_TOKENS)
    checks = [
        check_hooks(tiny, starts[0]),
        check_cache(tiny, starts, together),
        check_padding(tiny, starts, together),
        check_batch_size(tiny, starts, together),
    ]
    assert [check.outcome for check in checks] == ["passed"] * 4, checks


def test_a_prefix_that_rows_share_is_remembered_by_all_of_them(tiny: LanguageModel, names: str) -> None:
    stirred(attach(tiny, names, small(names)))
    rows = [Example(f"A question that begins alike, number {i}?", "An answer", id=str(i)) for i in range(3)]
    encoder = tiny.encoder()
    together = score(tiny, encoder.collate(encoder.encode_all(rows))).sequence_logp()
    alone = [score(tiny, encoder.collate([one])).sequence_logp() for one in encoder.encode_all(rows)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    batch = encoder.collate(encoder.encode_all(rows))
    states = hidden_states(tiny, batch, 3)
    single = hidden_states(tiny, encoder.collate(encoder.encode_all(rows[2:])), 3)
    assert torch.allclose(states[2:, : single.shape[1]], single, atol=1e-4)


def test_no_token_sees_a_later_one(tiny: LanguageModel, names: str) -> None:
    stirred(attach(tiny, names, small(names)))
    changed = text(40)
    changed[:, 25] = 7
    assert torch.allclose(logits(tiny, changed)[:, :25], logits(tiny, text(40))[:, :25], atol=1e-6)
    assert not torch.allclose(logits(tiny, changed)[:, 30:], logits(tiny, text(40))[:, 30:], atol=1e-4)


def test_the_order_of_evaluations_and_the_rows_beside_do_not_matter(tiny: LanguageModel, names: str) -> None:
    stirred(attach(tiny, names, small(names)))
    first = logits(tiny, text(40))
    logits(tiny, text(40).flip(0))
    assert torch.equal(logits(tiny, text(40)), first)
    assert torch.allclose(logits(tiny, text(40)[1:]), first[1:], atol=1e-6)


def test_training_moves_the_addon_and_not_the_model(tiny: LanguageModel, rows: list[Example], names: str) -> None:
    addons = attach(tiny, names, small(names))
    weights, before = tiny.parameters_hash(), {name: p.detach().clone() for name, p in addons.parameters().items()}
    settings = TrainSettings(learning_rate=1e-2, batch_size=8, precision="float32")
    outcome = finetune(tiny, rows, settings, 8, parameters=addons.parameters(), penalty=addons.penalty)
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"]
    assert tiny.parameters_hash() == weights
    still = [name for name, p in addons.parameters().items() if torch.equal(p, before[name])]
    assert not still


def test_what_is_saved_is_loaded(tiny: LanguageModel, tmp_path: Path, names: str) -> None:
    addons = stirred(attach(tiny, names, small(names)))
    wanted = logits(tiny, text(40))
    folder = addons.save(tmp_path / "kept")
    addons.detach()
    loaded = load_addons(tiny, folder)
    assert [one.settings for one in loaded.modules.values()] == list(small(names).values())
    assert torch.equal(logits(tiny, text(40)), wanted)


def test_files_that_do_not_fit_are_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no addons\.json"):
        load_addons(tiny, tmp_path)
    folder = attach(tiny, "reweaving", small("reweaving")).save(tmp_path / "kept")
    description = read_json(folder / "addons.json")
    write_json(folder / "addons.json", {**description, "addons": {"reweaving": {"depth": 3}}})
    with pytest.raises(InputError, match="depth"):
        load_addons(tiny, folder)
    description["addons"]["reweaving"]["width"] = 16
    write_json(folder / "addons.json", description)
    with pytest.raises(InputError, match="does not fit tiny"):
        load_addons(tiny, folder)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ("reweave", {}, "did you mean 'reweaving'"),
        ("reweaving+reweaving", {}, "name each add-on"),
        ("reweaving", {"reweaving": Reweave(capture=(3,), inject=1)}, "the model has 4"),
    ],
)
def test_what_cannot_be_attached_is_refused(
    tiny: LanguageModel, names: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attach(tiny, names, settings)


def test_a_cache_that_was_filled_without_the_addon_is_refused(tiny: LanguageModel, names: str) -> None:
    addons = attach(tiny, names, small(names))
    with torch.inference_mode():
        with addons.off():
            output = tiny.model(text(9), use_cache=True)
        kept = output["cache" if "cache" in output.keys() else "past_key_values"]  # noqa: SIM118
        with pytest.raises(LetheonError, match=r"the cache holds 9 tokens, of which .* has seen 0"):
            tiny.model(text(1), cache=kept)


def test_answers_are_scored_as_trees_like_rows(tiny: LanguageModel) -> None:
    stirred(attach(tiny, "reweaving", small("reweaving")))
    encoder = tiny.encoder()
    found = score_answers(tiny, [("What is it, then?", ["yes, it is", "yes, it was", "no"])])[0]
    for answer, one in zip(["yes, it is", "yes, it was", "no"], found, strict=True):
        row = encoder.collate(encoder.encode_all([Example("What is it, then?", answer, id="")]))
        assert float(score(tiny, row).logp.detach().sum()) == pytest.approx(float(one.logp.sum()), abs=1e-3)


def test_masks_of_every_kind_say_what_is_visible() -> None:
    hidden = torch.zeros(2, 3, 4)
    assert Call(before=2).visible(hidden).shape == (1, 1, 5)
    flat = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert Call(mask=flat).visible(hidden).tolist() == [[[False, True, True]], [[True, True, True]]]
    full = torch.zeros(2, 1, 3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), torch.finfo(torch.float32).min)
    assert torch.equal(Call(mask=full).visible(hidden)[0], torch.ones(3, 3).tril().bool())
    assert Call(before=2).positions(hidden).tolist() == [[2, 3, 4]] * 2
    assert Call().memory("a") is None
    assert Memory("a").seen() == 0
