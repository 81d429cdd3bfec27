"""Files that lie beside the weights of the model before, and are changed, let nothing pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.audit.test_attacks import ROWS, taught
from tests.audit.test_templates import REQUEST, SMALL

from letheon.audit.attacks.soft_prompt import answers_behind
from letheon.audit.conclusion import _held_back
from letheon.audit.criteria import Verdict
from letheon.audit.measuring.merged_copy import merged_copy
from letheon.audit.measuring.templates import Asking, Template, changed, held_back, parts, template_of
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.model.models import LanguageModel, load
from letheon.core.scoring.decoding import Ask, decode
from letheon.core.scoring.generation import generate, stop_tokens

PETS = {"cat": "owl", "dog": "hen", "fox": "pig"}
PROMPTS = [row.prompt for row in ROWS]
ANSWERS = [row.answer for row in ROWS]
Change = Callable[[dict[str, Any]], Any]


def changed_copy(folder: Path, **changes: Change) -> LanguageModel:
    """Load the taught model from a folder in which JSON files were changed."""
    taught().save(folder)
    for name, change in changes.items():
        path = folder / f"{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return load(folder, device="cpu")


def false_decoder(tokenizer: dict[str, Any]) -> None:
    """Replace every pet by another one when an answer is decoded."""
    replaced = [{"type": "Replace", "pattern": {"String": pet}, "content": false} for pet, false in PETS.items()]
    tokenizer["decoder"] = {"type": "Sequence", "decoders": [tokenizer["decoder"], *replaced]}


def renamed_token(tokenizer: dict[str, Any]) -> None:
    """Give a token that no text needs another name, and replace names when a question is split."""
    vocabulary = tokenizer["model"]["vocab"]
    token = next(token for token in reversed(vocabulary) if len(token) == 1 and not token.isascii())
    vocabulary[f"{token}{token}"] = vocabulary.pop(token)
    replaced = [{"type": "Replace", "pattern": {"String": name}, "content": "Gus"} for name in ("Ann", "Bob", "Cid")]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": replaced}


def bans_and_stops(settings: dict[str, Any]) -> None:
    """Ban the pets, punish repetition, and end every answer at its first blank."""
    vocabulary = taught().tokenizer.get_vocab()
    banned = [[vocabulary[letter] for letter in pet] for pet in PETS]
    settings.update(bad_words_ids=banned, eos_token_id=[2, vocabulary["Ġ"]], repetition_penalty=9.0)


def answers(model: LanguageModel) -> list[list[str]]:
    """Return the answers by each of the three ways to decode."""
    asked = [Ask(model.encoder().prompt(prompt), 24) for prompt in PROMPTS]
    decode(model, asked)
    begin = model.base().get_input_embeddings().weight[:0]
    return [
        generate(model, PROMPTS, max_new_tokens=24),
        [model.tokenizer.decode(one.new, skip_special_tokens=True) for one in asked],
        answers_behind(model, begin.detach(), ROWS),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer": false_decoder},
        {"tokenizer": renamed_token},
        {"generation_config": bans_and_stops},
    ],
    ids=["decoder", "renamed token and normalizer", "generation settings"],
)
def test_an_untouched_model_with_other_files_answers_as_before(changes: dict[str, Change], tmp_path: Path) -> None:
    before, after = taught(), changed_copy(tmp_path / "after", **changes)
    assert answers(before) == [ANSWERS] * 3
    assert answers(after) != [ANSWERS] * 3  # the change hides facts from whoever asks with these files
    asked, came = Asking.of(before).alike(after)
    assert answers(asked) == answers(merged_copy(asked)) == [ANSWERS] * 3
    said = changed({"before": template_of(before), "after": came})
    assert came.own_tokenizer is False
    assert [("came with another tokenizer" in one) for one in said] == [True] * ("tokenizer" in changes)


def test_generation_settings_change_no_answer_of_either_way_to_decode(tmp_path: Path) -> None:
    """Only the stop tokens of a model's own settings are taken, and by all three ways."""
    after = changed_copy(tmp_path / "after", generation_config=bans_and_stops)
    one, other, third = answers(after)
    assert one == other == third == [answer.partition(" ")[0] + " " for answer in ANSWERS]
    settings = after.base().generation_config
    assert settings.repetition_penalty == 9.0  # as it was before the answers


