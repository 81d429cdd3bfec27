"""Few-shot memories: the stimuli, recognition and recall on a tiny model, the weights after it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.few_shot_memories import (
    Pairs,
    gibberish,
    own_pairs,
    read_few_shot_memories,
    recall,
    recognition,
)
from tests.measure.people.scripted import Scripted


def test_stimuli_of_every_experiment() -> None:
    natural = own_pairs("natural", 6, 0)
    assert len({*natural.seen, *natural.foils}) == 12
    changed = own_pairs("one_word", 6, 0)
    assert changed.seen == natural.seen
    for seen, foil in zip(changed.seen, changed.foils, strict=True):
        assert sum(a != b for a, b in zip(seen.split(), foil.split(), strict=True)) == 1
    shuffled = own_pairs("gibberish", 6, 0)
    assert shuffled.foils == natural.seen
    for seen, foil in zip(shuffled.seen, shuffled.foils, strict=True):
        assert sorted(seen.replace(" ", "")) == sorted(foil.strip(".").replace(" ", ""))
    assert gibberish("ab", random.Random(0)) in ("ab", "ba")
    assert set(own_pairs("random_against_natural", 6, 0).foils) == set(natural.foils)


@pytest.mark.oracle("few-shot-memories")
def test_recognition_compares_mean_losses_per_token(tiny: LanguageModel) -> None:
    pairs = Pairs(("The cat sat down.", "A long sentence about nothing at all."), ("A dog.", "Another one."))

    def loss(text: str) -> float:
        ids = torch.tensor([[*tiny.encoder().prompt(""), *tiny.encoder().answer(text, end=False)[0]]])
        with torch.no_grad():
            return float(tiny.model(ids, labels=ids).loss)

    expected = {str(i): float(loss(a) < loss(b)) for i, (a, b) in enumerate(zip(pairs.seen, pairs.foils, strict=True))}
    assert recognition(tiny, pairs) == expected
    swapped = recognition(tiny, Pairs(pairs.foils, pairs.seen))
    assert {name: 1 - value for name, value in swapped.items()} == expected


@pytest.mark.oracle("few-shot-memories")
def test_recall_does_not_depend_on_the_batch_and_keeps_its_prompt(tiny: LanguageModel) -> None:
    sentences = ["The cat sat down on the mat.", "A gardener sold a silver clock near the harbour."]
    together = recall(tiny, sentences)
    assert together == [recall(tiny, [sentence])[0] for sentence in sentences]
    for sentence, one in zip(sentences, together, strict=True):
        ids = tiny.encoder().answer(sentence, end=False)[0]
        assert one.text.startswith(tiny.tokenizer.decode(ids[: len(ids) // 2]))


def test_study_makes_seen_sentences_recognised_and_leaves_the_model_as_it_was(tiny: LanguageModel) -> None:
    before = tiny.parameters_hash()
    made = read_few_shot_memories(limit=8, shots=3, steps=2, learning_rate=1e-2, experiment="natural")
    scores = made.evaluate(LocalResponder(tiny))
    assert [score.name for score in scores.scores if score.name.startswith("recognition")] == [
        "recognition, 0 shots", "recognition, 1 shots", "recognition, 2 shots", "recognition, 3 shots",
        "recognition, 1 steps later", "recognition, 2 steps later",
    ]  # fmt: skip
    assert (scores.value("recognition, 3 shots") or 0) >= (scores.value("recognition, 0 shots") or 0)
    assert tiny.parameters_hash() == before
    assert len(scores.records) == 6 * 8


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="experiment=other"):
        read_few_shot_memories(experiment="other")
    with pytest.raises(InputError, match="needs the model's weights"):
        read_few_shot_memories(limit=2).evaluate(Scripted())
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"seen": "a b c"}))
    with pytest.raises(InputError, match="field 'foil'"):
        read_few_shot_memories(str(path))
