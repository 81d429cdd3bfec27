"""The battery run on a model: answer, then KEEP or WITHDRAW, then BET or NO_BET, in one conversation per item.

Paper:   Cacioli, The Metacognitive Monitoring Battery, arXiv 2604.15702.
Source:  synthiumjp/metacognitive-monitoring-battery for the order of the probes and the measures; wordings are ours, as
         the paper's are not released [inferred].
Differs: probes are read by the probabilities of their words (`read=options`) or from generated text (`read=text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.statistics import Estimate, estimate_mean
from letheon.measure.asking.parsing import option_in, unparsed_score
from letheon.measure.asking.responder import Responder, Turns
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.lm_eval_tasks import ChoiceItem
from letheon.measure.metacognition.items import TRACKS, Item, letter, own_items, read_items
from letheon.measure.metacognition.monitoring import Cell, Response, cell, profile, type2_auroc, type2_dprime
from letheon.measure.tables import drawn

ANSWER = Template("battery answer", "1", "{item}\nAnswer with one letter and nothing else.")
KEEP = Template(
    "battery keep",
    "1",
    "You may keep your answer or withdraw it. Keep it if you think that it is right. Answer with one word, KEEP or "
    "WITHDRAW.",
)
BET = Template("battery bet", "1", "Do you bet that your answer is right? Answer with one word, BET or NO_BET.")
PATH = Template(
    "battery path",
    "1",
    "{item}\nDo not answer yet. Choose how to go on: ANSWER_DIRECTLY, REQUEST_HINT or DECLINE. Answer with one of "
    "these words.",
)
TEMPLATES = (ANSWER, KEEP, BET, PATH)
KEPT, BETS = ("KEEP", "WITHDRAW"), ("BET", "NO_BET")
PATHS = ("ANSWER_DIRECTLY", "REQUEST_HINT", "DECLINE")
SCORED = ("T1", "T2", "T3", "T4", "T5")
LONGEST_WORD = 12  # tokens
FEW = 5  # wrong answers, below which a withdraw delta says little
NO_DELTA = "there are no right or no wrong answers"


@dataclass(frozen=True)
class Metacognition:
    """Items of the tracks, and how the answers are read.

    Attributes:
        items: the questions.
        read: `options` or `text`.
        strict: count a probe that could not be read as a withdrawal, as the reference does.
    """

    items: tuple[Item, ...]
    read: str = "options"
    strict: bool = False
    source: str = "own items"
    seed: int = 0

    name = "metacognition"

    @property
    def columns(self) -> tuple[str, ...]:
        """The mean withdraw delta and accuracy, each track's, and the type-2 measures."""
        tracks = [track for track in TRACKS if any(item.track == track for item in self.items)]
        own = (f"{track} {what}" for track in tracks for what in ("accuracy", "withdraw delta"))
        return ("withdraw delta", "pooled withdraw delta", "accuracy", "type-2 AUROC", "type-2 d'", *own, "unparsed")

    def config(self) -> dict[str, Any]:
        """Return source, counts of items, prompts and the way of reading."""
        counts = {track: sum(item.track == track for item in self.items) for track in TRACKS}
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": counts,
            "read": self.read,
            "unread probes withdraw": self.strict,
            "prompts": [template.facts() for template in TEMPLATES],
            "hash": canonical_hash(self.items),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Ask every item and its probes and compute the measures."""
        asked = [[ANSWER.fill(item=item.shown())] for item in self.items]
        letters = [[letter(i) for i in range(len(item.options))] for item in self.items]
        choices, _, said = self._choose(model, asked, letters)
        given = [letters[i][choice] if choice is not None else said[i] or "?" for i, choice in enumerate(choices)]
        kept_asked = [[*turns, answer, KEEP.fill()] for turns, answer in zip(asked, given, strict=True)]
        kept, confidence, kept_said = self._choose(model, kept_asked, [KEPT] * len(asked))
        bet_asked = [[*turns, text or "?", BET.fill()] for turns, text in zip(kept_asked, kept_said, strict=True)]
        bets, _, _ = self._choose(model, bet_asked, [BETS] * len(asked))
        paths = self._paths(model)
        responses = [
            Response(
                item.id,
                item.track,
                None if choices[i] is None else choices[i] == item.key,
                None if kept[i] is None else kept[i] == 0,
                None if bets[i] is None else bets[i] == 0,
                paths.get(item.id, ""),
                confidence[i],
            )
            for i, item in enumerate(self.items)
        ]
        columns = zip(self.items, asked, said, choices, responses, strict=True)
        records = [_record(item, turns[0], text, choice, r) for item, turns, text, choice, r in columns]
        scores = self._scores(responses, records)
        return Scores(tuple(scores), records=tuple(records), notes=tuple(self._notes(responses)))

    def choices(self) -> dict[str, list[ChoiceItem]]:
        """Return the questions of the scored tracks without their probes; none where answers are read as text."""
        scored = [item for item in self.items if item.track in SCORED] if self.read == "options" else []
        items = [
            ChoiceItem(
                item.id, ANSWER.fill(item=item.shown()), tuple(letter(i) for i in range(len(item.options))), item.key
            )
            for item in scored
        ]
        return {"accuracy": items} if items else {}

    def _choose(
        self, model: Responder, asked: Sequence[Turns], options: Sequence[Sequence[str]]
    ) -> tuple[list[int | None], list[float | None], list[str]]:
        """Return the chosen option, the first option's log-odds against the second, and the text of each answer."""
        if self.read == "text":
            said = model.answers(asked, LONGEST_WORD)
            return [option_in(text, own) for text, own in zip(said, options, strict=True)], [None] * len(asked), said
        found = model.option_logp(list(zip(asked, options, strict=True)))
        chosen = [int(np.argmax(logp)) if np.isfinite(logp).any() else None for logp in found]
        odds = [float(logp[0] - logp[1]) if np.isfinite(logp[:2]).all() else None for logp in found]
        return chosen, odds, ["" if c is None else own[c] for c, own in zip(chosen, options, strict=True)]

    def _paths(self, model: Responder) -> dict[str, str]:
        items = [item for item in self.items if item.track == "T6"]
        if not items:
            return {}
        asked = [[PATH.fill(item=item.shown())] for item in items]
        chosen, _, _ = self._choose(model, asked, [PATHS] * len(items))
        return {item.id: "" if path is None else PATHS[path] for item, path in zip(items, chosen, strict=True)}

    def _scores(self, responses: Sequence[Response], records: Sequence[dict[str, Any]]) -> list[Score]:
        tracks = {t: [r for r in responses if r.track == t] for t in TRACKS if any(r.track == t for r in responses)}
        cells = {track: cell(rows, unread_withdraws=self.strict) for track, rows in tracks.items()}
        scored = [r for r in responses if r.track in SCORED]
        pooled = cell(scored, unread_withdraws=self.strict)
        deltas = {t: one.delta.value for t, one in cells.items() if t in SCORED and one.delta.value is not None}
        right = {r.item: float(r.correct) for r in scored if r.correct is not None}
        dprime = type2_dprime(pooled)
        auroc = type2_auroc(scored)
        scores = [
            Score("withdraw delta", estimate_mean(list(deltas.values())), "higher", deltas, why=NO_DELTA),
            Score("pooled withdraw delta", pooled.delta, "higher", why=NO_DELTA),
            Score("accuracy", estimate_mean(list(right.values()), share=True), "higher", right),
            Score("type-2 AUROC", auroc, "higher", why="confidence is known with read=options only, or " + NO_DELTA),
            Score("type-2 d'", Estimate(dprime, None, None, pooled.delta.n), "higher", why=NO_DELTA),
        ]
        for track, one in cells.items():
            scores += _track_scores(track, one, tracks[track])
        for name, attribute in (("kept", "keep"), ("bet", "bet")):
            values = {r.item: float(v) for r in scored if (v := getattr(r, attribute)) is not None}
            scores.append(Score(name, estimate_mean(list(values.values()), share=True), "zero", values))
        for path in PATHS if "T6" in tracks else ():
            values = {r.item: float(r.path == path) for r in tracks["T6"]}
            scores.append(Score(f"T6 {path}", estimate_mean(list(values.values()), share=True), "zero", values))
        probes = [{**record, "parsed": record["keep"]} for record in records]
        return [*scores, unparsed_score(records), unparsed_score(probes, "unparsed probes")]

    def _notes(self, responses: Sequence[Response]) -> list[str]:
        cells = {t: cell([r for r in responses if r.track == t], unread_withdraws=self.strict) for t in SCORED}
        keeps = [one.keeps for one in cells.values() if one.keeps is not None]
        deltas = [one.delta.value for one in cells.values() if one.delta.value is not None]
        label = profile(mean(keeps) if keeps else None, mean(deltas) if deltas else None)
        names = {"A": "blanket confidence", "B": "blanket withdrawal", "C": "selective sensitivity"}
        notes = [f"profile {label}" + (f" ({names[label]})" if label in names else "")]
        few = [f"{track} ({one.incorrect})" for track, one in cells.items() if one.correct and one.incorrect < FEW]
        if few:
            notes.append(f"fewer than {FEW} wrong answers, so that the withdraw delta says little: {', '.join(few)}")
        kept = {r.keep for r in responses if r.keep is not None}
        if len(kept) == 1 and len(responses) >= 2 * FEW:
            notes.append(f"degenerate: the model {'keeps' if kept == {True} else 'withdraws'} every answer")
        return notes


