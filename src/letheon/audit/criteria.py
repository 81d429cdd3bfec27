"""Criteria and verdicts: what a model must satisfy, fixed and hashed before the run, and what came of it.

A profile is a TOML file; `standard` and `strict` come with Letheon.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from letheon.audit.record.evidence import Part, Subset, Value
from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError, nearest

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Outcome = Literal["pass", "fail", "not computable", "inconclusive"]
Basis = Literal[
    "absolute",
    "times before",
    "times reference",
    "times control",
    "times holdout",
    "plus before",
    "plus reference",
    "plus holdout",
]

PROFILES = Path(__file__).with_name("profiles")
UTILITY = {"retain", "neighbours", "holdout", "general"}
LANGUAGE = {"fluency", "damage"}
OF_LANGUAGE = ("fluency", "damage")  # the second stands in for the first where answers are names


def first_fault(error: ValidationError) -> str:
    """The first fault of a validation as `place: what is wrong (and n more)`."""
    faults = error.errors()
    place = ".".join(str(step) for step in faults[0]["loc"]) or "as a whole"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {faults[0]['msg']}{more}"


class Limit(Part):
    """A threshold, absolute or relative to another measurement of the same metric."""

    threshold: float
    """The number, read according to `basis`."""
    if_loose: bool = False
    """Whether the limit is taken only where the level of unknown subjects, or of holdout rows, was measured and is
    loose."""
    basis: Basis = "absolute"
    """How the limit arises: the threshold itself, or that many times, or that much above (for `>=`: below)
    the value of the model before, of the reference, of the control (the level of unknown subjects), or of the holdout
    (the same metric of the same model on rows that it never saw)."""


class Criterion(Limit):
    """What a model must satisfy, fixed before it is measured."""

    name: str
    """What is demanded, as a short phrase."""
    metric: str
    """A metric's name (`attacks:any` is one: see `record.any_attack`), or `attack:NAME`, `attack:*` (see
    `criterion_values.worst_attack`), `quantised:BITS` or `quantised:GGUF-TYPE`, `relearn` (of a single row how fast it
    is learned: 0 as by the reference, 1 as by the model before), `relearn:unrelated`, or `after_learning`: of the
    forget subset the highest recall while a stream is learned on, of the retain subset the lowest."""
    subset: Subset = "forget"
    """The rows on which it is judged."""
    model: Literal["after"] = "after"
    """The model that is judged."""
    comparison: Literal["<=", ">=", "within"]
    """`within` keeps the value inside the basis plus or minus the threshold."""
    otherwise: Limit | list[Limit] | None = None
    """The limit to take when the basis was not measured, or is the level of unknown subjects or holdout rows and too
    loose to say anything (above 0.2); of several the first that can be computed."""
    slack: Annotated[float, Field(ge=0)] = 0.0
    """How far beyond the limit an interval may reach before it counts as straddling. Where none of ten facts is given,
    the interval reaches 0.28; where none of five, 0.43."""
    errors: Annotated[float, Field(ge=0)] = 0.0
    """How many standard errors of the difference from the basis, row by row, are granted beyond the threshold, of
    `fluency` at most 0.5 nats; only for `fluency` and `perplexity`, which two models have on the same rows."""
    required: bool = True
    """Whether the verdict depends on it."""
    if_missing: Literal["inconclusive", "set aside"] = "inconclusive"
    """What a required criterion that has no value, or whose test shows nothing, does to the verdict."""
    instead: str | None = None
    """The metric of the required criterion that stands in where no row is a question, for `fluency` most answers are
    names, for `relearn` there is one row, or for `quantised` rounding leaves the model before none of the facts: if
    that one is passed or failed, this one is set aside."""
    interval: Literal["point", "bound"] | None = None
    """Overrides the profile's rule for this criterion."""
    why: str
    """Why it is demanded and where the threshold comes from."""

    def limits(self) -> list[Limit]:
        """The limit and its fallback, in the order in which they are tried."""
        if self.otherwise is None:
            return [self]
        return [self, *(self.otherwise if isinstance(self.otherwise, list) else [self.otherwise])]

    @model_validator(mode="after")
    def _within_needs_a_centre(self) -> Self:
        if self.comparison == "within" and any(not limit.basis.startswith("plus") for limit in self.limits()):
            raise ValueError(
                f"criterion {self.name!r}: 'within' needs the basis 'plus before', 'plus reference' or 'plus holdout'"
            )
        return self


class Demands(Part):
    """A named set of criteria: what a profile's file says and its hash covers."""

    name: str
    """The profile's name."""
    description: str
    """What it is meant for."""
    interval: Literal["point", "bound"] = "point"
    """Whether the point estimate or the worse end of its interval must satisfy a criterion."""
    criteria: Annotated[list[Criterion], Field(min_length=1)]
    """The criteria, in the order in which they are reported."""

    def sha256_of_demands(self) -> str:
        """SHA-256 of the criteria as JSON with sorted keys and no white space, whatever else is recorded."""
        return canonical_hash(_without_defaults(self.model_dump(mode="json", include=set(Demands.model_fields))))


# Fields that profiles did not have at first, with the values that leave a profile as it was: not hashed then.
LATER = {"slack": 0.0, "if_loose": False, "errors": 0.0, "instead": None}


