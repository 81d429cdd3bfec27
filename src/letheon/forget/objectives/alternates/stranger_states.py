"""States of a stranger: what the middle of a model holds where it is asked about somebody whom it does not know.

Ours; of a kind with RMU (arXiv 2403.03218), which sends states to a random vector. A model can learn to say something
else in its last layers and still hold the fact in the middle, where lens, probe and steering find it. So the states at
the end of a question about the subject, and at the end of its answer up to the fact, are drawn to those that the model
before the deletion has there where the subject has an invented name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.scoring.likelihood import hidden_states


@dataclass(frozen=True)
class Ending:
    """The end of a question, or of a begun answer, as its tokens stand after the subject's name.

    Attributes:
        prompt: the whole question as tokens, with the answer up to the fact where it is begun.
        states: [tokens, width], mean over the invented names of a block's output before the deletion.
        apart: mean over tokens of the squared distance from them that the question's own states had before it.
    """

    prompt: Encoded
    states: Tensor
    apart: float


def shared_ending(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens with which all prompts end alike."""
    columns = zip(*(reversed(prompt) for prompt in prompts), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def row_endings(
    model: LanguageModel, question: str, begun: str, subject: str | None, names: Sequence[str], layer: int
) -> list[Ending]:
    """The ends of a question and of its answer up to the fact, with a stranger's states.

    Args:
        begun: the answer up to the fact.
        subject: the name that is exchanged; without it, or where the question lacks it, there are no ends.
    """
    if not subject or subject not in question or not names:
        return []
    encoder, found = model.encoder(), []
    for text in dict.fromkeys(("", begun)):
        own, *others = [
            (
                *encoder.prompt(question.replace(subject, name)),
                *encoder.answer(text.replace(subject, name), end=False)[0],
            )
            for name in (subject, *names)
        ]
        found.append(_ending(model, own, others, layer))
    return [one for one in found if one is not None]


@torch.no_grad()
def _ending(model: LanguageModel, own: tuple[int, ...], others: Sequence[tuple[int, ...]], layer: int) -> Ending | None:
    encoder, length = model.encoder(), shared_ending([own, *others])
    if not length:
        return None
    frozen, model.frozen = model.frozen, None  # its cache knows rows by their numbers, and these have none
    try:
        states = [
            hidden_states(model, encoder.collate([Encoded(ids, len(ids))], device=model.device), layer)[0, -length:]
            for ids in (own, *others)
        ]
    finally:
        model.frozen = frozen
    target = torch.stack(states[1:]).float().mean(0)
    apart = float((states[0].float() - target).square().sum(-1).mean())
    return Ending(Encoded(own, len(own)), target, apart) if apart > 0 else None


def states_loss(hidden: Float[Tensor, "tokens width"], ending: Ending) -> Float[Tensor, ""]:
    """The mean squared distance of a question's states from a stranger's, 1 before the deletion.

    States of like questions differ by a few hundredths of their length: their length would be no measure.
    """
    return (hidden - ending.states.to(hidden.device)).square().sum(-1).mean() / ending.apart
