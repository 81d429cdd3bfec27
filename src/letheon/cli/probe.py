"""Look inside a model: attention sinks, retrieval heads, binding, negative bias, what post-training changed.

letheon probe retrieval-heads smollm2 --out probe/; letheon probe compare smollm2 run/model --out probe/

Every probe prints its tables and checks of its reliability (split halves, shuffled and random controls); --out writes
them as JSON with all numbers, and as one HTML page with figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from letheon.cli.options import Given
from letheon.cli.shared import OUTPUT, ROWS, Device, Model, Shown, command, option, perform
from letheon.probe.binding.report import BindingSettings
from letheon.probe.changes import ChangeSettings
from letheon.probe.negative_bias.report import BiasSettings
from letheon.probe.post_training.report import PostTrainingSettings
from letheon.probe.retrieval_heads.report import RetrievalSettings
from letheon.probe.secondary_sinks.report import SinkSettings

PROBE = "The probe"
probe = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


Out = Annotated[Path | None, option("Folder for PROBE.html and PROBE.json.", OUTPUT, show_default=False)]
Texts = Annotated[Path | None, option("A text file (UTF-8) to look at; default is ten short texts.", ROWS)]
Statements = Annotated[
    list[Path] | None, option("CSV files with `statement` and `label` (0, 1); default built-in ones.", ROWS)
]
Base = Annotated[str, typer.Argument(help="The model before: what MODEL is compared with.")]


def _perform(
    name: str, models: tuple[str, ...], settings: Any, out: Path | None, device: str, shown: Any, **files: Any
) -> None:
    from letheon.jobs.probe import ProbeJob
    from letheon.printing.probe import show_probe

    job = ProbeJob(name, models, settings, {key: value for key, value in files.items() if value}, out, device)
    perform(job, shown, lambda report, as_json: show_probe(report, out, as_json))


@command(probe, "retrieval-heads")
def retrieval_heads(
    model: Model,
    *,
    settings: Annotated[dict[str, Any], Given(RetrievalSettings, panel=PROBE)],
    haystack: Texts = None,
    needles: Annotated[
        Path | None, option('JSON lines {"needle", "question", "real_needle"}; default five.', ROWS)
    ] = None,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Find the heads that copy facts from the context; mask them, and as many random heads.

    letheon probe retrieval-heads smollm2 --out probe/
    """
    _perform("retrieval-heads", (model,), settings, out, device, shown, text=haystack, needles=needles)


@command(probe, "sinks")
def sinks(
    model: Model,
    *,
    settings: Annotated[dict[str, Any], Given(SinkSettings, panel=PROBE)],
    text: Texts = None,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Find attention sinks: where, how strong, in which layers; plant some, to see that they are found.

    letheon probe sinks smollm2 --out probe/
    """
    _perform("sinks", (model,), settings, out, device, shown, text=text)


@command(probe, "binding")
def binding(
    model: Model,
    *,
    settings: Annotated[dict[str, Any], Given(BindingSettings, panel=PROBE)],
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """See how a model looks up bound entities: by position, by word, or by a pointer to the answer.

    letheon probe binding smollm2 --groups 5 --out probe/
    """
    _perform("binding", (model,), settings, out, device, shown)


@command(probe, "negative-bias")
def negative_bias(
    model: Model,
    *,
    settings: Annotated[dict[str, Any], Given(BiasSettings, panel=PROBE)],
    statements: Statements = None,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Measure the bias towards "no" by knowledge and by prompt format, and find the heads that carry it.

    letheon probe negative-bias smollm2 --out probe/
    """
    _perform("negative-bias", (model,), settings, out, device, shown, statements=statements)


@command(probe, "post-training")
def post_training(
    model: Model,
    base: Base,
    *,
    settings: Annotated[dict[str, Any], Given(PostTrainingSettings, panel=PROBE)],
    statements: Statements = None,
    refused: Annotated[Path | None, option("Prompts that are refused, one per line.", ROWS)] = None,
    answered: Annotated[Path | None, option("Prompts that are answered, one per line.", ROWS)] = None,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Say what post-training moved: where facts are stored, the truth and refusal directions, confidence.

    letheon probe post-training tuned/ smollm2 --out probe/
    """
    files = {"statements": statements, "refused": refused, "answered": answered}
    _perform("post-training", (model, base), settings, out, device, shown, **files)


@command(probe, "compare")
def compare(
    before: Annotated[str, typer.Argument(help="The model before.")],
    after: Annotated[str, typer.Argument(help="The model after a deletion, a fine-tuning or post-training.")],
    *,
    settings: Annotated[dict[str, Any], Given(ChangeSettings, panel=PROBE)],
    text: Texts = None,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """See what changed inside, layer by layer: weights, states, attention, truth and refusal directions, heads.

    letheon probe compare smollm2 run/model --out probe/
    """
    _perform("compare", (before, after), settings, out, device, shown, text=text)


@command(probe, "forgetting-depth")
def forgetting_depth(
    before: Annotated[str, typer.Argument(help="The model before forgetting.")],
    after: Annotated[str, typer.Argument(help="The model after forgetting.")],
    *,
    trained: Annotated[Path, option('The rows forgotten: JSON lines {"prompt", "options", "gold"}.', ROWS)],
    held_out: Annotated[Path, option("Rows of the same skill that were not trained on.", ROWS)],
    layer: Annotated[int | None, option("Where states are compared; default the middle layer.", PROBE)] = None,
    per_token: Annotated[bool, option("Score options by the mean over their tokens.", PROBE, "--per-token")] = False,
    out: Out = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Test whether forgetting a skill reaches new inputs, and whether hidden states still hold the skill.

    letheon probe forgetting-depth before/ after/ --trained rows.jsonl --held-out new.jsonl
    """
    settings = {"layer": layer, "per_token": per_token}
    _perform("forgetting-depth", (before, after), settings, out, device, shown, trained=trained, held_out=held_out)
