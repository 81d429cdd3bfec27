"""The artefact: it survives its file, and is refused for another model, torn, or of another format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement, Switch
from letheon.steer.steering import Shape, Steering
from tests.steer.models import family


def sample(model: LanguageModel) -> Steering:
    maps = {
        Site(0, "mlp_input"): Displacement(gain=torch.randn(64)),
        Site(2): Displacement(shift=torch.randn(64)),
        Site(3, "neurons"): Displacement(torch.randn(128), torch.randn(128), -torch.ones(128), torch.ones(128)),
    }
    return Steering(maps, Shape.of(model), "by hand:x=1", tokens="generated", facts={"loss": [1.5, 0.5]})


def test_a_file_gives_back_what_was_saved(tiny: LanguageModel, tmp_path: Path) -> None:
    steering = sample(tiny)
    again = Steering.load(steering.save(tmp_path / "s.safetensors"))
    assert again.shape == steering.shape
    assert (again.method, again.tokens, again.facts) == (steering.method, "generated", {"loss": [1.5, 0.5]})
    assert again.kinds == ["additive", "affine", "multiplicative"]
    for site, one in steering.maps.items():
        assert all(torch.equal(tensor, again.maps[site].tensors()[name]) for name, tensor in one.tensors().items())
    switch = replace(
        steering, maps={}, switches={1: Switch(torch.tensor([0, -1, 1]), before_choice=True)}, tokens="all"
    )
    read = Steering.load(switch.save(tmp_path / "t.safetensors")).switches[1]
    assert (read.table.tolist(), read.before_choice) == ([0, -1, 1], True)


def test_a_file_for_another_model_names_model_layer_and_shape(tiny: LanguageModel) -> None:
    other = family("Llama")
    with pytest.raises(InputError) as refused, steered(other, sample(tiny)):
        pass
    assert "tiny (llama, 4 layers, width 64, vocabulary 259)" in str(refused.value)
    assert "Llama (llama, 3 layers, width 32" in str(refused.value)
    wrong = Steering({Site(1, "neurons"): Displacement(shift=torch.ones(64))}, Shape.of(tiny), "x")
    with pytest.raises(InputError, match="layer 1, neurons: the map has 64 coordinates, the model 128"):
        wrong.check(tiny)
    with pytest.raises(InputError, match="layer 9"):
        Steering({Site(9): Displacement(shift=torch.ones(64))}, Shape.of(tiny), "x")
    with pytest.raises(InputError, match="no router"):
        Steering({}, Shape.of(tiny), "x", {1: Switch(torch.zeros(6).long())}).check(tiny)


def test_what_is_no_steering_is_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can run code"):
        Steering.load(tmp_path / "vector.pt")
    with pytest.raises(InputError, match="does not exist"):
        Steering.load(tmp_path / "none.safetensors")
    path = sample(tiny).save(tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a whole"):
        Steering.load(path)
    with pytest.raises(InputError, match="NaN"):
        Displacement(shift=torch.tensor([torch.nan]))
    with pytest.raises(InputError, match="one of all"):
        replace(sample(tiny), tokens="some")  # type: ignore[arg-type]


def test_random_directions_have_the_same_norms(tiny: LanguageModel) -> None:
    steering = sample(tiny)
    drawn = steering.random_like(1)
    for site, one in steering.maps.items():
        other = drawn.maps[site]
        for mine, its in ((one.gain, other.gain), (one.shift, other.shift)):
            if mine is not None:
                assert torch.allclose(its.norm(), mine.norm())
                assert not torch.allclose(its, mine)
    assert torch.equal(drawn.maps[Site(2)].shift, steering.random_like(1).maps[Site(2)].shift)
