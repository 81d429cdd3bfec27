"""Behaviour: merging, templates and masks by hand, baselines, unreadable answers, a planted law, the measure."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.human.behaviour.baselines import interpolated, marginal, replay_errors, visible_mean
from letheon.measure.human.behaviour.measure import Behaviour
from letheon.measure.human.behaviour.simulator import simulate_mails, simulate_videos
from letheon.measure.human.behaviour.templates import (
    behaviour_question,
    content_question,
    hidden_scenes,
    likes_share,
    merged_replays,
    read_behaviour_answer,
    tuning_rows,
    verbalised_behaviour,
)
from letheon.measure.human.scenes import Content, Scene
from letheon.measure.run import measure, read_measure
from tests.measure.people.scripted import Scripted

oracle = pytest.mark.oracle("lcbm")
VIDEO = Content(
    "v",
    tuple(Scene(f"sight {n}", f"word {n}", replay=value) for n, value in enumerate((10.0, 30.0, 80.0, 60.0), start=1)),
    channel="Alto",
    views=1000.0,
    likes=25.0,
)


@oracle
def test_replays_are_merged_by_their_maximum_and_scaled_to_integers() -> None:
    # 100 bins of a video of 40 seconds: 3 bins per scene, 33 scenes, the last bin joins the last scene
    bins = [0.0] * 100
    bins[1], bins[99] = 0.456, 0.9
    merged = merged_replays(bins, 40)
    assert (len(merged), merged[0], merged[-1]) == (33, 46, 90)
    assert merged_replays([0.1, 0.2, 0.3], 200) == [10, 20, 30]
    assert merged_replays([0.1, 0.9], 1) == [90]


@oracle
def test_masks_hide_replays_likes_and_speech_and_nothing_else() -> None:
    text = verbalised_behaviour(VIDEO, hidden=(2, 3), effects=False, silent=(1,))
    assert text == (
        "The video has the following scenes: Scene 1: {ASR: [MASK], Captions: sight 1, Replays: 10} "
        "Scene 2: {ASR: word 2, Captions: sight 2, Replays: [MASK]} "
        "Scene 3: {ASR: word 3, Captions: sight 3, Replays: [MASK]} "
        "Scene 4: {ASR: word 4, Captions: sight 4, Replays: 60} It was posted by Alto. Likes-per-View: [MASK]."
    )
    asked = behaviour_question(VIDEO, (2, 3))
    assert asked.answer == "Scene 2: 30%, Scene 3: 80%, Likes-per-View: 2.5%"
    assert "30" not in asked.prompt
    assert "2.5" not in asked.prompt
    assert content_question(VIDEO, 1)[1] == "word 1"
    assert "word 1" not in content_question(VIDEO, 1)[0]


@oracle
def test_answers_are_read_scene_by_scene_and_what_is_unreadable_is_wrong() -> None:
    assert read_behaviour_answer("Scene 2: {Replay: 30%}, Scene 3: 80%, Likes-per-View: 2.5%", (2, 3)) == (
        {2: 30.0, 3: 80.0},
        2.5,
    )
    assert read_behaviour_answer("I do not know.", (2, 3)) == ({}, None)
    assert read_behaviour_answer("Scene 2: 400%", (2,)) == ({}, None)
    error, accuracy = replay_errors(VIDEO, {2: 33.0}, (2, 3))  # one is missing
    assert (error, accuracy) == (3.0, 0.5)
    assert replay_errors(VIDEO, {}, (2, 3)) == (None, 0.0)
    assert replay_errors(VIDEO, {2: 33.0, 3: 84.0}, (2, 3))[0] == pytest.approx((12.5) ** 0.5)


def test_baselines_by_hand() -> None:
    assert interpolated(VIDEO, (2, 3)) == {2: pytest.approx(10 + 50 / 3), 3: pytest.approx(10 + 100 / 3)}
    assert interpolated(VIDEO, (1,)) == {1: 30.0}
    assert interpolated(VIDEO, (1, 2, 3, 4)) == dict.fromkeys((1, 2, 3, 4), 50.0)
    assert visible_mean(VIDEO, (3,)) == {3: pytest.approx(100 / 3)}
    assert marginal([VIDEO], (1,)) == {1: 45.0}
    assert likes_share(VIDEO) == 2.5


def test_regimes_mask_what_they_say() -> None:
    draw = random.Random(0)
    assert hidden_scenes(10, "past", draw) == (1, 2)
    assert hidden_scenes(10, "future", draw) == (9, 10)
    assert hidden_scenes(3, "all", draw) == (1, 2, 3)
    for _ in range(50):
        hidden = hidden_scenes(10, "random", draw, share=0.5)
        assert len(hidden) == 5
        assert {1, 10}.isdisjoint(hidden)  # a neighbour on each side


def test_both_directions_are_mixed_and_the_prompt_is_not_trained(tiny: LanguageModel) -> None:
    videos = [one.content for one in simulate_videos(12, seed=100)]
    rows = tuning_rows(videos, seed=0)
    assert len(rows) == 24
    assert sum(row.answer.startswith("Scene") for row in rows) == 12
    assert tuning_rows(videos, 0, directions=("content",))[0].answer[0] != "S"
    encoder = tiny.encoder()
    batch = encoder.collate(encoder.encode_all(rows[:1]), [0])
    labelled = batch.labels[0][batch.labels[0] != -100]
    assert tiny.tokenizer.decode(labelled, skip_special_tokens=True).strip() == rows[0].answer


def test_the_law_is_in_the_content_and_interpolation_does_not_see_it() -> None:
    planted = simulate_videos(200, seed=100)
    draw, ours, theirs = random.Random(0), [], []
    for video in planted:
        hidden = hidden_scenes(5, "random", draw)
        law = {n: video.law[n - 1] for n in hidden}
        ours.append(replay_errors(video.content, law, hidden)[0] or 0.0)
        theirs.append(replay_errors(video.content, interpolated(video.content, hidden), hidden)[0] or 0.0)
    assert sum(ours) < 0.5 * sum(theirs)
    assert len({rate for _, rate in simulate_mails(50, 100)}) > 10


def test_the_measure_scores_a_model_that_knows_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "videos.jsonl"
    rows = [
        {"id": v.content.id, "channel": v.content.channel, "views": v.content.views, "likes": v.content.likes,
         "scenes": [{"caption": s.caption, "asr": s.asr, "replay": s.replay} for s in v.content.scenes]}
        for v in simulate_videos(16, seed=100)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    made = read_measure("behaviour", str(path))
    assert isinstance(made, Behaviour)
    truth = {q.prompt: q.answer for regime in ("past", "future", "random", "all") for q in made.questions(regime)}
    said = {content_question(item, n)[0]: s.asr for item in made.items for n, s in enumerate(item.scenes, start=1)}

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        return [0.9 if option == said[turns[0]] else 0.01 for option in options]

    result = measure(made, Scripted(say=lambda turns: truth[turns[0]], weigh=weigh), {}, out=tmp_path / "out")
    assert {result.scores.value(f"RMSE {regime} model") for regime in ("past", "future", "random", "all")} == {0.0}
    assert (result.scores.value("RMSE random interpolation") or 0.0) > 5
    assert result.scores.value("content choice") == 1.0
    assert (result.scores.value("likes error model") or 0.0) < 0.06  # one decimal
    assert result.scores.value("unparsed") == 0.0
    silent = made.evaluate(Scripted())
    assert silent.value("RMSE past model") is None
    assert silent.value("accuracy past model") == 0.0
    for broken in ({"id": "x", "scenes": [{"replay": 200}] * 3}, {"id": "x", "scenes": [{"replay": 10}]}):
        path.write_text("\n".join(map(json.dumps, [*rows, broken])))
        with pytest.raises(InputError, match="video x"):
            read_measure("behaviour", str(path))
