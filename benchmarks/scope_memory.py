"""Bytes per parameter of a forgetting run, for every scope: weights, gradients, moments and all else that is held.

    python -m benchmarks.scope_memory

A Llama of 41 million random parameters takes one step of forgetting per method, and nine with `+geometric`, which
holds the gradients of seven earlier steps. After the optimizer's step every live tensor is counted once, so the numbers
do not depend on the machine; activations are gone by then. `+geometric` holds more while it corrects the step, which is
its second line.
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

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel
from letheon.forget.run import forget
from letheon.forget.updates import geometric
from letheon.testing import sample_request

PARAMETERS = 41_172_480
RUNS: dict[str, dict[str, Any]] = {
    "npo": {},
    "npo ": {"optimizer": "sgd"},
    "npo+geometric": {"steps": 9},
    "npo@mlp": {},
    "npo+null_space@mlp": {},
    "npo@layers=9-": {},
    "npo@targeted:k=3": {},
    "npo@traced": {},
    "npo@circuit": {},
    "npo@reglu": {},
    "npo@lora": {},
    "npo@lora ": {"base": "bfloat16"},
    "npo@lora  ": {"base": "4bit"},
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
    """Bytes of all live tensors' storages, each counted once; tensors on the meta device hold none."""
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if type(one) in (Tensor, torch.nn.Parameter)
        and not one.is_meta  # other types, such as traced tensors, hold none
    }
    return sum(storages.values())


def measure(folder: Path, method: str, options: dict[str, Any], parameters: int = PARAMETERS) -> float:
    """Bytes held per parameter of the model after a step."""
    gc.collect()
    empty, held = live_bytes(), []
    handle = register_optimizer_step_post_hook(lambda *_: held.append(live_bytes() - empty))
    training = {"steps": 1, "learning_rate": 1e-4, "batch_size": 2, "precision": "float32", **options}
    try:
        forget(str(folder), sample_request(), method, device="cpu", **training)
    finally:
        handle.remove()
    return max(held) / parameters


def within_correction(folder: Path, parameters: int = PARAMETERS) -> float:
    """Bytes held per parameter, at most, while `+geometric` corrects a step with its whole history."""
    gc.collect()
    empty, held, dot, steps = live_bytes(), [0], geometric.dot, 0

    def stepped(*_: object) -> None:
        nonlocal steps
        steps += 1

    def counted(a: list[Tensor], b: list[Tensor], weight: list[Tensor] | None = None) -> float:
        if steps == RUNS["npo+geometric"]["steps"]:  # counting takes longer than the products
            held.append(live_bytes() - empty)
        return dot(a, b, weight)

    geometric.dot = counted  # type: ignore[assignment]  # it is called with every vector in place
    handle = register_optimizer_step_post_hook(stepped)
    try:
        measure(folder, "npo+geometric", RUNS["npo+geometric"], parameters)
    finally:
        geometric.dot = dot
        handle.remove()
    return max(held) / parameters


def main() -> None:
    """Print the table of docs/families.md."""
    print("| method | options | bytes per parameter |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(Path(scratch) / "model")
        for text, options in RUNS.items():
            words = ", ".join(f"{name}={value}" for name, value in options.items())
            try:
                held = f"{measure(folder, text.strip(), options):.1f}"
            except InputError as error:  # no bitsandbytes
                held = error.problem
            print(f"| `{text.strip()}` | {words} | {held} |", flush=True)
        print(
            f"| `npo+geometric` | steps=9, while it corrects the step | {within_correction(folder):.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
