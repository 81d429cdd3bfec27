"""A training step of NPO and of RMU, forward and backward, against the field's formulation of the same loss.

    python -m benchmarks.forget_step [--json] [--tricks] [--repeats N] [--model smollm2] [--threads N]

Eight rows, four to forget and four to keep. Timed is one forward and backward pass; the optimizer's step is the same on
both sides and left out. What is computed once a run (reference values, states below the layers that move) is left out
as well; a line below the table says what it costs. Both sides are first checked against each other: the same loss to
2e-5, the same gradient to a cosine of 0.99999, both in float32, after the weights have moved away from the reference.
Memory is the peak of a process of its own a side: weights, what stands for the reference, gradients, activations; no
optimizer. The glibc setting that training uses here speeds up both sides, because they share a process.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import field
from benchmarks.common import NO_BFLOAT16, Compared, begin, bfloat16, compare, has_bfloat16, in_turn, parser, say, show
from benchmarks.duel import COSINE_BFLOAT16, LOSS_BFLOAT16, MEETING, Case, Duel, Step, moved
from letheon.core.errors import LetheonError
from letheon.core.hardware import keep_freed_memory
from letheon.core.model.passes import FrozenLayers
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring import prefix_cache
from letheon.core.scoring.likelihood import Scores, score
from letheon.forget.objectives.npo import NPO, npo_loss
from letheon.forget.objectives.rmu import RMU, Settings, control_vector
from letheon.forget.parts import score_pair

BETA = 0.1


def npo_duel(case: Case) -> Duel:
    """NPO, all weights."""
    objective = case.prepared("reference log-probabilities (npo)", NPO())
    reference = case.frozen_copy()
    parameters = dict(case.model.base().named_parameters())
    moved(parameters)
    pair, model = case.halves(), case.model
    theirs = Step(case, lambda: field.npo(model.base(), reference, *pair, BETA))
    return Duel(theirs, Step(case, lambda: objective.terms(model, case.pair).total()), parameters)


def rmu_duel(case: Case, layers_only: bool) -> Duel:
    """RMU with all weights moving, or only the down projections of three layers.

    The field's code computes gradients for all weights in both cases.
    """
    objective = case.prepared("reference states (rmu)", RMU(Settings(layer=case.last)))
    reference = case.frozen_copy()
    parameters = case.down_projections() if layers_only else dict(case.model.base().named_parameters())
    moved(parameters)
    pair, model = case.halves(), case.model
    vector = control_vector(reference.config.hidden_size, 2.0, stream_seed(0, "control vector"))
    theirs = Step(case, lambda: field.rmu(model.base(), reference, *pair, case.last, vector))
    ours = Step(case, lambda: objective.terms(model, case.pair).total())
    if layers_only:
        ours = replace(ours, parameters=parameters, frozen=FrozenLayers(case.first))
    return Duel(theirs, ours, parameters)


def tricks(case: Case, repeats: int) -> dict[str, Compared]:
    """What each saving adds to the one before, NPO with all weights; every line is timed against the field's step."""
    reference = replace(case.model, model=case.frozen_copy(), _encoder=None)
    objective = NPO()
    objective.prepare(case.model, case.rows, [MEETING])
    duel = npo_duel(case)  # moves the weights away from the reference
    model, (forget, retain) = case.model, case.halves()

    def loss(halves: Callable[[], tuple[Scores | None, Scores | None]], cached: bool) -> Tensor:
        now, kept = halves()
        if now is None or kept is None:
            raise LetheonError("a half of the pair is missing", "this is a fault: report it")
        if cached:
            before = objective.reference_logp[forget.index]
        else:
            with torch.no_grad():
                before = score(reference, forget).sequence_logp()
        return npo_loss(now.sequence_logp(), before, BETA).mean() - retain.mean(kept.logp, "tokens")

    def apart() -> tuple[Scores, Scores]:
        return score(model, forget), score(model, retain)

    def together() -> tuple[Scores | None, Scores | None]:
        return score_pair(model, case.pair)

    def no_prefix() -> AbstractContextManager[object]:
        return patch.object(prefix_cache, "SHORTEST_PREFIX", 1 << 30)

    steps = {
        "labelled logits only": Step(case, lambda: loss(apart, False), no_prefix),
        "+ one forward for both": Step(case, lambda: loss(together, False), no_prefix),
        "+ cached reference": Step(case, lambda: loss(together, True), no_prefix),
        "+ common prefix": Step(case, lambda: loss(together, True)),
    }
    duels = {name: replace(duel, ours=step) for name, step in steps.items()}
    if has_bfloat16():
        last = replace(steps["+ common prefix"], within=bfloat16)
        duels["+ bfloat16"] = replace(duel, ours=last, loss=LOSS_BFLOAT16, cosine=COSINE_BFLOAT16)
    notes = {name: one.check() for name, one in duels.items()}
    seconds = in_turn({"theirs": duel.theirs} | {name: one.ours for name, one in duels.items()}, repeats)
    return {name: compare(seconds["theirs"], seconds[name], notes[name]) for name in duels}


