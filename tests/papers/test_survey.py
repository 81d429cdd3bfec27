"""The survey's table: a member for every family, and the pieces that measure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from letheon.core.model.models import load
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore
from letheon.forget.recipe import read_method
from letheon.forget.request import Request
from letheon.papers.catalogue import Scale, paper
from letheon.papers.common import families
from letheon.papers.common.families import MEMBERS, attribution, moved_share, recall
from letheon.papers.common.tofu_mini import make_world
from letheon.papers.kit.findings import Pairs
from letheon.papers.survey import returned
from letheon.probe.erasure import concept_states


def test_every_recipe_of_the_table_is_one_that_can_be_run() -> None:
    for member in MEMBERS:
        if member.recipe:
            read_method(member.recipe.format(*member.doses[:1]))


def test_every_family_has_a_member_and_no_guarantee_is_claimed_for_filters() -> None:
    assert len({member.family for member in MEMBERS}) == 4
    assert {member.guarantee for member in MEMBERS if member.name in ("in-context", "guardrail")} == {"none"}
    assert {member.name for member in MEMBERS if member.guarantee == "exact"} == {"retraining", "SISA"}


def test_what_returns_is_compared_where_a_member_has_forgotten_as_much_as_retraining() -> None:
    def row(forgotten: float, relearned: float) -> dict[str, float]:
        return {"forget probability": forgotten, "relearned attribution": relearned}

    first = {"retraining": row(0.2, 0.25), "NPO": row(0.2, 0.5)}
    tables = {0: first, 1: {"retraining": row(0.1, 0.3), "NPO": row(0.11, 0.9)}}
    assert returned(tables, "NPO") == Pairs([0.25, 0.3], [0.5, None])


def test_attribution_is_the_share_of_the_own_value_among_the_forgotten_authors_values(monkeypatch: Any) -> None:
    def row(author: str, fact: str, value: str) -> Example:
        return Example(f"{author}?", f"It is {value}.", f"{author}: {fact}", author, value)

    rows = [row("A", "town", "Oslo"), row("B", "town", "Rome"), row("A", "year", "1900"), row("B", "year", "1900")]
    asked = []

    def score(model: object, trees: list[tuple[str, list[str]]]) -> list[list[AnswerScore]]:
        asked.extend(trees)
        right = np.array([True])
        return [[AnswerScore(np.log([0.75]), right), AnswerScore(np.log([0.25]), right)] for _ in trees]

    monkeypatch.setattr(families, "score_answers", score)
    assert attribution(load("tiny", device="cpu"), rows, rows) == pytest.approx(0.75)
    # the year is everybody's and tells nothing
    assert asked == [("A?", ["It is Oslo.", "It is Rome."]), ("B?", ["It is Rome.", "It is Oslo."])]


def test_the_level_of_equal_forgetting_is_that_of_retraining_and_utility_is_read_on_rows_that_no_run_is_shown(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(families, "train", lambda *args, **options: None)
    bench = families.Bench(make_world(100, authors=8, forgotten=2, held_out=2), 100)
    assert bench.level == families.probability(bench.retrained, bench.world.forget)
    shown = {row.subject for row in bench.request.retain}
    assert not shown & {row.subject for row in bench.others}
    assert len(bench.others) == len(bench.request.retain)


def test_a_judged_run_may_take_three_times_the_steps_of_the_search(monkeypatch: Any) -> None:
    taken: list[int] = []

    def instead(model: Any, *args: Any, steps: int, **options: Any) -> Any:
        taken.append(steps)
        return SimpleNamespace(model=model)

    monkeypatch.setattr(families, "train", lambda *args, **options: None)
    monkeypatch.setattr(families, "forget", instead)
    monkeypatch.setattr(families.Bench, "measured", lambda self, model, seconds: {})
    bench = families.Bench(make_world(100, authors=8, forgotten=2, held_out=2), 100)
    member = next(one for one in MEMBERS if one.name == "NPO")
    bench.forgotten(member, 1e-3)
    bench.run(member, 1e-3)
    assert taken == [families.MOST_STEPS, 3 * families.MOST_STEPS]


def test_weights_that_moved_are_counted(deletion: Request) -> None:
    before, after = load("tiny", device="cpu"), load("tiny", device="cpu")
    assert moved_share(before, after) == 0
    with torch.no_grad():
        after.base().get_input_embeddings().weight[0] += 1
    total = sum(p.numel() for p in after.model.parameters())
    assert moved_share(before, after) == pytest.approx(after.base().config.hidden_size / total)


def test_states_carry_the_label_of_what_is_asked_about(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    states, labels = concept_states(model, deletion.forget, deletion.retain, 1)
    forget, retain = (
        sum(len(row.ids) - 1 for row in model.encoder().encode_all(rows)) for rows in (deletion.forget, deletion.retain)
    )
    assert len(states) == len(labels) == forget + retain
    assert labels.sum() == forget


def test_an_answer_recalls_a_row_if_it_gives_the_value(deletion: Request) -> None:
    assert recall(["It is Oslo.", "Nowhere."], deletion.forget[:2]) == 0.5


@pytest.mark.slow
def test_the_table_is_filled(capsys: Any) -> None:
    outcome = paper("survey").reproduce(Scale(seeds=(0,)))
    assert outcome.checks == {"no cell of the table is missing": True}
    table = outcome.measured["table"]
    assert table["retraining"]["membership AUROC"] < table["before"]["membership AUROC"]
    assert table["guardrail"]["extraction likelihood"] == table["before"]["extraction likelihood"]
