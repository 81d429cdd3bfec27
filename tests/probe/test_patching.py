"""Activation patching: effects against hooks of our own, the first-order form against the exact one."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import attention, blocks, mlp
from letheon.probe.patching import (
    Contrast,
    Module,
    attributed_effects,
    exact_effects,
    faithfulness,
    heads_of,
    modules_of,
)


def model() -> LanguageModel:
    return load("tiny", device="cpu")


def contrasts(language_model: LanguageModel, count: int = 6) -> list[Contrast]:
    """Prompts of unlike lengths; the target is what the clean one is surest of, so that the behaviour shows."""
    encoder = language_model.encoder()
    found = []
    for i in range(count):
        clean, corrupted = (
            encoder.prompt(f"Where does Ann {i} live?"),
            encoder.prompt(f"Where does old Bob {i * i} live?"),
        )
        with torch.no_grad():
            first, second = (language_model.base()(torch.tensor([ids])).logits[0, -1] for ids in (clean, corrupted))
        found.append(Contrast(clean, corrupted, int((first - second).argmax()), int((second - first).argmax())))
    return found


def by_hand(language_model: LanguageModel, rows: list[Contrast], module: Module) -> float:
    """One row at a time, one plain hook each."""
    base = language_model.base()
    block = blocks(base)[module.layer]
    size = attention(block).o_proj.in_features // heads_of(language_model)
    part = slice(None) if module.head is None else slice(module.head * size, (module.head + 1) * size)
    gain = total = 0.0
    for row in rows:
        kept: list[torch.Tensor] = []

        def value(ids: tuple[int, ...], row: Contrast = row) -> float:
            with torch.no_grad():
                last = base(torch.tensor([ids])).logits[0, -1]
            return float(last[row.target] - last[row.other])

        def see(states: torch.Tensor, kept: list[torch.Tensor] = kept) -> None:
            kept.append(states[0, -1, part].clone())

        def put(states: torch.Tensor, kept: list[torch.Tensor] = kept) -> torch.Tensor:
            states = states.clone()
            states[0, -1, part] = kept[0]
            return states

        def hooked(change: object, ids: tuple[int, ...], value: object = value) -> float:
            if module.head is None:
                handle = mlp(block).register_forward_hook(lambda _, __, output: change(output))  # type: ignore[operator]
            else:
                handle = attention(block).o_proj.register_forward_pre_hook(
                    lambda _, args: None if (new := change(args[0])) is None else (new,)  # type: ignore[operator]
                )
            found = value(ids)  # type: ignore[operator]
            handle.remove()
            return found

        clean = hooked(see, row.clean)
        lost = value(row.corrupted)
        gain += hooked(put, row.corrupted) - lost
        total += clean - lost
    return gain / total


@pytest.mark.parametrize("module", [Module(0, 1), Module(2, 0), Module(3, 3), Module(1), Module(3)])
def test_an_exact_effect_is_what_a_hook_of_our_own_finds(module: Module) -> None:
    language_model = model()
    rows = contrasts(language_model)
    # logits of some 0.1 in float32, differences of 1e-3: five digits are left
    assert exact_effects(language_model, rows)[module] == pytest.approx(by_hand(language_model, rows, module), abs=1e-4)


def test_the_first_order_form_orders_modules_as_the_exact_one_does() -> None:
    language_model = model()
    rows = contrasts(language_model)
    exact, estimated = exact_effects(language_model, rows), attributed_effects(language_model, rows)
    modules = modules_of(language_model)
    assert spearmanr([exact[m] for m in modules], [estimated[m] for m in modules]).statistic > 0.8


def test_attribution_needs_no_weight_that_moves_and_leaves_no_gradient() -> None:
    language_model = model()
    for parameter in language_model.model.parameters():
        parameter.requires_grad_(False)
    assert attributed_effects(language_model, contrasts(language_model))
    assert all(parameter.grad is None for parameter in language_model.model.parameters())


def test_there_is_a_module_for_every_head_and_mlp() -> None:
    language_model = model()
    assert len(modules_of(language_model)) == len(blocks(language_model.base())) * (heads_of(language_model) + 1)


def test_contrasts_that_show_nothing_are_refused() -> None:
    language_model = model()
    same = language_model.encoder().prompt("Who?")
    with pytest.raises(InputError, match="no contrast shows the behaviour"):
        exact_effects(language_model, [Contrast(same, same, 5, 6)])


# Faithfulness


def faithful_by_hand(language_model: LanguageModel, rows: list[Contrast], circuit: set[Module]) -> float:
    """One row at a time; plain hooks store the corrupted run's last states and put them into the clean run."""
    base, heads = language_model.base(), heads_of(language_model)
    kept = total = 0.0
    for row in rows:
        stored: dict[tuple[int, str], torch.Tensor] = {}
        handles = []

        def hook(layer: int, kind: str, states: torch.Tensor, stored: dict = stored) -> torch.Tensor:
            if (layer, kind) not in stored:
                stored[layer, kind] = states[0, -1].clone()
                return states
            states, size = states.clone(), states.shape[-1] // heads
            for head in range(heads) if kind == "heads" else [None]:
                part = slice(None) if head is None else slice(head * size, (head + 1) * size)
                if Module(layer, head) not in circuit:
                    states[0, -1, part] = stored[layer, kind][part]
            return states

        def value(ids: tuple[int, ...], row: Contrast = row) -> float:
            with torch.no_grad():
                last = base(torch.tensor([ids])).logits[0, -1]
            return float(last[row.target] - last[row.other])

        clean = value(row.clean)
        for layer, block in enumerate(blocks(base)):
            handles.append(
                mlp(block).register_forward_hook(lambda _, __, out, layer=layer, hook=hook: hook(layer, "mlp", out))
            )
            handles.append(
                attention(block).o_proj.register_forward_pre_hook(
                    lambda _, args, layer=layer, hook=hook: (hook(layer, "heads", args[0]),)
                )
            )
        lost, alone = value(row.corrupted), value(row.clean)
        for handle in handles:
            handle.remove()
        kept, total = kept + alone - lost, total + clean - lost
    return kept / total


