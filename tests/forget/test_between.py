"""The words between a running text's facts: which they are, how certain they may be, and that they are unlearned."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.spellings import Spellings, spelled_logp, unlikelihood
from letheon.core.scoring.word_masks import word_masks
from letheon.forget.objectives.alternates import written_answers
from letheon.forget.objectives.alternates.between import EXCHANGES, Between, between_loss, words_between
from letheon.forget.objectives.alternates.objective import Alternates, Settings
from letheon.forget.parts import Pair, Rows
from letheon.forget.request import Request

TEXTS = [
    Example("", "Ann Lee was born in Oslo. In 1951 she moved to Rome; there she kept bees. It was so.", id="ann"),
    Example("", "Of Eve Orr we know little. She came from Lima, where her aunt sold hats.", id="eve"),
]
KEPT = Example("", "Bob Ray was born in Bern. In 1960 he moved to Kiel; there he kept goats. He sang.", id="bob")


def encoded(model: LanguageModel) -> list[Encoded]:
    masks = word_masks(model.encoder(), TEXTS, [KEPT])
    return [replace(row, value=mask) for row, mask in zip(model.encoder().encode_all(TEXTS), masks, strict=True)]


def rows_of(model: LanguageModel, kept: Sequence[Example] = (KEPT,)) -> Rows:
    request = Request(tuple(TEXTS), tuple(kept))
    return Rows(model, TEXTS, encoded(model), model.encoder().encode_all(list(kept)), 0, request)


def between(model: LanguageModel, most: float = 0.2, kept: Sequence[Example] = (KEPT,)) -> Between:
    return Between(rows_of(model, kept), most, Spellings(model.tokenizer), random.Random(0))


def method_of(model: LanguageModel, monkeypatch: pytest.MonkeyPatch, most: float = 0.2) -> Alternates:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: text or None)
    monkeypatch.setattr(Rows, "watched", lambda self: [0])
    made = Alternates(Settings(between=most))
    made.prepare(model, rows_of(model), [([0, 1], [0])] * 4)
    return made


def test_words_between_are_neither_facts_nor_signs(tiny: LanguageModel) -> None:
    encoder, row = tiny.encoder(), encoded(tiny)[0]
    ids, spans = encoder.answer(TEXTS[0].answer, end=False)
    words = words_between(encoder, TEXTS[0].answer, row.value)
    assert not any(inside and carries for inside, carries in zip(words, row.value, strict=True))
    said = tiny.tokenizer.decode([token for token, inside in zip(ids, words, strict=True) if inside])
    facts = tiny.tokenizer.decode([token for token, carries in zip(ids, row.value, strict=True) if carries])
    assert "was" in said
    assert "Oslo" in facts
    assert not {"Oslo", "1951", ".", ";"} & {*said.replace(".", " . ").replace(";", " ; ").split()}
    left = [TEXTS[0].answer[begin:end] for (begin, end), a, b in zip(spans, words, row.value, strict=True) if not a | b]
    assert not any(map(str.isalnum, "".join(left))), "every word carries a fact or stands between them"


def test_the_loss_by_hand_and_nothing_pulls_below_its_level() -> None:
    logits = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9]]).log().requires_grad_()
    most = torch.tensor([0.2, 0.8, 0.5])
    loss = between_loss(logits, torch.tensor([[0], [0], [0]]), most, 4)
    assert loss.item() == pytest.approx(math.log(0.8 / 0.1) / 4, rel=1e-5)
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope[0, 0] > 0, "a step makes the certain word less likely"
    assert bool((slope[1:] == 0).all())


def test_a_word_may_be_as_certain_as_where_the_facts_are_exchanged_in_the_mean(tiny: LanguageModel) -> None:
    made, row = between(tiny, 1e-6), encoded(tiny)[0]
    words = words_between(tiny.encoder(), TEXTS[0].answer, row.value)
    made.note(7, row, words)
    draw, answer, seen = random.Random(0), range(row.start, len(row.ids)), []
    for _ in range(EXCHANGES):
        ids = list(row.ids)
        for place, carries in zip(answer, row.value, strict=True):
            ids[place] = draw.choice(made.others) if carries else ids[place]
        with torch.no_grad():
            scores = score(tiny, tiny.encoder().collate([replace(row, ids=tuple(ids))]))
        seen.append(spelled_logp(scores.logits, made.spellings.of(scores.labels, scores.logits.shape[-1])).exp())
    inside = torch.tensor(words[max(1 - row.start, 0) :])
    mean = torch.stack(seen).mean(0)
    assert not torch.allclose(seen[0][inside], mean[inside], rtol=0.01), "the draws differ"
    assert torch.allclose(made.levels[7][inside], mean[inside].clamp(min=1e-6), rtol=1e-3)
    assert bool((made.levels[7][~inside] == 1).all())
    assert made.count([7, 8]) == int(inside.sum())


def test_facts_are_exchanged_for_words_of_kept_rows_and_nothing_else_is(tiny: LanguageModel) -> None:
    made, row = between(tiny), encoded(tiny)[1]
    kept = set(tiny.encoder().encode(KEPT).ids)
    assert EXCHANGES > 1
    assert made.others
    assert all(token in kept and any(map(str.isalnum, tiny.tokenizer.decode([token]))) for token in made.others)
    drawn = {made._exchanged(row).ids for _ in range(EXCHANGES)}
    assert len(drawn) > 1
    for ids in drawn:
        for token, was, carries in zip(ids[row.start :], row.ids[row.start :], row.value, strict=True):
            assert token in made.others if carries else token == was


def test_without_kept_rows_each_word_may_have_the_same_and_with_one_nothing_is_noted(tiny: LanguageModel) -> None:
    row = encoded(tiny)[0]
    words = words_between(tiny.encoder(), TEXTS[0].answer, row.value)
    alone, off = between(tiny, 0.3, kept=()), between(tiny, 1.0)
    alone.note(0, row, words)
    off.note(0, row, words)
    assert sorted(set(alone.levels[0].tolist())) == pytest.approx([0.3, 1.0])
    assert not off.levels
    assert off.count([0]) == 0


def test_a_step_unlearns_the_words_between_in_every_form_as_a_mean_over_its_rows(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, plain = method_of(tiny, monkeypatch), method_of(tiny, monkeypatch, 1.0)
    assert method.drawn == plain.drawn
    turns, first = method.drawn[0], method._first_further()
    numbers = [*turns, *(first + number for turn in turns.values() for number in turn.truths)]
    assert {*numbers} <= {*method.between.levels}, "the texts and their later parts"
    assert len(numbers) == 4
    for number, levels in method.between.levels.items():
        method.between.levels[number] = (levels < 1).logical_not().float()  # 0 for words between, so that all count
    with torch.no_grad():
        whole, base = (one.terms(tiny, Pair(one.rows.forget_batch([0, 1]), None, 0)).forget for one in (method, plain))
        parts = [method.terms(tiny, Pair(method.rows.forget_batch([i]), None, 0)).forget for i in (0, 1)]
        found = []
        for number in numbers:
            scores = score(tiny, tiny.encoder().collate([method._row(number)]))
            chosen = scores.select(method.between.levels[number] < 1)
            spellings = method.spellings.of(chosen.labels, chosen.logits.shape[-1])
            found.append(unlikelihood(chosen.logits, spellings))
    assert whole is not None
    assert base is not None
    assert float(whole - base) == pytest.approx(float(torch.cat(found).mean()), rel=1e-3)
    assert float(sum(one for one in parts if one is not None)) == pytest.approx(float(whole), rel=1e-4)


def test_a_level_above_one_is_refused() -> None:
    with pytest.raises(InputError, match="between"):
        Settings(between=1.5)
