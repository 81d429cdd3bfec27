"""`letheon doctor --model`: the memory that forgetting needs, from the configuration alone, and a command that fits.

A run holds 4 bytes per weight (2 in bfloat16) and some more per weight that moves: its gradient, the optimizer's
moments, a copy from before the run, and what the update says that it holds (`Update.bytes_per_weight`). The factors
are those that `benchmarks.scope_memory` and `benchmarks.scale_memory` measure. Activations are an estimate for one
micro-batch of `ROWS` rows of `TOKENS` tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.embedded import tiny
from letheon.core.model.models import cache_folder
from letheon.core.model.sites import blocks
from letheon.core.model.structure import structure_of
from letheon.forget.parts import Update
from letheon.forget.recipe import Recipe
from letheon.forget.run import DEFAULTS
from letheon.forget.scopes.mlp import weights as outside_attention
from letheon.forget.updates.geometric import Geometric
from letheon.forget.updates.null_space import NullSpaceUpdate

FOUR_BITS = 0.52  # bytes per weight of NF4 with doubly quantised scales; embeddings stay bfloat16
# Bytes per weight that moves, beside the weight itself: a moment has 4; in eight bits 1, with a scale per 256 numbers.
ADAMW = Update.bytes_per_weight - 4
SGD, EIGHT_BITS = ADAMW - 2 * 4, ADAMW - 2 * 4 + 2 * (1 + 4 / 256)
# Each process holds the null space's directions (5 bytes per weight) and covariances in float64 of all matrices.
BASES = 15.0
# scopes that choose by the rows: bytes per weight as measured on a model of 41 million weights (docs/families.md)
BY_ROWS = {"targeted:k=3": 8.0, "traced": 5.0, "circuit": 12.1, "reglu": 10.3}
OFFLOADED = 12.0  # of them in the processor's memory with --offload: two moments and a float32 copy
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
        mlp: number of weights in the blocks' matrices outside their attention, which the default moves.
        top: number of weights in the upper quarter of the blocks.
        linear: number of weights in the blocks' matrices, which 4 bits can hold.
        adapter: number of weights of a LoRA adapter of rank `RANK` on them.
        gathered: number of weights that a process with shards holds whole at a time: those outside the blocks, and the
            largest block.
        layers, width, inner: blocks, length of a hidden state, width inside an MLP (of all experts that a token takes).
        vocabulary: logits per position.
    """

    weights: int
    mlp: int
    top: int
    linear: int
    adapter: int
    gathered: int
    layers: int
    width: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class Way:
    """One way to forget and the bytes that it needs.

    Attributes:
        options: options of `letheon forget`.
        state: bytes of weights, gradients, moments and the copy on the device.
        activations: estimated bytes of one micro-batch.
        offloaded: bytes in the processor's memory, beside the device.
        gathered: bytes of the weights, and of their gradients, that a process with shards holds whole at a time.
        divided: whether processes with `--shard on` each hold a part of the state.
    """

    options: str
    state: float
    activations: float
    gathered: float
    offloaded: float = 0.0
    divided: bool = True

    @property
    def method(self) -> str:
        """The method: by default `alternates@mlp`, with the null space unless memory of AdamW is saved."""
        words = self.options.split()
        if "--method" in words:
            return words[words.index("--method") + 1]
        return DEFAULTS[any(word in ("--optimizer", "--offload", "--base") for word in words)]

    def per_device(self, devices: int) -> float:
        """Return the bytes per device when the state and the rows are divided over devices, by shards if several."""
        return (self.state + self.activations) / devices + (self.gathered if devices > 1 else 0.0)


