"""The command line: one verb a job; parse, call the library, print. No logic lives here.

Exit codes: 0 done; 1 it went wrong in a way that is not the input's; 2 bad input, nothing was written; 3 done, and the
audit's verdict is not a pass; 4 training could not go on, the last good state is kept; 75 interrupted, resumable;
130 interrupted, nothing kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from letheon.core.errors import InputError, LetheonError

app = typer.Typer(
    help="Edit, protect and examine what neural networks remember.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 bad input, 3 verdict is not a pass, 4 training stopped, "
    "75 interrupted and resumable, 130 interrupted.",
)
papers_app = typer.Typer(help="The 57 papers: list them, read one, measure its claim.")
app.add_typer(papers_app, name="papers")

NOT_A_PASS, INTERRUPTED = 3, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Root of all random streams.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Model = Annotated[str, typer.Argument(help="smollm2, tiny, a Hugging Face id, a folder, or a PEFT adapter's folder.")]


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
    from letheon.printing import show_demo, show_demo_plan

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
    tokens: Annotated[str, typer.Option(help="answer, or value: only the tokens that carry the fact.")] = "",
    stop: Annotated[
        Literal["steps", "control"] | None, typer.Option(help="Take all steps, or end at the control level.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the forget rows.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget rows of one step; as many retain rows join.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Rows in memory at once; does not change the result.")
    ] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Keep the state every so many steps.")] = None,
    precision: Annotated[Literal["auto", "float32", "bfloat16"] | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("run"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Audit the result.")] = True,
    reference: Annotated[str, typer.Option(help="A model trained without the forget rows, for the audit.")] = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    seed: Annotated[int | None, typer.Option(help="Root of all random streams.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make a model forget rows and keep others; save it; audit it.

    letheon forget smollm2 --forget rows.jsonl --retain keep.jsonl --method simnpo+geometric --out run/
    """
    from letheon.forget.sequence import is_sequence
    from letheon.job import ForgetJob, SequenceJob
    from letheon.printing import show_forget, show_plan

    _quiet(quiet)
    given = {
        "stop": stop,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "checkpoint_steps": checkpoint_steps,
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
    _exit_with(record)


@app.command()
def audit(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after the deletion, made by any tool.")],
    request: Annotated[Path, typer.Option(help="request.json: what was to be forgotten and kept.")],
    reference: Annotated[str, typer.Option(help="A model trained without the forget rows.")] = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    out: Annotated[Path, typer.Option(help="Folder for audit.json and report.html.")] = Path("audit"),
    quick: Annotated[bool, typer.Option(help="Fewer rows and steps.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure what a deletion did and decide by criteria fixed beforehand."""
    from letheon.job import audit_plan, run_audit
    from letheon.printing import show_audit, show_plan

    _quiet(quiet)
    if dry_run:
        show_plan(audit_plan(before, after, request, reference, profile, out), as_json)
        return
    record = run_audit(before, after, request, reference, profile, out, quick, seed, device)
    show_audit(record, out, as_json)
    _exit_with(record)


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
    reference: Annotated[str, typer.Option(help="A model trained without the forget rows.")] = "",
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
    from letheon.compare.run import compare as run_comparison
    from letheon.compare.run import seconds_of, split_methods
    from letheon.job import compare_plan, read_request
    from letheon.printing import show_comparison, show_plan

    _quiet(quiet)
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
        reference=reference or None,
        profile=profile,
        seed=seed,
        device=device,
        **options,
    )
    show_comparison(comparison, out, as_json)


@app.command()
def reapply(
    model: Model,
    update: Annotated[Path, typer.Argument(help="update.safetensors of a run that kept its update.")],
    scale: Annotated[float, typer.Option(help="How many times the update is added; -1 takes it back.")] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("reapplied"),
    device: Device = "auto",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Add the change that an earlier deletion made to a model that was trained further since."""
    from letheon.job import reapply_update
    from letheon.printing import show_plan

    if dry_run:
        show_plan({"model": model, "update": str(update), "scale": scale, "out": str(out)}, as_json)
        return
    show_plan(reapply_update(model, update, scale, out, device), as_json)


@app.command()
def methods(
    kind: Annotated[str, typer.Argument(help="Only objective, update, scope or sampler.")] = "",
    markdown: Annotated[bool, typer.Option(help="The table that the README holds.")] = False,
    as_json: Json = False,
) -> None:
    """What there is: parts of a recipe, what each needs, its badge and its paper."""
    from letheon.printing import methods_markdown, show_methods

    if markdown:
        typer.echo(methods_markdown())
    else:
        show_methods(kind, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, device, threads, measured speed, cached models, extras and what each unlocks."""
    from letheon.doctor import examine
    from letheon.printing import show_doctor

    show_doctor(examine(), as_json)


@papers_app.callback(invoke_without_command=True)
def papers(context: typer.Context, as_json: Json = False) -> None:
    """List the papers with badge and verdict."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from letheon.papers.page import list_papers

        list_papers(as_json)


@papers_app.command("show")
def papers_show(
    context: typer.Context, key: Annotated[str, typer.Argument(help="Key, number or arXiv id.")], as_json: Json = False
) -> None:
    """One paper: citation, claim, methods, badge and why, recorded result."""
    from letheon.papers.page import show_paper

    show_paper(key, as_json or bool(context.obj))


@papers_app.command("run")
def papers_run(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Key, number or arXiv id.")],
    full: Annotated[bool, typer.Option("--full/--fast", help="The full scale, or the one that takes minutes.")] = False,
    seeds: Annotated[int, typer.Option(help="How many seeds; 0 takes the scale's own.")] = 0,
    record: Annotated[bool, typer.Option("--record", help="Store the result in the catalogue.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and outcome.json.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure a paper's claim and say whether it holds."""
    from letheon.papers.catalogue import Scale, paper
    from letheon.papers.page import run_paper

    scale = Scale("full" if full else "fast", tuple(range(seeds or (5 if full else 3))), device)
    if dry_run:
        entry = paper(key)
        if entry.reproduce is None:
            raise InputError(f"paper {entry.key!r} is planned and cannot be run", "see letheon papers")
        _print({"key": entry.key, "scale": scale.name, "seeds": list(scale.seeds)})
        return
    run_paper(key, scale, as_json or bool(context.obj), record, out)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    from letheon import __version__

    _print({"letheon": __version__}) if as_json else typer.echo(__version__)


def _show_sequence(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print(summary)
        return
    for name, value in summary.items():
        for item in value if isinstance(value, list) else [value]:
            typer.echo(f"{name}: {item}")


def _quiet(quiet: bool) -> None:
    from letheon.core.progress import be_quiet

    be_quiet(quiet)


def _exit_with(record: Any) -> None:
    if record is not None and record.verdict.outcome != "pass":
        raise typer.Exit(NOT_A_PASS)


def _print(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def main() -> None:
    """Entry point: run the command; say what went wrong, as JSON too where that was asked for; leave with its code."""
    import logging

    from typer.exceptions import TyperException

    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    try:
        code = app(standalone_mode=False)
    except LetheonError as error:
        _fail(error.problem, error.remedy, error.exit_code)
    except TyperException as error:
        _fail(getattr(error, "message", None) or str(error), "see letheon COMMAND --help", InputError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was kept", "run it again", INTERRUPTED)
    except OSError as error:
        _fail(str(error), "check the path, and whether it can be written", LetheonError.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        _fail("out of memory", "use a smaller --micro-batch-size, or a scope such as @lora", LetheonError.exit_code)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(problem: str, remedy: str, code: int) -> None:
    if "--json" in sys.argv:
        _print({"error": {"problem": problem, "remedy": remedy, "code": code}})
    typer.secho(f"error: {problem}", fg="red", err=True)
    if remedy:
        typer.echo(f"       {remedy}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
