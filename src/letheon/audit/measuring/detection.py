"""Detection of a deletion: do answers to forget questions differ from answers to never-known ones?

A model that never learned a fact answers as it answers about strangers. One whose fact was suppressed may refuse, fall
silent, or give its old answer a probability that no stranger's gets, and so show whoever asks where the hole is. Each
row is described by a few numbers; how far it lies from the never-known rows, in any direction, is its score, and the
AUROC of the score says how well forgotten rows are told from never-known ones: 0.5, they do not stand out.

It is measured like an attack and reported by itself: a deletion that can be detected is no failed deletion (the fact
may be gone all the same), but it tells that there was something to delete. The model before stands out too, since it
knows; a reference must not, or else the two sets of questions differ by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from letheon.audit.measuring.answer_kinds import is_refusal
from letheon.audit.measuring.evaluate import scores_of
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Role
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.decoding import Ask, decode
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.spans import UNKNOWN_SUBJECTS, names_its_subject, with_subject
from letheon.core.statistics import Estimate, estimate_mean

# Forgotten rows that are asked, unknown subjects for each of their questions, never-known rows that are enough.
ROWS, SUBJECTS, LEAST_CONTROLS = 32, 3, 4
ROWS_AT_ONCE = 16
# The features of a row, and what they mean.
FEATURES = {
    "confidence": "mean log-probability per token of the model's own greedy answer (nats)",
    "entropy": "mean entropy of the next token along that answer (nats)",
    "length": "logarithm of its tokens",
    "refusal": "1 if it refuses",
    "expected": "mean log-probability per token of the expected answer (nats)",
}


@dataclass(frozen=True)
class Detection:
    """The AUROCs with which one model's forget rows are told from never-known rows.

    Attributes:
        score: AUROC of the distance from the never-known rows; 0.5 when the forgotten do not stand out.
        features: AUROC of each feature by itself; above 0.5 where it is larger on the forgotten rows.
        controls: what the never-known rows are.
        rows: forgotten and never-known ones.
    """

    score: Estimate
    features: dict[str, float]
    controls: str
    rows: tuple[int, int]


def detect(model: LanguageModel, plan: AuditPlan) -> Detection | None:
    """Measure one model; None in a quick audit, and where there are no never-known rows to compare with."""
    if not plan.settings.thorough:
        return None
    forgotten = plan.tried_facts[:ROWS]
    controls, what = never_known(plan)
    if not forgotten or len(controls) < LEAST_CONTROLS:
        return None
    table = describe(model, [*forgotten, *controls])
    n = len(forgotten)
    features = {name: float(np.mean(_above(table[:n, i], table[n:, i]))) for i, name in enumerate(FEATURES)}
    return Detection(auroc(*distances(table[:n], table[n:])), features, what, (n, len(controls)))


def never_known(plan: AuditPlan) -> tuple[list[Example], str]:
    """Return never-known rows and their source: the holdout, or forget questions about unknown subjects."""
    held = [row for row in plan.holdout if row.prompt]
    if len(held) >= LEAST_CONTROLS:
        return held[:ROWS], "the request's holdout"
    rows = [replace(row, value=None) for row in plan.tried_facts if names_its_subject(row)]
    asked = [with_subject(row, name) for row in rows for name in UNKNOWN_SUBJECTS[:SUBJECTS]]
    return asked[: ROWS * SUBJECTS], "the forgotten questions about unknown subjects"


@torch.inference_mode()
def describe(model: LanguageModel, rows: Sequence[Example]) -> Float[np.ndarray, "rows features"]:
    """Compute the features of each row, in the order of `FEATURES`."""
    encoder = model.encoder()
    prompts = [row.prompt for row in rows]
    starts = [encoder.prompt(prompt) for prompt in prompts]
    limit = answer_limit(model, rows)
    asked = [Ask(start, limit) for start in starts]
    decode(model, asked)
    answers = [one.new for one in asked]
    expected = scores_of(model, [(row.prompt, [row.answer]) for row in rows])
    said = [Encoded((*start, *ids), len(start)) for start, ids in zip(starts, answers, strict=True)]
    table = np.zeros((len(rows), len(FEATURES)))
    for chosen, batch in model.batches(said, ROWS_AT_ONCE):
        scores = score(model, batch)
        entropy = -torch.special.xlogy(p := scores.logits.softmax(-1), p).sum(-1)
        table[chosen, 0] = (scores.sequence_logp() / scores.lengths()).cpu()
        table[chosen, 1] = (scores.per_row(entropy) / scores.lengths()).cpu()
    table[:, 2] = [np.log(len(ids)) for ids in answers]
    table[:, 3] = [is_refusal(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]
    table[:, 4] = [known.logp.mean() for (known,) in expected]
    return table


def distances(
    forgotten: Float[np.ndarray, "n features"], controls: Float[np.ndarray, "m features"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's distance from the controls over all features, sqrt(sum of z^2), z in the controls' deviations.

    A control is measured against the other controls, so that it has no advantage over a forgotten row. A feature that
    all controls share weighs by a tenth of a unit: one refusal among rows that never refuse stands out, and is finite.
    """

    def distance(row: np.ndarray, others: np.ndarray) -> float:
        spread = np.maximum(others.std(0, ddof=1), 0.1)
        return float(np.sqrt((((row - others.mean(0)) / spread) ** 2).sum()))

    inside = [distance(row, np.delete(controls, i, 0)) for i, row in enumerate(controls)]
    return np.array([distance(row, controls) for row in forgotten]), np.array(inside)


def auroc(forgotten: np.ndarray, controls: np.ndarray, seed: int = 0) -> Estimate:
    """Return the probability that a forget row's number exceeds a control's (ties half), with its bootstrap interval.

    The bootstrap draws forget rows; the controls are taken as fixed.
    """
    return estimate_mean(_above(forgotten, controls), seed=seed)


def _above(forgotten: np.ndarray, controls: np.ndarray) -> list[float]:
    """Return for each forget row the share of controls that it exceeds; ties count half."""
    return [float(np.mean((one > controls) + 0.5 * (one == controls))) for one in forgotten]


def remark(detections: Mapping[Role, Detection | None]) -> str:
    """Return a sentence for the reader of the record; empty when the deletion does not stand out."""
    after, reference = detections.get("after"), detections.get("reference")
    if after is None or after.score.value is None or after.score.low is None or after.score.low <= 0.5:
        return ""
    beside = f" (in the reference: {reference.score.value:.2f})" if reference else ""
    return (
        f"The deletion can be noticed: answers about the forgotten stand out from answers about never-known things, "
        f"AUROC {after.score.value:.2f}{beside}. That is no failure of the deletion, but it tells where something was."
    )
