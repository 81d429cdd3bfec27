"""`letheon audit`: check, audit, write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, finish_audit
from letheon.audit.measuring.continuation import Continuation, read_continuation
from letheon.audit.measuring.proxy import check_reference, resolve_reference
from letheon.audit.measuring.quantise import Grid
from letheon.audit.plan import QUICK, Settings
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import load_profile
from letheon.core.atomic import check_writable
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.forget.request import Request
from letheon.retain.settings import LearnSettings


@dataclass(frozen=True)
class AuditJob:
    """An audit as the command line asks for it: names of models, files, options.

    Attributes:
        after_learning: a stream that copies of the models go on to learn, or empty.
        learning: how: `strategy`, and options of `LearnSettings`; only those that were given.
        gguf: types of GGUF files that the weights are rounded as, beside the usual grids.
    """

    before: str
    after: str
    file: Path
    reference: str = ""
    profile: str = "standard"
    out: Path = Path("audit")
    ledger: str = ""
    after_learning: str = ""
    learning: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    gguf: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"

    @cached_property
    def request(self) -> Request:
        """The request, read and checked."""
        return Request.read(self.file)

    @cached_property
    def continuation(self) -> Continuation | None:
        """What the models go on to learn, where that is asked for."""
        if not self.after_learning:
            if self.learning:
                names = ", ".join("--" + name.replace("_", "-") for name in self.learning)
                raise InputError(f"{names} without --after-learning", "say what is learned: --after-learning auto")
            return None
        options = dict(self.learning)
        strategy = options.pop("strategy", "naive")
        settings = LearnSettings(**{"batch_size": 8, **options})
        return read_continuation(self.after_learning, self.request, strategy, settings)

    @cached_property
    def settings(self) -> Settings:
        """How much is done."""
        usual = QUICK if self.quick else Settings()
        return replace(usual, grids=usual.grids + tuple(Grid.of_file(name) for name in self.gguf))

    def plan(self) -> dict[str, Any]:
        """Check the arguments and say what would be done."""
        request = self.request
        check_ledger(self.ledger, [request], before=self.before, after=self.after)
        check_writable(self.out)
        for name in (self.before, self.after):
            check_loadable(name)
        check_reference(self.reference, request)
        load_profile(self.profile)
        rows = {name: len(getattr(request, name)) for name in ("forget", "retain", "neighbours", "holdout", "general")}
        return {
            "before": self.before,
            "after": self.after,
            "reference": self.reference or None,
            "rows": rows,
            "profile": self.profile,
            "rounding": [grid.file_type or f"{grid.bits} bits" for grid in self.settings.grids],
            "after_learning": self.continuation.to_json() if self.continuation else None,
            "out": str(self.out),
            "ledger": self.ledger or None,
        }

    def work(self) -> Audit:
        """Check, audit, write record, report and the ledger's entry; returns the record."""
        self.plan()
        record = audit(
            self.before,
            self.after,
            self.request,
            reference=resolve_reference(self.reference, self.request, seed=self.seed, device=self.device),
            profile=self.profile,
            after_learning=self.continuation,
            settings=self.settings,
            seed=self.seed,
            device=self.device,
        )
        return finish_audit(self.ledger, record, self.request, self.before, self.after, self.out)
