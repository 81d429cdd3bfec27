"""The claims of the five papers on probing: what decides, and one small measurement of what is cheap."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean
from letheon.papers import negative_bias, post_training, retrieval_heads
from letheon.papers.binding import PERMUTED, PRIMARY, draw_list, encoded, taught
from letheon.papers.binding import measured as measured_binding
from letheon.papers.common.known_facts import parts_of_topics
from letheon.papers.common.small_llama import small_llama
from letheon.papers.kit.findings import Findings, Threshold
from letheon.papers.kit.results import Results
from letheon.papers.negative_bias import moves
from letheon.papers.retrieval_heads import NEEDLE, STRAW, control, copy_row, drawn_needles, planted
from letheon.papers.secondary_sinks import BESIDE, summary
from letheon.papers.secondary_sinks import PRIMARY as SINKS
from letheon.probe.binding.report import encode_pairs
from letheon.probe.binding.tasks import SCHEMAS, draw_pairs
from letheon.probe.directions import REFUSED
from letheon.probe.negative_bias.report import Ablation
from letheon.probe.secondary_sinks.planting import Planted
from letheon.probe.statements import Statement

# key -> (arm, values that hold, values that fail in the first part, further columns)
CLAIMS: dict[str, tuple[str, Sequence[float], Sequence[float], Sequence[str]]] = {
    "secondary_sinks": ("planted", (0.2, 0.1, 0.1, 7.0), (-0.1, 0.1, 0.1, 7.0), BESIDE),
    "retrieval_heads": (
        "heads", (0.9, 0.4), (0.4, 0.4), (*retrieval_heads.BESIDE, "planted head found"),
    ),
    "binding": ("mixture", (0.96, 0.02, 0.9), (0.7, 0.02, 0.9), (PERMUTED, "accuracy", "copied", "uniform")),
    "negative_bias": ("bias", (0.2, 0.3, 0.1), (-0.2, 0.3, 0.1), negative_bias.BESIDE),
    "post_training": ("post", (0.5, 0.2, 0.95), (0.1, 0.2, 0.95), post_training.BESIDE),
}  # fmt: skip


@pytest.mark.parametrize("key", CLAIMS)
def test_a_claim_holds_if_every_part_does_and_fails_by_one(key: str) -> None:
    module = importlib.import_module(f"letheon.papers.{key}")
    arm, good, bad, further = CLAIMS[key]

    def judged(values: Sequence[float]) -> Findings:
        rows: list[dict[str, Any]] = [
            {name: value + seed / 10_000 for name, value in zip(module.PRIMARY, values, strict=True)}
            | dict.fromkeys(further, 0.5)
            for seed in range(8)
        ]
        found = Findings()
        bounds = getattr(module, "BOUNDS", dict.fromkeys(module.PRIMARY, Threshold(above=0.0)))
        Results({arm: rows}).judge(found, arm, bounds, module.BESIDE)
        return found

    assert judged(good).verdict == "holds"
    assert list(judged(good).parts) == list(module.PRIMARY)
    assert judged(bad).parts[module.PRIMARY[0]] == "fails"


def test_a_text_s_planted_sinks_are_summed_up() -> None:
    planted = [
        Planted(c, c > 0.04, int(20 * c), c / 2, 0.4 - c / 10, int(100 * c)) for c in (0.02, 0.03, 0.05, 0.3, 1.0)
    ]
    flat = [Planted(c, False, 0, 0.1, 0.4, 1) for c in (0.02, 0.03, 0.05, 0.3, 1.0)]
    found = list(summary(planted, [flat, flat]).values())
    assert found[:4] == pytest.approx([0.65 / 2 - 0.1, 0.065, 0.49, 10 / 3 - 1])
    assert found[4:] == pytest.approx([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], abs=0.2)
    assert list(summary(flat, [flat]).values()) == [0.0] * 10
    unnoticed = [replace(one, score=0.1) for one in planted]
    assert summary(unnoticed, [flat])[SINKS[0]] == 0.0, "a sink that is found by its direction alone decides nothing"
    as_strong = summary(planted, [planted])
    assert [as_strong[part] for part in SINKS] == [0.0] * 4, "what random directions do as well decides nothing"


def test_no_two_seeds_share_facts_or_requests() -> None:
    for count in (2, 5, 8):
        groups = [[one.group for rows in part.values() for one in rows] for part in parts_of_topics(count)]
        subjects = [subject for part in groups for subject in set(part)]
        assert len(subjects) == len(set(subjects))
        requests = [text for one in post_training.parts_of_requests(count) for text in one.refused]
        assert len(requests) == len(set(requests)) == 40 // count * count
        assert set(requests).isdisjoint(REFUSED)


def test_invented_countries_change_nothing_but_the_name() -> None:
    known = [
        Statement("The capital of Peru is Lima.", True, "Peru"),
        Statement("The capital of Peru is Rome.", False, "Peru"),
    ]
    made = negative_bias.with_invented_names(known, 0)
    names = {one.group for one in made}
    assert len(names) == 1
    assert names != {"Peru"}
    assert [one.text for one in made] == [f"The capital of {made[0].group} is {city}." for city in ("Lima", "Rome")]


def test_every_seed_makes_up_its_own_needles() -> None:
    many = [drawn_needles(seed) for seed in range(8)]
    assert len({needle.answer for needles in many for needle in needles}) == 40
    assert all(needle.answer in needle.text for needles in many for needle in needles)


def test_random_heads_count_by_how_far_they_move_in_either_direction() -> None:
    found = moves(Ablation(plain=0.5, without=0.1, random=[0.6, 0.4], heads=[(0, 0)], effect=estimate_mean([])))
    assert list(found.values()) == pytest.approx([0.4, 0.1])
    assert list(moves(None).values()) == [None, None]


def test_rows_to_copy_repeat_words_of_the_text() -> None:
    row, place = copy_row(random.Random(0), list(range(48)))
    assert len(row) == STRAW + 2 * NEEDLE
    assert row[-NEEDLE:] == row[place : place + NEEDLE]


@pytest.mark.oracle("retrieval-heads")
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_a_planted_copying_head_is_found_wherever_it_stands(seed: int) -> None:
    found = control(seed, 8)
    assert found["planted head found"]
    assert found["planted head's score"] == 1.0
    assert found["best other score"] == 0.0
    plain, without, random_mask = found["planted model's recall"]
    assert (plain, random_mask) == (1.0, 1.0)
    assert without <= 0.25


def test_the_planted_head_stands_elsewhere_in_other_seeds() -> None:
    assert len({planted(seed)[1] for seed in range(100, 108)}) > 1


def of_boxes(seed: int) -> LanguageModel:
    """A small Llama that knows the words of the boxes."""
    boxes = SCHEMAS["boxes"]
    words = " ".join([*boxes.queried, *boxes.answers])
    return small_llama([Example(f"x {words}, . The the is in Box {boxes.opening} x", "x"), Example("In", "x")], seed)


def test_lists_are_taught_by_the_asked_answer_and_have_one_token_per_word() -> None:
    model = of_boxes(0)
    before = deepcopy(model.model.state_dict())
    schema = taught(model, groups=6, steps=2, seed=0)
    assert any(not before[name].equal(weight) for name, weight in model.model.state_dict().items())
    lists = [draw_list(schema, 6, random.Random(number)) for number in range(4)]
    ids, right = encoded(model, schema, lists)
    assert [model.tokenizer.decode(one).strip() for one in right] == [one.pairs[one.asked][1] for one in lists]
    assert model.tokenizer.unk_token_id not in ids
    prompts = encode_pairs(model, schema, draw_pairs(schema, 6, 8, 0))
    assert len(prompts.original) == 8
    assert prompts.original.shape == prompts.changed.shape


def test_a_model_that_answers_too_few_lists_gives_no_value() -> None:
    model = of_boxes(0)
    row = measured_binding(model, taught(model, groups=6, steps=1, seed=0), groups=6, pairs=8, seed=0)
    assert [row[part] for part in PRIMARY] == [None, None, None]
    assert row["accuracy"] < 1
