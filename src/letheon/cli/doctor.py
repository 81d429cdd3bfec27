"""Examine this machine: versions, device, threads, measured speed, cached models, extras and what each makes possible.

letheon doctor --json
"""

from __future__ import annotations

from letheon.cli.shared import Json, verb


@verb(__doc__)
def doctor(as_json: Json = False) -> None:
    """Examine the machine and print the findings."""
    from letheon.jobs.doctor import examine
    from letheon.printing.doctor import show_doctor

    show_doctor(examine(), as_json)
