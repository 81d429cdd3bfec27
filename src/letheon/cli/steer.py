"""Steer a model without training it: fit maps on its activations, weigh them, chat, bake them in, export them.

letheon steer fit MODEL --toward good.txt --from bad.txt --method lineas --out polite.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.options import Group
from letheon.cli.shared import METHOD, OUTPUT, ROWS, Command, Device, Json, Model, Shown, command, option, perform
from letheon.printing.cells import show_facts

steer = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Files = Annotated[list[Path], typer.Argument(help="Steering files (.safetensors, or .gguf); several add up.")]
Toward = Annotated[Path, option("Texts of the wanted behaviour: one per line, or .jsonl rows.", ROWS)]
Away = Annotated[Path, option("Texts of the unwanted behaviour, in the same form.", ROWS, "--from")]
Strength = Annotated[list[float] | None, option("Strength; once for all files or once per file. Default: 1.", METHOD)]
Seed = Annotated[int, option("Seed of all random draws.", METHOD)]


@command(steer)
def fit(
    model: Model,
    *,
    toward: Toward,
    away: Away,
    method: Annotated[str, option("A steering method with options, NAME:OPTION=VALUE,...", METHOD)] = "mean_difference",
    tokens: Annotated[str, option("Act on all, prompt, generated or last tokens.", METHOD)] = "all",
    seed: Seed = 0,
    out: Annotated[Path, option("The file to write.", OUTPUT)],
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Fit a steering on two sets of texts.

    letheon steer fit smollm2 --toward polite.txt --from rude.txt --method pca:layers=10-20 --out polite.safetensors
    """
    from letheon.jobs.steer import FitSteering
    from letheon.printing.steer import show_steering

    perform(FitSteering(model, toward, away, out, method, tokens, seed, device), shown, show_steering)


@steer.command(cls=Command)
def chat(
    model: Model,
    files: Files,
    strength: Strength = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A question; without one, questions are read from standard input, one per line."),
    ] = None,
    max_new_tokens: Annotated[int, option("Longest answer, tokens.", OUTPUT)] = 64,
    beside: Annotated[bool, option("Also answer without steering.", OUTPUT)] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Ask the steered model questions, each a conversation of its own; /quit or the end of the input ends it.

    letheon steer chat smollm2 polite.safetensors --strength 0.8
    """
    from letheon.jobs.steer import Chat
    from letheon.printing.steer import show_answers

    job = Chat(model, tuple(files), tuple(strength or [1.0]), max_new_tokens, beside, device)
    loaded, steerings = job.open()
    for question in prompt or questions(asked=sys.stdin.isatty() and not as_json):
        show_answers(job.answer(loaded, steerings, question), as_json)


def questions(asked: bool) -> Iterator[str]:
    """Read questions from standard input until it ends or says /quit; each is asked for where somebody types."""
    while True:
        try:
            line = input("you> " if asked else "").strip()
        except EOFError:
            return
        if line in ("/quit", "/exit"):
            return
        if line:
            yield line


@dataclass(frozen=True)
class Extent:
    """The extent of a curve.

    Attributes:
        strength: a strength to measure; may be repeated.
        random: random directions of equal norms per strength.
        max_new_tokens: length of an answer, tokens.
        seed: seed of the random directions.
        judge: what the classifier of answers sees: `states` of the unsteered model that reads them, or `words`.
    """

    strength: list[float] | None = None
    random: int = 2
    max_new_tokens: int = 32
    seed: int = 0
    judge: str = "states"


@command(steer)
def curve(
    model: Model,
    files: Files,
    *,
    toward: Toward,
    away: Away,
    prompts: Annotated[Path | None, option("Questions, one per line.", ROWS)] = None,
    neutral: Annotated[Path | None, option("Running text for the perplexity, a paragraph per line.", ROWS)] = None,
    extent: Annotated[Extent, Group(METHOD)],
    out: Annotated[Path, option("The folder of curve.html and curve.json.", OUTPUT)],
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Weigh effect against side effects over strengths, and recommend one.

    letheon steer curve smollm2 polite.safetensors --toward polite.txt --from rude.txt --out curve
    """
    from letheon.jobs.steer import DrawCurve
    from letheon.printing.steer import show_curve
    from letheon.steer.curve import STRENGTHS, CurveSettings

    strengths = tuple(extent.strength or STRENGTHS)
    settings = CurveSettings(strengths, extent.random, extent.max_new_tokens, extent.seed, extent.judge)  # type: ignore[arg-type]  # it checks
    job = DrawCurve(model, tuple(files), toward, away, out, prompts, neutral, settings, device)
    perform(job, shown, show_curve)


@command(steer)
def bake(
    model: Model,
    files: Files,
    *,
    strength: Strength = None,
    out: Annotated[Path, option("The folder of the new model.", OUTPUT)],
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Write a plain model with the steering inside its weights; --dry-run says what cannot be baked.

    letheon steer bake smollm2 polite.safetensors --out model/
    """
    from letheon.jobs.steer import BakeSteering

    perform(BakeSteering(model, tuple(files), out, tuple(strength or [1.0]), device), shown, show_facts)


@command(steer)
def export(
    file: Annotated[Path, typer.Argument(help="A file of letheon steer fit with one added vector per layer.")],
    *,
    strength: Annotated[float, option("Factor on the vectors.", METHOD)] = 1.0,
    out: Annotated[Path, option("The .gguf file to write.", OUTPUT)],
    shown: Shown,
) -> None:
    """Write a control vector for llama.cpp.

    letheon steer export polite.safetensors --out polite.gguf
    """
    from letheon.jobs.steer import ExportSteering

    perform(ExportSteering(file, out, strength), shown, show_facts)
