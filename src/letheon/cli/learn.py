"""Learn tasks one after another without forgetting; evaluate all tasks after each; save model, numbers, page.

letheon learn smollm2 --stream stream.toml --strategy replay+ewc --adapter lora --out run/

letheon learn mlp --stream split-digits --strategy replay --epochs 10 --evaluate-every 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from letheon.cli.processes import run_in_processes
from letheon.cli.shared import METHOD, OUTPUT, Device, Learner, Processes, Shown, Stream, Tracked, option, perform, verb
from letheon.cli.training import Learning

KEPT = "replay"  # the strategy where none is given


@verb(__doc__)
def learn(
    model: Learner = "",
    *,
    stream: Stream = "",
    strategy: Annotated[
        str, option("NAME[:OPTION=VALUE,...], joined by +; default replay. `letheon methods strategy` lists.", METHOD)
    ] = "",
    training: Learning,
    out: Annotated[Path, option("Folder of the new run.", OUTPUT)] = Path("learn"),
    resume: Annotated[Path | None, option("Continue the run in this folder.", OUTPUT)] = None,
    device: Device = "auto",
    processes: Processes = 1,
    tracked: Tracked,
    shown: Shown,
) -> None:
    """Perform the learning."""
    from letheon.jobs.learn import LearnJob, ResumedLearn, Source
    from letheon.printing.learn import show_learned

    if not shown.dry_run:
        run_in_processes(processes, f"continue it with --resume {resume or out}")
    new = LearnJob(Source(model, stream, training), strategy or KEPT, out, device)
    beside = [*training, *(name for name, given in (("stream", stream), ("strategy", strategy)) if given)]
    job = new if resume is None else ResumedLearn(resume, model, device, beside)
    perform(job, shown, show_learned, tracked, together=True)