def _track_scores(track: str, one: Cell, rows: Sequence[Response]) -> list[Score]:
    right = {r.item: float(r.correct) for r in rows if r.correct is not None}
    shares = (("kept if right", one.keep_correct, one.correct), ("kept if wrong", one.keep_incorrect, one.incorrect))
    return [
        Score(f"{track} accuracy", estimate_mean(list(right.values()), share=True), "higher", right),
        Score(f"{track} withdraw delta", one.delta, "higher", why=NO_DELTA),
        *(Score(f"{track} {name}", Estimate(value, None, None, n), "zero", why=NO_DELTA) for name, value, n in shares),
    ]


def _record(item: Item, prompt: str, said: str, choice: int | None, response: Response) -> dict[str, Any]:
    return {
        "id": item.id,
        "part": item.track,
        "prompt": prompt,
        "answer": said,
        "parsed": choice,
        "correct": response.correct,
        "keep": response.keep,
        "bet": response.bet,
        "path": response.path,
        "confidence": response.confidence,
        "type": item.type,
        **dict(item.fields),
    }


def read_metacognition(
    data: str = "", *, limit: int = 0, seed: int = 0, read: str = "options", per_track: int = 20, strict: bool = False
) -> Metacognition:
    """Read the items.

    Args:
        data: JSON lines of items; left out, generated ones.
        limit: number of items, drawn under `seed`; 0 takes all.
        read: `options` compares the probabilities of the words, `text` reads generated answers.
        per_track: generated items per track.
        strict: count a probe that could not be read as a withdrawal.

    Raises:
        InputError: a malformed item, or another way of reading.
    """
    if read not in ("options", "text"):
        raise InputError(f"read={read}", "write options or text")
    items = read_items(data) if data else own_items(per_track, seed)
    return Metacognition(tuple(drawn(items, limit, seed, "items")), read, strict, data or "own items", seed)
