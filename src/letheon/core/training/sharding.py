"""Where the weights of a training loop lie: whole in every process, or in shards over all processes (FSDP2).

The loop sees plain tensors in both cases. With shards, `parameters` are views of this process's rows of each weight, so
optimizers and updates work on them entry by entry as they are. Every reduction over a whole vector (an inner product, a
norm, a mean, a largest entry) goes through `total` or `largest`. An adapter's weights are never sharded: each process
holds them all, and only the frozen base below is split.

Source: torch's `fully_shard` (FSDP2), with sums instead of means: losses are shares of the effective batch's loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.processes import is_main_process, process_count, processes_here
from letheon.core.rows.encoding import Batch
from letheon.core.training.spreading import Filler, leave_to_main, share_adapter, without_weights

Made = TypeVar("Made")


class Whole:
    """Every process holds all weights, and the gradients are summed over processes.

    Attributes:
        parameters: the trained parameters as the optimizer sees them, by name.
        sharded: whether a vector over `parameters` is only this process's part of the whole vector.
    """

    sharded = False

    def __init__(self, model: LanguageModel, parameters: Mapping[str, nn.Parameter]) -> None:
        self.model, self.parameters = model, dict(parameters)

    def collect(self) -> None:
        """Put the gradients, summed over processes, on `parameters`; a missing gradient counts as zero."""
        if process_count() == 1:
            return
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def exchange(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Put other gradients in the place of those that backward passes have left since `collect`; return those."""
        weights = self._backward_weights()
        before = [weight.grad for weight in weights]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return before

    def _backward_weights(self) -> list[nn.Parameter]:
        """Return the parameters on which a backward pass leaves its gradients, in the order of `parameters`."""
        return list(self.parameters.values())

    def total(self, value: float) -> float:
        """Sum over all entries of a vector, given the sum over this process's entries."""
        return value

    def largest(self, value: float) -> float:
        """Largest of all entries of a vector, given the largest of this process's entries."""
        return value

    def part(self, name: str, whole: Tensor) -> Tensor:
        """Cut this process's part out of a tensor of a parameter's shape (a mask, a moment)."""
        return whole

    def whole(self, name: str, part: Tensor) -> Tensor | None:
        """Put a tensor of a parameter's shape together in process 0; the other processes get None."""
        return part.detach().contiguous() if is_main_process() else None

    def clip(self, limit: float) -> float:
        """Scale the gradients down to a norm of at most `limit`; return the norm before."""
        return float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))

    def end(self, gather: bool = True) -> None:
        """Leave the model whole and plain."""


