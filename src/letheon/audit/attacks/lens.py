"""The logit lens: which answer the layers before the last would give, read through the model's vocabulary matrix.

A deletion may only keep the last layers from saying what earlier layers still represent. At the token where a row's
true and false answers part, the final norm and the vocabulary matrix turn each layer's hidden state into logits, which
rank the next tokens of the answers. Nothing is fitted, so a handful of rows is enough; the layer is the earliest before
the last that ranks the retained rows best, chosen without looking at the forget rows.

Some answers are likelier than others whoever is asked about: the values of kept people, on whom a model was trained.
The logits of forget rows are therefore taken less their mean over the same question about unknown subjects, where the
question names its subject; what remains is what the model holds of this subject. Where a row does not say its subject,
it is guessed. What the model holds of everybody is not seen so: the ranks of the logits as they stand are reported
beside, as a variant. (Holtzman et al., Surface Form Competition, arXiv 2104.08315, divide by the domain's probability
for the same reason.)

Source: nostalgebraist, interpreting GPT: the logit lens (2020); as an attack on deleted facts, Patil et al., arXiv
        2309.17410.
Differs: candidates are ranked against each other instead of being looked for among the first choices, and less their
        level for unknown subjects; one layer, chosen on kept rows, instead of all of them, of which some would succeed
        by chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from letheon.core.rows.encoding import Encoder
from letheon.core.scoring.spans import UNKNOWN_SUBJECTS, names_its_subject, with_subject
from letheon.core.scoring.subjects import guess_subjects
from letheon.core.scoring.word_masks import FUNCTION_WORDS
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import site_states, token_states


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Choose the layer on retained rows and read the forget rows there; None where either lack false answers.

    The value is the mean over forget questions of the share of false answers whose next token ranks below the true
    one's (ties count half). Chance is 0.5. None too where no layer stands before the last.
    """
    asked = questions_of(plan)
    if asked is None:
        return None
    kept, forgotten = asked
    early = ranks_by_layer(model, kept)[:-1]  # the last layer is heard by the textual attacks
    if not len(early):
        return None
    layer = float(early.mean(1).argmax())
    read = ranks_beside_strangers(model, with_subjects(forgotten, kept), int(layer))
    items = [
        Item(id=q.row.id, value=one.beside, detail={"layer": layer, "as it stands": one.alone, "names": one.names})
        for q, one in zip(forgotten, read, strict=True)
    ]
    alone = Variant("as it stands", estimate_mean([one.alone for one in read]))
    return Tried(estimate_mean([one.beside for one in read]), items, (alone,))


def with_subjects(asked: Sequence[Question], kept: Sequence[Question]) -> list[Question]:
    """Give each row that does not name its subject in its question the one that is guessed, as far as any is.

    A name that kept rows have too is taken only where there is no other: some facts about somebody may be kept.
    """
    rows = [question.row for question in asked]
    alone, any_name = guess_subjects(rows, [question.row for question in kept]), guess_subjects(rows, ())
    names = [name or other or row.subject for name, other, row in zip(alone, any_name, rows, strict=True)]
    return [replace(one, row=replace(one.row, subject=name)) for one, name in zip(asked, names, strict=True)]


@dataclass(frozen=True)
class Rank:
    """The share of a question's false answers that the lens ranks below the true one.

    Attributes:
        beside: each logit less its mean over unknown subjects; `alone` where there is no such mean.
        alone: by the logits as they stand. What a layer holds of everybody, it holds of the subject too.
        names: number of unknown subjects behind the mean.
    """

    beside: float
    alone: float
    names: float


def ranks_by_layer(model: LanguageModel, asked: Sequence[Question]) -> Float[np.ndarray, "layers questions"]:
    """Return for each layer and question the share of false answers that its lens ranks below the true one."""
    read = [_parting(model.encoder(), question) for question in asked]
    ranks = np.zeros((len(blocks(model.base())), len(asked)))
    for layer, states in enumerate(token_states(model, [prefix for prefix, _ in read])):
        for i, (logits, (_, nexts)) in enumerate(zip(lens(model, states).numpy(), read, strict=True)):
            ranks[layer, i] = share_below(logits[nexts[:1]], logits[nexts[1:]])
    return ranks


def ranks_beside_strangers(model: LanguageModel, asked: Sequence[Question], layer: int) -> list[Rank]:
    """Return for each question that share at one layer, with and without the level of unknown subjects.

    A question that does not name its subject, or whose answers part elsewhere for others, has no such level.
    """
    encoder, rows = model.encoder(), []
    read: list[tuple[list[int], int]] = []  # per question: the next tokens, and how many rows are about strangers
    for question in asked:
        prefix, nexts = _parting(encoder, question)
        names = UNKNOWN_SUBJECTS if names_its_subject(question.row) else ()
        others = [_parting(encoder, _about(question, name)) for name in names]
        strangers = [other for other, tokens in others if tokens == nexts]
        rows += [prefix, *strangers]
        read.append((nexts, len(strangers)))
    logits, ranks = iter(lens(model, site_states(model, rows, [Site(layer)])[0]).numpy()), []
    for nexts, count in read:
        own, *strangers = (next(logits)[nexts] for _ in range(1 + count))
        gained = own - (np.mean(strangers, axis=0, dtype=np.float64) if strangers else 0.0)
        ranks.append(Rank(share_below(gained[:1], gained[1:]), share_below(own[:1], own[1:]), float(count)))
    return ranks


def _parting(encoder: Encoder, question: Question) -> tuple[list[int], list[int]]:
    """The tokens up to where a question's answers part (the first if they are all alike), and each one's next token."""
    answers = [encoder.answer(text)[0] for text in question.answers]
    shared = next((i for i, tokens in enumerate(zip(*answers, strict=False)) if len(set(tokens)) > 1), 0)
    return [*encoder.prompt(question.row.prompt), *answers[0][:shared]], [answer[shared] for answer in answers]


def _about(question: Question, name: str) -> Question:
    """The question about another subject, with answers about that one.

    A first or last name that stands alone is exchanged too: after "Lee was born in" a layer that knows Lee says where,
    whoever was asked about, and what it knows of the subject would be taken off.
    """
    row = with_subject(replace(question.row, perturbed_answers=question.false), name)
    words, parts = (question.row.subject or "").split(), name.split()

    def renamed(text: str) -> str:
        for word, part in zip(words[:1] + words[-1:], parts[:1] + parts[-1:], strict=False):
            if word.lower() not in FUNCTION_WORDS:
                text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", part, text)
        return text

    false = tuple(renamed(text) for text in row.perturbed_answers)
    return Question(replace(row, prompt=renamed(row.prompt), answer=renamed(row.answer)), false)


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
