"""Bytes per weight of the ways to forget with less memory, and the table of docs/scale.md.

    python -m benchmarks.scale_memory            # measured: a step of each way on a random model of 99 million weights
    python -m benchmarks.scale_memory --table    # arithmetic: 1B, 8B and 70B, from configurations alone

After the optimizer's step every live tensor is counted once (`benchmarks.scope_memory`), so the numbers do not depend
on the machine; activations are gone by then, and are counted by what autograd saves. States that `offload` puts into
the processor's memory are counted apart, also on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.scope_memory import live_bytes
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import recomputed
from letheon.core.progress import be_quiet
from letheon.forget.run import forget
from letheon.jobs.sizing import GIB, shape_of, ways
from letheon.testing import sample_request

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("npo", {}),
    "--offload": ("npo", {"offload": True}),
    "--base bfloat16": ("npo", {"base": "bfloat16"}),
    "--base bfloat16 --offload": ("npo", {"base": "bfloat16", "offload": True}),
    "--optimizer adamw8bit": ("npo", {"optimizer": "adamw8bit"}),
    "--base bfloat16 --optimizer adamw8bit": ("npo", {"base": "bfloat16", "optimizer": "adamw8bit"}),
    "--optimizer sgd": ("npo", {"optimizer": "sgd"}),
    "@lora": ("npo@lora", {}),
    "@lora --base bfloat16": ("npo@lora", {"base": "bfloat16"}),
}
TOKENS_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    | {"tie_word_embeddings": True},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
}
DEVICES = {"24 GiB": (24, 1), "80 GiB": (80, 1), "8 x 80 GiB": (80, 8)}


def model_folder(folder: Path, layers: int = 14) -> Path:
    """Save the random model that every run loads."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=12,
        max_position_embeddings=512,
        **TOKENS_IDS,
    )
    return LanguageModel(LlamaForCausalLM(config).eval(), byte_tokenizer(), "llama").save(folder)


def measure(folder: Path, method: str, options: dict[str, Any]) -> tuple[float, float]:
    """Return the bytes that a run holds after a step on the device, and in the processor's memory beside it."""
    gc.collect()
    empty, held = live_bytes(), [(0, 0)]

    def note(optimizer: Optimizer, *_: Any) -> None:
        states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        away = sum(state.nbytes for state in states) if options.get("offload") else 0
        held.append((live_bytes() - empty - away, away))

    handle = register_optimizer_step_post_hook(note)
    training = {"steps": 1, "learning_rate": 1e-4, "batch_size": 2, "precision": "float32", **options}
    try:
        forget(str(folder), sample_request(), method, device="cpu", **training)
    finally:
        handle.remove()
    return max(held)


def saved_bytes(model: LanguageModel, checkpointing: bool, rows: int = 2, tokens: int = 128) -> float:
    """Return the bytes per row and token that a forward pass saves for the backward pass."""
    sizes: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.model.parameters()}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        if tensor.untyped_storage().data_ptr() not in own:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.randint(259, (rows, tokens))
    with (
        recomputed(model.base()) if checkpointing else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        model.base().model(ids, use_cache=False).last_hidden_state.sum()
    return sum(sizes.values()) / (rows * tokens)


def measured(layers: int = 14) -> dict[str, Any]:
    """Measure every way on a random model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(Path(scratch) / "model", layers)
        model = load(folder, device="cpu")
        shape = shape_of(model.base())
        saved = {words: saved_bytes(model, again) for words, again in (("plain", False), ("checkpointing", True))}
        block = 4.0 * (11 * shape.width + 4 * shape.inner)
        estimated = {"plain": block * shape.layers, "checkpointing": 4.0 * shape.width * shape.layers}
        del model
        held = {}
        for words, (method, options) in RUNS.items():
            device, away = measure(folder, method, options)
            held[words] = (device / shape.weights, away / shape.weights)
    return {"weights": shape.weights, "bytes_per_weight": held, "saved": saved, "estimated": estimated}


def table() -> list[str]:
    """Return the lines of the table for 1B, 8B and 70B."""
    lines = []
    for size, options in SIZES.items():
        config = LlamaConfig(vocab_size=128256, num_key_value_heads=8, **options, **TOKENS_IDS)
        with torch.device("meta"):
            shape = shape_of(AutoModelForCausalLM.from_config(config))
        for way in ways(shape):
            if "npo@" in way.options:  # what it moves depends on the rows
                continue
            fits = [
                "yes" if way.per_device(count if way.divided else 1) < 0.9 * memory * GIB else "no"
                for memory, count in DEVICES.values()
            ]
            away = f"{way.offloaded / GIB:,.0f}" if way.offloaded else ""
            numbers = f"{way.state / GIB:,.0f} | {way.activations / GIB:,.0f} | {away}"
            lines.append(f"| {size} | `{way.options or '(none)'}` | {numbers} | {' | '.join(fits)} |")
    return lines


def main() -> None:
    """Print what was measured, or the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--table", action="store_true", help="print the table for 1B, 8B and 70B")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument("--layers", type=int, default=14, help="layers of the random model (default 14)")
    chosen = options.parse_args()
    be_quiet()
    if chosen.table:
        print("| model | options | state, GiB | activations | offloaded | " + " | ".join(DEVICES) + " |")
        print("|" + " --- |" * (5 + len(DEVICES)))
        print("\n".join(table()))
        return
    found = measured(chosen.layers)
    if chosen.json:
        print(json.dumps(found))
        return
    print(f"{found['weights'] / 1e6:.1f} million weights\n\n| options | device | offloaded |\n| --- | --- | --- |")
    for words, (device, away) in found["bytes_per_weight"].items():
        print(f"| `{words or '(none)'}` | {device:.1f} | {away:.1f} |")
    for words, saved in found["saved"].items():
        print(f"saved per token, {words}: {saved:,.0f} bytes, estimated {found['estimated'][words]:,.0f}")


if __name__ == "__main__":
    main()
