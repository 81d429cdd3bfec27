"""Apply steerings to a model by hooks, for as long as a block runs.

The effect is the same with and without a cache, for one row and for a batch, and with padding on either side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.steer.maps import Displacement
from letheon.steer.positions import Positions, Tokens, followed
from letheon.steer.routers import switched
from letheon.steer.steering import Steering

Edit = Callable[[Tensor], Tensor]


@contextmanager
def steered(
    model: LanguageModel, steerings: Steering | Sequence[Steering], strength: float | Sequence[float] = 1.0
) -> Iterator[LanguageModel]:
    """Apply one or several steerings while the block runs; displacements at one site add up.

    Args:
        strength: one number for all, or one per steering. 0 changes nothing; switches are on at any other strength.

    Raises:
        InputError: a steering is for another model, or two switch the experts of one layer.
    """
    given = [steerings] if isinstance(steerings, Steering) else list(steerings)
    strengths = one_per_steering(strength, len(given))
    for one in given:
        one.check(model)
    acting = [(one, amount) for one, amount in zip(given, strengths, strict=True) if amount != 0]
    switches = {layer: switch for one, _ in acting for layer, switch in one.switches.items()}
    if len(switches) < sum(len(one.switches) for one, _ in acting):
        raise InputError("two steerings switch the experts of one layer", "merge their tables into one file")
    if any(one.switches and one.tokens != "all" for one, _ in acting):
        raise InputError("a switch of experts acts on all tokens", "set tokens to all")
    base = model.base()
    with ExitStack() as stack:
        positions = None
        if any(one.tokens != "all" for one, _ in acting):
            positions = stack.enter_context(followed(base))
        stack.enter_context(edit(base, _edits(acting, positions)))
        if switches:
            stack.enter_context(switched(base, switches))
        yield model


def one_per_steering(strength: float | Sequence[float], count: int) -> list[float]:
    """Return one strength per steering; a single number holds for every steering.

    Raises:
        InputError: there are several strengths, and not as many as steerings.
    """
    strengths = list(strength) if isinstance(strength, Sequence) else [strength] * count
    if len(strengths) != count:
        raise InputError(f"{len(strengths)} strengths for {count} steerings", "give one, or one for each")
    return strengths


def _edits(acting: Sequence[tuple[Steering, float]], positions: Positions | None) -> dict[Site, Edit]:
    """Return the change of each site's activations."""
    by_site: dict[Site, list[tuple[Displacement, float, Tokens]]] = defaultdict(list)
    for one, amount in acting:
        for site, made in one.maps.items():
            by_site[site].append((made, amount, one.tokens))
    return {site: _edit(maps, positions) for site, maps in by_site.items()}


def _edit(maps: Sequence[tuple[Displacement, float, Tokens]], positions: Positions | None) -> Edit:
    ready: list[tuple[Displacement, Tokens]] = []

    def change(states: Tensor) -> Tensor:
        if not ready:  # the device is that of the first activations
            ready.extend((one.at(amount, states), tokens) for one, amount, tokens in maps)
        result = states
        for one, tokens in ready:
            moved = one.displace(states)
            if tokens != "all" and positions is not None:
                moved = moved * positions.masks[tokens][..., None]
            result = result + moved
        return result.to(states.dtype)

    return change
