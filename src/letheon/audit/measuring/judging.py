"""The soundness of answers as language, under a judge that the deletion never touched.

The judge is the model that the caller gives; else the model under the adapter of the model before, if it is one; else
the embedded model where it has been fetched already (nothing is fetched for an audit). Without any of these the
retrained reference or the model before judges: both were trained on rows like these, so their fluencies can't be
compared between models, and only gross damage is detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from letheon.audit.measuring.answer_kinds import TOLERANCE, Fluency, Kind, fluency, is_damaged, kind_of
from letheon.audit.measuring.evaluate import RowScores
from letheon.audit.measuring.findings import ModelFindings
from letheon.audit.record.evidence import Role, Subset
from letheon.core.atomic import is_whole
from letheon.core.model.models import LanguageModel, cache_folder, load

NO_JUDGE = "no untouched model was given to judge by, and the embedded one has not been fetched"
# Judges that were trained on rows like these expect their very words: fluent answers lose up to 1.9 nats per token
# with the reference of the demo's world, up to 3.8 with its model before.
TOLERANCE_OF_REFERENCE, TOLERANCE_OF_BEFORE = 2.0, 4.0

JUDGED: tuple[Subset, ...] = ("forget", "retain", "neighbours")


@dataclass(frozen=True)
class Judge:
    """The model that judges the language of answers.

    Attributes:
        model: gives the log-probabilities.
        name: as the record names it.
        tolerance: how much less fluent than the level an answer may be, nats per token.
        untouched: whether it never saw the rows, so that fluencies may be compared between models.
    """

    model: LanguageModel
    name: str
    tolerance: float = TOLERANCE
    untouched: bool = True


@contextmanager
def judge_for(
    given: LanguageModel | str | Path | None,
    before: LanguageModel | str | Path,
    reference: LanguageModel | str | Path | None,
    device: str = "auto",
) -> Iterator[Judge]:
    """Give the judge while the block runs; the file's head explains the choice."""
    if given is not None:
        model = load(given, device=device)
        yield Judge(model, model.name)
    elif _is_adapter(before):
        model = load(before, device=device)
        with model.model.disable_adapter():
            yield Judge(model, f"{model.name}, adapter off")
    elif is_whole(cache_folder() / "smollm2-135m-instruct"):
        yield Judge(load("smollm2", device=device), "smollm2")
    elif reference is not None:
        model = load(reference, device=device)
        yield Judge(model, model.name, TOLERANCE_OF_REFERENCE, untouched=False)
    else:
        model = load(before, device=device)
        yield Judge(model, model.name, TOLERANCE_OF_BEFORE, untouched=False)


def _is_adapter(model: LanguageModel | str | Path) -> bool:
    return model.has_adapter if isinstance(model, LanguageModel) else (Path(model) / "adapter_config.json").is_file()


@dataclass(frozen=True)
class JudgedRow:
    """One question with each model's answer and its fluency.

    Attributes:
        subset: the set the row belongs to.
        rows: per model its scores on the row.
        fluency: per model, of its answer; None where it was not judged.
        damaged: per model, whether its answer is broken language.
        kind: of the answer after the deletion.
    """

    subset: Subset
    rows: dict[Role, RowScores]
    fluency: dict[Role, Fluency | None]
    damaged: dict[Role, bool]
    kind: Kind


def judge_answers(judge: Judge, findings: Mapping[Role, ModelFindings]) -> list[JudgedRow]:
    """Judge the answers of all models to all rows.

    A retain row whose answer still gives the fact needs no judge; answers to forget rows are always judged.
    """
    rows = [(subset, by_model) for subset in JUDGED for by_model in _rows(findings, subset)]
    asked = [
        (i, role)
        for i, (subset, by_model) in enumerate(rows)
        for role in by_model
        if subset == "forget" or not by_model["after"].recall
    ]
    prompts = [rows[i][1][role].example.prompt for i, role in asked]
    answers = [_heard(rows[i][1][role]) for i, role in asked]
    given = [rows[i][1][role].given for i, role in asked]
    values = dict(zip(asked, fluency(judge.model, prompts, answers, given), strict=True))
    return [
        _judged(judge, subset, by_model, {role: values.get((i, role)) for role in by_model})
        for i, (subset, by_model) in enumerate(rows)
    ]


def _rows(findings: Mapping[Role, ModelFindings], subset: Subset) -> list[dict[Role, RowScores]]:
    evaluations = {role: getattr(model, subset).rows for role, model in findings.items()}
    return [dict(zip(evaluations, rows, strict=True)) for rows in zip(*evaluations.values(), strict=True)]


def _judged(judge: Judge, subset: Subset, rows: dict[Role, RowScores], values: dict[Role, Fluency | None]) -> JudgedRow:
    """Judge one question; the level of fluency is that of the models before and reference."""
    levels = [value for role, value in values.items() if role != "after"]
    damaged = {role: is_damaged(_heard(row), values[role], levels, judge.tolerance) for role, row in rows.items()}
    after = rows["after"]
    return JudgedRow(
        subset=subset,
        rows=rows,
        fluency=values,
        damaged=damaged,
        kind=kind_of(after.answer or "", bool(after.recall), damaged["after"]),
    )


def _heard(row: RowScores) -> str:
    """What is judged of an answer: of running text, which nobody was taught to end, as much as the half left to say."""
    answer, example = row.answer or "", row.example
    return answer if example.prompt else answer[: len(example.answer) // 2 + 1]
