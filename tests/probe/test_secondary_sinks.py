"""Secondary sinks: the window, labels, planted sinks with known layers and lifetimes, controls, stages of an MLP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.probe.attention_maps import summarise_attention
from letheon.probe.record import render_probe, save_probe
from letheon.probe.secondary_sinks.detect import (
    Profile,
    Sink,
    detect_sinks,
    label_of,
    layer_window,
    mlp_stage_cosines,
    profile,
    same_token_controls,
)
from letheon.probe.secondary_sinks.planting import (
    cosines_at,
    first_direction,
    lifetime_of,
    plant_and_measure,
    planted,
)
from letheon.probe.secondary_sinks.report import Seen, SinkSettings, attention_beyond_equal_tokens, probe_sinks


@pytest.mark.oracle("secondary-sinks")
def test_the_window_runs_from_the_largest_rise_to_the_largest_later_fall() -> None:
    assert layer_window(torch.tensor([1.0, 2.0, 50.0, 51.0, 49.0, 3.0, 2.0])) == (2, 5)
    assert layer_window(torch.tensor([1.0, 2.0, 50.0])) == (2, 3), "no later layer: the window ends with the model"


@pytest.mark.oracle("secondary-sinks")
def test_labels_follow_the_paper_s_numbers_or_shares_of_the_window() -> None:
    assert [label_of(n, 48, 42, "absolute") for n in (33, 32, 5, 4)] == ["primary", "secondary", "secondary", "noise"]
    assert [label_of(n, 30, 20, "fraction") for n in (12, 11, 3, 2)] == ["primary", "secondary", "secondary", "noise"]


def a_profile(layers: int = 20, tokens: int = 9, width: int = 32) -> Profile:
    """Random states; the first token is a sink in layers 3 to 16, token 5 in layers 6 to 10, reversed."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(layers, tokens, width, generator=generator)
    sink = torch.randn(width, generator=generator)
    states[3:17, 0] = 100 * sink
    states[6:11, 5] -= 20 * sink
    cosine = torch.nn.functional.cosine_similarity(states[:, None], states[:, [0, 1], None], dim=-1).abs()
    return Profile(states.norm(dim=-1), cosine, cosine, (0, 1))


@pytest.mark.oracle("secondary-sinks")
def test_a_known_sink_is_found_with_its_layers_and_no_other_token() -> None:
    seen = a_profile()
    assert seen.first == 0
    assert layer_window(seen.norms[:, 0]) == (3, 17)
    assert detect_sinks(seen) == [Sink(5, (6, 7, 8, 9, 10), "secondary")]
    assert detect_sinks(seen, rule="absolute") == [Sink(5, (6, 7, 8, 9, 10), "primary")]  # 20 layers are few for it
    assert same_token_controls([1, 2, 3, 7, 4, 7, 7, 5, 6], detect_sinks(seen), 0) == [3, 6]


@torch.no_grad()
def test_the_profile_has_the_norms_and_cosines_of_the_hidden_states(tiny: LanguageModel) -> None:
    ids = torch.arange(5, 30)[None]
    states: dict[int, Tensor] = {}

    def keep(layer: int) -> object:
        return lambda x: states.setdefault(layer, x)

    with edit(tiny.model, {Site(layer): keep(layer) for layer in range(4)}):  # type: ignore[misc]
        tiny.model(ids)
    seen = profile(tiny, ids)
    torch.testing.assert_close(seen.norms[2], states[2][0].norm(dim=-1))
    expected = torch.nn.functional.cosine_similarity(states[3][0], states[3][0, 1][None], dim=-1).abs()
    torch.testing.assert_close(seen.cosines[3, 1], expected)


