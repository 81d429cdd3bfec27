"""Modular sampling: MELU's modules hold only own neighbours and general rows, every scheme pairs as it says."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.parts import PairIndices
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import check, forget
from letheon.forget.samplers.cyclic import Cyclic
from letheon.forget.samplers.modular import Modular, Scheme, Settings, exposure, modules, neighbourhood, pair_table
from letheon.forget.samplers.paired import Paired

pytestmark = pytest.mark.oracle("modular")
SCHEMES: list[Scheme] = ["melu", "1_1seq", "1_1random", "cyclic", "direct", "indirect", "balanced"]


def request(forget: dict[str, int], retain: list[tuple[str | None, str | None]]) -> Request:
    """So many forget rows of each entity; retain rows by relation and whose neighbour they are."""
    return Request(
        forget=tuple(Example(f"f{i} {name}?", "a", subject=name) for name, n in forget.items() for i in range(n)),
        retain=tuple(
            Example(f"r{i}?", "a", id=f"r{i}", relation=relation, neighbour_of=owner)
            for i, (relation, owner) in enumerate(retain)
        ),
    )


# Ann: forget rows 0, 1; Bob: 2, 3, 4. Retain: 0 and 4 are Ann's, 1 is Bob's, 2 and 5 general, 3 indirect of everyone.
SMALL = request(
    {"Ann": 2, "Bob": 3},
    [
        ("direct", "Ann"),
        ("direct", "Bob"),
        ("general", None),
        ("indirect", None),
        ("indirect", "Ann"),
        ("general", None),
    ],
)


def pairs_of(plan: list[PairIndices]) -> list[tuple[int, int]]:
    return [pair for met, kept in plan for pair in zip(met, kept, strict=True)]


# melu ---------------------------------------------------------------------------------------------------------------


def test_a_module_is_an_entity_s_rows_beside_its_neighbours_the_shorter_list_cycled() -> None:
    # direct, own indirect, then shares of what is everyone's: Ann gets indirect 3 and general 2, Bob general 5
    assert modules(SMALL) == {
        "Ann": [(0, 0), (1, 4), (0, 3), (1, 2)],
        "Bob": [(2, 1), (3, 5), (4, 1)],
    }


def test_modules_follow_one_another_and_no_pair_is_taken_apart() -> None:
    plan = Modular().plan(SMALL, batch_size=3, steps=6, seed=0)
    epoch = [([0, 1, 0], [0, 4, 3]), ([1, 2, 3], [2, 1, 5]), ([4], [1])]
    assert plan == epoch + epoch
    assert Modular().epoch(SMALL) == 7


def test_shuffled_pairs_stay_pairs_and_each_epoch_has_its_own_order() -> None:
    sampler = Modular(Settings(shuffle=True))
    plan = sampler.plan(SMALL, 3, 6, seed=0)
    first, second = pairs_of(plan[:3]), pairs_of(plan[3:])
    assert sorted(first) == sorted(second) == sorted(pair_table(SMALL, "melu"))
    assert first != second
    assert plan == sampler.plan(SMALL, 3, 6, seed=0) != sampler.plan(SMALL, 3, 6, seed=1)


def test_the_named_recipe_gives_pairs_a_new_order_each_epoch() -> None:
    assert Recipe.parse("melu").sampler.settings == Settings(scheme="melu", shuffle=True)
    assert str(Recipe.parse("melu@lora")) == "npo@lora%modular:shuffle=True"
    assert not Recipe.parse("npo%modular").sampler.settings.shuffle


relations = st.sampled_from(["direct", "indirect", "general", None])


@given(
    st.dictionaries(st.sampled_from(["Ann", "Bob", "Cid"]), st.integers(1, 4), min_size=1),
    st.lists(st.tuples(relations, st.sampled_from(["Ann", "Bob", "Cid", None])), max_size=9),
    st.booleans(),
    st.integers(1, 9),
)
def test_every_pair_is_of_one_neighbourhood_and_every_row_is_met(
    forget: dict[str, int], retain: list[tuple[str | None, str | None]], shuffle: bool, batch_size: int
) -> None:
    rows = [row if row[0] != "direct" or row[1] else ("general", None) for row in retain]
    asked = request(forget, [*rows, ("general", None)])
    sampler = Modular(Settings(shuffle=shuffle))
    steps = -(-sampler.epoch(asked) // batch_size)
    plan = sampler.plan(asked, batch_size, steps, seed=3)
    for met, kept in pairs_of(plan):
        row = asked.retain[kept]
        if row.relation != "general" and row.neighbour_of in forget:
            assert row.neighbour_of == asked.forget[met].subject
    found = exposure(asked, plan)
    assert min(found.forget) >= 1
    assert min(found.retain) >= 1
    assert found.beside_own == 1


def test_it_is_not_cyclic_on_a_sorted_file() -> None:
    sorted_rows = replace(SMALL, retain=tuple(sorted(SMALL.retain, key=lambda row: row.neighbour_of or "")))
    plan = Cyclic().plan(sorted_rows, 1, 7, 0)
    assert exposure(sorted_rows, plan).beside_own < 1 == exposure(SMALL, Modular().plan(SMALL, 1, 7, 0)).beside_own


def test_an_entity_without_a_share_takes_a_general_row() -> None:
    few = request({"Ann": 1, "Bob": 2, "Cid": 1}, [("general", None)])
    assert modules(few) == {"Ann": [(0, 0)], "Bob": [(1, 0), (2, 0)], "Cid": [(3, 0)]}


# What a row is ------------------------------------------------------------------------------------------------------


def test_neighbours_are_found_by_mention_of_whole_names() -> None:
    found = neighbourhood(
        Request(
            forget=(Example("Where?", "a", subject="Ann Lee"), Example("When?", "a", subject="Bob")),
            retain=(
                Example("Who met ann lee?", "x"),
                Example("q", "Bob's and Ann Lee's friend."),
                Example("Who is Bobby?", "Ann Leeson."),
                Example("Who?", "Bob.", relation="general"),
                Example("Where?", "Bob.", relation="indirect"),
            ),
        )
    )
    assert found.relations == ("direct", "direct", "general", "general", "indirect")
    assert found.owners[:3] == (frozenset({"Ann Lee"}), frozenset({"Ann Lee", "Bob"}), frozenset())


def test_a_direct_row_belongs_to_the_only_entity_there_is() -> None:
    assert modules(request({"Ann": 1}, [("direct", None)])) == {"Ann": [(0, 0)]}


def test_neighbours_of_nobody_here_are_general_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "letheon"):
        found = neighbourhood(request({"Ann": 1}, [("direct", "Zoe")]))
    assert found.relations == ("general",)
    assert "1 retain rows are neighbours of nobody" in caplog.text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            request({"Ann": 1, "Bob": 1}, [("direct", None)]),
            "retain row r0 is a direct neighbour but mentions no subject",
        ),
        (
            request({"Ann": 1, "Bob": 1}, [("direct", "Ann")]),
            "no retain row is a neighbour of 'Bob', and none is general",
        ),
        (Request(forget=(Example("q", "a", id="f0"),), retain=(Example("r", "a"),)), "forget row f0 has none"),
    ],
)
def test_modules_that_cannot_be_built_are_refused(asked: Request, message: str) -> None:
    with pytest.raises(InputError, match=message):
        modules(asked)


def test_retain_rows_are_needed() -> None:
    with pytest.raises(InputError, match="needs retain rows"):
        check(Recipe.parse("melu"), replace(SMALL, retain=()))


# The schemes it is compared with ------------------------------------------------------------------------------------

EXPECTED = {
    "1_1seq": [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)],
    "cyclic": [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (0, 5)],
    "direct": [(0, 0), (1, 1), (2, 2), (3, 5), (4, 0)],  # no indirect rows: 0, 1, 2, 5
    "indirect": [(0, 2), (1, 3), (2, 4), (3, 5), (4, 2)],  # no direct rows: 2, 3, 4, 5
}


@pytest.mark.parametrize("scheme", EXPECTED)
def test_schemes_pair_as_hand_worked(scheme: Scheme) -> None:
    sampler = Modular(Settings(scheme))
    assert pairs_of(sampler.plan(SMALL, 2, -(-len(EXPECTED[scheme]) // 2), seed=5)) == EXPECTED[scheme]
    assert sampler.epoch(SMALL) == len(EXPECTED[scheme])


def test_one_to_one_random_is_the_paired_sampler() -> None:
    sampler = Modular(Settings("1_1random"))
    assert sampler.plan(SMALL, 2, 5, seed=4) == Paired().plan(SMALL, 2, 5, seed=4)
    assert sampler.epoch(SMALL) == 5


def test_cyclic_pairs_the_same_rows_for_ever_where_one_count_divides_the_other() -> None:
    even = request({"Ann": 2}, [(None, None)] * 4)
    assert len(set(pairs_of(Modular(Settings("cyclic")).plan(even, 2, 20, seed=0)))) == 4


def test_balanced_takes_equal_shares_of_each_relation() -> None:
    asked = request({"Ann": 2}, [("direct", "Ann")] * 5 + [("indirect", None)] * 3 + [("general", None)] * 8)
    plans = [Modular(Settings("balanced")).plan(asked, 3, 3, seed) for seed in (0, 1)]
    for plan in plans:
        met = Counter(asked.retain[kept].relation for _, kept in pairs_of(plan))
        assert met == {"direct": 3, "indirect": 3, "general": 3}
    assert plans[0] != plans[1]


def test_a_scheme_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="scheme direct finds no row among 1 indirect"):
        Modular(Settings("direct")).epoch(request({"Ann": 1}, [("indirect", None)]))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shuffle", [False, True])
@given(batch_size=st.integers(1, 12), steps=st.integers(1, 9))
def test_plans_have_the_asked_length_and_halves_of_one_length(
    scheme: Scheme, shuffle: bool, batch_size: int, steps: int
) -> None:
    plan = Modular(Settings(scheme, shuffle)).plan(SMALL, batch_size, steps, 0)
    assert len(plan) == steps
    assert all(1 <= len(met) == len(kept) <= batch_size for met, kept in plan)
    assert {row for met, _ in plan for row in met} <= set(range(5))
    assert {row for _, kept in plan for row in kept} <= set(range(6))


# The exposure report ------------------------------------------------------------------------------------------------


def test_the_exposure_report_counts_rows_relations_and_meetings() -> None:
    found = exposure(SMALL, Modular(Settings("1_1seq")).plan(SMALL, 5, 1, 0))
    assert found.forget == [1] * 5
    assert found.retain == [1, 1, 1, 1, 1, 0]
    assert found.relations == {
        "direct": {"rows": 2, "unseen": 0, "meetings": 2},
        "general": {"rows": 2, "unseen": 1, "meetings": 1},
        "indirect": {"rows": 2, "unseen": 0, "meetings": 2},
    }
    assert found.together == {
        ("Ann", "Ann"): 1,
        ("Ann", "Bob"): 1,
        ("Bob", "general"): 1,
        ("Bob", "indirect"): 1,
        ("Bob", "Ann"): 1,
    }
    assert found.beside_own == 3 / 5


def test_a_run_s_folder_says_what_the_plan_let_the_model_see(deletion: Request, tmp_path: Path) -> None:
    options = {"steps": 4, "batch_size": 4, "precision": "float32", "device": "cpu"}
    result = forget("tiny", deletion, "npo%modular", out=tmp_path / "run", **options)
    saved = json.loads((tmp_path / "run/exposure.json").read_text())
    assert saved == result.exposure
    assert sum(saved["forget"]) == 16
    assert 0 <= saved["beside_own"] <= 1
    assert not forget("tiny", deletion, "npo", **options).exposure
