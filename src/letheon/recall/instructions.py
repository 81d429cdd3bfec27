"""Instructions in force: standing rules that a user gives a conversation, recognised in the turn's own words.

Source: Rhea (arXiv 2512.06869), instructional memory: rules are stored verbatim, placed first and never compressed.
The paper leaves the recogniser open; both here are [inferred]. `RuleHead` needs no language model: it is a logistic
head over cues of the wording (`rule_cues`) and, with all-MiniLM-L6-v2 as the memory's embedder, over sentence
embeddings. `asking_model` asks a language model, once per sentence. `python -m benchmarks.rules` measures them on
turns that nothing was made on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

from letheon.recall.embedders import Embedder
from letheon.recall.rule_cues import CUES, QUOTED, WHOLE, cues

Recogniser = Callable[[Sequence[str]], Sequence[bool]]  # sentences of users -> whether each is a standing rule

WEIGHTS = "rules.safetensors"
LIKELY = 0.4  # probability from which a sentence is a rule
LONGEST, ENDS = 1000, 32  # characters of a sentence that is looked at; sentences at either end of a turn
SCALE = 4.0  # of an embedding of length 1 beside cues of 0 and 1
ENCODER = "minilm"  # the embedder whose vectors the head was fitted to
QUESTION = (
    "A user says the following sentence to an assistant in a chat:\n\n{}\n\nIs it a standing instruction: does it ask "
    "something of all later answers of the assistant, not of one answer alone, and is it not about other people? "
    "Answer yes or no."
)
REFERS_BACK = re.compile(r"\b(bear|keep|have) (that|this|it) in mind\b|^(please )?remember (that|this)\b", re.I)
ITEM = re.compile(r"^\s*([-*•]|\d+[.)])\s+")
PASTED = re.compile(  # fenced text, and what a transcript says that an assistant said
    r"```.*?(```|\Z)|^[ \t]*~~~.*?(^[ \t]*~~~+|\Z)|"
    r"^[ \t]*(assistant|ai|bot|chatgpt|system)[ \t]*:.*?(?=^[ \t]*((user|human|me)[ \t]*:|\r?\n)|\Z)",
    re.S | re.M | re.I,
)


def sentences(text: str) -> list[str]:
    """Split a text into its sentences."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def spoken(text: str) -> list[str]:
    """Return the sentences in which a user speaks to the assistant, without code, quoted lines and pasted text.

    What a transcript says that an assistant said ends with a blank line or the next turn of the user.

    A quotation is not split. Items of a list belong to the line above them that ends with a colon and speaks of rules;
    after any other line that ends with a colon all is pasted text. Of a long turn only the sentences at both ends are
    looked at.
    """
    text = PASTED.sub("\n", text)
    text = QUOTED.sub(lambda quoted: re.sub(r"(?<=[.!?])\s+", "\x00", quoted.group().replace("\n", "\x00")), text)
    said: list[str] = []
    listing = False
    for line in filter(str.strip, text.split("\n")):
        if line.lstrip().startswith(">"):
            continue
        if listing and ITEM.match(line):
            said[-1] += "\n" + line.strip()
            continue
        if said and said[-1].endswith(":"):
            break
        said += [part.replace("\x00", " ") for part in sentences(line)]
        listing = said[-1].endswith(":") and _lists_rules(said[-1])
    said = [sentence for sentence in said if len(sentence) <= LONGEST]
    return said if len(said) <= 2 * ENDS else said[:ENDS] + said[-ENDS:]


def _lists_rules(line: str) -> bool:
    return len(line) <= LONGEST and any(WHOLE[name].search(line.lower()) for name in _LISTED)


_LISTED = ("rule", "from_now", "until", "every_reply", "always")


class RuleHead:
    """Recognises standing rules by logistic regression, without a language model.

    Args:
        embedder: of the memory; its vectors are looked at where they are those the head was fitted to.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = embedder if embedder is not None and embedder.name == ENCODER else None

    def __call__(self, said: Sequence[str]) -> list[bool]:
        """Return for each sentence whether it is a standing rule."""
        return [bool(one >= LIKELY) for one in self.probabilities(said)]

    def probabilities(self, said: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of each sentence that it is a standing rule [sentences]."""
        if not said:
            return np.zeros(0, dtype=np.float32)
        inputs, weights = head_inputs(said, self.embedder), _weights("cues" if self.embedder is None else "both")
        logits = inputs @ weights[:-1] + weights[-1]
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def head_inputs(said: Sequence[str], embedder: Embedder | None) -> NDArray[np.float32]:
    """Return what the head looks at: cues, and embeddings where there is an embedder [sentences, values]."""
    looked = cues(said)
    return looked if embedder is None else np.hstack([looked, SCALE * embedder.embed(said)])


@cache
def _weights(name: str) -> NDArray[np.float32]:
    """Read the head's weights, the bias last."""
    from safetensors import safe_open

    with as_file(files("letheon.recall") / WEIGHTS) as path, safe_open(path, "numpy") as held:
        if held.metadata()["cues"].split() != list(CUES):
            raise ValueError(f"{WEIGHTS} was fitted to other cues: run python -m benchmarks.rules --train")
        return np.asarray(held.get_tensor(name), dtype=np.float32)


def asking_model(answers: Callable[[list[dict[str, str]]], Iterable[str]]) -> Recogniser:
    """Return the recogniser that asks a language model whether a sentence is a standing rule, one call per sentence.

    Args:
        answers: streams the model's answer to chat messages.
    """

    def recognise(said: Sequence[str]) -> list[bool]:
        asked = ([{"role": "user", "content": QUESTION.format(sentence)}] for sentence in said)
        return ["".join(answers(messages)).strip().lower().startswith("yes") for messages in asked]

    return recognise


def standing_rules(text: str, recognise: Recogniser | None = None) -> list[str]:
    """Return the standing rules of a user's turn, verbatim.

    A rule that points back ("keep that in mind when ...") has the sentence before it in front.

    Args:
        text: the turn.
        recognise: the recogniser; by default the head over cues alone.
    """
    said = spoken(text)
    given = (recognise or RuleHead())(said)
    rules = []
    for number, (sentence, rule) in enumerate(zip(said, given, strict=True)):
        if rule:
            before = said[number - 1] + " " if number and REFERS_BACK.search(sentence) else ""
            rules.append(before + sentence)
    return rules
