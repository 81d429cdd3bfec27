"""`letheon learn` and `compare-strategies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.app import Device, DryRun, Json, Quiet, Seed, app, quieten

Stream = Annotated[
    str,
    typer.Option(
        help="A TOML file of text tasks ([[task]] name, train, test), split-digits, permuted-digits, rotated-digits, "
        "split-mnist=FILE; /task or /domain after a split stream's name sets the scenario."
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over each task; 1 is the online protocol.")]
Batch = Annotated[int, typer.Option(help="New rows of a step; 0 takes 32, for a language model 8.")]
Rate = Annotated[float, typer.Option("--learning-rate", "--lr", help="0 takes what suits the model and optimizer.")]
Every = Annotated[int, typer.Option(help="Evaluate after every so many steps; 0 after each task only.")]
Adapter = Annotated[Literal["full", "lora"], typer.Option(help="Of a language model: all weights move, or an adapter.")]


@app.command()
def learn(
    model: Annotated[
        str, typer.Argument(help="A language model, or mlp (mlp=100-100) for the streams of images.")
    ] = "",
    stream: Stream = "",
    strategy: Annotated[
        str, typer.Option(help="NAME[:OPTION=VALUE,...], several joined by +; see `letheon methods strategy`.")
    ] = "replay",
    epochs: Epochs = 1,
    batch_size: Batch = 0,
    learning_rate: Rate = 0.0,
    adapter: Adapter = "full",
    evaluate_every: Every = 0,
    checkpoint_steps: Annotated[int, typer.Option(help="Keep the state every so many steps.")] = 0,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("learn"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Learn tasks one after another without forgetting; evaluate every task after each; save model, numbers, page.

    letheon learn smollm2 --stream stream.toml --strategy replay+ewc --adapter lora --out run/

    letheon learn mlp --stream split-digits --strategy replay --epochs 10 --evaluate-every 1
    """
    from letheon.jobs.learning import LearnJob
    from letheon.printing.cells import show_plan
    from letheon.printing.comparisons import show_learned

    quieten(quiet)
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "adapter": adapter,
        "evaluate_every": evaluate_every,
        "checkpoint_steps": checkpoint_steps,
        "seed": seed,
    }
    job = LearnJob(model, stream, options, device)
    if dry_run:
        show_plan(job.plan([strategy], out), as_json)
        return
    show_learned(job.resume(resume) if resume else job.learn(strategy, out), as_json)


@app.command("compare-strategies")
def compare_strategies(
    model: Annotated[str, typer.Argument(help="A language model, or mlp (mlp=100-100) for the streams of images.")],
    stream: Stream,
    strategies: Annotated[
        str, typer.Option(help="Separated by commas, ';' or spaces: naive,replay,ewc:strength=10,joint.")
    ],
    epochs: Epochs = 1,
    batch_size: Batch = 0,
    learning_rate: Rate = 0.0,
    adapter: Adapter = "full",
    evaluate_every: Every = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; intervals are over them.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Folder for compare.json and compare.html.")] = Path("strategies"),
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Run several strategies on one stream from the same weights and seeds, and draw the table.

    letheon compare-strategies mlp --stream split-digits --strategies naive,replay,der,gem,joint --epochs 10
    """
    from letheon.jobs.learning import LearnJob, split_strategies
    from letheon.printing.cells import show_plan
    from letheon.printing.comparisons import show_strategies

    quieten(quiet)
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "adapter": adapter,
        "evaluate_every": evaluate_every,
    }
    job = LearnJob(model, stream, options, device)
    names = split_strategies(strategies)
    if dry_run:
        show_plan(job.plan(names, out) | {"seeds": seeds}, as_json)
        return
    show_strategies(job.compare(names, seeds, out), out, as_json)
