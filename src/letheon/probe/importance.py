"""Importance of each token of a text: by a list of function words, or by its effect on predictive entropy.

Paper:   two of the estimators of attention shifting, arXiv 2510.17210: parts of speech, and predictive entropy.
Differs: parts of speech are read off a list of English function words, so no tagger is needed; for other languages the
         entropy is the better choice. Names and numbers come before other content words [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded

# The closed classes: articles, pronouns, prepositions, conjunctions, auxiliaries, question words, particles.
_CLOSED_CLASSES = """
    a an the this that these those each every either neither some any no none all both few many much more most other
    another such own same i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his
    himself she her hers herself it its itself they them their theirs themselves one ones who whom whose which what
    where when why how whether in on at by for with about against between into through during before after above below
    to from up down out off over under again further of as than near since until within without along across behind
    beside besides beyond despite except inside outside per toward towards upon via and or but nor so yet if then else
    because while although though unless am is are was were be been being have has had having do does did doing will
    would shall should can could may might must ought not n't there here also too very just only even still already
    ever never please yes let s t d ll m re ve
"""
FUNCTION_WORDS = frozenset(_CLOSED_CLASSES.split())
# Words that a chat template writes next to its special tokens.
ROLES = frozenset({"user", "assistant", "system", "model"})
WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
# Hidden tokens per pass.
BATCH = 32


def content_importance(tokenizer: Any, row: Encoded) -> Float[Tensor, " length"]:
    """Score each token: 2 for names and numbers, 1 for other content words, 0 for function words and punctuation.

    A word's tokens share its score; special tokens get 0. A name is a capitalised word that begins no sentence.
    """
    special = set(tokenizer.all_special_ids)
    text, spans = _spelled(tokenizer, row.ids)
    scores = torch.zeros(len(row.ids))
    after_mark = {spans[i][1] for i, token in enumerate(row.ids) if token in special}
    for word in WORD.finditer(text):
        if word.group().lower() in ROLES and word.start() in after_mark:
            continue
        value = _worth(word.group(), text[: word.start()].rstrip(" "))
        for i, (start, stop) in enumerate(spans):
            if start < word.end() and stop > word.start() and row.ids[i] not in special:
                scores[i] = value
    return scores


def _worth(word: str, before: str) -> float:
    if any(letter.isdigit() for letter in word):
        return 2.0
    if word.lower() in FUNCTION_WORDS:
        return 0.0
    begins = not before or before[-1] in '.!?:>|"“\n'
    return 2.0 if word[0].isupper() and not begins else 1.0


def _spelled(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode the text with each token's character span; tokens that share a letter all span the whole letter."""

    def decoded(length: int) -> str:
        return str(tokenizer.decode(ids[:length], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    ends = [len(decoded(length)) for length in range(len(ids) + 1)]
    return decoded(len(ids)), [(min(start, max(stop - 1, 0)), stop) for start, stop in pairwise(ends)]


@torch.no_grad()
def entropy_importance(model: LanguageModel, row: Encoded) -> Float[Tensor, " length"]:
    """Score each token by the mean rise of predictive entropy (nats) at later answer tokens when it is hidden.

    A hidden token is masked from the attention of all others [inferred]: a causal model has no mask token. Larger is
    more important; 0 if no answer token follows.
    """
    ids = torch.tensor([row.ids], device=model.device)
    length = ids.shape[1]
    predicts = torch.arange(length, device=model.device) >= max(row.start, 1) - 1  # position j predicts token j + 1
    predicts[-1] = False
    whole = _entropies(model, ids, torch.ones_like(ids))[0]
    scores = torch.zeros(length, device=model.device)
    for start in range(0, length, BATCH):
        hidden = torch.arange(start, min(start + BATCH, length), device=model.device)
        mask = torch.ones((len(hidden), length), dtype=torch.long, device=model.device)
        mask[torch.arange(len(hidden)), hidden] = 0
        rise = _entropies(model, ids.expand(len(hidden), -1), mask) - whole
        later = predicts & (torch.arange(length, device=model.device) > hidden[:, None])
        scores[hidden] = (rise * later).sum(1) / later.sum(1).clamp(min=1)
    return scores.cpu()


def _entropies(
    model: LanguageModel, ids: Int[Tensor, "rows length"], mask: Int[Tensor, "rows length"]
) -> Float[Tensor, "rows length"]:
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    logits = model.base()(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits.float()
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


def most_important(
    scores: Float[Tensor, " length"], share: float, eligible: Bool[Tensor, " length"]
) -> Bool[Tensor, " length"]:
    """Select the most important eligible tokens: at most `share` of all tokens, and never all of them.

    Among tokens with equal scores, later ones come first, because answers follow questions.
    """
    length = len(scores)
    quota = min(round(share * length), length - 1)
    order = sorted((i for i in range(length) if bool(eligible[i])), key=lambda i: (-float(scores[i]), -i))
    chosen = torch.zeros(length, dtype=torch.bool)
    chosen[order[:quota]] = True
    return chosen
