"""Prove that a model forgot: metrics, answers, attacks, rounding, and a verdict by criteria fixed beforehand.

The room can be called: `letheon.audit(before, after, request)`.
"""

from letheon.core.rooms import make_callable

make_callable(__name__, "run", "audit")
