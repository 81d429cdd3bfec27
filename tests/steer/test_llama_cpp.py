"""The exported control vector acts in llama.cpp as it does here: the same greedy text with the same weights."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from letheon.core.model.embedded import _fetch
from letheon.core.model.models import load
from letheon.core.scoring.generation import generate_ids
from letheon.steer.apply import steered
from letheon.steer.control_vectors import read_gguf, write_gguf
from letheon.steer.method import fit
from tests.steer.models import contrast

PROMPT = "How do I boil an egg?"
TOKENS = 12


@pytest.mark.slow
def test_llama_cpp_generates_the_same_text(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model = load("smollm2", device="cpu")
    write_gguf(fit(model, contrast(), "mean_difference:position=mean"), tmp_path / "v.gguf")
    steering = read_gguf(tmp_path / "v.gguf", model)
    with steered(model, steering):
        ours = generate_ids(model, [PROMPT], max_new_tokens=TOKENS)[0]
    plain = generate_ids(model, [PROMPT], max_new_tokens=TOKENS)[0]
    assert ours != plain

    other = llama_cpp.Llama(str(_fetch(tmp_path)), n_ctx=256, verbose=False)
    layers, width = 30, model.width
    data = np.zeros((layers - 1, width), dtype=np.float32)  # llama.cpp's first row is layer 1
    for site, one in steering.maps.items():
        data[site.layer - 1] = one.shift.numpy()
    pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    apply = getattr(llama_cpp, "llama_set_adapter_cvec", None) or llama_cpp.llama_apply_adapter_cvec
    assert apply(other.ctx, pointer, data.size, width, 1, layers) == 0
    theirs = []
    for token in other.generate(list(model.encoder().prompt(PROMPT)), temp=0.0, repeat_penalty=1.0):
        theirs.append(int(token))
        if len(theirs) == TOKENS or token == other.token_eos():
            break
    # weights of 4 bits are multiplied in another precision there: near ties may part late in the text
    assert theirs[: TOKENS // 2] == ours[: TOKENS // 2]
