"""Metacognition: withdraw delta and profiles, items and probes, the published responses."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.metacognition.battery import read_metacognition
from letheon.measure.metacognition.items import own_items, read_items
from letheon.measure.metacognition.monitoring import (
    Response,
    cell,
    difference_of_shares,
    profile,
    type2_auroc,
    type2_dprime,
)
from letheon.measure.metacognition.published import (
    cells,
    identical_files,
    read_response_file,
    read_responses,
    reliability,
    standings,
)
from letheon.measure.run import measure
from tests.measure.people.scripted import Scripted, shared


def responses(kinds: str) -> list[Response]:
    """One response per letter: R, W kept, r, w withdrawn (right, wrong); u is a wrong one with an unread probe."""
    keep = {"R": True, "W": True, "r": False, "w": False, "u": None}
    return [Response(str(i), "T1", kind in "Rr", keep[kind]) for i, kind in enumerate(kinds)]


def test_a_response_row_that_ends_too_early_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.csv"
    file.write_text("item,correct,keep_withdraw,bet_nobet\na,true,KEEP,BET\nb,true\n")
    with pytest.raises(InputError, match="row 2, field 'keep_withdraw'"):
        read_response_file(file, "T1")


@pytest.mark.oracle("metacognition")
def test_withdraw_delta_by_hand() -> None:
    assert cell(responses("RRRRww")).delta.value == 1, "an oracle withdraws its errors and nothing else"
    assert cell(responses("RRRWW")).delta.value == 0, "a model that keeps everything"
    assert cell(responses("rrWW")).delta.value == -1
    found = cell(responses("RRRrWwww"))
    assert (found.keep_correct, found.keep_incorrect) == (0.75, 0.25)
    assert found.delta.value == pytest.approx(0.5)
    assert found.delta.low is not None
    assert found.delta.low < 0.5 < (found.delta.high or 0)
    assert cell(responses("RRrr")).delta.value is None, "without errors there is no delta, which is not 0"


@pytest.mark.oracle("metacognition")
def test_unread_probes_are_left_out_or_count_as_withdrawals() -> None:
    assert cell(responses("RRWu")).delta.value == 0
    assert cell(responses("RRWu"), unread_withdraws=True).delta.value == pytest.approx(0.5)


def test_interval_of_a_difference_of_shares_is_newcombes() -> None:
    # Newcombe (1998), table II, example (a) under method 10: 56/70 - 48/80
    found = difference_of_shares(56, 70, 48, 80)
    assert (found.value, found.low, found.high) == tuple(pytest.approx(x, abs=5e-5) for x in (0.2, 0.0524, 0.3339))


@pytest.mark.oracle("metacognition")
def test_type_two_measures_by_hand() -> None:
    confident = [
        Response(str(i), "T1", right, True, confidence=c)
        for i, (right, c) in enumerate([(True, 2), (True, 0), (False, 1)])
    ]
    assert type2_auroc(confident).value == 0.5
    found = cell(responses("RRRrWwww"))  # (3.5 / 5, 1.5 / 5): z is plus and minus 0.5244
    assert type2_dprime(found) == pytest.approx(2 * 0.524400513)


@pytest.mark.parametrize(
    ("keeps", "delta", "name"),
    [
        (0.96, 0.1, "A"),
        (0.96, 0.2, "C"),
        (0.05, 0.3, "B"),
        (0.6, 0.15, "C"),
        (0.6, 0.1, "Unclassified"),
        (0.9, None, "Unclassified"),
    ],
)
def test_profiles(keeps: float, delta: float | None, name: str) -> None:
    assert profile(keeps, delta) == name


def test_own_items_have_their_keys_in_balance() -> None:
    items = own_items(12)
    assert len(items) == 72
    assert len({item.id for item in items}) == 72
    for track in ("T1", "T2", "T3", "T4", "T5", "T6"):
        keys = [item.key for item in items if item.track == track]
        assert sum(keys) == 6
    for item in items:
        if item.track == "T2":
            left, right = item.prompt.removeprefix("True or false: ").split(" = ")
            true = sum(map(int, left.split(" + "))) == int(right)
            assert item.options[item.key] == ("TRUE" if true else "FALSE")
        if item.track == "T6":
            a, b = item.prompt.removeprefix("What is ").removesuffix("?").split(" times ")
            assert int(item.options[item.key]) == int(a) * int(b)
    assert own_items(12) == items
    assert own_items(12, seed=1) != items


def agent(sensitivity: float, items: int, seed: int) -> Scripted:
    """An agent that answers half of the items rightly; its confidence is normal, its mean d' higher if it is right."""
    by_prompt = {item.shown(): item for item in own_items(items)}
    draw = random.Random(seed)
    right = {prompt: draw.random() < 0.5 for prompt in by_prompt}
    confidence = {prompt: draw.gauss(sensitivity * right[prompt], 1) - sensitivity / 2 for prompt in by_prompt}

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        prompt = turns[0].split("\nAnswer with one letter")[0].split("\nDo not answer yet")[0]
        if options[0] == "A":
            chosen = by_prompt[prompt].key if right[prompt] else 1 - by_prompt[prompt].key
            return [float(i == chosen) * 0.9 + 0.05 for i in range(2)]
        keep = 1 / (1 + math.exp(-confidence[prompt]))
        return [keep, 1 - keep, *[0.0] * (len(options) - 2)]

    return Scripted(weigh=weigh)


