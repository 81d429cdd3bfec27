"""Whether forgotten rows stand out from never-known ones: by hand, by simulation, and on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from letheon.audit.measuring.detection import FEATURES, auroc, describe, detect, distances, never_known, remark
from letheon.audit.plan import QUICK, Settings
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


def plan(deletion: Request, holdout: tuple[Example, ...] = ()) -> Any:
    return SimpleNamespace(tried_facts=list(deletion.forget), holdout=list(holdout), settings=Settings())


def test_auroc_counts_pairs() -> None:
    assert auroc(np.array([2.0, 0.0]), np.array([1.0, 0.0])).value == pytest.approx((1 + 1 + 0 + 0.5) / 4)


@pytest.mark.oracle("detection")
def test_auroc_is_sklearns() -> None:
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 5, 30).astype(float), draw.integers(0, 4, 20).astype(float)
    theirs = roc_auc_score([1] * 30 + [0] * 20, np.concatenate([first, second]))
    assert auroc(first, second).value == pytest.approx(theirs)


@pytest.mark.oracle("detection")
def test_rows_like_the_controls_do_not_stand_out_and_rows_unlike_them_do() -> None:
    """No advantage for either side: with both from one distribution the AUROC is 0.5 on average."""
    draw = np.random.default_rng(1)
    alike = [auroc(*distances(draw.normal(size=(8, 4)), draw.normal(size=(8, 4)))).value or 0.0 for _ in range(200)]
    assert np.mean(alike) == pytest.approx(0.5, abs=0.03)
    for shift in (-6.0, 6.0):  # in either direction
        assert auroc(*distances(draw.normal(size=(8, 4)) + shift, draw.normal(size=(20, 4)))).value == 1.0


def test_a_feature_that_all_controls_share_does_not_divide_by_zero() -> None:
    far, near = distances(np.array([[0.0], [1.0]]), np.zeros((5, 1)))
    assert far.tolist() == [0.0, 10.0]
    assert not near.any()


def test_the_holdout_is_the_control_where_there_is_one(deletion: Request) -> None:
    rows, what = never_known(plan(deletion, deletion.retain))
    assert what == "the request's holdout"
    assert rows == list(deletion.retain)
    rows, what = never_known(plan(deletion))
    assert "unknown subjects" in what
    assert all(row.subject in row.prompt and row.subject in row.answer for row in rows if row.subject)
    assert not {row.prompt for row in rows} & {row.prompt for row in deletion.forget}


def test_features_do_not_depend_on_who_else_is_asked(tiny: LanguageModel, deletion: Request) -> None:
    rows = list(deletion.forget)
    table = describe(tiny, rows)
    assert table.shape == (len(rows), len(FEATURES))
    alone = np.concatenate([describe(tiny, [row]) for row in rows])
    # answers run into a limit that the rows share, so only what does not depend on it is compared
    np.testing.assert_allclose(alone[:, 4], table[:, 4], atol=1e-5)
    assert np.isfinite(table).all()


def test_a_model_that_never_learned_anything_shows_nothing(tiny: LanguageModel, deletion: Request) -> None:
    found = detect(tiny, plan(deletion))
    assert found is not None
    assert found.rows == (8, 24)
    assert set(found.features) == set(FEATURES)
    assert found.features["refusal"] == 0.5  # nobody refuses
    assert found.score.low is not None
    assert found.score.low < 0.6


def test_without_controls_or_in_a_quick_audit_nothing_is_said(tiny: LanguageModel, deletion: Request) -> None:
    lonely = replace(deletion, forget=(Example("Q?", "A."),))
    assert detect(tiny, plan(lonely)) is None
    quick = plan(deletion)
    quick.settings = QUICK
    assert detect(tiny, quick) is None
    assert remark({}) == ""
