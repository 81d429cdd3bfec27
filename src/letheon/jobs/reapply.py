"""`letheon forget --reapply`: add the change of an earlier deletion to a model again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import check_writable
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.forget.reapply import read_update, reapply


@dataclass(frozen=True)
class ReapplyJob:
    """`letheon forget MODEL --reapply UPDATE`."""

    model: str
    update: Path
    scale: float  # factor of the change
    out: Path
    others: Sequence[str] = ()  # names of options that were given beside it and ask for a new deletion
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
        return {"model": self.model, "update": str(self.update), "scale": self.scale, "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Add the update to the weights, save the result, and return what was done."""
        self.plan()
        change, loaded, scale = read_update(self.update), load(self.model, device=self.device), self.scale
        reapply(loaded, change, scale)
        card = f"# {self.model} with the update {self.update.name} added again, {scale:g} times\n"
        loaded.save(self.out / "model", card=card)
        largest = max(float(tensor.abs().max()) for tensor in change.values()) * abs(scale)
        return {"model": str(self.out / "model"), "weights": len(change), "largest change": largest, "scale": scale}
