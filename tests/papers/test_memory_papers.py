"""Claims on memory and memorability: what decides them, with rows that hold and rows that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from letheon.measure.human.behaviour.simulator import simulate_videos
from letheon.measure.human.tip_of_tongue.simulator import simulate_films, simulate_posts
from letheon.papers import ad_memorability, lcbm, lifelong, rhea, tot_memorability
from letheon.papers.common.lifelong_world import PEOPLE, Asked, make_world
from letheon.papers.common.ruled_dialogues import EARLY, EXCHANGES, make_dialogue
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.recall.embedders import Cached, HashedWords
from letheon.recall.entries import Entry
from letheon.recall.lifelong.nodes import new_node
from letheon.recall.lifelong.recalling import Recall

SEEDS = range(3)


def test_a_lifelong_memory_is_judged_by_seven_properties_and_their_controls() -> None:
    row = {
        "persistent": 0.9, "at once": 0.9, "window": 0.1, "selective": 0.9, "recency": 0.1, "vector": 0.8,
        "valence": 0.8, "valence, ablated": 0.5, "beliefs": 0.9, "beliefs, random": 0.7, "beliefs, ablated": 0.0,
        "right": 0.95, "right, no deliberation": 0.7, "net": 0.8, "net, automatic": 0.6, "net, always": 0.8,
        "active": 4.0, "active, random": 3.0, "passive": 2.0, "questions": 2, "fall": 0.8, "fall, no shortcuts": 0.3,
        "deliberate, change": -0.3, "accuracy, change": 0.0, "largest working memory": 4, "changed by recall": False,
        "changed by closing": False, "unknown answered": 0.01, "mean cost": 1.8, "mean cost, always": 4.0,
        "right, always": 0.96, "purity": 0.9,
    }  # fmt: skip
    ours = {"persistent", "selective", "valence", "beliefs", "net", "active", "fall", "deliberate, change"}
    ours |= {"accuracy, change", "right", "unknown answered", "mean cost", "purity"}

    def verdicts(**changes: Any) -> Findings:
        rows = [{n: v + s / 500 if n in ours else v for n, v in (row | changes).items()} for s in SEEDS]
        found = Findings(primary=lifelong.PRIMARY)
        lifelong.judge(rows, found)
        return found

    assert verdicts().verdict == "holds"
    for name, value, part in (
        ("persistent", 0.7, lifelong.PERSISTENT), ("selective", 0.6, lifelong.SELECTIVE),
        ("valence", 0.4, lifelong.VALENCE), ("beliefs", 0.5, lifelong.BELIEFS), ("net", 0.4, lifelong.DUAL),
        ("net", 0.7, lifelong.DELIBERATE), ("active", 2.0, lifelong.ACTIVE), ("fall", 0.1, lifelong.BY_SHORTCUTS),
        ("deliberate, change", 0.1, lifelong.CHEAPER), ("accuracy, change", -0.2, lifelong.STEADY),
    ):  # fmt: skip
        assert verdicts(**{name: value}).parts[part] == "fails"
    assert verdicts(questions=0).verdict == "inconclusive"
    assert verdicts(**{"changed by recall": True}).verdict == "inconclusive"
    assert verdicts(**{"changed by closing": True}).verdict == "inconclusive"


def test_wrong_answers_count_against_a_memory_and_silence_does_not() -> None:
    def reply(known: bool, answered: bool, right: bool) -> lifelong.Reply:
        fact = world.facts[0] if known else None
        recall = Recall("", [], node if answered else None, "known", 1, 1, ([], ""))
        return lifelong.Reply(Asked("", fact), recall, right)

    world, node = make_world(100), new_node(Entry("Told."), [0.0] * 6)
    replies = [reply(True, True, True), reply(True, True, False), reply(True, False, False), reply(False, True, False)]
    assert lifelong.net_share([replies]) == (1 - 2) / 4


def test_a_world_has_updates_unknown_matters_and_paraphrases() -> None:
    world = make_world(100)
    asked = [one for session in world.sessions for one in session]
    assert (len(world.facts), len(world.updates), len(asked)) == (60, 15, 320)
    assert sum(one.fact is None for one in asked) == 40
    assert len({world.facts[0].question(form) for form in range(3)}) == 3
    assert all(value != fact.value for fact, value in world.updates)


def test_curiosity_asks_about_the_unexplained_and_its_control_asks_as_much_about_anybody() -> None:
    embedder = Cached(HashedWords())
    own, asked = lifelong.answers_per_word(100, embedder, ())
    assert asked == len(PEOPLE) // 2
    assert lifelong.answers_per_word(100, embedder, ("curiosity",))[1] == 0
    explained = range(0, len(PEOPLE), 2)
    useless, as_much = lifelong.answers_per_word(100, embedder, ("curiosity",), explained)
    assert as_much == asked
    assert useless < own


def test_the_mood_decides_between_memories_of_a_day_and_its_ablation_is_at_chance() -> None:
    embedder = Cached(HashedWords())
    assert lifelong.mood_order(100, embedder, ("valence",), pairs=8) == 0.5
    assert lifelong.mood_order(100, embedder, (), pairs=8) > 0.5


@pytest.mark.parametrize(("share", "gap", "verdict"), [(0.9, -0.3, "holds"), (0.5, -0.3, "fails"), (0.9, 0.2, "fails")])
def test_ad_memorability_is_judged_by_the_ceiling_and_by_selection(share: float, gap: float, verdict: str) -> None:
    rows = [
        {"share of ceiling": share + s / 100, "written, unfiltered": 50.0, "written, selected": 60.0 + s,
         "gap, unfiltered": -0.1, "gap, selected": gap - s / 100, "rho shuffled": 0.0 + s / 100,
         "rho tfidf": 0.7, "rho scorer": 0.7 + s / 100, "ceiling": 0.8, "selected": 60}
        for s in SEEDS
    ]  # fmt: skip
    found = Findings(primary=ad_memorability.PRIMARY)
    ad_memorability.judge(rows, found)
    assert found.parts[ad_memorability.CEILING] == ("holds" if share > 0.8 else "fails")
    assert found.parts[ad_memorability.PERPLEXITY] == ("holds" if gap < 0 else "fails")
    assert found.parts[ad_memorability.SELECTED] == "holds"
    assert found.verdict == verdict


def test_tip_of_the_tongue_is_judged_by_rank_and_coverage() -> None:
    row = {"bm25": 0.4, "embedding": 0.5, "chance": 0.03, "towers, shuffled": 0.1,
           "towers, bare": 0.5, "salience": 0.2, "r response": -0.3,
           "coverage, random": 0.45, "coverage, teller": 0.4, "coverage, gain": 0.5,
           "coverage, salient": 0.6}  # fmt: skip
    rows = [{**row, "bm25": 0.4 + s / 100, "towers": 0.7 + s / 50, "coverage, trained": 0.5 + s / 50} for s in SEEDS]

    def verdicts(**changes: float) -> Findings:
        found = Findings(primary=tot_memorability.PRIMARY)
        tot_memorability.judge([{**one, **changes} for one in rows], found)
        return found

    assert verdicts().verdict == "holds"
    assert verdicts(towers=0.2).parts[tot_memorability.CONTRASTIVE] == "fails"
    assert verdicts(**{"coverage, random": 0.8}).parts[tot_memorability.COVERAGE] == "fails"
    assert verdicts(**{"coverage, teller": 0.8}).parts[tot_memorability.TELLER] == "fails"


def test_a_scene_is_told_in_the_words_of_the_recalls() -> None:
    film = simulate_films(1, 100)
    posts = simulate_posts(film, 100, per_film=40.0, false=0.0)
    sentences = [tot_memorability.told(scene) for scene in film[0].content.scenes]
    assert any(sentence in post.recall for sentence in sentences for post in posts)


def test_the_likeliest_scenes_of_each_model_are_compared_by_what_they_cover() -> None:
    films = simulate_films(12, 100, scenes=tot_memorability.SCENES)
    posts = simulate_posts(films, 100, per_film=6.0)
    salience = np.array([film.salience for film in films])
    common = np.random.default_rng(0).normal(0, 9, salience.shape)  # words that both models like
    row = tot_memorability.coverages(films, salience, common, posts)
    assert row["coverage, trained"] == row["coverage, salient"] > max(row["coverage, random"], row["coverage, teller"])
    assert tot_memorability.coverages(films, common + salience, common, posts)["salience"] == pytest.approx(1.0)
    assert tot_memorability.coverages(films, -salience, common, posts)["coverage, trained"] < row["coverage, random"]


def test_recalls_of_the_control_tell_every_scene_as_often() -> None:
    films = simulate_films(60, 100, scenes=5)
    kept = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for salient, counts in kept.items():
        recalls: dict[str, list[str]] = {}
        for post in simulate_posts(films, 100, per_film=8.0, false=0.0, salient=salient):
            recalls.setdefault(post.content, []).append(post.recall)
        for film in films:
            felt = [scene.emotions[0] for scene in film.content.scenes]
            for most, k in enumerate((int(np.argmin(film.salience)), int(np.argmax(film.salience)))):
                counts[most] += float(np.mean([f"I felt {felt[k]}" in one for one in recalls[film.content.id]])) / 60
    assert kept[True][1] - kept[True][0] > 0.4
    assert abs(kept[False][1] - kept[False][0]) < 0.15


def test_behaviour_is_judged_by_interpolation_by_means_and_by_permuted_behaviour() -> None:
    kinds = ("both", "interpolation", "mean", "law", "kind", "permuted", "untuned")
    names = [f"{m} {r}, {k}" for m in ("RMSE", "read", "accuracy") for r in lcbm.PLACES for k in kinds]
    names += [f"{m}, {k}" for m in ("content", "mail error", "log perplexity") for k in (*kinds, "chance")]

    def verdicts(**changes: float) -> Findings:
        row = dict.fromkeys(names, 0.2) | dict.fromkeys([f"RMSE masked scene, {k}" for k in kinds], 20.0)
        ours = {"RMSE masked scene, both": 8.0, "accuracy all masked, both": 0.4}
        rows = [row | {n: v * (1 + s / 20) for n, v in ours.items()} | changes for s in SEEDS]
        found = Findings(primary=lcbm.PRIMARY)
        lcbm.judge(rows, found)
        return found

    assert verdicts().verdict == "holds"
    assert verdicts(**{"RMSE masked scene, interpolation": 2.0}).parts[lcbm.INTERPOLATION] == "fails"
    assert verdicts(**{"RMSE masked scene, mean": 2.0}).parts[lcbm.MEAN] == "fails"
    assert verdicts(**{"accuracy all masked, permuted": 0.8}).parts[lcbm.PERMUTED] == "fails"


def test_the_masked_behaviour_and_what_gives_it_away_are_not_in_the_question() -> None:
    world = lcbm.make_items(100)
    for place, count in (("masked scene", 1), ("all masked", 1)):
        for one in lcbm.questions(world, place, 100):
            assert len(one.hidden) == count
            assert one.prompt.count("Replays: [MASK]") == count
            assert "Captions" not in one.prompt
    assert {one.hidden for one in lcbm.questions(world, "masked scene", 100)} == {(2,)}
    trained = {str(item.scenes) for item in world.train["masked scene"]}
    assert not trained & {str(video.content.scenes) for video in world.test["masked scene"]}


def test_permuted_videos_have_the_behaviour_of_others_and_their_own_content() -> None:
    items = [video.content for video in simulate_videos(30, 100)]
    mixed = lcbm.permuted(items, 100)
    for own, other in zip(items, mixed, strict=True):
        assert [scene.caption for scene in own.scenes] == [scene.caption for scene in other.scenes]
    before, after = ([[s.replay for s in item.scenes] for item in given] for given in (items, mixed))
    assert before != after
    assert sorted(before) == sorted(after)


def test_dialogues_contradict_their_rules_and_misstate_a_fact() -> None:
    for seed in range(100, 110):
        dialogue = make_dialogue(seed)
        assert len(dialogue.exchanges) == EXCHANGES
        assert [len(dialogue.rules[time]) for time in (EARLY, EXCHANGES)] == [3, 3]
        assert sum(bool(one.wrong) for one in dialogue.rules[EXCHANGES]) == 2
        assert sum(bool(one.wrong) for one in dialogue.facts[EXCHANGES]) == 3
        assert [one.misstated for one in dialogue.facts[EXCHANGES]] == [False, False, True, False, False, False]
        said = "\n".join(text for exchange in dialogue.exchanges for text in exchange)
        for one in (*dialogue.rules[EXCHANGES], *dialogue.facts[EXCHANGES]):
            assert all(text in said for text in (one.told, *one.wrong))
            assert len(set(one.answers)) == len(one.answers)
        assert set(make_dialogue(seed, unseen=True).stated).isdisjoint(dialogue.stated)


def test_rules_are_recognised_in_the_wordings_that_the_recogniser_was_made_on() -> None:
    found = rhea.recognised([make_dialogue(seed) for seed in range(100, 120)], HashedWords())
    assert found["precision"] > 0.9
    assert found["recall"] > 0.95


@pytest.mark.parametrize("arm", rhea.ARMS)
def test_every_memory_keeps_to_its_budget_and_asks_the_question_last(arm: str) -> None:
    dialogue = make_dialogue(100)
    question = dialogue.facts[EXCHANGES][0]
    with rhea.told(dialogue, EXCHANGES, Cached(HashedWords()), lambda text: len(text.split())) as memories:
        messages = rhea.ARMS[arm](memories, question.text)
    spent = sum(len(message["content"].split()) for message in messages)
    assert messages[-1] == {"role": "user", "content": question.text}
    assert (spent > rhea.BUDGET) == (arm == "full")
    text = str(messages)
    rules = [one.told for one in dialogue.rules[EXCHANGES]]
    if arm in ("rhea", "no retrieval", "no compression", "full"):
        assert all(rule in text for rule in rules)
    if arm == "user":
        assert not any(message["role"] == "assistant" for message in messages)


def test_a_sentence_that_is_contradicted_later_in_a_context_does_not_count() -> None:
    question = make_dialogue(100).rules[EXCHANGES][0]
    rule, other = question.told, question.wrong[0]

    def held(*texts: str) -> bool:
        return rhea.holds([{"role": "user", "content": text} for text in (*texts, "Asked?")], question)

    assert held(rule)
    assert held(other, rule)
    assert not held(rule, other)
    assert not held("Hello.")
    assert not rhea.holds([{"role": "user", "content": rule}], question)  # the question itself is not looked at


def test_rhea_is_judged_by_contexts_by_the_model_and_by_ablations() -> None:
    base = {
        "rules late": 0.5, "facts late": 0.5, "misstated facts late": 0.5, "rule margin late": 0.2,
        "rule margin change": -0.2, "tokens late": 150.0,
        "fact margin late": 0.1, "rule right late": 0.4, "fact right late": 0.4, "precision": 0.9, "recall": 0.8,
    }  # fmt: skip

    def verdicts(**changes: float) -> Findings:
        better = dict.fromkeys(base, 0.3) | changes
        rows = {arm: [{**base, "seed": s} for s in SEEDS] for arm in rhea.ARMS}
        rows["rhea"] = [{n: base[n] + better[n] + s / 100 for n in base} | {"seed": s} for s in SEEDS]
        found = Findings(primary=rhea.PRIMARY)
        rhea.judge(Results(rows), found)
        return found

    assert verdicts().verdict == "holds"
    assert verdicts(**{"rules late": -0.3}).parts[rhea.RULES] == "fails"
    assert verdicts(**{"rule margin change": -0.3}).parts[rhea.STEADY] == "fails"
    assert verdicts(**{"facts late": -0.3}).parts[rhea.FACTS] == "fails"
    assert verdicts(**{"misstated facts late": -0.3}).verdict == "holds"
    assert verdicts(**{"fact margin late": -0.3}).verdict == "inconclusive"
