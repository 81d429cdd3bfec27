"""`letheon papers run`: the scale at which a paper's claim is measured."""

from dataclasses import dataclass
from typing import Any

from letheon.core.errors import InputError
from letheon.papers.catalogue import Scale, paper

SEEDS = {True: 5, False: 3}  # seeds of the full and of the fast scale


@dataclass(frozen=True)
class PaperJob:
    """The measurement of a paper's claim."""

    key: str  # key, number or arXiv identifier
    full: bool = False  # the full scale, else the one that takes minutes
    seeds: int = 0  # number of seeds; 0 takes the scale's own
    device: str = "cpu"

    @property
    def scale(self) -> Scale:
        """The scale with its seeds and its device."""
        return Scale("full" if self.full else "fast", tuple(range(self.seeds or SEEDS[self.full])), self.device)

    def plan(self) -> dict[str, Any]:
        """Check that the paper can be run and return what would be done."""
        entry = paper(self.key)
        if entry.planned:
            raise InputError(f"paper {entry.key!r} is planned and cannot be run", "see letheon papers")
        return {"key": entry.key, "scale": self.scale.name, "seeds": list(self.scale.seeds)}
