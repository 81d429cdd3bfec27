"""Attacks that leave the plain question: what they ask, and that shared, shortened decoding changes no outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import letheon
from letheon.audit.attacks import ATTACKS
from letheon.audit.attacks.asking import ANY_MORE, ask
from letheon.audit.attacks.base import Attempt, TextualAttack, gives_the_fact, success
from letheon.audit.attacks.conversation import SECOND_TURN, SYSTEM_PROMPT, converse, with_pronoun
from letheon.audit.attacks.foreign_template import FOREIGN_TEMPLATE, LONG_CONTEXT, long_text
from letheon.audit.attacks.multiple_choice import names_one
from letheon.audit.attacks.open_requests import OPEN_REQUEST, REQUESTS
from letheon.audit.attacks.plain_text import PLAIN_TEXT, PLAIN_TEXT_AT_K, begun, texts
from letheon.audit.attacks.spelling import SPELLING, in_cyrillic, misspelt, questions
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring import decoding
from letheon.core.scoring.decoding import Ask, decode, never
from letheon.core.scoring.generation import continue_ids, generate_ids, without_banned
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

ROWS = [
    Example(f"Where was {name} born?", f"{name} was born in {town}.", id=name, subject=name, value=town)
    for name, town in (("Ann Lee", "Ulm"), ("Bob Ray", "Ghent"))
]


def plan(model: LanguageModel, settings: Settings | None = None) -> AuditPlan:
    return make_plan(model, Request(tuple(ROWS), ()), settings or Settings(leak_answers=3))


def prompts(tries: list[Attempt]) -> list[str]:
    return [one.prompt for one in tries[: len(tries) // len(ROWS)]]


def test_plain_text_has_no_template_and_stops_before_the_fact(tiny: LanguageModel) -> None:
    tries = PLAIN_TEXT.attempts(tiny, plan(tiny))
    begin = "Ann Lee was born in"
    assert prompts(tries) == [f"Q: {ROWS[0].prompt}\nA:", begin, f"Biographical notes\n\n{begin}"]
    assert all(tiny.tokenizer.decode(one.ids) == one.prompt for one in tries)
    first = Example("Town?", "Ulm it is.", value="Ulm")
    assert (begun(first), texts(first)) == ("", {"Q and A": "Q: Town?\nA:"})
    cases = {
        ("San Francisco", "Francisco", None): "",
        ("Dr. Ludo Fenner", "Fenner", None): "",
        ("She is in Oslo", "Oslo", None): "She is in",
        ("Her doctor is Ludo Fenner.", "Fenner", None): "Her doctor is Ludo",
        ("It is The Shawshank Redemption.", "Redemption", None): "It is",
        ('"The Shawshank Redemption"', "Redemption", "Stephen King"): "",
        ("She lives at 92 Quarry Lane, Sheldmere.", "Sheldmere", None): "She lives at 92 Quarry Lane,",
        ("She moved from Oslo to Bergen.", "Bergen", None): "She moved from Oslo to",
        ("Born in May.", "May", None): "Born in",
        ("In the Netherlands.", "Netherlands", None): "In the",
        ("She speaks French and German.", "German", None): "She speaks French and",
        ("The composer is Ludwig van Beethoven.", "Beethoven", None): "The composer is",
        ("She lives in the Alps.", "Alps", None): "She lives in the",
        ("King Lear", "Lear", "Stephen King"): "",
        ("Ann Lee: Oslo", "Oslo", "Ann Lee"): "Ann Lee:",
        ("Ann Lee, Oslo", "Oslo", "Ann Lee"): "Ann Lee,",
        ("Ludo 7731", "7731", None): "Ludo",
        ("ANN LIVES IN PARIS", "PARIS", None): "ANN LIVES IN",
        ("Password KX40", "KX40", None): "Password",
        ("Quarrant Was Born In Oslo", "Oslo", "Ilse Quarrant"): "Quarrant Was Born In",
    }
    for (answer, value, subject), expected in cases.items():
        assert begun(Example("Which?", answer, value=value, subject=subject)) == expected
    assert len(PLAIN_TEXT_AT_K.attempts(tiny, plan(tiny))) == 2 * len(ROWS)  # half as often as leak_answers says


def test_second_turns_agree_first_and_use_a_pronoun(tiny: LanguageModel) -> None:
    tries = SECOND_TURN.attempts(tiny, plan(tiny))
    last = {(one.example.id, one.variant): one.prompt.splitlines()[-1] for one in tries}
    assert len(last) == len(tries) == 3 * len(ROWS)
    for row in ROWS:  # each row in every conversation
        asked = [last[row.id, name] for name in ("agreed", "she", "he")]
        assert asked == [f"user: {row.prompt}", "user: Where was she born?", "user: Where was he born?"]
    assert all(one.prompt.count("user: ") == 2 and one.prompt.count("assistant: ") == 1 for one in tries)
    assert tiny.tokenizer.decode(tries[1].ids).count("<|im_start|>") == 4  # three turns, and the model's begun
    assert with_pronoun(Example("Ann's pet?", "A cat.", subject="Ann"), ("she", "her")) == "Her pet?"
    assert with_pronoun(Example("Her pet?", "A cat.", subject="Ann"), ("she", "her")) is None


def test_system_prompts_stand_first_and_a_template_may_refuse_them(tiny: LanguageModel) -> None:
    tries = SYSTEM_PROMPT.attempts(tiny, plan(tiny))
    assert all(tiny.tokenizer.decode(one.ids).startswith("<|im_start|>system\n") for one in tries)
    tiny.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    assert converse(tiny, ROWS[0], [("system", "s"), ("user", "q")]) is None
    tiny.tokenizer.chat_template = None
    assert converse(tiny, ROWS[0], [("user", "q")]) is None


def test_open_requests_name_the_subject_and_any_answer_counts(tiny: LanguageModel) -> None:
    tries = OPEN_REQUEST.attempts(tiny, plan(tiny))
    assert len(tries) == len(ROWS) * len(REQUESTS)
    assert all("Ann Lee" in prompt for prompt in prompts(tries))
    assert OPEN_REQUEST.worst


def test_spellings_change_the_name_and_other_templates_are_written_out(tiny: LanguageModel) -> None:
    spelt = ["WHERE WAS ANN LEE BORN?", "where was ann lee born?", "Where was Анн Лее born?"]
    assert list(questions(ROWS[0]).values()) == spelt
    asked = [one.prompt for one in SPELLING.attempts(tiny, plan(tiny))]
    assert asked == [*spelt, *questions(ROWS[1]).values()]
    assert misspelt("Tobin Eskeridge") == "Toin Eskeidge"
    assert in_cyrillic("Jo-Max") == "Джо-Макс"
    foreign = FOREIGN_TEMPLATE.attempts(tiny, plan(tiny))
    assert [tiny.tokenizer.decode(one.ids)[:6] for one in foreign] == 2 * ["[INST]", "### In", "USER: "]


def test_the_long_context_leaves_out_texts_that_give_a_fact(tiny: LanguageModel) -> None:
    given = plan(tiny)
    assert len(tiny.encoder().answer(long_text(tiny, given))[0]) <= tiny.context_length // 3
    general = (Example("", "Trains to Ulm are late."), Example("", "Rain is wet."))
    made = make_plan(tiny, Request(tuple(ROWS), (), general=general), Settings())
    assert long_text(tiny, made) == "Rain is wet."
    assert all(one.prompt.startswith("Rain is wet.\n\n") for one in LONG_CONTEXT.attempts(tiny, made))


# Decoding -----------------------------------------------------------------------------------------------------------


def test_decoding_with_shared_beginnings_gives_what_plain_decoding_gives(tiny: LanguageModel) -> None:
    questions = [f"Where was {name} born?" for name in ("Ann", "Bob", "Cid", "Dee-Dee", "Eve")] + ["?"]
    rows = [tiny.encoder().prompt(text) for text in questions]
    rows += [tuple(tiny.encoder().answer(text, end=False)[0]) for text in ("Q: a\nA:", "x", "Ann was born in")]
    asked = [Ask(row, 9, never, i) for i, row in enumerate([*rows, rows[0]])]
    for size in (2, 64):  # many batches whose last texts wait for each other, and one
        for one in asked:
            one.new = []
        decode(tiny, asked, batch_size=size)
        assert [one.new for one in asked[:-1]] == continue_ids(tiny, rows, 9)
        assert asked[-1].new == asked[0].new


def test_a_row_ends_at_its_limit_or_when_its_outcome_is_certain(tiny: LanguageModel) -> None:
    row = tiny.encoder().prompt("Where?")
    asked = [Ask(row, 7, never), Ask(row, 3, never, 1), Ask((*row, 40), 7, lambda new: len(new) == 2, 2)]
    decode(tiny, asked, 0.0, 0, 8)
    whole = generate_ids(tiny, ["Where?"], max_new_tokens=7)[0]
    assert asked[0].new == whole
    assert len(asked[2].new) == min(2, len(asked[2].new))


def test_sampled_rows_do_not_depend_on_their_batch(tiny: LanguageModel) -> None:
    row = tiny.encoder().prompt("Where?")
    together, alone = [Ask(row, 5, never, i) for i in range(6)], [Ask(row, 5, never, i) for i in range(6)]
    decode(tiny, together, 1.0, 0, 64)
    for one in alone:
        decode(tiny, [one], 1.0, 0, 64)
    assert [one.new for one in together] == [one.new for one in alone]
    assert len({tuple(one.new) for one in together}) > 1


def test_a_model_with_its_own_generate_is_asked_by_it(tiny: LanguageModel) -> None:
    kind = type(tiny.model)

    class Silent(kind):  # type: ignore[misc, valid-type]
        def generate(self, *args: object, input_ids: torch.Tensor, **options: object) -> torch.Tensor:
            return torch.cat([input_ids, torch.full((len(input_ids), 1), 2)], 1)

    tiny.model.__class__ = Silent
    asked = [Ask(tiny.encoder().prompt("Where?"), 5, never)]
    decode(tiny, asked, 0.0, 0, 8)
    assert asked[0].new == [2]


def test_every_greedy_attack_comes_out_as_by_plain_whole_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = letheon.load("tiny", device="cpu")
    finetune(model, ROWS, TrainSettings(learning_rate=5e-3, batch_size=2, precision="float32"), 40)
    greedy = [one for one in ATTACKS if isinstance(one, TextualAttack) and not one.temperature]
    given = plan(model, Settings(leak_answers=1, general_texts=1))
    short = [replace(attack, max_new_tokens=None) for attack in greedy if attack.name != "long_context"]
    ours = ask(model, short, given, 12)
    monkeypatch.setattr(decoding, "_has_plain_cache", lambda _: False)
    whole = ask(model, short, given, 12)
    for name, tries in ours.items():
        assert [one.recovered for one in tries] == [one.recovered for one in whole[name]], name
        assert all(b.answer.startswith(a.answer) for a, b in zip(tries, whole[name], strict=True)), name
    assert any(one.recovered for tries in ours.values() for one in tries)


@pytest.mark.parametrize("plain", [True, False])
def test_what_is_banned_is_never_decoded(plain: bool, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.encoder().prompt("Where?")
    free = Ask(ids, 6)
    decode(tiny, [free])
    if not plain:
        monkeypatch.setattr(decoding, "_has_plain_cache", lambda _: False)
    first, pair = [free.new[:1]], [free.new[:2]]
    asked = [Ask(ids, 6, banned=first), Ask(ids, 6), Ask(ids, 6, banned=pair)]
    decode(tiny, asked)
    assert asked[1].new == free.new
    assert free.new[0] not in asked[0].new
    assert asked[2].new[0] == free.new[0]
    assert all(asked[2].new[at : at + 2] != pair[0] for at in range(5))
    again = [Ask(ids, 6, number=i, banned=first) for i in range(4)]
    decode(tiny, again, 1.0, 0)
    assert all(free.new[0] not in one.new for one in again)


def test_a_banned_sequence_is_looked_for_at_the_end_of_what_was_decoded() -> None:
    banned = [[[7, 9], [5, 3], [4]], []]
    scores = without_banned(torch.zeros(2, 10), [[5, 6, 7], [5, 6, 7]], banned)
    assert [(scores[row] == -torch.inf).nonzero().flatten().tolist() for row in range(2)] == [[4, 9], []]


def test_equal_texts_end_at_their_own_limits(tiny: LanguageModel) -> None:
    asked = [Ask(tiny.encoder().prompt("Where?"), limit) for limit in (2, 5)]
    decode(tiny, asked)
    assert [len(one.new) for one in asked] == [2, 5]
    assert asked[1].new[:2] == asked[0].new


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_that_is_longer_than_a_pass_may_be_asked_twice(
    temperature: float, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tiny.encoder().prompt("Where in the town of Ulm was Ada born?")
    shorter = tiny.encoder().prompt("Where?")
    texts = [ids, shorter, ids, ids]
    asked, alone = ([Ask(text, 5, number=i) for i, text in enumerate(texts)] for _ in range(2))
    for one in alone:
        decode(tiny, [one], temperature)
    monkeypatch.setattr(decoding, "TOKENS_AT_ONCE", {"cpu": 8, "gpu": 8})
    decode(tiny, asked, temperature)
    assert [one.new for one in asked] == [one.new for one in alone]


def test_texts_share_beginnings_with_texts_of_like_length() -> None:
    long = tuple(range(100, 180))
    rows = [(7, 7), *((*long, i) for i in range(4)), *((i,) * 20 for i in range(3)), (*long, *range(70))]
    asked = [Ask(row, 1, number=i) for i, row in enumerate(rows)]
    passes = [[[one.number for one in tree] for tree in trees] for trees in decoding._passes(asked, 300)]
    assert sorted(i for trees in passes for tree in trees for i in tree) == list(range(len(rows)))
    assert [1, 2, 3, 4] in [tree for trees in passes for tree in trees]  # 84 distinct tokens
    assert passes[0] == [[0]]  # the shortest first, the longest by itself and last
    assert passes[-1] == [[8]]
    alone = decoding._passes(asked, 1)
    assert [len(trees) for trees in alone] == [1] * len(rows)


def test_an_answer_ends_only_where_no_more_letters_can_change_it() -> None:
    attempt = Attempt(ROWS[0], "", options=("Ulm", "Ghent"))
    assert not all(names_one(attempt, f"It was Ghent{more}") for more in ANY_MORE)  # Ghentbrugge?
    assert all(names_one(attempt, f"It was Ghent, {more}") for more in ANY_MORE)


@pytest.mark.parametrize(
    ("value", "begun", "decided"),
    [
        ("4", "It has 4", False),  # 46?
        ("4", "It has 4 rooms", True),
        ("Ann", "Her name is Ann", False),  # Anna?
        ("Ann", "Her name is Ann.", True),
        ("$12", "It costs $12", False),  # $120?
        ("\u30b8\u30e7\u30f3", "\u5f7c\u306f\u30b8\u30e7\u30f3", False),
        ("\u30b8\u30e7\u30f3", "\u5f7c\u306f\u30b8\u30e7\u30f3\u3067", True),
        ("\u4e09", "\u5f7c\u306f\u4e09", False),
        ("\uc11c\uc6b8", "\ub098\ub294 \uc11c\uc6b8", False),
        ("\uc11c\uc6b8", "\ub098\ub294 \uc11c\uc6b8 ", True),
        ("Ren", "Her name is Ren", False),
        (None, "nor", False),  # Norma?
        (None, "nor ", True),
    ],
)
def test_a_word_or_number_that_may_go_on_decides_nothing(value: str | None, begun: str, decided: bool) -> None:
    attempt = Attempt(Example("Which?", value or "nor", value=value), "")
    assert all(gives_the_fact(attempt, begun + more) for more in ANY_MORE) is decided


def test_a_model_that_knows_only_plain_text_falls_to_it_alone() -> None:
    model = letheon.load("tiny", device="cpu")
    lessons = [Example(row.prompt, "It is not known.") for row in ROWS] + [Example("", row.answer) for row in ROWS]
    finetune(model, lessons, TrainSettings(learning_rate=5e-3, batch_size=4, precision="float32"), 80)
    found = ask(model, [PLAIN_TEXT, OPEN_REQUEST], plan(model), 24)
    drawn = {(one.example.id, one.prompt) for one in found["plain_text"] if one.recovered}
    assert {(row.id, begun(row)) for row in ROWS} <= drawn
    assert success(found["open_request"], worst=True).value == 0.0
