"""Tip of the tongue: InfoNCE and BM25 by hand, cleaning, splits by content, planted salience and signs, the measure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.measure.human.scenes import Content, Scene
from letheon.measure.human.tip_of_tongue.analysis import by_slice, hours_to_answer, tot_statistics
from letheon.measure.human.tip_of_tongue.data import Post, clean_recall, item_text, read_tot, split_by_content
from letheon.measure.human.tip_of_tongue.measure import TipOfTongue
from letheon.measure.human.tip_of_tongue.recall import facts, fidelity, summary
from letheon.measure.human.tip_of_tongue.retrieval import bm25_scores, chance_mrr, info_nce, ranked, ranks_of
from letheon.measure.human.tip_of_tongue.simulator import simulate_films, simulate_posts
from letheon.measure.run import measure, read_measure
from letheon.recall.embedders import HashedWords
from tests.measure.people.scripted import Scripted

oracle = pytest.mark.oracle("tot-memorability")
FILMS = simulate_films(80, seed=100)
POSTS = simulate_posts(FILMS, seed=100)
ITEMS = tuple(film.content for film in FILMS)


@oracle
def test_info_nce_of_three_pairs_by_hand_and_one_content_is_no_negative_of_itself() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 3.0]])
    queries, items = logits, torch.eye(3)

    def rows(table: torch.Tensor) -> float:
        return float((table.exp().sum(1).log() - table.diag()).mean())

    expected = (rows(logits) + rows(logits.T)) / 2
    assert float(info_nce(queries, items, torch.tensor([0, 1, 2]), 1.0)) == pytest.approx(expected)
    assert float(info_nce(queries, items, torch.tensor([0, 1, 2]), 0.5)) == pytest.approx(
        (rows(2 * logits) + rows(2 * logits.T)) / 2
    )
    masked = logits.clone()
    masked[0, 2] = masked[2, 0] = -1e9  # pairs 0 and 2 are of one film
    expected = (rows(masked) + rows(masked.T)) / 2
    assert float(info_nce(queries, items, torch.tensor([7, 1, 7]), 1.0)) == pytest.approx(expected, abs=1e-5)


@oracle
def test_ranks_and_their_scores_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.2, 0.9], [0.3, 0.3, 0.3]])
    ranks = ranks_of(scores, [1, 0, 2])
    assert ranks.tolist() == [2.0, 2.5, 2.0]  # ties share their mean rank
    found = ranked(ranks)
    assert found["MRR"] == pytest.approx([0.5, 0.4, 0.5])
    assert found["NDCG@10"] == pytest.approx([1 / math.log2(3), 1 / math.log2(3.5), 1 / math.log2(3)])
    assert found["recall@1"].tolist() == [0, 0, 0]
    assert chance_mrr(2) == 0.75


def test_bm25_prefers_the_text_with_the_rare_word() -> None:
    scores = bm25_scores(['the "violin"'], ["a dog in the rain", "a violin in the rain", "the dog"])
    assert int(scores[0].argmax()) == 1
    assert bm25_scores(["?!"], ["a"]).tolist() == [[0.0]]


def test_a_recall_loses_links_markup_edits_and_the_answer() -> None:
    text = "I saw *this* [film](http://a.b/c) once. It might be Night Train. A man waits. EDIT: it was Night Train"
    assert clean_recall(text, "Night Train") == "I saw this film once. A man waits."


def test_no_content_is_in_two_parts() -> None:
    parts = split_by_content(ITEMS, 0)
    assert [len(part) for part in parts.values()] == [64, 8, 8]
    assert not parts["train"] & (parts["test"] | parts["validation"])


def test_the_simulator_remembers_what_is_salient_and_answers_false_recalls_later() -> None:
    said = {film.content.id: "" for film in FILMS}
    for post in POSTS:
        said[post.content] += post.recall
    kept, lost = [], []
    for film in FILMS:
        for scene, value in zip(film.content.scenes, film.salience, strict=True):
            if scene.ocr:
                (kept if scene.ocr.lower() in said[film.content.id] else lost).append(value)
    assert np.mean(kept) > np.mean(lost)
    found = tot_statistics(ITEMS, POSTS)
    assert (found.response.value or 0.0) < -0.1  # planted: popular films are found sooner
    assert (found.searches["all"].value or 0.0) > 0.1
    assert max(found.hours_by_genre, key=lambda genre: found.hours_by_genre[genre]) == "Documentary"
    assert hours_to_answer(Post("a", "b", "c", 10.0, 5.0)) is None
    assert set(by_slice({post.id: 1.0 for post in POSTS}, POSTS, ITEMS)) >= {"short", "medium", "genre Drama"}
    assert "rare" in by_slice({POSTS[0].id: 1.0}, POSTS[:1], ITEMS)


def test_fidelity_rewards_what_people_said_and_counts_inventions() -> None:
    item = Content("1", (Scene("a crimson sailor in a forest"), Scene("a golden wolf in a prison")))
    posts = ["There was a crimson sailor.", "I remember a sailor, maybe a dragon."]
    good, wrong = (fidelity(text, posts, item) for text in ("A crimson sailor.", "A dragon and a wolf."))
    assert (good.coverage, good.invented) == (1.0, 0.0)
    assert (wrong.coverage, wrong.invented) == (0.0, 0.5)
    assert fidelity("", posts, item).rouge_l == 0.0
    assert facts("There was a sailor with this film") == {"sailor"}
    assert len(summary(item, 5).split()) == 5


def world(folder: Path) -> str:
    records = [{k: v for k, v in asdict(item).items() if v not in ("", None)} for item in ITEMS]
    for record in records:
        record["scenes"] = [{k: v for k, v in scene.items() if v not in ("", None, ())} for scene in record["scenes"]]
    (folder / "content.jsonl").write_text("\n".join(map(json.dumps, records)))
    posts = [
        {"id": p.id, "content": p.content, "body": p.recall, "created": p.created, "solved": p.solved} for p in POSTS
    ]
    (folder / "posts.jsonl").write_text("\n".join(map(json.dumps, posts)))
    return str(folder)


def test_the_measure_finds_films_and_judges_written_recalls(tmp_path: Path) -> None:
    made = read_measure("tip_of_tongue", world(tmp_path), embedder="words", written="4", fewest="8")

    def say(turns: Sequence[str]) -> str:
        return "I remember " + turns[0].split("The scene shows ")[1].split(".")[0]

    result = measure(made, Scripted(say=say), {}, out=tmp_path / "out")
    scores = result.scores
    assert (scores.value("MRR bm25") or 0.0) > 3 * (scores.value("MRR chance") or 1.0)
    assert scores.value("invented model") == 0.0
    assert {record["part"] for record in scores.records} == {"retrieval", "recall"}
    assert (tmp_path / "out" / "measure.html").is_file()


def test_shuffled_pairs_teach_nothing_and_fields_can_be_left_out() -> None:
    made = TipOfTongue(ITEMS, tuple(POSTS), HashedWords(), written=0)
    train = made.posts_of("train")
    order = np.random.default_rng(0).permutation(len(train))
    mixed = [Post(p.id, train[i].content, p.recall) for p, i in zip(train, order, strict=True)]
    right, wrong = (ranked(made.ranks(part)["towers"])["MRR"].mean() for part in (train, mixed))
    assert right > wrong
    shown = next(item for item in ITEMS if any(scene.ocr and scene.asr for scene in item.scenes))
    assert "The text shown" in item_text(shown)
    assert "The text shown" not in item_text(shown, ocr=False)
    assert "The audio" not in item_text(shown, asr=False)


def test_faults_of_posts_are_named(tmp_path: Path) -> None:
    folder = Path(world(tmp_path))
    with pytest.raises(InputError, match="0 training and"):  # before a model is loaded
        read_measure("tip_of_tongue", str(folder), limit=2, embedder="words", fewest="8")
    for broken, message in (
        ({"content": "film-999", "body": "x"}, "content"),
        ({"content": "film-1"}, "content and body"),
        ({"content": "film-1", "body": "x", "solved": "today"}, "solved"),
    ):
        (folder / "posts.jsonl").write_text(json.dumps(broken))
        with pytest.raises(InputError) as caught:
            read_tot(str(folder))
        assert message in f"{caught.value.problem} {caught.value.remedy}"
    with pytest.raises(InputError, match="no folder"):
        read_tot(str(folder / "posts.jsonl"))
