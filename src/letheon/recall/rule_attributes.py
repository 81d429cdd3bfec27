"""What a standing rule is about, and which rules are in force once later ones have replaced or revoked earlier ones.

Source: Rhea (arXiv 2512.06869): a later rule replaces an earlier one about the same attribute. The attributes, and how
a revocation finds its rule, are [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from letheon.recall.entries import Entry
from letheon.recall.rule_cues import LANGUAGES

MANY = r"(words?|sentences?|lines?|paragraphs?|characters?)"
# attribute -> pattern of a rule about it; what the group `what` matches is a part of the attribute
ATTRIBUTES = {
    "language": rf"\b(in|to|speak|use|is) (plain |simple )?(?!plain|simple)({LANGUAGES})\b(?! (spelling|names?))",
    "case": r"\b(upper[- ]?case|lower[- ]?case|capital letters|small letters|(all|in) (caps|capitals))\b",
    "length": r"\b(at most|no more than|fewer than|under|below|exactly|only|in|within|exceed|longer than|over|"
    r"more than)\b"
    rf"[^.!?]*\b{MANY}\b|\b(one[- ](word|line|sentence)|(word|sentence)[- ](limit|count)|(short|long)(er)? (answers?|"
    r"replies|responses|messages)|(keep|be|more|less) (it |them |everything |\w+ answers? )?(short|brief|concise)(er)?|"
    r"briefly|concise(ly)?|at length|longer than)\b",
    "ending": r"\b(end|ending|finish|close|conclude|sign( off)?)\b[^.!?]*\b(answers?|reply|replies|responses?|"
    r"messages?|"
    r"sentences?|with|as|every)\b",
    "beginning": r"\b(begin|start|open|starting)\b[^.!?]*\b(answers?|reply|replies|responses?|messages?|with)\b",
    "format": r"\b(json|bullet[- ]points?|bullet(ed)? lists?|bullets|markdown|tables?|numbered list|(as|"
    r"in) (a )?lists?|"
    r"full sentences|prose)\b",
    "punctuation": r"\b(?P<what>comma|exclamation mark|emoji|hashtag|semicolon|question mark)s?\b",
    "spelling": r"\b(british|american|oxford) (english|spelling)\b",
    "units": r"\b(metric|imperial|celsius|fahrenheit|kelvin|kilomet\w+|miles)\b",
    "time": r"\b(12|24|twelve|twenty-four)[- ]hour\b",
    "address": r"\b((call|address|name|refer to) me|calling me|i go by|be called)\b",
    "persona": r"\b(you are|you're|act as|pretend to be|play the role of|(speak|talk|sound|answer|write) like)\b",
    "tone": r"\b(formal|informal|casual|professional|friendly|polite)(ly)?\b",
    "topic": r"\b(mention|talk about|bring up|discuss)(ing)? (?P<what>[^.,!?;]+)",
}
NO_FORM = ("persona", "topic", "other")  # attributes of rules that say more than how answers look
COMPILED = {name: re.compile(pattern) for name, pattern in ATTRIBUTES.items()}
CONDITION = re.compile(r"^(and |also |so |please )*(if|when|whenever|any ?time|each time|every time|unless|after) ")
FILLER = re.compile(r"\b(ever|again|at all|any ?more|from (now|here|today) on|please|now)\b")
LEAD = r"^((ok|okay|well|actually|now|and|also|so|please|just|from now on|you (can|may)|let's|(can|could) you)[\s,]+)*"
TAKES_BACK = rf"{LEAD}(forget|ignore|scrap|drop|cancel|lift|disregard|never mind|undo)\b"
REVOKES = re.compile(  # a prohibition ("stop ...", "drop the imports") takes no rule away: it is one
    rf"{TAKES_BACK}.*\b(rules?|instructions?|what i said|limit|thing|about|being|voice)\b|"
    rf"{LEAD}you (no longer|needn't|don't (need|have) to)\b|{LEAD}(you can|you may)\b.*\b(again|any ?more|now)\b"
)
EVERYTHING = re.compile(
    rf"{TAKES_BACK}[^.,;:]*\b((all|any|every)( of)?( the| my| your| our)?( (previous|earlier|former|standing|other))? "
    r"(rules?|instructions?)\b(?! (of|about|for|on|in)\b)|everything i (said|told you|asked)\b)"
)
COMMON = re.compile(
    r"\b(about|again|all|and|any|are|but|can|could|did|does|done|don|down|ever|every|for|forget|from|have|has|how|"
    r"ignore|into|its|just|let|like|longer|may|mind|more|must|need|never|not|now|off|once|only|other|our|out|"
    r"please|rule|said|say|shall|should|some|still|stop|such|than|thank|thanks|that|the|them|then|there|these|"
    r"they|thing|things|this|those|use|using|want|was|were|what|when|whenever|which|will|with|without|would|"
    r"you|your|always|answer|answers|reply|replies|drop|scrap|cancel|instruction|instructions|earlier)\b"
)


def attribute_of(rule: str) -> str:
    """Return what a rule is about, such as `language` or `punctuation: comma`.

    Without a known attribute, and under a condition ("when I ask ..."), it is `other: ` with the rule's words, so that
    it replaces no other rule.
    """
    lowered = rule.lower().replace("’", "'")
    if not CONDITION.match(lowered):
        for name, pattern in COMPILED.items():
            if match := pattern.search(lowered):
                what = " ".join(FILLER.sub(" ", match.groupdict().get("what") or "").split())
                return f"{name}: {what}" if what else name
    return f"other: {lowered}"


def attribute(rule: Entry) -> str:
    """Return what a stored rule is about, read from its text where its details do not say it."""
    stored = rule.details.get("attribute")
    return stored if isinstance(stored, str) else attribute_of(rule.text)


def is_form(about: str) -> bool:
    """Whether rules about an attribute concern the form of answers alone."""
    return about.split(":")[0] not in NO_FORM


def in_force(rules: Sequence[Entry]) -> list[Entry]:
    """Return the rules in force, oldest first: per attribute the latest rule, unless a later sentence revoked it.

    A revocation without a known attribute takes away the earlier rule with which it shares most words and at least half
    of its own, the latest of equals; one of all rules takes away all. Where there is none it stays, as a rule.

    Args:
        rules: all rules of a conversation, oldest first.
    """
    latest: dict[str, Entry] = {}
    for rule in rules:
        about, lowered = attribute(rule), rule.text.lower().replace("’", "'")
        if REVOKES.search(lowered):
            if EVERYTHING.search(lowered):
                latest.clear()
                continue
            if about.startswith("other") and (revoked := _shares_most(lowered, latest)):
                del latest[revoked]
                continue
        latest.pop(about, None)
        latest[about] = rule
    return sorted(latest.values(), key=lambda rule: rule.id)


def _shares_most(text: str, latest: dict[str, Entry]) -> str | None:
    """Return the attribute of the rule with the most words of a text, None where no rule has half of them."""
    words = _words(text)
    shared = {about: len(words & _words(rule.text)) for about, rule in latest.items()}
    best = max(reversed(shared), key=shared.__getitem__, default=None)
    return best if best is not None and shared[best] and 2 * shared[best] >= len(words) else None


def _words(text: str) -> set[str]:
    """Return the first six letters of the words that say something."""
    return {word[:6] for word in re.findall(r"[^\W\d_]{3,}", COMMON.sub(" ", text.lower()))}
