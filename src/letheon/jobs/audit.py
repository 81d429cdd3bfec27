"""`letheon audit`: check, audit, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, finish_audit
from letheon.audit.measuring import examinations
from letheon.audit.measuring.continuation import Continuation, read_continuation
from letheon.audit.measuring.proxy import check_reference, resolve_reference
from letheon.audit.measuring.quantise import Grid
from letheon.audit.plan import QUICK, Settings
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import load_profile
from letheon.core.atomic import check_writable
from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.core.model.structure import check_taken
from letheon.core.processes import is_main_process
from letheon.core.training.signals import ended_by_signals
from letheon.core.workers import each_alone
from letheon.forget.request import Request
from letheon.jobs.options import SETS, AuditScope, ContinuationOptions, Machine, RequestFiles
from letheon.retain.settings import LearnSettings


@dataclass(frozen=True)
class AuditJob:
    """An audit as the command line asks for it: names of models, files, options.

    Attributes:
        learning: fields of `LearnSettings` that were given for the continuation.
    """

    before: str
    after: str
    rows: RequestFiles
    scope: AuditScope = field(default_factory=AuditScope)
    continued: ContinuationOptions = field(default_factory=ContinuationOptions)
    learning: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("audit")
    machine: Machine = field(default_factory=Machine)

    @cached_property
    def request(self) -> Request:
        """The request, read and checked."""
        return self.rows.read()

    @cached_property
    def continuation(self) -> Continuation | None:
        """The tasks that the models learn next, None where no continuation is asked for."""
        source, strategy = self.continued.after_learning, self.continued.strategy
        if not source:
            given = [*(["strategy"] if strategy else []), *self.learning]
            if given:
                names = ", ".join("--" + name.replace("_", "-") for name in given)
                raise InputError(f"{names} without --after-learning", "say what is learned: --after-learning auto")
            return None
        settings = LearnSettings(**{"batch_size": 8, **self.learning})
        return read_continuation(source, self.request, strategy or "naive", settings)

    @cached_property
    def settings(self) -> Settings:
        """The extent of the audit."""
        usual = QUICK if self.scope.quick else Settings()
        grids = usual.grids + tuple(Grid.of_file(name) for name in self.scope.gguf)
        steps, attention = self.scope.soft_prompt_steps, self.scope.attention
        return replace(usual, grids=grids, soft_prompt_steps=steps, attention=attention)

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        request, scope = self.request, self.scope
        check_ledger(scope.ledger, [request], before=self.before, after=self.after)
        check_writable(self.out)
        for name in (self.before, self.after):
            check_loadable(name)
            check_taken(name, scope.attention)
        check_reference(scope.reference, request)
        load_profile(scope.profile)
        tasks = scope.general_tasks()
        return {
            "before": self.before,
            "after": self.after,
            "reference": scope.reference or None,
            "rows": {name: len(getattr(request, name)) for name in SETS},
            "profile": scope.profile,
            "general ability": list(tasks.names) if tasks else None,
            "rounding": [grid.file_type or f"{grid.bits} bits" for grid in self.settings.grids],
            "after_learning": self.continuation.to_json() if self.continuation else None,
            "out": str(self.out),
            "ledger": scope.ledger or None,
        }

    def work(self) -> Audit | None:
        """Check, audit, write record, report and the ledger's entry; return the record, in process 0 of a job."""
        self.plan()
        seed, device = self.machine.seed, check_device(self.machine.device)
        kept = self.scope.cache and self.continuation is None and examinations.folder() is not None
        left = "examinations of the models before and reference are kept as far as they were complete"
        words = f"the audit was stopped; {left if kept else 'nothing of it is kept'}"
        remedy = "the same command goes on from there" if kept else "run it again"
        with ended_by_signals(words, remedy), each_alone() as workers:
            record = audit(
                self.before,
                self.after,
                self.request,
                reference=resolve_reference(
                    self.scope.reference, self.request, seed=seed, device=device, workers=workers
                ),
                profile=self.scope.profile,
                after_learning=self.continuation,
                settings=self.settings,
                general_tasks=self.scope.general_tasks(),
                cache=self.scope.cache,
                seed=seed,
                device=device,
            )
        if not is_main_process():
            return None
        return finish_audit(self.scope.ledger, record, self.request, self.before, self.after, self.out)
