"""Norming and word features: read-outs, faults of tables, published estimates, probes, fine-tuning, constant models."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.asking.parsing import number_in, option_in
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.asking.templates import Template
from letheon.measure.human.agreement import binned, correlation_score
from letheon.measure.human.norming import read_norming, shuffled
from letheon.measure.human.norms import read_norms
from letheon.measure.human.published import read_agreements
from letheon.measure.human.ratings import read_rating
from letheon.measure.human.spreadsheet import read_sheet
from letheon.measure.human.word_features import read_word_features
from letheon.measure.run import compare_runs, measure, read_measure
from tests.measure.people.scripted import Scripted, shared

WORDS = ["cat", "house", "water", "tree", "abbot", "quark", "loom", "xylem", "bread", "sun", "ratchet", "vellum"]


def table(path: Path, rows: Sequence[dict[str, object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def words(tmp_path: Path) -> str:
    rows: list[dict[str, object]] = [
        {"Word": word, "human": 1 + i % 7, "log_frequency": i, "other": 1 + (i + i % 2) % 7}
        for i, word in enumerate(WORDS)
    ]
    return table(tmp_path / "words.csv", rows)


@pytest.mark.oracle("norming")
def test_expected_rating_is_renormalised_over_the_points_of_the_scale() -> None:
    # digits 3: .5, 4: .25, another word: .25
    found = read_rating(np.log(np.array([1e-300, 1e-300, 0.5, 0.25, 1e-300, 1e-300, 1e-300])), range(1, 8))
    assert found.expected == pytest.approx(10 / 3)
    assert (found.argmax, found.mass) == (3, pytest.approx(0.75))
    assert found.entropy == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    assert read_rating(np.full(7, -np.inf), range(1, 8)).expected is None


@pytest.mark.oracle("norming")
def test_correlations_use_average_ranks_and_a_constant_side_gives_none() -> None:
    found = correlation_score("rho", [1, 1, 2, 3], [1, 2, 3, 4])
    # ranks 1.5 1.5 3 4 against 1 2 3 4: covariance 4.5, squared lengths 4.5 and 5
    assert found.estimate.value == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    constant = correlation_score("rho", [4, 4, 4, 4], [1, 2, 3, 4])
    assert constant.estimate.value is None
    assert "constant" in constant.why
    assert correlation_score("rho", [1.0, None, 2.0, 3.0], [3, 9, 2, 1]).estimate.n == 3


def test_bins_average_both_sides() -> None:
    found = binned([1.0, 3.0, 6.0], [1.2, 1.4, 6.9], 1, 7, bins=6)
    assert found.counts == (2, 1)
    assert found.model == (2.0, 6.0)
    assert found.human == (pytest.approx(1.3), 6.9)


@pytest.mark.parametrize(
    ("text", "value"),
    [("4.52", 4.52), ("I say 3.", 3), ("9", None), ("none", None), ("4,5", 4.5), ("v2 3", 3), ("-1", None)],
)
def test_numbers_are_read_within_the_scale(text: str, value: float | None) -> None:
    assert number_in(text, 1, 7) == value


def test_options_are_whole_words() -> None:
    assert option_in("Note: no", ["Yes", "No"]) == 1
    assert option_in("NO_BET", ["BET", "NO_BET"]) == 1
    assert option_in("none of these", ["Yes", "No"]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows, "no rating column 'rating'"),
        (lambda rows: [{**row, "rating": row["human"]} for row in [*rows, rows[0]]], "more than once ('cat')"),
        (lambda rows: [{**row, "rating": 9} for row in rows], "outside the scale 1 to 7"),
        (lambda rows: [{**row, "rating": "high"} for row in rows], "not a number"),
        (lambda rows: [{**row, "rating": ""} for row in rows], "no rating is filled"),
        (lambda rows: [{"Word": "", "rating": 1}, *[{"Word": r["Word"], "rating": 2} for r in rows]], "row 1: no word"),
    ],
)
def test_faults_of_a_table_are_named(
    tmp_path: Path, change: Callable[[list[dict[str, object]]], list[dict[str, object]]], said: str
) -> None:
    rows: list[dict[str, object]] = [{"Word": word, "human": 3} for word in WORDS]
    path = table(tmp_path / "bad.csv", change(rows))
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        read_norming(path)


def test_missing_ratings_are_counted_and_outliers_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"word": word, "rating": 4 + i % 2 / 10} for i, word in enumerate(WORDS)]
    rows[0]["rating"], rows[3]["rating"] = "", 1
    norms = read_norms(table(tmp_path / "words.csv", rows), "rating", 1, 7)
    assert norms.missing == 1
    assert norms.outliers() == ["tree"]


def knows(human: dict[str, float]) -> Scripted:
    """A model whose probabilities peak at the human rating of the word in the prompt."""

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        word = turns[0].split('"')[1]
        return [math.exp(-abs(float(option) - human[word])) / 4 for option in options]

    return Scripted(weigh=weigh)


def test_a_model_that_knows_the_words_agrees_and_a_shuffled_column_ends_it(words: str) -> None:
    study = read_norming(words, rating="human", second="other", frequency="log_frequency")
    human = dict(zip(study.norms.words, study.norms.ratings, strict=True))
    scores = study.evaluate(knows(human))
    assert scores.value("rho expected") == pytest.approx(1)
    assert scores.value("rho argmax") == pytest.approx(1)
    assert scores.value("unparsed") == 0
    assert scores["rho human"].estimate.value is not None
    assert len(scores.records) == 12
    assert shuffled(study.norms, 0).ratings != study.norms.ratings
    assert sorted(shuffled(study.norms, 0).ratings) == sorted(study.norms.ratings)
    assert any(study.asking.template.sha256[:12] in note for note in scores.notes)


def test_the_lancaster_format_has_words_in_capitals_and_a_scale_from_zero(tmp_path: Path) -> None:
    senses = ("Auditory", "Gustatory", "Haptic", "Interoceptive", "Olfactory", "Visual")
    rows: list[dict[str, object]] = [
        {"Word": word, **{f"{sense}.mean": (i + j) % 6 for j, sense in enumerate(senses)}}
        for i, word in enumerate(("BANANA", "SNOW", "BELL", "DRUM"))
    ]
    study = read_word_features(table(tmp_path / "lancaster.csv", rows))
    assert study.words == ("banana", "snow", "bell", "drum")
    assert [feature.name for feature in study.features] == [sense.lower() for sense in senses]
    asked: list[Sequence[str]] = []

    def taste(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        asked.append(options)
        sense = next(i for i, words in enumerate(study.features) if words.definition in turns[0])
        rating = (study.words.index(turns[0].split('"')[1]) + sense) % 6
        return [float(int(option) == rating) for option in options]

    scores = study.evaluate(Scripted(weigh=taste))
    assert set(map(tuple, asked)) == {("0", "1", "2", "3", "4", "5")}
    assert scores.value("visual: rho expected") == pytest.approx(1)
    assert scores.value("Lancaster: mean rho argmax") == pytest.approx(1)


def test_the_page_draws_correlations_below_zero_too(words: str, tmp_path: Path) -> None:
    study = read_measure("norming", words, rating="human")
    human = dict(zip(study.norms.words, study.norms.ratings, strict=True))  # type: ignore[attr-defined]
    contrary = knows({word: 8 - rating for word, rating in human.items()})
    result = measure(study, contrary, contrary.facts(), out=tmp_path / "run")
    assert result.scores.value("rho expected") == pytest.approx(-1)
    figure = (tmp_path / "run" / "measure.html").read_text().split("<svg")[1].split("</svg>")[0]
    assert "rho expected" in figure
    assert "−1.0" in figure


def test_a_constant_model_is_degenerate_and_has_no_rank_correlation(words: str, tmp_path: Path) -> None:
    study = read_measure("norming", words, rating="human")
    constant = Scripted(weigh=lambda turns, options: [0.0] * 3 + [0.4] + [0.0] * (len(options) - 4), name="constant")
    result = measure(study, constant, constant.facts(), out=tmp_path / "run")
    assert result.scores.value("rho argmax") is None
    assert any("degenerate: 12 of 12" in note for note in result.scores.notes)
    assert any("under half of the probability" in note for note in result.scores.notes)
    page = (tmp_path / "run" / "measure.html").read_text()
    assert "degenerate" in page
    assert "<script" not in page
    lines = [json.loads(line) for line in (tmp_path / "run" / "items.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == set(WORDS)
    stored = json.loads((tmp_path / "run" / "lm_eval.json").read_text())
    assert "mae_expected,none" in stored["results"]["norming"]


def test_two_runs_are_compared_word_by_word(words: str, tmp_path: Path) -> None:
    study = read_measure("norming", words, rating="human")
    human = dict(zip(study.norms.words, study.norms.ratings, strict=True))  # type: ignore[attr-defined]
    flat = Scripted(name="flat")
    for name, model in (("flat", flat), ("knows", knows(human))):
        measure(study, model, model.facts(), out=tmp_path / name)
    rows = {row.name: row for row in compare_runs(tmp_path / "flat", tmp_path / "knows")}
    error = rows["MAE expected"]
    assert error.n == 12
    assert error.value is not None
    assert error.value < 0
    assert error.value == pytest.approx((error.second or 0) - (error.first or 0))
    other = read_measure("norming", words, limit=8, rating="human")
    measure(other, flat, flat.facts(), out=tmp_path / "fewer")
    with pytest.raises(InputError, match="differ in data"):
        compare_runs(tmp_path / "flat", tmp_path / "fewer")


def test_a_local_model_is_probed_and_tuned_and_left_as_it_was(tiny: LanguageModel, words: str, tmp_path: Path) -> None:
    before = tiny.parameters_hash()
    study = read_norming(words, rating="human", probe=True, epochs=1, adapter=str(tmp_path / "adapter"))
    scores = study.evaluate(LocalResponder(tiny))
    assert scores["rho probe"].estimate.n == 6
    assert set(study.split[0]).isdisjoint(study.split[1])
    assert scores["unparsed tuned"].estimate.n == 6
    assert not tiny.has_adapter
    assert tiny.parameters_hash() == before
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_options_of_a_measure_are_checked(words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no measure 'normin'"):
        read_measure("normin")
    with pytest.raises(InputError, match="no option 'ratings'"):
        read_measure("norming", words, ratings="human")
    with pytest.raises(InputError, match="give a number"):
        read_measure("norming", words, rating="human", low="one")
    (tmp_path / "prompt.txt").write_text("Rate it.")
    with pytest.raises(InputError, match="no slot"):
        read_norming(words, rating="human", prompt=str(tmp_path / "prompt.txt"))
    with pytest.raises(InputError, match=r"slot \{size\}"):
        Template("t", "1", "{word} {size} {}").fill(word="a")


def test_a_workbook_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "norms.xlsx").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a workbook"):
        read_sheet(tmp_path / "norms.xlsx")


@pytest.mark.oracle("norming")
def test_published_familiarity_estimates_agree_with_people_as_published() -> None:
    folder = shared("familiarity_llm")
    file = folder / "llm_output__Glasgow_MRC_joint_norms_inner_join_english_output.xlsx"
    columns = ["FAM_MRC", "fam_v02_standard_prompt_gpt4omini", "logprobs_v02_standard_prompt_gpt4omini"]
    columns += ["fam_v01_short_prompt_gpt4omini", "logprobs_v02_standard_prompt_llama3.1-8B"]
    found = read_agreements(file, columns, ["FAM_Glas"])
    assert [round(one.rho.value or 0, 3) for one in found] == [0.801, 0.745, 0.820, 0.334, 0.632]
    assert [one.parsed for one in found] == [2545, 2545, 2545, 2140, 2545]
    assert found[3].unparsed == 405
    assert round(found[0].r.value or 0, 3) == 0.788


@pytest.mark.oracle("word-features")
def test_a_model_of_known_ratings_reproduces_the_exact_correlation(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"Word": word, "Valence.M": 1 + i % 9, "Visual.mean": i % 5} for i, word in enumerate(WORDS)
    ]
    made = read_word_features(table(tmp_path / "norms.csv", rows))
    assert [feature.name for feature in made.features] == ["valence", "visual"]
    assert (made.features[1].low, made.features[1].high) == (0, 5)
    human = {str(row["Word"]): float(str(row["Valence.M"])) for row in rows}
    scores = made.evaluate(knows(human))
    assert scores.value("valence: rho expected") == pytest.approx(1)
    assert scores.value("valence: rho argmax") == pytest.approx(1)
    flat = made.evaluate(Scripted())
    assert flat.value("valence: rho expected") is None, "equal logits for every word say nothing"
    assert flat.value("Glasgow: mean rho expected") is None


@pytest.mark.oracle("word-features")
def test_glasgow_norms_are_read_as_published() -> None:
    file = shared("glasgow_norms") / "glasgow_norms.csv"
    made = read_word_features(str(file), senses=True)
    assert len(made.words) == 5553
    known = {name: [value for value in values if value is not None] for name, values in made.human.items()}
    spans = {name: (min(values), max(values)) for name, values in known.items()}
    assert spans["valence"] == (1.030, 8.647)
    assert spans["arousal"] == (2.057, 8.177)
    assert spans["gender"] == (1.000, 6.971)
    gender = dict(zip(made.words, made.human["gender"], strict=True))
    assert (gender["king"] or 0) > (gender["queen"] or 0)
    shared_words = read_norms(
        shared("familiarity_llm") / "Glasgow_MRC_joint_norms_inner_join_english.xlsx", "FAM_Glas", 1, 7
    )
    own = dict(zip(made.words, made.human["familiarity"], strict=True))
    assert [own[word] for word in shared_words.words] == list(shared_words.ratings)
    assert all("(" not in word for word in read_word_features(str(file), limit=50).words)


def test_a_probe_of_word_features_is_cross_validated(tiny: LanguageModel, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"Word": word, "Valence.M": 1 + i % 9} for i, word in enumerate(WORDS)]
    made = read_word_features(table(tmp_path / "norms.csv", rows), probe=True)
    assert made.evaluate(LocalResponder(tiny))["valence: rho probe"].estimate.n == 12
    with pytest.raises(InputError, match="is an endpoint"):
        made.evaluate(Scripted())
