"""The device that a model is put on."""

from __future__ import annotations

import os

from letheon.core.errors import InputError


def check_device(device: str) -> str:
    """Resolve `auto` to a device, or check that the given device can be used.

    `auto` is the accelerator that torch finds (cuda, Intel's xpu, Apple's mps), else the processor. Of several
    processes on one host, each takes the accelerator with its own number (LOCAL_RANK).

    Raises:
        InputError: the device cannot be used.
    """
    import torch

    if device != "auto":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {error}", "use --device cpu") from None
        return device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return "cpu"
    rank = os.environ.get("LOCAL_RANK")
    return accelerator.type if rank is None or accelerator.type == "mps" else f"{accelerator.type}:{rank}"
