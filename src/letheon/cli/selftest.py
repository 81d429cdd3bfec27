"""Audit the audit: build fakes that it must fail and a retrained model that it must pass.

letheon selftest --model smollm2

letheon selftest --pool 10 --out pool/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.shared import METHOD, NOT_A_PASS, OUTPUT, Shown, Where, option, perform, verb


@verb(__doc__)
def selftest(
    *,
    model: Annotated[
        Literal["tiny", "smollm2"], option("The model that the fakes are built on; smollm2 takes some minutes.", METHOD)
    ] = "tiny",
    pool: Annotated[
        int,
        option(
            "Instead of the fakes, train this many models that hold the facts and as many that do not; print how "
            "well every metric tells them apart (AUROC).",
            METHOD,
        ),
    ] = 0,
    out: Annotated[
        Path | None, option("Folder that keeps the scores of a pool's models; a pool begun there is continued.", OUTPUT)
    ] = None,
    where: Where,
    shown: Shown,
) -> None:
    """Perform the self-test."""
    from letheon.jobs.selftest import SelfTestJob
    from letheon.printing.selftest import show_selftest

    result = perform(SelfTestJob(model, where, pool, out), shown, show_selftest)
    if result is not None and not result.passed:
        raise typer.Exit(NOT_A_PASS)
