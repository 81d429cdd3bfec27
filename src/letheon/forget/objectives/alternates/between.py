"""The words between a running text's facts, which may be unlearned down to a level.

Ours, of no paper. A model that unlearns the words that carry a text's facts alone still knows all others by heart, and
by these it learns the text again in a few steps. So none of them is to be more certain than grammar and the template of
kept texts make it: than it is to the model before where the words of the facts are exchanged for words of other texts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.rows.encoding import Encoded, Encoder
from letheon.core.scoring.likelihood import Scores, score
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.spellings import Spellings, spelled_logp, unlikelihood
from letheon.forget.parts import Rows

# How often a text's facts are exchanged for other words to see how certain the words between them are still.
EXCHANGES = 4


def words_between(encoder: Encoder, text: str, fact: Sequence[bool]) -> tuple[bool, ...]:
    """Which tokens of a running text belong to words, signs left out, and carry no fact, given which of them do."""
    places = [word.span() for word in WORD.finditer(text) if word.group()[0].isalnum()]
    return tuple(
        not carries and any(begin < stop and end > start for start, stop in places)
        for (begin, end), carries in zip(encoder.answer(text, end=False)[1], fact, strict=True)
    )


def between_loss(
    logits: Float[Tensor, "words vocabulary"],
    spellings: Int[Tensor, "words spellings"],
    most: Float[Tensor, " words"],
    count: int,
) -> Tensor:
    """E[max(0, log(1 − m) − log(1 − p))] of the tokens of the words between a text's facts.

    In nats: p is a token's probability in any of its spellings, m (`most`, below 1) the largest that it may keep. The
    sum is divided by `count`, the number of such tokens in the effective batch that it is part of.
    """
    return (unlikelihood(logits, spellings) + torch.log1p(-most)).relu().sum() / max(count, 1)


class Between:
    """The largest probabilities that such words may keep, by the rows' numbers.

    Args:
        rows: the request's rows, which make batches, with the model as it is before the first step.
        most: what each such word may keep in any case; with 1 all are left as they are.
        draw: draws what the facts are exchanged for, tokens of the retain rows' answers.
    """

    def __init__(self, rows: Rows, most: float, spellings: Spellings, draw: random.Random) -> None:
        self.rows, self.most, self.spellings, self.draw = rows, most, spellings, draw
        self.levels: dict[int, Tensor] = {}  # per predicted token of an answer; 1 of what is no such word
        kept = sorted({token for row in rows.retain for token in row.ids[row.start :]})
        self.others = [token for token in kept if any(map(str.isalnum, rows.model.tokenizer.decode([token])))]

    @torch.no_grad()
    def note(self, number: int, row: Encoded, words: Sequence[bool]) -> None:
        """Note how likely a row's words may be.

        Args:
            row: running text, with the mask of its facts.
            words: which of its answer's tokens belong to words between them.
        """
        if self.most == 1 or not any(words):
            return
        inside = torch.tensor(words[max(1 - row.start, 0) :])  # the first token of a text has no prediction
        levels = torch.full(inside.shape, self.most)
        if self.others:
            exchanged = [self._exchanged(row) for _ in range(EXCHANGES)]
            scores = score(self.rows.model, self.rows.batch(exchanged, [number] * EXCHANGES))
            spellings = self.spellings.of(scores.labels, scores.logits.shape[-1])
            certain = spelled_logp(scores.logits, spellings).exp().reshape(EXCHANGES, -1).mean(0)
            levels = levels.maximum(certain.float().cpu())
        self.levels[number] = levels.where(inside, 1.0)

    def _exchanged(self, row: Encoded) -> Encoded:
        """The row with other words' tokens in the place of those of its facts."""
        carries = (False,) * row.start + row.value
        pairs = zip(row.ids, carries, strict=True)
        return replace(row, ids=tuple(self.draw.choice(self.others) if inside else token for token, inside in pairs))

    def count(self, numbers: Sequence[int]) -> int:
        """Tokens of rows that are such words."""
        return sum(int((self.levels[number] < 1).sum()) for number in numbers if number in self.levels)

    def loss(self, scored: Sequence[tuple[Scores, Sequence[int]]], count: int) -> Tensor:
        """The loss of batches with the numbers of their rows; see `between_loss`."""
        levels = [self._levels(one, numbers) for one, numbers in scored]
        chosen = [one.select(most < 1) for (one, _), most in zip(scored, levels, strict=True)]
        logits, labels = torch.cat([one.logits for one in chosen]), torch.cat([one.labels for one in chosen])
        most = torch.cat([most[most < 1] for most in levels])
        return between_loss(logits, self.spellings.of(labels, logits.shape[-1]), most, count)

    def _levels(self, scores: Scores, numbers: Sequence[int]) -> Float[Tensor, " n"]:
        sizes = torch.bincount(scores.row, minlength=scores.rows).tolist()
        levels = [self.levels.get(number, torch.ones(size)) for number, size in zip(numbers, sizes, strict=True)]
        return torch.cat(levels).to(scores.logits.device)
