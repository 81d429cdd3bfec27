"""The definition of an attack: it tries to bring forgotten facts back on one model, by a plan shared by all models.

A textual attack makes attempts: prompts and begun answers for each row. One batched generation answers the attempts of
all textual attacks. A measured attack runs by itself and gives a number.

An attack says something only beside its controls: the model before the deletion must fall to it (positive control),
a model that never saw the rows must not (negative control). `record/sections.py` compares the models.

To add one: a file (or a place in its family's file), its name in `ATTACKS` of `attacks/__init__.py`, a test. Attacks
import from here and from `letheon.audit.plan`; no prompt may give the fact that it asks for (see `given_away`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from letheon.audit.measuring.answer_kinds import FoundFact, recalls
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import Estimate, estimate_clustered_share, estimate_mean, share_interval

# Fewer rows are all sampled, of more every second: of three rows one that is drawn by chance is more than one in five.
FEW_ROWS = 10
# The unit of an attack's value: a share of facts drawn out, or the AUROC between two sets of rows.
Unit = Literal["share of facts", "AUROC"]


@dataclass(frozen=True)
class Attempt:
    """One try at one row.

    Attributes:
        example: the row, with what this attack asks for as its value or answer.
        prompt: what was asked.
        prefix: tokens with which the answer was begun.
        ids: tokens that stand before the answer, where the attack writes them itself; empty: the model's chat template
            around the prompt.
        options: values that the prompt offers, the right one among them; none for an open question.
        limit: largest number of new tokens; 0: the attack's.
        variant: name of the attack's variant, where it has several; each variant asks every row that it fits.
        answer: the model's answer, begun part included.
        recovered: whether it gives the fact.
    """

    example: Example | FoundFact
    prompt: str
    prefix: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    limit: int = 0
    variant: str = ""
    answer: str = ""
    recovered: bool = False


def sampled(rows: Sequence[Example]) -> Sequence[Example]:
    """Return the rows that an attack asks several times: every second one, of fewer than `FEW_ROWS` all."""
    return rows if len(rows) < FEW_ROWS else rows[::2]


def given_away(model: LanguageModel, attempt: Attempt) -> bool:
    """Say whether the prompt or the begun answer gives the fact by itself; such attempts are not made.

    A question that offers options names the right one among them, which the attack's chance level accounts for.
    """
    asked = attempt.example.prompt if attempt.options else attempt.prompt
    text = f"{asked}\n{model.tokenizer.decode(attempt.prefix)}"
    return recalls(text, attempt.example, attempt.example.answer)


def gives_the_fact(attempt: Attempt, text: str) -> bool:
    """Say whether the answer gives the row's fact; see `recalls`."""
    return recalls(text, attempt.example, attempt.example.answer)


@dataclass(frozen=True)
class TextualAttack:
    """An attack that asks questions.

    Attributes:
        name: machine name, such as `role_play`.
        description: one sentence that says what the attacker does.
        needs: what the rows lack where the attack fits none of them, as a reason.
        attempts: makes its attempts for a model; rows that it does not fit are left out.
        recovers: whether an answer gives the fact.
        chance: the level that shows nothing: 0, or one over the number of options.
        temperature: 0 for greedy answers; else answers are sampled.
        decides: whether an answer's outcome is certain however it goes on, so that decoding may stop.
        worst: count rows, not attempts: a row is recovered if any attempt at it is.
        thorough: too costly for a quick audit.
        max_new_tokens: limit of an answer; None: the audit's.
    """

    name: str
    description: str
    needs: str
    attempts: Callable[[LanguageModel, AuditPlan], list[Attempt]]
    recovers: Callable[[Attempt, str], bool] = gives_the_fact
    decides: Callable[[Attempt, str], bool] = gives_the_fact
    chance: float = 0.0
    temperature: float = 0.0
    worst: bool = False
    thorough: bool = False
    unit: Unit = "share of facts"
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Variant:
    """A variant of a measured attack on the same rows.

    Attributes:
        name: of the variant, such as a membership test's.
        value: its estimate, in the attack's unit.
        roc: points (false positive rate, true positive rate) of its curve; empty where there is none.
    """

    name: str
    value: Estimate
    roc: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Tried:
    """The result of a measured attack on one model.

    Attributes:
        value: its estimate with interval, in the attack's unit.
        items: the rows behind the value; `detail` may hold texts, such as `prompt` and `answer`.
        variants: variants on the same rows.
    """

    value: Estimate
    items: list[Item]
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack that runs by itself.

    Attributes:
        name, description, needs, chance, unit, thorough: as of `TextualAttack`; the chance of an AUROC is 0.5.
        run: measures one model, which it leaves as it was; None where it fits none of the rows.
    """

    name: str
    description: str
    needs: str
    run: Callable[[LanguageModel, AuditPlan], Tried | None]
    chance: float = 0.0
    unit: Unit = "share of facts"
    thorough: bool = False


Attack = TextualAttack | MeasuredAttack


def success(tries: Sequence[Attempt], worst: bool = False) -> Estimate:
    """Return the share of attempts (or with `worst` of rows) that gave the fact, with its interval.

    Attempts at one row resemble each other: the interval is clustered by row, whatever of it is asked for. Of an attack
    with variants, the value is that of the worst one; see `by_variant`.
    """
    if any(attempt.variant for attempt in tries):
        shares = by_variant(tries)
        return shares[worst_variant(shares)]
    by_row: dict[Example | str, list[float]] = {}
    for attempt in tries:
        row = attempt.example if worst else attempt.example.id or attempt.example
        by_row.setdefault(row, []).append(float(attempt.recovered))
    if worst:
        return estimate_mean([max(recovered) for recovered in by_row.values()], share=True)
    return estimate_clustered_share(list(by_row.values()))


def by_variant(tries: Sequence[Attempt]) -> dict[str, Estimate]:
    """Return for each variant the share of the attack's rows of which it gave the fact; a row that it fits not counts.

    Interval: the upper end is that of Wilson's 95 % interval, and so bounds the largest share of all variants too. The
    lower end is that of an interval at 1 - 0.05 / k for k variants (Bonferroni), since the largest of k shares lies
    high by chance.
    """
    names = list(dict.fromkeys(attempt.variant for attempt in tries))
    rows = len(dict.fromkeys(attempt.example for attempt in tries))
    given = {(attempt.variant, attempt.example) for attempt in tries if attempt.recovered}
    shares = {}
    for name in names:
        n = sum(variant == name for variant, _ in given)
        both = [share_interval(n, rows, 1 - 0.05 / k) for k in (len(names), 1)] if rows > 1 else []
        low, high = (both[0][0], both[1][1]) if len(both) == 2 and both[0] and both[1] else (None, None)
        shares[name] = Estimate(n / rows, low, high, rows)
    return shares


def worst_variant(shares: Mapping[str, Estimate]) -> str:
    """Return the variant that draws most; of several the first."""
    return max(shares, key=lambda name: shares[name].value or 0.0)