@pytest.mark.oracle("metacognition")
def test_an_agent_of_known_sensitivity_recovers_its_withdraw_delta() -> None:
    battery = read_metacognition(per_track=60)
    scores = battery.evaluate(agent(2.0, 60, 0))
    # P(kept | right) - P(kept | wrong) = 2 Phi(1) - 1, area Phi(2 / sqrt 2), with 300 items
    assert scores.value("pooled withdraw delta") == pytest.approx(0.683, abs=0.09)
    assert scores.value("type-2 AUROC") == pytest.approx(0.921, abs=0.04)
    assert scores.value("type-2 d'") == pytest.approx(2.0, abs=0.4)
    assert scores.notes[0].startswith("profile C")
    blind = battery.evaluate(agent(0.0, 60, 0))
    assert blind.value("pooled withdraw delta") == pytest.approx(0, abs=0.13)


def test_a_model_that_keeps_everything_is_reported_as_degenerate() -> None:
    battery = read_metacognition(per_track=4, read="text")
    result = measure(battery, Scripted(say=lambda turns: "A" if len(turns) == 1 else "KEEP"), {})
    assert any("keeps every answer" in note for note in result.scores.notes)
    assert any("degenerate: 24 of 24 answers are '0'" in note for note in result.scores.notes)
    assert result.scores.value("unparsed") == 0
    nonsense = battery.evaluate(Scripted(say=lambda turns: "banana"))
    assert nonsense.value("unparsed") == 1
    assert nonsense.value("withdraw delta") is None


def test_the_probes_follow_the_answer_in_one_conversation(tiny: LanguageModel) -> None:
    seen: list[Sequence[str]] = []

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        seen.append(turns)
        return [0.6, 0.4, 0.1][: len(options)]

    read_metacognition(per_track=1).evaluate(Scripted(weigh=weigh))
    longest = max(seen, key=len)
    assert len(longest) == 5
    assert (longest[1], longest[3]) == ("A", "KEEP")
    scores = read_metacognition(per_track=2).evaluate(LocalResponder(tiny))
    assert scores["accuracy"].estimate.n == 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": ["one"]}, "field 'options'"),
        ({"key": "C"}, "field 'key'"),
        ({"track": "T9"}, "field 'track'"),
        ({"prompt": ""}, "field 'prompt'"),
    ],
)
def test_malformed_items_are_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    row = {"id": "a", "track": "T1", "prompt": "Which?", "options": ["x", "y"], "key": "B"}
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row))
    assert read_items(str(path))[0].key == 1
    path.write_text(json.dumps({**row, **change}))
    with pytest.raises(InputError, match=said):
        read_items(str(path))


@pytest.mark.oracle("metacognition")
def test_published_aggregates_are_recomputed_from_the_published_responses() -> None:
    folder = shared("metacog_battery")
    responses = read_responses(folder / "csvs")
    assert [len(responses["GLM-5"][t]) for t in ("T1", "T2", "T3", "T4", "T5", "T6")] == [98, 90, 116, 60, 88, 72]
    found = cells(responses)
    published = list(csv.DictReader((folder / "published_outputs" / "all_tracks_probe_results.csv").open()))
    assert len(published) == 120
    for row in published:
        one = found[row["model"]][row["track"]]
        assert f"{one.accuracy:.4f}" == row["accuracy"]
        assert f"{100 * (one.keep_correct or 0):.2f}" == row["kc_rate"]
        assert f"{100 * (one.keep_incorrect or 0):.2f}" == row["ki_rate"]
        assert ("" if one.delta.value is None else f"{100 * one.delta.value:.2f}") == row["withdraw_delta"]
        assert (one.correct, one.incorrect) == (int(row["n_correct"]), int(row["n_incorrect"]))
    board = {one.model: one for one in standings(responses)}
    ranked = list(csv.DictReader((folder / "published_outputs" / "probe_adjusted_leaderboard.csv").open()))
    for row in ranked:
        own = board[row["model"]]
        assert (str(own.accuracy_rank), str(own.delta_rank)) == (row["accuracy_rank"], row["metacognition_rank"])
        assert f"{own.delta:.1f}" == row["mean_withdraw_delta"]
        assert round(own.accuracy, 3) == float(row["mean_accuracy"])
    # the release adjusted three labels by hand; by its thresholds they are A
    adjusted = [row["model"] for row in ranked if board[row["model"]].profile != row["profile"]]
    assert sorted(adjusted) == ["Claude Opus 4.6", "GLM-5", "Gemma 3 27B"]
    stated = json.loads((folder / "published_outputs" / "reliability_stats.json").read_text())
    own_stats = reliability(responses, {row["model"]: row["profile"] for row in ranked})
    assert round(own_stats.split_half, 3) == stated["split_half_r"]
    assert round(own_stats.spearman_brown, 3) == stated["spearman_brown"]
    assert round(own_stats.effect, 3) == stated["cohens_d_C_vs_A"]
    # the bootstrap's draws come in an order that the release does not state
    assert own_stats.effect_interval == pytest.approx(tuple(stated["cohens_d_95_CI"]), abs=0.02)


def test_files_that_are_equal_for_different_models_are_found() -> None:
    found = identical_files(shared("metacog_battery") / "csvs")
    assert ("T2", ["Gemma 3 12B", "Gemma 3 1B"]) in found
    assert [len(models) for _, models in found] == [2, 2, 4, 2]
