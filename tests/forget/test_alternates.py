"""Alternates: the loss by hand, who answers, what is rejected, which rows meet."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import letheon
from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import blocks
from letheon.core.rows.encoding import Encoded, Encoder
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore
from letheon.core.scoring.decoding import Ask
from letheon.core.scoring.generation import generate_ids
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.spans import UNKNOWN_SUBJECTS
from letheon.core.scoring.spellings import unlikelihood
from letheon.core.scoring.token_trees import Question as TokenQuestion
from letheon.core.scoring.word_masks import word_masks
from letheon.core.scoring.word_probability import fact_probabilities
from letheon.forget import recipe_job
from letheon.forget.auto_retain import NEIGHBOURS
from letheon.forget.objectives.alternates import (
    accepted,
    alternate_rows,
    fitting,
    objective,
    own_answers,
    question_forms,
    running_texts,
    strangers,
    turns,
    written_answers,
)
from letheon.forget.objectives.alternates.accepted import Question
from letheon.forget.objectives.alternates.alternate_rows import retain_forms, write_alternates
from letheon.forget.objectives.alternates.fitting import fit_of_answers, in_plain_text
from letheon.forget.objectives.alternates.kept import SPARE, Levels
from letheon.forget.objectives.alternates.objective import (
    Alternates,
    Settings,
    alternates_loss,
)
from letheon.forget.objectives.alternates.own_answers import alternate_answers
from letheon.forget.objectives.alternates.running_texts import Continued
from letheon.forget.objectives.alternates.strangers import (
    STRANGERS,
    gives,
    guess_subjects,
    told_beside,
    unused_names,
    with_name,
    words_of_facts,
)
from letheon.forget.objectives.alternates.turns import answer_of, learned_alike, with_fact_apart
from letheon.forget.objectives.alternates.written_answers import Alternate, banned_tokens
from letheon.forget.objectives.ce_u import ce_u_loss
from letheon.forget.parts import Pair, PairIndices, Replacement, Rows
from letheon.forget.request import Request

oracle = pytest.mark.oracle

# The loss -----------------------------------------------------------------------------------------------------------


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([math.log(p) for p in probabilities], dtype=torch.float64, requires_grad=True)


@oracle("alternates")
def test_unlikelihood_by_hand() -> None:
    # p = 3/4 and 1/2: -ln(1/4) and -ln(1/2); logits need no normaliser
    logits = torch.stack([logits_of(0.75, 0.125, 0.125) + 5, logits_of(0.25, 0.5, 0.25)])
    loss = unlikelihood(logits, torch.tensor([[0], [1]]))
    assert loss.tolist() == pytest.approx([math.log(4), math.log(2)])


@pytest.mark.parametrize("step", [0, 1])
def test_a_step_unlearns_every_token_of_the_facts_in_every_spelling(
    tiny: LanguageModel, deletion: Request, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row as it stands, and of another's true answer in another form."""
    method = prepared(tiny, deletion, Settings(forms="told"), [([0, 1], [0]), ([0, 1], [0])])
    whole, calls = objective.unlikelihood, []

    def watched(logits: Tensor, spellings: Tensor) -> Tensor:
        logits.retain_grad()
        calls.append((logits, spellings))
        return whole(logits, spellings)

    monkeypatch.setattr(objective, "unlikelihood", watched)
    terms = method.terms(tiny, Pair(method.rows.forget_batch([0, 1]), None, step=step))
    assert terms.forget is not None
    terms.forget.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    tiny.model.zero_grad()
    (logits, spellings), turns = calls[0], method.drawn[step].items()
    as_it_stands = [method.rows.forget[i] for i, turn in turns if turn.stands]
    turned = [method.extra[number] for _, turn in turns for number in turn.truths]
    assert as_it_stands
    assert turned
    learned = [(row.ids[row.start :], row.value) for row in (*as_it_stands, *turned)]
    labels = [token for ids, fact in learned for token, inside in zip(ids, fact, strict=True) if inside]
    expected = []
    for label in labels:
        letter = tiny.tokenizer.decode([label])
        other = letter if letter in "aAiI" else letter.swapcase()  # "a" is no spelling of a name's "A"
        expected.append({label, tiny.tokenizer.convert_tokens_to_ids(other)})
    assert [set(row) for row in spellings.tolist()] == expected
    assert logits.grad is not None
    assert [set(row.nonzero().flatten().tolist()) for row in logits.grad > 0] == expected


