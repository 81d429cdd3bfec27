"""Compare methods on one request: learning rates by successive halving, one audit of each method's best run.

The room can be called: `letheon.compare(model, request, ["npo", "simnpo+geometric"], out="compare")`. It imports core,
forget, the audit and the report kit; papers and the command line import it.
"""

from letheon.core.rooms import make_callable

make_callable(__name__, "run", "compare")
