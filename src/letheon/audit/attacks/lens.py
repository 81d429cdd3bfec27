"""The logit lens: what the layers before the last would say, read through the model's own vocabulary matrix.

A deletion may only keep the last layers from saying what earlier ones still have at hand. At the place where a row's
true and false answers part, each layer's hidden state is given to the final norm and the vocabulary matrix, and the
next tokens of the answers are ranked. Nothing is fitted, so a handful of rows is enough; the layer is the earliest of
those before the last that rank the kept rows best, chosen without a look at the forgotten ones.

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

from letheon.audit.attacks.base import MeasuredAttack, Tried
from letheon.audit.attacks.probing import KEPT, LEAST_QUESTIONS, Question, questions
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.hooks import bypass
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import blocks
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Choose the layer on kept rows, read the forgotten ones; None where either lack false answers.

    The value is the mean over forgotten questions of the share of false answers whose next token ranks below the true
    one's (ties count half). Chance is 0.5.
    """
    kept, forgotten = questions([*plan.retain, *plan.neighbours][:KEPT], plan.tried_facts)
    if len(kept) < LEAST_QUESTIONS or not forgotten:
        return None
    ranks = ranks_of(model, [*kept, *forgotten])
    layer = int(ranks[:-1, : len(kept)].mean(1).argmax())  # what the last layer says, other attacks hear
    found = ranks[layer, len(kept) :].tolist()
    items = [
        Item(id=q.row.id, value=rank, detail={"layer": float(layer)}) for q, rank in zip(forgotten, found, strict=True)
    ]
    return Tried(estimate_mean(found), items)


def ranks_of(model: LanguageModel, asked: Sequence[Question]) -> Float[np.ndarray, "layers questions"]:
    """For each layer and question the share of false answers that its lens ranks below the true one."""
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
            difference = logits[i, true] - logits[i, false]
            ranks[layer, i] = ((difference > 0) + 0.5 * (difference == 0).double()).mean().item()
    return ranks


@torch.inference_mode()
def lens(model: LanguageModel, states: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
    """The logits that hidden states would give if no layer came after them, whatever norm the model ends with."""
    base = model.base()
    last = len(blocks(base)) - 1
    unread = torch.zeros((len(states), 1), dtype=torch.long, device=model.device)
    hidden = states[:, None].to(model.device, next(base.parameters()).dtype)
    with start_from(base, last, hidden), bypass(base, last):
        logits: Tensor = base(unread, use_cache=False).logits
    return logits[:, 0].float().cpu()


LOGIT_LENS = MeasuredAttack(
    name="logit_lens",
    description="Reads the true answer from a layer before the last, through the model's own vocabulary matrix.",
    needs=f"{LEAST_QUESTIONS} kept rows and a forgotten one with false answers (field perturbed_answer) or values",
    run=run,
    chance=0.5,
    unit="AUROC",
    thorough=True,
)