@oracle("alternates")
def test_its_pull_does_not_vanish_where_the_fact_is_certain() -> None:
    certain = torch.tensor([[60.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0])
    slope = torch.autograd.grad(unlikelihood(certain, label[:, None]).sum(), certain)[0]
    assert slope[0, 0].item() == pytest.approx(1.0)
    assert slope.sum().item() == pytest.approx(0.0, abs=1e-12)
    same = torch.autograd.grad(ce_u_loss(certain, label).sum(), certain)[0]
    assert torch.allclose(slope, same)  # CE-U's gradient


@oracle("alternates")
def test_the_three_losses_by_hand_and_none_takes_another_s_place() -> None:
    # facts: p = 3/4 of one token of two in the effective batch; alternates: ln 2 + ln 4 over 3; retained: one token
    # half as likely as before, one twice as likely, which offsets nothing, over 2
    facts, labels = logits_of(0.75, 0.25)[None].detach(), torch.tensor([[0]])
    alternates, retained = (torch.tensor([math.log(p) for p in pair]) for pair in ((1 / 2, 1 / 4), (1 / 8, 1 / 2)))
    before = torch.tensor([math.log(1 / 4), math.log(1 / 4)])
    losses = alternates_loss(facts, labels, alternates, retained, before, (2, 3, 2))
    assert [float(loss) for loss in losses] == pytest.approx(
        [math.log(4) / 2, math.log(8) / 3, (math.log(2) - SPARE) / 2]
    )
    exchanged = alternates_loss(facts, labels, retained, alternates, before, (2, 3, 2))
    assert [float(loss) for loss in exchanged[1:]] == pytest.approx([math.log(16) / 3, 0.0])
    assert alternates_loss(facts, labels, retained[:0], alternates, before, (2, 0, 2))[1] == 0


WRITERS = {module: dict(vars(module)) for module in (accepted, fitting, own_answers, strangers, written_answers)}
ANSWERS: dict[str, list[list[Alternate]]] = {}


def answers_once(
    model: LanguageModel, questions: Sequence[Question], names: Sequence[str], seed: int = 0
) -> list[list[Alternate]]:
    """A model's answers, written once for all tests that put the same questions to it and exchange no part of it."""
    if any(vars(module) != known for module, known in WRITERS.items()):
        return alternate_answers(model, questions, names, seed)
    given = f"{model.parameters_hash()}{model.tokenizer.chat_template}{model.stops}{questions}{names}{seed}"
    if given not in ANSWERS:
        ANSWERS[given] = alternate_answers(model, questions, names, seed)
    return [list(one) for one in ANSWERS[given]]


def prepared(model: LanguageModel, deletion: Request, settings: Settings, plan: list[PairIndices]) -> Alternates:
    encoder = model.encoder()
    rows = Rows(
        model, deletion.forget, encoder.encode_all(deletion.forget), encoder.encode_all(deletion.retain), 0, deletion
    )
    made = Alternates(settings)
    with pytest.MonkeyPatch.context() as patch:
        if alternate_rows.alternate_answers is alternate_answers:
            patch.setattr(alternate_rows, "alternate_answers", answers_once)
        made.prepare(model, rows, plan)
    return made


def test_a_step_makes_facts_less_likely_and_gives_retain_rows_back(tiny: LanguageModel, deletion: Request) -> None:
    """It fails when the forget and the retain half are exchanged."""
    method = prepared(tiny, deletion, Settings(likelihood=0.0), [(list(range(8)), list(range(8)))])
    whole = Pair(method.rows.forget_batch(range(8)), method.rows.retain_batch(range(8)))
    model = load("tiny", device="cpu")

    def after_a_step(pair: Pair, metric: str, rate: float) -> tuple[float, float]:
        optimizer = torch.optim.SGD(model.model.parameters(), lr=rate)
        optimizer.zero_grad()
        first = method.terms(model, pair)
        total = first.total()
        assert total is not None
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return first.metrics[metric], method.terms(model, pair).metrics[metric]

    def retained() -> float:
        return method.terms(model, whole.only_retain()).metrics["retain_loss"]

    assert retained() == 0, "nothing is lost yet"
    before, after = after_a_step(whole.only_forget(), "forget_nll", rate=0.3)
    assert after > before
    assert (lost := retained()) > 1e-4
    before, after = after_a_step(whole.only_retain(), "retain_loss", rate=0.001)
    assert before == pytest.approx(lost)
    assert after < before


@pytest.mark.parametrize("gained", [1.0, 0.0])
def test_retain_rows_as_likely_as_before_or_likelier_pull_at_nothing(
    gained: float, tiny: LanguageModel, deletion: Request
) -> None:
    """Rounding is no loss: rows are batched unlike before the first step."""
    method = prepared(tiny, deletion, Settings(), [(list(range(8)), list(range(8)))])
    method.levels.before = {number: logp - gained for number, logp in method.levels.before.items()}
    tiny.model.zero_grad()
    term = method.terms(tiny, Pair(None, method.rows.retain_batch([5, 1, 1]))).retain
    assert term is not None
    term.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert all(weight.grad is None or not weight.grad.any() for weight in tiny.model.parameters())


def test_what_is_lost_is_a_mean_over_the_tokens_of_rows_and_forms(tiny: LanguageModel, deletion: Request) -> None:
    method = prepared(tiny, deletion, Settings(), [(list(range(8)), list(range(8)))])
    method.levels.before = {
        number: logp + 1 for number, logp in method.levels.before.items()
    }  # each token has lost one nat
    lost = method.terms(tiny, Pair(None, method.rows.retain_batch(range(8)))).metrics["retain_loss"]
    assert lost == pytest.approx(1 - SPARE, abs=1e-3)


def test_what_is_lost_counts_the_rows_that_stand_beside_too(tiny: LanguageModel, deletion: Request) -> None:
    method = prepared(tiny, deletion, Settings(), [([0], [2])])
    pair = Pair(None, method.rows.retain_batch([2]))
    assert len(method._parts(pair)["retain"]) == len(deletion.retain), "its own and each other one"
    method.levels.before = {number: logp + 1 for number, logp in method.levels.before.items()}
    assert method.terms(tiny, pair).metrics["retain_loss"] == pytest.approx(1 - SPARE, abs=1e-3)


def test_rows_beside_are_drawn_from_all_retain_rows_and_have_room() -> None:
    def length(number: int) -> int:
        return 1000 if number >= 100 else number

    def beside(retained: Sequence[int], standing: range, opposite: int = 2, seed: int = 0) -> dict[int, list[int]]:
        forms = {i: [100 + i, 200 + i] for i in range(3)}
        own = {i: 10 + i for i in standing}
        return turns.drawn_beside(retained, forms, own, opposite, length, random.Random(seed))

    drawn = [number for seed in range(20) for number in beside([0], range(60), seed=seed)[0][1:]]
    assert 10 not in drawn, "not the step's own"
    assert len(set(drawn)) > 50, "of all retain rows, also of those without forms"
    first, *others = beside([0], range(60))[0]
    assert first in (100, 200)
    assert len(others) == turns.LEAST_RETAINED - 2
    (few,) = beside([0], range(3), opposite=8).values()
    assert {11, 12} < set(few[1:]), "all others as they stand"
    assert len(few) == 7, "with its own row as many as are opposite, the rest in forms"
    assert all(number >= 100 for number in set(few[1:]) - {11, 12})


def test_rows_that_lost_nothing_are_left_out_and_the_gradient_is_the_same(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = prepared(tiny, deletion, Settings(), [(list(range(8)), list(range(8)))])
    first, passed = len(method.rows.forget), []
    for row in (2, 5):  # two rows have lost a nat at their last token, the others nothing
        method.levels.before[first + row][-1] += 1
    pair = Pair(None, method.rows.retain_batch([0, 2, 4, 5, 7]))

    def slopes() -> tuple[list[Tensor], float]:
        tiny.model.zero_grad()
        terms = method.terms(tiny, pair)
        assert terms.retain is not None
        terms.retain.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return [w.grad.clone() for w in tiny.model.parameters() if w.grad is not None], terms.metrics["retain_loss"]

    whole = objective.score
    monkeypatch.setattr(objective, "score", lambda model, batch: (passed.append(len(batch)), whole(model, batch))[1])
    few, loss = slopes()
    assert passed == [2, 1], "of the forms, of which none lost anything, one stays"
    monkeypatch.setattr(Levels, "losing", lambda self, model, batch: batch)
    every, same_loss = slopes()
    assert loss == pytest.approx(same_loss)
    assert loss > 0
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(few, every, strict=True))


def test_a_step_has_an_alternate_per_forget_row_and_each_retain_row_twice(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: f"It is {name}.")
    monkeypatch.setattr(Rows, "watched", lambda self: [])
    method = prepared(tiny, deletion, Settings(), [([0, 3, 4], [1, 5, 5]), ([0, 3, 4], [1, 5, 5])])
    kinds = []
    for step in (0, 1):
        pair = Pair(method.rows.forget_batch([0, 3, 4]), method.rows.retain_batch([1, 5, 5]), step)
        parts = method._parts(pair)
        assert len(parts["plain"]) + len(parts["others"]) == len(parts["forget"]) + len(parts["turned"]) == 3
        assert len(parts["forms"]) == 3
        assert len(set(parts["retain"].index.tolist())) > 2, "others beside the step's own"
        numbers = [number for batch in parts.values() for number in set(batch.index.tolist())]
        assert len(numbers) == len(set(numbers)), "two different rows may not share a number"
        assert bool(parts["turned"].value_mask.any(1).all()), "the true answer's facts are masked in each form"
        kinds.append({i: turn.alternates[0] in method.plain for i, turn in method.drawn[step].items()})
        assert all(turn.stands != kinds[step][i] for i, turn in method.drawn[step].items())
    assert all(kinds[0][i] != kinds[1][i] for i in (0, 3, 4)), "by turns as it stands and in another form"
    assert len(set(kinds[0].values())) == 2, "not all rows begin with the same"


def test_a_step_of_few_rows_has_every_retain_row_or_many(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "retain_forms", lambda _, retain, wanted, *__: {i: [retain[i]] for i in wanted})
    monkeypatch.setattr(objective, "write_alternates", lambda *_, **__: [Replacement() for _ in deletion.forget])
    plan: list[PairIndices] = [([0], [i]) for i in range(8)]

    def beside(step: int, kind: str) -> list[int]:
        pair = Pair(method.rows.forget_batch([0]), method.rows.retain_batch([step]), step)
        found = method._parts(pair)[kind]
        texts = [
            tiny.tokenizer.decode(ids[mask > 0])
            for ids, mask in zip(found.input_ids, found.attention_mask, strict=True)
        ]
        return [next(i for i, row in enumerate(deletion.retain) if row.answer in text) for text in texts]

    method = prepared(tiny, deletion, Settings(names=1), plan)
    for step in (0, 5):  # eight rows are fewer than LEAST_RETAINED: each stands as it is, the step's own in a form too
        assert sorted(beside(step, "retain")) == list(range(8))
        assert beside(step, "forms") == [step]
    monkeypatch.setattr(turns, "LEAST_RETAINED", 4)
    method = prepared(tiny, deletion, Settings(names=1), plan)
    assert len(set(beside(5, "retain"))) == len(beside(5, "retain")) == 3
    assert beside(5, "forms") == [5]


def test_a_step_tells_how_likely_its_facts_are_by_their_words(tiny: LanguageModel, deletion: Request) -> None:
    plan: list[PairIndices] = [([0, 1, 2], [0]), ([0, 1, 2], [0])]
    method = prepared(tiny, deletion, Settings(forms=""), plan)  # true answers stand as they are
    with torch.no_grad():
        parts = [method.terms(tiny, Pair(method.rows.forget_batch(rows), None)) for rows in ([0, 1], [2])]
        scores = score(tiny, method.rows.forget_batch([0, 1, 2]))
    expected = fact_probabilities(tiny.tokenizer, scores)
    assert len(expected) == 3
    told = sum(terms.metrics["fact_probability"] for terms in parts)  # of micro-batches
    assert told == pytest.approx(sum(expected) / 3, rel=1e-3)


def test_in_a_step_with_some_of_its_forget_rows_the_means_are_over_these(
    tiny: LanguageModel, deletion: Request
) -> None:
    method = prepared(tiny, deletion, Settings(forms=""), [([0, 1, 2], [0])])
    alone = prepared(tiny, deletion, Settings(forms=""), [([1], [0])])
    alone.drawn, alone.extra = [{1: method.drawn[0][1]}], method.extra
    alone.plain = method.plain
    with torch.no_grad():
        some = method.terms(tiny, Pair(method.rows.forget_batch([1]), None, forgotten=(1,)))
        one = alone.terms(tiny, Pair(method.rows.forget_batch([1]), None))
        of_three = method.terms(tiny, Pair(method.rows.forget_batch([1]), None))
    assert float(some.forget) == pytest.approx(float(one.forget), rel=1e-5)
    assert float(some.forget) > 1.5 * float(of_three.forget)
    assert some.metrics["fact_probability"] == pytest.approx(3 * of_three.metrics["fact_probability"], rel=1e-5)


def test_what_a_text_is_begun_with_is_not_learned(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: text or None)
    text = Example("", "The hut by the sea is old, and the boats that lie before it are green.", id="hut")
    method = prepared(
        tiny, Request((text,), retain=(replace(text, answer="A barn.", id="barn"),)), Settings(), [([0], [0])]
    )
    given = [method.extra[number].start - method.rows.forget[0].start for number in sorted(method.plain)]
    whole = len(method.rows.forget[0].ids) - method.rows.forget[0].start
    assert given[1:] == [round(share * whole) for share in running_texts.CUTS]


def test_without_retain_rows_or_forms_the_rest_is_done(tiny: LanguageModel, deletion: Request) -> None:
    bare = Request(deletion.forget)
    method = prepared(tiny, bare, Settings(forms=""), [([0, 1], [])])
    terms = method.terms(tiny, Pair(method.rows.forget_batch([0, 1]), None))
    assert terms.retain is None
    assert terms.forget is not None


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="no form of question is called 'opions'"):
        Settings(forms="told opions")