def _without_defaults(value: Any) -> Any:
    """Return nested data without later fields that say nothing, so that older records keep their hash."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not (key in LATER and one == LATER[key])}
        return {key: _without_defaults(one) for key, one in kept.items()}
    return [_without_defaults(one) for one in value] if isinstance(value, list) else value


class Profile(Demands):
    """Criteria with their hash and the time at which they were fixed."""

    fixed_at: AwareDatetime
    """When the profile was fixed (UTC), before the run."""
    sha256: Sha256
    """Hash of the criteria; a record whose criteria were changed afterwards is refused."""

    @model_validator(mode="after")
    def _hash_matches(self) -> Self:
        if self.sha256_of_demands() != self.sha256:
            raise ValueError(f"profile {self.name!r}: its criteria do not match its hash")
        return self


class CriterionOutcome(Part):
    """A criterion beside what was measured."""

    criterion: Criterion
    """The criterion as it was fixed."""
    measured: Value
    """The value that was judged."""
    at_least: float | None = None
    """Lower end of the accepted range, once its basis was measured."""
    at_most: float | None = None
    """Upper end of the accepted range."""
    straddles: bool = False
    """Whether the interval lies partly outside, so that more rows could decide otherwise."""
    informative: bool = True
    """False when the test shows nothing, because the model before the deletion withstands it too."""
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Where the interval decides: how often chance alone would lie so far inside the accepted range (one-sided)."""
    level: Annotated[float, Field(ge=0, le=1)] | None = None
    """Where the interval decides: Holm's level, which `p` must not exceed for the criterion to be passed."""
    outcome: Outcome
    """The decision."""
    words: str
    """The decision in a sentence."""
    replaced: bool = False
    """Whether no row is one for this criterion, and another was decided instead (see `Criterion.instead`)."""

    @property
    def is_set_aside(self) -> bool:
        """Whether the profile lets the verdict do without this criterion."""
        shows_nothing = self.outcome == "not computable" or (not self.informative and self.outcome != "fail")
        return self.replaced or (shows_nothing and self.criterion.if_missing == "set aside")


class Family(Part):
    """The criteria that are decided by their intervals: several tests, each of which could pass by chance.

    Holm's correction makes passing harder than each interval by itself would, and turns no failure into a pass.
    """

    criteria: list[str]
    """Names of the required criteria whose interval decides, as the profile fixes them; one that has no interval
    counts too."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """One-sided level of the whole family; 0.025 is that of a 95 % interval."""
    method: Literal["Holm"] = "Holm"
    """How the level is shared."""


class Verdict(Part):
    """The decision on the whole request."""

    outcome: Literal["pass", "fail", "inconclusive"]
    """Fail if a required criterion fails; else inconclusive if one is undecided; else pass."""
    words: str
    """A short paragraph for readers who are not engineers."""
    criteria: list[CriterionOutcome]
    """Each criterion with its outcome."""
    family: Family | None = None
    """The criteria among which the level is shared; null where no interval decides."""
    profile: str
    """Name of the profile."""
    profile_sha256: Sha256
    """Hash of the profile."""
    fixed_at: AwareDatetime
    """When the profile was fixed (UTC)."""


def load_profile(name_or_path: str | Path, fixed_at: datetime | None = None) -> Profile:
    """Read a profile that comes with Letheon by its name, or one's own TOML file by its path.

    Args:
        name_or_path: `standard`, `strict`, or the path of a TOML file.
        fixed_at: when the criteria were fixed; now, unless an earlier run fixed them.

    Raises:
        InputError: there is no such profile, the file has a fault, or it demands forgetting alone.
    """
    path = _find(name_or_path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        content["criteria"] = content.pop("criterion", [])
        demands = Demands.model_validate(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"profile {path}: not TOML ({error})", "mend that line") from error
    except ValidationError as error:
        raise InputError(f"profile {path}: {first_fault(error)}", "compare with the profile `standard`") from error
    _refuse_forgetting_alone(demands, path)
    required = {criterion.metric for criterion in demands.criteria if criterion.required and not criterion.instead}
    for criterion in demands.criteria:
        if criterion.instead and criterion.instead not in required:
            raise InputError(
                f"profile {path}: no required criterion judges {criterion.instead!r}, instead of {criterion.name!r}",
                nearest(criterion.instead, sorted(required)),
            )
    when = fixed_at or datetime.now(UTC)
    return Profile(**dict(demands), fixed_at=when, sha256=demands.sha256_of_demands())


def _find(name_or_path: str | Path) -> Path:
    """The file of a profile."""
    known = sorted(file.stem for file in PROFILES.glob("*.toml"))
    if name_or_path in known:
        return PROFILES / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise InputError(f"there is no audit profile {str(name_or_path)!r}", nearest(str(name_or_path), known))


def _refuse_forgetting_alone(demands: Demands, path: Path) -> None:
    """A model that answers nothing at all would meet a profile that demands only forgetting."""
    binding = [
        c
        for c in demands.criteria
        if c.required and c.if_missing == "inconclusive" and (not c.instead or (c.metric, c.instead) == OF_LANGUAGE)
    ]
    missing = sorted(LANGUAGE - {criterion.metric for criterion in binding})
    if not any(criterion.subset in UTILITY for criterion in binding):
        missing.append("kept utility (subset retain, neighbours, holdout or general)")
    if not any(criterion.subset == "forget" and criterion.metric not in LANGUAGE for criterion in binding):
        missing.append("forgetting (subset forget)")
    if missing:
        raise InputError(
            f"profile {path}: no required criterion for {', '.join(missing)}",
            "collapse is not forgetting: demand kept utility, `fluency` and little `damage` beside it",
        )
