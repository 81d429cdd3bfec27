"""The device that a model is put on."""

from __future__ import annotations

import os

from letheon.core.errors import InputError


def check_device(device: str) -> str:
    """Resolve `auto` to a device, or check that the given device can be used.

    `auto` is the accelerator that torch finds (cuda, Intel's xpu, Apple's mps), else the processor. Of several
    processes on one host, each takes the accelerator with its own number (LOCAL_RANK), also where its kind is named.

    Raises:
        InputError: the device cannot be used, or there are more processes than accelerators.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device != "auto" and (accelerator is None or device != accelerator.type):
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {error}", "use --device cpu") from None
        return device
    if accelerator is None:
        return "cpu"
    rank = os.environ.get("LOCAL_RANK")
    if rank is not None and accelerator.type != "mps" and int(rank) >= (count := torch.accelerator.device_count()):
        raise InputError(f"process {rank} has no {accelerator.type} device of its own", f"use --processes {count}")
    return accelerator.type if rank is None or accelerator.type == "mps" else f"{accelerator.type}:{rank}"