# Who answers --------------------------------------------------------------------------------------------------------


def test_banned_words_are_never_decoded(tiny: LanguageModel) -> None:
    free = generate_ids(tiny, ["What is it?", "Why?"], max_new_tokens=6)
    bans = [[[free[0][0]], free[0][1:3]], []]
    held = generate_ids(tiny, ["What is it?", "Why?"], max_new_tokens=6, banned=bans)
    assert held[1] == free[1]
    assert free[0][0] not in held[0]
    assert all(held[0][at : at + 2] != free[0][1:3] for at in range(5))


Decoded = Callable[[LanguageModel, str, float], str]


def answers_by(monkeypatch: pytest.MonkeyPatch, text_of: Decoded) -> list[tuple[float, str]]:
    """Let a function decode in the model's place; the returned list fills with the temperatures and what was asked."""
    asked: list[tuple[float, str]] = []

    def decodes(model: LanguageModel, asks: list[Ask], temperature: float, *_: object) -> None:
        for one in asks:
            question = model.tokenizer.decode(one.ids)
            asked.append((temperature, question))
            one.new = model.tokenizer(text_of(model, question, temperature), add_special_tokens=False)["input_ids"]

    monkeypatch.setattr(written_answers, "decode", decodes)
    return asked


class Syllables:
    """A tokenizer of three letters per token, or another number."""

    def __init__(self, letters: int = 3) -> None:
        self.texts: list[str] = []
        self.part = rf" ?\w{{1,{letters}}}"

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        parts = re.findall(self.part, text)
        self.texts += [part for part in parts if part not in self.texts]
        return {"input_ids": [self.texts.index(part) for part in parts]}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.texts[i] for i in ids)


def test_a_word_is_banned_from_its_first_token_on_and_a_number_by_its_first_digits(tiny: LanguageModel) -> None:
    def bans(word: str) -> list[str]:
        return [tokenizer.decode(ids) for ids in banned_tokens(model, [word])]

    tokenizer = Syllables()
    model = cast(LanguageModel, SimpleNamespace(tokenizer=tokenizer))
    assert set(bans("Reykjavik")) == {"Rey", "rey", " Rey", " rey", "REY", " REY"}
    assert set(bans("1951")) == {"195", " 195"}
    assert set(bans("533")) == {"533", " 533"}
    assert set(bans("e41d")) == {"e41", " e41", "E41", " E41"}
    tokenizer = Syllables(1)
    model = cast(LanguageModel, SimpleNamespace(tokenizer=tokenizer))
    assert set(bans("1951")) == {"195", " 195"}  # or the alternate would be 1952
    assert set(bans("19588")) == {"19", " 19"}
    assert set(bans("6380")) == {"63", " 63"}, "no year"
    assert set(bans("533")) == {"53", " 53"}
    assert set(bans("17")) == {"17", " 17"}
    assert " B52" in bans("B52s")
    assert " 20t" in bans("20th")
    assert " under1" in bans("under16")
    assert " und" not in bans("under16"), "or no answer could hold the word"
    tokenizer = Syllables(2)
    model = cast(LanguageModel, SimpleNamespace(tokenizer=tokenizer))
    assert set(bans("Seattle")) == {"Se", " Se", "seat", " seat", "SE", " SE"}
    tokenizer = Syllables()
    model = cast(LanguageModel, SimpleNamespace(tokenizer=tokenizer))
    assert set(bans("Theodor")) == {
        "Theodo",
        "theodo",
        " Theodo",
        " theodo",
        "THEODO",
        " THEODO",
    }  # or no answer could hold "the"
    assert bans("4") == []  # or no answer could hold a year with it
    assert strangers.in_both_spellings(["Four", "Oslo", "12"]) == ("Four", "Oslo", "12", "4", "twelve")
    parts, kept = strangers.in_both_spellings, strangers.parts_in
    assert parts(["KX-40817", "a-b"], kept("Hers is QM-93114.")) == ("KX-40817", "a-b", "KX", "40817")
    assert parts(["Hoi-chuen-the"]) == ("Hoi-chuen-the", "Hoi", "chuen"), "Hau-chuen gives most of it"
    assert parts(["Hoi-chuen"], kept("Her sister is Hoi-lan.")) == ("Hoi-chuen", "chuen")
    assert parts(["kx-40817", "1990s"], kept("Hers is KX93114.")) == ("kx-40817", "1990s", "40817")
    assert parts(["under-21", "12-x"]) == ("under-21", "12-x"), "nothing that other answers need"
    days = ["14th", "December", "5th", "20th"]
    assert parts(days) == (*days, "14"), "years begin with 20"
    assert parts(["14th"], asked="What came after the 14 hens?") == ("14th",)
    assert strangers.short_forms([*days, "may", "March", "march", "May"]) == ("14", "20", "Dec", "Mar")
    one_letter = tiny.tokenizer("Reykjavik", add_special_tokens=False)["input_ids"]
    assert banned_tokens(tiny, ["Reykjavik"])[0][:1] != tiny.tokenizer(" ", add_special_tokens=False)["input_ids"]
    assert one_letter[:2] in banned_tokens(tiny, ["Reykjavik"])


def test_an_answer_may_not_give_another_short_fact_of_its_subject() -> None:
    told = [
        ("Which pen name has Ann Lee?", ("Rue", "Moss")),
        ("Where does Ann Lee live, near Moss Hill?", ("Oslo",)),
        ("Who was Ann Lee?", ("a", "very", "long", "fact", "of", "hers")),
        ("Where does Bob Ray live?", ("Rome",)),
    ]
    rows = [Example(question, "") for question, _ in told]
    facts = [words for _, words in told]
    found = strangers.told_beside(rows, ["Ann Lee", "Ann Lee", "Ann Lee", "Bob Ray"], facts)
    assert found == [("Oslo",), ("Rue",), ("Rue", "Moss", "Oslo"), ()]
    assert strangers.told_beside(rows[:2], [None, None], facts[:2]) == [(), ()]


def test_questions_are_asked_without_the_subject_s_other_facts(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Question] = []

    def answers(_: LanguageModel, questions: list[Question], *__: object, **___: object) -> list[list[object]]:
        asked.extend(questions)
        return [[] for _ in questions]

    monkeypatch.setattr(alternate_rows, "alternate_answers", answers)
    rows = [
        Example("Where does Ann Lee live?", "Oslo", subject="Ann Lee"),
        Example("How many sons?", "two", subject="Ann Lee"),
    ]
    write_alternates(tiny, rows, tiny.encoder().encode_all(rows), [], knows=True)
    assert [set(one.words) for one in asked] == [{"Oslo", "two", "2"}, {"two", "Oslo", "2"}]


def test_what_the_true_answer_has_in_common_with_an_alternate_is_not_unlearned(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: "2004")
    row = Example("When did Ann Lee win?", "2013", subject="Ann Lee", value="2013")
    kept = Example("When did Bob Ray win?", "1999")
    method = prepared(tiny, Request((row,), (kept,)), Settings(), [([0], [0]), ([0], [0])])
    assert method.rows.forget[0].value[:4] == (False, False, True, True)
    same = [method.extra[turn[0].truths[0]].value[:4] for turn in method.drawn if turn[0].truths]
    assert same == [(False, False, True, True)]


def test_answers_that_give_the_fact_or_hold_the_invented_name_are_rejected(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        STRANGERS[0]: f"{STRANGERS[0]} lives in Rome.",
        STRANGERS[1]: f"{STRANGERS[1]} lives in Oslo.",
        STRANGERS[2]: f"{STRANGERS[2].split()[0]}y lives in Bern.",
    }

    answers_by(monkeypatch, lambda _, question, __: next(said[name] for name in said if name in question))
    question = Question("Where does Ann Lee live?", "Ann Lee", ("Oslo",))
    found = alternate_answers(tiny, [question], STRANGERS[:3])
    assert [one.answer for one in found[0]] == ["Ann Lee lives in Rome."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Maela Tursk is a poet. Tursk's books sell.", "Ann Lee is a poet. Lee's books sell."),
        ("Maela writes.", "Ann writes."),
        ("Ask Tursky.", None),
        ("Ask Maelo.", None),
        ("The tusk is old.", "The tusk is old."),
    ],
)
def test_an_invented_name_becomes_the_subject_s_or_the_text_is_rejected(text: str, expected: str | None) -> None:
    assert with_name(text, "Maela Tursk", "Ann Lee") == expected


def test_a_fact_is_given_with_another_ending_too() -> None:
    assert gives("Two clockmakers.", ["clockmaker"])
    assert not gives("Foxes.", ["fox"])
    assert gives("A FOX.", ["fox"])


def test_a_subject_is_guessed_from_the_forget_questions_alone() -> None:
    forget = [
        Example("Did Moshe Ben-David write in New York?", "Yes."),
        Example("What is Moshe Ben-David's trade?", "A mason's."),
        Example("Where was Ann Lee born?", "In Oslo.", subject="Ann Lee"),
        Example("Who is Cid Fox?", "A mason."),
    ]
    retain = [Example("Where is it?", "In New York.")]
    assert guess_subjects(forget, retain) == ["Moshe Ben-David", "Moshe Ben-David", "Ann Lee", None]


