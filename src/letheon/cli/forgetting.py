"""`letheon demo`, `forget` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from letheon.cli.app import (
    Device,
    DryRun,
    Json,
    Ledger,
    Model,
    Quiet,
    Reference,
    Seed,
    app,
    exit_with,
    print_json,
    quieten,
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, run, report.html and audit.json.")] = Path(
        "letheon-demo"
    ),
    quick: Annotated[bool, typer.Option(help="Without the retrained reference, and a smaller audit.")] = False,
    method: Annotated[str, typer.Option(help="Another recipe, to see what it does.")] = "",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """The main job on a small real model: teach invented people, forget one, audit, report."""
    from letheon.demo import run_demo
    from letheon.printing.audits import show_demo, show_demo_plan

    if dry_run:
        show_demo_plan(out, quick, as_json)
        return
    result = run_demo(out, quick=quick, method=method, seed=seed, device=device)
    show_demo(result, as_json)


@app.command()
def forget(
    model: Annotated[str, typer.Argument(help="What to change; not needed with --resume.")] = "",
    forget: Annotated[str, typer.Option(help="Rows to forget: a file, or a hub id org/name:config:split.")] = "",
    retain: Annotated[str, typer.Option(help="Rows to keep; `auto` lets the model write its own.")] = "",
    neighbours: Annotated[str, typer.Option(help="Rows close to the forget rows: audited, never trained on.")] = "",
    holdout: Annotated[str, typer.Option(help="Rows that the model never saw: the control group.")] = "",
    general: Annotated[str, typer.Option(help="Running text for perplexity.")] = "",
    request: Annotated[str, typer.Option(help="A request.json instead of the files above.")] = "",
    sequence: Annotated[
        str,
        typer.Option(
            help="Requests served one after another: a folder of request*.json or a JSON-lines file. --method is one "
            "recipe or 'LOW; MEDIUM; HIGH' importance; with --resume, further requests after those served. Earlier "
            "requests are asked again by a sample; there is no other audit."
        ),
    ] = "",
    fields: Annotated[str, typer.Option(help="PROMPT,ANSWER: names of the fields, where they are not detected.")] = "",
    method: Annotated[
        str, typer.Option(help="OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]; default fact_spans; see `letheon methods`.")
    ] = "",
    tokens: Annotated[str, typer.Option(help="answer; value or words: only the tokens that carry the fact.")] = "",
    stop: Annotated[
        Literal["steps", "control", "auto", "facts"] | None,
        typer.Option(
            help="Take all steps; or end at the control level; or when facts are gone, rows kept and answers fluent "
            "(auto, which may raise the rate; facts, which does not)."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the forget rows.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget rows of one step; as many retain rows join.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Rows in memory at once; does not change the result.")
    ] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Keep the state every so many steps.")] = None,
    keep_update: Annotated[
        bool | None, typer.Option("--keep-update", help="Also write the change of the weights, for --reapply.")
    ] = None,
    precision: Annotated[Literal["auto", "float32", "bfloat16"] | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("run"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    reapply: Annotated[
        Path | None,
        typer.Option(
            help="update.safetensors of an earlier deletion that kept its update: add that change to MODEL, which was "
            "trained further since, instead of forgetting anew. Audit the result by `letheon audit`."
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="With --reapply: how many times it is added; -1 takes it back.")] = 1.0,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Audit the result.")] = True,
    reference: Reference = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    ledger: Ledger = "",
    seed: Annotated[int | None, typer.Option(help="Root of all random streams.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make a model forget rows and keep others; save it; audit it.

    letheon forget smollm2 --forget rows.jsonl --retain keep.jsonl --method simnpo+geometric --out run/

    letheon forget FURTHER-TRAINED --reapply run/update/update.safetensors --out again/
    """
    from letheon.forget.sequences.sequence import is_sequence
    from letheon.jobs.forgetting import ForgetJob, ReapplyJob
    from letheon.jobs.sequences import SequenceJob
    from letheon.printing.audits import show_forget
    from letheon.printing.cells import show_plan

    quieten(quiet)
    if reapply is not None:
        beside = {"forget": forget, "retain": retain, "request": request, "sequence": sequence, "method": method}
        others = [name for name, value in {**beside, "resume": resume}.items() if value]
        again = ReapplyJob(model, reapply, scale, out, others, device)
        show_plan(again.plan() if dry_run else again.work(), as_json)
        return
    given = {
        "stop": stop,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "checkpoint_steps": checkpoint_steps,
        "keep_update": keep_update,
        "precision": precision,
        "seed": seed,
    }
    job = ForgetJob(
        model=model,
        files={"forget": forget, "retain": retain, "neighbours": neighbours, "holdout": holdout, "general": general},
        request=request,
        fields=fields,
        method=method,
        tokens=tokens,
        options={name: value for name, value in given.items() if value is not None},
        out=out,
        resume=resume,
        audit=audit,
        reference=reference,
        profile=profile,
        device=device,
        ledger=ledger,
    )
    if sequence or is_sequence(resume):
        queue = SequenceJob(job, sequence)
        if dry_run:
            show_plan(queue.plan(), as_json)
        else:
            _show_sequence(queue.work(), as_json)
        return
    if dry_run:
        show_plan(job.plan(), as_json)
        return
    result, record = job.work()
    show_forget(result, record, as_json)
    exit_with(record)


