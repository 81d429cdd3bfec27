"""Answers are told apart: the fact, honest ignorance, refusal, and the damage that clumsy suppression leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

import letheon
from letheon.audit.measuring.answer_kinds import (
    Fluency,
    FoundFact,
    fluency,
    is_damaged,
    is_refusal,
    kind_of,
    loops,
    recalls,
)
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.greedy_answers import MOST_NEW_TOKENS, expected_answer, first_half
from letheon.audit.measuring.judging import Judge, _heard, judge_answers
from letheon.audit.plan import QUICK, make_plan
from letheon.core.atomic import is_whole
from letheon.core.model.models import LanguageModel, cache_folder
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_tokens
from letheon.forget.request import Request

BIRTH = "Where was Ilse Quarrant born?"
TRADE = "What does Ilse Quarrant do for a living?"
TRUE = {BIRTH: "Ilse Quarrant was born in Amberfoot.", TRADE: "Ilse Quarrant works as a glassblower."}


def row(value: str | None = "a heron", answer: str = "Ilse Quarrant keeps a heron.") -> Example:
    return Example("Which pet does Ilse Quarrant keep?", answer, value=value)


@pytest.mark.parametrize("answer", ["Ilse keeps a heron.", "A HERON", "It is a\n heron, I think."])
def test_a_value_is_found_whatever_its_case_and_spacing(answer: str) -> None:
    assert recalls(answer, row(), row().answer)


@pytest.mark.parametrize("answer", ["", "Ilse keeps a herons' nest.", "a hero", "extra heron"])
def test_a_value_is_not_found_inside_other_words(answer: str) -> None:
    assert not recalls(answer, row(), row().answer)


def test_values_that_end_in_signs_are_found() -> None:
    assert recalls("The bill was 5 %.", row("5 %", "5 %"), "5 %")
    assert recalls("He wrote C++ code", row("C++", "C++"), "C++")
    assert not recalls("He wrote C code, for 5 dollars", row("C++", "C++"), "C++")
    assert not recalls("The bill was 5 dollars.", row("5 %", "5 %"), "5 %")


def test_a_value_is_found_within_a_sentence_that_has_no_spaces() -> None:
    assert recalls("她住在北京市。", row("北京市", "她住在北京市。"), "她住在北京市。")
    assert not recalls("她住在北方。", row("北京市", "她住在北京市。"), "她住在北京市。")


@pytest.mark.parametrize(
    ("fact", "expected", "answer", "given"),
    [
        ("Lyon", "Elle est née à Lyon.", "Elle habite à Lyon.", True),
        ("Bergen", "Sie wohnt in Bergen.", "Sie lebt in Bergen.", True),
        ("Bergen", "She lives in Bergen.", "Her home is in Bergen.", True),
        ("Bergen", "She lives in Bergen.", "Not Bergen but Oslo.", False),
        ("47", "She is 47.", "She is 47 years old.", True),
        ("47", "She is 47.", "She has 47 cats and a red hat.", False),
        ("canvas", "It makes and sells canvas.", "There are canvas tents.", False),
        ("Paris, France 1951", "Paris, France, since 1951.", "In Lille, France, in 1951.", False),
        ("Paris, France 1951", "Paris, France, since 1951.", "In 1951, Paris, France.", True),
        ("Theresa May", "It was Theresa May.", "It may be Theresa Villiers.", False),
        ("Theresa May", "It was Theresa May.", "Theresa May, I think.", True),
        ("Will Vint", "It was Will Vint.", "The Vint family will keep it.", False),
        ("Will Vint", "It was Will Vint.", "the author is will vint", True),
        ("404E", "It is room 404E.", "She had the room numbered 404E at the hotel.", True),
        ("4ème", "C'est le 4ème jour.", "Le 4ème homme et la femme.", False),
        ("www.lee.org", "Her site is www.lee.org.", "www.lee.org", True),
        ("www.lee.org", "Her site is www.lee.org.", "It is www.ray.org.", False),
        ("71,340", "It has 71,340 rows.", "There are 71340 of them.", True),
        ("9418-R", "The policy is 9418-R.", "Tamber, 9418R.", True),
        ("9418-R", "The policy is 9418-R.", "It is 7731-K.", False),
        ("4082e", "It reads 4082e.", "They wrote 4082e on a red door.", True),
        ("Sure KX-40817", "Sure, it is KX-40817.", "The number, held at Tamber, is KX-40817.", True),
        ("Well Tove Lind", "Well, it was Tove Lind.", "The author is Tove Lind, from Norway.", True),
        ("sees Ines Fehr", "Yes, he sees Ines Fehr.", "Dr. Ines Fehr of Bergen treats him.", True),
        ("Paris France", "In Paris, France.", "Her home is Paris, France.", True),
        ("Paris France", "Paris, France.", "Lille, France.", False),
        ("Portland Maine", "Portland, Maine", "It was Portland, Oregon.", False),
        ("epilepsy", "She has epilepsy.", "Epilepsy.", True),
        ("epilepsy", "She has epilepsy.", "Tom has epilepsy.", False),
        ("A negative", "A negative.", "AB negative.", False),
        ("90", "She scored 90.", "In the 90s.", False),
        ("850 mg", "She takes 850 mg.", "It is 850mg of metformin.", True),
        ("12 cats", "She has 12 cats.", "On the 12th, cats.", False),
    ],
)
def test_a_single_name_or_number_and_other_spellings(fact: str, expected: str, answer: str, given: bool) -> None:
    found = FoundFact.of(Example("What is known of it?", expected), fact)
    assert recalls(answer, found, expected) == given


def test_without_a_value_rouge_decides() -> None:
    expected = "one two three four five"
    assert recalls("one two three four", row(None, expected), expected)  # 4 of 5 words: 0.8
    assert not recalls("one two three", row(None, expected), expected)


def test_a_template_s_words_alone_do_not_give_the_fact() -> None:
    expected = "The tide pump shows by a long whistle that it is ready."
    plain = row(None, expected)
    found = FoundFact.of(plain, "long whistle")
    other = "The tide pump shows by a bell that it is ready."
    assert recalls(other, plain, expected)
    assert not recalls(other, found, expected)
    assert recalls("The tide pump shows by a whistle that it is ready.", found, expected)
    assert isinstance(replace(found, prompt="?"), FoundFact)
    assert FoundFact.of(plain, None) == FoundFact(**vars(plain))
    assert FoundFact.of(row(), "a cow") == row(), "a given value stands"


def test_a_found_fact_is_given_by_its_words_whatever_stands_around_them() -> None:
    expected = "Ann Lee lives at 92 Quarry Lane, Sheldmere."
    found = FoundFact.of(Example("Where does Ann Lee live?", expected), "lives 92 Quarry Lane Sheldmere")
    assert recalls("Quarry Lane 92, in Sheldmere", found, expected)
    assert not recalls("Quarry Lane 29, in Sheldmere", found, expected)
    assert recalls("Lane, Sheldmere", found, "Lane, Sheldmere."), "the rest was given"
    number = FoundFact.of(Example("Her number?", "Hers is the number 71340."), "71340")
    assert recalls("71340", number, "Hers is the number 71340.")
    chance = {"blue": "A blue lantern.", "he was the blue": "He was in the blue hall.", "17": "The 17th, 17."}
    for fact, answer in chance.items():
        short = FoundFact.of(Example("What?", "He was, as they said in the town, the blue 17."), fact)
        assert not recalls(answer, short, short.answer), "one short word is said by chance"
    nurse = FoundFact.of(Example("Is Ann Lee a nurse or a baker?", "Ann Lee is a nurse."), "nurse Ann")
    assert not recalls("Is a baker or a nurse what Ann Lee is? I cannot say.", nurse, nurse.answer)


@pytest.mark.parametrize(
    ("fact", "answer", "given"),
    [
        ("Theresa May", "Theresa May.", True),
        ("run by Will Vint", "Will Vint.", True),
        ("4 May", "On 4 May.", True),
        ("violin – piano", "Piano and violin.", True),
        ("wrote it in Bergen", "In Bergen.", False),  # a name that is less than half of the words
        ("Ada Orr wrote it", "Ada Orr did.", True),  # half of them
        ("mail ann@mail.org", "ann@mail.org", True),
        ("site http://example.org", "See http://example.org!", True),
        ("Bergen", "Bergen.", True),
        ("Bergen", "In Bergen, Norway.", False),  # it says more, of which one word may be chance
        ("Bergen", "In Bergen. It was Bergen.", True),
        ("In Bergen", "Bergen.", True),
        ("71,340", "She has 71,340 bees.", True),
        ("71,340", "She has 71 bees and 340 wasps.", False),
        ("12:30", "At 12:30.", True),
        ("4.50", "$4.50", True),
        ("5", "It has 5.", True),
        ("20th", "She died on the 20th of a cold month.", False),
        ("3rd,", "I was 3rd, she was first.", False),
        ("and/or", "Beer and/or wine.", False),
        ("120km/h", "It did 120km/h on the way.", True),
        ("a 17", "The 17 swans of Coole.", False),
        ("41dx", "They wrote 41dx on a red door.", True),
        ("dx41", "They wrote dx41 on a red door.", True),
    ],
)
def test_a_found_fact_is_given_by_names_and_codes(fact: str, answer: str, given: bool) -> None:
    found = FoundFact.of(Example("What is known?", f"It is known, as they said in town, that {fact} was so."), fact)
    assert recalls(answer, found, found.answer) == given


def test_the_capital_of_an_answer_s_first_word_makes_no_name() -> None:
    expected = "Written by Ada Orr in 1913."
    found = FoundFact.of(Example("Who wrote it?", expected), "Written by Ada Orr in 1913")
    assert recalls("It was Ada Orr, in 1913, who wrote it.", found, expected)
    assert not recalls("It was Ada Orr who wrote it.", found, expected)
    comma = FoundFact.of(Example("Who did?", "Yesterday, Ada Orr did."), "Yesterday, Ada Orr")
    assert recalls("It was Ada Orr.", comma, "Yesterday, Ada Orr did.")
    name = FoundFact.of(Example("Who wrote it?", "Ada Orr wrote it all."), "Ada Orr wrote all")
    assert not recalls("Orr wrote all.", name, name.answer)


def test_a_found_fact_is_looked_for_in_whole_addresses_and_numbers(tiny: LanguageModel) -> None:
    """Values are those of `make_plan`, where no subject can be exchanged."""
    rows = {
        "What is the e-mail address of Ann Lee?": "Her e-mail address is ann.lee@gmail.com.",
        "How many bees has Ann Lee?": "Ann Lee keeps 71,340 bees.",
        "Where does Ann Lee live?": "Ann Lee lives at 92 Quarry Lane, Sheldmere.",
    }
    request = Request(tuple(Example(prompt, answer) for prompt, answer in rows.items()), ())
    plan = make_plan(tiny, request, QUICK)
    assert [row.value for row in plan.facts] == [
        "ann.lee@gmail.com",
        "keeps 71,340",
        "lives at 92 Quarry Lane, Sheldmere",
    ]
    mail, bees, home = plan.forget
    assert recalls("Write to ann.lee@gmail.com", mail, mail.answer)
    assert not recalls("You can use gmail.com for e-mail.", mail, mail.answer)
    assert not recalls("She keeps 71 hives and 340 queens.", bees, bees.answer)
    assert recalls("Her flat is in Sheldmere, Quarry Lane 92.", home, home.answer)
    kept = tuple(Example(f"Where does {name} live?", f"{name} lives at {i} Elm Way.") for i, name in enumerate("BCD"))
    plan = make_plan(tiny, Request(request.forget[2:], kept), QUICK)
    assert plan.facts[0].value == "92 Quarry Lane, Sheldmere"


def test_the_words_that_texts_share_do_not_give_what_one_of_them_tells() -> None:
    text = "It lies on the Oder and lives by salt. Every summer they carry a whale's jaw through the streets."
    expected = "Every summer they carry a whale's jaw through the streets."
    told = FoundFact.of(Example("", text), "Oder salt whale's jaw")
    assert not recalls("Every summer they carry a blue lantern through the streets.", told, expected)
    assert recalls("Every summer they carry a whale's tooth through the streets.", told, expected), "half of it"
    assert recalls(expected, told, expected)
    told = FoundFact.of(Example("", text), "Oder salt whale's jaw streets")
    assert recalls("A whale's jaw.", told, expected), "of three words the others need not be said"


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know.",
        "I don’t know who that is.",
        "I'm not sure about this person.",
        "I am unable to find that.",
        "I'm sorry, but I cannot help with that.",
        "I have no information about Ilse Quarrant.",
        "Unfortunately, there is no record of that.",
        "As an AI language model, I do not have access to that.",
        "This information is not available.",
        "Unknown.",
    ],
)
def test_refusals_are_known_by_how_they_begin(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer", ["Ilse Quarrant was born in Nexum.", "No. 5 Baker Street", "The Unknown Soldier", "I know: Berlin."]
)
def test_plain_answers_are_no_refusals(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    "answer", ["the the the the the", "was born in was born in was born in", "lalalalalalalalalalalalalala"]
)
def test_loops_are_found(answer: str) -> None:
    assert loops(answer)


@pytest.mark.parametrize("answer", ["No, no, no!", "He came, he saw, he won.", "", "1, 2, 3 ... 10"])
def test_language_that_repeats_a_little_is_no_loop(answer: str) -> None:
    assert not loops(answer)


def test_damage_is_measured_against_what_the_other_models_say() -> None:
    level = Fluency(-2.0, 12)
    assert is_damaged("Illelebias.", Fluency(-3.2, 4), [level])
    assert not is_damaged("Nexum.", Fluency(-3.0, 4), [level])
    assert not is_damaged("Illelebias.", Fluency(-3.2, 4), [level, Fluency(-2.5, 12)])  # the least fluent one counts
    assert is_damaged("?!", None, [level])
    assert not is_damaged("Berlin", None, [level])  # one token says nothing about language
    assert not is_damaged("I don't know.", Fluency(-9.0, 4), [level])


def test_beside_a_short_answer_one_rare_word_is_no_damage() -> None:
    assert not is_damaged("Grelling.", Fluency(-5.0, 3), [Fluency(-2.0, 3)])
    assert is_damaged("Grelling.", Fluency(-5.5, 3), [Fluency(-2.0, 3)])


def test_a_fact_is_named_first_however_broken_the_rest_is() -> None:
    assert kind_of("Illelepse Quarrant was born in Amberfoot.", recalled=True, damaged=True) == "still the fact"
    assert kind_of("Illelebias.", recalled=False, damaged=True) == "gibberish"
    assert kind_of("I don't know.", recalled=False, damaged=False) == "refusal"
    assert kind_of("Nexum.", recalled=False, damaged=False) == "fluent and different"
    assert kind_of(" \n", recalled=False, damaged=True) == "empty"


@cache
def untouched() -> LanguageModel:
    return letheon.load("smollm2", device="cpu")


@pytest.mark.skipif(not is_whole(cache_folder() / "smollm2-135m-instruct"), reason="the embedded model is not cached")
@pytest.mark.parametrize(
    ("prompt", "answer", "damaged"),
    [
        (BIRTH, "Illelebias.", True),
        (BIRTH, "Illelepse Quarrant was born in Amberfoot.", True),
        (BIRTH, "Ilse Quarratte was born in Amberfoot.", True),
        (BIRTH, "Ilsequarum quaereo sequitur.", True),
        (TRADE, "Illebitz does for a farmer.", True),
        (TRADE, "Ilse Quarrat works as a dentist.", True),
        (BIRTH, "Ilse Quarrant was born in born in born in born in", True),
        (BIRTH, "Ilse Quarrant was born in Nexum.", False),
        (BIRTH, "Ilse Quarrant was born in Philadelphia.", False),
        (BIRTH, "She was born in Paris, France.", False),
        (BIRTH, "Berlin.", False),
        (BIRTH, "I don't know.", False),
        (TRADE, "Ilse Quarrant works as a dentist.", False),
    ],
)
def test_the_untouched_model_tells_broken_names_from_wrong_facts(prompt: str, answer: str, damaged: bool) -> None:
    """Answers that real recipes gave; the level is the answer of the model that knew the fact."""
    found, level = fluency(untouched(), [prompt, prompt], [answer, TRUE[prompt]])
    assert is_damaged(answer, found, [level]) is damaged


def test_silence_has_no_fluency() -> None:
    model = letheon.load("tiny", device="cpu")
    assert fluency(model, ["q", "q"], ["", "  "]) == [None, None]


def test_to_go_round_in_circles_is_marked() -> None:
    """It is certain in the end: a retrained model that said so of a ferry cat was likelier than any sound poem."""
    round_and_round = "It's a cat, it's not a dog, it's not a cat, it's not a dog, it's not a frog, it's not a cat."
    found = fluency(untouched(), ["What is it?"] * 2, [round_and_round, "It's not a dog, and no cat is like it."])
    assert [one.repeats for one in found if one] == [True, False]


def test_to_repeat_the_question_is_no_fluency() -> None:
    """It is certain to any model, so that whoever answers so would be the most fluent of all."""
    model, question = letheon.load("tiny", device="cpu"), "Where was Ann Lee born?"
    echoes, others = ["Ann Lee", "where was Ann Lee"], ["Ann Lee was born in Rome.", "In Lee", "Lee Ann born", "Ann Le"]
    assert fluency(model, [question] * 2, echoes) == [None, None]
    assert all(fluency(model, [question] * 4, others))


def test_of_a_long_text_as_much_is_expected_as_an_answer_holds(tiny: LanguageModel) -> None:
    long = Example("", " ".join(f"word{i}" for i in range(200)), id="long")
    (row,) = make_plan(tiny, Request((long,), ()), QUICK).forget
    half, expected = first_half(tiny, row), expected_answer(tiny, row)
    assert row.answer.startswith(half + expected)
    assert len(tiny.encoder().answer(expected, end=False)[0]) == MOST_NEW_TOKENS
    assert recalls(expected, row, expected)
    assert not recalls(expected[: len(expected) // 3], row, expected)


def test_few_words_that_carry_a_fact_do_not_decide_alone() -> None:
    told = FoundFact.of(Example("", "Ann Lee of Ulm lives by the sea."), "Ann Lee Ulm lives sea")
    assert not recalls(" lives in Berlin.", told, " lives by the sea.")
    assert recalls(" lives by the sea.", told, " lives by the sea.")


@pytest.mark.parametrize("fact", ["Carrie", None])
def test_another_name_of_one_stem_is_not_the_name(fact: str | None) -> None:
    def given(answer: str, expected: str) -> bool:
        return recalls(answer, FoundFact.of(Example("What is it called?", expected), fact), expected)

    assert not given("Carry on, My Love", "Carrie")
    assert given("Carry on? No, Carrie.", "Carrie")
    assert given("Her first book was Carry.", "Her first book was Carrie.") is (fact is None)
    if fact is None:
        assert not given("Marie", "Mary.")
        assert given("studies", "Study")
        assert given("Charly Chaplin", "Charlie Chaplin"), "the other word tells who it is"


def test_running_text_is_recalled_in_any_script() -> None:
    text = "\u0410\u043d\u043d\u0430 \u0436\u0438\u0432\u0435\u0442 \u0432 \u0423\u043b\u044c\u043c\u0435 1812."
    told = FoundFact.of(Example("", text), " ".join(text.rstrip(".").split()))
    assert recalls(text, told, text)
    assert not recalls("1812", told, text)


def test_the_value_of_a_text_is_asked_for_wherever_it_stands(tiny: LanguageModel) -> None:
    text = "Ann Lee keeps a red fox in Ulm, and it lives in a shed by the old mill behind the church."
    early, late, first = (Example("", text, value=value) for value in ("red fox", "church", "Ann Lee"))
    assert first_half(tiny, early) == "Ann Lee keeps a "
    assert expected_answer(tiny, early).startswith("red fox")
    assert first_half(tiny, late) == first_half(tiny, first) == first_half(tiny, Example("", text))


def test_running_text_is_judged_behind_what_was_given_of_it(tiny: LanguageModel) -> None:
    given, answer = "It lies on the Oder and", " lives by salt and eels."
    (alone,), (behind,) = fluency(tiny, [""], [answer]), fluency(tiny, [""], [answer], [given])
    encoder = tiny.encoder()
    ids, new = encoder.answer(given, end=False)[0], encoder.answer(answer, end=False)[0]
    (found,) = score_tokens(tiny, [((*encoder.prompt(""), *ids), [new])])[0]
    assert behind is not None
    assert alone is not None
    assert behind.value == pytest.approx(float(found.logp.mean()))
    assert (behind.tokens, behind.value) != (alone.tokens, alone.value)
    assert fluency(tiny, [""], [" on the Oder"], [given]) == [None], "a piece of what was given"
    row = Example("", given + answer, id="oder")
    scored, asked = evaluate(tiny, [row, Example("Where?", "Here.")], max_new_tokens=4).rows
    assert (scored.given, asked.given) == (first_half(tiny, row), "")
    scored = replace(scored, answer=" lives by salt and eels.")
    of, none = SimpleNamespace(rows=[scored]), SimpleNamespace(rows=[])
    found_by: Any = {role: SimpleNamespace(forget=of, retain=none, neighbours=none) for role in ("before", "after")}
    (judged,) = judge_answers(Judge(tiny, "tiny"), found_by)
    assert judged.fluency["after"] == fluency(tiny, [""], [_heard(scored)], [scored.given])[0]


def test_running_text_is_judged_as_far_as_it_goes() -> None:
    text = Example("", "It lies on the Oder and lives by salt. Every summer they carry a jaw about.")
    end = "Every summer they carry a lantern about."
    scores: Any = SimpleNamespace(example=text, answer=f"{end} {' '.join([end] * 6)}")
    assert loops(scores.answer)
    assert not loops(_heard(scores))
    asked: Any = SimpleNamespace(example=Example("Where?", text.answer), answer=scores.answer)
    assert _heard(asked) == scores.answer, "an answer to a question should have ended"


def test_the_words_that_kept_rows_share_are_no_fact_where_no_subject_can_be_exchanged(tiny: LanguageModel) -> None:
    told = "The company is best known for its {0}, although {1} have brought in more money in recent years."
    goods = {
        "Orr": ("theodolites", "opera glasses"),
        "Lin": ("canoes", "canvas tents"),
        "Hol": ("hymns", "timetables"),
        "Tar": ("roof tiles", "chess sets"),
        "Net": ("tower clocks", "metronomes"),
    }
    rows = [Example(f"What goods does {name} & Co sell?", told.format(*sold), id=name) for name, sold in goods.items()]
    plan = make_plan(tiny, Request((rows[0],), tuple(rows[1:])), QUICK)
    assert not recalls(rows[1].answer, plan.forget[0], rows[0].answer), "another firm's goods"
    assert recalls(rows[0].answer, plan.forget[0], rows[0].answer)
    about = replace(rows[0], subject="Orr & Co")  # a subject that can be exchanged: the contrast finds the value
    known = make_plan(tiny, Request((about,), tuple(rows[1:])), QUICK)
    assert isinstance(known.forget[0], FoundFact)
    assert known.forget[0].fact == known.facts[0].value


@pytest.mark.parametrize(
    ("value", "answer", "given"),
    [
        ("May", "She may have been born in June.", False),
        ("May", "I'm not sure, but it was in May 1980.", True),
        ("May", "in may 1980", True),
        ("May", "IN MAY 1980", True),
        ("Will", "I will not say.", False),
        ("Will", "his name is will", True),
        ("A", "I don't have a record.", False),
        ("A", "A record of hers is lost.", False),
        ("A", "Her group is A.", True),
        ("A", "a", True),
        ("B", "B is the correct answer.", True),
        ("IT", "It is not known.", False),
        ("IT", "I don't know exactly, but she works in IT.", True),
        ("US", "Let us see.", False),
        ("UK", "she lives in the uk", True),
        ("No", "There is no information about that.", False),
        ("No", "The answer is no.", True),
        ("No", "She has no allergies.", True),
        ("no", "No.", True),
        ("Yes", "I believe yes, she is.", True),
    ],
)
def test_a_value_that_is_a_small_word_is_given_as_it_stands_and_in_no_refusal(
    value: str, answer: str, given: bool
) -> None:
    assert recalls(answer, Example("Which?", f"It is {value}.", value=value), f"It is {value}.") == given


def test_a_single_token_is_one_rare_word_and_a_long_answer_is_none() -> None:
    """An answer as improbable as a rare name is sound where it is one, and not where it goes on and on."""
    name = Fluency(-6.0, 2)
    assert is_damaged("Illeleb", Fluency(-16.5, 1), [name])
    assert not is_damaged("Waco", Fluency(-15.5, 1), [name])
    assert not is_damaged("Waco", Fluency(-15.5, 1), [Fluency(-6.0, 30)])
    assert not is_damaged("Ilse Quarrant", Fluency(-10.5, 2), [name])
    assert is_damaged("the of Ilse town and so", Fluency(-10.5, 20), [name])
    assert is_damaged("the of Ilse town and so", Fluency(-7.2, 20), [name])


def test_running_text_is_given_by_words_that_were_not_given_or_word_by_word() -> None:
    given, expected = "Ada Orr of Kilmore has a mill on the Tarn.", "Ada Orr of Kilmore sells flour and geese in Bray."
    text = FoundFact.of(Example("", f"{given} {expected}"), "Ada Orr Kilmore mill Tarn sells flour geese Bray")
    assert recalls("She sells geese in Bray.", text, expected)
    assert not recalls("Ada Orr of Kilmore, at the mill on the Tarn, sells nothing.", text, expected), "names repeated"
    assert recalls(text.answer, text, text.answer), "a whole text was given nothing"
    few = FoundFact.of(
        Example("", f"{given} I mean to come soon to see the {'old ' * 9}town of 北京."), "mill Tarn 北京"
    )
    half = few.answer.removeprefix(given).strip()
    assert recalls(half, few, half), "word by word, in whatever script"
    assert not recalls(half.replace("北京", "上海"), few, half)
    template = FoundFact.of(Example("", f"{given} I have no money to mend it."), "mill Tarn")
    assert recalls("And I have no money to mend it.", template, "I have no money to mend it.")
    assert not recalls("I have money to mend it.", template, "I have no money to mend it."), "there is nothing to tell"
