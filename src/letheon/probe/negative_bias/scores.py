"""Scores of negative bias: of answers, of prompt formats, and of attention heads.

Paper:   A Multifaceted Analysis of Negative Bias in Large Language Models through the Lens of Parametric Knowledge,
         arXiv 2511.10881; the negative attention score is its predecessor's, arXiv 2408.00137:

             NAS = Σ_i (A[i, yes] + A[i, no]) · log(A[i, no] / A[i, yes]),

         over the queries i after the instruction [inferred: only there can both candidates be seen].
Differs: the bias of answers, NB = TNR − TPR, and its soft form, the mean of (p_no − p_yes) / (p_no + p_yes) over
         balanced items, are [inferred]; so are the bounds of the knowledge subsets and the formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from letheon.core.scoring.refusals import refuses

FLOOR = 1e-12
Subset = Literal["correct", "incorrect", "insufficient"]


def negative_attention(
    yes: Float[Tensor, "*heads queries"], no: Float[Tensor, "*heads queries"]
) -> Float[Tensor, "*heads"]:
    """Compute NAS from the attention on the two candidates, clamped at 1e-12; swapping them flips its sign."""
    yes, no = yes.clamp(min=FLOOR), no.clamp(min=FLOOR)
    return ((yes + no) * (no / yes).log()).sum(-1)


@dataclass(frozen=True)
class Bias:
    """Rates of yes/no answers; an answer that is neither counts as not parsed and in no rate.

    Attributes:
        n: number of items.
        tpr, tnr: recall on items whose right answer is yes, and no.
        precision, f1, accuracy: of the answer yes; accuracy over parsed answers.
        bias: TNR − TPR, from −1 to 1; above 0 is negative bias.
        unparsed: share of answers that are neither.
    """

    n: int
    tpr: float | None
    tnr: float | None
    precision: float | None
    f1: float | None
    accuracy: float | None
    bias: float | None
    unparsed: float


def bias_of(gold: Sequence[bool], answers: Sequence[bool | None]) -> Bias:
    """Compute the rates from the right answers and the given ones (None: neither yes nor no)."""
    pairs = [(g, a) for g, a in zip(gold, answers, strict=True) if a is not None]

    def share(hits: int, of: int) -> float | None:
        return hits / of if of else None

    both = sum(g and bool(a) for g, a in pairs)
    tpr = share(both, sum(g for g, _ in pairs))
    tnr = share(sum(not g and not a for g, a in pairs), sum(not g for g, _ in pairs))
    precision = share(both, sum(bool(a) for _, a in pairs))
    f1 = None if not precision or not tpr else 2 * precision * tpr / (precision + tpr)
    accuracy = share(sum(g == a for g, a in pairs), len(pairs))
    difference = None if tpr is None or tnr is None else tnr - tpr
    return Bias(len(gold), tpr, tnr, precision, f1, accuracy, difference, 1 - len(pairs) / max(1, len(gold)))


def soft_bias(yes: Float[Tensor, " items"], no: Float[Tensor, " items"]) -> Float[Tensor, " items"]:
    """Compute (p_no − p_yes) / (p_no + p_yes) per item."""
    return (no - yes) / (no + yes).clamp(min=FLOOR)


def decompose(scores: Mapping[tuple[str, bool], float]) -> dict[str, float]:
    """Split the bias of four formats into effects of the word, of the meaning and of the position.

    Args:
        scores: (order, inverted) -> mean soft bias towards the negative WORD; order is `yes first` or `no first`, and
            in an inverted question ("is it false that ...") the negative word affirms the fact.

    Returns:
        `word`: bias towards the word "no" whatever it means; `meaning`: bias towards denying the fact whatever the
        word; `position`: bias towards the word "no" if it is named first.
    """
    orders = ("yes first", "no first")
    plain = sum(scores[order, False] for order in orders) / 2
    inverted = sum(scores[order, True] for order in orders) / 2
    by_order = {order: (scores[order, False] + scores[order, True]) / 2 for order in orders}
    return {
        "word": (plain + inverted) / 2,
        "meaning": (plain - inverted) / 2,
        "position": (by_order["no first"] - by_order["yes first"]) / 2,
    }


def abstains(text: str) -> bool:
    """Return whether an answer is empty or says that its speaker does not know."""
    return not _plain(text) or refuses(text)


def knowledge_of(greedy: str, samples: Sequence[str], gold: str) -> Subset | None:
    """Classify what a model knows by its own open answers; None if they fit no class.

    `correct`: the greedy answer and 70 % of the samples hold the right one. `incorrect`: one and the same wrong answer
    makes 70 % of the samples; "I don't know" is no wrong answer. `insufficient`: more than 30 % of the samples abstain,
    or no answer makes more than 30 % of them. The bounds are [inferred].
    """
    right = [_holds(text, gold) for text in samples]
    if _holds(greedy, gold) and sum(right) >= 0.7 * len(samples):
        return "correct"
    given = [_plain(text) for text, hit in zip(samples, right, strict=True) if hit or not abstains(text)]
    if len(samples) - len(given) > 0.3 * len(samples):
        return "insufficient"
    commonest, count = Counter(given).most_common(1)[0]
    if not _holds(commonest, gold) and count >= 0.7 * len(samples):
        return "incorrect"
    return "insufficient" if max(count, sum(right)) <= 0.3 * len(samples) else None


def _plain(text: str) -> str:
    """Reduce an answer to its first line's words, in lower case and without articles and punctuation."""
    line = (text.strip().splitlines() or [""])[0].lower()
    words = "".join(sign if sign.isalnum() else " " for sign in line).split()
    return " ".join(word for word in words if word not in ("the", "a", "an"))


def _holds(text: str, gold: str) -> bool:
    return f" {_plain(gold)} " in f" {_plain(text)} "
