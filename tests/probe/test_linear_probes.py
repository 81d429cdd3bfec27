"""Probes: states are the model's own, groups stay together, chance is chance, and a planted direction is found."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Encoded
from letheon.core.scoring.likelihood import hidden_states
from letheon.probe import linear_probes
from letheon.probe.linear_probes import Position, cross_validated, site_states, token_states
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering

PROMPTS = ["Where is it?", "Who came to the town before anybody else did?", "When?"]


@pytest.mark.oracle("probes")
def test_states_are_those_of_each_row_by_itself(tiny: LanguageModel) -> None:
    rows = [tiny.encoder().prompt(prompt) for prompt in PROMPTS]
    last, mean = token_states(tiny, rows, batch_size=2), token_states(tiny, rows, position="mean")
    assert last.shape == (len(blocks(tiny.model)), 3, last.shape[-1])
    for i, row in enumerate(rows):
        batch = tiny.encoder().collate([Encoded(tuple(row), len(row) - 1)])
        for layer in range(len(last)):
            with torch.no_grad():
                alone = hidden_states(tiny, batch, layer)[0]
            assert torch.allclose(last[layer, i], alone[-1], atol=1e-5)  # padding changes the order of sums only
            assert torch.allclose(mean[layer, i], alone[1:].mean(0), atol=1e-5)


@pytest.mark.oracle("probes")
def test_rows_that_begin_alike_share_tokens_and_keep_their_states(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = [f"Who came to the town in year {year}, and who left it?" for year in range(6)]
    rows = [tiny.encoder().prompt(text) for text in [*starts, "When?", starts[0]]]
    sites = [Site(0, "attention"), Site(1), Site(0, "neurons")]
    for kind in sites:
        for position in get_args(Position):
            shared = site_states(tiny, rows, [kind], position=position)
            with monkeypatch.context() as patch:
                patch.setattr(linear_probes, "branches", lambda *_: False)
                alone = site_states(tiny, rows, [kind], position=position)
            assert torch.allclose(shared, alone, atol=1e-5)
    seen: list[int] = []
    packed = linear_probes.packed
    monkeypatch.setattr(
        linear_probes, "packed", lambda trees, *rest: seen.extend(len(t.ids) for t in trees) or packed(trees, *rest)
    )
    site_states(tiny, rows, [Site(1)])
    assert sum(seen) < 0.5 * sum(map(len, rows))


@pytest.mark.oracle("probes")
@pytest.mark.parametrize("length", [5, 9])
def test_a_row_sees_as_far_back_as_its_window(length: int) -> None:
    """Six tokens are seen: rows of five make trees, in which a mask has the last word, and rows of nine make none."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    shape |= {"num_key_value_heads": 2, "sliding_window": 6, "vocab_size": len(tokenizer)}
    config = MistralConfig(**shape, initializer_range=0.5)
    model = LanguageModel(MistralForCausalLM(config).eval(), tokenizer, "mistral")
    rows = [[40, 41, *range(50 + i, 50 + i + length - 2)] for i in range(0, 60, 10)]
    found = token_states(model, rows)[1]
    with torch.no_grad():  # afterwards: it leaves hooks in the model
        alone = [model.model(torch.tensor([row]), output_hidden_states=True).hidden_states[2][0, -1] for row in rows]
    assert torch.allclose(found, torch.stack(alone), atol=1e-3)


def test_a_row_of_one_token_has_its_state_for_a_mean(tiny: LanguageModel) -> None:
    states = token_states(tiny, [[40], [40, 41, 42]], position="mean")
    assert torch.allclose(states[:, 0], token_states(tiny, [[40]])[:, 0], atol=1e-5)
    assert states.isfinite().all()


def test_rows_run_by_themselves_under_hooks_that_count_on_it(tiny: LanguageModel) -> None:
    rows = [tiny.encoder().prompt(prompt) for prompt in [*PROMPTS, PROMPTS[0] + " And why?"]]
    shift = torch.randn(tiny.base().config.hidden_size, generator=torch.Generator().manual_seed(0))
    steering = Steering({Site(0): Displacement(shift=shift)}, Shape.of(tiny), "planted", tokens="last")
    with steered(tiny, steering):
        together = token_states(tiny, rows)
        alone = torch.cat([token_states(tiny, [row]) for row in rows], 1)
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, token_states(tiny, rows), atol=1e-2)


@pytest.mark.oracle("probes")
def test_a_planted_direction_is_found_and_shuffled_labels_are_not() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 150)
    states = draw.normal(size=(150, 40))
    states[:, 7] += 4 * (labels == 1)
    states[:, 9] += 4 * (labels == 2)
    assert cross_validated(states, labels.tolist()).accuracy > 0.9
    shuffled = cross_validated(states, draw.permutation(labels).tolist())
    assert abs(shuffled.accuracy - 1 / 3) < 0.13  # three standard errors of 150 guesses
    assert np.allclose(shuffled.probability.sum(1), 1)


@pytest.mark.oracle("probes")
def test_rows_of_one_group_never_help_each_other() -> None:
    """Every group has a fingerprint and a label of its own, drawn at random: only a leak could tell it."""
    draw = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 3)
    labels = draw.integers(0, 2, 60)[groups]
    states = draw.normal(size=(60, 200))[groups] + 0.01 * draw.normal(size=(180, 200))
    assert cross_validated(states, labels.tolist()).accuracy > 0.95
    assert cross_validated(states, labels.tolist(), groups.tolist(), strengths=(1.0,)).accuracy < 0.65


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(InputError, match="at least two labels"):
        cross_validated(np.zeros((4, 2)), [1, 1, 1, 1])
    with pytest.raises(InputError, match="1 groups"):
        cross_validated(np.zeros((4, 2)), [0, 1, 0, 1], ["a"] * 4)
