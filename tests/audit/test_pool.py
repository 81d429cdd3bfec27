"""The pool of the self-test: its members differ, and the ranking is the AUROC of every metric."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from letheon.audit.selftest import pool
from letheon.audit.selftest.models import FORGOTTEN, ROWS, World, in_format
from letheon.audit.selftest.pool import CONDITIONS, FORMATS, PoolTest, Ranked, ranking, run_pool
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.jobs.options import Machine
from letheon.jobs.selftest import SelfTestJob
from letheon.printing.selftest import show_selftest


def test_the_ranking_is_the_share_of_pairs_in_the_right_order() -> None:
    found = [(True, {"recall": 1.0, "odd": 0.0}), (False, {"recall": 0.0, "odd": 1.0}), (True, {"recall": 0.5})]
    recall, odd = ranking(dict.fromkeys(CONDITIONS, found))
    assert (recall.name, recall.auroc["as taught"], recall.weak) == ("recall", 1.0, False)
    assert (odd.auroc["rounded"], odd.weak) == (0.0, True)


def test_formats_ask_the_same_rows_otherwise() -> None:
    assert {name: len(in_format(ROWS, name)) for name in FORMATS} == {
        "all": 24,
        "questions": 8,
        "paraphrases": 8,
        "text and questions": 16,
    }
    assert len(ROWS[FORGOTTEN:]) == 5


def test_a_pool_of_one_is_refused_and_weak_metrics_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--pool 1"):
        SelfTestJob("tiny", Machine(), 1).plan()
    with pytest.raises(InputError, match="--out without --pool"):
        SelfTestJob("tiny", Machine(), out=Path("pool")).plan()
    auroc: dict[str, float | None] = {"as taught": 1.0, "finetuned": 0.7, "rounded": None}
    test = PoolTest("tiny", 2, [Ranked(pool.VERDICT, auroc, True)], 1.0)
    show_selftest(test, False)
    assert "weak" in capsys.readouterr().out
    assert test.passed


def test_a_pool_begun_in_a_folder_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def examined(model: LanguageModel, *_: object) -> int:
        if len(asked) == 6:  # the second model is lost half-way
            raise KeyboardInterrupt
        asked.append(number := int(model.name.split()[-1]))
        return number

    def taught(_: object, number: int) -> LanguageModel:
        return cast("LanguageModel", SimpleNamespace(name=f"pool {number}", changed=False))

    def changes(_: object, model: SimpleNamespace, __: int) -> None:
        assert not model.changed  # each condition begins with the model as it was taught
        model.changed = True

    def concluded_right(found: tuple[object, ...]) -> float:
        *_, before, number, reference = found
        assert (before, reference) in [(99, None), (99, 98)]
        return float(pool.holds(cast("int", number)))

    before, retrained = SimpleNamespace(name="pool 99"), SimpleNamespace(name="pool 98")
    world = cast("World", SimpleNamespace(before=before, retrained=retrained, request=None, seed=0))
    monkeypatch.setattr(pool, "make_world", lambda *_: world)
    monkeypatch.setattr(pool, "make_plan", lambda *_: None)
    monkeypatch.setattr(pool, "member", taught)
    monkeypatch.setattr(pool, "examine", examined)
    monkeypatch.setattr(pool, "clone", lambda model, _: copy.copy(model))
    monkeypatch.setattr(pool, "concluded", lambda *found: found)
    monkeypatch.setattr(pool, "fails", concluded_right)
    monkeypatch.setattr(pool, "scores_of", lambda _: ())
    monkeypatch.setattr(pool, "CHANGES", dict.fromkeys(CONDITIONS, changes))
    with pytest.raises(KeyboardInterrupt):
        run_pool(2, out=tmp_path / "pool")
    assert asked == [99, 98, 0, 0, 0, 1]
    asked.extend([-1] * 9)
    found = run_pool(2, out=tmp_path / "pool")
    assert asked[15:] == [99, 98, *[1] * 3, *[2] * 3, *[3] * 3]
    assert found.passed
    assert [one.name for one in found.ranked] == [pool.VERDICT, pool.WITH_REFERENCE]
    assert run_pool(2, out=tmp_path / "pool").ranked == found.ranked
    assert len(asked) == 26
    with pytest.raises(InputError, match="another model, seed or device"):
        run_pool(2, seed=1, out=tmp_path / "pool")
    monkeypatch.setattr(pool, "code_hash", lambda: "other")
    with pytest.raises(InputError, match="other versions"):
        run_pool(2, out=tmp_path / "pool")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_pool_is_told_apart() -> None:
    found = run_pool(2, device="cpu")
    assert found.passed, found
