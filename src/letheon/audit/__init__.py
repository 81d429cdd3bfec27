"""Examine whether a model forgot: metrics, answers, attacks, rounding, and a verdict by criteria fixed beforehand.

The room can be called: `letheon.audit(before, after, request)`. It imports core, probe, forget, retain and the report
kit; compare, measure, papers and the command line import it.
"""

from letheon.core.rooms import make_callable

make_callable(__name__, "run", "audit")
