"""`letheon measure priming`: the study's numbers as scores, the cure beside them, files that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.priming_study import study
from letheon.measure.run import measure, read_measure

THEMES = {"colours": ["the sky is", "her coat was"], "foods": ["we ate", "he cooked a"]}
OPTIONS = {"presentations": "4", "learning_rate": "3e-3"}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [
        {"text": f"the {what} is {word} today", "prefix": f"the {what} is", "keyword": word, "theme": "colours"}
        for what, word in (("banana", "mauve"), ("river", "amber"))
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "prefixes.json").write_text(json.dumps(THEMES))
    return tmp_path


def test_the_scores_are_those_of_the_study_and_the_weights_are_put_back(texts: Path, tiny: LanguageModel) -> None:
    made = read_measure("priming", str(texts / "texts.jsonl"), prefixes=str(texts / "prefixes.json"), **OPTIONS)
    weights = tiny.parameters_hash()
    found = measure(made, LocalResponder(tiny), {}, out=texts / "out")
    assert tiny.parameters_hash() == weights
    direct = study(tiny, made.samples, THEMES, presentations=4, learning_rate=3e-3, optimizer="auto", seed=0)
    mean = sum(one.log_priming for one in direct) / 2
    assert found.scores.value("log priming") == pytest.approx(mean)
    assert found.scores.value("log memorisation") > 1
    assert found.scores.value("log memorisation, cured") < found.scores.value("log memorisation")
    assert [record["id"] for record in found.scores.records] == ["row 1", "row 1/cured", "row 2", "row 2/cured"]
    assert found.scores["rank correlation"].why
    assert (texts / "out" / "measure.html").is_file()


def test_without_a_share_there_is_no_cure(texts: Path) -> None:
    made = read_measure("priming", str(texts / "texts.jsonl"), ignore="0", prefixes=str(texts / "prefixes.json"))
    assert not any("cured" in name for name in made.columns)


@pytest.mark.parametrize(
    ("themes", "options", "message"),
    [
        ({"colours": ["a"]}, {}, "has not two themes"),
        ({"foods": ["a"], "jobs": ["b"]}, {}, "row 1: theme 'colours' has no prefixes"),
        (THEMES, {"ignore": "2"}, "ignore beyond 0 and 1"),
        ({"colours": "a", "foods": ["b"]}, {}, "theme 'colours' has no list"),
    ],
)
def test_what_cannot_be_read_is_refused(texts: Path, themes: object, options: dict[str, str], message: str) -> None:
    (texts / "other.json").write_text(json.dumps(themes))
    with pytest.raises(InputError, match=message):
        read_measure("priming", str(texts / "texts.jsonl"), prefixes=str(texts / "other.json"), **options)
    with pytest.raises(InputError, match="needs texts and prefixes"):
        read_measure("priming", str(texts / "texts.jsonl"))