def shape_of(model: nn.Module) -> Shape:
    """Read the sizes off a transformers model, which may be on the meta device."""
    layers = list(blocks(model))
    whole: Any = model.config
    config = getattr(whole, "text_config", whole)
    sizes = [_count(layer.parameters()) for layer in layers]
    matrices = [weight for layer in layers for weight in layer.parameters() if weight.dim() >= 2]
    width = int(config.hidden_size)
    experts = int(getattr(config, "num_experts_per_tok", None) or 1)
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None) or 4 * width
    return Shape(
        weights=_count(model.parameters()),
        mlp=_count(outside_attention(model).values()),
        top=_count(weight for layer in layers[-max(1, len(layers) // 4) :] for weight in layer.parameters()),
        linear=_count(matrices),
        adapter=sum(RANK * sum(weight.shape[-2:]) * weight.shape[:-2].numel() for weight in matrices),
        gathered=_count(model.parameters()) - sum(sizes) + max(sizes),
        layers=len(layers),
        width=width,
        inner=int(inner) * experts,
        vocabulary=int(config.vocab_size),
    )


def ways(shape: Shape) -> list[Way]:
    """Return the ways to forget, the one that changes most first."""
    whole, moved, adapter = shape.weights, shape.mlp, shape.adapter
    full, thin = activations(shape), activations(shape, checkpointing=True)
    quarter = max(1, shape.layers // 4)
    four_bits = FOUR_BITS * shape.linear + 2 * (whole - shape.linear)
    again, lora = "--gradient-checkpointing", "--method fact_spans@lora"
    gathered, halved = 8.0 * shape.gathered, 4.0 * shape.gathered  # weights and gradients, in float32 and in bfloat16
    return [
        Way("--method fact_spans+geometric", Geometric.bytes_per_weight * whole, full, gathered),
        Way("", 4 * whole + (NullSpaceUpdate.bytes_per_weight - 4) * moved, full, gathered + BASES * moved),
        Way("--method alternates@mlp", 4 * whole + ADAMW * moved, full, gathered),
        Way(f"--method alternates@mlp {again}", 4 * whole + ADAMW * moved, thin, gathered),
        Way(f"--optimizer adamw8bit {again}", 4 * whole + EIGHT_BITS * moved, thin, gathered),
        Way(f"--offload {again}", 4 * whole + 8 * moved, thin, gathered, OFFLOADED * moved),
        Way(f"--base bfloat16 {again}", 2 * whole + ADAMW * moved, thin / 2, halved),
        Way(f"--base bfloat16 --optimizer adamw8bit {again}", 2 * whole + EIGHT_BITS * moved, thin / 2, halved),
        Way(f"--base bfloat16 --offload {again}", 2 * whole + 4 * moved, thin / 2, halved, OFFLOADED * moved),
        Way(f"--method alternates@mlp --optimizer sgd {again}", 4 * whole + SGD * moved, thin, gathered),
        Way(f"--method fact_spans@layers={shape.layers - quarter}-", 4 * whole + ADAMW * shape.top, full / 4, gathered),
        Way(lora, 4 * whole + ADAMW * adapter, full, gathered),
        Way(f"{lora} {again}", 4 * whole + ADAMW * adapter, thin, gathered),
        Way(f"{lora} --base bfloat16 {again}", 2 * whole + ADAMW * adapter, thin / 2, halved),
        Way(f"{lora} --base 4bit {again}", four_bits + ADAMW * adapter, thin / 2, halved, divided=False),
        # while these choose, every process holds the whole model
        *(Way(f"--method npo@{scope}", per_weight * whole, full, 4.0 * whole) for scope, per_weight in BY_ROWS.items()),
    ]


def possible(choices: list[Way], structure: nn.Module) -> list[Way]:
    """Leave out the ways whose method refuses the architecture; shards that it refuses divide nothing."""
    found = []
    for way in choices:
        recipe = Recipe.parse(way.method)
        if not _refused(recipe.check_model, structure):
            divided = way.divided and not _refused(recipe.check_shards, structure)
            found.append(replace(way, divided=divided))
    return found


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
    structure = _structure(name)
    shape = shape_of(structure)
    choices = possible(ways(shape), structure)
    kind, count, memory = devices()
    room = SPARE * memory
    rows = [
        {
            "options": way.options,
            "bytes_per_weight": round(way.state / shape.weights, 2),
            "gib": round(way.per_device(1) / GIB, 2),
            "activations_gib": round(way.activations / GIB, 2),
            "offloaded_gib": round(way.offloaded / GIB, 2),
            "fits": way.per_device(1) < room,
            "fits_sharded": count > 1 and way.divided and way.per_device(count) < room,
        }
        for way in choices
    ]
    return {
        "model": name,
        "weights": shape.weights,
        "device": kind,
        "devices": count,
        "device_gib": round(memory / GIB, 1),
        "estimate": f"activations of {ROWS} rows of {TOKENS} tokens; --micro-batch-size makes them smaller. What npo@ "
        "moves depends on the rows: its bytes per weight are those of a model of 41 million weights",
        "ways": rows,
        "command": command(name, choices, count, memory, kind),
    }


def command(name: str, choices: list[Way], count: int, memory: float, kind: str = "cuda") -> str:
    """Propose the command that changes most and fits: on one device, else sharded, else offloaded or by an adapter."""
    start, room = f"letheon forget {name} --forget rows.jsonl --retain keep.jsonl", SPARE * memory
    whole = [
        way
        for way in choices
        if ("--method" not in way.options or "--method alternates" in way.options) and "--optimizer" not in way.options
    ]
    plain = [way for way in whole if not way.offloaded and "--base" not in way.options]
    offloaded = [way for way in whole if kind != "cpu" or not way.offloaded]
    lighter = [way for way in choices if "fact_spans@" in way.options]
    for ways, devices in ((plain, 1), (plain, count), (offloaded, 1), (offloaded, count), (lighter, 1)):
        sharded = f" --processes {devices} --shard on" if devices > 1 else ""
        for way in ways:
            if way.per_device(devices) < room:
                return f"{start} {way.options}".rstrip() + sharded
    least, last = min(choices, key=lambda way: way.per_device(1)), plain[-1]
    problem = f"nothing fits here: the least is {least.per_device(1) / GIB:.0f} GiB ({least.options})"
    if last.gathered >= room:
        return f"{problem}, and shards on any number of such devices hold {last.gathered / GIB:.0f} GiB whole at a time"
    processes = math.ceil(last.per_device(1) / (room - last.gathered))
    return (
        f"{problem}; the default takes {processes} such devices: "
        f"{start} {last.options} --processes {processes} --shard on"
    )


def _refused(check: Callable[[nn.Module], None], structure: nn.Module) -> bool:
    try:
        check(structure)
    except InputError:
        return True
    return False


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
