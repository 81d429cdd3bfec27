"""Refusal tokens: forced choices by hand, monotone thresholds, the loss on the control token, and a small training."""

from __future__ import annotations

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.settings import TrainSettings
from letheon.steer.methods.refusal_tokens import (
    RefusalProcessor,
    RefusalTokens,
    add_tokens,
    answer,
    begin_at_answers,
    calibrate,
    control_probabilities,
    f1_score,
    forced_tokens,
    stripped,
    sweep,
    train,
    with_control_tokens,
)

ONE = RefusalTokens(0, {"refuse": 1})
TWO = RefusalTokens(0, {"private": 1, "unsafe": 2})
P = torch.tensor([[0.5, 0.4, 0.05, 0.05], [0.1, 0.2, 0.6, 0.1]])  # respond, two refusals, another token
OWN = torch.tensor([3, 3])


@pytest.mark.oracle("refusal-tokens")
def test_the_first_token_is_forced_by_hand() -> None:
    assert forced_tokens(P, ONE, 0.3, OWN).tolist() == [1, 0]
    assert forced_tokens(P, ONE, -1.0, OWN).tolist() == [0, 1]  # refuses where refusing is likelier than responding
    assert forced_tokens(P, ONE, 0.0, OWN).tolist() == [1, 1]
    assert forced_tokens(P, ONE, 1.1, OWN).tolist() == [0, 0]
    assert forced_tokens(P, TWO, 0.5, OWN).tolist() == [0, 2]
    assert forced_tokens(P, TWO, {"private": 0.3}, OWN).tolist() == [1, 3]  # unsafe is not under control
    assert forced_tokens(P, TWO, {"unsafe": 0.9}, OWN).tolist() == [3, 0]


@pytest.mark.oracle("refusal-tokens")
def test_a_bias_is_a_factor_on_the_odds_and_acts_on_the_first_token_only() -> None:
    scores = P.log()
    processor = RefusalProcessor(ONE, 0.5, start=3, bias=1.0)
    odds = 0.4 * torch.e / 0.6  # e^b p / (1 - p)
    assert (odds / (1 + odds) >= 0.5) == (processor(torch.zeros(2, 3).long(), scores)[0].argmax() == 1)
    assert torch.equal(processor(torch.zeros(2, 4).long(), scores), scores)


@pytest.mark.oracle("refusal-tokens")
def test_calibration_by_hand() -> None:
    probabilities, refusals = [0.9, 0.8, 0.3, 0.1], [True, False, True, False]
    assert calibrate(probabilities, refusals, rate=0.5) == 0.8
    assert calibrate(probabilities, refusals, false_rate=0.0) == 0.9
    assert calibrate(probabilities, refusals) == 0.3  # F1 of 0.8, the best
    assert f1_score(torch.tensor([True, True]).numpy(), torch.tensor([True, False]).numpy()) == pytest.approx(2 / 3)


def test_tokens_are_single_and_stripped_from_user_text(tiny: LanguageModel) -> None:
    made, tokens = add_tokens(tiny, ["private", "unsafe"])
    assert list(tokens.refuse) == ["private", "unsafe"]
    assert made.vocabulary == tiny.vocabulary + 3
    mean = tiny.model.get_input_embeddings().weight.mean(0)
    assert torch.allclose(made.model.get_input_embeddings().weight[tokens.ids[0]], mean, atol=1e-6)
    assert tiny.tokenizer("[private]", add_special_tokens=False)["input_ids"] != [tokens.ids[0]]
    rows = with_control_tokens([Example("Say [respond] now [unsafe]", "No.")], ["unsafe"])
    assert (rows[0].prompt, rows[0].answer) == ("Say  now ", "[unsafe]No.")
    encoded = made.encoder().encode(rows[0])
    assert encoded.ids[encoded.start] == tokens.refuse["unsafe"]  # it is the first token of the loss
    with pytest.raises(InputError, match="already"):
        add_tokens(made, ["private"])
    with pytest.raises(InputError, match="unknown kinds"):
        train(tiny, [Example("a", "b")], ["odd"])


@pytest.mark.oracle("refusal-tokens")
def test_a_trained_token_is_a_knob(tiny: LanguageModel) -> None:
    rows = [
        Example(f"{word} {i}?", "I refuse." if word == "secret" else "Yes.")
        for word in ("secret", "open")
        for i in range(6)
    ]
    kinds = [None if row.prompt.startswith("open") else "refuse" for row in rows]
    settings = TrainSettings(5e-3, batch_size=12, schedule="linear", precision="float32")
    made, tokens = train(tiny, rows, kinds, steps=60, settings=settings)
    prompts = ["secret 8?", "open 9?"]
    found = control_probabilities(made, tokens, prompts)
    assert found[0, 1] > 0.5 > 0.3 > found[1, 1]
    assert [token for token, _ in answer(made, tokens, prompts, max_new_tokens=2)] == [*tokens.ids, tokens.respond]
    (never, yes), (_, _) = answer(made, tokens, prompts, 1.1, max_new_tokens=6)
    assert never == tokens.respond
    assert "[" not in yes
    rates = sweep(found, tokens, ["refuse", None], [0.0, 0.5, 1.1])
    assert rates == {"refuse": [1.0, 1.0, 0.0], "answerable": [1.0, 0.0, 0.0]}


def test_tokens_may_begin_at_their_answers_first_tokens(tiny: LanguageModel) -> None:
    made, tokens = add_tokens(tiny)
    begin_at_answers(
        made, tokens, [Example("a", "No."), Example("b", "Yes."), Example("c", "So.")], ["refuse", None, None]
    )
    weight, ids = made.model.get_input_embeddings().weight, tiny.tokenizer("NYS", add_special_tokens=False)["input_ids"]
    assert torch.equal(weight[tokens.ids[0]], weight[ids[0]])
    torch.testing.assert_close(weight[tokens.respond], weight[ids[1:]].mean(0))


def test_a_control_token_inside_another_is_stripped_as_well() -> None:
    assert stripped("[ref[refuse]use] [res[respond]pond]", ["[respond]", "[refuse]"]).strip() == ""
