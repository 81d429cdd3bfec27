"""GGUF control vectors: written and read back, of repeng's layout, refused when torn or of another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import save_file

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.steer.control_vectors import read_steering, write_gguf
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering
from tests.steer.models import family


def vectors(model: LanguageModel, *layers: int) -> Steering:
    maps = {Site(layer): Displacement(shift=torch.randn(64)) for layer in layers}
    return Steering(maps, Shape.of(model), "by hand")


def test_a_file_has_the_layout_and_gives_back_the_vectors(tiny: LanguageModel, tmp_path: Path) -> None:
    steering = vectors(tiny, 1, 3)
    path = write_gguf(steering, tmp_path / "v.gguf", strength=0.5)
    reader = GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert sorted(tensor.name for tensor in reader.tensors) == ["direction.1", "direction.3"]
    again = read_steering(path, tiny)
    for site, one in steering.maps.items():
        assert torch.equal(again.maps[site].shift, 0.5 * one.shift)


def test_a_file_of_repeng_is_read(tiny: LanguageModel, tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "repeng.gguf", "controlvector")  # as ControlVector.export_gguf writes it
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 1)
    writer.add_tensor("direction.2", np.arange(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_steering(tmp_path / "repeng.gguf", tiny).maps[Site(2)].shift.tolist() == list(range(64))


def test_vectors_by_layer_in_safetensors_are_read(tiny: LanguageModel, tmp_path: Path) -> None:
    save_file({"layer_activations.3": torch.ones(64)}, tmp_path / "v.safetensors")
    assert list(read_steering(tmp_path / "v.safetensors", tiny).maps) == [Site(3)]
    save_file({"layer.7": torch.ones(64)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="layer 7 with 64 coordinates"):
        read_steering(tmp_path / "w.safetensors", tiny)
    save_file({"layer.1": torch.ones(64), "again.1": torch.ones(64)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="two vectors for layer 1"):
        read_steering(tmp_path / "x.safetensors", tiny)
    with pytest.raises(InputError, match="can run code"):
        read_steering(tmp_path / "steering_vector.pt", tiny)


def test_what_is_no_control_vector_is_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    path = write_gguf(vectors(tiny, 1), tmp_path / "v.gguf")
    (tmp_path / "torn.gguf").write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match="not a whole GGUF"):
        read_steering(tmp_path / "torn.gguf", tiny)
    with pytest.raises(InputError, match="is for a llama"):
        read_steering(path, family("Qwen2"))
    with pytest.raises(InputError, match="layer 1 on"):
        write_gguf(vectors(tiny, 0), tmp_path / "w.gguf")
    gain = Steering({Site(1, "mlp"): Displacement(gain=torch.ones(64))}, Shape.of(tiny), "x")
    with pytest.raises(InputError, match="multiplicative"):
        write_gguf(gain, tmp_path / "w.gguf")
    assert not (tmp_path / "w.gguf").exists()
