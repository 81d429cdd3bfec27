"""`letheon forget`: gather a request, check it, run, audit; or add an earlier change again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, deleting, finish_run
from letheon.audit.measuring.proxy import check_reference, resolve_reference
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.audit.verdict import load_profile
from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError, Interrupted
from letheon.core.model.models import check_device, check_loadable, load
from letheon.core.runs import Run
from letheon.core.training.loop import is_main_process
from letheon.forget.reapply import read_update, reapply
from letheon.forget.recipe import Recipe, StandaloneMethod, read_method
from letheon.forget.recipe_job import planned_steps
from letheon.forget.request import Request
from letheon.forget.run import check, forget, refuse_folder
from letheon.forget.run import resume as resume_run
from letheon.forget.settings import Result, resolve

AUTO = "auto"
DEFAULT_METHOD = "fact_spans"


@dataclass
class ForgetJob:
    """`letheon forget` with all that was given on the command line."""

    model: str
    files: dict[str, str]
    request: str
    fields: str
    method: str
    tokens: str
    options: dict[str, Any]
    out: Path
    resume: Path | None
    audit: bool
    reference: str
    profile: str
    device: str
    ledger: str = ""

    def read_request(self) -> Request:
        """The request from a request.json or from files; without a model."""
        return read_request(self.request, self.files, self.fields)

    def recipe(self) -> Recipe | StandaloneMethod:
        """The method, with --tokens put into it."""
        recipe = read_method(self.method or DEFAULT_METHOD)
        if not self.tokens:
            return recipe
        if isinstance(recipe, StandaloneMethod):
            raise InputError(f"{recipe} looks at no tokens in particular", "leave --tokens out")
        return recipe.with_option("tokens", self.tokens)

    def checked(self) -> tuple[Request, Recipe | StandaloneMethod]:
        """Everything that can be refused before a model is loaded is refused here."""
        if not self.model:
            raise InputError("no model is given", "letheon forget MODEL --forget rows.jsonl ...")
        request, recipe = self.read_request(), self.recipe()
        settings, _ = resolve(recipe, None, None, self.options)
        if self.files["retain"] != AUTO:
            check(recipe, request, settings.stop)
        check_loadable(self.model)
        check_reference(self.reference, None if self.files["retain"] == AUTO else request)
        if self.audit:
            load_profile(self.profile)
        refuse_folder(self.out)
        check_device(self.device)
        check_ledger(self.ledger, [request], model=self.model, out=self.out)
        return request, recipe

    def plan(self) -> dict[str, Any]:
        """What would be done, for --dry-run."""
        if self.resume:
            self.refuse_changes()
            return {"resume": str(self.resume), **Run.open(self.resume).config}
        request, recipe = self.checked()
        settings, training = resolve(recipe, None, None, self.options)
        return {
            "model": self.model,
            "method": str(recipe),
            "parts": recipe.config(),
            "rows": {name: len(getattr(request, name)) for name in self.files},
            "retain": "written by the model" if self.files["retain"] == AUTO else f"{len(request.retain)} rows",
            "steps": planned_steps(recipe, request, settings, training),
            "settings": dataclasses.asdict(settings),
            "training": dataclasses.asdict(training),
            "out": str(self.out),
            "audit": self.profile if self.audit else None,
            "ledger": self.ledger or None,
        }

    def refuse_changes(self) -> None:
        """A resumed run has its settings already; what would change them is refused, not passed over."""
        given = [name for name, source in self.files.items() if source] + list(self.options)
        given += [name for name in ("model", "request", "method", "tokens") if getattr(self, name)]
        if given:
            raise InputError(
                f"--resume and {', '.join(given)} are given; a resumed run keeps the settings that it was started with",
                f"leave them out, or start a new run with another --out than {self.resume}",
            )

    def work(self) -> tuple[Result, Audit | None]:
        """Forget, then audit against the model as it was."""
        if self.resume:
            self.refuse_changes()
            config = Run.open(self.resume).config
            self.options["seed"] = config["training"]["seed"]
            labels = config.get("labels", {})
            self.audit = self.audit and labels.get("audit", True)
            self.profile, self.reference = labels.get("profile", self.profile), labels.get("reference", "")
            self.ledger = self.ledger or labels.get("ledger", "")
            check_ledger(self.ledger, [Request.read(self.resume / "request.json")] if self.ledger else [])
            result = resume_run(self.resume, self.device)
            before = config["model"]
        else:
            request, recipe = self.checked()
            model = load(self.model, device=self.device)
            if self.files["retain"] == AUTO:
                from letheon.forget.auto_retain import write_retain_rows

                request = dataclasses.replace(request, retain=tuple(write_retain_rows(model, request.forget)))
                check(recipe, request)
            before = self.model
            labels = {"audit": self.audit, "profile": self.profile, "reference": self.reference}
            labels["ledger"] = str(Path(self.ledger).absolute()) if self.ledger else ""
            settings, training = resolve(recipe, None, None, self.options)
            chosen = {"recipe": recipe.config(), "settings": settings, "training": training}
            with deleting(self.ledger, model, [request], str(recipe), chosen):
                result = forget(model, request, recipe, out=self.out, labels=labels, **self.options)
        if result.folder is not None and any("group" in row for row in result.table):
            from letheon.forget.circuit_map import circuit_map

            words = f"The circuit of {before} that was found for this request"
            atomic_write_text(result.folder / "circuit.svg", circuit_map(result.table, words))
        return result, self._audit(result, before)

    def _audit(self, result: Result, before: str) -> Audit | None:
        """Audit; write record, report and the ledger's entry."""
        if result.folder is None or not is_main_process():
            return None
        seed = self.options.get("seed", 0)
        try:
            record = None
            if self.audit:
                record = audit(
                    before,
                    result.model,
                    result.request,
                    reference=resolve_reference(self.reference, result.request, seed=seed, device=self.device),
                    profile=self.profile,
                    seed=seed,
                    device=self.device,
                )
        except KeyboardInterrupt:
            words = f"the audit was stopped; the model is saved in {result.folder}/model"
            raise Interrupted(words, f"audit it with --resume {result.folder}") from None
        return finish_run(self.ledger, result, record, before)