class Shards(Whole):
    """FSDP2 over all processes: a copy of the model in shards stands in the model's place until `end`.

    Process 0's weights are the ones that count: the model of the other processes may lie on the meta device. Until
    `end` the whole weights lie in process 0's host memory alone; there they are put together again, and the model of
    every other process is left without weights.

    Args:
        device: where the shards lie.
        keep_blocks: keep a block's whole weights from its forward pass to the end of the step, for losses that read
            more of a block than its output. It saves no memory of weights, only of gradients and moments.

    Raises:
        InputError: weights of an adapter and of its base move together.
    """

    def __init__(
        self,
        model: LanguageModel,
        parameters: Mapping[str, nn.Parameter],
        device: torch.device,
        keep_blocks: bool = False,
    ) -> None:
        self.original, self.device, self.keep_blocks = model.model, device, keep_blocks
        names = [name for name in parameters if "lora_" in name]
        if names and len(names) < len(parameters):
            raise InputError("weights of an adapter and of its base move together", "use --shard off")
        self.sharded = not names
        adapter = share_adapter(self.original, device)
        spread = without_weights(self.original, adapter)
        self.units = self._spread(spread, model.base(), adapter, device)
        leave_to_main(self.original, adapter)
        self.placed = dict(spread.named_parameters())
        views = {name: nn.Parameter(_local(p)) if self.sharded else p for name, p in self._chosen(parameters)}
        super().__init__(model, views)
        model.model, model.sharded = spread, True
        _active.append(self)

    def _chosen(self, names: Mapping[str, Any]) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, self.placed[name]) for name in names)

    def _spread(
        self, spread: nn.Module, base: nn.Module, adapter: set[nn.Parameter], device: torch.device
    ) -> list[Any]:
        """Fill and shard one unit after another, so that no process holds more than a unit of whole weights."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        root = spread.get_submodule(_path(self.original, base))
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        fill = Filler(self.original, spread, device)
        units: list[Any] = []
        for unit in [*blocks(root), root]:
            fill.weights(unit)
            # The root too: by default it would stay whole after a pass without gradients, and later passes would read
            # old weights.
            frees = unit is root or not self.keep_blocks
            units.append(fully_shard(unit, mesh=mesh, ignored_params=adapter, reshard_after_forward=frees))
            fill.drop()
        fill.buffers()
        for unit in units:
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)  # only NCCL can scale within a reduction
            if self.keep_blocks:
                unit.set_reshard_after_backward(False)
        for unit in units:  # made now: within `inference_mode` they would become tensors that no backward pass accepts
            unit.unshard()
            unit.reshard()
        return units

    def collect(self) -> None:
        """Take the gradients over from the sharded weights, where the backward pass has summed them."""
        if self.keep_blocks:
            for unit in self.units:
                unit.reshard()
        if not self.sharded:
            super().collect()
            return
        for name, view in self.parameters.items():
            gradient, self.placed[name].grad = self.placed[name].grad, None
            if gradient is not None:
                view.grad = _local(gradient) if view.grad is None else view.grad + _local(gradient)
            elif view.grad is None:
                view.grad = torch.zeros_like(view)

    def _backward_weights(self) -> list[nn.Parameter]:
        return [self.placed[name] for name in self.parameters] if self.sharded else super()._backward_weights()

    def total(self, value: float) -> float:
        """Sum over the entries of all shards."""
        return self._over_all(value, dist.ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """Largest entry of all shards."""
        return self._over_all(value, dist.ReduceOp.MAX)

    def _over_all(self, value: float, how: Any) -> float:
        number = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(_reduced(number, how)) if self.sharded else value

    def part(self, name: str, whole: Tensor) -> Tensor:
        """Cut this process's rows out; a tensor that has not the parameter's number of rows is left as it is."""
        like = self._like(name)
        rows = like.shape[0] if like.ndim else 0
        if not self.sharded or whole.ndim == 0 or whole.shape[0] != rows:
            return whole
        first = min(rows, -(-rows // dist.get_world_size()) * dist.get_rank())
        return whole[first : first + len(self.parameters[name])]

    def whole(self, name: str, part: Tensor) -> Tensor | None:
        """Put the rows of all processes together in process 0's host memory."""
        if not self.sharded or part.ndim == 0:
            return super().whole(name, part)
        from torch.distributed.tensor import DTensor

        like = self._like(name)
        shape = torch.Size([like.shape[0], *part.shape[1:]])  # a moment's scales have fewer columns
        stride = torch.empty(shape, device="meta").stride()
        part = part.detach().contiguous()
        placed = DTensor.from_local(part, like.device_mesh, like.placements, shape=shape, stride=stride)
        whole: Tensor = placed.full_tensor()
        return whole.cpu().contiguous() if is_main_process() else None

    def _like(self, name: str) -> Any:
        if name not in self.placed:
            problem = f"{name} belongs to no weight, so that its shards cannot be put together"
            raise InputError(problem, "end the keys of state_dict() in the parameter's number, or use --shard off")
        return self.placed[name]

    def clip(self, limit: float) -> float:
        """Scale the gradients of all shards down to a common norm; return the norm before."""
        if not self.sharded:
            return super().clip(limit)
        taken = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = math.sqrt(self.total(sum(float(gradient.double().square().sum()) for gradient in taken)))
        torch._foreach_mul_(taken, min(1.0, limit / (norm + 1e-6)))  # the factor that torch takes for a whole gradient
        return norm

    @torch.no_grad()
    def end(self, gather: bool = True) -> None:
        """Give the model its plain modules back, with the trained weights in process 0.

        They stay in host memory unless twice their bytes are free on the device, where the shards and the optimizer's
        moments may still lie.

        Args:
            gather: whether to put the trained weights together, for which every process must call this; without it
                process 0 gets the weights that the loop began with.
        """
        if self not in _active:
            return
        _active.remove(self)
        if gather and self.sharded:
            for name, view in self.parameters.items():
                whole = self.whole(name, view)
                if whole is not None:
                    self.original.get_parameter(name).copy_(whole)
        self.model.model, self.model.sharded = self.original, False
        weights = sum(parameter.nbytes for parameter in self.original.parameters())
        if gather and is_main_process() and 2 * weights <= free_memory(self.device):
            self.original.to(self.device)


_active: list[Shards] = []  # the loop that runs now: inner products of its gradients need to know


def running() -> Shards | None:
    """Return the shards of the loop that runs now; None where it holds whole weights."""
    return _active[-1] if _active else None


def total(value: float) -> float:
    """Sum over all entries of a gradient of the loop that runs now, given the sum over this process's entries."""
    return _active[-1].total(value) if _active else value


def over_shards(values: Tensor) -> Tensor:
    """Return sums over all shards, entry by entry, with the derivatives of this process's own sums."""
    if not _active or not _active[-1].sharded:
        return values
    own = values.detach().double()
    return values + (_reduced(own, dist.ReduceOp.SUM) - own).to(values.dtype)


def trained_weights(model: LanguageModel) -> dict[str, nn.Parameter]:
    """Return the weights in which values can be set: all parameters, or this process's part of the trained ones."""
    return _active[-1].parameters if model.sharded else dict(model.model.named_parameters())


def from_main(make: Callable[[], Made]) -> Made:
    """Compute a value in process 0 and return it in every process; an error of `make` is raised in every process."""
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            box = [make()]
        except LetheonError as error:
            box = [error]
    dist.broadcast_object_list(box, 0)
    if isinstance(box[0], LetheonError):
        raise box[0]
    made: Made = box[0]
    return made


def ghosts(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Append micro-batches whose losses are zero, up to `count` in all: every process must make the same passes."""
    if not batches:
        return []
    ghost = replace(
        batches[0],
        totals=Counter(dict.fromkeys(batches[0].totals, math.inf)),  # losses are divided by it
        lengths=[math.inf],  # type: ignore[list-item]  # whole numbers elsewhere; a ghost divides by them
        value_lengths=[math.inf],  # type: ignore[list-item]  # as above
    )
    return [*batches, *[ghost] * (count - len(batches))]


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory of a device, or this process's share of the host's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return psutil.virtual_memory().total // processes_here()


def free_memory(device: torch.device) -> int:
    """Return the bytes of a device that nothing holds now, those that torch's allocator keeps for reuse included."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    return psutil.virtual_memory().available // processes_here()


# Helpers -------------------------------------------------------------------------------------------------------------


def _path(whole: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in whole.named_modules() if module is part)


def _local(tensor: Any) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _reduced(values: Tensor, how: Any) -> Tensor:
    found = values.clone()
    dist.all_reduce(found, how)
    return found
