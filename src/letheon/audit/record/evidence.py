"""The measurements in the record of an audit: values with intervals, answers, attacks, relearning, rounding, continued
learning.

A number that could not be computed is `null` with its reason; NaN and infinity have no place here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic import NonNegativeInt as Count

Subset = Literal["forget", "retain", "neighbours", "holdout", "general"]
Role = Literal["before", "after", "reference"]
# What relearning trains on: some of the forgotten rows, or kept rows that say nothing of them.
TrainedOn = Literal["forgotten", "unrelated"]
# What an attack achieved; see `Attack.outcome`.
Achieved = Literal["resisted", "recovered", "undecided", "uninformative"]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A part of the record: unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Value(Part):
    """A measured number with its interval, or the reason why there is none."""

    value: float | None
    """Point estimate, or null when it could not be computed."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    n: Count = 0
    """Number of items behind the estimate."""
    reason: str | None = None
    """Why the value is null, in words."""

    @model_validator(mode="after")
    def _explained_and_ordered(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a value of null needs a reason")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"interval from {self.low} to {self.high} runs backwards")
        return self

    @classmethod
    def missing(cls, reason: str) -> Self:
        """A value that could not be computed, for this reason."""
        return cls(value=None, reason=reason)


class Item(Part):
    """The contribution of one row of the request to a metric or an attack."""

    id: str
    """The row's identifier in the request."""
    value: float | None
    """The row's own value, null when the metric is undefined for it."""
    detail: dict[str, str | float | None] = {}
    """Anything that helps to read the value, such as the text that was generated."""


class Metric(Part):
    """One metric of one model on one set of rows."""

    name: str
    """Machine name, such as `recall` or `perplexity`."""
    subset: Subset
    """The rows on which it was measured."""
    model: Role
    """The model that was measured."""
    value: Value
    """Estimate and interval."""
    unit: str
    """Unit of the value: share, nats per token, ..."""
    better: Literal["higher", "lower", "closer to reference"]
    """The direction in which the deletion or the model improves."""
    definition: str
    """One sentence that defines the metric."""
    items: list[Item] = []
    """The rows behind the estimate."""


class Answer(Part):
    """A question put to every model, with what each answered."""

    id: str
    """The row's identifier in the request."""
    subset: Subset
    """The set the row belongs to."""
    prompt: str
    """The question."""
    expected: str
    """The answer that the training data gives."""
    before: str
    """Greedy answer of the model before the deletion."""
    after: str
    """Greedy answer of the model after the deletion."""
    reference: str | None = None
    """Greedy answer of the model that was retrained without the rows, if there is one."""
    kind: Literal["still the fact", "fluent and different", "refusal", "gibberish", "empty"]
    """What kind of answer the model gives after the deletion."""
    fluency_before: float | None = None
    """Mean log-probability per token (nats) of the answer before, under the untouched model."""
    fluency_after: float | None = None
    """The same for the answer after."""
    fluency_reference: float | None = None
    """The same for the reference's answer."""


class AttackVariant(Part):
    """A variant of an attack on the same rows of one model, such as a further membership test."""

    name: str
    """Name of the variant."""
    model: Role
    """The model that was attacked."""
    value: Value
    """Its estimate, in the attack's unit."""
    roc: list[tuple[Share, Share]] = []
    """Points (false positive rate, true positive rate) of its curve; empty where there is none."""


class Attack(Part):
    """An attempt to bring the forgotten back, with its positive and negative control."""

    name: str
    """Machine name, such as `first_token_prefix`."""
    description: str
    """One sentence that says what the attacker does."""
    unit: str = "share of facts"
    """What the values are: `share of facts` drawn out, or the `AUROC` with which rows are told apart."""
    chance: Share = 0.0
    """The level that shows nothing: 0 for a share of facts, one over the options of a choice, 0.5 for an AUROC."""
    before: Value
    """Positive control: what the attack draws from the model before the deletion."""
    after: Value
    """What the attack draws from the model after the deletion."""
    reference: Value | None = None
    """Negative control: what it draws from a model that never saw the rows."""
    informative: bool
    """False when the model before the deletion withstands the attack too, so that it shows nothing: the lower end of
    its interval (its value where there is none) does not lie above chance; or, where chance is above 0 and the model
    after gives no more than the reference, not above the reference either."""
    outcome: Achieved
    """What the attack achieved. Resisted: no more than the reference gives, or chance where there is none. Recovered:
    more than that, and where chance is above 0 its interval lies above that level. Undecided: more, but the interval
    does not show it; or the model after could not be asked what the model before was asked."""
    worst_variant: str | None = None
    """The variant of the question that draws most from the model after, where the attack has several; each asks every
    row, the values of the models are those of their own worst variants, and intervals are simultaneous."""
    trained_on: str | None = None
    """The form of question in which the deletion trained and this attack asks, such as `options`, or several with
    "and" between them: low values are then weak evidence; null where there is none, or none is known."""
    below: bool = False
    """Whether the model after gives less than one that never knew, by more than one standard error: an attacker who
    knows that excludes what it names."""
    items: list[Item] = []
    """The rows behind the values."""
    variants: list[AttackVariant] = []
    """Variants of the attack on the same rows, for each model."""

    def of(self, model: Role) -> Value | None:
        """Return the value for one model; None where the attack was not run on it."""
        values: dict[Role, Value | None] = {"before": self.before, "after": self.after, "reference": self.reference}
        return values[model]

    @model_validator(mode="after")
    def _uninformative_is_never_resisted(self) -> Self:
        if self.informative == (self.outcome == "uninformative"):
            raise ValueError(f"attack {self.name!r}: outcome {self.outcome!r}, informative {self.informative}")
        return self


def level_of(chance: float, reference: Value | None) -> float:
    """Return an attack's level for a model that never knew: the reference's value, or chance without a reference."""
    return chance if reference is None or reference.value is None else reference.value


class CurvePoint(Part):
    """One step of relearning."""

    step: Count
    """Training steps taken so far; 0 is the model as delivered."""
    probability: Share
    """Mean probability of the held-out facts; of running text, of the words that carry them."""
    recall: Share
    """Share of the held-out facts that the greedy answers contain."""
    trained_loss: Annotated[float, Field(ge=0)] | None = None
    """Mean negative log-likelihood, in nats per token, of the facts that are trained on; null between the first step
    and the last."""


class Curve(Part):
    """The return of held-out facts while a model is fine-tuned on other rows."""

    model: Role
    """The model that was fine-tuned."""
    title: str
    """What it was fine-tuned on, such as `two of the forgotten facts`."""
    trained_on: TrainedOn = "forgotten"
    """Whether these were forget rows, or retain rows that say nothing of them."""
    n: Count
    """Number of held-out facts."""
    same_row: bool = False
    """Whether there is a single row, which is both trained on and watched."""
    rescaled: Share = 0.0
    """Share of the model's matrices whose size (root of the mean square of their numbers) differs from that of the same
    matrix of the model before by more than a factor of 1.5: equal steps do not move such a model alike."""
    points: list[CurvePoint]
    """Steps in order."""
    steps_to_half: Value | None = None
    """Training steps (between two points: by a straight line) until half of what the model before gives of the
    held-out facts is given; null with its reason where it never is."""


class LearningPoint(Part):
    """One evaluation while a stream of tasks is learned."""

    step: Count
    """Training steps taken so far; 0 is the model as delivered."""
    task: Count
    """Number of the task that was being learned, from 1; 0 before the first."""
    forgotten_recall: Share
    """Share of the watched forgotten facts that the greedy answers contain."""
    forgotten_probability: Share
    """Mean probability of those facts."""
    kept_recall: Share | None
    """The same of the watched kept rows; null where there are none."""
    kept_probability: Share | None
    """Mean probability of their facts."""
    accuracy: list[Share | None]
    """For each task of the stream the share of its test answers whose every token is the model's first choice; null
    where the task was not evaluated."""
    loss: list[float | None]
    """For each task the mean negative log-likelihood per token of those answers, in nats."""


class Continued(Part):
    """The effect of continued learning of ordinary tasks on forget and retain rows."""

    model: Role
    """The model that learned on, as a copy."""
    stream: str
    """What it learned."""
    strategy: str
    """How, such as `naive` or `replay:capacity=100`."""
    tasks: list[str]
    """The stream's tasks in order."""
    ends: list[Count]
    """Training steps after which each task ended."""
    forgotten: Count
    """Number of forget rows that were measured."""
    kept: Count
    """Number of retain rows that were measured; the stream trains on none of them."""
    points: list[LearningPoint]
    """Evaluations in order: before the stream, between steps where that was asked for, after each task."""
    comes_back: Value
    """Backward transfer of the forgotten: recall after the stream minus recall before it."""
    highest: Value
    """Highest recall of the forget rows at any evaluation after the start."""
    kept_lost: Value
    """Forgetting of the kept: recall before the stream minus recall after it."""
    kept_lowest: Value
    """Minimum accuracy of the retain rows: their lowest recall at any evaluation after the start."""
    stability_gap: Value
    """Recall after the stream minus that minimum: the loss that was only temporary."""
    metrics: dict[str, Value] = {}
    """Metrics of continual learning over the kept rows, as the task that was learned first, and the stream's tasks."""

    @model_validator(mode="after")
    def _points_fit_the_tasks(self) -> Self:
        n = len(self.tasks)
        if not self.points or any((len(p.accuracy), len(p.loss)) != (n, n) or p.task > n for p in self.points):
            raise ValueError(f"continued learning of {n} tasks: a point has others, or there is none")
        return self


class Quantised(Part):
    """The recall and probability of forget and retain rows under a model with rounded weights."""

    model: Role
    """The model that was rounded."""
    bits: Annotated[int, Field(ge=1, le=16)]
    """Bits per weight."""
    group: Count | None
    """Weights that share a scale, or null for a scale per row."""
    file_type: str | None = None
    """The GGUF type whose own rounding was used, such as `Q8_0`; null for rounding to nearest."""
    forget_recall: Value
    """Recall of the forget rows."""
    forget_probability: Value
    """Probability of the forget rows."""
    retain_recall: Value
    """Recall of the retain rows."""
    retain_probability: Value
    """Probability of the retain rows."""


class Evidence(Part):
    """All measurements: the part of the record from which the verdict follows."""

    metrics: list[Metric] = []
    """All metrics."""
    answers: list[Answer] = []
    """Answers of the models, word for word."""
    attacks: list[Attack] = []
    """Attempts to bring the forgotten back."""
    curves: list[Curve] = []
    """Relearning curves."""
    quantised: list[Quantised] = []
    """Rounded models."""
    continued: list[Continued] = []
    """What continued learning brings back, for each model; empty where it was not asked for."""

    def metric(self, name: str, subset: str, model: str) -> Metric | None:
        """The metric of that name, set and model, or None when it was not measured."""
        wanted = (name, subset, model)
        return next((m for m in self.metrics if (m.name, m.subset, m.model) == wanted), None)
