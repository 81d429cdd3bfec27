"""Unsupervised Memorability Modeling from Tip-of-the-Tongue Retrieval Queries.

arXiv 2511.20854, 2025-11; WACV 2026; Bhattacharyya et al. Full scale in the paper: 470,000 posts and 82,000 videos with
a vision-language model. Here: simulated films whose salient scenes are remembered, with false details, synonyms and
blurred years; films are split by content. The rate of the towers and the words that BM25 looks for are chosen on films
of seeds that are not judged. A small language model learns to write recalls, another one to tell scenes at random;
which scenes of an unseen film each finds likeliest is compared with all choices of as many scenes and with each other,
so that only the choice of what is remembered counts. At this size models do not copy names well enough to be read
freely. How much likelier a scene is to the first than to the second is correlated with the planted salience.
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
from letheon.measure.human.tip_of_tongue.data import Post, item_text
from letheon.measure.human.tip_of_tongue.measure import TipOfTongue
from letheon.measure.human.tip_of_tongue.recall import facts, recall_prompt, remembered_facts
from letheon.measure.human.tip_of_tongue.retrieval import bm25_scores, chance_mrr, ranked, ranks_of
from letheon.measure.human.tip_of_tongue.simulator import Film, simulate_films, simulate_posts
from letheon.papers.common.small_llama import teach, template_llama
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Cached, Embedder, load_embedder

FILMS = {"fast": 200, "full": 500}
STEPS = {"fast": 200, "full": 1200}  # of each model that writes recalls
SCENES, TESTED, TOLD = 5, 40, 2  # of a film for written recalls; films; scenes that a recall tells
SHAPE = {"layers": 2, "width": 96}  # of each model that writes recalls
RATES = (2e-3, 4e-3)
TOWER_RATES = (5e-4, 1e-3, 2e-3)
WORDS = ("all words", "content words")  # of a recall that BM25 looks for
WRITING_SEEDS = (100,)
CONTRASTIVE = "MRR: towers minus BM25"
UNTRAINED = "MRR: towers minus plain embeddings"
COVERAGE = "recalls of two scenes: coverage of remembered facts, the likeliest ones minus random ones"
TELLER = "recalls of two scenes: coverage, the likeliest ones minus the likeliest of a model of random telling"
PRIMARY = (CONTRASTIVE, UNTRAINED, COVERAGE, TELLER)


def reproduce(scale: Scale, found: Findings) -> None:
    """Search simulated films from false and vague recalls, and learn to write recalls."""
    found.baselines += ["BM25", "plain embeddings", "random order", "random scenes", "shuffled pairs"]
    embedder = Cached(load_embedder("minilm"))  # the controls search the same texts
    films, steps = FILMS[scale.name], STEPS[scale.name]

    def searching(arm: str, setting: Any, seed: int) -> float:
        study = make_study(seed, films, embedder)
        return mrr_of_bm25(study, setting) if arm == "bm25" else mrr(with_rate(study, setting), "towers")

    def writing(arm: str, rate: float, seed: int) -> float:
        return float(written(seed, films, steps, rate)["coverage, trained"])

    settings: dict[str, tuple[Any, ...]] = {"bm25": WORDS, "towers": TOWER_RATES}
    chosen = choose(found, settings, searching, by="MRR")
    rate = choose(found, {"both models of recalls": RATES}, writing, WRITING_SEEDS, by="coverage")
    rows = [
        searched(seed, films, embedder, chosen["bm25"], chosen["towers"])
        | written(seed, films, steps, rate["both models of recalls"])
        for seed in scale.seeds
    ]
    found.rows += rows
    judge(rows, found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on mean reciprocal rank and on the coverage of what people remembered."""
    of = Columns(rows)
    found.decide(CONTRASTIVE, of.pairs("towers", "bm25"), above=0.0)
    found.decide(UNTRAINED, of.pairs("towers", "embedding"), above=0.0)
    found.decide(COVERAGE, of.pairs("coverage, trained", "coverage, random"), above=0.0)
    found.decide(TELLER, of.pairs("coverage, trained", "coverage, teller"), above=0.0)
    found.report("MRR: BM25 minus a random order", of.pairs("bm25", "chance"), above=0.0)
    found.report("MRR: towers of shuffled pairs minus towers", of.pairs("towers, shuffled", "towers"), below=0.0)
    found.report("MRR: towers without shown text and speech, minus with", of.pairs("towers, bare", "towers"))
    found.report("recalls: rank correlation of the gain in likelihood and planted salience", of("salience"), above=0.0)
    found.report("r of response time and views (planted below 0)", of("r response"), below=0.0)
    for name in ("bm25", "embedding", "towers", "chance", "coverage, trained", "coverage, teller",
                 "coverage, gain",
                 "coverage, random", "coverage, salient"):  # fmt: skip
        found.report(name, of(name))


def make_study(seed: int, films: int, embedder: Embedder) -> TipOfTongue:
    """The films and posts of a seed."""
    planted = simulate_films(films, seed)
    items = tuple(film.content for film in planted)
    return TipOfTongue(items, tuple(simulate_posts(planted, seed)), embedder, written=0, seed=seed)


