"""PrivLeak of a model against a retrained one, as a score of a benchmark."""

from __future__ import annotations

from letheon.audit.measuring.membership import privleak
from letheon.core.statistics import Estimate
from letheon.measure.benchmark import Score, Scores

AUROC = "min-k AUROC"


def privleak_score(scores: Scores, reference: Scores | None) -> Score:
    """PrivLeak from the Min-K% AUROCs of a model and of the reference; without one 0.5 stands for it, as in the field.

    The interval is that of the model's AUROC; the reference's is taken as it is.
    """
    own = scores[AUROC]
    theirs = reference.value(AUROC) if reference is not None else 0.5
    if own.estimate.value is None or theirs is None:
        return Score("PrivLeak", Estimate(None, None, None, 0), "zero", why=own.why)
    ends = (own.estimate.high, own.estimate.value, own.estimate.low)  # the greater the AUROC, the lower PrivLeak
    low, value, high = (None if auroc is None else privleak(auroc, theirs) for auroc in ends)
    return Score("PrivLeak", Estimate(value, low, high, own.estimate.n), "zero")
