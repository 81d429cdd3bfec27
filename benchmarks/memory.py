"""Bytes per parameter of a forgetting run, for every scope: weights, gradients, moments and all else that is held.

    python -m benchmarks.memory

A Llama of 41 million random parameters forgets eight rows in one process. After the optimizer's second step every live
tensor is counted once, so the numbers do not depend on the machine. Activations are what one forward pass keeps for
its backward pass, in MiB for a batch of eight rows of the sample request and as many retain rows.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import LlamaConfig, LlamaForCausalLM

from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel
from letheon.forget.run import forget
from letheon.testing import sample_request

RUNS: dict[str, dict[str, Any]] = {
    "npo": {},
    "npo ": {"gradient_checkpointing": True},
    "npo+geometric": {},
    "npo@layers=9-": {},
    "npo@targeted:k=3": {},
    "npo@traced": {},
    "npo@circuit": {},
    "npo@reglu": {},
    "npo@lora": {},
    "npo@lora ": {"base": "bfloat16"},
    "npo@lora  ": {"base": "bfloat16", "gradient_checkpointing": True},
    "npo@lora   ": {"base": "4bit", "gradient_checkpointing": True},
}


def model_folder(folder: Path) -> Path:
    """Save the model that every run loads."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LanguageModel(LlamaForCausalLM(config).eval(), byte_tokenizer(), "llama").save(folder)


def live_bytes() -> int:
    """Bytes of all live tensors' storages, each counted once."""
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if isinstance(one, Tensor)
    }
    return sum(storages.values())


def measure(folder: Path, method: str, options: dict[str, Any]) -> tuple[float, float]:
    """Bytes held per parameter after a step, and MiB of activations of one step."""
    gc.collect()
    empty, held, kept = live_bytes(), [], {}

    def count(*_: Any) -> None:
        held.append(live_bytes() - empty)

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    handle = register_optimizer_step_post_hook(count)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            training = {"steps": 1, "learning_rate": 1e-4, "batch_size": 8, "precision": "float32", **options}
            result = forget(str(folder), sample_request(), method, device="cpu", **training)
    finally:
        handle.remove()
    parameters = 41_159_168
    return max(held) / parameters, sum(kept.values()) / 2**20 if result else 0.0


def main() -> None:
    """Print the table of docs/families.md."""
    print("| method | options | bytes per parameter |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(Path(scratch) / "model")
        for text, options in RUNS.items():
            words = ", ".join(f"{name}={value}" for name, value in options.items())
            try:
                held, _ = measure(folder, text.strip(), options)
                print(f"| `{text.strip()}` | {words} | {held:.1f} |", flush=True)
            except Exception as error:
                print(f"| `{text.strip()}` | {words} | {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()
