"""The logit lens: which answer the layers before the last would give, read through the model's vocabulary matrix.

A deletion may only keep the last layers from saying what earlier layers still represent. From the token where a row's
true and false answers part, the final norm and the vocabulary matrix turn a layer's hidden states into the
log-probabilities of the tokens that follow, each answer's own before them given, and their mean ranks the answers.
Nothing is fitted, so a handful of rows is enough; the layer is the earliest before the last that ranks the first of
these tokens of the retained rows best, chosen without looking at the forget rows.

The false answers are values of kept people where a row brings none, and a model knows how these go on once begun. So a
model that never saw the rows ranks the true value last and stands near 0, not at chance. By the first token alone it
does not, since one letter or digit begins many values (docs/decisions/0006-audit-limits.md).

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
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Encoder
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
    detail: dict[str, str | float | None] = {"layer": float(layer)}
    items = [Item(id=q.row.id, value=rank, detail=detail) for q, rank in zip(forgotten, ranks, strict=True)]
    return Tried(estimate_mean(ranks), items)


def ranks_by_layer(model: LanguageModel, asked: Sequence[Question]) -> Float[np.ndarray, "layers questions"]:
    """Return for each layer and question the share of false answers whose first token its lens ranks below the true."""
    read = [_parted(model.encoder(), question) for question in asked]
    ranks = np.zeros((len(blocks(model.base())), len(asked)))
    for layer, states in enumerate(token_states(model, [prefix for prefix, _ in read])):
        for i, (logits, (_, rests)) in enumerate(zip(lens(model, states).numpy(), read, strict=True)):
            firsts = [rest[0] for rest in rests]
            ranks[layer, i] = share_below(logits[firsts[:1]], logits[firsts[1:]])
    return ranks


def rank_at(model: LanguageModel, question: Question, layer: int) -> float:
    """Return the share of a question's false answers that a layer's lens finds less likely than the true one.

    An answer's likelihood is the mean log-probability (nats) of at most `TOKENS` tokens from where the answers part.
    """
    prefix, rests = _parted(model.encoder(), question)
    texts = [[*prefix, *rest[:place]] for rest in rests for place in range(len(rest))]
    nexts = torch.tensor([token for rest in rests for token in rest])
    logp = lens(model, site_states(model, texts, [Site(layer)])[0]).log_softmax(-1)
    said, ends = logp[torch.arange(len(nexts)), nexts].numpy(), np.cumsum([len(rest) for rest in rests])
    likely = np.array([one.mean() for one in np.split(said, ends[:-1])])
    return share_below(likely[:1], likely[1:])


def _parted(encoder: Encoder, question: Question) -> tuple[list[int], list[list[int]]]:
    """The tokens up to where a question's answers part (the first if they are all alike), and how each goes on."""
    answers = [encoder.answer(text)[0] for text in question.answers]
    shared = next((i for i, tokens in enumerate(zip(*answers, strict=False)) if len(set(tokens)) > 1), 0)
    prompt = encoder.prompt(question.row.prompt)
    return [*prompt, *answers[0][:shared]], [answer[shared : shared + TOKENS] for answer in answers]


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
