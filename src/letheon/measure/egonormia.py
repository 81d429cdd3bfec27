"""EgoNormia: the next action in a social scene, the reason for it, and all actions that would be acceptable.

Paper:   Rezaei et al., EgoNormia: Benchmarking Physical Social Norm Understanding, arXiv 2502.20490.
Source:  Open-Social-World/EgoNormia for items and scoring.
Differs: the released scorer maps a chosen position back by the inverse of the permutation that it was shown in, under
         which a perfect model scores about .36; here position p means original option perm[p] (`released_original`
         keeps the slip for comparison). An answer that cannot be read is invalid, not "none of these". The overlap of
         two empty sets is 1. Scenes are given as text; frames need a vision model, which this measure does not run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash, read_json
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.core.rows.sampling import stream_seed
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.tables import drawn

NONE = "None of the above"
ACTION = Template(
    "egonormia action",
    "1",
    "{scene}Which single action should the person wearing the camera do next?\n{options}\nAnswer with the number of "
    "the most "
    "appropriate action and nothing else.",
)
REASON = Template(
    "egonormia reason",
    "1",
    '{scene}The person wearing the camera should do this next: "{action}" Which is the best '
    "reason?\n{options}\nAnswer with "
    "the number of the reason and nothing else.",
)
SENSIBLE = Template(
    "egonormia sensible",
    "1",
    "{scene}Is this action acceptable as the next one of the person wearing the camera? {option}\nAnswer Yes or No.",
)
TEMPLATES = (ACTION, REASON, SENSIBLE)
CONDITIONS = ("desc", "blind")
LISTS = {
    "behaviours": ("behaviors",),
    "reasons": ("justifications",),
    "sensible": ("sensibles", "sensible_idx"),
}


@dataclass(frozen=True)
class Scene:
    """One item.

    Attributes:
        behaviours, reasons: the options; an empty one means none of the others.
        correct: index of the right behaviour, and of its reason.
        sensible: indices of all acceptable behaviours.
        labels: kinds of norm of the right behaviour.
        description: the scene as text.
    """

    id: str
    behaviours: tuple[str, ...]
    reasons: tuple[str, ...]
    correct: int
    sensible: frozenset[int]
    labels: tuple[str, ...]
    description: str


def original(position: int, permutation: Sequence[int]) -> int:
    """Return the option that stands at a position when option permutation[k] is shown at position k."""
    return permutation[position]


def released_original(position: int, permutation: Sequence[int]) -> int:
    """Map back as the released scorer does: by the inverse permutation; the last position means the last option."""
    last = len(permutation) - 1
    return last if position == last else list(permutation).index(position)


def overlap(first: frozenset[int], second: frozenset[int]) -> float:
    """Compute intersection over union; 1 for two empty sets."""
    return len(first & second) / len(first | second) if first | second else 1.0


@dataclass(frozen=True)
class Verdict:
    """What was chosen for one scene, as original options; None where it could not be read."""

    action: int | None
    reason: int | None
    sensible: frozenset[int] | None


def verdict_scores(scenes: Sequence[Scene], verdicts: Sequence[Verdict], seed: int = 0) -> list[Score]:
    """Score actions, reasons, both together and the acceptable sets; actions also by kind of norm."""
    pairs = list(zip(scenes, verdicts, strict=True))
    action = {scene.id: float(v.action == scene.correct) for scene, v in pairs}
    reason = {scene.id: float(v.reason == scene.correct) for scene, v in pairs}
    both = {name: action[name] * reason[name] for name in action}
    union = {scene.id: 0.0 if v.sensible is None else overlap(v.sensible, scene.sensible) for scene, v in pairs}
    scores = [
        mean_score(n, v, "higher", share=True) for n, v in (("action", action), ("reason", reason), ("both", both))
    ]
    scores.append(mean_score("sensible IoU", union, "higher", seed=seed))
    for label in sorted({label for scene in scenes for label in scene.labels}):
        own = {scene.id: action[scene.id] for scene in scenes if label in scene.labels}
        scores.append(mean_score(f"action, {label}", own, "higher", share=True))
    return scores


@dataclass(frozen=True)
class EgoNormia:
    """Scenes and the condition under which they are asked.

    Attributes:
        condition: `desc` shows the description, `blind` shows none.
        orders: permutations of the options per scene; more remove the bias of positions.
    """

    scenes: tuple[Scene, ...]
    condition: str = "desc"
    orders: int = 4
    source: str = ""
    seed: int = 0

    name = "egonormia"
    columns = ("action", "reason", "both", "sensible IoU", "most chosen position", "unparsed")

    def config(self) -> dict[str, Any]:
        """Return source, condition, number of orders and prompts."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"scenes": len(self.scenes)},
            "condition": self.condition,
            "orders": self.orders,
            "prompts": [template.facts() for template in TEMPLATES],
            "hash": canonical_hash([vars(scene) for scene in self.scenes]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Choose the option with the largest mean log-probability over the orders."""
        actions, positions = self._choose(model, [(s, ACTION, s.behaviours, {}) for s in self.scenes])
        asked = [
            (s, REASON, s.reasons, {"action": NONE if a is None else s.behaviours[a] or NONE})
            for s, a in zip(self.scenes, actions, strict=True)
        ]
        reasons, _ = self._choose(model, asked)
        sensible = self._sensible(model)
        verdicts = [Verdict(*choices) for choices in zip(actions, reasons, sensible, strict=True)]
        records = [
            {
                "id": scene.id,
                "part": "",
                "prompt": self._filled(scene, ACTION, scene.behaviours, range(len(scene.behaviours)), {}),
                "answer": "" if v.action is None else scene.behaviours[v.action] or NONE,
                "parsed": v.action,
                "reason": v.reason,
                "sensible": None if v.sensible is None else sorted(v.sensible),
                "correct": scene.correct,
            }
            for scene, v in zip(self.scenes, verdicts, strict=True)
        ]
        shares = np.bincount(positions, minlength=1) / max(len(positions), 1)
        commonest = {str(i): float(position == shares.argmax()) for i, position in enumerate(positions)}
        biased = mean_score("most chosen position", commonest, "zero", share=True)
        scores = (*verdict_scores(self.scenes, verdicts, self.seed), biased, unparsed_score(records))
        return Scores(scores, records=tuple(records), notes=(f"{len(self.scenes)} scenes: read the intervals",))

    def _scene(self, scene: Scene) -> str:
        return f"{scene.description.strip()}\n\n" if self.condition == "desc" else ""

    def _filled(
        self, scene: Scene, template: Template, options: Sequence[str], order: Sequence[int], fields: Mapping[str, str]
    ) -> str:
        listed = "\n".join(f"{place}. {options[i] or NONE}" for place, i in enumerate(order, start=1))
        return template.fill(scene=self._scene(scene), options=listed, **fields)

    def _choose(
        self, model: Responder, asked: Sequence[tuple[Scene, Template, Sequence[str], Mapping[str, str]]]
    ) -> tuple[list[int | None], list[int]]:
        """Return the chosen original options, and every position that was the most probable one."""
        draws = random.Random(stream_seed(self.seed, "orders"))
        rows = [
            (number, draws.sample(range(len(options)), len(options)))
            for number, (_, _, options, _) in enumerate(asked)
            for _ in range(self.orders)
        ]
        questions = []
        for number, order in rows:
            scene, template, options, fields = asked[number]
            numbers = [str(place) for place in range(1, len(order) + 1)]
            questions.append(([self._filled(scene, template, options, order, fields)], numbers))
        totals = [np.zeros(len(options)) for _, _, options, _ in asked]
        positions = []
        for (number, order), logp in zip(rows, model.option_logp(questions), strict=True):
            logp = np.maximum(logp, -1e3) if np.isfinite(logp).any() else np.full(len(order), np.nan)
            for position, value in enumerate(logp):
                totals[number][original(position, order)] += value
            if np.isfinite(logp).all():
                positions.append(int(logp.argmax()))
        return [int(total.argmax()) if np.isfinite(total).all() else None for total in totals], positions

    def _sensible(self, model: Responder) -> list[frozenset[int] | None]:
        """Ask about each behaviour alone."""
        rows = [(s, i) for s in self.scenes for i in range(len(s.behaviours))]
        options = ("Yes", "No")
        asked = [([SENSIBLE.fill(scene=self._scene(s), option=s.behaviours[i] or NONE)], options) for s, i in rows]
        found: dict[str, set[int] | None] = {scene.id: set() for scene in self.scenes}
        for (scene, i), logp in zip(rows, model.option_logp(asked), strict=True):
            chosen = found[scene.id]
            if not np.isfinite(logp).any() or chosen is None:
                found[scene.id] = None
            elif logp[0] > logp[1]:
                chosen.add(i)
        return [None if (own := found[s.id]) is None else frozenset(own) for s in self.scenes]


def read_egonormia(
    data: str = "", *, limit: int = 0, seed: int = 0, condition: str = "desc", orders: int = 4
) -> EgoNormia:
    """Read scenes.

    Args:
        data: the authors' JSON: an object of items by id, or a list of rows as on the hub.
        limit: number of scenes, drawn under `seed`; 0 takes all.
        condition: `desc` or `blind`.
        orders: permutations of the options per scene.

    Raises:
        InputError: no data, a malformed item, or another condition.
    """
    if not data:
        raise InputError("egonormia needs the scenes", "give --data with the authors' JSON")
    if condition not in CONDITIONS or orders < 1:
        raise InputError(f"condition={condition}, orders={orders}", "write desc or blind, and at least one order")
    scenes = drawn(read_scenes(data), limit, seed, "scenes")
    return EgoNormia(tuple(scenes), condition, orders, data, seed)


def read_scenes(path: str | Path) -> list[Scene]:
    """Read the items of the authors' JSON.

    Raises:
        InputError: an item lacks a field, or an index names no option.
    """
    if str(path).endswith(".json"):
        content = read_json(Path(path))
        rows = list(content.values()) if isinstance(content, dict) else list(content)
    else:
        rows = [row for _, row in read_rows(path)]
    return [_scene(row, f"{path}, item {number}") for number, row in enumerate(rows, start=1)]


def _scene(row: Any, where: str) -> Scene:
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {short(row)}, not an object", "give the authors' JSON")
    lists = {name: _list(row, names, where) for name, names in LISTS.items()}
    behaviours, reasons, sensible = lists.values()
    correct: Any = row.get("correct", row.get("correct_idx"))
    n = len(behaviours)
    if len(reasons) != n or n < 2 or not all(isinstance(i, int) and 0 <= i < n for i in (correct, *sensible)):
        raise InputError(f"{where}: indices {short([correct, *sensible])} for {n} options", "count options from 0")
    if row.get("id", where) is None:
        raise InputError(f"{where}, field 'id': found nothing", "fill it, or leave it out in every item")
    labels = (row.get("taxonomy") or {}).get(str(correct), [])
    return Scene(
        id=str(row.get("id", where)),
        behaviours=tuple(map(str, behaviours)),
        reasons=tuple(map(str, reasons)),
        correct=int(correct),
        sensible=frozenset(sensible),
        labels=tuple(map(str, labels)),
        description=str(row.get("desc") or row.get("description") or ""),
    )


def _list(row: Mapping[str, Any], names: Sequence[str], where: str) -> list[Any]:
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, list) or None in value:
        raise InputError(
            f"{where}, field {names[0]!r}: found {short(value)}, not a list without gaps", "give the authors' JSON"
        )
    return value


def recorded_verdicts(path: str | Path, scenes: Sequence[Scene]) -> dict[str, list[Verdict]]:
    """Read the recorded answers of several systems (the authors' evaluation JSON), as original options.

    Raises:
        InputError: a scene has no recorded answer.
    """
    content = read_json(Path(path))
    systems: dict[str, list[Verdict]] = {}
    for scene in scenes:
        if scene.id not in content:
            raise InputError(f"{path} has no answers for {scene.id}", "give the file that belongs to these scenes")
        for system, answers in content[scene.id].items():
            action, reason = answers["best"]["results"]
            chosen = frozenset(answers["sensible"]["results"])
            systems.setdefault(system, []).append(Verdict(action, reason, chosen))
    return systems
