"""Examine this machine: versions, device, threads, measured speed, cached models, extras and what each makes possible.

letheon doctor --json; letheon doctor --model ORG/NAME says what a model needs here, from its configuration alone.
"""

from __future__ import annotations

from typing import Annotated

from letheon.cli.shared import OUTPUT, Json, option, verb


@verb(__doc__)
def doctor(
    model: Annotated[str, option("Say what forgetting needs with this model and which command fits.", OUTPUT)] = "",
    as_json: Json = False,
) -> None:
    """Examine the machine, or a model's needs on it, and print the findings."""
    from letheon.printing.doctor import show_doctor, show_needs

    if model:
        from letheon.jobs.sizing import needs

        show_needs(needs(model), as_json)
        return
    from letheon.jobs.doctor import examine

    show_doctor(examine(), as_json)
