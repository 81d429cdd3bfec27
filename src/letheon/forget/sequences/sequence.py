"""`forget_sequence`: serve deletion requests one after another; keep the state after each, continue what was killed.

The method is in `letheon.forget.sequences.queue`; here are the run's folder and the files that requests
come in. One process.

Paper:   FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning, arXiv 2601.21682.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from letheon.core.atomic import plain, read_json, write_json
from letheon.core.errors import InputError, Interrupted
from letheon.core.hardware import resolve_precision
from letheon.core.model.attention import attending
from letheon.core.model.card import card_head
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.rows.examples import parse_rows
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints, tensors_of, write_checkpoint
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request, rows_hash
from letheon.forget.run import check, check_model, refuse_folder
from letheon.forget.sequences.queue import Queue, Report, SequenceSettings
from letheon.forget.sequences.redundancy import StateEncoder, chunks_of, middle
from letheon.forget.settings import ForgetSettings

FORGET, TRAINING = ForgetSettings(epochs=3), TrainSettings(learning_rate=1e-5)  # 1 to 3, about 1e-5


@dataclass
class SequenceResult:
    """A served queue: the model (the given object, changed in place), one report per request, the folder."""

    model: LanguageModel
    reports: list[Report]
    folder: Path | None = None


def forget_sequence(
    model: LanguageModel | str | Path,
    requests: Sequence[Request],
    out: str | Path | None = None,
    *,
    settings: SequenceSettings | None = None,
    forget: ForgetSettings = FORGET,
    training: TrainSettings = TRAINING,
    device: str = "auto",
    resume: bool = False,
) -> SequenceResult:
    """Serve deletion requests one after another.

    Args:
        model: a loaded model (changed in place), or what `letheon.load` takes.
        out: the run's folder: requests, a report a request (`metrics.jsonl`), state after each, `model/` at the end.
        resume: continue the run in `out` with the settings that it has; `requests` may have grown at the end. The
            model is the one that the run began with.

    Raises:
        InputError: before a model is loaded, for what cannot work.
        TrainingError: a loss that is not finite, or no weight moved; the requests before it are kept.
        Interrupted: stopped by a signal, resumable.
    """
    settings = settings or SequenceSettings()
    run = _opened(out) if resume else None
    if run is not None:
        settings, forget, training = settings_of(run)
    check_sequence(requests, settings, forget)
    if run is None and out is not None:
        refuse_folder(Path(out))
    if training.shard == "on":
        raise InputError("shard=on for a queue, which compares and merges whole weights", "leave shard out")
    if training.base != "float32":
        raise InputError(f"base={training.base} for a queue, whose changes are merged", "leave base out")
    if not isinstance(model, LanguageModel):
        check_loadable(model)
    for recipe in settings.recipes().values():
        check_model(recipe, model)
    model = load(model, device=device)
    training = dataclasses.replace(training, precision=resolve_precision(training.precision, model.device))
    queue = Queue(model, settings, forget, training)
    for request in requests:  # a row that does not fit is refused before anything is written
        model.encoder().encode_all(
            chunks_of(model, request.forget, settings.chunk), f"request {request.id}, forget row"
        )
        model.encoder().encode_all(request.retain, f"request {request.id}, retain row")
    if out is None:
        return SequenceResult(model, _serve(queue, requests, None))
    run = run or _new_run(Path(out), queue, requests)
    if run.config["start"] != model.parameters_hash():
        raise InputError(f"{model.name} has other weights than {out} was started with", "give the model that it had")
    with run.lock():
        run.tidy()
        _take_up(queue, run, requests)
        _write_requests(run.folder, requests)
        reports = _serve(queue, requests, run)
        model.save(run.folder / "model", card=_card(model, settings, len(requests)))
        write_json(run.folder / "result.json", {"requests": len(reports), "weights": model.parameters_hash()})
    return SequenceResult(model, reports, run.folder)


def _serve(queue: Queue, requests: Sequence[Request], run: Run | None) -> list[Report]:
    """Serve the remaining requests and save the state after each."""
    with attending(queue.model.base(), queue.training.attention):
        if queue.thresholds is None:
            queue.calibrate(requests[: queue.settings.calibration])
        for request in requests[len(queue.served) :]:
            try:
                queue.serve(request)
            except (Interrupted, KeyboardInterrupt):
                where = f"stopped in request {len(queue.served) + 1} of {len(requests)} ({request.id})"
                if run is None:
                    raise Interrupted(where, "nothing was kept: run it again") from None
                kept, remedy = f"{where}; those before it are kept", f"continue with --resume {run.folder}"
                raise Interrupted(kept, remedy) from None
            if run is not None:
                _keep(queue, run)
    return queue.reports


def check_sequence(requests: Sequence[Request], settings: SequenceSettings, forget: ForgetSettings) -> None:
    """Refuse a method that cannot work on a request (`InputError`), before a model is loaded."""
    if not requests:
        raise InputError("the queue has no requests", "give at least one")
    if forget.depth != "shallow":
        raise InputError(f"depth={forget.depth} with a queue, whose requests would each be distilled", "leave it out")
    recipes = settings.recipes().values()
    for request in requests:
        for recipe in recipes:
            try:
                check(recipe, request, forget.stop)
            except InputError as error:
                raise InputError(f"request {request.id}: {error.problem}", error.remedy) from None


def resume_sequence(folder: str | Path, requests: Sequence[Request] = (), device: str = "auto") -> SequenceResult:
    """Continue a queue from its folder alone, or with further requests appended."""
    run = _opened(folder)
    given = requests or [Request.read(path) for path in sorted((run.folder / "requests").glob("request-*.json"))]
    return forget_sequence(run.config["model"], given, folder, device=device, resume=True)


# The run's folder: the state is what later requests depend on; the reports lie in the metrics -----------------------


def is_sequence(folder: Path | None) -> bool:
    """Whether a run's folder holds a queue."""
    return folder is not None and (folder / "config.json").is_file() and "sequence" in Run(folder).config