CIRCUITS: list[set[Module]] = [{Module(0, 1), Module(1), Module(2, 0), Module(3)}, {Module(1, 0)}]


@pytest.mark.parametrize("circuit", CIRCUITS, ids=["four modules", "one"])
def test_the_faithfulness_of_a_circuit_is_what_hooks_of_our_own_find(circuit: set[Module]) -> None:
    language_model = model()
    rows = contrasts(language_model)
    expected = faithful_by_hand(language_model, rows, circuit)
    assert faithfulness(language_model, rows, circuit) == pytest.approx(expected, abs=1e-4)
    assert expected not in (0, 1)


def test_an_mlp_alone_keeps_nothing_because_it_sees_what_corrupted_heads_have_written() -> None:
    language_model = model()
    assert faithfulness(language_model, contrasts(language_model), {Module(3)}) == pytest.approx(0, abs=1e-4)


def test_all_modules_keep_the_whole_behaviour_and_none_keep_nothing() -> None:
    language_model = model()
    rows = contrasts(language_model)
    assert {row.clean[-1] == row.corrupted[-1] for row in rows} == {True}
    assert faithfulness(language_model, rows, modules_of(language_model)) == pytest.approx(1, abs=1e-6)
    assert faithfulness(language_model, rows, ()) == pytest.approx(0, abs=1e-4)


def test_faithfulness_without_a_behaviour_is_refused() -> None:
    language_model = model()
    same = language_model.encoder().prompt("Where?")
    with pytest.raises(InputError, match="no contrast shows the behaviour"):
        faithfulness(language_model, [Contrast(same, same, 5)], ())
