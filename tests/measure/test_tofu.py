"""TOFU: its rows, its subset, and every aggregate against the field's own evaluator."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import letheon
from letheon.audit.measuring.evaluate import Evaluation, RowScores
from letheon.audit.measuring.membership import attack
from letheon.core.atomic import is_whole, read_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, cache_folder
from letheon.core.rows.examples import Example
from letheon.core.scoring.overlap import Rouge
from letheon.measure import tofu as measuring
from letheon.measure.benchmark import NOTHING, Against, Scores
from letheon.measure.tofu import Tofu, read_tofu, utility_estimate
from tests.measure.worlds import author, perturbed, write_rows, write_tofu

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "tofu_golden"
SETS = {"forget": "forget", "retain": "retain", "real authors": "ra", "world facts": "wf"}
ATTACKS = {"min_k": "min_k", "min_k_plus_plus": "min_k_plus_plus", "loss": "loss", "zlib": "zlib"}
# Our names of the field's aggregates.
NAMES = {
    "forget_Q_A_Prob": "forget probability",
    "forget_Q_A_ROUGE": "forget ROUGE-L",
    "forget_truth_ratio": "forget truth ratio",
    "extraction_strength": "extraction strength",
    "exact_memorization": "exact memorisation",
    "model_utility": "model utility",
    "retain_Q_A_Prob": "retain probability",
    "retain_Q_A_ROUGE": "retain ROUGE-L",
    "retain_Truth_Ratio": "retain truth ratio",
    "ra_Q_A_Prob_normalised": "real authors probability",
    "ra_Q_A_ROUGE": "real authors ROUGE-L",
    "ra_Truth_Ratio": "real authors truth ratio",
    "wf_Q_A_Prob_normalised": "world facts probability",
    "wf_Q_A_ROUGE": "world facts ROUGE-L",
    "wf_Truth_Ratio": "world facts truth ratio",
    "mia_min_k": "min-k AUROC",
    "mia_min_k_plus_plus": "min-k++ AUROC",
    "mia_loss": "loss AUROC",
    "mia_zlib": "zlib AUROC",
    "privleak": "PrivLeak",
}


# Reading ------------------------------------------------------------------------------------------------------------


def test_a_copy_in_tofus_layout_is_read(tmp_path: Path) -> None:
    found = read_tofu(write_tofu(tmp_path))
    assert [row.prompt for row in found.forget] == [row["question"] for row in author(0)]
    assert len(found.asked["forget"]) == 20
    assert found.asked["forget"][0].paraphrased_answer == "It was Oslo."
    assert found.request().forget == found.forget
    assert found.config()["counts"]["asked world facts"] == 4
    again = json.loads(json.dumps(found.config()))
    write_rows(tmp_path / "world_facts_perturbed.json", [perturbed(row) for row in author(7, rows=4)])
    other = read_tofu(tmp_path).config()
    assert other["counts"] == again["counts"]
    assert other["hash"] != again["hash"]  # as many rows, but others


def test_hold_out_rows_are_never_trained_on(tmp_path: Path) -> None:
    """In some copies they stand among the rows to keep: a model trained on these would make them members."""
    found = read_tofu(write_tofu(tmp_path))
    assert not {row.prompt for row in found.holdout} & {row.prompt for row in found.retain}
    assert len(found.retain) == 80


def test_a_subset_takes_whole_authors_and_the_rows_about_them(tmp_path: Path) -> None:
    write_tofu(tmp_path)
    found = read_tofu(tmp_path, rows=3)
    assert len(found.forget) == 20
    assert len(found.retain) == 60  # three authors for each one to forget
    assert {row.prompt for row in found.asked["retain"]} == {row.prompt for row in found.retain}
    assert len(found.asked["real authors"]) == 3
    assert found == read_tofu(tmp_path, rows=3)
    chosen = {read_tofu(tmp_path, rows=3, seed=seed).retain for seed in range(8)}
    assert len(chosen) > 1


def test_bad_data_are_refused_with_file_and_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'forget5'"):
        read_tofu(tmp_path, split="forget5")
    with pytest.raises(InputError, match="no table forget05"):
        read_tofu(tmp_path)
    with pytest.raises(InputError, match="no folder and no hub id"):
        read_tofu(tmp_path / "missing")
    write_tofu(tmp_path)
    write_rows(tmp_path / "world_facts_perturbed.json", [{"question": "Who?", "answer": "Ann"}])
    with pytest.raises(InputError, match=r"world_facts_perturbed\.json, world_facts_perturbed-1.*perturbed_answer"):
        read_tofu(tmp_path)


# Aggregates ---------------------------------------------------------------------------------------------------------


@pytest.mark.oracle("tofu_utility")
def test_utility_is_a_harmonic_mean_that_one_zero_empties() -> None:
    ones = np.ones((3, 4))
    assert utility_estimate([ones, ones, ones]).value == 1
    # Nine parts: six of 1, three of 1/2 -> 9 / (6 + 6).
    assert utility_estimate([ones, ones, ones / 2]).value == pytest.approx(9 / 12)
    none = utility_estimate([ones, ones, np.array([[1.0] * 4, [0.0] * 4, [1.0] * 4])])
    assert (none.value, none.low, none.high) == (0, 0, 0)


def test_the_utilitys_interval_draws_rows_of_each_set_again() -> None:
    rng = np.random.default_rng(0)
    sets = [rng.uniform(0.2, 0.8, (3, 30)) for _ in range(3)]
    found = utility_estimate(sets)
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert found.low < found.value < found.high
    assert found == utility_estimate(sets)
    assert found.n == 90


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tofu:
    monkeypatch.setattr(measuring, "MOST_NEW_TOKENS", 4)
    return read_tofu(write_tofu(tmp_path), rows=2)


def test_a_model_is_measured_and_its_scores_are_read_again(small: Tofu, tiny: LanguageModel) -> None:
    scores = small.evaluate(tiny)
    assert {score.name for score in scores.scores} >= set(small.columns)
    assert scores["forget quality"].estimate.value is None
    assert "without the forget rows" in scores["forget quality"].why
    assert scores["gibberish"].estimate.value == 1  # random weights write no words
    assert set(scores["forget probability"].items) == {row.id for row in small.asked["forget"]}
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
    # A reference measured against itself is what it should be.
    itself = small.relate(scores, Against(reference=scores))
    assert itself.value("forget quality") == 1
    assert itself.value("PrivLeak") == 0
    assert small.relate(itself, Against(reference=scores)) == itself


def test_answers_of_a_related_model_save_decoding_and_change_nothing(small: Tofu, tiny: LanguageModel) -> None:
    alone = small.evaluate(tiny)
    drafted = small.evaluate(tiny, Against(target=alone, reference=alone))
    assert drafted.answers == alone.answers
    assert drafted.value("model utility") == pytest.approx(alone.value("model utility"), abs=1e-6)


def test_the_peers_extraction_strength_is_never_zero(small: Tofu, tiny: LanguageModel) -> None:
    ours = small.evaluate(tiny)["extraction strength"].values()
    peers = measuring.replace(small, peer=True).evaluate(tiny)["extraction strength"].values()
    assert min(ours) == 0
    assert min(peers) > 0
    assert all(a == b for a, b in zip(ours, peers, strict=True) if a)


def test_without_hold_out_rows_there_is_no_membership(tmp_path: Path, tiny: LanguageModel) -> None:
    small = read_tofu(write_tofu(tmp_path, holdout=False), rows=2)
    scores = small.relate(Scores((*small._membership_scores(tiny), _ratios())), Against())
    assert scores["PrivLeak"].estimate.value is None
    assert "hold-out" in scores["PrivLeak"].why


def _ratios() -> Any:
    return measuring.Score("forget truth ratio", measuring.Estimate(None, None, None, 0), "higher")


# Against the field's evaluator --------------------------------------------------------------------------------------

golden_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"golden data not found in {DATA}: set LETHEON_DATA")
both = pytest.mark.parametrize("adapter", ["target", "retain"])


def golden(adapter: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(DATA / "golden.json")["models"][adapter]
    return found


def rows_of(adapter: str, name: str, examples: tuple[Example, ...]) -> Evaluation:
    """The evaluator's own values of each row, as if we had measured them (`tests/audit/test_golden.py` shows we do)."""
    short, found = SETS[name], golden(adapter)

    def item(metric: str, i: int, field: str) -> Any:
        return found[metric]["items"][str(i)][field] if metric in found else None

    ratio = "forget_truth_ratio" if name == "forget" else f"{short}_Truth_Ratio"
    forget = name == "forget"
    rows = [
        RowScores(
            example=example,
            probability=item(f"{short}_Q_A_Prob", i, "prob"),
            value_probability=None,
            exact_memorization=item("exact_memorization", i, "score") if forget else None,
            extraction_strength=item("extraction_strength", i, "score") if forget else None,
            paraphrased=item(f"{short}_Q_A_PARA_Prob", i, "prob"),
            perturbed=tuple(item(f"{short}_Q_A_PERT_Prob", i, "prob")),
            truth_ratio=item(ratio, i, "score"),
            answer=item(f"{short}_Q_A_ROUGE", i, "generation"),
            rouge=Rouge(0.0, item(f"{short}_Q_A_ROUGE", i, "rougeL_recall"), 0.0),
        )
        for i, example in enumerate(examples)
    ]
    return Evaluation(rows)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch, tiny: LanguageModel) -> Any:
    """The scores of an adapter from the evaluator's values of each row."""

    def scores(adapter: str, against: Against = NOTHING) -> Scores:
        data = read_tofu(DATA, split="forget05", peer=True)
        names = {rows: name for name, rows in data.asked.items()}

        def rows(model: Any, examples: Any, **options: Any) -> Evaluation:
            return rows_of(adapter, names[examples], examples)

        def attacks(model: Any, members: Any, others: Any, **options: Any) -> Any:
            found = {name: golden(adapter)[f"mia_{metric}"] for name, metric in ATTACKS.items()}
            values = {
                name: [
                    [item["score"] for item in one[part]["value_by_index"].values()] for part in ("forget", "holdout")
                ]
                for name, one in found.items()
            }
            return {name: attack(name, *value) for name, value in values.items()}

        monkeypatch.setattr(measuring, "evaluate", rows)
        monkeypatch.setattr(measuring, "membership", attacks)
        return data.evaluate(tiny, against)

    return scores


@golden_data
@both
def test_every_aggregate_is_the_evaluators(adapter: str, theirs: Any) -> None:
    found = theirs(adapter)
    expected = {name: golden(adapter)[name]["value"] for name in NAMES}
    ours = {name: found.value(label) for name, label in NAMES.items()}
    assert ours == pytest.approx(expected, abs=1e-6)


@golden_data
def test_forget_quality_is_the_evaluators(theirs: Any) -> None:
    reference = theirs("retain")
    found = theirs("target", Against(reference=reference))
    assert found.value("forget quality") == pytest.approx(golden("target")["forget_quality"]["value"], abs=1e-9)
    assert math.log10(found.value("forget quality")) < -1.5  # the untouched model is told from the retrained one


@golden_data
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not is_whole(cache_folder() / "smollm2-135m-instruct"), reason="no embedded model in the cache")
@both
def test_every_aggregate_from_the_weights_alone(adapter: str) -> None:
    found = read_tofu(DATA, split="forget05", peer=True).evaluate(
        letheon.load(DATA / "adapters" / adapter, device="cpu")
    )
    expected = {name: golden(adapter)[name]["value"] for name in NAMES}
    assert {name: found.value(label) for name, label in NAMES.items()} == pytest.approx(expected, abs=1e-4)