def _opened(folder: str | Path | None) -> Run:
    if folder is None:
        raise InputError("there is no folder to resume from", "give out=")
    run = Run.open(Path(folder))
    if "sequence" not in run.config:
        raise InputError(f"{folder} holds no queue of requests", "give the folder of a run with --sequence")
    return run


def settings_of(run: Run) -> tuple[SequenceSettings, ForgetSettings, TrainSettings]:
    """The settings that a run was started with."""
    config = run.config
    given = config["sequence"]
    thresholds = tuple(given["thresholds"]) if given["thresholds"] else None
    sequence = SequenceSettings(**{**given, "thresholds": thresholds})
    return sequence, ForgetSettings(**config["settings"]), TrainSettings(**config["training"])


def _new_run(out: Path, queue: Queue, requests: Sequence[Request]) -> Run:
    _write_requests(out, requests)  # before the configuration, which makes the folder a run
    model = queue.model
    config = {"model": model.name, "start": model.parameters_hash(), "sequence": plain(queue.settings)}
    return Run.create(out, {**config, "settings": plain(queue.forget), "training": plain(queue.training)})


def _write_requests(out: Path, requests: Sequence[Request]) -> None:
    for i, request in enumerate(requests):
        request.write(out / "requests" / f"request-{i:06d}.json")


def _keep(queue: Queue, run: Run) -> None:
    """Write the last report, then the state after it: a report without its state is dropped on resumption."""
    served = len(queue.served)
    run.log(step=served, **dataclasses.asdict(queue.reports[-1]))
    weights = {name: parameter.detach().contiguous() for name, parameter in queue.model.model.named_parameters()}
    tensors = {"weights": weights, "history": {"embeddings": queue.history.contiguous()}}
    if queue.encoder is not None:
        tensors["history"] |= {"mean": queue.encoder.mean, "shared": queue.encoder.shared.contiguous()}
    write_checkpoint(run, served, tensors, {"served": served, "thresholds": queue.thresholds})


