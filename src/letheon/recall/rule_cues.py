"""Cues of a standing rule: what the words of one sentence say about who is asked, for how long, and of what.

English alone. A cue is a pattern; four combinations follow them, since neither a request ("write a poem") nor a word of
duration ("I always walk") makes a rule alone. `rules.safetensors` holds their weights, which `python -m
benchmarks.rules --train` fits to a development list. A pattern changes the weights' meaning: fit them anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LANGUAGES = (
    "english|french|german|spanish|italian|portuguese|dutch|latin|chinese|japanese|korean|russian|arabic|hindi|swedish|"
    "danish|norwegian|polish|turkish|greek|welsh|finnish|czech|hungarian"
)
REPLIES = r"(?:answers|replies|responses|messages)"
REPLY = rf"(?:answer|reply|response|message|question|explanation|suggestion|recommendation|list|{REPLIES})"
CHAT = r"(?:chat|conversation|talk|session|thread|dialogue|discussion)s?"

QUOTED = re.compile(r"(?<!\d)\"[^\"]*\"|“[^“”]*”|(?<!\w)'[^']*'(?!\w)|(?<!\w)‘[^‘’]*’(?!\w)")
LEAD = re.compile(  # words before the request itself
    r"^(?:(?:ok|okay|oh|yes|yeah|sure|wow|great|thanks|thank you|and|also|so|then|but|actually|hey|hi|well|"
    r"by the way|btw|one more thing|on top of that|as a rule|"
    r"in general|(?:new |one |house |our )?rule[^:,]{0,20}:|from (?:now|here|today|this \w+|that \w+)"
    r"(?: on| onwards?| forward| out)*|in (?:the )?future|going forward|moving forward|henceforth|"
    r"effective immediately|"
    r"starting (?:now|today)|as of now|after this|until [^,]*|(?:for|during|in|throughout) (?:the rest|this|our|"
    r"the whole)"
    r"[^,]*|under \w+ circumstances|please|pls|kindly|just|always|only|never ever)\b[\s,:;-]*)+"
)
WORDING = {  # of the sentence in lower case, without what is quoted
    "from_now": r"\b(from (now|here|today|then|(this|that) (point|moment|day))\b|as of now|(going|moving) forward|"
    r"henceforth|hereafter|in (the )?future|starting (now|today)|effective immediately|for (future|all future)|"
    r"after this)",
    "until": r"\b(until|till) (further notice|midnight|(i|we) )|\b(for|during|in|throughout) ((the )?(rest|remainder|"
    rf"whole|entire\w*)|(this|our|this whole|our whole|the) {CHAT}|all our|everything)\b|\b(throughout|at all times|"
    rf"as long as we|(all|whole) (day|conversation|chat|session)( long)?)\b|\bthis {CHAT}\b",
    "always": r"\b(always|never|(don't|do not|not)\b.*\bever|ever;|whatever i)\b",
    "whenever": r"\b(whenever|(every|each|any) ?time|at a time|when (answering|replying|responding|you (answer|reply|"
    r"respond)))"
    r"\b",
    "rule": r"\b(rule|preferences?|by default|under (no|all) circumstances?|on no account|at no point)\b",
    "every_reply": rf"\b(every|each|all|any|none|per)( of)?( the| your| my)?( \w+)? {REPLY}\b|"
    rf"\byour (\w+ )?{REPLIES}\b",
    "replies": rf"\b{REPLIES}\b",
    "every_thing": r"\b(every|each|all|any) \w+( \w+)? (i|you|we)\b|\b(everything|anything|nothing) (i|you|we)\b|"
    r"\bfor (every|each|all)\b",
    "wish": r"\bi('d| would| do)? (really |much |only |don'?t |not |never )*(like|love|want|prefer|appreciate|need|"
    r"expect|rather|hate|wish)\b.*\b(you|your|yours|answers|replies|lists|prose|to be called)\b|"
    r"\b(it('d| would| will) (be \w+|help)|i'd be \w+) (if|for)\b|what i('d| would)? (want|like)",
    "duty": rf"\b(you|u|your \w+|{REPLIES}|{CHAT}|all \w+( \w+)?|{REPLY}|i say|write|tone|numbers|dates?|"
    rf"it's important "
    r"that you) (only |always |never )?(should|must|have to|has to|have|can|may|needn'?t|needs?|are to|will|shall|"
    r"shouldn'?t|must not|don'?t (have|need) to|no longer)\b",
    "to_me": r"\b(to|with|for|at|call|address|treat|give|giving|tell|telling|ask|lecture|calling|greet|answer|remind|"
    r"show) me\b",
    "call_me": r"\b(call|address|refer to|name) me\b(?! (a|an|when|at|later|if|back|tomorrow|on|in|every)\b)|"
    r"\bmy (name|pronouns|nickname)\b.*\b(call|use|please)\b|\bi go by\b|\bto be called\b|\bcalling me\b",
    "condition": r"\b(if|when|whenever|any ?time|each time|every time|unless|as long as|since|because|i'm|i am|i have)"
    r"\b.*\b(answer|reply|give|use|only|tell|don'?t|say|change|write|respond|expand|cut|"
    r"correct|name|round|add|stop|ask|make|do not|speak|stick|keep|treat|explain|show|leave|never|always|please)\b",
    "form": r"\b(short|shorter|brief|briefly|concise|blunt|formal|formally|informal|professional|polite|friendly|"
    r"positive|tone|emojis?|hashtags?|jargon|slang|bullet points?|bullets|markdown|tables?|capitals?|(lower|"
    r"upper) ?case|"
    r"rhym\w+|verse|metric|celsius|fahrenheit|spelling|spoilers?|disclaimers?|apologi\w+|jokes?|idioms|"
    rf"in ({LANGUAGES})|style|language|first names?|honest|sarcasm|swear\w*|contractions|voice)\b",
    "persona": r"\b(act|talk|speak|behave|respond|answer|write to me|explain things) (as|like)\b|\bpretend\b|"
    r"\byou('re| are) (now )?my\b|\b(stay in|break) character\b|\btreat me\b",
    "back": r"\b(again|back to|normal|instead of|rather than|any ?more|no longer|changed my mind)\b",
    "revoked": r"\b(forget|ignore|scrap|drop|cancel|lift|never mind|disregard)\b.*\b(rules?|what i said|instructions?|"
    r"limit|thing about|being|voice)\b|\byou (can|may|no longer|don'?t (need|have) to)\b.*\b(again|now|stop|go back)\b",
    "told": r"\b(said|says|told|asked|tells|ordered|insisted|demands?|wants (me|every|all|us)|never let us|had to|"
    r"used to|(was|were) (\w+ )?(to|allowed|told))\b",
    "in_a_task": r"\b(in|of|on|to|for) (this|that|the|my|an?) (poem|essay|list|title|letter|speech|story|paragraph|"
    r"text|"
    r"email|report|scene|comparison|file|recipe|draft|page|article|song|novel)\b",
    "colon": r":\s*\S",
    "please": r"\b(please|pls)\b",
    "asks_back": r"\?$",
}
OPENING = {  # of the sentence from its request on
    "imperative": r"^(answer|reply|respond|write|speak|talk|use|end|begin|start|finish|close|conclude|call|address|"
    r"keep|"
    r"be|act|include|add|put|give|make|say|tell|sign|stay|stick|treat|assume|remember|pretend|explain|refer|mention|"
    r"correct|think|cite|round|check|leave|limit|let'?s|let us|translate|bear|mark|code|commit|open|name|note|show|ask|"
    r"repeat|quote|spell|recommend|suggest|respect|share|reveal|prefer|consider)\b",
    "prohibition": r"^(do not|don'?t|never|avoid|stop|quit|no more|refrain|leave out|skip|drop|no \w+)\b",
    "asked": r"^(can|could|would|will|may i ask) (you|u|it be possible)\b|^would you mind\b|"
    r"^is it (ok|okay|possible) if\b",
    "elliptic": r"^(no|only|nothing|not|all|short|everything|none)\b",
    "others": r"^((s?he|they|it|people|one|nobody|everybody|everyone|that|there|once|in (her|his|the|japan|germany|my))"
    r"\b(?!'?(d|s important| would))|(my|our|the|a|an|his|her|their|this)\b(?! (answers|replies|responses|"
    r"(\w+ )?language|"
    r"tone|conversation|chat|pronouns|name|preferences)))",
    "self": r"^i('ve|'m| am| was)? (?!(('d|would) )?(really |only |do not |don't |never )*(like|love|want|prefer|need|"
    r"expect|hate|changed|would|do)\b)\w+",
    "question": r"^(what|why|how|when|where|which|who|do|does|did|is|are|should|am|was|were|can i|can we)\b.*\?$",
    "task": r"\b(this|that|these|those|following|above|previous|last|first|second|third|next)( \w+)? (sentence|"
    r"paragraph|text|letter|poem|essay|story|email|one|article|question|list|table|file|column|word|line|part|chapter|"
    r"answer|proof|book|case|typo)\b|\b(write|give me|make|draft|tell me|compose|suggest|find|describe|list|book|add) "
    r"(a|an|the|three|five|two|some|that|about|it)\b|^(translate|summari[sz]e|rewrite|compare|draft|compute|convert|"
    r"fix|sort|turn|describe|now do|next)\b|\?.*: ",
}
WHOLE = {name: re.compile(pattern) for name, pattern in WORDING.items()}
OPENS = {name: re.compile(pattern) for name, pattern in OPENING.items()}
REQUEST = (
    "imperative", "prohibition", "asked", "elliptic", "wish", "duty", "call_me", "condition", "revoked", "persona",
)  # fmt: skip
LASTING = (
    "from_now",
    "until",
    "always",
    "whenever",
    "rule",
    "every_reply",
    "replies",
    "every_thing",
    "call_me",
    "revoked",
)
MANNER = ("form", "to_me", "persona")
VETO = ("others", "self", "told", "question", "task", "in_a_task")
COMBINED = ("requested", "lasting", "lasting_request", "free_lasting_request", "manner_request", "free_manner_request")
CUES = (*WORDING, *OPENING, *COMBINED)


def cues(sentences: Sequence[str]) -> NDArray[np.float32]:
    """Return which cues every sentence holds, 0 or 1 [sentences, cues]."""
    rows = [_cues(sentence) for sentence in sentences]
    return np.array(rows, dtype=np.float32).reshape(len(sentences), len(CUES))


def _cues(sentence: str) -> list[bool]:
    plain = QUOTED.sub('""', sentence.replace("’", "'")).lower().strip()
    lead = match.group() if (match := LEAD.match(plain)) else ""
    found = {name: bool(pattern.search(plain)) for name, pattern in WHOLE.items()}
    found |= {name: bool(pattern.search(plain[len(lead) :])) for name, pattern in OPENS.items()}
    own = not (found["others"] or found["self"] or found["question"])
    if own and any(WHOLE[name].search(lead) for name in LASTING):
        found["task"] = False  # "always write the currency": no single task
    if own and re.search(r"\b(always|only|just)\b", lead):
        found["imperative"] = True
    requested, lasting = any(map(found.get, REQUEST)), any(map(found.get, LASTING))
    manner, free = any(map(found.get, MANNER)), not any(map(found.get, VETO))
    asks = (requested, lasting, requested and lasting, requested and lasting and free)
    return [*found.values(), *asks, requested and manner, requested and manner and free]
