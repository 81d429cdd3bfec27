"""Models are asked with the chat template of the model before, and taking it away is no way to pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.audit.test_attacks import KEPT, ROWS, taught
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from letheon.audit.attacks.conversation import SECOND_TURN
from letheon.audit.attacks.own_template import OWN_TEMPLATE
from letheon.audit.measuring.templates import Asking, Template, changed, template_of, with_template
from letheon.audit.plan import Settings, make_plan
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import stop_tokens
from letheon.forget.request import Request

REQUEST = Request(tuple(ROWS), tuple(KEPT), general=(Example("", "Rain is wet."),))
RAISES = "{{ raise_exception('no turns') }}"
OTHER = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant> "
SMALL = Settings(thorough=False, relearn_steps=1, grids=(), general_texts=1, max_new_tokens=8)


@pytest.mark.parametrize("template", [None, RAISES, OTHER])
def test_a_model_with_another_template_is_asked_like_the_model_before(template: Any) -> None:
    before = taught()
    after = with_template(before, template)
    asked, came = Asking.of(before).alike(after)
    assert (came.text, came.asked) == (template, False)
    assert after.tokenizer.chat_template == template  # the given model stays as it is
    assert asked.model is after.model
    plan = make_plan(before, REQUEST, Settings())
    ours, theirs = (SECOND_TURN.attempts(model, plan) for model in (before, asked))
    assert ours
    assert [one.ids for one in ours] == [one.ids for one in theirs]
    same, kept = Asking.of(before).alike(before)
    assert (same.model, same.tokenizer, same.stops) == (before.model, before.tokenizer, tuple(stop_tokens(before)))
    assert kept == template_of(before)


def test_a_tokenizer_without_its_merges_is_not_used() -> None:
    """It would spell every name in letters, which the weights never saw, and pass."""
    before, after = taught(), with_template(taught(), taught().tokenizer.chat_template)
    parts = json.loads(before.tokenizer.backend_tokenizer.to_str())
    parts["normalizer"] = {"type": "Lowercase"}
    spelling = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(parts)))
    spelling.chat_template = before.tokenizer.chat_template
    after = replace(after, tokenizer=spelling, _encoder=None)
    assert after.encoder().prompt("Ann?") != before.encoder().prompt("Ann?")
    asked, came = Asking.of(before).alike(after)
    assert asked.encoder().prompt("Ann?") == before.encoder().prompt("Ann?")
    assert (came.asked, came.same_tokenizer) == (True, False)
    assert "came with another tokenizer" in changed({"before": template_of(before), "after": came})[0]


@pytest.mark.parametrize(
    ("template", "start"), [(OTHER, "<user> Ann?\n<assistant> "), (None, "Ann?\n"), (RAISES, "Ann?\n")]
)
def test_the_template_that_a_model_came_with_is_asked_too(template: str | None, start: str) -> None:
    model = taught()
    plan = make_plan(model, REQUEST, Settings())
    (first, *_) = OWN_TEMPLATE.attempts(model, replace(plan, came_with=Template(template, asked=False)))
    assert model.tokenizer.decode(first.ids) == start
    (first, *_) = OWN_TEMPLATE.attempts(model, plan)
    assert first.ids == ()


def record_of(after: LanguageModel) -> Audit:
    return audit(taught(), after, REQUEST, settings=SMALL, cache=False, progress=lambda *_: None)


@pytest.mark.parametrize("template", [None, RAISES])
def test_a_model_without_its_template_is_attacked_by_turns_all_the_same(template: Any) -> None:
    """The model before, unchanged, with its template taken away: it must not escape the attacks that need one."""
    record = record_of(with_template(taught(), template))
    known = {attack.name: attack for attack in record.attacks}
    assert known["second_turn"].after.value == known["second_turn"].before.value
    said = next(warning for warning in record.warnings if "chat template" in warning)
    assert "unlike the model before; it was asked with that of the model before" in said
    stored = record.settings["templates"]
    assert isinstance(stored, dict)
    assert stored["before"] != stored["after"]
    hashes = [one["sha256"] for one in stored.values() if isinstance(one, dict)]
    assert (hashes[0] is not None, hashes[1] is None) == (True, template is None)
    assert record.verdict.outcome == "fail"


def test_only_models_with_another_template_are_named() -> None:
    assert changed({}) == []
    assert changed({"before": Template("a"), "after": Template("a")}) == []
    said = changed({"before": Template("a"), "after": Template("b", asked=True), "reference": Template(None, False)})
    assert said == [
        "The model after came with another chat template, unlike the model before; it was asked with its own, since "
        "its tokens are others too.",
        "The model reference came with no chat template, unlike the model before; it was asked with that of the model "
        "before; own_template asks with its own.",
    ]
