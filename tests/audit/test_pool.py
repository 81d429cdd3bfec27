"""The pool of the self-test: its members differ, and the ranking is the AUROC of every metric."""

from __future__ import annotations

import pytest

from letheon.audit.selftest import pool
from letheon.audit.selftest.models import FORGOTTEN, ROWS, in_format
from letheon.audit.selftest.pool import CONDITIONS, FORMATS, PoolTest, Ranked, ranking, run_pool
from letheon.core.errors import InputError
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
    auroc: dict[str, float | None] = {"as taught": 1.0, "finetuned": 0.7, "rounded": None}
    test = PoolTest("tiny", 2, [Ranked(pool.VERDICT, auroc, True)], 1.0)
    show_selftest(test, False)
    assert "weak" in capsys.readouterr().out
    assert test.passed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_pool_is_told_apart() -> None:
    found = run_pool(2, device="cpu")
    assert found.passed, found
