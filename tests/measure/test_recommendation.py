"""Interaction logs: MovieLens files, k-cores, sequences as examples, a synthetic log, ranking metrics."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.measure.recommendation import Interaction, make_log, ranking_metrics, read_movielens, synthetic_log


def movielens(folder: Path) -> Path:
    """Three users and three films with titles; a film without one; times out of order."""
    (folder / "u.item").write_text(
        "1|Toy Story (1995)|01-Jan-1995||x\n2|Les Misérables (1995)|x\n3|GoldenEye (1995)|x\n4|unknown|x\n",
        encoding="latin-1",
    )
    lines = [(u, i, 5, 100 * u - i) for u in (1, 2, 3) for i in (1, 2, 3, 4)] + [(4, 1, 3, 7)]
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in lines))
    return folder


def test_movielens_is_read_in_time_order_as_a_core_of_items_with_titles(tmp_path: Path) -> None:
    log = read_movielens(movielens(tmp_path), least=3)
    sequences = log.sequences()
    assert set(sequences) == {1, 2, 3}  # the fourth user has one interaction
    assert [i.item for i in sequences[1]] == [3, 2, 1]
    assert log.titles[2] == "Les Misérables (1995)"
    assert 4 not in log.titles
    assert sequences[1][0].rating == 5


def test_an_interaction_becomes_a_row_of_history_and_next_item(tmp_path: Path) -> None:
    log = read_movielens(movielens(tmp_path), least=3)
    rows = log.examples(history=1)
    assert len(rows) == 3 * 2  # a user's first has no history
    row = rows[log.sequences()[1][2]]
    assert row.prompt == "history: Les Misérables (1995) next:"
    assert row.answer == "Toy Story (1995)"


def test_a_core_is_taken_until_nothing_more_falls_out() -> None:
    """Item 3 has one interaction; without it user 3 has one left; without that item 2 has one, and so on."""
    pairs = [(1, 1), (2, 1), (1, 2), (3, 2), (3, 3)]
    log = make_log([Interaction(user, 0, item) for user, item in pairs], {1: "a", 2: "b", 3: "c"})
    assert not log.core(2).interactions
    assert len(log.core(1).interactions) == 5


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("u.data", "1\t2\n", "u.data, line 1.*4 fields"),
        ("u.data", "1\ttwo\t3\t4\n", "u.data, line 1: found 'two', not a whole number"),
        ("u.item", "\nx|Film\n", "u.item, line 2: found 'x'"),
    ],
)
def test_a_bad_line_is_named(file: str, text: str, message: str, tmp_path: Path) -> None:
    (movielens(tmp_path) / file).write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}"):
        read_movielens(tmp_path)


def test_a_missing_file_and_an_empty_core_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)u.item could not be read.*folder of u.data"):
        read_movielens(tmp_path)
    with pytest.raises(InputError, match="no user and item with 9"):
        read_movielens(movielens(tmp_path), least=9)


def test_a_synthetic_log_follows_its_habits_and_repeats_under_its_seed() -> None:
    habits = [{0: [1], 1: [2], 2: [0]}, {3: [4], 4: [3]}]
    log, habit_of = synthetic_log(0, 200, habits, shares=(0.75, 0.25))
    assert (log, habit_of) == synthetic_log(0, 200, habits, shares=(0.75, 0.25))
    assert log != synthetic_log(1, 200, habits, shares=(0.75, 0.25))[0]
    share = sum(which == 1 for which in habit_of.values()) / len(habit_of)
    assert share == pytest.approx(0.25, abs=0.07)  # 400 sessions: three standard errors
    usual = total = 0
    for sequence in log.sequences().values():
        for before, after in itertools.pairwise(sequence):
            if habit_of[before] == habit_of[after]:
                usual += after.item in habits[habit_of[after]][before.item]
                total += 1
    assert usual / total > 0.9  # nine of ten, and chance


def test_ranking_metrics_equal_the_numbers_worked_out_by_hand() -> None:
    found = ranking_metrics([1, 3, 7, 20])
    assert found["recall@5"] == 0.5
    assert found["recall@10"] == 0.75
    assert found["mrr@5"] == pytest.approx((1 + 1 / 3) / 4)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3 + 1 / 7) / 4)
    assert found["ndcg@10"] == pytest.approx((1 + 0.5 + 1 / 3) / 4)  # 1/log2 of 2, 4 and 8