@pytest.fixture
def with_a_sink(tiny: LanguageModel) -> LanguageModel:
    """The tiny model, whose first token gets a massive state in layer 0 by a bias that its embedding triggers."""
    down = blocks(tiny.model)[0].mlp.down_proj
    # neuron 0 of layer 0 fires for token 3 only; it writes a large vector
    with torch.no_grad():
        embedding = tiny.model.get_input_embeddings().weight
        embedding[3] = 5 * torch.eye(64)[7]
        embedding[4:, 7] = 0
        blocks(tiny.model)[0].mlp.gate_proj.weight[0] = 3 * torch.eye(64)[7]
        blocks(tiny.model)[0].mlp.up_proj.weight[0] = 3 * torch.eye(64)[7]
        down.weight[:, 0] = torch.randn(64, generator=torch.Generator().manual_seed(3)) / 8
    return tiny


def test_planted_sinks_are_found_last_longer_with_strength_and_random_directions_are_not(
    with_a_sink: LanguageModel,
) -> None:
    ids = torch.tensor([[3, *range(20, 60)]])
    seen = profile(with_a_sink, ids)
    assert seen.first == 0
    assert float(seen.norms[0, 0]) > 20 * float(seen.norms[0, 1:].max())
    results = [plant_and_measure(with_a_sink, ids, 1, 20, c, window=(0, 4)) for c in (0.0005, 0.5)]
    assert [one.found for one in results] == [False, True]
    assert results[1].lifetime == results[1].persistence == 3
    random = plant_and_measure(with_a_sink, ids, 1, 20, 0.5, random_seed=1, window=(0, 4))
    assert not random.found
    assert random.persistence == 3, "any large addition lasts along itself in this model, sink or not"


@pytest.mark.oracle("secondary-sinks")
def test_the_attention_that_a_planted_sink_takes_is_that_of_the_changed_run(with_a_sink: LanguageModel) -> None:
    ids = torch.tensor([[3, *range(20, 60)]])
    direction = first_direction(with_a_sink, ids, 1, 0)
    with planted(with_a_sink, 1, 20, 0.5 * direction):
        received = summarise_attention(with_a_sink, ids).received[2:4]
        to_first, cosines = cosines_at(with_a_sink, ids, 20, 0, direction)
        expected = profile(with_a_sink, ids).to_first()[:, 20]
    found = plant_and_measure(with_a_sink, ids, 1, 20, 0.5, window=(0, 4))
    assert found.score == pytest.approx(float(received[:, :, 20].mean()))
    assert found.first_score == pytest.approx(float(received[:, :, 0].mean()))
    assert (cosines[1:] > 0.9).all()
    torch.testing.assert_close(to_first, expected)
    assert lifetime_of(torch.tensor([0.1, 0.95, 0.92, 0.3, 0.99]), 1, 5) == 2


def test_secondary_sinks_are_compared_with_equal_tokens() -> None:
    seen = a_profile()
    received = torch.full((20, 2, 9), 0.1)
    received[6:11, :, 5] = 0.4  # the sink, in its layers
    text = Seen([1, 2, 3, 7, 4, 7, 7, 5, 6], seen, detect_sinks(seen), received)
    assert attention_beyond_equal_tokens(text) == pytest.approx([0.3])
    alone = replace(text, ids=list(range(9)))
    assert attention_beyond_equal_tokens(alone) == []


def test_the_mlp_that_makes_a_sink_is_seen_at_its_stages(with_a_sink: LanguageModel) -> None:
    ids = torch.tensor([[3, 20, 21, 3, 22]])
    same = mlp_stage_cosines(with_a_sink, ids, 3, 0, 0)
    assert list(same) == ["input", "gate_proj", "up_proj", "product", "output"]
    assert same["output"] > 0.999
    other = mlp_stage_cosines(with_a_sink, ids, 1, 0, 0)
    assert other["input"] < 0.9
    assert abs(other["output"]) < 0.99


def test_the_report(with_a_sink: LanguageModel, tmp_path: Path) -> None:
    report = probe_sinks(with_a_sink, "Some text to look at. " * 20, SinkSettings(tokens=64, texts=2))
    save_probe(report, tmp_path)
    assert "secondary" in report.headline
    assert {"Attention on planted sinks", "Attention on the first token"} <= set(report.figures)
    assert "Planted sinks" in render_probe(report)
