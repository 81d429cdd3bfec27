"""The exported control vector acts in llama.cpp as it does here: the same greedy text of the same float32 weights."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from letheon.core.model.models import LanguageModel, load
from letheon.core.scoring.generation import generate_ids
from letheon.steer.apply import steered
from letheon.steer.control_vectors import read_gguf, write_gguf
from letheon.steer.method import fit
from tests.steer.models import contrast

PROMPTS = ("How do I boil an egg?", "Tell me about your day.", "What is a river?")
TOKENS = 24
NORMAL, CONTROL = 1, 3  # llama.cpp's types of tokens


def write_model(model: LanguageModel, path: Path) -> Path:
    """Write a Llama's weights in float32, and its tokenizer, as llama.cpp reads them."""
    base, writer = model.base(), gguf.GGUFWriter(path, "llama")
    config = base.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    write_tokenizer(model.tokenizer, writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in base.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        values = tensor.float().numpy()
        if heads:  # llama.cpp turns neighbouring coordinates, transformers halves
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tokenizer(tokenizer: Any, writer: gguf.GGUFWriter) -> None:
    """Write a byte-pair tokenizer of SmolLM's kind."""
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    special = {one["id"] for one in made["added_tokens"] if one["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(len(tokens))])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in made["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)


def control_vector(path: Path, layers: int, width: int) -> np.ndarray:
    """Read a control vector as llama.cpp's common code does: row i of the result is for layer i + 1."""
    data = np.zeros((layers - 1, width), dtype=np.float32)
    for tensor in gguf.GGUFReader(path).tensors:
        assert tensor.name.startswith("direction.")
        data[int(tensor.name.removeprefix("direction.")) - 1] = tensor.data
    return data


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    return load("smollm2", device="cpu")


@pytest.fixture(scope="module")
def other(smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same model in llama.cpp."""
    library = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    file = write_model(smollm2, tmp_path_factory.mktemp("llama") / "model.gguf")
    yield library.Llama(str(file), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    file.unlink()


def continued(other: Any, ids: list[int]) -> list[int]:
    """Decode greedily in llama.cpp."""
    found: list[int] = []
    other.reset()
    for token in other.generate(ids, temp=0.0, repeat_penalty=1.0):
        found.append(int(token))
        if len(found) == TOKENS or token == other.token_eos():
            break
    return found


def act(other: Any, data: np.ndarray) -> None:
    """Set a control vector on every layer that llama.cpp steers; zeros take it away."""
    import llama_cpp

    apply = getattr(llama_cpp, "llama_set_adapter_cvec", None) or llama_cpp.llama_apply_adapter_cvec
    pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    assert apply(other.ctx, pointer, data.size, data.shape[1], 1, len(data)) == 0


@pytest.mark.slow
def test_llama_cpp_generates_the_same_text_with_our_vector_and_without(
    smollm2: LanguageModel, other: Any, tmp_path: Path
) -> None:
    file = write_gguf(fit(smollm2, contrast(), "mean_difference:layers=10-19"), tmp_path / "v.gguf", strength=1.5)
    data = control_vector(file, smollm2.base().config.num_hidden_layers, smollm2.width)
    with steered(smollm2, read_gguf(file, smollm2)):
        ours = generate_ids(smollm2, PROMPTS, max_new_tokens=TOKENS)
    plain = generate_ids(smollm2, PROMPTS, max_new_tokens=TOKENS)
    ids = [list(smollm2.encoder().prompt(prompt)) for prompt in PROMPTS]
    assert [other.tokenize(smollm2.tokenizer.decode(one).encode(), False, True) for one in ids] == ids
    assert [continued(other, one) for one in ids] == plain
    act(other, data)
    assert [continued(other, one) for one in ids] == ours
    assert all(a != b for a, b in zip(ours, plain, strict=True))
    act(other, np.zeros_like(data))
    assert [continued(other, one) for one in ids] == plain
