"""`letheon audit`: check, audit, write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, finish_audit
from letheon.audit.proxy import check_reference, resolve_reference
from letheon.audit.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import load_profile
from letheon.core.models import check_loadable
from letheon.core.runs import check_writable
from letheon.forget.request import Request


def audit_plan(
    before: str, after: str, request: Path, reference: str, profile: str, out: Path, ledger: str = ""
) -> dict[str, Any]:
    """Check the arguments of an audit and say what would be done."""
    read = Request.read(request)
    check_ledger(ledger, [read], before=before, after=after)
    check_writable(out)
    for name in (before, after):
        check_loadable(name)
    check_reference(reference)
    load_profile(profile)
    rows = {name: len(getattr(read, name)) for name in ("forget", "retain", "neighbours", "holdout", "general")}
    return {
        "before": before,
        "after": after,
        "reference": reference or None,
        "rows": rows,
        "profile": profile,
        "out": str(out),
        "ledger": ledger or None,
    }


def run_audit(
    before: str,
    after: str,
    request: Path,
    reference: str,
    profile: str,
    out: Path,
    quick: bool,
    seed: int,
    device: str,
    ledger: str = "",
) -> Audit:
    """Check, audit, write record, report and the ledger's entry; returns the record."""
    audit_plan(before, after, request, reference, profile, out, ledger)
    read = Request.read(request)
    made = resolve_reference(reference, read, seed=seed, device=device)
    record = audit(before, after, read, reference=made, profile=profile, quick=quick, seed=seed, device=device)
    return finish_audit(ledger, record, read, before, after, out)
