"""Memorability: scenes as text, decoding restricted to digits, folds by brand, controls, LAMBDA's files, SEED."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.human.memorability.data import features, made_ad, read_ads
from letheon.measure.human.memorability.measure import Memorability, correlated, read_memorability, shuffled
from letheon.measure.human.memorability.scoring import (
    DIGITS,
    across,
    folds,
    number_distribution,
    tfidf,
)
from letheon.measure.human.memorability.seed_loop import (
    Draft,
    curate,
    perplexity,
    request_for,
    seed_round,
    training_rows,
)
from letheon.measure.human.memorability.simulator import simulate_ads
from letheon.measure.human.scenes import Content, Scene, read_content, verbalised
from letheon.measure.human.tuning import Tuning
from letheon.measure.run import measure, read_measure
from tests.measure.people.scripted import Scripted

oracle = pytest.mark.oracle("ad-memorability")
PLANTED = simulate_ads(300, seed=100)
ADS = [made_ad(ad.content) for ad in PLANTED]


def planted_measure() -> Memorability:
    return Memorability(tuple(ADS), embedder="")


@oracle
def test_digits_are_renormalised_at_each_step_by_hand() -> None:
    first, both = np.full(10, -np.inf), np.full(100, -np.inf)
    first[[3, 6]] = np.log([0.2, 0.2])  # .6 of the mass begins with a word: left out
    both[[30, 31]] = np.log([0.02, 0.06])  # after 3 most of the mass is no digit
    both[67] = math.log(0.2)
    p = number_distribution(first, both)
    assert p[[30, 31, 67]] == pytest.approx([0.125, 0.375, 0.5])
    assert p.sum() == pytest.approx(1.0)
    whole = number_distribution(np.full(10, -9.0), both)  # two digits are one token: no prefix
    assert whole[[30, 31, 67]] == pytest.approx([0.02 / 0.28, 0.06 / 0.28, 0.2 / 0.28])
    assert np.isnan(number_distribution(np.full(10, -np.inf), np.full(100, -np.inf))).all()


@oracle
def test_ties_take_average_ranks_and_a_constant_scorer_has_no_correlation() -> None:
    # ranks 1.5 1.5 3 4 against 1 2 3 4: rho = sqrt(4.5 / 5)
    assert correlated("rho", [0.0, 0.0, 5.0, 9.0], [1.0, 2.0, 3.0, 4.0]).estimate.value == pytest.approx(
        math.sqrt(4.5 / 5)
    )
    constant = correlated("rho", [7.0] * 4, [1.0, 2.0, 3.0, 4.0])
    assert (constant.estimate.value, bool(constant.why)) == (None, True)


def test_no_brand_is_on_both_sides_of_a_fold() -> None:
    brands = [ad.brand for ad in ADS]
    for train, test in folds(brands, "brand", seed=0):
        assert not {brands[i] for i in train} & {brands[i] for i in test}
    assert any({brands[i] for i in a} & {brands[i] for i in b} for a, b in folds(brands, "random", seed=0))


def test_baselines_recover_a_planted_law_and_shuffled_scores_do_not() -> None:
    found = planted_measure().baselines()
    human = [ad.score for ad in ADS]
    ceiling = correlated("", [ad.law for ad in PLANTED], human).estimate.value or 0.0
    rho = {name: correlated(name, values, human).estimate.value or 0.0 for name, values in found.items()}
    assert ceiling > 0.75
    assert rho["tfidf"] > 0.45  # the brand's effect cannot be known
    assert rho["tfidf, random split"] > 0.8 * ceiling
    assert rho["brand, random split"] > 0.2
    mixed = shuffled(ADS, 0)
    scores, parts = [ad.score for ad in mixed], folds([ad.brand for ad in mixed], "brand", 0)
    values = across(tfidf([ad.text for ad in mixed]), scores, parts)
    assert (correlated("", values, scores).estimate.value or 0.0) < 0.15  # folds without signal lean below 0


def test_a_scene_is_one_paragraph_in_the_data_sets_order() -> None:
    scene = Scene(
        "a dog", asr="Buy now.", ocr="SALE", emotions=("joy",), tags=("dog", "lawn"), tone="warm", complexity="Low"
    )
    assert verbalised(scene, 2) == (
        "Scene 2: The scene shows a dog. The dominant tone of the scene is warm. The scene has Low visual complexity. "
        "The emotions shown in the scene are joy. This scene is categorized by the tags dog, lawn. "
        "The text shown in the scene is 'SALE'. The audio in the scene says Buy now."
    )
    named = made_ad(Content("1", (scene,), brand="Norra", duration=30, pace="high", memorability=50))
    assert features([named.text])[0].tolist()[:5] == [30, 1, 2, 0, 1]


def test_faults_of_content_are_named_and_a_captioner_fills_in_images(tmp_path: Path) -> None:
    path = tmp_path / "ads.jsonl"
    rows = [{"id": "a", "memorability": 40, "scenes": [{"image": "f.jpg"}]}, {"id": "b", "memorability": 60}]
    path.write_text("\n".join(map(json.dumps, rows)))
    seen: list[Path] = []
    (first, _) = read_content(str(path), lambda image: seen.append(image) or "a lion")  # type: ignore[func-returns-value]
    assert (first.scenes[0].caption, seen) == ("a lion", [tmp_path / "f.jpg"])
    for broken, message in (
        ({"id": "a", "scenes": "x"}, "scenes"),
        ({"id": "b", "memorability": 40}, "stands twice"),
        ({"id": "c", "views": "many"}, "views"),
        ({"title": "no id"}, "id"),
    ):
        path.write_text("\n".join(map(json.dumps, [*rows, broken])))
        with pytest.raises(InputError) as caught:
            read_content(str(path))
        assert message in f"{caught.value.problem} {caught.value.remedy}"
    with pytest.raises(InputError, match="memorability"):
        made_ad(Content("x", memorability=120.0))


def test_lambdas_files_are_read_with_their_own_prompts(tmp_path: Path) -> None:
    question = 'They watch a 31 second advertisement for Norra Co. The title of the advertisement is "X". \n<image>\n'
    rows = [{"video_name": "v", "question": question, "question_id": n} for n in (1, 2)]
    (tmp_path / "bs_test_q.json").write_text(json.dumps(rows))
    answers = [{"answer": "00", "question_id": 1}, {"answer": "99", "question_id": 2}]
    (tmp_path / "bs_test_a.json").write_text(json.dumps(answers))
    ads = read_ads(str(tmp_path))
    assert [(ad.score, ad.brand) for ad in ads] == [(0.0, "Norra Co"), (99.0, "Norra Co")]
    assert "<image>" not in ads[0].prompt
    (tmp_path / "bs_test_a.json").write_text(json.dumps(answers[:1]))
    with pytest.raises(InputError, match="no answer"):
        read_ads(str(tmp_path))


def test_the_measure_scores_an_informed_model_and_writes_its_page(tmp_path: Path) -> None:
    path = tmp_path / "ads.jsonl"
    rows = [
        {"id": ad.content.id, "brand": ad.content.brand, "pace": ad.content.pace,
         "memorability": ad.content.memorability,
         "scenes": [{"caption": s.caption, "emotions": list(s.emotions)} for s in ad.content.scenes]}
        for ad in PLANTED[:60]
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    law = {made_ad(ad.content).prompt: ad.law for ad in PLANTED}

    def weigh(turns: Sequence[str], options: Sequence[str]) -> list[float]:
        number = f"{min(99, max(0, round(law[turns[0]]))):02d}"
        return [0.9 * number.startswith(option) if option in DIGITS else 0.9 * (option == number) for option in options]

    made = read_measure("memorability", str(path), embedder="none")
    result = measure(made, Scripted(weigh=weigh), {}, out=tmp_path / "out")
    assert (result.scores.value("rho model") or 0.0) > 0.7
    assert result.scores.value("mass") == pytest.approx(0.9)
    assert (tmp_path / "out" / "measure.html").is_file()
    lines = (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["brand"] == PLANTED[0].content.brand
    with pytest.raises(InputError, match="endpoint"):
        Memorability(made.ads, "", Tuning(epochs=1)).evaluate(Scripted(weigh=weigh))  # type: ignore[attr-defined]
    with pytest.raises(InputError):
        read_memorability()


def test_seed_trains_on_what_the_judge_selects_and_refuses_a_judge_as_oracle(tiny: LanguageModel) -> None:
    pool = [Draft(request_for("Norra"), f"An ad of quality {number}.") for number in range(10)]
    trained: list[Example] = []

    def judge(texts: Sequence[str]) -> list[float]:
        return [10.0 * float(text.split()[-1].rstrip(".")) for text in texts]

    def rated(texts: Sequence[str]) -> list[float]:
        return [1.0] * len(texts)

    def train(model: LanguageModel, rows: Sequence[Example]) -> None:
        trained.extend(rows)

    out = seed_round(tiny, pool, judge, rated, train, [pool[0].request], max_new_tokens=2)
    assert out.selected == [7, 8, 9]
    assert (len(out.texts), out.scores) == (1, [1.0])
    assert [row.answer for row in trained[:2]] == ["70", "An ad of quality 7."]
    assert training_rows(pool[:1], [120.0])[0].answer == "99"
    with pytest.raises(InputError, match="oracle"):
        seed_round(tiny, pool, judge, judge, train, [])
    with pytest.raises(InputError):
        curate([1.0, 2.0])
    assert perplexity(tiny, pool[:2]) > 1
