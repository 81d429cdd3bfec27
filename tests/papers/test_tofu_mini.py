"""TOFU-mini: the world is fixed by its seed, its sets do not overlap, and its tokenizer loses nothing."""

from __future__ import annotations

import pytest

from letheon.papers.common.small_llama import accuracy
from letheon.papers.common.tofu_mini import World, make_world, new_model, paraphrased, train, trained


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=0)


def test_the_same_seed_gives_the_same_world(world: World) -> None:
    assert make_world(0) == world
    assert make_world(1) != world


def test_it_has_40_authors_with_six_facts_four_of_them_to_be_forgotten(world: World) -> None:
    assert (len(world.forget), len(world.retain), len(world.holdout), len(world.capitals)) == (24, 216, 24, 40)
    people = [{row.subject for row in rows} for rows in (world.forget, world.retain, world.holdout)]
    assert [len(names) for names in people] == [4, 36, 4]
    assert not people[0] & people[1]
    assert not people[2] & (people[0] | people[1])


def test_false_answers_are_false_and_in_the_words_of_the_paraphrase(world: World) -> None:
    for row in (*world.forget, *world.capitals):
        assert row.value is not None
        assert row.paraphrased_answer is not None
        assert row.value in row.answer
        assert len(set(row.perturbed_answers)) == 5
        assert row.paraphrased_answer not in row.perturbed_answers
        stem = row.paraphrased_answer.split(row.value)[0]
        assert all(answer.startswith(stem) for answer in row.perturbed_answers)


def test_the_reference_model_is_trained_on_nothing_of_the_forgotten_authors(world: World) -> None:
    gone = {row.subject for row in world.forget}
    assert not any(row.subject in gone for row in world.known(forgotten=False))
    full = world.known(forgotten=True)
    assert set(world.forget) <= set(full)
    assert not any(row in full for row in map(paraphrased, world.forget))  # only the fact itself is taught


def test_every_text_is_decoded_as_it_was_written(world: World) -> None:
    encoder = new_model(world, seed=0, layers=1, width=16).encoder()
    for row in (*world.forget, *world.holdout, *world.capitals):
        ids, _ = encoder.answer(row.answer)
        assert encoder.tokenizer.decode(ids, skip_special_tokens=True) == row.answer
        assert encoder.tokenizer.unk_token_id not in ids


def test_value_tokens_are_marked(world: World) -> None:
    encoder = new_model(world, seed=0, layers=1, width=16).encoder()
    row = encoder.encode(world.forget[0])
    marked = [token for token, fact in zip(row.ids[row.start :], row.value, strict=True) if fact]
    assert encoder.tokenizer.decode(marked).strip() == world.forget[0].value


def test_a_model_learns_a_small_world() -> None:
    small = make_world(seed=0, authors=3, forgotten=1, held_out=1)
    model = new_model(small, seed=0, layers=2, width=64)
    train(model, small.known(forgotten=True), seed=0, epochs=120)
    assert accuracy(model, small.forget) > 0.9


@pytest.mark.slow
def test_a_model_learns_the_world_and_not_the_holdout(world: World) -> None:
    model = trained(world, seed=0)
    assert accuracy(model, [*world.forget, *world.retain]) > 0.98
    assert accuracy(model, world.holdout) < 0.2  # a value guessed right now and then
