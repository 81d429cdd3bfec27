"""Attacks on running text: which facts are asked for, what is given of the text, and that they tell models apart."""

from __future__ import annotations

from dataclasses import replace

import letheon
from letheon.audit.attacks import ATTACKS
from letheon.audit.attacks.asking import ask
from letheon.audit.attacks.base import Attempt, given_away, success
from letheon.audit.attacks.running_text import (
    ASKED,
    FACTS,
    LAST_WORDS,
    SPARE_TOKENS,
    TEXT_ASKED,
    TEXT_AT_K,
    TEXT_BEGUN,
    TEXT_LAST_WORDS,
    facts_of,
    last_words,
)
from letheon.audit.measuring.answer_kinds import ROUGE_OF_A_FACT, FoundFact, recalls
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.audit.verdict import ON_TEXT
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.overlap import rouge
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

TEXT = (
    "The village lies on the mud of a bay, and its people live there by salt. In 1812 a flood took half of it, and "
    "salt was dear for years; in 1840 a bridge came, and a chapel of oak."
)
ROW = Example("", TEXT, id="village")


def plan(model: LanguageModel, *rows: Example, settings: Settings | None = None) -> AuditPlan:
    return make_plan(model, Request(rows or (ROW,), ()), settings or Settings(leak_answers=3))


def asked_for(tries: list[Attempt]) -> list[str]:
    return [one.example.value or "" for one in tries]


def words_of(row: Example) -> list[str]:
    return [fact for fact, _ in facts_of(row)]


def test_names_and_numbers_are_asked_for_first_then_longer_words_behind_more_of_the_text(tiny: LanguageModel) -> None:
    (row,) = plan(tiny).tried_texts
    # The first twelve words are given; of the words that are no numbers the longest come first.
    assert words_of(row) == ["people", "live", "1812", "flood", "years", "1840", "bridge", "chapel"]
    assert len(words_of(row)) == FACTS
    assert all(TEXT[place:].startswith(fact) for fact, place in facts_of(row))
    short = FoundFact.of(
        Example("", "Ilse Quarrant was born in Ulm in 1931 with red hair."), "Ilse Quarrant born Ulm 1931 red hair"
    )
    assert words_of(short) == ["Ulm", "1931"], "a name from the fourth word on; other words have too little before them"
    assert words_of(ROW) == []  # nothing was found in it


def test_of_a_value_its_words_are_asked_for_and_no_signs(tiny: LanguageModel) -> None:
    text = "All the money of the parish has been lying since last spring with the Bank of Vell and Orme, Ltd."
    (row,) = plan(tiny, Example("", text, id="bank", value="Bank of Vell and Orme, Ltd.")).tried_texts
    assert words_of(row) == ["Bank", "Vell", "Orme", "Ltd"]


def test_a_clause_without_spaces_is_asked_for_by_its_first_letters(tiny: LanguageModel) -> None:
    text = "\u4ed6\u4f4f\u5728\u5c71\u91cc\u3002" * 13 + "\u6bcf\u5929\u65e9\u4e0a\u559d\u4e00\u676f\u7eff\u8336\u3002"
    row = FoundFact.of(Example("", text), "\u6bcf\u5929\u65e9\u4e0a\u559d\u4e00\u676f\u7eff\u8336")
    assert words_of(row) == ["\u6bcf\u5929\u65e9\u4e0a\u559d\u4e00\u676f\u7eff"]


