"""Unsupervised Memorability Modeling from Tip-of-the-Tongue Retrieval Queries.

arXiv 2511.20854, 2025-11; WACV 2026; Bhattacharyya et al. Full scale in the paper: 470,000 posts and 82,000 videos with
a vision-language model. Here: simulated films whose salient scenes are remembered, with false details, synonyms and
blurred years; films are split by content. A small language model learns to write recalls and then chooses which scenes
of an unseen film one tells, by likelihood: at this size it does not copy names well enough to be read freely. The mean
over all choices of as many scenes is the control, so that only the choice of what is remembered counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.statistics import rank_correlation
from letheon.measure.human.scenes import Scene
from letheon.measure.human.tip_of_tongue.analysis import tot_statistics
from letheon.measure.human.tip_of_tongue.measure import TipOfTongue
from letheon.measure.human.tip_of_tongue.recall import fidelity, recall_prompt
from letheon.measure.human.tip_of_tongue.retrieval import chance_mrr, ranked
from letheon.measure.human.tip_of_tongue.simulator import Film, simulate_films, simulate_posts
from letheon.papers.common.cached_embedder import Cached
from letheon.papers.common.small_llama import teach, template_llama
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Embedder, load_embedder

FILMS = {"fast": 200, "full": 500}
STEPS = {"fast": 150, "full": 1200}  # of the model that writes recalls
SCENES, TESTED, TOLD = 5, 40, 2  # of a film for written recalls; films; scenes that a recall tells
RATE, SHAPE = 5e-3, {"layers": 2, "width": 96}  # of the model that writes recalls
CONTRASTIVE = "MRR: towers minus BM25"
UNTRAINED = "MRR: towers minus plain embeddings"
COVERAGE = "recalls of two scenes: coverage of remembered facts, the likeliest ones minus random ones"
PRIMARY = (CONTRASTIVE, UNTRAINED, COVERAGE)


def reproduce(scale: Scale, found: Findings) -> None:
    """Search simulated films from false and vague recalls, and learn to write recalls."""
    found.baselines += ["BM25", "plain embeddings", "random order", "random scenes", "shuffled pairs"]
    embedder = Cached(load_embedder("minilm"))  # the controls search the same texts
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
    found.decide(UNTRAINED, Pairs(of("embedding"), of("towers")), above=0.0)
    found.decide(COVERAGE, Pairs(of("coverage, random"), of("coverage, trained")), above=0.0)
    found.report("MRR: BM25 minus a random order", Pairs(of("chance"), of("bm25")), above=0.0)
    found.report("MRR: towers of shuffled pairs minus towers", Pairs(of("towers"), of("towers, shuffled")), below=0.0)
    found.report("MRR: towers without shown text and speech, minus with", Pairs(of("towers"), of("towers, bare")))
    found.report("recalls: rank correlation of likelihood and planted salience", of("salience"), above=0.0)
    found.report("r of response time and views (planted below 0)", of("r response"), below=0.0)
    for name in ("bm25", "embedding", "towers", "chance", "coverage, trained", "coverage, random", "coverage, salient"):
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


def written(seed: int, films: int, steps: int, rate: float = RATE) -> dict[str, Any]:
    """Train a small model to write recalls; compare its choice of scenes of unseen films with all choices."""
    planted = simulate_films(films, seed, scenes=SCENES)
    by_film: dict[str, list[str]] = {film.content.id: [] for film in planted}
    for post in simulate_posts(planted, seed, per_film=4.0):
        by_film[post.content].append(post.recall)
    train, test = planted[:-TESTED], planted[-TESTED:]
    rows = [Example(recall_prompt(f.content), recall) for f in train for recall in by_film[f.content.id]]
    asked = [(recall_prompt(film.content), [told(scene) for scene in film.content.scenes]) for film in test]
    words = [text for prompt, sentences in asked for text in (prompt, *sentences)]
    model = template_llama(rows, words, seed, context=384, **SHAPE)
    teach(model, rows, seed, steps, batch_size=16, learning_rate=rate, title="recalls")
    liked = [[float(one.logp.mean()) for one in scores] for scores in score_answers(model, asked)]
    covered: dict[str, list[float]] = {"trained": [], "random": [], "salient": []}
    for film, logp, (_, sentences) in zip(test, liked, asked, strict=True):

        def coverage(scenes: Sequence[int], film: Film = film, sentences: Sequence[str] = sentences) -> float:
            text = " ".join(sentences[k] for k in scenes)
            return fidelity(text, by_film[film.content.id], film.content).coverage

        covered["trained"].append(coverage(np.argsort(logp)[-TOLD:].tolist()))
        covered["salient"].append(coverage(np.argsort(film.salience)[-TOLD:].tolist()))
        covered["random"].append(float(np.mean([coverage(c) for c in combinations(range(SCENES), TOLD)])))
    row: dict[str, Any] = {f"coverage, {kind}": float(np.mean(own)) for kind, own in covered.items()}
    salience = [value for film in test for value in film.salience]
    return row | {"salience": rank_correlation(salience, [value for values in liked for value in values]).value}


def told(scene: Scene) -> str:
    """Return a scene in the form in which recalls tell one."""
    words = scene.caption.split()
    return f"There was a {words[1]} {words[2]} in some {words[-1]} and I felt {scene.emotions[0]}."
