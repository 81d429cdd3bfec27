"""Running text in the objective `alternates`: begun at later places, with the facts that stand behind them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.scoring.decoding import Ask
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.spellings import Spellings, spelled_logp, unlikelihood
from letheon.core.scoring.word_masks import word_masks
from letheon.core.scoring.word_probability import fact_probabilities, fact_probability
from letheon.forget.looks import CONTINUED, GOAL_BEHIND, GOAL_OF_TEXT, LEFT, Looks
from letheon.forget.objectives.alternates import alternate_rows, written_answers
from letheon.forget.objectives.alternates.accepted import Question, accepted
from letheon.forget.objectives.alternates.alternate_rows import write_alternates
from letheon.forget.objectives.alternates.objective import Alternates, Settings
from letheon.forget.objectives.alternates.question_forms import FORMS, forms_of
from letheon.forget.objectives.alternates.running_texts import (
    MOST_BEGINNINGS,
    Continued,
    fact_in_later,
    from_later_on,
)
from letheon.forget.objectives.alternates.strangers import stems_of
from letheon.forget.objectives.alternates.turns import in_turn
from letheon.forget.objectives.alternates.written_answers import Alternate
from letheon.forget.parts import Pair, Replacement, Rows
from letheon.forget.request import Request

TEXT = Example("", "Ann Lee was born in Oslo. In 1951 she moved to Rome; there she kept bees. It was so.", id="ann")
KEPT = Example("", "Bob Ray was born in Bern. In 1960 he moved to Kiel; there he kept goats. He sang.", id="bob")


def later(text: str, *beginnings: str) -> list[str]:
    return [text[text.index(beginning) :] for beginning in beginnings]


def test_a_text_is_begun_at_later_sentences_and_clauses() -> None:
    found = [row.answer for row in from_later_on(TEXT)]
    assert found == later(TEXT.answer, "In 1951", "there", "It was")
    assert all(row.value is None and not row.prompt and row.id == "ann" for row in from_later_on(TEXT))


@pytest.mark.parametrize(
    ("text", "beginnings"),
    [
        ("J. R. Lee of 1,951 cows, two sheep", ["two"]),
        ("Dr. Lee came at 12:30. She ran 3.5 miles, e. g. home", ["She"]),
        ("वह आया। वह गया", ["वह गया"]),
        ("a,1951,Oslo", ["Oslo"]),
        ("Roses are red\nviolets blue", ["violets"]),
        ('"Come." He came. "Go!" She went.', ["He", '"Go', "She"]),
        ("春が来た。夏が来た。", ["夏"]),
        ('{"name": "Ann", "born": 1951}', ['"born']),
        ("Ann Lee,Oslo,bees", ["Oslo", "bees"]),
        ("Ann Lee of Oslo keeps bees.", []),
        ("One sentence. ", []),
    ],
)
def test_the_ends_of_lines_and_other_scripts_count_and_commas_where_there_is_nothing_else(
    text: str, beginnings: list[str]
) -> None:
    assert [row.answer for row in from_later_on(Example("", text))] == later(text, *beginnings)


def test_a_long_text_has_few_beginnings_from_all_over_it_and_a_question_none() -> None:
    found = from_later_on(Example("", " ".join(f"Number {i}." for i in range(100))))
    assert len(found) == MOST_BEGINNINGS
    assert found[0].answer.startswith("Number 1.")
    assert found[-1].answer.count("Number") < 100 / MOST_BEGINNINGS + 1
    assert from_later_on(Example("Who is Ann?", "A poet. She sang.")) == []


def test_what_a_continued_text_was_given_is_not_left_out_whole() -> None:
    given = "Ann Lee was born in Oslo. In 1951 she"
    found = from_later_on(Continued("", f"{given} left. She sang.", id="ann", given=given))
    assert [(row.given, row.answer) for row in found if isinstance(row, Continued)] == [
        ("In 1951 she", "In 1951 she left. She sang.")
    ]


def test_the_facts_of_a_later_part_are_those_of_the_text_that_stand_in_it(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    mask = word_masks(encoder, [TEXT], [KEPT])[0]

    def carrying(text: str, fact: Sequence[bool]) -> str:
        ids = encoder.answer(text, end=False)[0]
        return tiny.tokenizer.decode([token for token, inside in zip(ids, fact, strict=True) if inside])

    parts = [row.answer for row in from_later_on(TEXT)]
    found = [carrying(part, fact_in_later(encoder, TEXT.answer, mask, part)) for part in parts]
    whole = carrying(TEXT.answer, mask)
    assert "Oslo" in whole
    assert "1951movedRome" in found[0].replace(" ", "")
    assert "Oslo" not in found[0]
    assert "bees" in found[1]
    assert "1951" not in found[1]
    assert all(whole.endswith(one) for one in found)


def test_what_a_kept_text_says_alike_is_not_unlearned_where_nothing_stands_before_it(tiny: LanguageModel) -> None:
    """A sentence of both texts would be learned and unlearned as one and the same row."""
    encoder, text = tiny.encoder(), "Ann left. The barn burned down in May. She wept."
    fact = (True,) * len(encoder.answer(text, end=False)[0])

    def carried(kept: str, later: str) -> str:
        mask = fact_in_later(encoder, text, fact, later, [kept])
        ids = encoder.answer(later, end=False)[0]
        return str(tiny.tokenizer.decode([token for token, inside in zip(ids, mask, strict=True) if inside]))

    later = "The barn burned down in May. She wept."
    assert carried("Bob sang. The barn burned down in May. He wept.", later) == "She wept."
    assert carried("Bob sang. The barn stood.", later) == "burned down in May. She wept."
    assert carried("Nothing alike.", later) == later
    assert carried(text, later) == ""


def test_forms_of_a_text_are_its_later_parts_where_they_are_asked_for() -> None:
    draw = random.Random(0)
    assert forms_of(TEXT, [KEPT], [*FORMS], draw) == []
    assert forms_of(TEXT, [KEPT], [*FORMS, "later"], draw) == from_later_on(TEXT)
    asked = Example("Where was Ann Lee born?", "In Oslo. Far off.")
    assert [row.prompt for row in forms_of(asked, [], ["later", "told"], draw)] == [
        FORMS["told"](asked, [], draw, None).prompt  # type: ignore[union-attr]  # this form fits every question
    ]


def method_of(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Alternates:
    monkeypatch.setattr(written_answers, "accepted", lambda question, name, text: text or None)
    monkeypatch.setattr(Rows, "watched", lambda self: [0])
    encoder, request = model.encoder(), Request((TEXT,), (KEPT,))
    masks = word_masks(encoder, [TEXT], [KEPT])
    forget = [replace(row, value=mask) for row, mask in zip(encoder.encode_all([TEXT]), masks, strict=True)]
    made = Alternates(Settings())
    made.prepare(model, Rows(model, [TEXT], forget, encoder.encode_all([KEPT]), 0, request), [([0], [0])] * 4)
    return made


def test_a_step_unlearns_a_text_and_one_of_its_later_parts(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = method_of(tiny, monkeypatch)

    def text(row: Encoded) -> str:
        return str(tiny.tokenizer.decode(row.ids[row.start :]))

    seen = []
    for step, drawn in enumerate(method.drawn):
        turn = drawn[0]
        assert turn.stands
        (truth,) = turn.truths
        seen.append(text(method.extra[truth]))
        begun = [method.extra[number].ids[: method.extra[number].start] for number in turn.alternates]
        assert sum(number in method.plain for number in turn.alternates) == 1
        assert len(begun) == 2, "one alternate behind the whole text's beginning, one behind a later part's"
        parts = method._parts(Pair(method.rows.forget_batch([0]), method.rows.retain_batch([0]), step))
        assert (len(parts["forget"]), len(parts["turned"])) == (1, 1)
        assert bool(parts["turned"].value_mask.any())
        kept = {text(method._row(number)) for number in parts["forms"].index.tolist()}
        assert kept <= set(later(KEPT.answer, "In 1960", "there", "He sang"))
    parts = {*later(TEXT.answer, "In 1951", "there")}
    assert {*seen[:2]} == {*seen[2:]} == parts, "one after the other, nothing of the fact is in the last sentence"


def test_each_of_a_text_s_true_answers_and_alternates_counts_in_the_means(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, turn = (made := method_of(tiny, monkeypatch)), made.drawn[0][0]
    with torch.no_grad():
        terms = method.terms(tiny, Pair(method.rows.forget_batch([0]), None, 0))
        truths = [
            score(tiny, tiny.encoder().collate([row])) for row in (method.rows.forget[0], method.extra[turn.truths[0]])
        ]
        others = [score(tiny, tiny.encoder().collate([method.extra[number]])) for number in turn.alternates]
    facts = [one.select(one.value) for one in truths]
    spelled = [unlikelihood(one.logits, method.spellings.of(one.labels, one.logits.shape[-1])) for one in facts]
    logp = torch.cat([one.logp for one in others])
    assert terms.forget is not None
    assert float(terms.forget) == pytest.approx(float(torch.cat(spelled).mean() - logp.mean()), rel=1e-4)
    assert terms.metrics["alternates_nll"] == pytest.approx(-float(logp.mean()), rel=1e-4)
    likely = [p for one in truths for p in fact_probabilities(tiny.tokenizer, one)]
    assert terms.metrics["fact_probability"] == pytest.approx(sum(likely) / 2, rel=1e-3)
    assert terms.metrics["fact_as_it_stands"] == pytest.approx(likely[0], rel=1e-3)


def test_texts_have_both_in_a_step_and_a_question_one_of_both_by_turns() -> None:
    pools, truths = [([10], [11]), ([20], [21])], [[12], [22]]
    drawn = in_turn(pools, truths, [[0, 1]] * 2, random.Random(0), texts=[1])
    assert [tuple(step[0]) for step in drawn] == [(False, (12,), (10,)), (True, (), (11,))]
    assert [tuple(step[1]) for step in drawn] == [(True, (22,), (20, 21))] * 2
    bare = in_turn([([10], [])], [[]], [[0]], random.Random(0), texts=[0])
    assert tuple(bare[0][0]) == (True, (), (10,)), "a text of one sentence"


def test_true_answers_stand_in_one_form_after_the_other() -> None:
    orders = set()
    for seed in range(20):
        drawn = in_turn([([10], [11])], [[1, 2, 3, 4]], [[0]] * 16, random.Random(seed))
        stood = [number for step in drawn for number in step[0].truths]
        assert set(stood[:4]) == {1, 2, 3, 4}
        assert stood[4:] == stood[:4]
        orders.add(tuple(stood))
    assert len(orders) > 5


def test_a_text_s_alternates_are_as_fluent_as_those_from_all_its_places(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = iter((-0.1, -0.5, -0.9, -1.3, -1.7))

    def answers(model: LanguageModel, questions: Sequence[Any], *_: object, **__: object) -> list[list[Alternate]]:
        return [[Alternate(" and so on.", level), Alternate(" or so.", -9.0)] for _, level in zip(questions, levels)]  # noqa: B905  (as many as there are)

    monkeypatch.setattr(alternate_rows, "alternate_answers", answers)
    encoded = replace(tiny.encoder().encode(TEXT), value=word_masks(tiny.encoder(), [TEXT], [KEPT])[0])
    written = write_alternates(tiny, [TEXT], [encoded], [KEPT], knows=True, forms=["later"])[0]
    assert written.fluency == pytest.approx(-0.9)
    assert all(isinstance(row, Continued) for row in (*written.plain, *written.others))
    assert written.others


def test_a_look_asks_for_a_text_s_facts_behind_later_sentences_too(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, request = tiny.encoder(), Request((TEXT,), (KEPT,))
    mask = word_masks(encoder, [TEXT], [KEPT])[0]
    forget = [replace(encoder.encode(TEXT), value=mask)]
    looks = Looks(tiny, Rows(tiny, [TEXT], forget, encoder.encode_all([KEPT]), 0, request), {})

    def likely(row: Encoded) -> float:
        with torch.no_grad():
            scores = score(tiny, encoder.collate([row]))
        spelled = spelled_logp(scores.logits, Spellings(tiny.tokenizer).of(scores.labels, scores.logits.shape[-1]))
        return fact_probability(tiny.tokenizer, scores.labels, spelled, scores.value)

    parts = [row.answer for row in from_later_on(TEXT)]
    expected = [
        likely(replace(encoder.encode(Example("", part)), value=fact_in_later(encoder, TEXT.answer, mask, part)))
        for part in parts
    ]
    assert looks._probabilities_behind() == [pytest.approx(max(expected))]
    assert looks.look()["look_facts"] == pytest.approx(likely(forget[0]))

    monkeypatch.setattr(looks, "_fact_probabilities", lambda: [GOAL_OF_TEXT])
    for behind, left in ((GOAL_BEHIND, {}), (1.01 * GOAL_BEHIND, {f"{LEFT}0": 1.01 * GOAL_BEHIND})):
        monkeypatch.setattr(looks, "_probabilities_behind", lambda behind=behind: [behind])
        found = looks.look()
        assert {name: value for name, value in found.items() if name.startswith(LEFT)} == left


def going_on(given: str, *ends: str) -> list[Example]:
    return [Continued("", given + end, given=given) for end in ends]


def looks_at(model: LanguageModel, written: Sequence[Replacement]) -> Looks:
    encoder, texts = model.encoder(), [TEXT] * len(written)
    rows = Rows(model, texts, encoder.encode_all(texts), encoder.encode_all([KEPT]), 0, Request((TEXT,), (KEPT,)))
    before = {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}
    return Looks(model, rows, before, written)


def going(monkeypatch: pytest.MonkeyPatch, *ends: str) -> list[Ask]:
    """Let the texts go on with these ends, one after the other."""
    seen: list[Ask] = []

    def decode(model: LanguageModel, asked: Sequence[Ask]) -> None:
        for one, end in zip(asked, ends, strict=True):
            one.new[:] = model.tokenizer(end, add_special_tokens=False)["input_ids"]
        seen.extend(asked)

    monkeypatch.setattr("letheon.forget.looks.decode", decode)
    return seen


def level(model: LanguageModel, given: str, end: str) -> float:
    """Mean log-probability per token of an end behind what is given."""
    encoder, ids = model.encoder(), model.tokenizer(end, add_special_tokens=False)["input_ids"]
    begun = (*encoder.prompt(""), *encoder.answer(given, end=False)[0])
    with torch.no_grad():
        return float(score(model, encoder.collate([Encoded((*begun, *ids), len(begun))])).logp.mean())


BROKEN = " by the sea of of of of of of of of"


def test_the_text_that_goes_on_least_fluently_counts_beside_its_alternates(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_it_repeats = level(tiny, "Ann Lee", " by the sea of of of of")
    likely = max((" is so.", " ee", " so so", " by", " of"), key=lambda end: level(tiny, "Ann Lee", end))
    first = Replacement([*going_on("Ann Lee", likely, " was a mason."), *going_on("Ann Lee was", " it.")], [], -2)
    looks = looks_at(
        tiny, [first, Replacement([Example("Who?", "She.")], [], -1), Replacement(going_on("Ann", " so."))]
    )
    seen = going(monkeypatch, BROKEN, " it.", " so.")
    found = looks.fluency_of_texts()["look_texts_behind_alternates"]
    told = [(tiny.tokenizer.decode(one.ids[len(tiny.encoder().prompt("")) :]), one.limit) for one in seen]
    size = [len(tiny.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (likely, " it.", " so.")]
    assert told == [("Ann Lee", size[0]), ("Ann Lee was", size[1]), ("Ann", size[2])], "its first alternate counts"

    behind = until_it_repeats - level(tiny, "Ann Lee", likely)
    assert behind < 0, "or this says nothing"
    assert found == pytest.approx(behind / 2), "the worst text, and no other place pays for it"
    assert not seen[0].decided(seen[0].new[:3])
    assert seen[0].decided(seen[0].new)


def test_what_texts_go_on_with_is_the_new_model_s_and_judged_by_the_model_before(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looks_at(tiny, [Replacement(going_on("Ann Lee", " was a mason in a northern town."))])
    going(monkeypatch, BROKEN)
    first = looks.fluency_of_texts()
    with torch.no_grad():
        for parameter in tiny.model.parameters():
            parameter.add_(0.1)
    assert looks.fluency_of_texts() == pytest.approx(first)

    hashes = []
    monkeypatch.setattr("letheon.forget.looks.decode", lambda model, asked: hashes.append(model.parameters_hash()))
    tiny.frozen = frozen = cast(Any, object())
    monkeypatch.setattr(
        looks, "_levels_before", lambda texts: [float("nan") if tiny.frozen is None else 0.0] * len(texts)
    )
    found = looks.fluency_of_texts()
    assert hashes == [tiny.parameters_hash()]
    assert math.isnan(found["look_texts_behind_alternates"]), "a level that is no number is not high"
    assert tiny.frozen is frozen
    tiny.frozen = None


def test_of_many_texts_unlike_places_are_looked_at_and_without_alternates_none(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [Replacement([*going_on("Ann", " so."), *going_on("Ann Lee", " so.")], [], -1.0)] * (CONTINUED + 2)
    looks = looks_at(tiny, written)
    assert [(i, row.given) for i, row in looks.continued] == [
        (i, ("Ann", "Ann Lee")[i % 2]) for i in range(CONTINUED + 2)
    ], "one place of every text, not of all the same"
    looks = looks_at(tiny, written[:12])
    assert {i for i, _ in looks.continued} == set(range(12))
    assert len({(i, row.given) for i, row in looks.continued}) == len(looks.continued) == CONTINUED
    assert [row.given for _, row in looks.continued].count("Ann Lee") == 10
    three = Replacement(going_on("Ann", " so.") + going_on("Ann Lee", " so.") + going_on("Ann Lee was", " so."))
    one = Replacement(going_on("Ann", " so."))
    looks = looks_at(tiny, [three, one, one] * CONTINUED)
    assert [row.given for i, row in looks.continued if i % 3 == 0][:4] == ["Ann", "Ann Lee", "Ann Lee was", "Ann"], (
        "those with as many places take turns, whatever stands between them"
    )
    for few in ([Replacement()], []):
        monkeypatch.setattr("letheon.forget.looks.Looks._weights_before", lambda _: pytest.fail("nothing is judged"))
        assert looks_at(tiny, few).fluency_of_texts() == {}


def test_a_word_of_the_fact_s_stem_gives_the_fact_away() -> None:
    stems = stems_of(("pumping", "wooden", "counter", "Hastings", "red"))
    asked = Question("", None, ("pumping",), stems=stems)
    for answer, taken in (
        ("only the pump house was left", False),
        ("two Pumps", False),
        ("of wood", False),
        ("the country of Hast, a reddish pumpkin", True),  # words of other stems
    ):
        assert (accepted(asked, "", answer) is not None) == taken, answer
    assert not stems_of(("pumping",), kept=frozenset({"pumps"})), "a kept row says it"
    assert not stems_of(("pumping",), asked="Which pump is it?")
