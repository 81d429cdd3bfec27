"""See what the baselines that leave the weights as they are do to a request: a context, a filter, an erased concept.

letheon baselines smollm2 --request run/request.json
"""

from __future__ import annotations

from typing import Annotated

from letheon.cli.options import Group
from letheon.cli.shared import METHOD, Model, Rows, Shown, Where, perform, verb
from letheon.jobs.baselines import BaselineOptions

Options = Annotated[BaselineOptions, Group(METHOD)]


@verb(__doc__)
def baselines(model: Model, *, rows: Rows, options: Options, where: Where, shown: Shown) -> None:
    """Perform the measurement."""
    from letheon.jobs.baselines import BaselinesJob
    from letheon.printing.baselines import show_baselines

    perform(BaselinesJob(model, rows, options, where), shown, show_baselines)
