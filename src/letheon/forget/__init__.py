"""Make a model forget: requests, recipes (objective x update x scope x sampler), one-shot edits.

The room can be called: `letheon.forget(model, request, method="simnpo+geometric")`.

Imports core, report and probe.
"""

from letheon.core.rooms import make_callable

make_callable(__name__, "run", "forget")
