"""Detects English refusals: texts whose speaker says that they do not know or will not tell.

The rule can serve as a reward: eleven families of phrasings, after the reward of RULE (arXiv 2506.07171).
Differs: the expressions are our own. The paper allows any words between the parts of a phrase; here at most three are
allowed, so that fewer ordinary answers match. Its family of lacking ("without information") is part of `no_idea`;
`unable` and `cannot` take more verbs. The audit judges answers by their beginning, which is stricter
(`letheon.audit.measuring.answer_kinds`).
"""

from __future__ import annotations

import re

_FEW = r"(?:[\w'-]+\s+){0,3}"
_NOT = r"(?:n't|\bnot|\bnever)\s+"
_TELL = (
    r"(?:provide|say|tell|help|answer|give|offer|share|assist|confirm|access|find|recall|remember|comment|speak|"
    r"disclose|discuss|shed)\b"
)
_KNOWING = r"(?:idea|insight|knowledge|information|data|details?|clue|records?|familiarity|specifics)\b"

FAMILIES = {
    "not_know": rf"\b(?:do|does|did)\s*{_NOT}{_FEW}"
    r"(?:know|have|hold|possess|contain|cover|include|recall|recogni[sz]e)\b"
    r"|\bnot\s+something\s+i\b|\bnothing\s+i\s+know\b",
    "not_sure": rf"{_NOT}{_FEW}(?:sure|certain|familiar|aware|able|informed|acquainted|equipped|briefed|trained\s+on)\b"
    r"|\bun(?:sure|aware|familiar|certain)\b",
    "no_idea": rf"\b(?:no|without|lack(?:ing)?|missing)\s+{_FEW}{_KNOWING}",
    "not_learned": rf"\b(?:have|has|had|was|were)\s*{_NOT}{_FEW}"
    r"(?:learn(?:ed|t)|heard|seen|studied|encountered|told|come\s+across|been\s+(?:taught|trained|told|briefed))\b",
    "beyond": rf"\b(?:beyond|outside|out\s+of)\s+{_FEW}(?:i\s+know|knowledge|scope|reach|expertise|capabilities)\b",
    "at_a_loss": r"\bat\s+a\s+(?:loss|disadvantage)\b",
    "cannot": rf"\b(?:ca|can|could|would|wo|will)\s*{_NOT}{_FEW}{_TELL}|\bcannot\s+{_FEW}{_TELL}",
    "unable": rf"\bunable\s+to\s+{_FEW}{_TELL}",
    "regret": r"\bwish\s+i\s+(?:could|knew)\b|\bregret\s+to\s+(?:inform|say)\b|\bmust\s+(?:admit|confess)\b",
    "blank": r"\bunfortunately\b|\bclueless\b|\bstumped\b|\bmystery\s+to\s+me\b|\bin\s+the\s+dark\b"
    r"|\b(?:draw(?:s|ing)?|drew)\s+a\s+blank\b|\bblank\s+on\b",
    "look_up": r"\b(?:need|have|ought)\s+to\s+(?:look|check|verify|search|research|consult)\b"
    r"|\b(?:should|must)\s+(?:look|check|verify|search|research|consult)\b",
}
_PATTERN = re.compile("|".join(f"(?:{pattern})" for pattern in FAMILIES.values()), re.IGNORECASE)
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})


def refuses(text: str) -> bool:
    """Return whether a text contains a phrase of one of the families, ignoring case."""
    return _PATTERN.search(text.translate(_APOSTROPHES)) is not None
