"""`letheon doctor --model`: the memory that forgetting needs, from the configuration alone, and a command that fits.

A run holds `HELD` bytes per weight for the format of the weights and `MOVED` bytes per weight that moves: its gradient,
the optimizer's moments, and a copy from before the run. The factors are those that `benchmarks.scope_memory` and
`benchmarks.scale_memory` measure. Activations are an estimate for one micro-batch of `ROWS` rows of `TOKENS` tokens.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.embedded import tiny
from letheon.core.model.models import cache_folder
from letheon.core.model.sites import blocks
from letheon.core.model.structure import structure_of

HELD = {"float32": 4.0, "bfloat16": 2.0, "4bit": 0.52}  # NF4 with doubly quantised scales; embeddings stay bfloat16
ADAMW, SGD, GEOMETRIC = 16.0, 8.0, 28.0  # bytes per weight that moves
RANK = 8  # of LoRA's default
ROWS, TOKENS = 16, 128  # eight forget rows and eight retain rows
ANSWER = 32  # labelled tokens per row, which alone get logits
SPARE = 0.9  # share of a device's memory that a run may fill
GIB = float(1 << 30)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its memory depends on.

    Attributes:
        weights: number of weights; tied ones count once.
        top: number of weights in the upper quarter of the blocks.
        linear: number of weights in the blocks' matrices, which 4 bits can hold.
        adapter: number of weights of a LoRA adapter of rank `RANK` on them.
        layers, width, inner: blocks, length of a hidden state, width inside an MLP (of all experts that a token takes).
        vocabulary: logits per position.
    """

    weights: int
    top: int
    linear: int
    adapter: int
    layers: int
    width: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class Way:
    """One way to forget and the bytes that it needs.

    Attributes:
        options: options of `letheon forget`.
        state: bytes of weights, gradients, moments and the copy.
        activations: estimated bytes of one micro-batch.
        divided: whether processes with `--shard on` each hold a part of the state.
    """

    options: str
    state: float
    activations: float
    divided: bool = True

    def per_device(self, devices: int) -> float:
        """Return the bytes per device when the state and the rows are divided over devices."""
        return (self.state + self.activations) / devices


