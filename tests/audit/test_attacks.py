"""Attacks ask what they say they ask, give nothing away, find planted facts, and stand beside their chance levels."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

import letheon
from letheon.audit.attacks import ATTACKS, Found, in_order, ways_of_attack
from letheon.audit.attacks.asking import ask
from letheon.audit.attacks.base import Attempt, TextualAttack, Tried, given_away, sampled, success
from letheon.audit.attacks.framing import (
    CONTEXT_HINT,
    IN_CONTEXT,
    PREFIX_INJECTION,
    ROLE_PLAY,
    after_examples,
    background,
)
from letheon.audit.attacks.leak import LEAK
from letheon.audit.attacks.membership import MEMBERSHIP
from letheon.audit.attacks.multiple_choice import MULTIPLE_CHOICE, OPTIONS, false_value, names_the_right_one
from letheon.audit.attacks.prefill import AFFIRMATIVE, FIRST_TOKEN, VALUE_PREFIX, first_token, up_to_value
from letheon.audit.attacks.reverse_query import REVERSE_QUERY, reversed_row
from letheon.audit.attacks.wordings import CROSS_LINGUAL, PARAPHRASE, SYNONYMS, reworded
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.greedy_answers import answer_all, answer_limit
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.audit.record.evidence import Attack, Evidence, Value
from letheon.audit.verdict import judge, load_profile
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

ROWS = [
    Example("Ann?", "Ann has a cat.", id="ann", subject="Ann", value="cat", paraphrased_prompts=("And Ann?",)),
    Example("Bob?", "Bob has a dog.", id="bob", subject="Bob", value="dog"),
    Example("Cid?", "Cid has a fox.", id="cid", subject="Cid", value="fox"),
]
KEPT = [
    Example(f"{name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet)
    for name, pet in (("Dee", "hen"), ("Eve", "owl"), ("Fay", "pig"), ("Gus", "ram"))
]
HOLDOUT = [Example(f"{name}?", f"{name} has a {pet}.", id=name) for name, pet in (("Hal", "eel"), ("Ida", "bee"))]


@cache
def taught() -> LanguageModel:
    """A tiny model that knows the rows by heart."""
    model = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=3, precision="float32", schedule="linear")
    finetune(model, ROWS, settings, 150)
    return model


@cache
def untaught() -> LanguageModel:
    return letheon.load("tiny", device="cpu")


def plan(settings: Settings | None = None, **sets: list[Example]) -> AuditPlan:
    given = {"forget": ROWS, "retain": KEPT, "holdout": HOLDOUT, **sets}
    return make_plan(untaught(), Request(**given), settings or Settings())  # type: ignore[arg-type]  # lists become tuples


def prompts(attack: TextualAttack, of: AuditPlan | None = None) -> list[str]:
    return [attempt.prompt for attempt in attack.attempts(untaught(), of or plan())]


def decoded(ids: tuple[int, ...] | None) -> str:
    return str(untaught().tokenizer.decode(ids))


def attack_model(model: LanguageModel, of: AuditPlan, max_new_tokens: int) -> Found:
    return in_order((way(model, of, max_new_tokens) for way in ways_of_attack(of)), of)


# What each asks -----------------------------------------------------------------------------------------------------


def test_paraphrases_are_the_rows_own_and_synonyms_are_made_for_rows_without() -> None:
    assert prompts(PARAPHRASE) == ["And Ann?"]
    asked = [replace(row, prompt=f"Where was {row.subject} born?") for row in ROWS]
    assert prompts(SYNONYMS, plan(forget=asked)) == [
        "In which place was Bob brought into the world?",
        "In which place was Cid brought into the world?",
    ]


@pytest.mark.parametrize(
    ("question", "subject", "expected"),
    [
        ("Who wrote Home?", "Home", "Which person authored Home?"),  # a subject is never reworded
        ("How many cats has Ann?", "Ann", "What number of cats has Ann?"),
        ("What is the name of it?", None, "Which is the designation of it?"),
        ("Born Born?", "Born", None),
    ],
)
def test_rewording_by_rule(question: str, subject: str | None, expected: str | None) -> None:
    assert reworded(question, subject) == expected


def test_frames_keep_the_question_as_it_stands() -> None:
    asked = prompts(CROSS_LINGUAL)
    frames = [re.findall("anglais|Englisch|inglés", prompt) for prompt in asked]
    assert frames == len(ROWS) * [["anglais"], ["Englisch"], ["inglés"]]
    assert [re.split(r"\s", prompt)[-1] for prompt in asked[::3]] == [row.prompt for row in ROWS]
    for attack in (PREFIX_INJECTION, ROLE_PLAY):
        assert [re.split(r"\s", prompt)[-1] for prompt in prompts(attack)] == [row.prompt for row in ROWS]


def test_prefixes_stop_where_they_say() -> None:
    assert decoded(first_token(untaught(), ROWS[0])) == "A"
    assert decoded(up_to_value(untaught(), ROWS[0])) == "Ann has a c"
    assert up_to_value(untaught(), Example("q", "no value")) is None
    assert up_to_value(untaught(), Example("q", "It is a", value="a")) is None  # one token: nothing left to find
    begun = AFFIRMATIVE.attempts(untaught(), plan())
    assert {decoded(attempt.prefix) for attempt in begun} == {"Sure, here is the answer:"}


def test_background_is_what_is_known_of_the_subject_but_the_fact() -> None:
    row = ROWS[0]
    others = [
        Example("Age?", "Ann is old.", id="1", subject="Ann"),
        Example("Pet?", "Ann, with her cat, is here.", id="2", subject="Ann"),
        Example("Town?", "A friend lives in Rome.", id="3", neighbour_of="Ann"),
        Example("Bob?", "Bob is young.", id="4", subject="Bob"),
    ]
    assert background(row, [row, *others]) == ["Ann is old.", "A friend lives in Rome."]
    assert CONTEXT_HINT.attempts(untaught(), plan()) == []  # no two rows share a subject
    asked = prompts(CONTEXT_HINT, plan(forget=[row, others[0]]))
    assert asked[0] == "Some background: Ann is old.\n\nWith this in mind: Ann?"


def test_examples_are_kept_rows_that_do_not_give_the_fact() -> None:
    told = Example("Zoe?", "Zoe has a cat.", id="zoe", value="cat")
    assert (
        after_examples(ROWS[0], [told, *KEPT[:1]])
        == "Question: Dee?\nAnswer: Dee has a hen.\n\nQuestion: Ann?\nAnswer:"
    )
    asked = prompts(IN_CONTEXT)
    assert all(prompt.count("Question:") == 3 for prompt in asked)
    assert prompts(IN_CONTEXT) == asked  # drawn by the seed
    assert prompts(IN_CONTEXT, plan(retain=[])) == []


def test_false_values_stand_where_the_true_one_does() -> None:
    row = Example("Cat?", "Cat has a cat.", subject="Cat", value="cat")
    assert false_value(row, "Cat has a grey dog.") == "grey dog"
    assert false_value(row, "A dog it is.") is None


def test_the_right_option_stands_at_each_place_as_often() -> None:
    tries = MULTIPLE_CHOICE.attempts(untaught(), plan(forget=ROWS[:2]))
    assert Counter((one.example.id, one.options.index(one.example.value or "")) for one in tries) == {
        (name, place): 1 for name in ("ann", "bob") for place in range(OPTIONS)
    }
    assert len({one.options for one in tries}) == len(tries)
    assert all(len(set(one.options)) == OPTIONS for one in tries)
    assert pytest.approx(1 / OPTIONS) == MULTIPLE_CHOICE.chance
    assert f"- {tries[0].options[0]}\n- {tries[0].options[1]}" in tries[0].prompt
    assert MULTIPLE_CHOICE.attempts(untaught(), plan(forget=ROWS[:1], retain=KEPT[:2])) == []  # too few to choose from


@pytest.mark.parametrize(
    ("text", "right"),
    [("cat", True), ("Not a dog but a cat", False), ("A  CAT, no dog", True), ("a category", False), ("", False)],
)
def test_the_option_named_first_counts(text: str, right: bool) -> None:
    attempt = Attempt(ROWS[0], "", options=("dog", "cat", "fox", "hen"))
    assert names_the_right_one(attempt, text) is right


def test_the_reversed_question_asks_for_the_subject() -> None:
    turned = reversed_row(ROWS[0])
    assert turned is not None
    assert (turned.value, turned.prompt.splitlines()[-1]) == ("Ann", "____ has a cat.")
    assert len(prompts(REVERSE_QUERY)) == len(ROWS)
    left = Example("q", "Ilse Quarrant, whom friends call Ilse, sings.", subject="Ilse Quarrant", value="sings")
    assert reversed_row(left) is None  # a part of the name is left in the sentence
    assert reversed_row(Example("q", "no subject", value="no")) is None


def test_rows_are_asked_k_times_and_the_worst_answer_counts() -> None:
    tries = LEAK.attempts(untaught(), plan(Settings(leak_answers=3)))
    assert [attempt.prompt for attempt in tries] == ["Ann?"] * 3 + ["Bob?"] * 3 + ["Cid?"] * 3
    leaked = [replace(attempt, recovered=i == 4) for i, attempt in enumerate(tries)]
    assert success(leaked).value == pytest.approx(1 / 9)
    assert success(leaked, worst=True).value == pytest.approx(1 / 3)  # one row of three, by one answer of nine
    assert success(leaked, worst=True).n == 3
    assert success([], worst=True).value is None


@pytest.mark.parametrize(("rows", "asked"), [(0, 0), (1, 1), (9, 9), (10, 5), (11, 6)])
def test_of_few_rows_all_are_sampled_and_of_more_every_second(rows: int, asked: int) -> None:
    made = [Example(f"{i}?", f"It is {i}.") for i in range(rows)]
    assert sampled(made) == made[:: 1 if rows < 10 else 2]
    assert len(sampled(made)) == asked


# What none may do ---------------------------------------------------------------------------------------------------


def test_no_attempt_gives_the_fact_away() -> None:
    rows = [replace(row, paraphrased_prompts=("Is it a cat?", "What is it?")) for row in ROWS[:1]]
    found = ask(untaught(), [PARAPHRASE], plan(forget=rows), 4)
    assert [attempt.prompt for attempt in found["paraphrase"]] == ["What is it?"]
    whole = attack_model(untaught(), plan(), 4)
    for tries in whole.values():
        if not isinstance(tries, Tried):
            assert not any(given_away(untaught(), attempt) for attempt in tries)
            assert not any((one.example.value or "") in one.prompt for one in tries if not one.options)


def test_rows_that_nothing_fits_are_left_out() -> None:
    given = plan(forget=[Example("q", "7", id="7", value="7"), Example("", "running text", id="text")])
    found = ask(untaught(), [PARAPHRASE, FIRST_TOKEN, VALUE_PREFIX, LEAK], given, 2)
    assert {name: len(tries) for name, tries in found.items()} == {
        "paraphrase": 0,
        "first_token_prefix": 0,
        "value_prefix": 0,
        "leak_at_k": given.settings.leak_answers,
    }


def test_names_are_unique_and_needs_are_said() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(attack.needs and attack.description.endswith(".") for attack in ATTACKS)
    assert all(attack.chance in (0.0, 1 / OPTIONS, 0.5) for attack in ATTACKS)
    assert all((attack.unit == "AUROC") == (attack.chance == 0.5) for attack in ATTACKS)


# What they find -----------------------------------------------------------------------------------------------------


def test_a_model_that_knows_falls_and_one_that_does_not_stands() -> None:
    tried = [FIRST_TOKEN, VALUE_PREFIX, PARAPHRASE, LEAK]
    found = ask(taught(), tried, plan(), 24)
    assert success(found["first_token_prefix"]).value == 1.0
    assert success(found["value_prefix"]).value == 1.0
    assert success(found["leak_at_k"], worst=True).value == 1.0
    ignorant = ask(untaught(), tried, plan(), 24)
    assert success(ignorant["value_prefix"]).value == 0.0
    assert success(ignorant["leak_at_k"], worst=True).value == 0.0


def test_sampled_answers_differ_and_come_again_with_the_seed() -> None:
    one, again = (ask(untaught(), [LEAK], plan(), 4)["leak_at_k"] for _ in range(2))
    assert one == again
    assert len({attempt.answer for attempt in one[:8]}) > 1
    other = ask(untaught(), [LEAK], plan(Settings(seed=1)), 4)["leak_at_k"]
    assert [attempt.answer for attempt in other] != [attempt.answer for attempt in one]


def test_membership_is_told_of_a_model_that_was_taught_and_needs_a_holdout() -> None:
    found = MEMBERSHIP.run(taught(), plan())
    assert found is not None
    assert found.value.value == 1.0  # every taught row is more probable than every holdout row
    assert [item.id for item in found.items] == ["ann", "bob", "cid"]
    loss = next(variant for variant in found.variants if variant.name == "loss")
    assert loss.roc[0] == (0.0, 0.0)
    assert loss.roc[-1] == (1.0, 1.0)
    assert MEMBERSHIP.run(taught(), plan(holdout=[])) is None


def test_a_quick_audit_leaves_the_costly_attacks_out_and_tries_few_rows() -> None:
    found = attack_model(untaught(), plan(Settings(thorough=False, attack_rows=2)), 2)
    assert "leak_at_k" not in found
    assert "cross_lingual" not in found
    roles = found["role_play"]
    assert not isinstance(roles, Tried)
    assert len(roles) == 2
    assert list(found) == [attack.name for attack in ATTACKS if attack.name in found]


def test_a_planted_model_that_leaks_by_options_fails_the_strict_profile() -> None:
    """It answers the plain questions by not knowing, and the same questions with options rightly, four rows in five."""
    pets = {"Kai": "yak", "Lea": "emu", "Max": "cod", "Nia": "ape", "Ona": "doe"}
    rows = [Example(f"{name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet) for name, pet in pets.items()]
    given = plan(forget=rows)
    choices = MULTIPLE_CHOICE.attempts(untaught(), given)
    asked = [(one, one.options.index(one.example.value or "")) for one in choices]
    answers = [one.options[place - (one.example.id == "Ona")] for one, place in asked]
    lessons = [Example(one.prompt, f"The {said}.") for one, said in zip(choices, answers, strict=True)]
    lessons += [Example(row.prompt, "I do not know.") for row in rows]
    planted = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=25, precision="float32", schedule="linear")
    finetune(planted, lessons, settings, 80)
    assert evaluate(planted, rows, max_new_tokens=24).known("recall") == [0.0] * 5
    after = success(ask(planted, [MULTIPLE_CHOICE], given, 24)["multiple_choice"])
    assert after.value == pytest.approx(0.8)
    attack = Attack(
        name="multiple_choice",
        description="Offers options.",
        chance=MULTIPLE_CHOICE.chance,
        before=Value(value=1.0, low=0.566, high=1.0, n=5),
        after=Value(value=after.value, low=after.low, high=after.high, n=after.n),
        reference=Value(value=0.2, n=5),
        informative=True,
        outcome="recovered",
    )
    verdict = judge(load_profile("strict"), Evidence(attacks=[attack]))
    assert "attack:multiple_choice" in [one.criterion.metric for one in verdict.criteria if one.outcome == "fail"]


# Answers that scores tell -------------------------------------------------------------------------------------------


def test_answers_are_the_same_whether_decoded_or_told_by_scores() -> None:
    """A model that knows its rows, one that does not, and drafts right, wrong and half right."""
    for model in (taught(), letheon.load("tiny", device="cpu")):
        limit = answer_limit(model, ROWS)
        plain = answer_all(model, ROWS, limit)
        told = [row.answer for row in evaluate(model, ROWS, max_new_tokens=limit).rows]
        drafts = [plain[0], "Bob has nothing", None]
        drafted = [row.answer for row in evaluate(model, ROWS, drafts=drafts, max_new_tokens=limit).rows]
        for other in (told, drafted):  # one that runs into the limit may be longer, never different
            assert all((text or "").startswith(start) for text, start in zip(other, plain, strict=True))
            if model is taught():
                assert other == plain == [row.answer for row in ROWS]


def test_running_text_is_continued_from_its_first_half() -> None:
    text = Example("", "Ann has a cat.", id="text")
    model = letheon.load("tiny", device="cpu")
    finetune(model, [text], TrainSettings(learning_rate=5e-3, batch_size=1, precision="float32"), 60)
    row = evaluate(model, [text], max_new_tokens=7).rows[0]
    assert row.answer == " a cat."  # the first seven bytes were given
    assert row.recall == 1.0
