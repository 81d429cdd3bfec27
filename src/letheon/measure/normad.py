"""NormAd: is an act socially acceptable, given nothing, a country, a country and a value, or the rule of thumb?

Paper:   Rao et al., NormAd: A Framework for Measuring the Cultural Adaptability of Large Language Models, arXiv
         2404.12464.
Source:  Akhila-Yerukola/NormAd for columns, conditions, zones and parsing. The authors' stories are not contained: they
         are distributed encrypted. `--data` names the user's own copy; the stories here are a fixture of ours.
Differs: answers are whole words; one that cannot be read is invalid and not neutral (`parser=reference` keeps the
         reference's reading). Options are scored by log-probability per token of the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.lm_eval_tasks import ChoiceItem
from letheon.measure.tables import drawn, text_of

LABELS = ("yes", "no", "neutral")
SHOWN = ("Yes", "No", "Neither")
COLUMNS = ("Country", "Subaxis", "Value", "Rule-of-Thumb", "Story")
CONDITIONS = ("none", "country", "country_value", "rule")
CONTEXT = {
    "none": "",
    "country": "Country: {country}\n",
    "country_value": "Country: {country}\nValue: {value}\n",
    "rule": "Rule-of-thumb: {rule}\n",
}
PROMPT = Template(
    "normad",
    "1",
    "Read the short story and judge from the given context alone whether what the main character does is socially "
    "acceptable. Assume nothing else.\n{context}Story: {story}\nOptions: 1) Yes 2) No 3) Neither\nAnswer with Yes, "
    "No or "
    "Neither.",
)
LONGEST_ANSWER = 12  # tokens
ZONES = {
    "English Speaking": "australia canada ireland new_zealand united_kingdom united_states_of_america",
    "Protestant Europe": "france germany netherlands sweden malta",
}
FIXTURE = "fixture of our own, not NormAd"


@dataclass(frozen=True)
class Story:
    """A story with its context and label.

    Attributes:
        country: lower case, with underscores.
        axis: the part of etiquette that it is about.
        value, rule: the abstract value, and the rule of thumb.
        label: index in `LABELS`.
    """

    id: str
    country: str
    axis: str
    value: str
    rule: str
    story: str
    label: int

    def prompt(self, condition: str) -> str:
        """Return the question under a condition."""
        named = self.country.replace("_", " ").title()
        context = CONTEXT[condition].format(country=named, value=self.value, rule=self.rule)
        return PROMPT.fill(context=context, story=self.story)


def parse(text: str) -> int | None:
    """Return the label that an answer gives first as a whole word or by its number; None if there is none.

    >>> [parse(text) for text in ("Yes.", "2) No", "Neither", "None of these", "")]
    [0, 1, 2, None, None]
    """
    found = re.search(r"\b(yes|no|neither|neutral)\b|(?:^|option )([123])(?=[).:\s]|$)", text.strip(), re.IGNORECASE)
    if not found:
        return None
    if found[2]:
        return int(found[2]) - 1
    return {"yes": 0, "no": 1, "neither": 2, "neutral": 2}[found[1].lower()]


def parse_as_released(text: str) -> int:
    """Read an answer as the released code does: by parts of words, case-sensitively, neutral if nothing is found.

    >>> [parse_as_released(text) for text in ("None of these", "")]
    [1, 2]
    >>> parse_as_released("not at all")
    2
    """
    for label, words in enumerate((("Yes", "option 1"), ("No", "option 2"), ("Neither", "option 3"))):
        if any(word in text for word in words):
            return label
    return 2


@dataclass(frozen=True)
class NormAd:
    """Stories and the conditions under which they are asked.

    Attributes:
        zones: country -> zone, for accuracy by zone.
        read: `options` (log-probabilities) or `text` (generated answers).
        parser: for `text`: `strict`, or `reference`.
    """

    stories: tuple[Story, ...]
    zones: Mapping[str, str]
    conditions: tuple[str, ...] = CONDITIONS
    read: str = "options"
    parser: str = "strict"
    source: str = FIXTURE
    seed: int = 0

    name = "normad"

    @property
    def columns(self) -> tuple[str, ...]:
        """Accuracy, macro F1 and the share of Yes by condition, and the baselines."""
        kinds = ("accuracy", "macro F1", "says yes")
        return (*(f"{c}: {kind}" for c in self.conditions for kind in kinds), "always yes", "majority", "unparsed")

    def config(self) -> dict[str, Any]:
        """Return source, conditions, prompt and the way of reading."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {name: sum(s.label == i for s in self.stories) for i, name in enumerate(LABELS)},
            "conditions": list(self.conditions),
            "prompt": PROMPT.facts(),
            "read": self.read,
            "parser": self.parser,
            "hash": canonical_hash([self.stories, dict(self.zones)]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Ask every story under every condition."""
        scores: list[Score] = []
        records: list[dict[str, Any]] = []
        asked = [[story.prompt(condition)] for condition in self.conditions for story in self.stories]
        all_chosen, all_said = self._answers(model, asked)  # in one call, for what they share
        for number, condition in enumerate(self.conditions):
            own = slice(number * len(self.stories), (number + 1) * len(self.stories))
            chosen, said = all_chosen[own], all_said[own]
            scores += self._scores(condition, chosen)
            records += [
                {
                    "id": f"{condition}/{story.id}",
                    "part": condition,
                    "prompt": story.prompt(condition),
                    "answer": text,
                    "parsed": None if choice is None else LABELS[choice],
                    "label": LABELS[story.label],
                    "country": story.country,
                    "axis": story.axis,
                }
                for story, choice, text in zip(self.stories, chosen, said, strict=True)
            ]
        shares = [np.mean([story.label == label for story in self.stories]) for label in range(3)]
        always = {story.id: float(story.label == 0) for story in self.stories}
        majority = {story.id: float(story.label == int(np.argmax(shares))) for story in self.stories}
        baselines = [
            mean_score(n, v, "higher", share=True) for n, v in (("always yes", always), ("majority", majority))
        ]
        notes: tuple[str, ...] = (
            "labels: " + ", ".join(f"{name} {share:.2f}" for name, share in zip(LABELS, shares, strict=True)),
        )
        if self.source == FIXTURE:
            notes = (*notes, "these stories are a fixture, not NormAd: give --data with your copy of the data")
        return Scores((*scores, *baselines, unparsed_score(records)), records=tuple(records), notes=notes)

    def choices(self) -> dict[str, list[ChoiceItem]]:
        """Return the questions of each condition; none where answers are read as text."""
        if self.read != "options":
            return {}
        return {
            f"{condition}: accuracy": [ChoiceItem(s.id, s.prompt(condition), SHOWN, s.label) for s in self.stories]
            for condition in self.conditions
        }

    def _answers(self, model: Responder, asked: Sequence[Sequence[str]]) -> tuple[list[int | None], list[str]]:
        if self.read == "text":
            said = model.answers(asked, LONGEST_ANSWER)
            read = parse_as_released if self.parser == "reference" else parse
            return [read(text) for text in said], said
        found = model.option_logp([(turns, SHOWN) for turns in asked])
        chosen = [int(np.argmax(logp)) if np.isfinite(logp).any() else None for logp in found]
        return chosen, ["" if choice is None else SHOWN[choice] for choice in chosen]

    def _scores(self, condition: str, chosen: Sequence[int | None]) -> list[Score]:
        right = {s.id: float(c == s.label) for s, c in zip(self.stories, chosen, strict=True)}
        yes = {s.id: float(c == 0) for s, c in zip(self.stories, chosen, strict=True)}
        labels = [story.label for story in self.stories]
        f1 = {LABELS[label]: f1_of(label, labels, chosen) for label in range(3)}
        scores = [
            mean_score(f"{condition}: accuracy", right, "higher", share=True),
            mean_score(f"{condition}: macro F1", f1, "higher", seed=self.seed),
            mean_score(f"{condition}: says yes", yes, "zero", share=True),
        ]
        groups = {"label": [LABELS[s.label] for s in self.stories], "axis": [s.axis for s in self.stories]}
        groups |= {"country": [s.country for s in self.stories]}
        groups |= {"zone": [self.zones.get(s.country, "") for s in self.stories]}
        for names in groups.values():
            for name in sorted(set(names) - {""}):
                own = {s.id: right[s.id] for s, group in zip(self.stories, names, strict=True) if group == name}
                scores.append(mean_score(f"{condition}, {name}: accuracy", own, "higher", share=True))
        countries = {c: mean(right[s.id] for s in self.stories if s.country == c) for c in groups["country"]}
        scores.append(mean_score(f"{condition}: mean over countries", countries, "higher", seed=self.seed))
        return scores


def f1_of(label: int, labels: Sequence[int], chosen: Sequence[int | None]) -> float:
    """Compute the F1 of one label; 0 where it is neither given nor chosen rightly."""
    hits = sum(a == b == label for a, b in zip(labels, chosen, strict=True))
    total = sum(one == label for one in labels) + sum(one == label for one in chosen)
    return 2 * hits / total if total else 0.0


def read_normad(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    conditions: str = ",".join(CONDITIONS),
    read: str = "options",
    parser: str = "strict",
    zones: str = "",
) -> NormAd:
    """Read the stories.

    Args:
        data: the CSV of the authors; left out, a fixture of our own.
        limit: number of stories, drawn under `seed`; 0 takes all.
        conditions: of none, country, country_value, rule; separated by commas.
        read, parser: `options` or `text`; for text `strict` or `reference`.
        zones: a CSV with the columns country and zone; without it only two zones are known.

    Raises:
        InputError: a missing column, an unknown label, condition or way of reading.
    """
    wanted = tuple(name.strip() for name in conditions.split(","))
    unknown = [name for name in wanted if name not in CONDITIONS]
    if unknown or read not in ("options", "text") or parser not in ("strict", "reference"):
        raise InputError(
            f"conditions={conditions}, read={read}, parser={parser}",
            f"conditions are {', '.join(CONDITIONS)}; read options or text; parser strict or reference",
        )
    path = data or str(files("letheon.measure") / "normad_fixture.jsonl")
    stories = [_story(row, f"{path}, row {number}", number) for number, row in read_rows(path)]
    return NormAd(
        stories=tuple(drawn(stories, limit, seed, "stories")),
        zones=read_zones(zones),
        conditions=wanted,
        read=read,
        parser=parser,
        source=data or FIXTURE,
        seed=seed,
    )


def _story(row: Any, where: str, number: int) -> Story:
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {short(row)}, not an object", "give the authors' CSV")
    label = text_of(row, "Gold Label", where).strip().lower()
    if label not in LABELS:
        raise InputError(f"{where}, field 'Gold Label': found {short(label)}", f"one of: {', '.join(LABELS)}")
    country, axis, value, rule, story = (text_of(row, name, where).strip() for name in COLUMNS)
    named = country.lower().replace(" ", "_")
    return Story(str(row.get("ID") or number), named, axis, value, rule, story, LABELS.index(label))


def read_zones(path: str) -> dict[str, str]:
    """Read country -> zone; each country has exactly one.

    Raises:
        InputError: a country has two zones.
    """
    if not path:
        return {country: zone for zone, names in ZONES.items() for country in names.split()}
    found: dict[str, str] = {}
    for number, row in read_rows(Path(path)):
        where = f"{path}, row {number}"
        country, zone = text_of(row, "country", where), text_of(row, "zone", where)
        if found.setdefault(country, zone) != zone:
            raise InputError(f"{where}: {country} has the zones {found[country]!r} and {zone!r}", "give it one")
    return found