def shape_of(model: nn.Module) -> Shape:
    """Read the sizes off a transformers model, which may be on the meta device."""
    layers = list(blocks(model))
    config = getattr(model.config, "text_config", model.config)
    matrices = [weight for layer in layers for weight in layer.parameters() if weight.dim() >= 2]
    width = int(config.hidden_size)
    experts = int(getattr(config, "num_experts_per_tok", None) or 1)
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None) or 4 * width
    return Shape(
        weights=_count(model.parameters()),
        top=_count(weight for layer in layers[-max(1, len(layers) // 4) :] for weight in layer.parameters()),
        linear=_count(matrices),
        adapter=sum(RANK * sum(weight.shape[-2:]) * _count_of(weight.shape[:-2]) for weight in matrices),
        layers=len(layers),
        width=width,
        inner=int(inner) * experts,
        vocabulary=int(config.vocab_size),
    )


def ways(shape: Shape) -> list[Way]:
    """Return the ways to forget, the one that changes most first."""
    whole, adapter = shape.weights, shape.adapter
    full, thin = activations(shape), activations(shape, checkpointing=True)
    rest = shape.weights - shape.linear
    lora = "--method fact_spans@lora"
    held = {"float32": 4.0 * whole, "bfloat16": 2.0 * whole, "4bit": HELD["4bit"] * shape.linear + 2.0 * rest}
    return [
        Way("--method fact_spans+geometric", 4 * whole + GEOMETRIC * whole, full),
        Way("", 4 * whole + ADAMW * whole, full),
        Way("--gradient-checkpointing", 4 * whole + ADAMW * whole, thin),
        Way("--optimizer sgd --gradient-checkpointing", 4 * whole + SGD * whole, thin),
        Way(
            f"--method fact_spans@layers={shape.layers - max(1, shape.layers // 4)}-",
            4 * whole + ADAMW * shape.top,
            full / 4,
        ),
        Way(lora, held["float32"] + ADAMW * adapter, full),
        Way(f"{lora} --gradient-checkpointing", held["float32"] + ADAMW * adapter, thin),
        Way(f"{lora} --base bfloat16 --gradient-checkpointing", held["bfloat16"] + ADAMW * adapter, thin),
        Way(f"{lora} --base 4bit --gradient-checkpointing", held["4bit"] + ADAMW * adapter, thin, divided=False),
    ]


def activations(shape: Shape, checkpointing: bool = False) -> float:
    """Estimate the bytes that the backward pass needs of one micro-batch in float32.

    Per token, autograd saves 11 hidden states and 4 states inside the MLP of a Llama block (counted by
    `benchmarks.scale_memory`). With checkpointing it is one hidden state per block, and one block whole. The logits of
    labelled tokens stand there three times: themselves, their log-softmax and its gradient.
    """
    block = 4.0 * (11 * shape.width + 4 * shape.inner)
    per_token = 4.0 * shape.width * shape.layers + block if checkpointing else block * shape.layers
    return ROWS * (TOKENS * per_token + 3 * 4.0 * ANSWER * shape.vocabulary)


def devices() -> tuple[str, int, float]:
    """Return the kind of device that `auto` takes, how many there are, and the bytes of memory of each."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or accelerator.type == "mps":  # mps shares the processor's memory
        return accelerator.type if accelerator else "cpu", 1, float(psutil.virtual_memory().total)
    memory = torch.get_device_module(accelerator).get_device_properties(0).total_memory
    return accelerator.type, torch.accelerator.device_count(), float(memory)


def needs(name: str) -> dict[str, Any]:
    """Return what `letheon doctor --model` shows: the need of each way, what fits, and a command line.

    Raises:
        InputError: the configuration cannot be found, or is not that of a causal language model.
    """
    shape = shape_of(_structure(name))
    kind, count, memory = devices()
    rows = []
    for way in ways(shape):
        alone, together = way.per_device(1), way.per_device(count) if way.divided else way.per_device(1)
        rows.append(
            {
                "options": way.options,
                "bytes_per_weight": round(way.state / shape.weights, 2),
                "gib": round(alone / GIB, 2),
                "activations_gib": round(way.activations / GIB, 2),
                "fits": alone < SPARE * memory,
                "fits_sharded": count > 1 and together < SPARE * memory,
            }
        )
    return {
        "model": name,
        "weights": shape.weights,
        "device": kind,
        "devices": count,
        "device_gib": round(memory / GIB, 1),
        "estimate": f"activations of {ROWS} rows of {TOKENS} tokens in float32; --micro-batch-size makes them smaller",
        "ways": rows,
        "command": command(name, ways(shape), count, memory),
    }


def command(name: str, choices: list[Way], count: int, memory: float) -> str:
    """Propose the command that changes most and fits: on one device, else sharded, else through adapters."""
    start, room = f"letheon forget {name} --forget rows.jsonl --retain keep.jsonl", SPARE * memory
    whole = [way for way in choices if "--method" not in way.options and "sgd" not in way.options]
    lighter = [way for way in choices if "@" in way.options]
    for way in whole:
        if way.per_device(1) < room:
            return f"{start} {way.options}".rstrip()
    for way in whole:
        if count > 1 and way.per_device(count) < room:
            return f"{start} {way.options} --processes {count} --shard on".replace("  ", " ")
    for way in lighter:
        if way.per_device(1) < room:
            return f"{start} {way.options}"
    least = min(choices, key=lambda way: way.per_device(1))
    processes = -int(-choices[2].per_device(1) // room)
    return (
        f"nothing fits here: the least is {least.per_device(1) / GIB:.0f} GiB ({least.options}); all weights need "
        f"{processes} such devices: {start} --gradient-checkpointing --processes {processes} --shard on"
    )


def _structure(name: str) -> nn.Module:
    built = structure_of(name)
    if built is not None:
        return built
    if name == "tiny":
        model: nn.Module = tiny()[0]
        return model
    folder = cache_folder() / "smollm2-135m-instruct"
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} is not in the cache yet", "run `letheon demo --quick`, or give a model's folder")
    found = structure_of(os.fspath(folder))
    assert found is not None
    return found


def _count(weights: Any) -> int:
    return sum(weight.numel() for weight in weights)


def _count_of(shape: torch.Size) -> int:
    return int(torch.tensor(shape).prod()) if shape else 1