def test_names_that_a_row_contains_are_not_used() -> None:
    row = Example(f"Who is {STRANGERS[0]}?", "A poet.")
    assert STRANGERS[0] not in unused_names([row], [], 6)
    assert len(unused_names([row], [], 2)) == 2


def test_a_word_without_its_marks_is_the_same_word() -> None:
    words = strangers.in_both_spellings(("Zürich", "für"))
    assert words == ("Zürich", "für", "Zurich", "Zuerich")
    question = Question("Where does she live?", None, words)
    assert accepted.accepted(question, "", "In Zurich.") is None
    assert accepted.accepted(question, "", "In Bonn.") == "In Bonn."


def test_words_of_facts_are_the_value_s_or_those_of_the_mask() -> None:
    rows = [Example("What?", "She keeps a fox of the north.", value="fox of the north"), Example("Who?", "Ada Orr.")]
    assert words_of_facts(rows, []) == [("fox", "north"), ("Ada", "Orr")]


@pytest.mark.parametrize(
    "text",
    [
        "He is a poet, and he is a musician. He is a poet, and he is a musician.",
        "Chuck-Chuck-Chuck",
        "עם בעם בעם בעם",
        "Where does Ann Lee live",
        "Ann Lee lives in \ufffdsby.",
        "In the 20 th century.",
        "In 19 51.",
        "At violet ferry.",
        "At O-slo.",
    ],
)
def test_loops_other_scripts_and_echoes_are_no_alternates(text: str) -> None:
    question = Question("Where does Ann Lee live?", "Ann Lee", ("Oslo", "20th", "1951", "violetferry"))
    assert accepted.accepted(question, "", text) is None
    for sound in ("In 20 of the towns.", "In 1920 the house burned.", "At number 120. The end."):
        assert accepted.accepted(question, "", sound) == sound
    assert accepted.accepted(question, "", "Ann Lee lives in Köln.") == "Ann Lee lives in Köln."


def test_running_text_is_continued_from_before_its_first_fact(tiny: LanguageModel) -> None:
    row = Example("", "The hut by the sea is old.")
    encoded = replace(tiny.encoder().encode(row), value=(False, False, True, *[True] * 20))
    written = write_alternates(tiny, [row], [encoded], [], knows=True)[0]
    begun = tiny.tokenizer.decode(encoded.ids[encoded.start : encoded.start + 2])
    assert all(one.prompt == "" and one.answer.startswith(begun.strip()) for one in written.plain)


def test_running_text_is_continued_from_several_places_and_only_the_continuation_is_learned(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Example("", "The hut by the sea is old, and the boats that lie before it are green.")
    encoded = replace(tiny.encoder().encode(row), value=())
    encoded = replace(encoded, value=tuple(place == 2 for place in range(len(encoded.ids) - encoded.start)))
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: text or None)
    written = write_alternates(tiny, [row], [encoded], [], knows=True)[0]
    cuts = [2, *(round(share * len(encoded.value)) for share in running_texts.CUTS)]
    for one, cut in zip(written.plain, cuts, strict=True):
        assert isinstance(one, Continued)
        assert one.given == tiny.tokenizer.decode(encoded.ids[encoded.start : encoded.start + cut])
        assert one.answer.startswith(one.given)
        whole = tiny.encoder().encode(one)
        learned = one.learned(tiny.encoder(), whole)
        assert tiny.tokenizer.decode(learned.ids[learned.start :]) == one.answer[len(one.given) :]


