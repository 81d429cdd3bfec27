"""The tagger of the gateway: a valence vector per text, by a lexicon.

Paper:   Lerma-Torres, arXiv 2603.29023: the gateway tags emotion, urgency, novelty, trust and relevance, and does not
         judge truth. The six components and the lexicon are [inferred]; another tagger can replace them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

COMPONENTS = ("pleasantness", "arousal", "urgency", "novelty", "trust", "self-relevance")
Tagger = Callable[[str, str, float], list[float]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLEASANT = _words(
    "beautiful best calm cheerful delighted enjoy excited favourite favorite fun glad good grateful great happy "
    "joy kind love loved lovely lucky nice peaceful pleased proud relieved thrilled wonderful"
)
UNPLEASANT = _words(
    "afraid alone angry annoyed anxious ashamed awful bad cried cry dead died disappointed dreadful fear furious grief "
    "guilty hate hated horrible hurt jealous lonely lost miserable pain sad scared terrible terrified upset worried "
    "worst"
)
AROUSING = _words(
    "amazing angry crash emergency excited furious horrible panic screamed shocked terrified terrible thrilled "
    "wonderful"
)
URGENT = _words(
    "appointment asap deadline due emergency immediately important now remember soon today tomorrow tonight urgent"
)
SELF = _words("i me my mine myself we us our ours")
NEGATIONS = _words("not no never hardly")
TRUST = {"user": 0.6, "assistant": 0.2}  # by who said it; others have `OTHER_TRUST`
OTHER_TRUST = 0.4


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"[\w']+", text.lower())


def tag(text: str, role: str, novelty: float) -> list[float]:
    """Return the valence of a text in [-1, 1] per component of `COMPONENTS` [inferred].

    Args:
        role: who said it, which decides the trust.
        novelty: how unlike all memories it is, 0 to 1.
    """
    words = words_of(text)
    pleasant = 0.0
    for place, word in enumerate(words):
        sign = (word in PLEASANT) - (word in UNPLEASANT)
        pleasant += -sign if NEGATIONS & set(words[max(0, place - 2) : place]) else sign
    arousal = 0.5 * sum(word in AROUSING for word in words) + 0.25 * text.count("!")
    urgency = 0.5 * sum(word in URGENT for word in words)
    own = 0.4 * sum(word in SELF for word in words)
    return [
        max(-1.0, min(1.0, 0.6 * pleasant)),
        min(1.0, arousal),
        min(1.0, urgency),
        novelty,
        TRUST.get(role, OTHER_TRUST),
        min(1.0, own),
    ]


def salience(valence: list[float]) -> list[float]:
    """Return the terms that the gate weighs: |pleasantness|, arousal, urgency, novelty, trust [inferred]."""
    return [abs(valence[0]), *valence[1:5]]