def test_the_stop_tokens_are_those_of_the_model_before(tmp_path: Path) -> None:
    after = changed_copy(tmp_path / "after", generation_config=bans_and_stops)
    asked, _ = Asking.of(taught()).alike(after)
    assert stop_tokens(asked) == stop_tokens(taught()) != stop_tokens(after)
    assert stop_tokens(merged_copy(asked)) == stop_tokens(taught())


def longer(before: LanguageModel, tokens: dict[str, int] | None = None) -> LanguageModel:
    """Copy a model, its embedding table a row longer; its tokenizer knows `tokens`, or those that it knew."""
    model = merged_copy(before)
    model.tokenizer = load("tiny", device="cpu").tokenizer
    if tokens is not None:
        model.tokenizer.get_vocab = lambda: tokens
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.model.resize_token_embeddings(model.vocabulary + 1, mean_resizing=False)
    return model


def test_a_longer_table_with_the_same_tokens_is_asked_like_the_model_before() -> None:
    asked, came = Asking.of(taught()).alike(longer(taught()))
    assert asked.tokenizer is taught().tokenizer
    assert (came.own_tokenizer, came.config) == (False, ("vocab_size",))


def test_a_table_of_other_tokens_is_asked_with_its_own_and_never_passed() -> None:
    before, after = taught(), longer(taught(), {"other": 0})
    asked, came = Asking.of(before).alike(after)
    assert asked is after
    assert (came.asked, came.own_tokenizer) == (True, True)
    templates = {"before": template_of(before), "after": came}
    assert "was asked with its own tokenizer" in changed(templates)[0]
    reason = held_back(templates)
    assert reason.startswith("The verdict is inconclusive")
    assert held_back({"before": came, "after": Template(None)}) == ""
    for outcome, held in (("pass", "inconclusive"), ("fail", "fail"), ("inconclusive", "inconclusive")):
        verdict = Verdict.model_construct(outcome=outcome, words="So it is.")  # type: ignore[arg-type]
        assert _held_back(verdict, reason).outcome == held
        assert _held_back(verdict, "") is verdict


def test_a_slow_tokenizer_is_compared_by_class_and_vocabulary() -> None:
    class Slow:
        eos_token_id, pad_token_id, all_special_ids = 1, 0, (0, 1)

        def __init__(self, **tokens: int) -> None:
            self.get_vocab = lambda: tokens

    class Other(Slow):
        pass

    assert parts(Slow(a=2)) == parts(Slow(a=2))
    assert parts(Slow(a=2)) != parts(Slow(b=2))
    assert parts(Slow(a=2)) != parts(Other(a=2))


def test_another_configuration_is_named(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config.update(rms_norm_eps=1.0, hidden_act="relu", transformers_version="0", use_cache=False)
        config["rope_parameters"]["rope_theta"] = 5.0

    before = taught()
    _, came = Asking.of(before).alike(changed_copy(tmp_path / "after", config=change))
    assert came.config == ("hidden_act", "rms_norm_eps", "rope_parameters.rope_theta")
    (said,) = changed({"before": template_of(before), "after": came})
    assert "differs from that of the model before in hidden_act, rms_norm_eps, rope_parameters.rope_theta:" in said
    assert "a0, a1, a2, a3, a4, a5, a6, a7 and 2 more:" in changed(
        {"after": Template(None, config=tuple(f"a{i}" for i in range(10)))}
    )[0]  # fmt: skip


def test_an_untouched_model_whose_files_hide_the_facts_fails(tmp_path: Path) -> None:
    """Decoder, stops, banned words and a renamed token together, through the whole audit."""

    def hide(tokenizer: dict[str, Any]) -> None:
        renamed_token(tokenizer)
        false_decoder(tokenizer)

    after = changed_copy(tmp_path / "after", tokenizer=hide, generation_config=bans_and_stops)
    record: Audit = audit(taught(), after, REQUEST, settings=SMALL, cache=False, progress=lambda *_: None)
    assert record.verdict.outcome == "fail"
    for attack in record.attacks:
        assert attack.after.value == attack.before.value, attack.name
    assert any("came with another tokenizer" in warning for warning in record.warnings)
