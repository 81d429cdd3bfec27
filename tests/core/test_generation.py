"""Decoding: batches, caches and prefixes change no answer."""

from __future__ import annotations

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings

FACTS = [
    Example("Where does Ann live?", "In Oslo."),
    Example("And the rather long question about Bob's home is: where?", "Bern it is."),
    Example("Who?", "Me"),
]
PROMPTS = [row.prompt for row in FACTS]


@pytest.fixture(scope="module")
def taught() -> LanguageModel:
    """A tiny model that knows three answers."""
    from letheon.core.model.models import load

    model = load("tiny", device="cpu")
    finetune(model, FACTS, TrainSettings(learning_rate=3e-3, batch_size=3, precision="float32"), steps=80)
    return model


def test_a_model_that_was_taught_an_answer_gives_it_and_stops(taught: LanguageModel) -> None:
    assert generate(taught, PROMPTS, max_new_tokens=30) == [row.answer for row in FACTS]


def test_rows_in_a_batch_are_decoded_as_alone(tiny: LanguageModel, taught: LanguageModel) -> None:
    for model in (tiny, taught):
        together = generate(model, PROMPTS, max_new_tokens=12)
        assert together == [generate(model, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
        assert together == generate(model, PROMPTS, max_new_tokens=12, batch_size=2)


def test_the_cache_changes_nothing(tiny: LanguageModel, taught: LanguageModel) -> None:
    for model in (tiny, taught):
        cached = generate(model, PROMPTS, max_new_tokens=12)
        assert cached == generate(model, PROMPTS, max_new_tokens=12, use_cache=False)


def test_an_answer_goes_on_from_its_prefix(taught: LanguageModel) -> None:
    prefix = tuple(taught.tokenizer("In O", add_special_tokens=False)["input_ids"])
    assert generate(taught, PROMPTS[:1], prefixes=[prefix], max_new_tokens=30) == ["In Oslo."]


def test_samples_repeat_under_a_seed_and_differ_under_another(tiny: LanguageModel) -> None:
    def sample(seed: int) -> list[str]:
        return generate(tiny, PROMPTS, temperature=1.0, seed=seed, max_new_tokens=12)

    assert sample(0) == sample(0)
    assert sample(0) != sample(1)


def test_greedy_decoding_takes_the_likeliest_token(tiny: LanguageModel) -> None:
    ids = list(tiny.encoder().prompt("Who?"))
    for _ in range(4):
        with torch.no_grad():
            ids.append(int(tiny.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert generate(tiny, ["Who?"], max_new_tokens=4) == [tiny.tokenizer.decode(ids[-4:], skip_special_tokens=True)]
