"""Paper `rwku`: what is taught and forgotten, how the parts make a verdict, and a run on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.measure.rwku_data import write_folders

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.statistics import Estimate
from letheon.measure.benchmark import Score, Scores
from letheon.measure.rwku import read_rwku
from letheon.measure.rwku.records import ATTACKS, Probe, Text
from letheon.papers import rwku
from letheon.papers.common.invented_targets import make_target
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale


@pytest.mark.oracle("rwku")
@pytest.mark.parametrize(("rule", "text", "answer", "value"), rwku.CASES)
def test_the_rules_give_the_hand_worked_scores(rule: str, text: str, answer: str, value: float) -> None:
    assert rwku.by_rule(rule, text, answer) == pytest.approx(value, abs=1e-4)


def test_without_the_data_the_paper_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LETHEON_DATA", raising=False)
    with pytest.raises(InputError, match="LETHEON_DATA") as refused:
        rwku.targets_of(0, Scale("full"))
    assert "jinzhuoran/RWKU" in refused.value.remedy
    monkeypatch.setenv("LETHEON_DATA", str(tmp_path))
    with pytest.raises(InputError, match="is not there"):
        rwku.targets_of(0, Scale("full"))


def test_every_seed_has_a_target_of_its_own_and_full_scale_takes_the_real_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = (rwku.targets_of(seed, Scale())[0].targets for seed in (0, 1))
    assert first == rwku.targets_of(0, Scale())[0].targets != second
    write_folders(tmp_path / "rwku")
    monkeypatch.setenv("LETHEON_DATA", str(tmp_path))
    real = rwku.targets_of(0, Scale("full"))
    assert [read.targets[0].name for read in real] == ["Ada Byrne", "Odo Fell"]


def test_an_invented_target_has_probes_of_every_level_and_attack_and_is_never_named_as_a_neighbour() -> None:
    target = make_target(100)
    kinds = {kind: target.of(kind, Probe) for kind in ("forget 1", "forget 2", "forget 3", "neighbor 1", "neighbor 2")}
    assert {probe.attack for probe in kinds["forget 3"]} == set(ATTACKS)
    assert all(target.name in probe.query or probe.answer == target.name for probe in kinds["forget 3"])
    for kind, probes in kinds.items():
        assert {bool(probe.neighbor) for probe in probes} == {kind.startswith("neighbor")}
        assert all(probe.answer not in probe.query for probe in probes if probe.attack != "multiple choice")
    choices = [probe for probe in kinds["forget 3"] if probe.attack == "multiple choice"]
    assert all(probe.query.count(probe.answer) == 1 for probe in choices)
    assert all(target.name not in probe.query for probe in kinds["neighbor 2"])
    corpus = {row.answer for row in target.corpus()}
    assert not corpus & {text.text for text in target.of("members", Text)}
    assert all(" has no " in why for why in target.missing.values())


def test_a_trial_teaches_and_forgets_copies(
    tmp_path: Path, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TEACH_EPOCHS": 2, "STEPS": 1}.items():
        monkeypatch.setattr(rwku, name, value)
    before = tiny.parameters_hash()
    read = replace(read_rwku(write_folders(tmp_path), split="Ada Byrne", rows=2), text_tokens=4)
    found = rwku.trial(read, tiny, dict.fromkeys(rwku.METHODS, 1e-4))
    assert tiny.parameters_hash() == before
    assert list(found.states()) == ["taught", *rwku.METHODS]
    assert {row["model"] for row in rwku._rows(0, found)} == set(found.states())
    assert rwku.figures([(0, found)])["recall"].startswith("<svg")


# The verdict


UNKNOWN = "what the model before knew was not given"
PROBES = {"All": "ab", "Known": "ab", "Known safe": "ab", "Nbr All": "cd", "Nbr Known": "cd"}


def scores(target: float, near: float, *, known: bool = False, lacking: str = "x has no retain_mmlu.json") -> Scores:
    """Scores of a model that recalls so much of two probes of the target, and of two of its neighbours."""
    found = [Score("Gen", Estimate(None, None, None, 0), "higher", why=lacking)]
    for name in dict.fromkeys((*rwku.SHOWN, *PROBES)):
        value = near if name.startswith("Nbr") else target
        if "nown" in name and not known:
            found.append(Score(name, Estimate(None, None, None, 0), "lower", why=UNKNOWN))
        else:
            items = dict.fromkeys(PROBES.get(name, ""), value)
            found.append(Score(name, Estimate(value, None, None, 2), "lower", items))
    return Scores(tuple(found))


def trials(*after: tuple[float, float], taught: float = 1.0, **options: str) -> rwku.Trials:
    """A seed for each pair: recall of the target and of its neighbours after either method."""
    states = [dict.fromkeys(rwku.METHODS, scores(*one, known=True, **options)) for one in after]
    return [(seed, rwku.Trial("Ada", scores(taught, taught), one)) for seed, one in enumerate(states)]


def judged(runs: Any) -> Findings:
    found = Findings()
    rwku.judge(found, runs)
    return found


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (((0.2, 0.9), (0.4, 0.8)), "holds"),
        (((0.9, 0.2), (0.8, 0.4)), "fails"),
        (((0.2, 0.9), (0.9, 0.2)), "inconclusive"),
        (((0.2, 0.9),), "inconclusive"),  # one seed
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_target_must_lose_more_than_its_neighbours(after: tuple[tuple[float, float], ...], verdict: str) -> None:
    result = judged(trials(*after * (5 if len(after) > 1 else 1)))
    assert result.parts["npo: recall lost, target minus neighbours"] == verdict
    assert result.verdict == verdict
    assert result.measured["not computed, no data"] == ["Gen"]
    lost = sum((1 - target) - (1 - near) for target, near in after) / len(after)
    assert result.measured["gradient_ascent: recall lost, target minus neighbours"] == pytest.approx(lost, rel=1e-3)
    assert set(result.intervals) >= {name for name in result.parts if "lost" in name}


@pytest.mark.usefixtures("noise_over_seeds")
def test_a_model_that_was_not_taught_has_nothing_to_forget() -> None:
    result = judged(trials(*[(0.0, 0.3), (0.1, 0.4)] * 5, taught=0.3))
    assert not result.checks["the taught is recalled, FB"]
    assert result.verdict == "inconclusive"


def test_a_score_that_is_missing_without_reason_fails() -> None:
    result = judged(trials((0.2, 0.9), (0.3, 0.9), lacking="the set is empty"))
    assert result.checks["every score is computed"] is False
    assert result.verdict == "inconclusive"
    assert result.measured["not computed, though the data are there"] == ["Gen"]
