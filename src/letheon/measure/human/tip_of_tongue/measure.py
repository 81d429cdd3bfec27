"""`letheon measure tip_of_tongue`: find content from vague recalls, and write what people would recall of it.

Paper:   Bhattacharyya et al., Unsupervised Memorability Modeling from Tip-of-the-Tongue Queries, arXiv 2511.20854.
Differs: see the parts. Queries are of test items only, candidates are all items, and the model under measurement writes
         recalls; retrieval is by BM25, plain embeddings, and towers that were fitted on the training items' posts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.statistics import Estimate
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder
from letheon.measure.benchmark import NOTHING, Against, Better, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.memorability.scoring import embedded
from letheon.measure.human.scenes import Content
from letheon.measure.human.tip_of_tongue.analysis import by_slice, tot_statistics
from letheon.measure.human.tip_of_tongue.data import FEWEST_WORDS, Post, item_text, read_tot, split_by_content
from letheon.measure.human.tip_of_tongue.recall import PROMPT, fidelity, recall_prompt, summary
from letheon.measure.human.tip_of_tongue.retrieval import (
    TowerSettings,
    bm25_scores,
    chance_mrr,
    fit_towers,
    ranked,
    ranks_of,
)
from letheon.measure.tables import drawn
from letheon.recall.embedders import Embedder, load_embedder

# Scores of written recalls: name, field of `Fidelity`, where it should go.
WRITTEN: tuple[tuple[str, str, Better], ...] = (
    ("ROUGE-L", "rouge_l", "higher"),
    ("coverage", "coverage", "higher"),
    ("invented", "invented", "lower"),
)
Ranks = dict[str, Float[np.ndarray, " queries"]]


@dataclass(frozen=True)
class TipOfTongue:
    """Content, posts, and how they are searched.

    Attributes:
        written: test items for which the model writes a recall.
        ocr, asr: whether shown text and speech are part of the searchable text, for ablations.
        max_new_tokens: longest recall.
    """

    items: tuple[Content, ...]
    posts: tuple[Post, ...]
    embedder: Embedder
    written: int = 20
    ocr: bool = True
    asr: bool = True
    towers: TowerSettings = field(default_factory=TowerSettings)
    max_new_tokens: int = 120
    source: str = ""
    seed: int = 0

    name = "tip_of_tongue"
    columns = (
        *("MRR bm25", "MRR embedding", "MRR towers", "MRR chance", "recall@10 bm25", "recall@10 towers"),
        *("ROUGE-L model", "coverage model", "invented model", "coverage summary", "unparsed"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, counts, prompt and settings of the search."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"items": len(self.items), "posts": len(self.posts), "test posts": len(self.posts_of("test"))},
            "prompt": PROMPT.facts(),
            "embedder": self.embedder.name,
            "ocr": self.ocr,
            "asr": self.asr,
            "towers": vars(self.towers),
            "hash": canonical_hash([(post.content, post.recall) for post in self.posts]),
        }

    def posts_of(self, part: str) -> list[Post]:
        """Return the posts about content of a part: train, validation or test."""
        chosen = split_by_content(self.items, self.seed)[part]
        return [post for post in self.posts if post.content in chosen]

    def parts(self, train: Sequence[Post] | None = None) -> tuple[Sequence[Post], list[Post]]:
        """Return the training posts, if not given, and the test posts.

        Raises:
            InputError: there are too few.
        """
        train, test = self.posts_of("train") if train is None else train, self.posts_of("test")
        if len(train) < 2 or not test:
            raise InputError(f"{len(train)} training and {len(test)} test posts", "give posts about at least ten items")
        return train, test

    def ranks(self, train: Sequence[Post] | None = None) -> Ranks:
        """Return the rank of each test post's item among all items, by retriever.

        Args:
            train: posts that the towers are fitted on, if not those of the training items.
        """
        texts = [item_text(item, ocr=self.ocr, asr=self.asr) for item in self.items]
        place = {item.id: number for number, item in enumerate(self.items)}
        train, test = self.parts(train)
        vectors = embedded(self.embedder, texts)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        first, second = (embedded(self.embedder, [post.recall for post in part]) for part in (train, test))
        of_item = [place[post.content] for post in train]
        towers = fit_towers(first, vectors[of_item], of_item, self.towers, self.seed)
        right = [place[post.content] for post in test]
        return {
            "bm25": ranks_of(bm25_scores([post.recall for post in test], texts), right),
            "embedding": ranks_of(second @ vectors.T, right),
            "towers": ranks_of(towers.scores(second, vectors), right),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Search for every test post, let the model write recalls, and analyse the posts."""
        test = self.posts_of("test")
        ids = [post.id for post in test]
        scores: list[Score] = []
        reciprocal: dict[str, float] = {}
        ranks = self.ranks()
        for name, values in ranks.items():
            for metric, column in ranked(values).items():
                items = dict(zip(ids, column.tolist(), strict=True))
                scores.append(mean_score(f"{metric} {name}", items, "higher", share=metric.startswith("recall")))
                reciprocal = items if (metric, name) == ("MRR", "towers") else reciprocal
        chance = chance_mrr(len(self.items))
        scores.append(Score("MRR chance", Estimate(chance, None, None, len(self.items)), "higher"))
        slices = by_slice(reciprocal, test, self.items)
        scores += [Score(f"MRR towers, {name}", estimate, "higher") for name, estimate in slices.items()]
        records, recalls = self._recalls(model, test)
        scores += [*recalls, *self._analysis(), unparsed_score(records)]
        found = [
            {"id": post.id, "part": "retrieval", "prompt": post.recall, "answer": post.content, "parsed": post.content}
            | {f"rank {name}": float(values[n]) for name, values in ranks.items()}
            for n, post in enumerate(test)
        ]
        return Scores(tuple(scores), records=(*records, *found))

    def _recalls(self, model: Responder, test: Sequence[Post]) -> tuple[list[dict[str, Any]], list[Score]]:
        """Let the model write recalls of test items; a summary of the item is the baseline."""
        by_item: dict[str, list[str]] = defaultdict(list)
        for post in test:
            by_item[post.content].append(post.recall)
        chosen = drawn([item for item in self.items if item.id in by_item], self.written, self.seed, "written")
        if not self.written:
            return [], []
        answers = model.answers([[recall_prompt(item)] for item in chosen], self.max_new_tokens)
        kinds = {"model": answers, "summary": [summary(item) for item in chosen]}
        judged = {
            kind: [fidelity(text, by_item[item.id], item) for text, item in zip(texts, chosen, strict=True)]
            for kind, texts in kinds.items()
        }
        scores = [
            mean_score(
                f"{name} {kind}", {i.id: getattr(one, value) for i, one in zip(chosen, own, strict=True)}, better
            )
            for kind, own in judged.items()
            for name, value, better in WRITTEN
        ]  # fmt: skip
        records = [
            {"id": item.id, "part": "recall", "prompt": recall_prompt(item), "answer": text, "parsed": text or None}
            | vars(one)
            for item, text, one in zip(chosen, answers, judged["model"], strict=True)
        ]
        return records, scores

    def _analysis(self) -> list[Score]:
        found = tot_statistics(self.items, self.posts)
        why = "fewer than three items, or a constant side"
        pairs = {f"r searches and views, {name}": one for name, one in found.searches.items()}
        pairs["r response time and views"] = found.response
        scores = [Score(name, one, "zero", why="" if one.value is not None else why) for name, one in pairs.items()]
        return scores + [
            Score(f"hours to answer, {genre}", Estimate(hours, None, None, found.posts_by_genre[genre]), "lower")
            for genre, hours in found.hours_by_genre.items()
        ]


def read_tip_of_tongue(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    embedder: str = "minilm",
    written: int = 20,
    fewest: int = FEWEST_WORDS,
    ocr: bool = True,
    asr: bool = True,
    epochs: int = 20,
) -> TipOfTongue:
    """Read content and posts about it.

    Args:
        data: folder with content.jsonl and posts.jsonl.
        limit: number of posts, drawn under `seed`; 0 takes all.
        embedder: minilm, words, or a folder.
        written: number of test items for which the model writes a recall; 0 writes none.
        fewest: least words of a post.
        ocr, asr: whether shown text and speech can be searched.
        epochs: of the towers.

    Raises:
        InputError: no data, or rows that are not as they should be, or too few.
    """
    if not data:
        raise InputError("tip_of_tongue needs posts", "give --data FOLDER with content.jsonl and posts.jsonl")
    items, posts = read_tot(data, fewest)
    found = TipOfTongue(
        tuple(items), tuple(drawn(posts, limit, seed, "posts")), load_embedder(embedder), written, ocr, asr,
        TowerSettings(epochs=epochs), source=data, seed=seed,
    )  # fmt: skip
    found.parts()  # refuses too few posts before a model is loaded
    return found
