"""`letheon bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import Device, DryRun, Json, Quiet, Seed, app, quieten


@app.command()
def bench(
    benchmark: Annotated[str, typer.Argument(help="tofu, muse, wmdp or rwku.")],
    model: Annotated[
        str, typer.Option(help="With --train what target and reference are made from; else who judges the answers.")
    ] = "",
    target: Annotated[str, typer.Option(help="The model that knows what is to be forgotten.")] = "",
    reference: Annotated[str, typer.Option(help="A model trained without the forget rows.")] = "",
    train: Annotated[
        bool, typer.Option("--train", help="Train target and reference from --model, all weights.")
    ] = False,
    data: Annotated[str, typer.Option(help="A copy's folder or a hub id; default the benchmark's own hub id.")] = "",
    split: Annotated[str, typer.Option(help="forget05 (tofu), scal_2 (muse), bio,cyber (wmdp), a person (rwku).")] = "",
    methods: Annotated[str, typer.Option(help="Methods, separated by commas: npo,simnpo+geometric,rmu.")] = "",
    rows: Annotated[int, typer.Option(help="A subset drawn by the seed, for small machines; 0 takes all.")] = 0,
    peer: Annotated[
        bool, typer.Option("--peer", help="tofu: the field's form of a metric where ours differs.")
    ] = False,
    corpus: Annotated[str, typer.Option(help="rwku: what a method is given to forget, such as positive or pair.")] = "",
    epochs: Annotated[int | None, typer.Option(help="Of forgetting: passes over the forget rows.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of forgetting: optimizer steps, instead of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr", help="Of forgetting.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget rows of one step.")] = None,
    train_epochs: Annotated[int, typer.Option(help="With --train: epochs of target and reference.")] = 10,
    train_learning_rate: Annotated[float, typer.Option(help="With --train: their learning rate.")] = 1e-4,
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is continued.")] = Path("bench"),
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Run a benchmark of unlearning: target, reference and every method, in the field's own metrics.

    letheon bench tofu --model smollm2 --data TOFU/ --split forget05 --methods npo,simnpo+geometric --train --out bench/
    """
    from letheon.forget.method_lists import split_methods
    from letheon.measure.bench import Teaching, plan_bench, read_benchmark
    from letheon.measure.bench import bench as run_bench
    from letheon.printing.cells import show_plan
    from letheon.printing.comparisons import show_bench

    quieten(quiet)
    own = {name: value for name, value in {"peer": peer, "corpus": corpus}.items() if value}
    given = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    plan = plan_bench(
        read_benchmark(benchmark, data, split=split, rows=rows, seed=seed, **own),
        split_methods(methods),
        out=out,
        model=model,
        target=target,
        reference=reference,
        train=train,
        teaching=Teaching(train_epochs, train_learning_rate),
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    if dry_run:
        show_plan({**plan.config(), "methods": list(plan.methods), "out": str(out)}, as_json)
        return
    show_bench(run_bench(plan, device=device), out, as_json)
