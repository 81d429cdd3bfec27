"""The measure `compression_decay`: compliance and accuracy of answers about one concept at five lengths of text.

Concepts are our own; a file in the paper's format is read too: {"concept", "domain", "corpus": [{"compression_level",
"text", "probe_question", "expected_keywords"}]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import mean
from typing import Any

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.core.statistics import Estimate, estimate_mean
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.compression_decay.judging import (
    consensus,
    dip,
    is_u,
    kappa_of,
    quadratic_term,
    word_count,
)
from letheon.measure.compression_decay.jury import JURY, Given, verdicts
from letheon.measure.compression_decay.rules import (
    LEVELS,
    Arm,
    judge_rule,
    mismatches,
    prompt,
    read_arm,
    subject_rule,
    template,
)
from letheon.measure.human.agreement import correlation_score, pearson
from letheon.measure.tables import drawn, text_of

QUESTIONS = (
    "What is {}?",
    "Describe {} briefly.",
    "Explain {}.",
    "Give a detailed explanation of {}.",
    "Give a comprehensive explanation of {}.",
)
LONGEST_ANSWER = 192  # tokens
AXES = ("CC", "SA", "FC")


@dataclass(frozen=True)
class Cell:
    """One concept at one level.

    Attributes:
        level: 0 for the most compressed text, 1 for the whole one.
        text, question: what the subject gets.
        keywords: what a right answer mentions.
    """

    concept: str
    level: float
    text: str
    question: str
    keywords: tuple[str, ...]

    @property
    def id(self) -> str:
        """The cell's name."""
        return f"{self.concept} {self.level:g}"