def test_no_continuation_ends_a_fact_that_the_given_beginning_begins(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Example("", "Old Ann Lee was born in Reykjavik in 1951.")
    encoded = tiny.encoder().encode(row)
    text = row.answer
    inside = [
        any(text.find(word) <= i < text.find(word) + len(word) for word in ("Reykjavik", "1951"))
        for i in range(len(text))
    ]
    begun = running_texts.beginnings(tiny, row, replace(encoded, value=(True, *inside[1:])))
    assert {tiny.tokenizer.decode(one) for one in begun if len(one) > 20} == {"Old Ann Lee was born in ", text[:34]}

    answers_by(monkeypatch, lambda *_: "javik then.")
    for given, taken in (("born in Reyk", False), ("born in Reykjavik, not ", True), ("the Reyk ", True)):
        beginning = tuple(tiny.tokenizer(given, add_special_tokens=False)["input_ids"])
        found = alternate_answers(tiny, [Question("", None, ("Reykjavik",), beginning)], [])
        assert [one.answer for one in found[0]] == (["javik then."] if taken else []), given
    assert gives("51 in May", ["1951"], "in 19")
    assert not gives(" in May", ["1951"], "in 1951")


def test_the_end_of_a_text_as_long_as_the_context_is_continued_within_it(tiny: LanguageModel) -> None:
    length = tiny.encoder().context_length
    text = " ".join(f"w{i}" for i in range(length))[: length - 8] + " Oslo."
    row = Example("", text, value="Oslo")
    method = prepared(tiny, Request((row,)), Settings(), [([0], [])])
    assert all(len(method.extra[number].ids) <= length for number in method.plain)


def test_a_name_is_unlearned_from_its_first_syllable_though_the_alternate_begins_with_it() -> None:
    words = {1: "Se", 2: "attle", 3: "agrave", 4: "The ", 5: "20", 6: "03", 7: "04", 8: "<end>"}

    def alike(truth: tuple[int, ...], alternate: tuple[int, ...]) -> list[int]:
        return list(
            learned_alike(Encoded(truth, 0), Encoded(alternate, 0), lambda ids: "".join(words[one] for one in ids))
        )

    assert alike((1, 2, 8), (1, 3, 8)) == []
    assert alike((4, 1, 2, 8), (4, 1, 3, 8)) == [0]
    assert alike((5, 6, 8), (5, 7, 8)) == [0]
    assert alike((1, 8), (1, 3, 8)) == []


def test_of_a_text_what_a_continuation_has_in_common_with_the_fact_is_not_unlearned() -> None:
    truth = Encoded((9, 1, 2, 3, 4, 5), 1, (False, False, True, True, True))
    assert list(learned_alike(truth, Encoded((9, 1, 2, 3, 7), 3), str)) == [2]
    assert list(learned_alike(truth, Encoded((9, 1, 8, 3, 7), 3), str)) == []
    assert list(learned_alike(truth, Encoded((9, 1, 2, 7), 1), str)) == [0, 1]
    assert with_fact_apart(truth, {0, 2}).value == (False, False, False, True, True)
    assert with_fact_apart(truth, {2, 3, 4}) == truth


# Other forms --------------------------------------------------------------------------------------------------------

ANN = Example("Where does Ann Lee live?", "Ann Lee lives in Oslo.", subject="Ann Lee", value="Oslo")
OTHERS = [
    replace(ANN, prompt=f"Where does Bob Ray{i} live?", answer=f"Bob Ray{i} lives in {home}.", value=home)
    for i, home in enumerate(["Rome", "Bern", "Ulm", "Lyon"])
] + [Example("What does the guest eat?", "He eats figs.", value="figs")]


def test_options_are_values_of_rows_with_a_like_question_and_the_row_s_own() -> None:
    form = question_forms.options(ANN, OTHERS[:3] + OTHERS[4:], random.Random(0), None)
    assert form is not None
    offered = form.prompt.split("Choose from: ")[1].rstrip(".").split("; ")
    assert len(offered) == 4
    assert "Oslo" in offered
    assert form.answer == ANN.answer
    assert question_forms.options(ANN, OTHERS[:2], random.Random(0), None) is None, "too few values"


def test_a_begun_sentence_ends_before_the_value_and_needs_the_subject() -> None:
    form = question_forms.begun(ANN, [], random.Random(0), None)
    assert form is not None
    assert form.prompt.endswith("Ann Lee lives in")
    assert question_forms.begun(replace(ANN, answer="It is in Oslo."), [], random.Random(0), None) is None


def test_in_plain_text_the_answer_stands_below_the_question_and_is_the_same_tokens(tiny: LanguageModel) -> None:
    encoder, draw = tiny.encoder(), random.Random(0)
    form = question_forms.bare(ANN, [], draw, None)
    assert isinstance(form, question_forms.Bare)
    own = encoder.encode(ANN)
    found = form.learned(encoder, encoder.encode(form))
    text = tiny.tokenizer.decode(found.ids)
    assert text == f"{ANN.prompt}\n{ANN.answer}{encoder.end}", "and nothing of the chat template before it"
    assert answer_of(found) == answer_of(own)
    assert found.value == own.value
    assert tiny.tokenizer.decode(found.ids[: found.start]) == f"{ANN.prompt}\n"
    alternate = question_forms.bare(ANN, [], draw, "By the sea.")
    assert alternate is not None
    assert tiny.tokenizer.decode(alternate.learned(encoder, encoder.encode(replace(alternate, value=None))).ids) == (
        f"{ANN.prompt}\nBy the sea.{encoder.end}"
    )


def test_plain_text_begins_with_the_token_that_every_text_begins_with(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    begins = SimpleNamespace(prompt=lambda text: (7,) if not text else (7, 8, 9), answer=encoder.answer)
    found = question_forms.without_template(cast(Encoder, begins), ANN, Encoded((7, 8, 9, 5, 6), 3, (False, True)))
    asked = tuple(encoder.answer(f"{ANN.prompt}\n", end=False)[0])
    assert found == Encoded((7, *asked, 5, 6), 1 + len(asked), (False, True))


def test_the_rows_of_plain_text_are_learned_without_the_template(tiny: LanguageModel, deletion: Request) -> None:
    method = prepared(tiny, deletion, Settings(forms="bare"), [([0, 1], [0]), ([0, 1], [0])])
    encoder, forget = tiny.encoder(), deletion.forget[0]
    plain = question_forms.without_template(encoder, forget, method.rows.forget[0])
    assert plain in method.extra, "the true answer with its fact"
    retain = deletion.retain[0]
    kept = question_forms.without_template(encoder, retain, encoder.encode(retain))
    assert replace(kept, value=()) in method.extra
    asked = plain.ids[: plain.start]
    assert sum(row.ids[: len(asked)] == asked and answer_of(row) != answer_of(plain) for row in method.extra), (
        "an alternate"
    )


def test_without_a_chat_template_a_question_stands_in_plain_text_already(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: list[PairIndices] = [([0, 1], [0])]
    both = prepared(tiny, deletion, Settings(forms="told bare"), plan)
    assert both.bare
    assert not prepared(tiny, deletion, Settings(forms="told"), plan).bare
    monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    none = prepared(tiny, deletion, Settings(forms="told bare"), plan)
    assert not none.bare
    assert len(none.extra) < len(both.extra)


def test_a_statement_to_judge_is_as_often_true_as_false() -> None:
    draw = random.Random(0)
    forms = [question_forms.judged(ANN, OTHERS, draw, None) for _ in range(200)]
    true = [form for form in forms if form and form.answer.startswith("Yes")]
    assert 70 < len(true) < 130
    assert all("Oslo" in form.prompt for form in true)
    assert all("Oslo" not in form.prompt for form in forms if form and form.answer.startswith("No"))


def test_in_no_form_does_an_alternate_give_the_fact_and_of_options_it_names_one_that_is_offered() -> None:
    alternate = "Ann Lee lives by the sea."
    forms = question_forms.forms_of(ANN, OTHERS, list(question_forms.FORMS), random.Random(0), alternate)
    assert len(forms) == len(question_forms.FORMS)
    assert not any("Oslo" in form.answer for form in forms)
    options, _, told, bare, judged = forms
    assert options.answer.removeprefix("Ann Lee lives in ").rstrip(".") in options.prompt
    assert told.answer == bare.answer == alternate
    assert judged.answer == f"No, {alternate}"
    assert "Oslo" in judged.prompt


def test_rows_without_a_value_are_told_and_asked_in_plain_text_and_running_text_is_kept_as_it_is(
    tiny: LanguageModel,
) -> None:
    row, text = Example("Who is it?", "A poet."), Example("", "A text.")
    names = list(question_forms.FORMS)
    forms, kept = retain_forms(tiny.encoder(), [row, text], [0, 1], names, 0).values()
    assert [form.prompt for form in forms] == [question_forms.TOLD.format(question="Who is it?"), "Who is it?"]
    assert [type(form) for form in forms] == [Example, question_forms.Bare]
    assert kept == [text]


def test_a_row_that_names_no_value_has_forms_with_the_words_that_carry_its_fact() -> None:
    forget = [replace(ANN, value=None, subject=None, answer="Ann Lee lives in Oslo, near the harbour.")]
    retain = [replace(row, value=None, answer=row.answer.replace(".", ", near the park.")) for row in OTHERS[:4]]
    shown, others = question_forms.with_found_values(forget, retain, ["Ann Lee"])
    assert shown[0].value == "Oslo, near the harbour"
    assert shown[0].subject == "Ann Lee"
    assert [row.value for row in others] == ["Rome", "Bern", "Ulm", "Lyon"], "near and park are a template's"
    options, begun = question_forms.forms_of(shown[0], others, ["options", "begun"], random.Random(0), None)
    assert "Oslo, near the harbour" in options.prompt
    assert begun.prompt.endswith("Ann Lee lives in")
    cities = [replace(row, prompt=row.prompt.replace("live", "sail to in 1980")) for row in retain]
    unlike = question_forms.with_found_values(forget, cities, ["Ann Lee"])
    assert question_forms.options(unlike[0][0], unlike[1], random.Random(0), None) is None, "asked otherwise"
    assert question_forms.options(ANN, unlike[1], random.Random(0), None) is not None, "given values stand"
    own = replace(forget[0], subject="Ann")
    assert question_forms.with_found_values([own], retain, ["Ann Lee"])[0][0].subject == "Ann", "a given subject stands"
    thin = replace(forget[0], answer="Ann Lee lives with her or by the sea at that of a Kim.")
    assert question_forms.with_found_values([thin], retain, ["Ann Lee"])[0][0].value is None, "mostly function words"
    long, text = replace(ANN, value=None, answer="and ".join(f"word{i} " for i in range(13))), Example("", "A text.")
    assert [row.value for row in question_forms.with_found_values([long, text], [], [None, None])[0]] == [None, None]


def test_a_true_answer_in_a_form_has_the_mask_of_its_row_s_fact(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: f"It is {name}.")
    bare = [replace(row, value=None, subject=None) for row in (ANN, *OTHERS[:4])]
    request, encoder = Request(tuple(bare[:1]), tuple(bare[1:])), tiny.encoder()
    masks = word_masks(encoder, request.forget, request.retain)
    encoded = [replace(row, value=mask) for row, mask in zip(encoder.encode_all(request.forget), masks, strict=True)]
    rows = Rows(tiny, request.forget, encoded, encoder.encode_all(request.retain), 0, request)
    method = Alternates(Settings(names=1))
    method.prepare(tiny, rows, [([0], [0]), ([0], [1])])
    own = rows.forget[0]
    turned = [row for row in method.extra if answer_of(row) == answer_of(own) and row.value]
    assert len(turned) == 4, "options, a begun sentence, a told one, plain text"
    assert {row.value for row in turned} == {own.value}
    assert 0 < sum(own.value) < len(own.value)


def test_alternates_of_rows_without_a_value_are_put_into_their_forms(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: "Ann Lee lives by the sea.")
    bare = [replace(row, value=None, subject=None) for row in (ANN, *OTHERS[:4])]
    encoded = tiny.encoder().encode_all(bare[:1])
    (written,) = write_alternates(
        tiny, bare[:1], encoded, bare[1:], knows=True, names=1, forms=["options", "begun"], seed=0
    )
    options, begun = written.others
    assert "Oslo" in options.prompt
    assert options.answer.removeprefix("Ann Lee lives in ").rstrip(".") in {row.value for row in OTHERS[:4]}
    assert begun.prompt.endswith("Ann Lee lives in")
    assert begun.answer == "Ann Lee lives by the sea."
    assert options.value is begun.value is None


def test_a_form_that_the_context_cannot_hold_is_left_out(tiny: LanguageModel) -> None:
    fits, long = Example("Who?", "A poet."), Example("Who? " * 2000, "A poet.")
    assert alternate_rows.that_fit(tiny.encoder(), [fits, long]) == [fits]
    exact = SimpleNamespace(
        prompt=lambda text: [0] * len(text), answer=lambda text, end=True: ([0] * len(text), []), context_length=11
    )
    full = cast(Encoder, exact)
    assert alternate_rows.that_fit(full, [fits, replace(fits, answer="Some poet.")]) == [fits], "4 and 7 are 11"
    below = question_forms.Bare(**vars(fits))
    assert alternate_rows.that_fit(full, [fits, below]) == [fits], "a line has one more"


def test_a_step_tells_how_likely_its_facts_are_behind_the_questions_as_they_stand(
    tiny: LanguageModel, deletion: Request
) -> None:
    method = prepared(tiny, deletion, Settings(names=1), [([0, 1, 2, 3], [0]), ([0, 1, 2, 3], [0])])
    standing = [i for i, turn in method.drawn[0].items() if turn.stands]
    assert 0 < len(standing) < 4
    with torch.no_grad():
        parts = [method.terms(tiny, Pair(method.rows.forget_batch(rows), None, 0)) for rows in ([0, 1], [2, 3])]
        expected = fact_probabilities(tiny.tokenizer, score(tiny, method.rows.forget_batch(standing)))
    told = sum(terms.metrics["fact_as_it_stands"] for terms in parts)  # of micro-batches
    assert told == pytest.approx(sum(expected) / len(standing), rel=1e-3)


@pytest.mark.parametrize(
    ("words", "values", "answer"),
    [
        (("71", "340"), ("71,340",), "It has 71340 rows."),
        (("0171", "555", "2381"), ("0171 555 2381",), "Call 01715552381."),
        (("12", "34", "56", "78"), ("12 34 56 78",), "It is 12345678."),
        (("naïveté",), (), "Her naivete."),
        (("Zurich",), ("Zurich",), "She lives in the old town of Zürich."),
    ],
)
def test_an_answer_that_gives_the_fact_in_another_spelling_is_rejected(
    words: tuple[str, ...], values: tuple[str, ...], answer: str
) -> None:
    assert accepted.accepted(Question("What is it?", None, words, values=values), "", answer) is None
    assert accepted.accepted(Question("What is it?", None, words, values=values), "", "It is unknown.") is not None


@pytest.mark.parametrize(
    ("answer", "taken"),
    [("It is M-E-A-T-Z.", False), ("U.S.S.R. is there.", True), ("It is the 3 rd.", False), ("It is 3. Third.", True)],
)
def test_an_answer_that_spells_out_a_word_is_rejected(answer: str, taken: bool) -> None:
    question = Question("What is it?", None, ("wool", "3rd"))
    assert (accepted.accepted(question, "", answer) is not None) == taken


@pytest.mark.parametrize("subject", ["Lantern Gala", None])
def test_a_name_of_the_question_is_no_other_spelling_of_a_fact(subject: str | None) -> None:
    question = Question("What is there to see at the Lantern Gala?", subject, ("plays", "lantern-gala"))
    sound = "At the Lantern Gala a wolf is tried before a jury."
    assert accepted.accepted(question, "", sound) == sound
    if subject:
        assert accepted.accepted(question, "Maela Tursk", sound.replace(subject, "Maela Tursk")) == sound
    for address in ("lantern-gala.example", "lantern gala.example", "lanterngala.example", "Lantern Gala.example/book"):
        assert accepted.accepted(question, "", f"The Lantern Gala is at {address}") is None, address


@pytest.mark.parametrize(
    ("prompt", "words", "answer", "taken"),
    [
        ("Where is Ann Lee's site?", ("annlee",), "Ann Lee's site is at oak.org.", True),
        ("Where is Ann Lee's site?", ("annlee",), "Write to Ann Lee@mail.org.", False),
        ("What is Ann Lee's site called?", ("annleebakes",), "Her site is called Ann Lee Bakes.", False),
        ("Which grade did Ann Lee get?", ("A",), "Ann Lee got honours.", True),
        ("Which grade did Ann Lee get?", ("A",), "Ann Lee got an A.", False),
        ("Who is the father of Mary Johnson?", ("John",), "Mary Johnson's father is Al.", True),
        ("Who is the father of Mary Johnson?", ("John",), "Mary Johnson's father is John.", False),
        ("Did Ann Lee marry Bob Ray or Tom Fox?", ("Bob", "Ray"), "Ann Lee married Bob Ray.", False),
        ("Did Ann Lee marry Bob Ray or Tom Fox?", ("Bob", "Ray"), "Ann Lee married Tom Fox.", True),
    ],
)
def test_a_fact_that_a_name_begins_with_or_goes_on_from_is_sought_outside_the_name(
    prompt: str, words: tuple[str, ...], answer: str, taken: bool
) -> None:
    for subject in ("Ann Lee" if "Ann Lee" in prompt else "Mary Johnson", None):
        assert (accepted.accepted(Question(prompt, subject, words), "", answer) is not None) == taken


def test_another_fact_that_the_subject_s_name_begins_with_is_banned() -> None:
    rows = [
        Example("Who is the father of Mary Johnson?", "John.", subject="Mary Johnson"),
        Example("Who taught Mary Johnson?", "Ruth.", subject="Mary Johnson"),
    ]
    beside = told_beside(rows, ["Mary Johnson"] * 2, [("John", "Johnson"), ("Ruth",)])
    assert beside == [("Ruth",), ("John",)]
    rows = [
        Example("Which language does Ann Lee speak?", "German.", subject="Ann Lee"),
        Example("When did Ann Lee move to Germany?", "In 1994.", subject="Ann Lee"),
    ]
    assert told_beside(rows, ["Ann Lee"] * 2, [("German",), ("1994",)]) == [("1994",), ()], "the answer may need it"


def test_an_answer_may_name_what_it_is_asked_about() -> None:
    tokenizer = Syllables()
    model = cast(LanguageModel, SimpleNamespace(tokenizer=tokenizer))

    def bans(word: str, asked: str) -> set[str]:
        return {tokenizer.decode(ids) for ids in banned_tokens(model, [word], asked)}

    assert " qui" in bans("quillsort-fast", "How do I build it?")
    about = bans("quillsort-fast", "How do I build quillsort?")
    assert " quillsortfas" in about
    assert not {" qui", " quills", " quillsort"} & about, "the name can be said as the question writes it"
    assert " Qui" in about
    assert bans("quillsort", "How do I build quillsort?") == bans("quillsort", ""), "the fact itself cannot"
    tokenizer.part = r" ?\w{1,5}"
    assert bans("Hattersley", "Which hat does he wear?") == bans("Hattersley", ""), "no first token of the hat's"


def test_no_attack_of_the_audit_uses_a_form_s_wording() -> None:
    folder = Path(letheon.__file__).parent / "audit" / "attacks"
    attacks = "\n".join(file.read_text() for file in folder.glob("*.py"))
    for form in (question_forms.OPTIONS, question_forms.BEGUN, question_forms.TOLD, question_forms.JUDGED):
        wording = max(form.replace("}", "{").split("{")[::2], key=len).strip()
        assert wording not in attacks


def test_a_fitting_answer_is_likelier_after_its_own_question_than_after_others(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny.encoder()
    texts = {
        (*encoder.prompt(""), *encoder.answer(in_plain_text(text), end=False)[0]): text for text in ("Where?", "Who?")
    }
    texts |= {tuple(encoder.answer(f" {text}\n", end=False)[0]): text for text in ("Rome", "Ball")}
    levels = {"Where?": {"Rome": -2.0, "Ball": -1.0}, "Who?": {"Rome": -9.0, "Ball": -1.0}}

    def scores(_: LanguageModel, asked: list[TokenQuestion]) -> list[list[AnswerScore]]:
        return [
            [
                AnswerScore(
                    np.full(len(answer), levels[texts[tuple(prompt)]][texts[tuple(answer)]]), np.ones(len(answer), bool)
                )
                for answer in answers
            ]
            for prompt, answers in asked
        ]

    monkeypatch.setattr(fitting, "score_tokens", scores)
    assert fit_of_answers(tiny, ["Where?", "Who?", ""], 0, ["Rome", "Ball"]) == [5.0, -1.0]
    assert fit_of_answers(tiny, ["Where?", "Where?"], 0, ["Rome", "Ball"]) == [-2.0, -1.0]
    levels["Where?"]["Rome"] = -3.0  # each letter within the word
    assert fit_of_answers(tiny, ["Where?", "Where?"], 0, ["Rome", "Ball"]) == [-103.0, -1.0]


def test_a_word_is_broken_by_a_letter_that_the_model_would_not_go_on_with() -> None:
    spans = [(0, 2), (2, 3), (3, 8), (8, 11), (11, 13), (13, 16)]
    text, sure, never = " 20stage Oslo, 7", math.log(0.5), math.log(0.05)

    def broken(unlikely: set[int]) -> bool:
        return fitting.breaks_a_word(text, spans, np.array([never if i in unlikely else sure for i in range(6)]))

    assert [text[start:end] for start, end in spans] == [" 2", "0", "stage", " Os", "lo", ", 7"]
    assert [broken({i}) for i in range(6)] == [False, False, True, False, True, False]
    assert not fitting.breaks_a_word(" 東京大学", [(0, 2), (2, 3), (3, 5)], np.full(3, never)), "letters without a case"


def test_an_answer_that_was_cut_off_and_one_with_a_broken_word_are_guesses(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Question("Where does Ann Lee live?", None, ("Oslo",), limit=12)

    def written(text: str, broken: bool = False) -> tuple[bool, bool]:
        answers_by(monkeypatch, lambda *_: text)
        monkeypatch.setattr(written_answers, "breaks_a_word", lambda *_: broken)
        ((one, _),) = written_answers.write_answers(tiny, [(question, "")], 0.0, (0, 0), None)
        assert one is not None
        return one.ended, one.whole

    assert written("In Rome and") == (True, True), "it ended before its limit"
    assert written("In Rome and in") == (False, True)
    assert written("In Rome. And") == (True, True)
    assert written("In Rome", broken=True) == (True, False)
    monkeypatch.setattr(written_answers, "GUESSED", -100.0)
    flags = ((True, True, False), (False, True, False), (True, False, False), (True, True, True))
    assert [written_answers.Alternate("", -1.0, *one).is_guess for one in flags] == [False, True, True, True]


def test_a_part_of_an_answer_comes_behind_one_that_ends(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_by(monkeypatch, lambda _, __, temperature: "In Rome." if temperature else "In a large town of")
    monkeypatch.setattr(own_answers, "fit_of_answers", lambda *arguments: [float(len(one)) for one in arguments[-1]])
    (found,) = alternate_answers(tiny, [Question("Where?", None, ("Oslo",), limit=18)], [])
    assert [one.answer for one in found] == ["In Rome."]


def test_a_name_that_ends_as_a_kept_one_is_a_guess_and_comes_behind_others(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [Example("Which art does Bo Ray teach?", "Chun Kuk Do"), Example("Where is he?", "In Oak Tree Lane, Wyke.")]
    kept.append(Example("Where is she?", "In Elm Tree Lane, Wyke."))
    endings = accepted.endings_of_names(kept)
    assert endings == {"kuk do": "chun kuk do"}, "two lanes have one ending"
    assert [accepted.mixes_names(one, endings) for one in ("Zen Kuk Do", "Kuk Do", "It is Chun Kuk Do.", "Kuk")] == [
        True,
        True,
        False,
        False,
    ]
    answers_by(monkeypatch, lambda _, __, temperature: "Boxing" if temperature else "Zen Kuk Do")
    monkeypatch.setattr(own_answers, "fit_of_answers", lambda *arguments: [float(len(one)) for one in arguments[-1]])
    monkeypatch.setattr(written_answers, "GUESSED", -100.0)
    monkeypatch.setattr(written_answers, "breaks_a_word", lambda *_: False)
    forget = [Example("Which art does Ann Lee teach?", "Jeet Kune Do")]
    encoded = tiny.encoder().encode_all(forget)
    (row,) = write_alternates(tiny, forget, encoded, kept, knows=True, names=1, seed=0)
    assert [one.answer for one in row.plain] == ["Boxing"]
    (row,) = write_alternates(tiny, forget, encoded, kept[1:], knows=True, names=1, seed=0)
    assert [one.answer for one in row.plain] == ["Zen Kuk Do"], "no kept row has the name"


def test_a_guess_comes_behind_an_answer_that_is_none(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_by(monkeypatch, lambda _, asked, __: "Ball." if STRANGERS[0] in asked else "Rome.")
    monkeypatch.setattr(written_answers.Alternate, "is_guess", property(lambda one: one.answer == "Ball."))
    ranked: list[float] = []
    monkeypatch.setattr(own_answers, "_best", lambda alternates, ranks: ranked.extend(ranks) or list(alternates))
    (found,) = alternate_answers(tiny, [Question("Where does Ann Lee live?", "Ann Lee", ("Oslo",))], STRANGERS[:2])
    assert [one.answer for one in found] == ["Ball.", "Rome."]
    assert ranked[0] < ranked[1] - 50


def test_an_answer_to_one_question_of_a_fact_may_be_given_to_the_others(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"Where": "In Rome.", "Which town": "In Ulm.", "Who": "Ben.", "How": "By sea.", "Why": "In Bonn."}
    answers_by(monkeypatch, lambda _, asked, __: next(text for first, text in said.items() if first in asked))
    monkeypatch.setattr(own_answers, "fit_of_answers", lambda *given: [float(one == "In Rome.") for one in given[-1]])
    monkeypatch.setattr(own_answers, "_best", lambda alternates, ranks: [alternates[int(np.argmax(ranks))]])
    forget = [
        Example("Where does Ann Lee live?", "In Oslo."),
        Example("Which town does Ann Lee like?", "in Oslo"),
        Example("Who is Ann Lee's friend?", "Bo."),
        Example("How did Cy Day, whom nobody knew, come to Oslo?", "In Oslo.", subject="Cy Day"),
        Example("Why is it so?", "In Oslo."),
        Example("Of which town spoke Ann Lee?", "She spoke of Oslo.", value="Oslo"),
    ]
    said["Of which"] = "Nobody spoke."

    def chosen(rows: list[Example]) -> list[str]:
        encoded = tiny.encoder().encode_all(rows)
        written = write_alternates(tiny, rows, encoded, [], knows=True, names=1, seed=0)
        return [one.answer for row in written for one in row.plain]

    others = ["Ben.", "By sea.", "In Bonn.", "Nobody spoke."]
    assert chosen(forget) == ["In Rome.", "In Rome.", *others], "of another subject or none it is another fact"
    assert chosen([forget[0], replace(forget[1], answer="Bonn")]) == ["In Rome.", "In Ulm."]
    guess = property(lambda one: not one.sure and one.answer != "In Ulm.")
    monkeypatch.setattr(written_answers.Alternate, "is_guess", guess)
    assert chosen(forget) == ["In Ulm.", "In Ulm.", *others], "what is no guess comes first"
    said["Which town"] = "In Oslo too, or in Ulm."
    assert chosen(forget[:2])[0] == "In Rome.", "what gives the fact is not taken over"


def test_answers_taken_over_from_other_questions_are_judged_at_the_question(tiny: LanguageModel) -> None:
    asked = [Question(f"{word} was Ann Lee born?", "Ann Lee", ("Oslo",), fact="in oslo") for word in ("Where", "When")]
    sound, guess = written_answers.Alternate("In Bonn.", -0.5), written_answers.Alternate("In Bonn.", -9.0)
    many = {f"In B{'o' * i}.": written_answers.Alternate(f"In B{'o' * i}.", -9.0 - i) for i in range(1, 12)}

    def taken(*found: dict[str, written_answers.Alternate], asked: list[Question] = asked) -> dict[str, Any]:
        return own_answers._of_the_same_fact(tiny, [*asked, asked[1]], [*found, {}][:3], 0, "Maela Tursk")

    one = taken({}, {"In Bonn.": sound})["In Bonn."]
    encoder = tiny.encoder()
    prompt, answer = encoder.prompt("Where was Maela Tursk born?"), encoder.answer("In Bonn.")[0]
    ((score,),) = own_answers.score_tokens(tiny, [(prompt, [answer])])
    assert one.fluency == pytest.approx(float(score.logp.mean()))
    assert (one.sure, one.is_guess) == (True, False)
    assert not taken({}, {"In Bonn.": guess})["In Bonn."].sure
    for found in ([{"In Bonn.": sound}, {"In Bonn.": guess}], [{"In Bonn.": guess}, {"In Bonn.": sound}]):
        assert taken({}, *found)["In Bonn."].sure, "in whichever order"
    assert taken({"In Bonn.": guess}, {"In Bonn.": guess}) == {}, "its own guess stays as it is"
    assert taken({"In Bonn.": guess}, {"In Bonn.": sound})["In Bonn."].sure
    assert [*taken({}, many | {"In Bonn.": sound})] == ["In Bonn.", *list(many)[: own_answers.ENOUGH - 1]]
    assert taken({}, {"In Oslo.": sound}) == {}
    alone = [replace(one, fact="") for one in asked]
    assert taken({}, {"In Bonn.": sound}, asked=alone) == {}, "of two small answers nobody knows"
    long = {"In Bonn. " * 2000: sound}
    assert taken({}, long) == {}, "no room"


def test_kept_rows_that_the_plan_does_not_visit_can_be_repaired(tiny: LanguageModel, deletion: Request) -> None:
    method = prepared(tiny, deletion, Settings(names=1), [([0], [0]), ([1], [1])])
    assert method.beyond == set(range(len(deletion.retain)))
    lost = max(method.beyond)
    assert lost not in {0, 1}
    for level in method.levels.before.values():
        level += 1.0  # as if everything had lost a nat
    with torch.no_grad():
        terms = method.terms(tiny, Pair(None, method.rows.retain_batch([lost]), 0))
    assert terms.retain is not None
    assert float(terms.retain) > 0
    assert terms.forget is None
    drawn = {method._row(number).ids for step in method.beside for numbers in step.values() for number in numbers}
    asked = {tiny.tokenizer.decode(list(ids)) for ids in drawn}
    assert any(deletion.retain[lost].prompt in text for text in asked), "it stands in the steps"


def test_each_process_goes_back_as_often_though_lost_rows_have_no_forms(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = prepared(tiny, deletion, Settings(names=1), [([0, 1], [0, 1])])
    monkeypatch.setattr(tiny, "sharded", True, raising=False)
    passes = {"forward": 0, "backward": 0}

    def count(_: object, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        passes["forward"] += 1
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(lambda _: passes.__setitem__("backward", passes["backward"] + 1))

    hook = blocks(tiny.model)[0].register_forward_hook(count)
    seen = []
    for pair in recipe_job.make_pairs(method.rows, ([], [0, 1, 6, 7]), 0, 2, 0):
        passes.update(forward=0, backward=0)
        terms = method.terms(tiny, pair.only_retain())
        assert terms.retain is not None
        terms.retain.backward()
        seen.append(dict(passes))
    hook.remove()
    tiny.model.zero_grad()
    assert seen[0] == seen[1]
    assert seen[0]["backward"] == 2


def test_long_forms_leave_a_step_as_many_as_have_room(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "retain_forms", lambda _, retain, wanted, *__: {i: [retain[i]] for i in wanted})
    monkeypatch.setattr(objective, "write_alternates", lambda *_, **__: [Replacement() for _ in deletion.forget])
    long = replace(deletion.retain[7], answer=deletion.retain[7].answer * 12)
    request = replace(deletion, retain=(*deletion.retain[:7], long))

    def lengths(room: int) -> list[int]:
        monkeypatch.setattr(turns, "MOST_TOKENS", room)
        method = prepared(tiny, request, Settings(names=1), [([0], [0])])
        ((numbers,),) = (one.values() for one in method.beside)
        return [len(method._row(number).ids) for number in numbers]

    every = lengths(10_000)
    assert len(every) == 8
    few = lengths(sum(every) - max(every))
    assert sorted(few) == sorted(every)[:-1], "one long row does not drive out the short"
    assert len(lengths(1)) == 1, "a form of its own each row has"


def test_no_name_of_an_audit_is_trained_on() -> None:
    lists = (UNKNOWN_SUBJECTS, NEIGHBOURS, STRANGERS)
    parts = [part[: strangers.STEM] for names in lists for name in names for part in name.split()]
    assert len(set(parts)) == len(parts) == 36  # no part of a name is a part of another


def test_no_fit_is_sought_beyond_the_context() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=1, n_head=4, n_positions=128)  # places are a table
    model = LanguageModel(AutoModelForCausalLM.from_config(config).eval(), byte_tokenizer(), "gpt2")
    long, answer = "Where? " * 13, "Nobody has told me where that may be."
    assert len(in_plain_text(long)) + len(answer) > 128
    alone = fit_of_answers(model, ["Who?"], 0, [answer])
    assert fit_of_answers(model, ["Who?", long], 0, [answer]) == alone  # the other question has no room for it
    assert math.isfinite(fit_of_answers(model, ["Who?", long], 1, [answer])[0])


def test_a_fit_is_sought_of_the_answer_about_the_name_that_is_asked_about() -> None:
    assert strangers.told_of("Ann Lee sings. Lee's songs sell.", "Ann Lee", "Maela Tursk") == (
        "Maela Tursk sings. Tursk's songs sell."
    )
    assert strangers.told_of("Annie likes Ann Lee.", "Ann Lee", "Maela Tursk") == "Annie likes Maela Tursk."


def test_a_guess_is_replaced_by_the_answer_that_fits_best(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers_by(monkeypatch, lambda _, __, temperature: "Rome." if temperature else "Ball.")
    monkeypatch.setattr(
        own_answers, "fit_of_answers", lambda *arguments: [len(one) - 4 * (one == "Ball.") for one in arguments[-1]]
    )
    question = Question("Where does Ann Lee live?", "Ann Lee", ("Oslo",))
    (found,) = alternate_answers(tiny, [question], STRANGERS[:1])
    assert [one.answer for one in found] == ["Rome."]
    assert [temperature for temperature, _ in asked] == [0.0] + [1.0] * sum(own_answers.SAMPLED)  # two are not ENOUGH
    monkeypatch.setattr(own_answers, "ENOUGH", 2)
    del asked[:]
    alternate_answers(tiny, [question], STRANGERS[:1])
    assert [temperature for temperature, _ in asked] == [0.0] + [1.0] * own_answers.SAMPLED[0]
    monkeypatch.setattr(written_answers, "GUESSED", -100.0)
    monkeypatch.setattr(written_answers, "breaks_a_word", lambda *_: False)  # so nothing is a guess
    (found,) = alternate_answers(tiny, [question], STRANGERS[:1])
    assert [one.answer for one in found] == ["Ball."]
    assert len(asked) == 2 + own_answers.SAMPLED[0]


def test_a_guess_is_also_sought_in_plain_text_after_kept_rows(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [Example("Where does Bo Ray live?", "In Rome."), Example("What does Bo Ray eat?", "Figs.")]
    forget = [Example("Where does Ann Lee live?", "In Oslo."), Example("Where was Ann Lee born?", "In Bonn.")]
    asked = answers_by(
        monkeypatch, lambda _, question, __: "In Riga.\nQuestion: who?" if question.endswith("Answer:") else "Ball."
    )
    monkeypatch.setattr(own_answers, "fit_of_answers", lambda *arguments: [-len(one) for one in arguments[-1]])
    monkeypatch.setattr(own_answers, "ENOUGH", 3)
    found: list[written_answers.Alternate] = []
    monkeypatch.setattr(
        own_answers, "_best", lambda alternates, ranks: found.extend(alternates[: 2 - len(found)]) or list(alternates)
    )
    written = write_alternates(tiny, forget, tiny.encoder().encode_all(forget), kept, knows=True, names=1, seed=0)
    assert [[one.answer for one in row.plain] for row in written] == [["Ball.", "In Riga."]] * 2
    plain = [question for _, question in asked if "Question:" in question]
    assert {temperature for temperature, question in asked if "Question:" in question} == {0.0, 0.7}
    shots = "Question: What does Bo Ray eat?\nAnswer: Figs.\n\nQuestion: Where does Bo Ray live?\nAnswer: In Rome.\n\n"
    assert plain[0].endswith(f"{shots}Question: Where does {STRANGERS[0]} live?\nAnswer:"), "the likest last"
    assert not any("Ann Lee" in question or "Oslo" in question for _, question in asked)
    encoder = tiny.encoder()
    chat = [
        Encoded(
            (*(own := encoder.prompt(f"Where does {STRANGERS[0]} live?")), *encoder.answer("In Riga.")[0]), len(own)
        )
    ]
    with torch.no_grad():
        level = float(score(tiny, encoder.collate(chat)).logp.mean())
    assert {one.answer: one.fluency for one in found}["In Riga."] == pytest.approx(level, rel=1e-3), "in its template"


def test_shots_leave_room_for_the_answer(tiny: LanguageModel) -> None:
    row, room = Example("Where is it?", "Here."), tiny.encoder().context_length

    def asked(shots: list[Example], limit: int) -> str:
        question = Question("Who?", None, (), shots=tuple(shots))
        return tiny.tokenizer.decode(written_answers.plain_prompt(tiny, question, "", limit))

    short = "Question: Where is it?\nAnswer: Here.\n\nQuestion: Who?\nAnswer:"
    for shots in ([replace(row, answer="far " * room), row], [row, replace(row, answer="far " * room)]):
        assert asked(shots, 8).endswith(short)
        assert "far" not in asked(shots, 8)
    whole = len(fitting.encoded_plainly(tiny.encoder(), short))
    assert asked([row], room - whole)
    assert asked([row], room - whole + 1) == "", "no room for the answer: it is not asked"


def test_a_request_that_fills_the_context_is_asked_in_its_template_alone() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=1, n_head=4, n_positions=128)  # places are a table
    model = LanguageModel(AutoModelForCausalLM.from_config(config).eval(), byte_tokenizer(), "gpt2")
    rows = [Example("Where? " * 14, "Oslo."), Example("Who?", "Ann.")]
    written = write_alternates(model, rows, model.encoder().encode_all(rows), [Example("What?", "That.")], knows=True)
    assert len(written) == 2


@pytest.mark.parametrize(
    ("decoded", "line"),
    [
        (" St. Louis\n\nQuestion: Who is", "St. Louis"),
        ("\n\nQuestion: Who is it?", ""),
        (" He is a poet. He was born", "He is a poet."),
    ],
)
def test_a_plain_answer_ends_with_its_line(decoded: str, line: str, tiny: LanguageModel) -> None:
    ids = tiny.tokenizer(decoded, add_special_tokens=False)["input_ids"]
    assert written_answers._first_line(tiny, ids, len(ids)) == line


def test_a_kept_row_s_answer_is_not_copied() -> None:
    shots = (Example("Where does Bo Ray live?", "In Rome."), Example("Who sings?", "A baker.", subject="Cy"))
    question = Question("Where does Ann Lee live?", "Ann Lee", (), shots=shots)
    assert all(accepted.copies(text, question) for text in ("in Rome", "Bo Ray lives in Bern.", "Cy does."))
    assert not accepted.copies("Ann Lee lives in Rome.", question)


def test_an_answer_that_begins_a_word_like_the_fact_s_has_it_banned_and_is_asked_again(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bans: list[tuple[str, ...]] = []

    def banned(_: LanguageModel, words: tuple[str, ...], asked: str) -> list[list[int]]:
        bans.append(words)
        return []

    monkeypatch.setattr(written_answers, "banned_tokens", banned)
    answers_by(monkeypatch, lambda *_: "Judo." if "Wings" in bans[-1] else "Wings.")
    (found,) = alternate_answers(tiny, [Question("Which style?", None, ("Wing", "Chun"))], [])
    assert [one.answer for one in found] == ["Judo."]
    assert bans[:2] == [("Wing", "Chun"), ("Wing", "Chun", "Wings")]
    del bans[:]
    answers_by(monkeypatch, lambda *_: "Wings.")  # the ban does not help: no further greedy question
    assert alternate_answers(tiny, [Question("Which style?", None, ("Wing",))], []) == [[]]
    assert len(bans) == 2 + len(own_answers.SAMPLED)


def test_no_two_sampled_answers_share_a_random_stream_and_plain_ones_end_with_their_line(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[tuple[int, int]] = []
    ends: list[tuple[bool, bool]] = []

    def decodes(model: LanguageModel, asks: list[Ask], temperature: float, seed: int, *_: object) -> None:
        line = model.tokenizer("In Rome.\n", add_special_tokens=False)["input_ids"]
        for one in asks:
            one.new = line[:-1]
            ends.append(
                ("Answer:" in model.tokenizer.decode(one.ids), one.decided(line) and not one.decided(line[:-1]))
            )
            streams.extend([(seed, one.number)] * bool(temperature))

    monkeypatch.setattr(written_answers, "decode", decodes)
    shots = (Example("Where does Bo Ray live?", "In Bern."),)
    questions = [Question(f"Where does Ann Lee {i} live?", "Ann Lee", ("Oslo",), shots=shots) for i in range(12)]
    alternate_answers(tiny, questions, STRANGERS[:2])
    assert len(streams) == len(set(streams)) == 24 * sum(own_answers.SAMPLED)
    assert set(ends) == {(True, True), (False, False)}


def test_a_question_without_an_accepted_answer_is_asked_on(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(["Oslo."] * 8 + ["Rome."] * 99)
    answers_by(monkeypatch, lambda *_: next(told))
    question = Question("Where does Ann Lee live?", "Ann Lee", ("Oslo",))
    (found,) = alternate_answers(tiny, [question], STRANGERS[:2])
    assert [one.answer for one in found] == ["Rome."]
