"""The protocol of a benchmark: its data, the deletion request made of them, the scores it measures on a model.

A benchmark is a file of this room with `read_NAME(source, *, split="", rows=0, seed=0)`, which gives a `Benchmark`:
`source` is a hub id or the folder of a local copy, `rows` takes a seeded subset for small machines. The runner
(`letheon.measure.bench`) knows nothing of a benchmark but what stands here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, Self, TypeVar

from letheon.audit.measuring.judging import Judge
from letheon.core.model.models import LanguageModel
from letheon.core.runs import versions
from letheon.core.statistics import Estimate
from letheon.forget.request import Request

# Where a score should go; `zero` is for signed ones that are best at 0.
Better = Literal["higher", "lower", "zero"]
Role = Literal["target", "reference", "unlearned"]
# What a measure runs on: a language model; for measures against people also an endpoint.
Measured_contra = TypeVar("Measured_contra", contravariant=True)


@dataclass(frozen=True)
class Score:
    """One number of a benchmark, with the rows that it came from.

    Attributes:
        name: the column's name, as the field writes it.
        estimate: value and 95 % interval; the value is None where it cannot be computed.
        better: where it should go.
        items: the value of each row (or part) by its id.
        why: why there is no value, where there is none.
    """

    name: str
    estimate: Estimate
    better: Better
    items: Mapping[str, float | None] = field(default_factory=dict)
    why: str = ""

    def values(self) -> list[float]:
        """The values of the rows that have one."""
        return [value for value in self.items.values() if value is not None]


@dataclass(frozen=True)
class Scores:
    """The scores of one model.

    Attributes:
        scores: the numbers, in the benchmark's order.
        answers: what the model said, by the id of the row.
        records: one object per item asked: `id`, `part`, `prompt`, `answer`, `parsed` (None if it could not be read),
            and the item's own fields. Benchmarks of unlearning give none.
        notes: remarks on the data and the answers that a reader of the scores needs.
    """

    scores: tuple[Score, ...]
    answers: Mapping[str, str] = field(default_factory=dict)
    records: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Score:
        return next(score for score in self.scores if score.name == name)

    def value(self, name: str) -> float | None:
        """The value of a score; None where it could not be computed."""
        return self[name].estimate.value

    def without(self, *names: str) -> tuple[Score, ...]:
        """Return the scores of other names than these."""
        return tuple(score for score in self.scores if score.name not in names)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, which `from_json` reads again."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        scores = tuple(Score(**{**score, "estimate": Estimate(**score["estimate"])}) for score in content["scores"])
        records, notes = tuple(content.get("records", ())), tuple(content.get("notes", ()))
        return cls(scores, content["answers"], records, notes)


@dataclass(frozen=True)
class Against:
    """The models that a model is compared with; each is None where it is not known.

    Attributes:
        target: scores of the model before unlearning; its answers are a level of fluency.
        reference: scores of a model that was trained without the forget rows; likewise.
        judge: the judge of the answers' fluency: best a model that learned neither.
    """

    target: Scores | None = None
    reference: Scores | None = None
    judge: Judge | None = None


NOTHING = Against()


class Measure(Protocol[Measured_contra]):
    """Items whose data were read and checked, and the scores that they give for one model.

    Attributes:
        name: as the command line has it.
        columns: names of the scores that the printed table shows, in order.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers: source, split, counts of rows, options, prompts."""
        ...

    def evaluate(self, model: Measured_contra, against: Against = NOTHING) -> Scores:
        """Measure every score of one model; comparisons with other models only where these are given."""
        ...


class Benchmark(Measure[LanguageModel], Protocol):
    """A measure of unlearning: it also makes the deletion request and compares with other models.

    Attributes:
        plane: names of the two scores of the figure, remaining knowledge of the forget rows and retained utility.
        trains: whether target and reference can be made by training on the request's rows (forget and retain rows,
            retain rows only); else they must be given.
    """

    @property
    def plane(self) -> tuple[str, str]: ...

    @property
    def trains(self) -> bool: ...

    def request(self, model: LanguageModel | None = None) -> Request:
        """Return the deletion request for the methods; long running text is cut to a model's tokens, if given."""
        ...

    def relate(self, scores: Scores, against: Against) -> Scores:
        """The scores with those that compare with other models computed again; no model is run.

        A benchmark without such scores gives them back as they are.
        """
        ...


@dataclass(frozen=True)
class BenchedModel:
    """One model of a bench.

    Attributes:
        name: `target`, `reference`, or the method.
        scores: None where the method came to no result; `error` says why.
        run: steps, why it ended, learning rate; of a method.
    """

    name: str
    role: Role
    scores: Scores | None
    run: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Bench:
    """Every model on one benchmark.

    Attributes:
        config: what decided the numbers.
        columns: the scores of the table.
        plane: what is left of the forgotten and what is kept, the axes of the figure.
        models: target, reference and methods, in this order.
    """

    benchmark: str
    config: Mapping[str, Any]
    columns: tuple[str, ...]
    plane: tuple[str, str]
    models: tuple[BenchedModel, ...]
    seconds: float

    @property
    def split(self) -> str:
        """The part of the benchmark, as the data set calls it; empty where it has none."""
        return str(self.config["data"].get("split", ""))

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is written to bench.json."""
        return {"format": 1, **asdict(self), "versions": versions()}