@dataclass(frozen=True)
class CompressionDecay:
    """Concepts, each at five levels, and the arm that is run."""

    cells: tuple[Cell, ...]
    arm: Arm = "matched"
    source: str = "own concepts"
    seed: int = 0

    name = "compression_decay"
    columns = (
        *(f"CC at {level:g}" for level in LEVELS),
        *(f"SA at {level:g}" for level in LEVELS),
        *("U-shaped", "dip", "quadratic term", "r(CC, SA)"),
        *(f"CC, {name}" for name in JURY),
        *("kappa", "agreement", "unparsed"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, arm, rules and prompt."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"concepts": len({cell.concept for cell in self.cells}), "cells": len(self.cells)},
            "arm": self.arm,
            "prompt": template(self.arm).facts(),
            "judges": list(JURY),
            "hash": canonical_hash(self.cells),
        }

    def prompt(self, cell: Cell) -> str:
        """Return the prompt of a cell."""
        return prompt(cell.level, self.arm, cell.text, cell.question)

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Answer every cell greedily and judge the answers by rule."""
        answers = model.answers([[self.prompt(cell)] for cell in self.cells], LONGEST_ANSWER)
        return self.judged(answers)

    def judged(self, answers: Sequence[str]) -> Scores:
        """Judge given answers, one per cell."""
        records, by_judge = [], []
        for cell, answer in zip(self.cells, answers, strict=True):
            jury = verdicts(answer, Given(cell.text, cell.question, judge_rule(cell.level), cell.keywords))
            found, own = consensus(jury), [float(one["CC"] or 0.0) for one in jury]
            by_judge.append(own)
            records.append(
                {
                    "id": cell.id,
                    "part": "",
                    "prompt": self.prompt(cell),
                    "answer": answer,
                    "parsed": answer.strip() or None,
                    "concept": cell.concept,
                    "level": cell.level,
                    **found.scores,
                    **{f"CC, {name}": value for name, value in zip(JURY, own, strict=True)},
                    "overall": found.overall,
                    "agreement": found.agreement,
                    "context words": word_count(cell.text),
                    "answer words": word_count(answer),
                }
            )
        scores = [*self._by_level(records), *self._curves(records), *self._jury(records, by_judge)]
        return Scores((*scores, unparsed_score(records)), records=tuple(records), notes=tuple(self._notes()))

    def _by_level(self, records: Sequence[Mapping[str, Any]]) -> list[Score]:
        found = []
        for axis in (*AXES, "answer words"):
            for level in LEVELS:
                own = {
                    str(r["concept"]): float(r[axis]) for r in records if r["level"] == level and r[axis] is not None
                }
                better = "zero" if axis == "answer words" else "higher"
                found.append(mean_score(f"{axis} at {level:g}", own, better, seed=self.seed))  # type: ignore[arg-type]  # Better, as the table has it
        return found

    def _curves(self, records: Sequence[Mapping[str, Any]]) -> list[Score]:
        curves: dict[str, list[float]] = {}
        for record in sorted(records, key=lambda one: one["level"]):
            curves.setdefault(str(record["concept"]), []).append(float(record["CC"]))
        whole = {concept: curve for concept, curve in curves.items() if len(curve) == len(LEVELS)}
        shapes = {concept: float(is_u(curve)) for concept, curve in whole.items()}
        dips = {concept: dip(curve) for concept, curve in whole.items()}
        bends = {concept: quadratic_term(LEVELS, curve) for concept, curve in whole.items()}
        both = [record for record in records if record["SA"] is not None]
        pairs = [float(r["CC"]) for r in both], [float(r["SA"]) for r in both]
        return [
            mean_score("U-shaped", shapes, "zero", share=True),
            mean_score("dip", dips, "zero", seed=self.seed),
            mean_score("quadratic term", bends, "zero", seed=self.seed),
            Score("r(CC, SA)", pearson(*pairs), "zero", why="one of the two is constant"),
            correlation_score("rho(CC, SA)", *pairs),
        ]

    def _jury(self, records: Sequence[Mapping[str, Any]], by_judge: Sequence[Sequence[float]]) -> list[Score]:
        kappa = kappa_of(by_judge)
        agreed = [float(r["agreement"]) for r in records if r["agreement"] is not None]
        alone = {name: {str(r["id"]): float(r[f"CC, {name}"]) for r in records} for name in JURY}
        return [
            *(mean_score(f"CC, {name}", own, "higher", seed=self.seed) for name, own in alone.items()),
            Score("kappa", Estimate(kappa, None, None, len(by_judge)), "higher", why="all scores lie in one band"),
            Score("agreement", estimate_mean(agreed, seed=self.seed), "higher"),
        ]

    def _notes(self) -> list[str]:
        levels = mismatches(self.arm)
        if not levels:
            return []
        shown = ", ".join(f"{level:g}" for level in levels)
        return [f"subject and judge have different rules at {shown}: what the curve shows there is this difference"]


def own_cells() -> list[Cell]:
    """Return the cells of our own concepts: a keyword phrase, a sentence's worth, then 2, 4 and all sentences."""
    content = json.loads((files("letheon.measure.compression_decay") / "concepts.json").read_text(encoding="utf-8"))
    cells = []
    for entry in content:
        sentences = entry["sentences"]
        texts = (entry["brief"], entry["phrase"], *(" ".join(sentences[:n]) for n in (2, 4, len(sentences))))
        for level, text, question in zip(LEVELS, texts, QUESTIONS, strict=True):
            name = entry["concept"]
            cells.append(Cell(name, level, text, question.format(name), tuple(entry["keywords"])))
    return cells


def read_cells(path: str) -> list[Cell]:
    """Read concepts in the paper's format.

    Raises:
        InputError: a concept lacks a field or a level.
    """
    cells = []
    for number, row in read_rows(path):
        where = f"{path}, row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("corpus"), list):
            raise InputError(f"{where}: found {short(row)}", 'write {"concept", "corpus": [five levels]}')
        name = text_of(row, "concept", where)
        for one in row["corpus"]:
            level = one.get("compression_level") if isinstance(one, dict) else None
            keywords = one.get("expected_keywords") if isinstance(one, dict) else None
            if level not in LEVELS or not isinstance(keywords, list) or not all(isinstance(k, str) for k in keywords):
                raise InputError(
                    f"{where}: level {short(level)}, keywords {short(keywords)}",
                    f"levels are {', '.join(map(str, LEVELS))}",
                )
            text, question = (text_of(one, field, where) for field in ("text", "probe_question"))
            cells.append(Cell(name, float(level), text, question, tuple(keywords)))
    ids = [cell.id for cell in cells]
    if len(set(ids)) < len(ids) or len(ids) % len(LEVELS) or not ids:
        raise InputError(f"{path}: a concept has a level twice, or lacks one", "give each concept all five levels once")
    return cells


def read_compression_decay(data: str = "", *, limit: int = 0, seed: int = 0, arm: str = "matched") -> CompressionDecay:
    """Read the concepts.

    Args:
        data: concepts in the paper's format; left out, our own eight.
        limit: number of concepts, drawn under `seed`; 0 takes all.
        arm: `matched` (one rule for subject and judge), `reference` (the released prompts' mismatch), `minimal` (text,
            rule and question alone) or `no_rule`.

    Raises:
        InputError: malformed concepts, or no such arm.
    """
    cells = read_cells(data) if data else own_cells()
    names = drawn(list(dict.fromkeys(cell.concept for cell in cells)), limit, seed, "concepts")
    chosen = tuple(cell for cell in cells if cell.concept in names)
    return CompressionDecay(chosen, read_arm(arm), data or "own concepts", seed)


def mean_curve(scores: Scores, axis: str = "CC") -> list[float]:
    """Return the mean of an axis at each level."""
    return [mean(scores[f"{axis} at {level:g}"].values()) for level in LEVELS]


def obedient(cell: Cell, arm: Arm) -> str:
    """Answer a cell exactly as its prompt says: from the text alone where that is asked, at length where it is allowed.

    It is the control without a model: under `reference` it shows the whole dip.
    """
    rule = subject_rule(cell.level, arm)
    if rule is None or (rule.words is None and rule.sentences is None):
        filler = "Moreover, people everywhere discuss related matters at considerable length, adding further examples."
        return " ".join([cell.text, *[filler] * 20])
    words = cell.text.split()
    return " ".join(words[: (rule.words or 60) - 1])
