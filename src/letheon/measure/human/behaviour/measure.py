"""`letheon measure behaviour`: replay curves and likes from content, and content from behaviour.

Paper:   Khandelwal et al., Large Content and Behavior Models, arXiv 2309.00359.
Differs: words only, no vision tokens; fine-tuning is a LoRA adapter on half of the videos, in both directions; every
         score is of the other half. Options are ranked by log-likelihood per word.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import Estimate
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.behaviour.baselines import interpolated, marginal, replay_errors, visible_mean
from letheon.measure.human.behaviour.templates import (
    BEHAVIOUR,
    CONTENT,
    REGIMES,
    Question,
    Regime,
    behaviour_question,
    content_question,
    hidden_scenes,
    likes_share,
    read_behaviour_answer,
    tuning_rows,
)
from letheon.measure.human.scenes import Content, read_content
from letheon.measure.human.tuning import Tuning, tuned_on
from letheon.measure.tables import drawn

LONGEST_ANSWER = 96  # tokens
DISTRACTORS = 24  # of the 25-way choice


@dataclass(frozen=True)
class Behaviour:
    """Videos with behaviour, and what is fitted on half of them.

    Attributes:
        k: masked values in fine-tuning.
        tuning: also fine-tune a LoRA adapter; None does not.
    """

    items: tuple[Content, ...]
    k: int = 5
    tuning: Tuning | None = None
    source: str = ""
    seed: int = 0

    name = "behaviour"
    columns = (
        *(f"RMSE {regime} {kind}" for regime in REGIMES for kind in ("model", "interpolation")),
        *("RMSE random mean", "accuracy random model", "likes error model", "likes error mean"),
        *("content choice", "content chance", "unparsed"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, counts, prompts and what is fitted."""
        train, test = self.halves()
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"videos": len(self.items), "train": len(train), "test": len(test)},
            "prompts": [BEHAVIOUR.facts(), CONTENT.facts()],
            "k": self.k,
            "fine-tuning": self.tuning,
            "hash": canonical_hash(self.items),
        }

    def halves(self) -> tuple[list[Content], list[Content]]:
        """Return the videos for fitting and those for testing."""
        order = list(self.items)
        random.Random(stream_seed(self.seed, "videos")).shuffle(order)
        return order[: len(order) // 2], order[len(order) // 2 :]

    def questions(self, regime: Regime) -> list[Question]:
        """Return the questions of a regime about the test videos."""
        draw = random.Random(stream_seed(self.seed, regime))
        return [
            behaviour_question(item, hidden_scenes(len(item.scenes), regime, draw, window=self.k))
            for item in self.halves()[1]
        ]

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Ask for masked behaviour in each regime and for masked content, beside baselines."""
        with self._fitted(model):
            scores, records = self._behaviour(model)
            chosen, more = self._content(model)
        every = (*records, *more)
        return Scores((*scores, *chosen, unparsed_score(every)), records=every, notes=self._notes())

    @contextmanager
    def _fitted(self, model: Responder) -> Iterator[None]:
        if self.tuning is None:
            yield
            return
        rows = tuning_rows(self.halves()[0], self.seed, self.k)
        local = local_model(model, "fine-tuning")
        with tuned_on(local, rows, self.tuning, seed=self.seed, title="learning the behaviour"):
            yield

    def _behaviour(self, model: Responder) -> tuple[list[Score], list[dict[str, Any]]]:
        train, _ = self.halves()
        scores, records = [], []
        shares = [share for item in train if (share := likes_share(item)) is not None]
        likes: dict[str, dict[str, float]] = {"model": {}, "mean": {}}
        for regime in REGIMES:
            asked = self.questions(regime)
            answers = model.answers([[one.prompt] for one in asked], LONGEST_ANSWER)
            errors: dict[str, dict[str, tuple[float | None, float]]] = {}
            for one, text in zip(asked, answers, strict=True):
                values, liked = read_behaviour_answer(text, one.hidden)
                kinds = {"model": values, "interpolation": interpolated(one.item, one.hidden)}
                kinds |= {"mean": visible_mean(one.item, one.hidden), "marginal": marginal(train, one.hidden)}
                for kind, predicted in kinds.items():
                    errors.setdefault(kind, {})[one.item.id] = replay_errors(one.item, predicted, one.hidden)
                truth = likes_share(one.item)
                if regime == "random" and truth is not None and shares:
                    likes["mean"][one.item.id] = abs(float(np.mean(shares)) - truth)
                    if liked is not None:
                        likes["model"][one.item.id] = abs(liked - truth)
                records.append(_record(one, regime, text, values, liked))
            for kind, own in errors.items():
                read = {key: error for key, (error, _) in own.items() if error is not None}
                scores.append(mean_score(f"RMSE {regime} {kind}", read, "lower", why="no answer could be read"))
                right = {key: share for key, (_, share) in own.items()}
                scores.append(mean_score(f"accuracy {regime} {kind}", right, "higher"))
        why = "no likes, or none could be read"
        return scores + [mean_score(f"likes error {k}", v, "lower", why=why) for k, v in likes.items()], records

    def _content(self, model: Responder) -> tuple[list[Score], list[dict[str, Any]]]:
        """Choose what is said in a scene among the test videos' other lines, shuffled per item."""
        draw = random.Random(stream_seed(self.seed, "content"))
        test = self.halves()[1]
        lines = sorted({scene.asr for item in test for scene in item.scenes if scene.asr})
        asked = []
        for item in test:
            spoken = [n for n, scene in enumerate(item.scenes, start=1) if scene.asr]
            if not spoken or len(lines) < 2:
                continue
            prompt, answer = content_question(item, draw.choice(spoken))
            others = [line for line in lines if line != answer]
            options = [answer, *draw.sample(others, min(DISTRACTORS, len(others)))]
            draw.shuffle(options)
            asked.append((item, prompt, answer, options))
        found = model.option_logp([([prompt], options) for _, prompt, _, options in asked])
        right, records, chance = {}, [], []
        for (item, prompt, answer, options), logp in zip(asked, found, strict=True):
            best = options[int(np.argmax(logp / [len(option.split()) for option in options]))]
            right[item.id] = float(best == answer)
            chance.append(1 / len(options))
            record = {"id": f"{item.id}/content", "part": "content", "prompt": prompt, "answer": best, "parsed": best}
            records.append({**record, "truth": answer})
        level = Estimate(float(np.mean(chance)) if chance else None, None, None, len(chance))
        choice = mean_score("content choice", right, "higher", share=True, why="no scene has speech")
        return [choice, Score("content chance", level, "zero")], records

    def _notes(self) -> tuple[str, ...]:
        return ("Interpolation and means know nothing of the content: a model below them has learned no behaviour.",)


def _record(one: Question, regime: Regime, text: str, values: dict[int, float], liked: float | None) -> dict[str, Any]:
    return {
        "id": f"{one.item.id}/{regime}",
        "part": regime,
        "prompt": one.prompt,
        "answer": text,
        "parsed": values if len(values) == len(one.hidden) else None,
        "likes": liked,
        "truth": one.answer,
    }


def read_behaviour(data: str = "", *, limit: int = 0, seed: int = 0, k: int = 5, epochs: int = 0) -> Behaviour:
    """Read videos with replay values.

    Args:
        data: content records with `replay` in their scenes; likes and views where they are known.
        limit: number of videos, drawn under `seed`; 0 takes all.
        k: consecutive replay values that are masked in fine-tuning.
        epochs: number of fine-tuning epochs on half of the videos; 0 trains nothing.

    Raises:
        InputError: no data, fewer than four videos, or videos without replay values.
    """
    if not data:
        raise InputError("behaviour needs videos with replay values", "give --data videos.jsonl")
    items = drawn(read_content(data), limit, seed, "videos")
    for item in items:
        bad = [s.replay for s in item.scenes if s.replay is None or not 0 <= s.replay <= 100]
        if bad or len(item.scenes) < 3:
            raise InputError(
                f"{data}, video {item.id}: {len(item.scenes)} scenes, {len(bad)} without a replay of 0 to 100",
                "give three scenes or more, each with a replay value",
            )
    if len(items) < 4:
        raise InputError(f"{data} holds {len(items)} videos", "give at least four")
    return Behaviour(tuple(items), k, Tuning(epochs=epochs) if epochs else None, data, seed)
