"""How large a tensor a computation makes, whatever else the process holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Largest(TorchDispatchMode):
    """Sees every operation, those of the backward pass among them."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [one.untyped_storage().nbytes() for one in tree_leaves(made) if isinstance(one, Tensor)]
        self.size = max(self.size, *sizes, 0)
        return made


@pytest.fixture
def largest_tensor() -> Callable[[Callable[[], object]], int]:
    """Runs a function; bytes of the largest tensor that it made."""

    def run(function: Callable[[], object]) -> int:
        with _Largest() as seen:
            function()
        return seen.size

    return run
