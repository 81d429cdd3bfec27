"""Learn tasks one after another without forgetting; evaluate all tasks after each; save model, numbers, page.

letheon learn smollm2 --stream stream.toml --strategy replay+ewc --adapter lora --out run/

letheon learn mlp --stream split-digits --strategy replay --epochs 10 --evaluate-every 1
"""

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import METHOD, OUTPUT, Device, Learner, Shown, Stream, perform, verb
from letheon.cli.training import Learning


@verb(__doc__)
def learn(
    model: Learner = "",
    *,
    stream: Stream = "",
    strategy: Annotated[
        str,
        typer.Option(
            help="NAME[:OPTION=VALUE,...], several joined by +; `letheon methods strategy` lists them.",
            rich_help_panel=METHOD,
        ),
    ] = "replay",
    training: Learning,
    out: Annotated[Path, typer.Option(help="Folder of the new run.", rich_help_panel=OUTPUT)] = Path("learn"),
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder.", rich_help_panel=OUTPUT)
    ] = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Perform the learning."""
    from letheon.jobs.learn import LearnJob, ResumedLearn, Source
    from letheon.printing.learn import show_learned

    if resume is not None:
        perform(ResumedLearn(resume, model, device), shown, show_learned)
    else:
        perform(LearnJob(Source(model, stream, training), strategy, out, device), shown, show_learned)
