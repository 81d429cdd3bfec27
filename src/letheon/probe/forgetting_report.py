"""`letheon probe forgetting-depth`: the result of `forgetting_depth` as tables, checks and figures."""

from __future__ import annotations

from dataclasses import asdict

from letheon.probe.choices import Answered
from letheon.probe.forgetting_depth import DepthReport
from letheon.probe.record import Cell, Check, ProbeReport, Table, at_least, at_most
from letheon.report.numbers import number
from letheon.report.plots import lines


def depth_report(found: DepthReport) -> ProbeReport:
    """Make the report that the command line prints and writes."""
    sets: list[tuple[str, tuple[Answered, Answered], float | None]] = [
        ("rows trained on", found.train, found.ratio_train),
        ("held-out rows", found.held_out, found.ratio_held_out),
        *((name, (before, after), ratio) for name, (before, after, ratio) in found.others.items()),
    ]
    rows: list[tuple[Cell, ...]] = [
        (name, before.accuracy.value, after.accuracy.value, before.chance, ratio)
        for name, (before, after), ratio in sets
    ]
    tables = [Table("Answers", ("rows", "accuracy before", "accuracy after", "chance", "forget ratio"), rows)]
    if found.probes:
        layers = range(len(found.probes["after"]))
        probed: list[tuple[Cell, ...]] = [(str(i), *(found.probes[name][i] for name in found.probes)) for i in layers]
        tables.append(Table("Accuracy of linear probes by layer", ("layer", *found.probes), probed))
    headline = (
        f"The forget ratio is {number(found.ratio_train)} on the rows trained on and {number(found.ratio_held_out)} on "
        "held-out rows (0: kept, 1: forgotten)."
    )
    figures = {}
    if found.probes:
        curves = {name: [(float(i), value) for i, value in enumerate(values)] for name, values in found.probes.items()}
        words = "Accuracy of linear probes by layer, with two controls"
        figures["Linear probes by layer"] = lines(curves, "layer", "accuracy", words)
    return ProbeReport(
        probe="forgetting-depth",
        model=found.after,
        base=found.before,
        headline=headline,
        tables=tables,
        checks=_checks(found),
        figures=figures,
        values=asdict(found),
        notes=found.notes,
        seconds=found.seconds,
    )


def _checks(found: DepthReport) -> list[Check]:
    known = (found.held_out[0].accuracy.value or 0.0) - found.held_out[0].chance
    checks = [at_least("accuracy before on held-out rows, above chance", known, 0.15)]
    if found.probes:
        gap = max(found.probes["shuffled"]) - found.held_out[0].chance
        best = max(found.probes["after"]) - max(found.probes["untrained"])
        checks += [
            at_most("best probe with shuffled labels, above chance", gap, 0.2),
            at_least("best probe after forgetting minus best probe on random weights", best, 0.0),
        ]
    return checks