def read_request(request: str, files: dict[str, str], fields: str = "") -> Request:
    """A request from a request.json, or from a file a set; `auto` and empty names are passed over."""
    if request:
        if files["forget"]:
            raise InputError("both --request and --forget are given", "give one of them")
        return Request.read(request)
    if not files["forget"]:
        raise InputError("nothing to forget is given", "give --forget rows.jsonl, or --request request.json")
    sets = {name: source for name, source in files.items() if source and source != AUTO}
    return Request.from_files(**sets, fields=_fields(fields))


def _fields(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"--fields {text!r}", "write PROMPT,ANSWER, for example --fields question,reply")
    return names[0], names[1]


@dataclass(frozen=True)
class ReapplyJob:
    """`letheon forget MODEL --reapply UPDATE`.

    Attributes:
        others: options given beside it that say what to forget anew, by name.
    """

    model: str
    update: Path
    scale: float
    out: Path
    others: Sequence[str] = ()
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """What would be done, after every check that needs no model."""
        if self.others:
            raise InputError(
                f"--reapply beside --{self.others[0]}",
                "give one of the two: it adds an earlier change, and forgets nothing",
            )
        if not self.model:
            raise InputError("no model was given", "write `letheon forget MODEL --reapply update.safetensors`")
        check_loadable(self.model)
        check_writable(self.out)
        read_update(self.update)
        return {"model": self.model, "update": str(self.update), "scale": self.scale, "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Add the update to the weights and save the result; returns what was done."""
        self.plan()
        change, loaded, scale = read_update(self.update), load(self.model, device=self.device), self.scale
        reapply(loaded, change, scale)
        card = f"# {self.model} with the update {self.update.name} added again, {scale:g} times\n"
        loaded.save(self.out / "model", card=card)
        largest = max(float(tensor.abs().max()) for tensor in change.values()) * abs(scale)
        return {"model": str(self.out / "model"), "weights": len(change), "largest change": largest, "scale": scale}
