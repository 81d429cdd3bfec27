"""Unsupervised Memorability Modeling from Tip-of-the-Tongue Retrieval Queries.

arXiv 2511.20854, 2025-11; WACV 2026; Bhattacharyya et al. Full scale in the paper: 470,000 posts and 82,000 videos with
a vision-language model. Here: simulated films whose salient scenes are remembered, with false details, synonyms and
blurred years; films are split by content. The settings of the towers are the first that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.statistics import rank_correlation
from letheon.measure.human.scenes import Content
from letheon.measure.human.tip_of_tongue.analysis import tot_statistics
from letheon.measure.human.tip_of_tongue.data import Post
from letheon.measure.human.tip_of_tongue.measure import TipOfTongue
from letheon.measure.human.tip_of_tongue.recall import fidelity, recall_prompt, summary
from letheon.measure.human.tip_of_tongue.retrieval import chance_mrr, ranked
from letheon.measure.human.tip_of_tongue.simulator import Film, simulate_films, simulate_posts
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, small_llama, teach
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Embedder, load_embedder

FILMS = {"fast": 200, "full": 500}
STEPS = {"fast": 250, "full": 1200}  # of the model that writes recalls
SCENES, TESTED, WORDS = 3, 40, 45  # of a film for written recalls; films; words of a recall
CONTRASTIVE = "MRR: towers minus BM25"
WORD_SEARCH = "MRR: BM25 minus a random order"
COVERAGE = "written recalls: coverage of remembered facts, trained minus a summary of equal length"
PRIMARY = (CONTRASTIVE, WORD_SEARCH, COVERAGE)


def reproduce(scale: Scale, found: Findings) -> None:
    """Search simulated films from false and vague recalls, and learn to write recalls."""
    found.baselines += ["BM25", "plain embeddings", "random order", "a summary of the film", "shuffled pairs"]
    embedder = load_embedder("minilm")
    rows = [
        searched(seed, FILMS[scale.name], embedder) | written(seed, FILMS[scale.name], STEPS[scale.name])
        for seed in scale.seeds
    ]
    found.rows += rows
    judge(rows, found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on mean reciprocal rank and on the coverage of what people remembered."""

    def of(name: str) -> list[Any]:
        return [row[name] for row in rows]

    found.decide(CONTRASTIVE, Pairs(of("bm25"), of("towers")), above=0.0)
    found.decide(WORD_SEARCH, Pairs(of("chance"), of("bm25")), above=0.0)
    found.decide(COVERAGE, Pairs(of("coverage, summary"), of("coverage, trained")), above=0.0)
    found.report("MRR: towers minus plain embeddings", Pairs(of("embedding"), of("towers")), above=0.0)
    found.report("MRR: towers of shuffled pairs minus towers", Pairs(of("towers"), of("towers, shuffled")), below=0.0)
    found.report("MRR: towers without shown text and speech, minus with", Pairs(of("towers"), of("towers, bare")))
    found.report("written recalls: rank correlation of mention and planted salience", of("salience"), above=0.0)
    found.report("r of response time and views (planted below 0)", of("r response"), below=0.0)
    for name in ("bm25", "embedding", "towers", "chance", "coverage, trained", "invented, trained"):
        found.report(name, of(name))


def searched(seed: int, films: int, embedder: Embedder) -> dict[str, Any]:
    """Mean reciprocal ranks of every retriever on test films, and controls."""
    planted = simulate_films(films, seed)
    posts = simulate_posts(planted, seed)
    items = tuple(film.content for film in planted)
    study = TipOfTongue(items, tuple(posts), embedder, written=0, seed=seed)
    row: dict[str, Any] = {"seed": seed, "chance": chance_mrr(films)}
    row |= {name: float(ranked(ranks)["MRR"].mean()) for name, ranks in study.ranks().items()}
    train = study.posts_of("train")
    order = np.random.default_rng(seed).permutation(len(train))
    mixed = [replace(post, content=train[i].content) for post, i in zip(train, order, strict=True)]
    bare = replace(study, ocr=False, asr=False)
    row["towers, shuffled"] = float(ranked(study.ranks(mixed)["towers"])["MRR"].mean())
    row["towers, bare"] = float(ranked(bare.ranks()["towers"])["MRR"].mean())
    row["r response"] = tot_statistics(items, posts).response.value
    return row


def written(seed: int, films: int, steps: int) -> dict[str, Any]:
    """Train a small model to write recalls of films, and compare with summaries of equal length."""
    planted = simulate_films(films, seed, scenes=SCENES)
    posts = simulate_posts(planted, seed, per_film=4.0)
    by_film: dict[str, list[Post]] = {film.content.id: [] for film in planted}
    for post in posts:
        by_film[post.content].append(post)
    train, test = planted[:-TESTED], planted[-TESTED:]
    rows = [Example(recall_prompt(f.content), post.recall) for f in train for post in by_film[f.content.id]]
    vocabulary = [*rows, *(Example(recall_prompt(f.content), "") for f in test)]
    model = small_llama(vocabulary, seed, embedding_scale=UNIT_EMBEDDINGS, digits=True, context=384)
    teach(model, rows, seed, steps, batch_size=16, title="recalls")
    texts = generate(model, [recall_prompt(f.content) for f in test], max_new_tokens=80)
    texts = [" ".join(text.split()[:WORDS]) for text in texts]
    row: dict[str, Any] = {}
    for kind, own in (
        ("trained", texts),
        ("summary", [_summary(f.content, t) for f, t in zip(test, texts, strict=True)]),
    ):
        judged = [
            fidelity(text, [post.recall for post in by_film[film.content.id]], film.content)
            for film, text in zip(test, own, strict=True)
        ]
        row[f"coverage, {kind}"] = float(np.mean([one.coverage for one in judged]))
        row[f"invented, {kind}"] = float(np.mean([one.invented for one in judged]))
    return row | {"salience": mention_and_salience(test, texts)}


def _summary(item: Content, text: str) -> str:
    return summary(item, max(1, len(text.split())))


def mention_and_salience(films: Sequence[Film], texts: Sequence[str]) -> float | None:
    """Rank correlation of a scene's planted salience with the share of its caption's words in the written recall."""
    salience, mentioned = [], []
    for film, text in zip(films, texts, strict=True):
        words = set(text.lower().replace(".", " ").split())
        for scene, value in zip(film.content.scenes, film.salience, strict=True):
            told = scene.caption.split()
            salience.append(value)
            mentioned.append(len({told[1], told[2], told[-1]} & words) / 3)
    return rank_correlation(salience, mentioned).value
