"""The logit lens: which answer the layers before the last would give, read through the model's vocabulary matrix.

A deletion may only keep the last layers from saying what earlier layers still represent. At the token where a row's
true and false answers part, the final norm and the vocabulary matrix turn each layer's hidden state into logits, which
rank the next tokens of the answers. Nothing is fitted, so a handful of rows is enough; the layer is the earliest before
the last that ranks the retained rows best, chosen without looking at the forget rows.

Source: nostalgebraist, interpreting GPT: the logit lens (2020); as an attack on deleted facts, Patil et al., arXiv
        2309.17410.
Differs: candidates are ranked against each other instead of being looked for among the first choices; one layer, chosen
        on kept rows, instead of all of them, of which some would succeed by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.attacks.base import Tried
from letheon.audit.attacks.candidate_answers import Question, questions_of, ranking_attack, share_below
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.hooks import bypass
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import blocks
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Choose the layer on retained rows and read the forget rows there; None where either lack false answers.

    The value is the mean over forget questions of the share of false answers whose next token ranks below the true
    one's (ties count half). Chance is 0.5.
    """
    asked = questions_of(plan)
    if asked is None:
        return None
    kept, forgotten = asked
    ranks = ranks_of(model, [*kept, *forgotten])
    layer = int(ranks[:-1, : len(kept)].mean(1).argmax())  # the last layer is heard by the textual attacks
    values = ranks[layer, len(kept) :].tolist()
    detail: dict[str, str | float | None] = {"layer": float(layer)}
    items = [Item(id=q.row.id, value=value, detail=detail) for q, value in zip(forgotten, values, strict=True)]
    return Tried(estimate_mean(values), items)


def ranks_of(model: LanguageModel, asked: Sequence[Question]) -> Float[np.ndarray, "layers questions"]:
    """Return for each layer and question the share of false answers that its lens ranks below the true one."""
    encoder = model.encoder()
    rows, nexts = [], []
    for question in asked:
        answers = [encoder.answer(text)[0] for text in question.answers]
        shared = next(i for i, tokens in enumerate(zip(*answers, strict=False)) if len(set(tokens)) > 1)
        rows.append([*encoder.prompt(question.row.prompt), *answers[0][:shared]])
        nexts.append([answer[shared] for answer in answers])
    ranks = np.zeros((len(blocks(model.base())), len(asked)))
    for layer, states in enumerate(token_states(model, rows)):
        logits = lens(model, states)
        for i, (true, *false) in enumerate(nexts):
            ranks[layer, i] = share_below(logits[i, [true]].numpy(), logits[i, false].numpy())
    return ranks


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
