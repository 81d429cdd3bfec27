"""The hooks of a run as a learner calls them; `letheon.retain.composition.Composition` has them all."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Hooks(Protocol):
    """All strategies of a run, sorted by the moment at which they act.

    Attributes:
        text: the strategies as text.
        parts: the strategies themselves.
        wants: the union of what they want of a pass, see `Strategy.wants`.
        before_task, after_task, before_step, after_step, after_backward, extras: hooks that run from left to right.
        replaying: the strategies that replay.
        rows, epochs, order, loss, outputs: the hooks of which a run has one each.
    """

    text: str
    parts: list[Any]
    wants: frozenset[str]
    before_task: list[Callable[..., Any]]
    after_task: list[Callable[..., Any]]
    before_step: list[Callable[..., Any]]
    after_step: list[Callable[..., Any]]
    after_backward: list[Callable[..., Any]]
    extras: list[Callable[..., Any]]
    replaying: list[Any]
    rows: Callable[..., Any]
    epochs: Callable[..., Any]
    order: Callable[..., Any]
    loss: Callable[..., Any]
    outputs: Callable[..., Any]

    def prepare(self, learner: Any) -> None:
        """Prepare every strategy before the first task."""

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that a restart needs."""

    def load_state_dict(self, learner: Any, state: dict[str, Tensor]) -> None:
        """Restore them."""

    def find(self, kind: type) -> Any:
        """The first strategy of a class, or None."""