def with_rate(study: TipOfTongue, rate: float) -> TipOfTongue:
    """The study with towers that learn at a rate."""
    return replace(study, towers=replace(study.towers, learning_rate=rate))


def mrr(study: TipOfTongue, retriever: str, train: Sequence[Post] | None = None) -> float:
    """Mean reciprocal rank of a retriever over the test posts."""
    return float(ranked(study.ranks(train)[retriever])["MRR"].mean())


def mrr_of_bm25(study: TipOfTongue, words: str) -> float:
    """Mean reciprocal rank of BM25, which looks for all words of a recall or for its content words."""
    test = study.posts_of("test")
    asked = [post.recall if words == WORDS[0] else " ".join(sorted(facts(post.recall))) for post in test]
    places = {item.id: place for place, item in enumerate(study.items)}
    found = ranks_of(
        bm25_scores(asked, [item_text(item) for item in study.items]), [places[post.content] for post in test]
    )
    return float(ranked(found)["MRR"].mean())


def searched(seed: int, films: int, embedder: Embedder, words: str, rate: float) -> dict[str, Any]:
    """Mean reciprocal ranks of every retriever on test films, and controls."""
    study = with_rate(make_study(seed, films, embedder), rate)
    row: dict[str, Any] = {"seed": seed, "chance": chance_mrr(films), "bm25": mrr_of_bm25(study, words)}
    row |= {name: mrr(study, name) for name in ("embedding", "towers")}
    train = study.posts_of("train")
    order = np.random.default_rng(seed).permutation(len(train))
    mixed = [replace(post, content=train[i].content) for post, i in zip(train, order, strict=True)]
    row["towers, shuffled"] = mrr(study, "towers", mixed)
    row["towers, bare"] = mrr(replace(study, ocr=False, asr=False), "towers")
    row["r response"] = tot_statistics(study.items, study.posts).response.value
    return row


def written(seed: int, films: int, steps: int, rate: float) -> dict[str, Any]:
    """Train both models of recalls; compare the scenes of unseen films that are chosen with all choices."""
    planted = simulate_films(films, seed, scenes=SCENES)
    train, test = planted[:-TESTED], planted[-TESTED:]
    posts = {
        kind: simulate_posts(planted, seed, per_film=4.0, salient=kind == "salient") for kind in ("salient", "random")
    }
    asked = [(recall_prompt(film.content), [begun(film, scene) for scene in film.content.scenes]) for film in test]
    prompts = {film.content.id: recall_prompt(film.content) for film in train}
    rows = {
        kind: [Example(prompts[post.content], post.recall) for post in own if post.content in prompts]
        for kind, own in posts.items()
    }
    words = [text for prompt, sentences in asked for text in (prompt, *sentences)]
    logp = {}
    for kind, own in rows.items():
        model = template_llama([*rows["salient"], *rows["random"]], words, seed, context=384, **SHAPE)
        teach(model, own, seed, steps, batch_size=16, learning_rate=rate, title=f"{kind} recalls")
        # what comes before the scene is the same for all scenes of a film
        logp[kind] = [[float(one.logp.sum()) for one in scores] for scores in score_answers(model, asked)]
    return coverages(test, np.array(logp["salient"]), np.array(logp["random"]), posts["salient"])


def coverages(
    test: Sequence[Film], salient: np.ndarray, at_random: np.ndarray, posts: Sequence[Post]
) -> dict[str, Any]:
    """The share of what people remember that is told by the scenes which each way chooses.

    Args:
        salient, at_random: log-likelihood of each scene [films, scenes] under the model of recalls, and under that of
            scenes told at random.
    """
    liked = salient - at_random
    covered: dict[str, list[float]] = {}
    for film, own, teller, gain in zip(test, salient, at_random, liked, strict=True):
        recalls = [post.recall for post in posts if post.content == film.content.id]
        known = remembered_facts(recalls, film.content)
        words = [facts(told(scene)) for scene in film.content.scenes]

        def coverage(
            scenes: Sequence[int], known: frozenset[str] = known, own: Sequence[frozenset[str]] = words
        ) -> float:
            return len(known & frozenset[str]().union(*(own[k] for k in scenes))) / max(1, len(known))

        for kind, values in (("trained", own), ("teller", teller), ("gain", gain), ("salient", film.salience)):
            covered.setdefault(kind, []).append(coverage(np.argsort(values)[-TOLD:].tolist()))
        covered.setdefault("random", []).append(
            float(np.mean([coverage(c) for c in combinations(range(SCENES), TOLD)]))
        )
    row: dict[str, Any] = {f"coverage, {kind}": float(np.mean(own)) for kind, own in covered.items()}
    salience = [value for film in test for value in film.salience]
    return row | {"salience": rank_correlation(salience, liked.ravel().tolist()).value}


def begun(film: Film, scene: Scene) -> str:
    """Return the beginning of a recall that tells one scene, in the form of the posts."""
    decade = round(int(film.content.date)) // 10 * 10
    return f"Looking for a {film.content.genre.lower()} from the {decade}s. {told(scene)}"


def told(scene: Scene) -> str:
    """Return a scene in the form in which recalls tell one."""
    words = scene.caption.split()
    return f"There was a {words[1]} {words[2]} in some {words[-1]} and I felt {scene.emotions[0]}."
