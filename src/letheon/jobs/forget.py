"""`letheon forget`: gather a request, check it, forget, audit; or continue such a run."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, deleting, finish_run
from letheon.audit.measuring.proxy import check_reference, resolve_reference
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import load_profile
from letheon.core.atomic import atomic_write_text
from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.core.processes import is_main_process, leave_the_job
from letheon.core.runs import Run, refuse_changes
from letheon.core.training.settings import TrainSettings
from letheon.core.training.signals import ended_by_signals
from letheon.core.workers import each_alone
from letheon.forget.auto_retain import write_retain_rows
from letheon.forget.circuit_map import circuit_map
from letheon.forget.deep import SecondStage, full_name
from letheon.forget.placement import load_placed, sharded_device
from letheon.forget.recipe import Recipe, StandaloneMethod, read_method
from letheon.forget.recipe_job import planned_steps
from letheon.forget.request import Request
from letheon.forget.run import (
    check,
    check_depth,
    check_memory,
    check_model,
    default_method,
    forget,
    refuse_folder,
    resume,
)
from letheon.forget.settings import ForgetSettings, Result, resolve
from letheon.jobs.options import SETS, AuditOptions, MethodOptions, RequestFiles, RunFolders


@dataclass(frozen=True)
class ForgetOptions:
    """The options of `letheon forget`.

    Attributes:
        model: name or folder of the model before; empty where a run is continued.
        training: fields of `ForgetSettings` and `TrainSettings` that were given.
    """

    model: str
    rows: RequestFiles = field(default_factory=RequestFiles)
    method: MethodOptions = field(default_factory=MethodOptions)
    training: Mapping[str, Any] = field(default_factory=dict)
    audit: AuditOptions = field(default_factory=AuditOptions)
    folders: RunFolders = field(default_factory=RunFolders)
    device: str = "auto"

    def names(self) -> list[str]:
        """Return the names of the given options that decide what the run does."""
        single = {"model": self.model, "request": self.rows.request, **dataclasses.asdict(self.method)}
        return self.rows.given() + list(self.training) + [name for name, value in single.items() if value]

    def refuse_changes(self) -> None:
        """Refuse options that would change a resumed run."""
        refuse_changes(self.names(), self.folders.resume)


@dataclass(frozen=True)
class Forgotten:
    """The result of a run and the record of its audit, None where it was not audited."""

    result: Result
    record: Audit | None


@dataclass(frozen=True)
class ForgetJob:
    """A new run of `letheon forget`."""

    given: ForgetOptions

    @cached_property
    def request(self) -> Request:
        """The request, read and checked; without the retain rows that the model would write."""
        return self.given.rows.read()

    @cached_property
    def recipe(self) -> Recipe | StandaloneMethod:
        """The method, with --tokens put into it."""
        method = self.given.method
        if not method.method:
            request = None if self.given.rows.writes_retain else self.request
            return default_method(self.given.model, request, options=self.options, tokens=method.tokens)
        recipe = read_method(method.method)
        if not method.tokens:
            return recipe
        if isinstance(recipe, StandaloneMethod):
            raise InputError(f"{recipe} looks at no tokens in particular", "leave --tokens out")
        return recipe.with_option("tokens", method.tokens)

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """The settings that were given; no loop that looks at facts ends a run on whole answers (--tokens answer)."""
        whole = self.given.method.tokens == "answer"
        return {**({"stop": "steps"} if whole else {}), **self.given.training}

    @cached_property
    def settings(self) -> tuple[ForgetSettings, TrainSettings]:
        """All settings: those given, else the method's own, else the defaults."""
        return resolve(self.recipe, None, None, self.options)

    @cached_property
    def second(self) -> SecondStage | None:
        """The second stage of a deep run, checked; None of a shallow one."""
        request = None if self.given.rows.writes_retain else self.request
        return check_depth(self.recipe, *self.settings, request, self.given.model)

    def check(self) -> None:
        """Refuse everything that can be refused before a model is loaded."""
        given = self.given
        if not given.model:
            raise InputError("no model is given", "letheon forget MODEL --forget rows.jsonl ...")
        request, (settings, training) = self.request, self.settings
        check_memory(self.recipe, training)
        if not given.rows.writes_retain:
            check(self.recipe, request, settings.stop)
        check_loadable(given.model)
        check_model(self.recipe, given.model, training.attention)
        _ = self.second  # refuses what the second stage cannot do
        check_reference(given.audit.reference, None if given.rows.writes_retain else request)
        if given.audit.audit:
            load_profile(given.audit.profile)
            given.audit.general_tasks()
        refuse_folder(given.folders.out)
        check_device(given.device)
        check_ledger(given.audit.ledger, [request], model=given.model, out=given.folders.out)

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        self.check()
        given, request, (settings, training) = self.given, self.request, self.settings
        steps = planned_steps(self.recipe, request, settings, training)
        return {
            "model": given.model,
            "method": full_name(self.recipe, self.second),
            "parts": self.recipe.config(),
            "rows": {name: len(getattr(request, name)) for name in SETS},
            "retain": "written by the model" if given.rows.writes_retain else f"{len(request.retain)} rows",
            "steps": f"{steps}, then at most {self.second.steps}" if self.second else steps,
            "settings": dataclasses.asdict(settings),
            "training": dataclasses.asdict(training),
            **({"deep": self.second.config()} if self.second else {}),
            "out": str(given.folders.out),
            "audit": given.audit.profile if given.audit.audit else None,
            "ledger": given.audit.ledger or None,
        }

    def work(self) -> Forgotten:
        """Forget, then audit against the model as it was."""
        self.check()
        given, request, (settings, training) = self.given, self.request, self.settings
        shards = None if self.second else sharded_device(given.model, self.recipe, training, given.device)
        if shards is not None and given.rows.writes_retain:
            problem = "--retain auto with weights in shards: no process has the model that would write the rows"
            raise InputError(problem, "write them in a run of one process, and give their file; or use --shard off")
        model = load_placed(given.model, self.recipe, training, given.device, shards)
        if given.rows.writes_retain:
            request = dataclasses.replace(request, retain=tuple(write_retain_rows(model, request.forget)))
            check(self.recipe, request)
        labels = dataclasses.asdict(given.audit)
        folder = given.audit.lm_eval_path
        labels["lm_eval_path"] = str(folder.absolute()) if folder else ""
        labels["ledger"] = str(Path(given.audit.ledger).absolute()) if given.audit.ledger else ""
        chosen = {"recipe": self.recipe.config(), "settings": settings, "training": training}
        with deleting(given.audit.ledger, model, [request], str(self.recipe), chosen):
            result = forget(
                model,
                request,
                self.recipe,
                out=given.folders.out,
                settings=settings,
                training=training,
                device=given.device,
                labels=labels,
            )
        return _finished(result, given.folders.out, given.audit, given.device)