def _take_up(queue: Queue, run: Run, requests: Sequence[Request]) -> None:
    """Continue from the newest whole state, if there is one; the model has the weights that the queue began with.

    Raises:
        InputError: a request that was served is missing, or has other rows now.
    """
    found = checkpoints(run)
    if not found:
        run.keep_metrics(0)
        return
    state = read_json(found[-1] / "step.json")
    run.keep_metrics(state["served"])
    reports = read_reports(run)
    if len(requests) < len(reports):
        raise InputError(f"{len(reports)} requests were served, {len(requests)} are given", "give all, in their order")
    for report, request in zip(reports, requests, strict=False):
        if report.rows != rows_hash(request):
            raise InputError(
                f"request {report.number} ({request.id}) has other rows than when it was served",
                "give the served requests as they were; new ones come after them",
            )
    history = tensors_of(found[-1], "history", device=str(queue.model.device))
    weights = tensors_of(found[-1], "weights")
    queue.reports, queue.served = reports, list(requests[: len(reports)])
    queue.thresholds = (state["thresholds"][0], state["thresholds"][1])
    queue.history = history["embeddings"]
    queue.encoder = StateEncoder(middle(queue.model), history["mean"], history["shared"])
    with torch.no_grad():
        for name, parameter in queue.model.model.named_parameters():
            parameter.copy_(weights[name])


def read_reports(run: Run) -> list[Report]:
    """The reports of a run, in order."""
    path = run.folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    names = {item.name for item in dataclasses.fields(Report)}
    return [Report(**{name: value for name, value in json.loads(line).items() if name in names}) for line in lines]


def _card(model: LanguageModel, settings: SequenceSettings, requests: int) -> str:
    """Write the saved model's README.md; it names the method and never the forgotten rows."""
    return (
        f"{card_head(model.name, model.has_adapter)}"
        f"# A model after unlearning\n\n{requests} deletion requests, one after another, by `{settings.low}`, "
        f"`{settings.medium}` or `{settings.high}`. Approximate unlearning is not proof of erasure.\n"
    )


# The files that requests come in ------------------------------------------------------------------------------------


def read_requests(source: str | Path) -> list[Request]:
    """Read the requests of a folder (`request*.json`, sorted by name) or of a JSON-lines file, one per line.

    Raises:
        InputError: names the file and line, and what was found.
    """
    source = Path(source)
    if source.is_dir():
        files = sorted(source.glob("request*.json"))
        if not files:
            raise InputError(f"{source} holds no request*.json", "name them request-001.json, request-002.json, ...")
        return [Request.read(path) for path in files]
    if not source.is_file():
        raise InputError(f"{source} does not exist", "give a folder of request*.json, or a JSON-lines file")
    try:
        lines = source.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})", "save the file as UTF-8") from None
    found = [_request(line, f"{source}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise InputError(f"{source} holds no requests", "write one a line")
    return found


def _request(line: str, where: str) -> Request:
    """Read a request from one line; its sets are lists of rows."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg})", "mend or remove that line") from None
    names = ("forget", "retain", "id", "reason", "received", "due")
    if not isinstance(content, dict) or "forget" not in content or not set(content) <= set(names):
        raise InputError(f"{where}: no request", "a line is an object with forget, and perhaps " + ", ".join(names[1:]))
    sets = {name: content.pop(name, None) or [] for name in ("forget", "retain")}
    if not all(isinstance(rows, list) for rows in sets.values()):
        raise InputError(f"{where}: forget and retain must be lists of rows", "use a folder of request*.json for files")
    forget, retain = (tuple(parse_rows(rows, f"{where}, {name}", prefix=name)) for name, rows in sets.items())
    return Request(forget, retain, **content)
