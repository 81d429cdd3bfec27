"""The generation pipeline against any model: scenario, refinement with exemplars, dialogue, turn labels, judgement.

Source:  bk123477/NormGenesis for the order of the stages, the markers and the criteria; wordings are ours, as the
         release has placeholders for its exemplars.
Differs: every stage decodes greedily. A refinement is judged in both orders of the two texts, and the judge is the
         model itself unless another is given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.ratings import rate
from letheon.measure.normgenesis.dialogues import phases, read_turns
from letheon.measure.tables import drawn, text_of

KINDS = {
    "adherence": "follows the norm",
    "violation": "breaks the norm, and nobody tries to repair it",
    "v2r": "breaks the norm; it is noticed, the one who broke it makes a sincere effort, and peace is restored",
}
SCENARIO = Template(
    "normgenesis scenario",
    "1",
    "Culture: {culture}. Category: {category}. Norm: {norm}\nWrite a scenario of one line with local names in which "
    "a person "
    "{kind}. Then write the situation: place, relation, feelings, tone, gestures.\nFormat:\n[Scenario] "
    "...\n[Situation] ...",
)
REFINE = Template(
    "normgenesis refinement",
    "1",
    "{exemplars}Rewrite scenario and situation so that they are as natural and detailed as the refined examples, "
    "and keep "
    "their meaning.\nNorm: {norm}\n[Scenario] {scenario}\n[Situation] {situation}\nFormat:\n[Refined Scenario] ...\n"
    "[Refined Situation] ...",
)
DIALOGUE = Template(
    "normgenesis dialogue",
    "1",
    "Norm: {norm}\nScenario: {scenario}\nSituation: {situation}\nWrite a dialogue of two speakers in which a person "
    "{kind}. "
    "Each line has the form\nName: (action) words",
)
LABEL = Template(
    "normgenesis label", "1", "{dialogue}\n\nWhich intent has this line: {line}\nAnswer with one of {labels}."
)
JUDGE = Template(
    "normgenesis judge",
    "1",
    "Initial text: {initial}\nRefined text: {refined}\nRate the refined text for {criterion} from 1 (very poor) to "
    "5 (very "
    "good). Answer with one number.",
)
SWAPPED = Template(
    "normgenesis judge swapped",
    "1",
    "Refined text: {refined}\nInitial text: {initial}\nRate the refined text for {criterion} from 1 (very poor) to "
    "5 (very "
    "good). Answer with one number.",
)
TEMPLATES = (SCENARIO, REFINE, DIALOGUE, LABEL, JUDGE, SWAPPED)
CRITERIA = ("task relevance", "linguistic quality", "semantic preservation")
INTENTS = ("ACK", "AGR", "DIS", "APO", "THX", "EMP", "JUS", "SUG", "QUE", "CRT", "NONE")
LONGEST = {"scenario": 160, "dialogue": 320}
OWN_NORMS = (
    ("American", "apology", "Apologise directly when you have hurt somebody, and say what you will do differently."),
    ("American", "greeting", "Greet colleagues when you come in."),
    ("American", "thanks", "Thank somebody who went out of their way for you."),
    ("Korean", "respect", "Use polite forms with people who are older than you."),
    ("Chinese", "compliment", "Answer a compliment with modesty."),
    ("American", "leave", "Say goodbye to the host before you leave a party."),
)


@dataclass(frozen=True)
class Norm:
    """A norm of a culture and category."""

    id: str
    culture: str
    category: str
    norm: str


@dataclass(frozen=True)
class Exemplar:
    """A text and how an expert refined it."""

    original: str
    refined: str


@dataclass(frozen=True)
class Written:
    """The outcome of the stages for one norm; a text is None where its stage could not be read."""

    norm: Norm
    scenario: str | None
    situation: str | None
    refined_scenario: str | None
    refined_situation: str | None
    dialogue: str


def marked(text: str, marker: str, following: str = "") -> str | None:
    """Return the text after a marker such as `[Scenario]`, up to the next bracketed one; None if there is none."""
    found = re.search(rf"\[{re.escape(marker)}[^\]]*\]\s*(.*?)(?=\n?\s*\[|\Z)", text, re.DOTALL | re.IGNORECASE)
    return (found[1].strip() or None) if found else None


def write_dialogues(
    model: Responder, norms: Sequence[Norm], kind: str, exemplars: Sequence[Exemplar] = ()
) -> list[Written]:
    """Run the stages scenario, refinement and dialogue for every norm, one stage after another.

    A stage whose predecessor could not be read works on what there is: an unreadable refinement leaves the first texts.
    """
    told = KINDS[kind]
    asked = [[SCENARIO.fill(culture=n.culture, category=n.category, norm=n.norm, kind=told)] for n in norms]
    first = [(marked(t, "Scenario"), marked(t, "Situation")) for t in model.answers(asked, LONGEST["scenario"])]
    shown = "".join(f"Original: {one.original}\nRefined: {one.refined}\n\n" for one in exemplars)
    asked = [
        [REFINE.fill(exemplars=shown, norm=n.norm, scenario=s or "", situation=t or "")]
        for n, (s, t) in zip(norms, first, strict=True)
    ]
    said = model.answers(asked, LONGEST["scenario"])
    refined = [(marked(t, "Refined Scenario"), marked(t, "Refined Situation")) for t in said]
    asked = [
        [DIALOGUE.fill(norm=n.norm, scenario=r[0] or s or "", situation=r[1] or t or "", kind=told)]
        for n, (s, t), r in zip(norms, first, refined, strict=True)
    ]
    dialogues = model.answers(asked, LONGEST["dialogue"])
    return [Written(n, *a, *b, text) for n, a, b, text in zip(norms, first, refined, dialogues, strict=True)]


def judge_refinement(judge: Responder, written: Sequence[Written]) -> list[dict[str, float | None]]:
    """Rate refined scenarios on three criteria from 1 to 5, averaged over both orders; None where one is missing."""
    whole = [one for one in written if one.scenario and one.refined_scenario]
    asked = [
        [template.fill(initial=one.scenario, refined=one.refined_scenario, criterion=criterion)]
        for one in whole
        for criterion in CRITERIA
        for template in (JUDGE, SWAPPED)
    ]
    ratings = iter([rating.expected for rating in rate(judge, asked, range(1, 6))] if asked else [])
    found = {}
    for one in whole:
        scores: dict[str, float | None] = {}
        for criterion in CRITERIA:
            pair = [next(ratings), next(ratings)]
            known = [value for value in pair if value is not None]
            scores[criterion] = sum(known) / len(known) if len(known) == 2 else None
        found[id(one)] = scores
    return [found.get(id(one), dict.fromkeys(CRITERIA)) for one in written]


def label_turns(model: Responder, dialogue: str) -> list[str | None]:
    """Label the intent of every turn; None where no label has any probability."""
    turns = read_turns(dialogue)
    lines = [f"{turn.speaker}: {turn.text}" for turn in turns]
    asked = [([LABEL.fill(dialogue=dialogue, line=line, labels=", ".join(INTENTS))], INTENTS) for line in lines]
    found = model.option_logp(asked) if asked else []
    return [INTENTS[int(logp.argmax())] if logp.max() > float("-inf") else None for logp in found]


@dataclass(frozen=True)
class NormGenesis:
    """Norms for which dialogues are written.

    Attributes:
        kind: `adherence`, `violation` or `v2r`.
        exemplars: refined examples that the refinement is shown.
    """

    norms: tuple[Norm, ...]
    kind: str = "v2r"
    exemplars: tuple[Exemplar, ...] = ()
    source: str = "own norms"
    seed: int = 0

    name = "normgenesis"
    columns = ("scenario read", "refinement read", *CRITERIA, "dialogue read", "turns", "resolved", "turns labelled")

    def config(self) -> dict[str, Any]:
        """Return source, kind and prompts."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"norms": len(self.norms), "exemplars": len(self.exemplars)},
            "kind": self.kind,
            "prompts": [template.facts() for template in TEMPLATES],
            "hash": canonical_hash([self.norms, self.exemplars]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Write a dialogue per norm, judge its refinement, label its turns, and look for the phases of a repair."""
        written = write_dialogues(model, self.norms, self.kind, self.exemplars)
        judged = judge_refinement(model, written)
        records = []
        for one, quality in zip(written, judged, strict=True):
            turns = read_turns(one.dialogue)
            labels = label_turns(model, one.dialogue)
            records.append(
                {
                    "id": one.norm.id,
                    "part": "",
                    "prompt": one.norm.norm,
                    "answer": one.dialogue,
                    "parsed": one.dialogue if len(turns) >= 2 and len({t.speaker for t in turns}) >= 2 else None,
                    "scenario": one.scenario,
                    "situation": one.situation,
                    "refined scenario": one.refined_scenario,
                    "refined situation": one.refined_situation,
                    **quality,
                    "turns": len(turns),
                    "labels": labels,
                    "resolved": phases(turns).resolved,
                }
            )
        return Scores((*self._scores(records), unparsed_score(records)), records=tuple(records))

    def _scores(self, records: Sequence[dict[str, Any]]) -> list[Score]:
        def share(name: str, hit: Any) -> Score:
            return mean_score(name, {r["id"]: float(bool(hit(r))) for r in records}, "higher", share=True)

        labelled = {f"{r['id']}/{i}": float(x is not None) for r in records for i, x in enumerate(r["labels"])}
        quality = [
            mean_score(c, {r["id"]: r[c] for r in records if r[c] is not None}, "higher", why="no refinement was read")
            for c in CRITERIA
        ]
        return [
            share("scenario read", lambda r: r["scenario"] and r["situation"]),
            share("refinement read", lambda r: r["refined scenario"] and r["refined situation"]),
            *quality,
            share("dialogue read", lambda r: r["parsed"] is not None),
            mean_score("turns", {r["id"]: float(r["turns"]) for r in records}, "zero", seed=self.seed),
            share("resolved", lambda r: r["resolved"]),
            mean_score("turns labelled", labelled, "higher", share=True, why="no dialogue has turns"),
        ]


def read_normgenesis(
    data: str = "", *, limit: int = 0, seed: int = 0, kind: str = "v2r", exemplars: str = ""
) -> NormGenesis:
    """Read the norms.

    Args:
        data: JSON lines {"culture", "category", "norm"}; left out, six norms of our own.
        limit: number of norms, drawn under `seed`; 0 takes all.
        kind: `adherence`, `violation` or `v2r`.
        exemplars: JSON lines {"original", "refined"} by experts.

    Raises:
        InputError: a malformed row, or another kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind}", f"one of: {', '.join(KINDS)}")
    norms = [Norm(f"norm-{i}", *texts) for i, texts in enumerate(OWN_NORMS, start=1)]
    if data:
        rows = [(f"{data}, row {number}", row) for number, row in read_rows(data)]
        norms = [
            Norm(f"norm-{i}", *(text_of(row, name, where) for name in ("culture", "category", "norm")))
            for i, (where, row) in enumerate(rows, start=1)
        ]
    shown = [
        Exemplar(*(text_of(row, name, f"{exemplars}, row {number}") for name in ("original", "refined")))
        for number, row in (read_rows(Path(exemplars)) if exemplars else [])
    ]
    return NormGenesis(tuple(drawn(norms, limit, seed, "norms")), kind, tuple(shown), data or "own norms", seed)