@dataclass(frozen=True)
class ResumedForget:
    """A run of `letheon forget` that is continued from its folder."""

    given: ForgetOptions
    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        self.given.refuse_changes()
        return Run.open(self.folder).config

    @property
    def audit(self) -> AuditOptions:
        """The audit that the run was started with; --no-audit, --no-cache and --ledger given now go before it."""
        given, labels = self.given.audit, self.config.get("labels", {})
        return AuditOptions(
            audit=given.audit and labels.get("audit", True),
            profile=labels.get("profile", given.profile),
            reference=labels.get("reference", ""),
            ledger=given.ledger or labels.get("ledger", ""),
            lm_eval=labels.get("lm_eval", ""),
            lm_eval_path=Path(folder) if (folder := labels.get("lm_eval_path")) else None,
            cache=given.cache and labels.get("cache", True),
        )

    def plan(self) -> dict[str, Any]:
        """Return the folder and the configuration of the run."""
        return {"resume": str(self.folder), **self.config}

    def work(self) -> Forgotten:
        """Continue the run, then audit against the model as it was."""
        audit = self.audit
        check_ledger(audit.ledger, [Request.read(self.folder / "request.json")] if audit.ledger else [])
        result = resume(self.folder, self.given.device)
        return _finished(result, self.folder, audit, self.given.device)


def forget_job(given: ForgetOptions) -> ForgetJob | ResumedForget:
    """Return the job of a new run, or of one that is continued."""
    return ForgetJob(given) if given.folders.resume is None else ResumedForget(given, given.folders.resume)


def _finished(result: Result, folder: Path, options: AuditOptions, device: str) -> Forgotten:
    """Draw the circuit where there is one; audit; write record, report and the ledger's entry.

    Every process of a job calls this; what is written is written by process 0.
    """
    config = Run.open(folder).config
    if is_main_process() and any("group" in row for row in result.table):
        title = f"The circuit of {config['model']} that was found for this request"
        atomic_write_text(folder / "circuit.svg", circuit_map(result.table, title))
    record = _audited(result, folder, config, options, check_device(device)) if options.audit else None
    if not is_main_process():
        return Forgotten(result, None)
    leave_the_job()
    return Forgotten(result, finish_run(options.ledger, result, record, config["model"]))


def _audited(result: Result, folder: Path, config: Mapping[str, Any], options: AuditOptions, device: str) -> Audit:
    """Audit the result against the model as it was, shared out over the processes of a job."""
    training = TrainSettings(**config["training"])
    words, remedy = f"the audit was stopped; the model is saved in {folder}/model", f"audit it with --resume {folder}"
    with ended_by_signals(words, remedy), each_alone() as workers:  # all have entered: process 0 has saved the model
        after = result.model
        if not workers.is_main:
            after.model = None  # frees its memory; in shards it has no weights here
            after = load(folder / "model", device=device, base=training.base)
            after.name = result.model.name
        return audit(
            config["model"],
            after,
            result.request,
            reference=resolve_reference(
                options.reference, result.request, seed=training.seed, device=device, workers=workers
            ),
            profile=options.profile,
            general_tasks=options.general_tasks(),
            seed=training.seed,
            device=device,
            method=config["method"],
            cache=options.cache,
        )
