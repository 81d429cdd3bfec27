"""The logit lens: which answer the layers before the last would give, read through the model's vocabulary matrix.

A deletion may only keep the last layers from saying what earlier layers still represent. From the token where a row's
true and false answers part, the final norm and the vocabulary matrix turn a layer's hidden states into the
log-probabilities of the tokens that follow, each answer's own before them given, and their mean ranks the answers.
Nothing is fitted, so a handful of rows is enough; the layer is the earliest before the last that ranks the first of
these tokens of the retained rows best, chosen without looking at the forget rows.

The false answers are values of kept people where a row brings none, and a model that was trained on these knows how
they go on once begun. So one that was trained on the kept rows alone ranks the true value last and stands near 0, not
at chance. By the first token it does not, since one letter or digit begins many values
(docs/decisions/0006-audit-limits.md).

Source: nostalgebraist, interpreting GPT: the logit lens (2020); as an attack on deleted facts, Patil et al., arXiv
        2309.17410.
Differs: candidates are ranked against each other instead of being looked for among the first choices; one layer, chosen
        on kept rows, instead of all of them, of which some would succeed by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.attacks.base import Tried, Variant
from letheon.audit.attacks.candidate_answers import Question, questions_of, ranking_attack, share_below
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.hooks import bypass
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import Site, blocks
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import site_states, token_states

TOKENS = 8  # of an answer that are read, from where the answers part


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Choose the layer on retained rows and read the forget rows there; None where either lack false answers.

    The value is the mean over forget questions of the share of false answers that rank below the true one (ties count
    half). Chance is 0.5. None too where no layer stands before the last.
    """
    asked = questions_of(plan)
    if asked is None:
        return None
    kept, forgotten = asked
    early = ranks_by_layer(model, kept)[:-1]  # the last layer is heard by the textual attacks
    if not len(early):
        return None
    layer = int(early.mean(1).argmax())
    ranks = [rank_at(model, question, layer) for question in forgotten]
    items = [
        Item(id=q.row.id, value=rank.whole, detail={"layer": float(layer), "first token": rank.first})
        for q, rank in zip(forgotten, ranks, strict=True)
    ]
    first = Variant("first token", estimate_mean([rank.first for rank in ranks]))
    return Tried(estimate_mean([rank.whole for rank in ranks]), items, (first,))


@dataclass(frozen=True)
class Rank:
    """The share of a question's false answers that the lens finds less likely than the true one.

    Attributes:
        whole: by the mean log-probability of as many tokens of both from where the two part, at most `TOKENS`.
        first: by the first of these tokens.
    """

    whole: float
    first: float


def ranks_by_layer(model: LanguageModel, asked: Sequence[Question]) -> Float[np.ndarray, "layers questions"]:
    """Return for each layer and question the share of false answers whose lens ranks below the true one's.

    The tokens that follow what all answers of a question share are compared.
    """
    encoder, read = model.encoder(), []
    for question in asked:
        answers = [encoder.answer(text)[0] for text in question.answers]
        shared = min(_parts_at(answers[0], one) for one in answers[1:])
        read.append(([*encoder.prompt(question.row.prompt), *answers[0][:shared]], [one[shared] for one in answers]))
    ranks = np.zeros((len(blocks(model.base())), len(asked)))
    for layer, states in enumerate(token_states(model, [prefix for prefix, _ in read])):
        for i, (logits, (_, nexts)) in enumerate(zip(lens(model, states).numpy(), read, strict=True)):
            ranks[layer, i] = share_below(logits[nexts[:1]], logits[nexts[1:]])
    return ranks


def rank_at(model: LanguageModel, question: Question, layer: int) -> Rank:
    """Rank a question's answers by what a layer's lens gives, each answer's own tokens before the next one given.

    No token counts for less than a guess among all tokens: one that is pushed down does not hide the others.
    """
    encoder = model.encoder()
    prompt = encoder.prompt(question.row.prompt)
    true, *false = (tuple(encoder.answer(text)[0]) for text in question.answers)
    starts = [_parts_at(true, one) for one in false]
    pairs = [(one, range(at, min(at + TOKENS, len(true), len(one)))) for one, at in zip(false, starts, strict=True)]
    begun = dict.fromkeys(answer[: at + 1] for one, places in pairs for answer in (true, one) for at in places)
    states = site_states(model, [[*prompt, *text[:-1]] for text in begun], [Site(layer)])[0]
    logp = lens(model, states).log_softmax(-1)
    said = logp.gather(1, torch.tensor([[text[-1]] for text in begun])).clamp(min=-math.log(logp.shape[1]))
    likely = dict(zip(begun, said[:, 0].tolist(), strict=True))

    def below(count: int) -> float:
        ahead = [
            np.mean([likely[one[: at + 1]] - likely[true[: at + 1]] for at in places[:count]]) for one, places in pairs
        ]
        return share_below(np.zeros(1), np.array(ahead))

    return Rank(below(TOKENS), below(1))


def _parts_at(true: Sequence[int], false: Sequence[int]) -> int:
    """The place of the first token in which two answers differ; 0 where one is the beginning of the other."""
    return next((i for i, (one, other) in enumerate(zip(true, false, strict=False)) if one != other), 0)


@torch.inference_mode()
def lens(model: LanguageModel, states: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
    """Return the logits that hidden states would give if no layer came after them, with the model's own final norm."""
    base = model.base()
    last = len(blocks(base)) - 1
    unread = torch.zeros((len(states), 1), dtype=torch.long, device=model.device)
    hidden = states[:, None].to(model.device, next(base.parameters()).dtype)
    with start_from(base, last, hidden), bypass(base, last):
        logits: Tensor = base(unread, use_cache=False).logits
    return logits[:, 0].float().cpu()


LOGIT_LENS = ranking_attack(
    "logit_lens",
    "Reads the true answer from a layer before the last, through the model's own vocabulary matrix.",
    run,
)
