"""Claims on memory and memorability: what decides them, with rows that hold and rows that fail."""

from __future__ import annotations

from typing import Any

import pytest

from letheon.papers import ad_memorability, lcbm, lifelong, tot_memorability
from letheon.papers.common.lifelong_world import make_world
from letheon.papers.kit.findings import Findings
from letheon.recall.embedders import HashedWords

SEEDS = range(3)


def test_a_lifelong_memory_is_judged_by_seven_properties_and_their_ablations() -> None:
    row = {
        "persistent": 0.9, "window": 0.1, "selective": 0.9, "recency": 0.1, "vector": 0.8, "valence": 1.0,
        "valence, ablated": 0.5, "beliefs": 0.7, "beliefs, ablated": 0.1, "right": 0.95, "right, no deliberation": 0.7,
        "active": 4.0, "passive": 2.0, "questions": 2, "fall": 0.8, "fall, no shortcuts": 0.3,
        "deliberate, change": -0.3,
        "accuracy, change": 0.0, "largest working memory": 4, "changed by recall": False, "unknown answered": 0.01,
        "mean cost": 1.8, "mean cost, always": 4.0, "right, always": 0.96, "purity": 0.9,
    }  # fmt: skip

    def verdicts(**changes: Any) -> Findings:
        rows = [{n: v + s / 500 if n in OURS else v for n, v in (row | changes).items()} for s in SEEDS]
        found = Findings(primary=lifelong.PRIMARY)
        lifelong.judge(lambda arm, metric: [one[metric] for one in rows], found)
        return found

    assert verdicts().verdict == "holds"
    assert verdicts(valence=0.5).parts[lifelong.VALENCE] != "holds"
    assert verdicts(active=2.0).parts[lifelong.ACTIVE] != "holds"
    assert verdicts(questions=0).verdict == "inconclusive"
    assert not {lifelong.PERSISTENT, lifelong.SELECTIVE, lifelong.BELIEFS} & set(lifelong.PRIMARY)
    assert verdicts(**{"changed by recall": True}).verdict == "inconclusive"


OURS = (
    *("persistent", "selective", "valence", "beliefs", "right", "active", "fall", "deliberate, change"),
    *("accuracy, change", "unknown answered", "mean cost", "purity"),
)


def test_a_world_has_updates_unknown_matters_and_paraphrases() -> None:
    world = make_world(100)
    asked = [one for session in world.sessions for one in session]
    assert (len(world.facts), len(world.updates), len(asked)) == (60, 15, 320)
    assert sum(one.fact is None for one in asked) == 40
    assert len({world.facts[0].question(form) for form in range(3)}) == 3
    assert all(value != fact.value for fact, value in world.updates)


def test_curiosity_alone_differs_between_the_arms_of_active_encoding() -> None:
    embedder = lifelong.Cached(HashedWords())
    assert lifelong.answers_per_word(100, embedder, ())[1] > 0
    assert lifelong.answers_per_word(100, embedder, ("curiosity",))[1] == 0


def test_the_mood_decides_between_equal_memories_and_its_ablation_is_at_chance() -> None:
    embedder = lifelong.Cached(HashedWords())
    assert lifelong.mood_order(100, embedder, ("valence",), pairs=4) == 0.5
    assert lifelong.mood_order(100, embedder, (), pairs=4) > 0.5


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "holds"), (0.5, "fails")])
def test_ad_memorability_is_judged_by_the_ceiling_and_by_selection(share: float, verdict: str) -> None:
    rows = [
        {"share of ceiling": share + s / 100, "written, unfiltered": 50.0, "written, selected": 60.0 + s,
         "perplexity, low": 1.4, "perplexity, high": 1.2 - s / 100, "rho shuffled": 0.0 + s / 100,
         "rho tfidf": 0.7, "rho scorer": 0.7 + s / 100, "ceiling": 0.8, "selected": 60}
        for s in SEEDS
    ]  # fmt: skip
    found = Findings(primary=ad_memorability.PRIMARY)
    ad_memorability.judge(rows, found)
    assert found.parts[ad_memorability.CEILING] == verdict
    assert found.parts[ad_memorability.SELECTED] == "holds"
    assert found.verdict == verdict


def test_tip_of_the_tongue_is_judged_by_rank_and_coverage() -> None:
    row = {"bm25": 0.4, "embedding": 0.5, "chance": 0.03, "coverage, summary": 0.4, "towers, shuffled": 0.1,
           "towers, bare": 0.5, "salience": 0.2, "r response": -0.3, "invented, trained": 0.2}  # fmt: skip
    rows = [{**row, "bm25": 0.4 + s / 100, "towers": 0.7 + s / 50, "coverage, trained": 0.5 + s / 50} for s in SEEDS]
    found = Findings(primary=tot_memorability.PRIMARY)
    tot_memorability.judge(rows, found)
    assert found.verdict == "holds"
    worse = Findings(primary=tot_memorability.PRIMARY)
    tot_memorability.judge([{**one, "towers": 0.2 + one["bm25"] / 10} for one in rows], worse)
    assert worse.parts[tot_memorability.CONTRASTIVE] == "fails"


def test_behaviour_is_judged_by_interpolation_and_plain_text() -> None:
    kinds = ("both", "interpolation", "law", "untuned")
    names = [f"{m} {r}, {k}" for m in ("RMSE", "parsed", "accuracy") for r in lcbm.REGIMES for k in kinds]
    row = dict.fromkeys(names, 10.0) | {
        "RMSE random, interpolation": 20.0, "accuracy all, untuned": 0.1, "log perplexity, untuned": 0.5,
        "log perplexity, behaviour": 0.9, "content, chance": 0.125, "content, both": 0.3, "mail error, untuned": 20.0,
        "mail error, both": 15.0,
    }  # fmt: skip

    def verdicts(rise: float) -> Findings:
        rows = [
            {**row, "RMSE random, both": 8.0 + s, "accuracy all, both": 0.4 + s / 50,
             "log perplexity, both": 0.5 + rise + s / 500}
            for s in SEEDS
        ]  # fmt: skip
        found = Findings(primary=lcbm.PRIMARY)
        lcbm.judge(rows, found)
        return found

    assert verdicts(0.0).verdict == "holds"
    assert verdicts(0.5).parts[lcbm.PLAIN] == "fails"
