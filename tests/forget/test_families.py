"""The survey's families that are no recipes: task vectors, pruning, retraining, shards, context and filters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.core.model.sites import blocks, down_projection
from letheon.core.rows.encoding import to_device
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.edits.selective_pruning import chosen_neurons, importance
from letheon.forget.edits.task_vector import negate
from letheon.forget.guards import Guardrail, InContext
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.sequences.sharding import Sharded, ShardSettings, ensemble_probability
from letheon.papers.common.tofu_mini import make_world, new_model

QUICK: dict[str, Any] = {"device": "cpu", "precision": "float32", "learning_rate": 1e-3, "batch_size": 4}
TRAINING = TrainSettings(learning_rate=1e-3, batch_size=4, precision="float32")


# Task vectors


@pytest.mark.oracle("task_vector")
def test_negation_mirrors_the_change_at_the_start() -> None:
    start, now = [torch.tensor([1.0, 2.0])], [torch.tensor([1.5, 1.0])]
    negate(now, start, 2.0)
    assert torch.equal(now[0], torch.tensor([0.0, 4.0]))  # 1 − 2·0.5, 2 − 2·(−1)


@pytest.mark.oracle("task_vector")
def test_a_task_vector_is_what_fine_tuning_changed_with_the_sign_turned(deletion: Request) -> None:
    start, tuned = load("tiny", device="cpu"), load("tiny", device="cpu")
    finetune(tuned, deletion.forget, TRAINING, 3)
    edited = forget("tiny", deletion, "task_vector:scale=0.5", steps=3, **QUICK).model
    for a, b, c in zip(start.model.parameters(), tuned.model.parameters(), edited.model.parameters(), strict=True):
        # a − 0.5 (b − a) in float32: one rounding of each of the three operations
        assert torch.allclose(c, a - 0.5 * (b - a), atol=1e-7)


# Pruning


@pytest.mark.oracle("selective_pruning")
def test_the_neurons_with_the_largest_ratio_are_chosen() -> None:
    forget_importance, retain = torch.tensor([4.0, 1.0, 9.0, 2.0]), torch.tensor([4.0, 0.1, 3.0, 2.0])
    assert chosen_neurons(forget_importance, retain, 0.5, 0.0).tolist() == [False, True, True, False]
    assert chosen_neurons(forget_importance, retain, 0.01, 0.0).sum() == 1  # at least one


@pytest.mark.oracle("selective_pruning")
def test_importance_is_the_mean_absolute_activation_where_answers_are_predicted(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    rows = model.encoder().encode_all(deletion.forget)
    expected = torch.zeros(len(blocks(model.base())), down_projection(blocks(model.base())[0]).in_features)
    count = 0
    for row in rows:  # one at a time, by hooks of our own
        batch = to_device(model.encoder().collate([row]), model.device)
        seen: list[torch.Tensor] = []
        handles = [
            down_projection(block).register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0][0]))
            for block in blocks(model.base())
        ]
        with torch.no_grad():
            model.base()(batch.input_ids)
        for handle in handles:
            handle.remove()
        predicting = range(row.start - 1, len(row.ids) - 1)
        expected += torch.stack([states[list(predicting)].abs().sum(0) for states in seen])
        count += len(predicting)
    assert torch.allclose(importance(model, rows, batch_size=3), expected / count, atol=1e-6)


def test_pruning_zeroes_whole_neurons_and_nothing_else(deletion: Request) -> None:
    before = {name: p.detach().clone() for name, p in load("tiny", device="cpu").model.named_parameters()}
    edited = forget("tiny", deletion, "selective_pruning:share=0.1", device="cpu").model
    for name, parameter in edited.model.named_parameters():
        changed = (parameter != before[name]).any(0) if parameter.ndim == 2 else parameter != before[name]
        if "down_proj" not in name:
            assert not bool(changed.any())
        else:
            assert int(changed.sum()) == int(0.1 * parameter.shape[1])
            assert not bool(parameter[:, changed].any())


def test_the_pruned_neurons_fire_on_forget_rows_and_exchanged_rows_exchange_them(deletion: Request) -> None:
    exchanged = replace(deletion, forget=deletion.retain, retain=deletion.forget)
    pruned = []
    for request in (deletion, exchanged):
        start = load("tiny", device="cpu")
        both = [importance(start, start.encoder().encode_all(rows)) for rows in (request.forget, request.retain)]
        model = forget(start, request, "selective_pruning:share=0.1", device="cpu").model
        zeros = torch.stack([(down_projection(block).weight == 0).all(0) for block in blocks(model.base())])
        for mask, of_forget, of_retain in zip(zeros, *both, strict=True):
            ratio = of_forget / of_retain
            assert ratio[mask].min() >= ratio[~mask].max()
        pruned.append(zeros)
    assert not bool((pruned[0] & pruned[1]).any())


# Retraining


@pytest.mark.oracle("retrain")
def test_retraining_is_training_the_base_on_what_is_kept(deletion: Request) -> None:
    expected = load("tiny", device="cpu")
    finetune(expected, deletion.retain, TRAINING, 3)
    taught = load("tiny", device="cpu")
    finetune(taught, [*deletion.forget, *deletion.retain], TRAINING, 3)
    assert forget(taught, deletion, "retrain:base=tiny", steps=3, **QUICK).model.parameters_hash() == (
        expected.parameters_hash()
    )


def test_retraining_refuses_a_base_that_is_not_there(deletion: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        forget("tiny", deletion, f"retrain:base={tmp_path}/none", device="cpu")


def test_retraining_refuses_a_base_with_another_vocabulary(deletion: Request, tmp_path: Path) -> None:
    model = new_model(make_world(0, authors=4, forgotten=1, held_out=1), 0)
    with pytest.raises(InputError, match="another vocabulary"):
        forget(model, deletion, "retrain:base=tiny", device="cpu")


# Shards


def sharded(deletion: Request, folder: Path) -> Sharded:
    rows = [*deletion.forget, *deletion.retain]
    return Sharded.train(rows, folder, ShardSettings("tiny", shards=2, slices=2, epochs=1), TRAINING, device="cpu")


def test_a_deletion_ends_in_the_bits_of_shards_that_never_saw_the_rows(deletion: Request, tmp_path: Path) -> None:
    made = sharded(deletion, tmp_path / "all")
    gone = list(deletion.forget[:2])
    again = made.forget(gone)
    rest = [row for row in (*deletion.forget, *deletion.retain) if row not in gone]
    settings = ShardSettings("tiny", shards=2, slices=2, epochs=1)
    never = Sharded.train(rest, tmp_path / "rest", settings, TRAINING, device="cpu")
    assert again
    for ours, theirs in zip(made.constituents(), never.constituents(), strict=True):
        assert ours.parameters_hash() == theirs.parameters_hash()
    assert Sharded(tmp_path / "all").rows == made.rows  # and the folder holds no deleted row
    assert gone[0].answer not in (tmp_path / "all" / "sharded.json").read_text()


def test_only_what_saw_the_row_is_trained_again(deletion: Request, tmp_path: Path) -> None:
    made = sharded(deletion, tmp_path)
    row = next(row for row in made.rows if made.place(row)[1] == 1)  # of a second slice
    shard = made.place(row)[0]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*/slice-*")}
    assert made.forget([row]) == {shard: 1}
    changed = {path for path in stamps if path.stat().st_mtime_ns != stamps[path]}
    assert changed == {tmp_path / f"shard-{shard}" / "slice-1"}


def test_removing_a_row_moves_no_other(deletion: Request, tmp_path: Path) -> None:
    made = sharded(deletion, tmp_path)
    places = {row.id: made.place(row) for row in made.rows}
    made.forget([made.rows[0]])
    assert {row.id: made.place(row) for row in made.rows} == {row.id: places[row.id] for row in made.rows}


def test_a_row_that_no_shard_has_is_refused_and_nothing_changes(deletion: Request, tmp_path: Path) -> None:
    made = sharded(deletion, tmp_path)
    with pytest.raises(InputError, match="no shard has the row"):
        made.forget([deletion.forget[0], Example("Who?", "Nobody.")])
    assert len(Sharded(tmp_path).rows) == len(deletion.forget) + len(deletion.retain)


def test_the_ensemble_is_the_mean_of_probabilities() -> None:
    model = load("tiny", device="cpu")
    question = [("Where does Ann Lee live?", "Oslo")]
    alone, twice = ensemble_probability([model], question), ensemble_probability([model, model], question)
    assert torch.allclose(alone[0], twice[0])
    assert bool((alone[0] > 0).all())


# Context and filters


def test_the_context_shows_a_false_answer_then_true_ones_then_the_question(deletion: Request) -> None:
    row = deletion.forget[0]
    lines = InContext(deletion, others=3).prompt(row.prompt).split("\n")
    assert lines[-1] == row.prompt
    assert lines[0].startswith(row.prompt)
    assert row.answer not in lines[0]
    true = {f"{kept.prompt} {kept.answer}" for kept in deletion.retain}
    assert len(lines) == 5
    assert set(lines[1:4]) <= true


def test_a_context_is_the_same_for_the_same_question(deletion: Request) -> None:
    context = InContext(deletion)
    assert context.prompt("Who is it?") == context.prompt("Who is it?")


def test_a_guardrail_blocks_whole_words_in_any_case(deletion: Request) -> None:
    guard = Guardrail(deletion)
    assert guard.blocks("I heard that ann lee moved.")
    assert guard.blocks("It is in Oslo.")
    assert not guard.blocks("The Osloers are many.")  # part of a word
    assert not guard.blocks("Guest 1 eats figs.")


def test_a_guardrail_changes_no_weight_and_lets_the_rest_through(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    before = model.parameters_hash()
    guard = Guardrail(deletion)
    answers = guard.answer(model, [deletion.forget[0].prompt, deletion.retain[0].prompt], max_new_tokens=4)
    assert answers[0] == guard.refusal
    assert answers[1] != guard.refusal
    assert model.parameters_hash() == before
