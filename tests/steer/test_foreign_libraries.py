"""Vectors of repeng and of steering-vectors act here as they act there, and ours act in repeng."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.steer.apply import steered
from letheon.steer.control_vectors import read_gguf, read_steering, write_gguf
from letheon.steer.method import fit
from tests.steer.models import contrast

pytestmark = pytest.mark.slow

# The same sums in another order, in float32.
TOLERANCE = 1e-4


def pairs() -> list[tuple[str, str]]:
    texts = contrast()
    return [(good.answer, bad.answer) for good, bad in zip(texts.toward, texts.away, strict=True)]


@torch.no_grad()
def logits(model: LanguageModel) -> Tensor:
    ids = torch.tensor([model.tokenizer("A cat sat on the mat, and")["input_ids"]])
    found: Tensor = model.base()(ids, use_cache=False).logits
    return found


@pytest.fixture
def repeng(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # numpy 2 has dropped the name that repeng 0.4 reads
    return pytest.importorskip("repeng", reason="repeng is not installed")


def test_a_vector_of_steering_vectors_acts_as_it_does_there(tiny: LanguageModel, tmp_path: Path) -> None:
    library = pytest.importorskip("steering_vectors", reason="steering-vectors is not installed")
    vector = library.train_steering_vector(tiny.model, tiny.tokenizer, pairs(), layers=[0, 2])
    with vector.apply(tiny.model):
        theirs = logits(tiny)
    save_file({f"layer.{i}": one for i, one in vector.layer_activations.items()}, tmp_path / "v.safetensors")
    with steered(tiny, read_steering(tmp_path / "v.safetensors", tiny)):
        ours = logits(tiny)
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert (ours - logits(tiny)).abs().max() > 100 * TOLERANCE


def test_a_file_that_repeng_writes_acts_as_it_does_there(repeng: Any, tiny: LanguageModel, tmp_path: Path) -> None:
    wrapped = repeng.ControlModel(tiny.model, [1, 2, 3])
    rows = [repeng.DatasetEntry(positive=good, negative=bad) for good, bad in pairs()]
    vector = repeng.ControlVector.train(wrapped, tiny.tokenizer, rows, method="pca_center")
    vector.export_gguf(tmp_path / "v.gguf")
    wrapped.set_control(vector, 2.0)
    theirs = logits(tiny)
    wrapped.unwrap()
    with steered(tiny, read_gguf(tmp_path / "v.gguf", tiny), 2.0):
        ours = logits(tiny)
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert (ours - logits(tiny)).abs().max() > 100 * TOLERANCE


def test_our_file_acts_in_repeng(repeng: Any, tiny: LanguageModel, tmp_path: Path) -> None:
    steering = fit(tiny, contrast(), "mean_difference:layers=1-3")
    with steered(tiny, steering):
        ours = logits(tiny)
    wrapped = repeng.ControlModel(tiny.model, [1, 2, 3])
    wrapped.set_control(repeng.ControlVector.import_gguf(write_gguf(steering, tmp_path / "v.gguf")))
    theirs = logits(tiny)
    wrapped.unwrap()
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