def memory(options: argparse.Namespace) -> Compared:
    """Peak memory of an NPO step, a process a side."""
    peaks: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(min(options.repeats, 2)):
        for side, found in peaks.items():
            command = [sys.executable, "-m", "benchmarks.forget_step", "--peak-of", side, "--model", options.model]
            threads = ["--threads", str(options.threads)]
            done = subprocess.run([*command, *threads], capture_output=True, text=True, check=False)
            if done.returncode:
                raise LetheonError(f"measuring memory failed: {done.stderr.strip().splitlines()[-1]}", "see above")
            found.append(float(done.stdout) / 1e9)
    turned = compare(peaks["ours"], peaks["theirs"])  # a share: ours over theirs
    return replace(
        turned, theirs=turned.ours, ours=turned.theirs, unit="GB", note="peak, ours / field's; less is better"
    )


def peak(options: argparse.Namespace) -> float:
    """Peak bytes of this process after two steps of one side."""
    case = Case.load(options.model)
    if options.peak_of == "theirs":
        reference = case.frozen_copy()
        step = Step(case, lambda: field.npo(case.model.base(), reference, *case.halves(), BETA))
    else:
        keep_freed_memory()  # as the training loop does
        objective = case.prepared("reference", NPO())
        step = Step(case, lambda: objective.terms(case.model, case.pair).total())
    for _ in range(2):
        step()
    return peak_bytes()


def peak_bytes() -> float:
    """The most memory that this process has had resident.

    On Linux a child's `ru_maxrss` begins at its parent's peak and would say the same of both sides; `VmHWM` does not.
    """
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"), re.M) if status.is_file() else None
    if found:
        return 1024.0 * int(found[1])
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def measure(options: argparse.Namespace) -> tuple[dict[str, Compared], Case]:
    """All entries; each duel has a model of its own, because duels move the weights."""
    peaks = memory(options)  # first: where only ru_maxrss is known, this process is still small
    entries: dict[str, Compared] = {}
    case = Case.load(options.model)
    duel = npo_duel(case)
    entries["npo_float32"] = duel.timed(options.repeats)
    if has_bfloat16():
        fast = replace(duel.ours, within=bfloat16)
        fast_duel = replace(duel, ours=fast, loss=LOSS_BFLOAT16, cosine=COSINE_BFLOAT16)
        entries["npo_bfloat16"] = fast_duel.timed(options.repeats)
    else:
        say(NO_BFLOAT16)
    once = case.once
    for name, layers_only in (("rmu_float32", False), ("rmu_layers_float32", True)):
        case = replace(Case.load(options.model), once=once)
        entries[name] = rmu_duel(case, layers_only).timed(options.repeats)
    entries["memory"] = peaks
    return entries, case


def main() -> None:
    """Parse, measure, print."""
    options = parser("A forgetting step against the field's formulation.")
    options.add_argument("--tricks", action="store_true", help="what each saving adds, instead of the entries")
    options.add_argument("--peak-of", choices=("theirs", "ours"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    begin(chosen)
    if chosen.peak_of:
        print(peak(chosen))
        return
    keep_freed_memory()
    if chosen.tricks:
        show(tricks(Case.load(chosen.model), chosen.repeats), "NPO, all weights: savings added one by one", chosen.json)
        return
    entries, case = measure(chosen)
    batches = case.halves()
    tokens, labelled = (sum(getattr(batch, name).ne(off).sum() for batch in batches) for name, off in COUNTED)
    title = f"{chosen.model}, {tokens} tokens of which {labelled} labelled, {torch.get_num_threads()} threads"
    show(entries, title, chosen.json)
    if not chosen.json:
        once = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in case.once.items())
        say(f"once a run, not in the ratios: {once}")


COUNTED = (("attention_mask", 0), ("labels", -100))

if __name__ == "__main__":
    main()
