"""`letheon forget --reapply`: add the change of an earlier deletion to a model again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import check_writable
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.forget.reapply import held_share, read_update, reapply

# A model that holds more of an update than this was trained on after the deletion, not before it.
MOST_HELD = 0.5


@dataclass(frozen=True)
class ReapplyJob:
    """`letheon forget MODEL --reapply UPDATE`.

    Attributes:
        scale: factor of the change; None adds it once, and refuses a model that still holds most of it.
        others: names of options that were given beside it and ask for a new deletion.
    """

    model: str
    update: Path
    scale: float | None
    out: Path
    others: Sequence[str] = ()
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """Make every check that needs no model and return what would be done."""
        if self.others:
            raise InputError(
                f"--reapply beside --{self.others[0]}",
                "give one of the two: it adds an earlier change, and forgets nothing",
            )
        if not self.model:
            raise InputError("no model was given", "write `letheon forget MODEL --reapply update.safetensors`")
        check_loadable(self.model)
        check_writable(self.out)
        read_update(self.update)
        scale = 1.0 if self.scale is None else self.scale
        return {"model": self.model, "update": str(self.update), "scale": scale, "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Add the update to the weights, save the result, and return what was done."""
        self.plan()
        change, loaded = read_update(self.update), load(self.model, device=self.device)
        scale = 1.0 if self.scale is None else self.scale
        held = held_share(loaded, self.update)
        if held is not None and held > MOST_HELD and self.scale is None:
            raise InputError(
                f"{self.model} still holds {held:.0%} of this update: adding it again would double it",
                "forget again instead; --scale 1 adds it all the same",
            )
        reapply(loaded, change, scale)
        card = f"# {self.model} with the update {self.update.name} added again, {scale:g} times\n"
        loaded.save(self.out / "model", card=card)
        largest = max(float(tensor.abs().max()) for tensor in change.values()) * abs(scale)
        done = {"model": str(self.out / "model"), "weights": len(change), "largest change": largest, "scale": scale}
        return done if held is None else {**done, "held before": round(held, 3)}
