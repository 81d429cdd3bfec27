"""Instructions in force: standing rules that a user gives a conversation, recognised in the turn's own words.

Source: Rhea (arXiv 2512.06869), instructional memory: rules are stored verbatim, placed first, never compressed, and a
later rule replaces an earlier one about the same attribute. The recogniser is a list of patterns [inferred]; its
precision and recall are measured in the tests and, on other wordings than it was made from, by `papers/rhea`.
"""

from __future__ import annotations

import re

LANGUAGES = "english|french|german|spanish|italian|portuguese|dutch|latin|chinese|japanese|korean|russian|arabic|hindi"
# attribute -> pattern of a rule about it
ATTRIBUTES = {
    "language": rf"\b(answer|reply|respond|write|speak|talk)\b[^.!?]*\bin ({LANGUAGES})\b",
    "case": r"\b(upper ?case|lower ?case|capital letters|capitals)\b",
    "length": r"\b(at most|no more than|fewer than|under|exactly|only|in)\b[^.!?]*\b(words?|sentences?|lines?)\b"
    r"|\b(one[- ]word|short(er)? answers?|be brief|briefly|concise)\b",
    "ending": r"\b(end|finish|close|conclude)\b[^.!?]*\b(answer|reply|replies|response|message|sentence|with)\b",
    "beginning": r"\b(begin|start)\b[^.!?]*\b(answer|reply|replies|response|message|with)\b",
    "format": r"\b(json|bullet points?|bullets|markdown|table|numbered list|as a list)\b",
    "punctuation": r"\b(commas?|exclamation marks?|emojis?)\b",
    "address": r"\b(call|address) me\b",
    "persona": r"\b(you are|act as|pretend to be|play the role of|speak like|talk like)\b",
    "topic": r"\b(do not|don't|never|avoid)\b[^.!?]*\b(mention|talk about|use|say|bring up|discuss)\b",
}
STANDING = (
    r"\b(from now on|from here on|always|never|every (answer|reply|response|message|time)|"
    r"each (answer|reply|response|message|time)|all (of )?(your )?(answers|replies|responses)|in future|"
    r"for the rest of|throughout|your (answers|replies|responses)|(in|during) (this|our) (conversation|chat)|"
    r"until i say)\b"
)
VERBS = (
    "answer|reply|respond|write|speak|talk|use|end|begin|start|finish|close|conclude|call|address|keep|be|act|avoid|"
    "include|add|put|give|make|say|tell|sign|stay|stick"
)
OPENERS = r"(please|always|also|and|so|from (now|here) on|in future|(in|during) (this|our) (conversation|chat)|,|\s)*"
# What a request says to the assistant: an imperative, a wish about it, or a duty in this conversation
ASKS = (
    rf"^{OPENERS}(({VERBS})\b|(do not|don't|never)\s)",
    r"^(i|we)('d| would)? (want|like|need|prefer|expect|wish|ask)\b.*\b(you|yours?)\b",
    r"^(?!i\b|he\b|she\b|they\b|we\b|it\b|my\b).*\b(you|yours?)\b.*\b(should|must|have to|need to|will|please)\b",
    r"\b(this|our) (conversation|chat)\b.*\b(should|must)\b",
)


def sentences(text: str) -> list[str]:
    """Split a text into its sentences."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def standing_rules(text: str) -> list[tuple[str, str]]:
    """Return the standing rules of a user's turn as (attribute, sentence verbatim).

    A sentence is a rule if it asks something of the assistant and of all later answers ("from now on", "always", "call
    me"). What it says of other people is none. A rule without
    a known attribute has the attribute `other:` with its own words, so that it replaces none.
    """
    rules = []
    for sentence in sentences(text):
        lowered = sentence.lower()
        address = re.search(ATTRIBUTES["address"], lowered)
        if sentence.endswith("?") or not (address or re.search(STANDING, lowered)):
            continue
        if not any(re.search(pattern, lowered) for pattern in ASKS):
            continue  # "I always walk to work" tells of the user, "they always answer in Latin" of others
        attribute = next((name for name, pattern in ATTRIBUTES.items() if re.search(pattern, lowered)), None)
        rules.append((attribute or f"other: {lowered}", sentence))
    return rules
