"""Continual learning of split digits: samples per second of our loop, of a plain PyTorch loop, and of Avalanche.

    python -m benchmarks.continual_step [--json] [--repeats N] [--threads 1]

MLP 64-256-256-10, batch 32, SGD at 0.05, a memory of 200, ten epochs of five tasks; one whole run each, evaluation of
every task after every task included. `*_over_avalanche`: how many times faster we are than avalanche-lib 0.6 with the
same strategy, run in turn in this process; `*_over_plain`: than a loop written by hand on `torch.optim.SGD` (without
evaluation), naive and with replay. Both sides learn the same tasks from the same first weights; their final accuracies
must lie within 0.1 of each other (memories are drawn by other generators), else the ratio is not reported.

The peer side needs avalanche-lib, in an environment of its own: pip install "avalanche-lib==0.6.*". Without it only
the plain loop is compared.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import Compared, begin, compare, in_turn, parser, say, show
from letheon.core.errors import LetheonError
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.rows import TaskRows
from letheon.retain.streams.digits import split_digits

NETWORK, BATCH, RATE, CAPACITY, EPOCHS = [64, 256, 256, 10], 32, 0.05, 200, 10
# Ours by Avalanche's name. It fills memories at the ends of tasks and balances them over tasks, for DER over classes.
STRATEGIES = {
    "naive": "naive",
    "replay": f"replay:capacity={CAPACITY},policy=task,fill=task",
    "ewc": "ewc:strength=10.0,fisher=empirical,samples=0",
    "der": f"der:capacity={CAPACITY},policy=class,fill=task",
    "gem": f"gem:capacity={CAPACITY}",
}
# How far the two sides' final accuracies may lie apart.
TOLERANCE = 0.1
HOW = 'the peer side is left out: run this in an environment with avalanche-lib (pip install "avalanche-lib==0.6.*")'


@dataclass
class World:
    """The stream, as rows and as both sides want it."""

    @cached_property
    def stream(self) -> Any:
        """Split digits, five tasks."""
        return split_digits()

    def pairs(self, part: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and classes of each task."""
        found: list[TaskRows] = [getattr(task, part) for task in self.stream]
        return [(rows.inputs, rows.targets) for rows in found]

    def accuracy(self, model: nn.Module) -> float:
        """Mean over tasks of the test accuracy."""
        model.eval()
        with torch.no_grad():
            found = [(model(x).argmax(1) == y).float().mean() for x, y in self.pairs("test")]
        return float(torch.stack(found).mean())

    def samples(self) -> int:
        """New samples of a whole run."""
        return EPOCHS * sum(len(y) for _, y in self.pairs("train"))


def ours(world: World, text: str) -> Callable[[], float]:
    """A run of our loop; returns the final accuracy."""

    def run() -> float:
        model = mlp(NETWORK)
        learn(model, world.stream, text, epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE)
        return world.accuracy(model)

    return run


def plain(world: World, replay: bool) -> Callable[[], float]:
    """The loop that one would write by hand: index the task's tensors, replay from a list of kept rows."""

    def run() -> float:
        torch.manual_seed(0)
        model = mlp(NETWORK)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number, (x, y) in enumerate(world.pairs("train"), start=1):
            old = (torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept])) if kept else None
            for _ in range(EPOCHS):
                for places in torch.randperm(len(y)).split(BATCH):
                    inputs, labels = x[places], y[places]
                    optimizer.zero_grad()
                    loss = functional.cross_entropy(model(inputs), labels)
                    if replay and old is not None:
                        draw = torch.randperm(len(old[1]))[:BATCH]
                        loss = loss + functional.cross_entropy(model(old[0][draw]), old[1][draw])
                    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
                    optimizer.step()
            if replay:
                share = CAPACITY // number
                kept = [(a[:share], b[:share]) for a, b in [*kept, (x, y)]]
        return world.accuracy(model)

    return run


def avalanche(world: World, name: str) -> Callable[[], float]:
    """A run of Avalanche's strategy without its loggers, with an evaluation of all tasks after each."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training import DER, EWC, GEM, Naive, Replay
    from avalanche.training.plugins import EvaluationPlugin

    def data(part: str) -> Any:
        x, y = (torch.cat(column) for column in zip(*world.pairs(part), strict=True))
        rows: Any = torch.utils.data.TensorDataset(x, y)
        rows.targets = y.tolist()  # Avalanche asks for the classes under this name
        return rows

    order = list(range(10))
    streams = nc_benchmark(data("train"), data("test"), 5, task_labels=False, fixed_class_order=order)
    kinds: dict[str, Callable[..., Any]] = {
        "naive": Naive,
        "replay": lambda **common: Replay(mem_size=CAPACITY, **common),
        "ewc": lambda **common: EWC(ewc_lambda=10.0, **common),
        "der": lambda **common: DER(mem_size=CAPACITY, batch_size_mem=BATCH, alpha=0.1, beta=0.5, **common),
        "gem": lambda **common: GEM(patterns_per_exp=CAPACITY // 5, memory_strength=0.5, **common),
    }

    def run() -> float:
        torch.manual_seed(0)
        model = mlp(NETWORK)
        strategy = kinds[name](
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=BATCH,
            train_epochs=EPOCHS,
            eval_mb_size=4096,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
        )
        for experience in streams.train_stream:
            strategy.train(experience)
            strategy.eval(streams.test_stream)
        return world.accuracy(model)

    return run


def duel(theirs: Callable[[], float], mine: Callable[[], float], world: World, repeats: int) -> Compared:
    """Both once for the check, then in turn.

    Raises:
        LetheonError: the two sides do not learn the same.
    """
    accuracies = [side() for side in (theirs, mine)]
    if abs(accuracies[0] - accuracies[1]) > TOLERANCE:
        raise LetheonError(
            f"final accuracies differ: {accuracies[0]:.3f} and {accuracies[1]:.3f}", "the two sides do unlike things"
        )
    seconds = in_turn({"theirs": theirs, "ours": mine}, repeats)
    found = compare(seconds["theirs"], seconds["ours"])
    rates = [world.samples() / side / 1000 for side in (found.theirs, found.ours)]
    note = f"{rates[0]:.0f}k and {rates[1]:.0f}k samples/s; accuracy {accuracies[0]:.3f} and {accuracies[1]:.3f}"
    return compare(seconds["theirs"], seconds["ours"], note)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__.split("\n")[0]).parse_args()
    options.threads = options.threads or 1  # a network this small gains nothing from more
    begin(options)
    world = World()
    entries = {}
    peers = importlib.util.find_spec("avalanche") is not None
    if not peers:
        say(HOW)
    started = time.perf_counter()
    for name, text in STRATEGIES.items():
        sides = {"avalanche": lambda name=name: avalanche(world, name)} if peers else {}
        if name in ("naive", "replay"):
            sides["plain"] = lambda name=name: plain(world, name == "replay")
        for peer, make in sides.items():
            try:
                entries[f"{name}_over_{peer}"] = duel(make(), ours(world, text), world, options.repeats)
            except LetheonError as error:
                say(f"{name} against {peer}: {error.problem}; left out")
    say(f"{time.perf_counter() - started:.0f} s")
    show(entries, "Runs of split digits, their time over ours", options.json)


if __name__ == "__main__":
    main()
