"""MUSE: news or novels to forget, measured by verbatim memorisation, knowledge and membership.

Paper:   Shi et al., MUSE: Machine Unlearning Six-Way Evaluation for Language Models, arXiv 2407.06460; hub ids
         `muse-bench/MUSE-News` (CC BY 4.0) and `muse-bench/MUSE-Books`.
Source:  open-unlearning (arXiv 2506.12618): VerbMem is the ROUGE-L F1 of 128 tokens that continue a passage, KnowMem
         that of 32 tokens that answer a question after ten solved ones (cut at an empty line or a next question), both
         greedy and as plain text without a chat template; PrivLeak by Min-K% with k = 0.4 on 2,048 tokens.
Differs: beside them a share of continuations that are broken language. Sustainability (one request after another) is
         `letheon forget --sequence`; here a request is one set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from letheon.audit.measuring.membership import membership
from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import continue_answers
from letheon.core.scoring.overlap import rouge
from letheon.forget.request import Request
from letheon.measure.benchmark import NOTHING, Against, Better, Score, Scores
from letheon.measure.common_scores import (
    MIN_K_AUROC,
    gibberish_score,
    mean_score,
    membership_score,
    privleak_score,
    soundness,
)
from letheon.measure.running_text import pieces, texts_of
from letheon.measure.tables import drawn, drawn_from, read_table, text_of

HUB = "muse-bench/MUSE-News"
# The forget set, and growing ones for scalability.
SPLITS = {"forget": ("raw", "forget"), **{f"scal_{i}": ("scal", f"forget_{i}") for i in range(1, 5)}}
PIECE = 2048  # tokens of a training text and of a text whose membership is tested
VERBATIM_TOKENS, ANSWER_TOKENS = 128, 32
STOPS = ("\n\n", "\nQuestion", "Question:")


@dataclass(frozen=True)
class Asked:
    """A text to continue, and its expected continuation."""

    id: str
    prompt: str
    expected: str


@dataclass(frozen=True)
class Muse:
    """MUSE's tables, read and checked.

    Attributes:
        forget, retain: running text that a model is trained on, and asked to forget or keep.
        verbatim: passages of the forget set to be continued.
        knowledge: questions after their solved examples, about the `forget` and the `retain` set.
        members, holdout: texts of the forget set and like them that no model saw.
        source, split, rows, seed: as they were given to `read_muse`.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    verbatim: tuple[Asked, ...]
    knowledge: Mapping[str, tuple[Asked, ...]]
    members: tuple[Example, ...]
    holdout: tuple[Example, ...]
    source: str = HUB
    split: str = "forget"
    rows: int = 0
    seed: int = 0

    name = "muse"
    columns = ("VerbMem forget", "KnowMem forget", "KnowMem retain", "PrivLeak", "gibberish")
    plane = ("KnowMem forget", "KnowMem retain")
    trains = True

    def request(self, model: LanguageModel | None = None) -> Request:
        """Forget the texts, keep the retain ones; in pieces of 2,048 tokens where a model is given."""
        forget, retain = (pieces(texts, PIECE, model) for texts in (self.forget, self.retain))
        return Request(forget, retain, id=f"muse {self.split}", reason="a benchmark")

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers."""
        names = ("forget", "retain", "verbatim", "members", "holdout")
        counts = {name: len(getattr(self, name)) for name in names}
        counts |= {f"knowledge {name}": len(rows) for name, rows in self.knowledge.items()}
        return {**drawn_from(self), "counts": counts, "hash": canonical_hash(self)}

    def evaluate(self, model: LanguageModel, against: Against = NOTHING) -> Scores:
        """Every score of one model."""
        said = continuations(model, self.verbatim, VERBATIM_TOKENS)
        answers = {
            name: continuations(model, rows, ANSWER_TOKENS, stops=STOPS) for name, rows in self.knowledge.items()
        }
        scores = [
            self._overlap("VerbMem forget", self.verbatim, said, "lower"),
            self._overlap("KnowMem forget", self.knowledge["forget"], answers["forget"], "lower"),
            self._overlap("KnowMem retain", self.knowledge["retain"], answers["retain"], "higher"),
            self._membership(model),
            gibberish_score(soundness({row.id: "" for row in self.verbatim}, said, against)),
        ]
        return self.relate(Scores(tuple(scores), {**said, **answers["forget"], **answers["retain"]}), against)

    def relate(self, scores: Scores, against: Against) -> Scores:
        """PrivLeak against a reference."""
        others = scores.without("PrivLeak")
        return replace(scores, scores=(*others, privleak_score(scores, against.reference)))

    def _overlap(self, name: str, rows: Sequence[Asked], said: Mapping[str, str], better: Better) -> Score:
        values = {row.id: rouge(said[row.id], row.expected).rougeL_f1 for row in rows}
        return mean_score(name, values, better, seed=self.seed)

    def _membership(self, model: LanguageModel) -> Score:
        """Min-K% on the first 2,048 tokens of each text (or as many as the model reads)."""
        members, holdout = (
            [pieces([text], PIECE, model)[0] for text in texts] for texts in (self.members, self.holdout)
        )
        test = membership(model, members, holdout, seed=self.seed)["min_k"]
        return membership_score(MIN_K_AUROC, test, [row.id for row in (*self.members, *self.holdout)])


def continuations(
    model: LanguageModel, rows: Sequence[Asked], max_new_tokens: int, stops: Sequence[str] = ()
) -> dict[str, str]:
    """Continue each text greedily, as running text, up to the first of the stops."""
    encoder = model.encoder()
    room = model.context_length - max_new_tokens - 1
    # a text that is too long loses its beginning
    starts = [encoder.answer(row.prompt, end=False)[0][-room:] for row in rows]
    texts = continue_answers(model, [""] * len(rows), starts, max_new_tokens)
    return {row.id: _until(text, stops).strip() for row, text in zip(rows, texts, strict=True)}


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


# Reading ------------------------------------------------------------------------------------------------------------


def read_muse(source: str | Path = HUB, *, split: str = "", rows: int = 0, seed: int = 0) -> Muse:
    """Read MUSE.

    Args:
        source: a hub id, or the folder of a copy in the hub's layout (`raw/forget-00000-of-00001.parquet`) or that of
            the authors' repository (`raw/forget.txt`, `knowmem/forget_qa.json`, `privleak/holdout.json`).
        split: `forget` (where it is empty), or `scal_1` to `scal_4`.
        rows: so many rows of each table that is evaluated, drawn under `seed`; 0 takes all. The texts of the request
            stay whole: what is asked is about all of them.

    Raises:
        InputError: no such split, a table is missing, or a row is not as it should be.
    """
    split = split or "forget"
    if split not in SPLITS:
        raise InputError(f"MUSE has no split {split!r}", nearest(split, list(SPLITS)))
    config, name = SPLITS[split]

    tables: dict[str, Sequence[Any]] = {
        "verbatim": _passages(source),
        "forget_qa": _questions(source, ("forget_qa",)),
        "retain_qa": _questions(source, ("retain_qa", "retain2_qa")),
        "members": _texts(source, "privleak", ("forget",)),
        "holdout": _texts(source, "privleak", ("holdout",)),
    }
    asked = {name: tuple(drawn(table, rows, seed, name)) for name, table in tables.items()}
    return Muse(
        forget=tuple(_texts(source, config, (name,))),
        retain=tuple(_texts(source, "raw", ("retain1",))),
        verbatim=asked["verbatim"],
        knowledge={"forget": asked["forget_qa"], "retain": asked["retain_qa"]},
        members=asked["members"],
        holdout=asked["holdout"],
        source=str(source),
        split=split,
        rows=rows,
        seed=seed,
    )


def _texts(source: str | Path, config: str, splits: Sequence[str]) -> list[Example]:
    where, rows = read_table(source, config, splits)
    return texts_of(where, rows, f"{config}-{splits[0]}")


def _passages(source: str | Path) -> list[Asked]:
    where, rows = read_table(source, "verbmem", ("forget",))
    passages = []
    for i, row in enumerate(rows, start=1):
        prompt, expected = (text_of(row, name, f"{where}, row {i}") for name in ("prompt", "gt"))
        passages.append(Asked(f"verbmem-{i}", prompt, expected.strip()))
    return passages


def _questions(source: str | Path, splits: Sequence[str]) -> list[Asked]:
    """Each question after the solved ones of its set."""
    solved = "".join(f"{asked.prompt}{asked.expected}\n\n" for asked in _pairs(source, [f"{s}_icl" for s in splits]))
    return [replace(asked, prompt=solved + asked.prompt) for asked in _pairs(source, splits)]


def _pairs(source: str | Path, splits: Sequence[str]) -> list[Asked]:
    where, rows = read_table(source, "knowmem", splits)
    pairs = []
    for i, row in enumerate(rows, start=1):
        question, answer = (text_of(row, name, f"{where}, row {i}") for name in ("question", "answer"))
        pairs.append(Asked(f"{splits[0]}-{i}", f"Question: {question}\nAnswer: ", answer))
    return pairs
