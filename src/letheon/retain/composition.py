"""Composition: several strategies that act as one, as a learner calls them, and how one is read from text.

Terms that add up are added (`extra`, `replay` with `replay_loss`). Hooks that act run from left to right. A decision
that only one strategy can take (`loss`, `outputs`, `predict`, `logits`, `rows`, `order`,
`epochs`) may be taken by one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.parts import Part, read_part
from letheon.core.registry import methods

# Hooks that only one strategy of a composition may override -> words for the error.
DECIDED = {
    "loss": "the loss of the new rows",
    "outputs": "the model's outputs",
    "predict": "how classes are told",
    "logits": "the logits of the loss",
    "rows": "which rows are learned",
    "order": "the order of the rows",
    "epochs": "how many epochs a task has",
}


class Composition:
    """One or several strategies that act as one; only the hooks that they override are called.

    Attributes:
        before_task, after_task, before_step, after_step, after_backward, extras: hooks, which run from left to right.
        replaying: the strategies that replay.
        rows, epochs, order, loss, outputs, predict, logits: the hooks of which a run has one each.
        wants: the union of what the strategies want of a pass, see `Strategy.wants`.

    Raises:
        InputError: two strategies take a decision that only one can take.
    """

    def __init__(self, parts: Sequence[Any], text: str) -> None:
        self.parts, self.text = list(parts), text
        for hook, words in DECIDED.items():
            deciding = [part for part in parts if part.overrides(hook)]
            if len(deciding) > 1:
                names = " and ".join(_name(part) for part in deciding)
                raise InputError(f"{text}: {names} both decide {words}", "leave one of them out")
        self.before_task, self.after_task = self._all("before_task"), self._all("after_task")
        self.before_step, self.after_step = self._all("before_step"), self._all("after_step")
        self.after_backward = self._all("after_backward")
        self.extras = self._all("extra")
        self.replaying = [part for part in parts if part.overrides("replay")]
        self.rows, self.epochs, self.order = self._one("rows"), self._one("epochs"), self._one("order")
        self.loss, self.outputs = self._one("loss"), self._one("outputs")
        self.predict, self.logits = self._one("predict"), self._one("logits")
        self.wants: frozenset[str] = frozenset().union(*(part.wants for part in parts))

    def _all(self, hook: str) -> list[Callable[..., Any]]:
        return [getattr(part, hook) for part in self.parts if part.overrides(hook)]

    def _one(self, hook: str) -> Callable[..., Any]:
        return getattr(next((part for part in self.parts if part.overrides(hook)), self.parts[0]), hook)

    def check(self, kind: str) -> None:
        """Refuse a kind of learner (`classes`, `texts`) that one of the strategies cannot work with."""
        for part in self.parts:
            if kind not in part.kinds:
                raise InputError(
                    f"{_name(part)} works with {' and '.join(sorted(part.kinds))}, not with {kind}",
                    "see `letheon methods strategy`, or use another strategy",
                )

    def check_divisible(self) -> None:
        """Refuse strategies that several processes cannot share the rows of a step for (`InputError`)."""
        for part in self.parts:
            if not part.divisible:
                problem = f"{_name(part)} needs all rows of a step in one process"
                raise InputError(problem, f"use one process, or one of {_able(lambda one: one.divisible)}")

    def check_shards(self) -> None:
        """Refuse strategies that need whole weights, which no process has where they lie in shards (`InputError`)."""
        for part in self.parts:
            if part.of_weights is None:
                problem = f"{_name(part)} needs whole weights, which no process has where they lie in shards"
                able = _able(lambda one: one.divisible and one.of_weights is not None)
                raise InputError(problem, f"use --shard off, --adapter lora, or one of {able}")

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of float32 vectors per weight: the strategies' own; and weights, gradient, AdamW's moments, a copy."""
        return 4.0 * (1 + 1 + 2 + 1 + sum(len(part.of_weights or ()) for part in self.parts))

    def held(self, learner: Any) -> dict[str, int]:
        """Return the bytes that the strategies hold beside the model, as `STRATEGY/ATTRIBUTE`; see `Strategy.held`."""
        return {f"{_name(part)}/{name}": size for part in self.parts for name, size in part.held(learner).items()}

    def prepare(self, learner: Any) -> None:
        """Check the learner's kind, then prepare the strategies from left to right."""
        self.check(learner.kind)
        for part in self.parts:
            part.prepare(learner)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of all strategies as `NUMBER/NAME`."""
        return {f"{i}/{name}": t for i, part in enumerate(self.parts) for name, t in part.state_dict().items()}

    def weight_of(self, key: str, names: Sequence[str]) -> str | None:
        """Name the weight that a tensor of `state_dict` belongs to, out of all weights; None if it belongs to none."""
        number, attribute, *place = key.split("/")
        of_weight = place and attribute in (self.parts[int(number)].of_weights or ())
        return names[int(place[0])] if of_weight else None

    def load_state_dict(self, learner: Any, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for i, part in enumerate(self.parts):
            mine = {name.removeprefix(f"{i}/"): t for name, t in state.items() if name.startswith(f"{i}/")}
            part.load_state_dict(learner, mine)

    def find(self, kind: type) -> Any:
        """Return the first strategy of a class, or None."""
        return next((part for part in self.parts if isinstance(part, kind)), None)


def read_strategy(text: str) -> Composition:
    """Read `NAME[:OPTION=VALUE,...]` joined by `+`, as in `replay:capacity=500+ewc`.

    Raises:
        InputError: an unknown name or option, with the nearest known one; or strategies that exclude each other.
    """
    pieces = [piece.strip() for piece in text.split("+")]
    if not all(pieces):
        raise InputError(f"strategy {text!r} cannot be read", "write STRATEGY[+STRATEGY], as in replay+ewc")
    parts: list[Part] = [read_part("strategy", piece) for piece in pieces]
    return Composition([part.make() for part in parts], "+".join(map(str, parts)))


def as_strategy(given: Any) -> Composition:
    """Return a composition from its text, from one `Strategy`, or from a composition."""
    if isinstance(given, Composition):
        return given
    return read_strategy(given) if isinstance(given, str) else Composition([given], _name(given))


def _able(chosen: Callable[[Any], bool]) -> str:
    """Name the strategies that have a property."""
    return ", ".join(record.name for record in methods("strategy") if chosen(record.factory))


def _name(part: Any) -> str:
    return next((record.name for record in methods("strategy") if record.factory is type(part)), type(part).__name__)