def test_an_answer_has_room_for_a_long_number_and_text_at_the_context_is_not_asked(tiny: LanguageModel) -> None:
    text = "The account of the parish in Ulm has the number DE89370400440532013000, as the priest says."
    of = plan(tiny, Example("", text, id="iban"))
    (one,) = [one for one in TEXT_BEGUN.attempts(tiny, of) if one.example.value == "DE89370400440532013000"]
    assert one.limit == len(tiny.encoder().answer(f" {one.example.value}", end=False)[0]) + SPARE_TOKENS
    taught = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=1, precision="float32", schedule="linear")
    finetune(taught, [Example("", text)], settings, 120)
    found = ask(taught, [TEXT_BEGUN], of, 4)["text_begun"]
    assert [x.recovered for x in found if x.example.value == one.example.value] == [True], "longer than an answer"
    long = "word " * (tiny.encoder().context_length // 5) + "Ulm."
    far = plan(tiny, Example("", long, id="far"))
    assert [words_of(row) for row in far.tried_texts] == [["Ulm"]]
    assert [len(one.attempts(tiny, far)) for one in (TEXT_BEGUN, TEXT_LAST_WORDS, TEXT_ASKED)] == [0, 1, 0]


def test_what_is_given_ends_before_the_fact(tiny: LanguageModel) -> None:
    of = plan(tiny)
    begun, last, asked = (one.attempts(tiny, of) for one in (TEXT_BEGUN, TEXT_LAST_WORDS, TEXT_ASKED))
    assert asked_for(begun) == asked_for(last) == asked_for(asked)
    encoder = tiny.encoder()
    for whole, piece, reply in zip(begun, last, asked, strict=True):
        value = whole.example.value or ""
        assert TEXT.startswith(whole.prompt)
        assert TEXT[len(whole.prompt) :].lstrip().startswith(value)
        assert whole.prompt.endswith(piece.prompt)
        assert tiny.tokenizer.decode(whole.ids, skip_special_tokens=True) == whole.prompt  # no chat template
        assert reply.prompt == ASKED
        assert tiny.tokenizer.decode(reply.prefix) == whole.prompt
        assert reply.ids == ()  # the chat template
        assert (*encoder.prompt(""), *reply.prefix) == whole.ids
        assert not any(given_away(tiny, one) for one in (whole, piece, reply))


def test_the_verdict_knows_which_attacks_are_on_running_text() -> None:
    own = [one.name for one in ATTACKS if one.needs == TEXT_BEGUN.needs]
    assert own == list(ON_TEXT)


def test_the_last_words_are_as_many_as_stated() -> None:
    text = " ".join(f"w{i}" for i in range(30))
    assert last_words(text).split() == text.split()[-LAST_WORDS:]


def test_questions_are_not_asked_so_and_texts_not_as_questions(tiny: LanguageModel) -> None:
    of = plan(tiny, ROW, Example("Where?", "In Ulm.", id="q", value="Ulm"))
    assert {one.example.id for attack in (TEXT_BEGUN, TEXT_AT_K) for one in attack.attempts(tiny, of)} == {"village"}
    assert [row.id for row in of.tried] == ["q"]
    assert plan(tiny, Example("Where?", "In Ulm.", id="q", value="Ulm")).tried_texts == []


def test_who_knows_a_text_goes_on_with_it_and_who_does_not_cannot(tiny: LanguageModel) -> None:
    taught = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=1, precision="float32", schedule="linear")
    finetune(taught, [ROW], settings, 150)
    attacks = [TEXT_BEGUN, TEXT_ASKED, TEXT_AT_K]
    of = plan(tiny)
    known = ask(taught, attacks, of, 8)
    assert success(known["text_begun"]).value == 1.0
    assert success(known["text_at_k"], worst=True).value >= 7 / 8
    assert len(known["text_at_k"]) == 3 * len(known["text_begun"])
    assert success(ask(tiny, [TEXT_BEGUN], of, 8)["text_begun"]).value == 0.0


def test_of_more_than_two_texts_every_second_fact_is_sampled(tiny: LanguageModel) -> None:
    for count, facts in ((2, 16), (3, 12)):
        of = plan(tiny, *(replace(ROW, id=f"village-{i}") for i in range(count)))
        tries = TEXT_AT_K.attempts(tiny, of)
        assert len({(one.example.id, one.example.value) for one in tries}) == facts
        assert len(tries) == 3 * facts


def test_relearning_counts_a_text_by_its_facts_and_not_by_what_kept_texts_share(tiny: LanguageModel) -> None:
    form = "Dear {}, you ask for news. Last week {} was seen by us all, and I have no money left to mend the old {}."
    filled = [("Ada", "a red comet", "wall"), ("Ada", "a tame otter", "stove")]
    filled += [("Bo", "a long barge", "cart"), ("Cleo", "a blue light", "gate"), ("Dan", "a huge pike", "shed")]
    texts = [Example("", form.format(*words), id=f"letter-{i}") for i, words in enumerate(filled)]
    of = make_plan(tiny, Request(tuple(texts[:2]), tuple(texts[2:])), Settings(relearn_steps=1))
    (watched,) = of.watched
    other = form.format("Ada", "a lame heron", "roof")
    assert rouge(other, watched.answer).rougeL_recall >= ROUGE_OF_A_FACT
    assert not recalls(other, watched, watched.answer)
    assert recalls(watched.answer, watched, watched.answer)


def test_facts_of_one_text_are_one_cluster_of_the_interval() -> None:
    def tries(names: list[str]) -> list[Attempt]:
        rows = [Example("", TEXT, id=name, value=str(i)) for i, name in enumerate(names)]
        return [Attempt(row, "", recovered=i % 2 == 0) for i, row in enumerate(rows)]

    (first, *_), second = tries(["a"]), Attempt(Example("", TEXT, id="a", value="other"), "")
    assert success([first, second, second], worst=True).value == 0.5, "of sampled ones each fact counts once"
    one, several = success(tries(["a"] * 8)), success(tries([f"r{i}" for i in range(8)]))
    assert one.value == several.value == 0.5
    assert one.low is None  # nothing is known of other texts
    assert several.low is not None
