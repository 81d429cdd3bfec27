"""NormAd, EgoNormia and NormGenesis: parsers, permutations, recorded answers, statistics of the released dialogues."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.egonormia import (
    NONE,
    EgoNormia,
    Scene,
    Verdict,
    original,
    overlap,
    read_egonormia,
    read_scenes,
    recorded_verdicts,
    released_original,
    verdict_scores,
)
from letheon.measure.normad import parse, parse_as_released, read_normad
from letheon.measure.normgenesis import read_normgenesis
from letheon.measure.normgenesis.dialogues import (
    grid,
    phases,
    read_dialogues,
    read_turns,
    shuffled_turns,
    split_by_norm,
    type_accuracy,
)
from letheon.measure.run import measure
from tests.measure.people.scripted import Scripted, shared

# NormAd


@pytest.mark.oracle("normad")
@pytest.mark.parametrize(
    ("text", "label", "released"),
    [("Yes.", 0, 0), ("No", 1, 1), ("Neither", 2, 2), ("None of these", None, 1), ("1) Yes", 0, 0), ("", None, 2),
     ("Note that it is fine", None, 1), ("option 3", 2, 2), ("2", 1, 2)],
)  # fmt: skip
def test_answers_are_whole_words(text: str, label: int | None, released: int) -> None:
    assert parse(text) == label
    assert parse_as_released(text) == (released if text != "None of these" else 1)


@pytest.mark.oracle("normad")
def test_a_constant_yes_scores_the_share_of_yes_everywhere() -> None:
    made = read_normad()
    assert len(made.stories) == 24
    scores = made.evaluate(Scripted(weigh=lambda turns, options: [0.5, 0.3, 0.2]))
    for condition in ("none", "country", "country_value", "rule"):
        assert scores.value(f"{condition}: accuracy") == pytest.approx(1 / 3)
        assert scores.value(f"{condition}, japan: accuracy") == pytest.approx(1 / 3)
        assert scores.value(f"{condition}, yes: accuracy") == 1
        assert scores.value(f"{condition}: says yes") == 1
    assert scores.value("always yes") == pytest.approx(1 / 3)
    assert scores.value("none: macro F1") == pytest.approx(2 * 8 / (8 + 24) / 3)
    result = measure(made, Scripted(weigh=lambda turns, options: [0.5, 0.3, 0.2]), {})
    assert any("rule: degenerate" in note for note in result.scores.notes)
    assert any("fixture" in note for note in result.scores.notes)


@pytest.mark.oracle("normad")
def test_a_reader_of_the_rule_answers_with_it_and_not_without() -> None:
    made = read_normad(read="text")
    by_rule = {story.prompt("rule"): story.label for story in made.stories}
    oracle = Scripted(say=lambda turns: ("Yes", "No", "Neither")[by_rule[turns[0]]] if turns[0] in by_rule else "Hm")
    scores = made.evaluate(oracle)
    assert scores.value("rule: accuracy") == 1
    assert scores.value("country: accuracy") == 0
    assert scores.value("unparsed") == 0.75
    released = read_normad(read="text", parser="reference").evaluate(oracle)
    assert released.value("unparsed") == 0
    assert released.value("country: accuracy") == pytest.approx(1 / 3), "what cannot be read counts as neutral there"


def test_a_local_model_answers_and_faults_are_named(tiny: LanguageModel, tmp_path: Path) -> None:
    assert read_normad(limit=3, conditions="rule").evaluate(LocalResponder(tiny))["rule: accuracy"].estimate.n == 3
    (tmp_path / "bad.csv").write_text(
        "Country,Subaxis,Value,Rule-of-Thumb,Story,Gold Label\nfrance,visiting,v,r,s,maybe\n"
    )
    with pytest.raises(InputError, match="field 'Gold Label': found 'maybe'"):
        read_normad(str(tmp_path / "bad.csv"))
    (tmp_path / "bad.csv").write_text("Country,Story\nfrance,s\n")
    with pytest.raises(InputError, match=r"(?s)row 1: there is no field 'Gold Label'.*the row has: Country, Story"):
        read_normad(str(tmp_path / "bad.csv"))
    with pytest.raises(InputError, match=r"the prompt 'A story .*\.\.\. has \d+ tokens, the model's context has 1024"):
        LocalResponder(tiny).option_logp([(["A story " * 200], ["Yes", "No"])])
    (tmp_path / "zones.csv").write_text("country,zone\nfrance,A\nfrance,B\n")
    with pytest.raises(InputError, match="france has the zones 'A' and 'B'"):
        read_normad(zones=str(tmp_path / "zones.csv"))


# EgoNormia


def scenes(number: int) -> tuple[Scene, ...]:
    acts = ("wave", "wait", "help", "leave", "")
    return tuple(
        Scene(
            id=f"s{i}",
            behaviours=tuple(f"{act} {i}" if act else "" for act in acts),
            reasons=tuple(f"because {j} {i}" for j in range(5)),
            correct=i % 5,
            sensible=frozenset({i % 5, (i + 1) % 5}),
            labels=("Safety",),
            description=f"scene {i}",
        )
        for i in range(number)
    )


def test_a_scene_with_null_values_is_refused_by_its_number(tmp_path: Path) -> None:
    row = {"id": "a", "behaviors": ["x", "y"], "justifications": ["p", "q"], "correct": 0, "sensibles": [0]}
    for name, value in (("id", None), ("behaviors", ["x", None]), ("correct", None)):
        path = tmp_path / "scenes.jsonl"
        path.write_text(json.dumps(row) + "\n" + json.dumps({**row, name: value}))
        with pytest.raises(InputError, match="item 2"):
            read_scenes(path)


@pytest.mark.oracle("egonormia")
def test_a_perfect_answerer_scores_one_and_the_released_slip_does_not() -> None:
    draws = random.Random(0)
    hits = [0, 0]
    for _ in range(4000):
        order = draws.sample(range(5), 5)
        correct = draws.choice([0] * 9 + [4] * 2)
        position = order.index(correct)
        hits[0] += original(position, order) == correct
        hits[1] += released_original(position, order) == correct
    assert hits[0] == 4000
    assert hits[1] / 4000 == pytest.approx(0.36, abs=0.03)


@pytest.mark.oracle("egonormia")
def test_an_oracle_and_a_model_of_one_position() -> None:
    items = scenes(50)
    right = {
        scene.description: (scene.behaviours[scene.correct] or NONE, scene.reasons[scene.correct]) for scene in items
    }
    good = {s.description: {s.behaviours[i] or NONE for i in s.sensible} for s in items}

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        scene, _, rest = turns[0].partition("\n\n")
        if options[0] == "Yes":
            shown = rest.split("camera? ")[1].split("\n")[0]
            return [0.9, 0.1] if shown in good[scene] else [0.1, 0.9]
        lines = [line.partition(". ")[2] for line in rest.splitlines() if line[:1].isdigit()]
        return [0.9 if line in right[scene] else 0.02 for line in lines]

    scores = EgoNormia(items).evaluate(Scripted(weigh=weigh))
    assert [scores.value(name) for name in ("action", "reason", "both", "sensible IoU")] == [1, 1, 1, 1]
    first = EgoNormia(items, orders=1).evaluate(Scripted(weigh=lambda t, o: [0.9, *[0.02] * (len(o) - 1)]))
    assert first.value("action") == pytest.approx(0.2, abs=0.15)
    assert first.value("most chosen position") == 1


@pytest.mark.oracle("egonormia")
def test_answers_are_read_and_sets_compared() -> None:
    assert overlap(frozenset({0, 3}), frozenset({3})) == 0.5
    assert overlap(frozenset(), frozenset()) == 1


@pytest.mark.oracle("egonormia")
def test_recorded_answers_score_as_recomputed() -> None:
    folder = shared("egonormia_ood")
    items = read_scenes(folder / "ood_robot.json")
    assert len(items) == 11
    assert sorted(scene.correct for scene in items) == [0] * 9 + [4] * 2
    systems = recorded_verdicts(folder / "ood_robot_eval.json", items)
    table = {}
    for system, verdicts in systems.items():
        scores = {score.name: score.estimate.value for score in verdict_scores(items, verdicts)}
        table[system] = tuple(round(scores[name] or 0, 3) for name in ("action", "reason", "both", "sensible IoU"))
    assert table["rag"] == (0.636, 0.455, 0.455, 0.25)
    assert table["gpt-4o-240513"] == (0.455, 0.182, 0.091, 0.25)
    assert table["desc_gpt-o3-mini"] == table["desc_deepseek-r1-new"] == (0.182, 0.182, 0.091, 0.25)
    blind = read_egonormia(str(folder / "ood_robot.json"), limit=2, condition="blind")
    assert blind.evaluate(Scripted()).value("unparsed") == 0


def test_an_unread_answer_is_wrong_and_not_none_of_these() -> None:
    scene = scenes(5)[4]
    assert scene.behaviours[scene.correct] == ""
    scores = verdict_scores([scene], [Verdict(None, None, None)])
    assert [score.estimate.value for score in scores[:4]] == [0, 0, 0, 0]


# NormGenesis

TALK = """Ann: (steps on his foot) Move.
(Some time passes.)
Ben: (frowning) That hurt, you know.
Ann: I am sorry, that was careless of me.
Ben: Thank you for saying so."""


@pytest.mark.oracle("normgenesis")
def test_turns_and_phases_by_hand() -> None:
    turns = read_turns(TALK)
    assert [turn.speaker for turn in turns] == ["Ann", "Ben", "Ann", "Ben"]
    assert (turns[0].action, turns[0].text) == ("steps on his foot", "Move.")
    found = phases(turns)
    assert (found.violation, found.reaction, found.repair, found.acceptance) == (0, 1, 2, 3)
    assert found.resolved
    assert not phases(turns[:3]).resolved
    assert not phases([turns[2], turns[3], turns[0], turns[1]]).resolved, "an apology before anything happened"
    assert read_turns("王老师：（笑）你好。\nDr. Lee: Hello")[0].speaker == "王老师"
    assert read_turns("Dr. Lee: Hello")[0].speaker == "Dr. Lee"


@pytest.mark.oracle("normgenesis")
def test_released_dialogues_have_the_counted_structure() -> None:
    folder = shared("normgenesis")
    kinds = {
        name: read_dialogues(folder / f"dialogue_american_{name}.json") for name in ("adherence", "violation", "v2r")
    }
    for dialogues in kinds.values():
        counted = grid(dialogues)
        assert (counted["records"], counted["categories"], counted["norms"]) == (1200, 12, 120)
        assert counted["smallest category"] == counted["largest category"] == 100
    shares = {name: round(grid(dialogues)["apologies"], 3) for name, dialogues in kinds.items()}
    assert shares == {"adherence": 0.224, "violation": 0.144, "v2r": 0.938}
    assert grid(kinds["v2r"])["turns"] == pytest.approx(11.1, abs=0.5)
    resolved = {n: sum(phases(one.turns).resolved for one in d) / len(d) for n, d in kinds.items()}
    assert resolved["v2r"] > 2 * max(resolved["adherence"], resolved["violation"])
    some = kinds["v2r"][:300]
    broken = sum(phases(shuffled_turns(one.turns, i)).resolved for i, one in enumerate(some)) / len(some)
    assert broken < 0.75 * sum(phases(one.turns).resolved for one in some) / len(some)
    train, test = split_by_norm(some, 0.25, 0)
    assert {some[i].norm for i in train}.isdisjoint(some[i].norm for i in test)
    assert split_by_norm(some, 0.25, 0) == (train, test)


@pytest.mark.slow
def test_kinds_of_dialogues_are_told_apart_late_rather_than_early() -> None:
    folder = shared("normgenesis")
    kinds = [read_dialogues(folder / f"dialogue_american_{name}.json") for name in ("adherence", "violation", "v2r")]
    whole, half = (type_accuracy(kinds, share=share)[0] for share in (1.0, 0.5))
    assert whole > 0.8
    assert half < whole


def test_the_pipeline_refines_before_it_writes() -> None:
    asked: list[str] = []

    def say(turns: Sequence[str]) -> str:
        asked.append(turns[0])
        if "[Refined Scenario]" in turns[0]:
            return "[Refined Scenario] Ann steps on Ben's foot in a crowded lab.\n[Refined Situation] They are tense."
        return "[Scenario] Ann hurts Ben.\n[Situation] A lab." if "[Scenario]" in turns[0] else TALK

    made = read_normgenesis(limit=2)
    scores = made.evaluate(Scripted(say=say, weigh=lambda t, o: [0.1] * (len(o) - 1) + [0.6]))
    assert scores.value("refinement read") == 1
    assert scores.value("resolved") == 1
    assert scores.value("turns") == 4
    assert scores.value("turns labelled") == 1
    assert (scores.value("linguistic quality") or 0) == pytest.approx((0.1 * 10 + 0.6 * 5) / 1.0)
    assert "in a crowded lab" in asked[-1], "the dialogue is written from the refined scenario"
    nothing = made.evaluate(Scripted(say=lambda turns: "..."))
    assert nothing.value("unparsed") == 1
    assert nothing["linguistic quality"].why
    with pytest.raises(InputError, match="kind=other"):
        read_normgenesis(kind="other")
