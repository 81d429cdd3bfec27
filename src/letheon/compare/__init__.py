"""Compare methods on one request: learning rates by successive halving, one audit of each method's best run.

The room can be called: `letheon.compare(model, request, ["npo", "simnpo+geometric"], out="compare")`.
"""

from letheon.core.rooms import make_callable

make_callable(__name__, "run", "compare")
