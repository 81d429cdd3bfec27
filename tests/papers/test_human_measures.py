"""Claims of the papers on people, norms and memories: what decides them, and the parts that need no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.measure.people.scripted import DATA, Scripted, shared

from letheon.measure.normgenesis.dialogues import Dialogue
from letheon.papers import (
    compression_decay,
    egonormia,
    few_shot_memories,
    long_tail,
    metacognition,
    normad,
    normgenesis,
    norming,
    word_features,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale

SEEDS = range(3)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHEON_DATA", str(DATA))


def test_training_decides_in_the_way_that_was_chosen_before() -> None:
    row = {"argmax": None, "embeddings": 0.2, "length": 0.1, "human": 0.8}
    rows = [{**row, "seed": s, "expected": -0.1 + s / 100, "probe": 0.4, "tuned": 0.1 + s / 50} for s in SEEDS]

    def parts(way: str, **changes: float) -> list[str]:
        found = Findings(primary=norming.PRIMARY)
        norming.judge(
            [{**one, **{n: v * (1 + one["seed"] / 20) for n, v in changes.items()}} for one in rows], found, way
        )
        return [str(found.parts[part]) for part in (norming.TRAINED, norming.MEANING, norming.ZERO)]

    assert parts("probe", probe=0.4) == ["holds", "holds", "holds"]
    assert parts("tuned", tuned=-0.4) == ["fails", "fails", "holds"], "the better way of the judged seeds is not taken"
    assert parts("probe", probe=0.4, expected=0.9) == ["fails", "holds", "fails"]


def test_published_correlations_of_familiarity_decide() -> None:
    found = Findings()
    norming.published(shared("familiarity_llm"), found)
    assert list(found.parts) == norming.PRIMARY[:3]
    assert set(found.parts.values()) == {"holds"}


def test_word_features_are_judged_by_their_mean() -> None:
    found = Findings()
    row = {"a expected": 0.1, "a argmax": None, "b expected": None, "b argmax": 0.1, "b probe": 0.4}
    rows = [{**row, "seed": s, "a probe": 0.5 + s / 50} for s in SEEDS]
    word_features.judge(rows, found)
    assert found.parts == {word_features.TRAINED: "holds"}
    assert found.measured["argmax constant"] == "3 of 6"


def a_dialogue(norm: str, kind: str, number: int) -> Dialogue:
    return Dialogue(f"{kind}-{norm}-{number}", "", "", f"A: {kind} of {norm}", "category", norm)


def test_the_stated_rule_decides_and_the_rule_of_another_norm_does_not_help() -> None:
    kinds = {k: [a_dialogue(f"norm {n}.", k, i) for n in range(16) for i in range(2)] for k in normad.KINDS}

    def follows(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        """Say no only where the dialogue breaks the very rule that is stated."""
        rule = re.search(r"Rule-of-thumb: (.*)\n", turns[0])
        return [1, 2, 0] if rule and f"violation of {rule[1]}" in turns[0] else [2, 1, 0]

    rows = [normad.one_seed(Scripted(weigh=follows), kinds, seed, 4) for seed in range(4)]
    assert rows[0]["AUROC, none"] == 0.5, "a constant tells nothing apart"
    assert (rows[0]["accuracy, none"], rows[0]["says yes"]) == (0.5, 0.5)
    assert (rows[0]["AUROC, rule"], rows[0]["AUROC, another rule"]) == (1.0, 0.5)

    def judged(rule: float) -> Findings:
        found = Findings(primary=normad.PRIMARY)
        normad.judge([{**row, "AUROC, rule": rule + row["seed"] / 50} for row in rows], found)
        return found

    assert judged(0.9).verdict == "holds"
    assert judged(0.3).verdict == "fails"


def test_published_monitoring_is_recomputed() -> None:
    shared("metacog_battery")
    found = Findings()
    metacognition.reproduce(Scale(), found)
    assert list(found.parts) == metacognition.PRIMARY
    assert found.measured["cells"] == "120 of 120 equal"
    assert [part for part, verdict in found.parts.items() if verdict != "holds"] == ["profiles"]
    assert set(found.measured["labels that differ"]) == {"Claude Opus 4.6", "GLM-5", "Gemma 3 27B"}


def test_long_tail_is_judged_by_rare_classes_and_the_theory() -> None:
    rows = [
        {"seed": s, "auroc": 0.95 + s / 100, "excess ratio": 0.99 + s / 100, "tau ratio": 8.0 + s,
         "rare, memorised": 0.4 + s / 100, "rare, random": 0.6, "rare, least": 0.7,
         "accuracy, memorised": 0.8, "accuracy, random": 0.85 + s / 100}
        for s in SEEDS
    ]  # fmt: skip
    found = Findings()
    long_tail.judge(rows, found)
    assert list(found.parts) == long_tail.PRIMARY
    assert found.verdict == "holds"
    harmless = Findings()
    long_tail.judge([{**row, "rare, memorised": 0.7 + row["seed"] / 100} for row in rows], harmless)
    assert harmless.parts[long_tail.RARE] == "fails"


def test_the_released_slip_is_not_repeated() -> None:
    shared("egonormia_ood")
    found = Findings()
    egonormia.reproduce(Scale(), found)
    assert list(found.parts) == egonormia.PRIMARY
    assert found.verdict == "holds"
    assert all(row["ours"] == 1 for row in found.rows)


def test_repairs_are_counted_by_category() -> None:
    dialogues = normgenesis.read_dialogues(shared("normgenesis") / "dialogue_american_v2r.json")[:200]
    shares = normgenesis.repaired(dialogues)
    assert set(shares) == {one.category for one in dialogues}
    assert all(0 <= share <= 1 for share in shares.values())


def test_compression_is_judged_by_the_dip_of_a_real_subject_and_by_the_rule() -> None:
    said = Scripted(say=lambda turns: "Light.")
    rows = [row for seed in SEEDS for row in compression_decay.one_seed(said, seed)]
    assert len(rows) == 12
    assert len({row["concept"] for row in rows}) == len(SEEDS)

    def parts(**middle: float) -> dict[str, str]:
        found = Findings(primary=compression_decay.PRIMARY)
        shown = [
            {**row, "CC": [0.6, 0.5, value, 1.0, 1.0], "dip": 0.8 - value, "r": 0.1}
            for row in rows
            for value in [middle[row["arm"]] + row["seed"] / 100 * (row["arm"] in ("reference", "minimal"))]
        ]
        compression_decay.judge(shown, found)
        return {part: str(verdict) for part, verdict in found.parts.items()}

    assert set(parts(reference=0.2, matched=0.6, minimal=0.6, no_rule=0.2).values()) == {"holds"}
    assert set(parts(reference=0.7, matched=0.5, minimal=0.2, no_rule=0.5).values()) == {"fails"}


def test_memories_are_judged_above_chance_and_above_unstudied_sentences() -> None:
    later = {"0 shots": 0.5, "1 shots": 0.95, "2 shots": 0.97, "3 shots": 1.0, "20 steps later": 0.95}
    slow = {"0 shots": 0.1, "1 shots": 0.3, "2 shots": 0.5, "3 shots": 0.7, "20 steps later": 0.4}
    pattern = {"0 shots": 0.1, "1 shots": 0.2, "2 shots": 0.2, "3 shots": 0.2, "20 steps later": 0.2}

    def judged(foils: dict[str, float], recall: dict[str, float]) -> Findings:
        rows: list[dict[str, Any]] = [
            {"seed": s, "last": "20 steps later", "recall of foils": foils,
             "recognition": {time: value - s / 1000 for time, value in later.items()},
             "recall": {time: value + s * value / 1000 for time, value in recall.items()}}
            for s in SEEDS
        ]  # fmt: skip
        assert few_shot_memories.share_left(rows[0], "recognition") == pytest.approx(0.9)
        found = Findings(primary=few_shot_memories.PRIMARY)
        few_shot_memories.judge(rows, found)
        return found

    found = judged(pattern, slow)
    assert found.verdict == "holds"
    assert found.judged[few_shot_memories.DECAY].value == pytest.approx(0.4 - 0.9, abs=0.01)
    learned_pattern = judged(slow, {time: value * 1.001 for time, value in slow.items()})
    assert all(abs(learned_pattern.judged[part].value or 0.0) < 0.02 for part in few_shot_memories.RISES), (
        "no memory of items"
    )