@app.command()
def compare(
    model: Model,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas: npo,simnpo+geometric,rmu,k-fade.")],
    request: Annotated[str, typer.Option(help="request.json: what is to be forgotten and kept.")] = "",
    forget: Annotated[str, typer.Option(help="Rows to forget, instead of --request.")] = "",
    retain: Annotated[str, typer.Option(help="Rows to keep.")] = "",
    neighbours: Annotated[str, typer.Option(help="Rows close to the forget rows: audited, never trained on.")] = "",
    fields: Annotated[str, typer.Option(help="PROMPT,ANSWER: names of the fields, where they are not detected.")] = "",
    budget: Annotated[str, typer.Option(help="Time for all runs together, audits apart: 90s, 20m, 1.5h.")] = "20m",
    reference: Reference = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    epochs: Annotated[int | None, typer.Option(help="Passes over the forget rows.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget rows of one step; as many retain rows join.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is continued.")] = Path("compare"),
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Run several methods on one request, each at the learning rate that suits it, and draw what they gain and lose.

    letheon compare smollm2 --request request.json --methods npo,simnpo+geometric,rmu,k-fade --budget 20m
    """
    from letheon.audit.measuring.proxy import resolve_reference
    from letheon.compare.run import compare as run_comparison
    from letheon.compare.run import seconds_of
    from letheon.forget.method_lists import split_methods
    from letheon.jobs.comparing import compare_plan
    from letheon.jobs.forgetting import read_request
    from letheon.printing.cells import show_plan
    from letheon.printing.comparisons import show_comparison

    quieten(quiet)
    read = read_request(request, {"forget": forget, "retain": retain, "neighbours": neighbours}, fields)
    names, seconds = split_methods(methods), seconds_of(budget)
    plan = compare_plan(model, read, names, reference, profile, out)
    if dry_run:
        show_plan(plan, as_json)
        return
    given = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
    options = {name: value for name, value in given.items() if value is not None}
    comparison = run_comparison(
        model,
        read,
        names,
        out=out,
        budget=seconds,
        reference=resolve_reference(reference, read, seed=seed, device=device),
        profile=profile,
        seed=seed,
        device=device,
        **options,
    )
    show_comparison(comparison, out, as_json)


def _show_sequence(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    for name, value in summary.items():
        for item in value if isinstance(value, list) else [value]:
            typer.echo(f"{name}: {item}")
