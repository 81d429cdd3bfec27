"""The lifelong memory: its equations by hand, its parts and their ablations, and erasure of what it derived."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from letheon.recall.embedders import HashedWords
from letheon.recall.entries import Entry
from letheon.recall.erasure import erase
from letheon.recall.exchange_formats import read_entries
from letheon.recall.lifelong import equations
from letheon.recall.lifelong.consolidation import groups, pool
from letheon.recall.lifelong.memory import LifelongMemory, standing_beliefs
from letheon.recall.lifelong.nodes import read_nodes
from letheon.recall.lifelong.recalling import names
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.lifelong.valence import tag
from letheon.recall.memory import Memory
from letheon.recall.policies import Settings
from letheon.recall.store import Store

DAY = 86_400.0
oracle = pytest.mark.oracle("lifelong")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "m.sqlite", "words", HashedWords.width)
    yield opened
    opened.close()


def memory_of(store: Store, *without: Part, **settings: float) -> LifelongMemory:
    return LifelongMemory(store, HashedWords(), LifelongSettings(**settings), without=without)  # type: ignore[arg-type]


@oracle
def test_gate_novelty_and_precision_by_hand() -> None:
    assert equations.novelty([0.2, 0.7]) == pytest.approx(0.3)
    assert equations.novelty([]) == 1.0
    # 2 * .5 + 1 * .25 + 1 * .5 - 1.75 = 0
    assert equations.gate_score([0.5, 0.25], [2.0, 1.0], 0.5, 1.0, 1.75) == pytest.approx(0.5)
    assert equations.gate_score([0.5, 0.25], [2.0, 1.0], 0.5, 1.0, 0.75) == pytest.approx(1 / (1 + math.exp(-1)))
    assert equations.precision_after(0.5, 1.0, 0.2) == pytest.approx(0.6)
    assert equations.precision_after(0.5, -1.0, 0.2) == pytest.approx(0.4)


@oracle
def test_activation_begins_at_similarity_precision_and_mood_by_hand() -> None:
    begun = equations.initial_activation(
        np.array([0.5, -0.4, 0.5]), np.array([0.8, 0.9, 0.8]), np.array([1.0, 1.0, -0.5]), 0.3
    )
    assert begun == pytest.approx([0.5 * 0.8 * 1.3, 0.0, 0.5 * 0.8 * 0.85])


@oracle
def test_activation_spreads_over_two_hops_by_hand_and_stays_bounded() -> None:
    # 0 -> 1 (weight 1), 1 -> 2 (weight 3, scaled to 1), delta .5
    course = equations.spread(
        np.array([1.0, 0.2, 0.0]), np.array([0, 1]), np.array([1, 2]), np.array([1.0, 3.0]), 0.5, 2
    )
    assert course[1] == pytest.approx([1.0, 0.2 + 0.5, 0.1])
    assert course[2] == pytest.approx([1.0, 0.7, 0.5 * 0.7])
    weak = equations.spread(np.array([1.0, 0.0]), np.array([0]), np.array([1]), np.array([0.2]), 0.5, 1)
    assert weak[1] == pytest.approx([1.0, 0.1])  # a weak link is not scaled up
    everyone = [(i, j) for i in range(20) for j in range(20) if i != j]
    origins, targets = (np.array([pair[side] for pair in everyone]) for side in (0, 1))
    dense = equations.spread(np.ones(20), origins, targets, np.ones(len(everyone)), 0.5, 50)
    assert dense[-1].max() == pytest.approx(2.0)  # 1 / (1 - delta)


@oracle
def test_levels_decay_and_pooling_by_hand() -> None:
    assert equations.base_level([1.0, 4.0]) == pytest.approx(math.log(1 + 0.5))
    assert equations.primed(0.5, 0.6, 2) == pytest.approx(0.18)
    assert equations.strengthened(0.5, 0.2) == pytest.approx(0.6)
    assert equations.decayed(2.0, 30.0, 30.0) == pytest.approx(2 / math.e)
    assert equations.decayed(2.0, 1e9, math.inf) == 2.0
    mixed = equations.precision_weighted(np.array([1.0, 0.0]), 0.6, np.array([0.0, 1.0]), 0.2)
    assert mixed == pytest.approx([0.75, 0.25])
    assert equations.prediction_error(frozenset("abcd"), frozenset("abx")) == 0.5
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6]], dtype=np.float32)
    belief = pool(vectors, [[1.0], [0.0], [0.5]], [0.2, 0.6, 0.2])
    assert belief.vector == pytest.approx(np.array([1.8, 1.6]) / math.hypot(1.8, 1.6), abs=1e-6)
    assert (belief.valence, belief.medoid) == ([pytest.approx(0.3)], 2)
    assert belief.precision == pytest.approx(1 / 3)
    assert groups(vectors, cosine=0.75, smallest=2) == [[0, 2]]


@oracle
@pytest.mark.parametrize(
    ("confidence", "margin", "best", "conflict", "state"),
    [
        (0.7, 0.3, 0.9, False, "known"),
        (0.7, 0.1, 0.9, False, "unsure"),
        (0.5, 0.3, 0.9, False, "unsure"),
        (0.7, 0.3, 0.9, True, "unsure"),
        (0.7, 0.3, 0.2, False, "unknown"),
    ],
)
def test_epistemic_states(confidence: float, margin: float, best: float, conflict: bool, state: str) -> None:
    limits = {"known": 0.6, "clear": 0.2, "unknown": 0.25}
    assert equations.epistemic_state(confidence, margin, best, conflict, **limits) == state


def test_the_tagger_reads_signs_negations_and_who_speaks() -> None:
    assert tag("What a wonderful day!", "user", 0.0)[0] > 0
    assert tag("I was not happy.", "user", 0.0)[0] < 0
    assert tag("The door is green.", "user", 0.4) == [0.0, 0.0, 0.0, 0.4, 0.6, 0.0]
    assert tag("It is so.", "assistant", 0.0)[4] < tag("It is so.", "user", 0.0)[4]


def test_the_gate_drops_what_is_neither_new_nor_felt(store: Store) -> None:
    memory = memory_of(store)
    assert memory.observe("The kayak lies in the blue boathouse.", now=0.0).number == 1
    again = memory.observe("The kayak lies in the blue boathouse.", "assistant", now=1.0)
    assert again.number is None
    assert memory_of(store, "gate").observe("The kayak lies in the blue boathouse.", "assistant", now=1.0).number == 2


def test_equal_memories_are_ordered_by_the_present_mood_and_only_by_it(store: Store) -> None:
    for text in ("The lake trip with Marla was wonderful.", "The lake trip with Marla was horrible."):
        store.add([Entry(text)], HashedWords().embed([text]))

    def first(mood: str, *without: Part) -> str:
        memory = memory_of(store, *without)
        memory.feel(tag(mood, "user", 0.0))
        return memory.recall("What about the lake trip with Marla?", now=1.0).items[0].entry.text.split()[-1]

    assert (first("I am so happy and glad!"), first("I am sad and angry!")) == ("wonderful.", "horrible.")
    assert len({first(mood, "valence") for mood in ("I am so happy and glad!", "I am sad and angry!")}) == 1


def test_nothing_is_known_of_what_was_never_told(store: Store) -> None:
    memory = memory_of(store)
    memory.observe("Marla keeps the kayak in the blue boathouse.", now=0.0)
    assert memory.recall("What is the capital of Peru?", now=1.0).state == "unknown"
    about_another = memory.recall("Where does Odo keep the kayak?", now=1.0)  # similar words, another person
    assert (about_another.answer, about_another.state) == (None, "unknown")


def test_a_shortcut_makes_a_deliberate_search_automatic_and_its_ablation_does_not(tmp_path: Path) -> None:
    cost = {}
    ablations: tuple[tuple[Part, ...], ...] = ((), ("shortcuts",))
    for without in ablations:
        store = Store(tmp_path / f"{len(without)}.sqlite", "words", HashedWords.width)
        memory = memory_of(store, *without, known=0.45, accept=0.4)
        memory.observe("Marla keeps the old kayak in the blue boathouse.", now=0.0)
        memory.observe("Odo keeps the red tent under the stairs.", now=0.0)
        asked = memory.recall("Where does our Marla keep the kayak now?", now=1.0)
        assert (asked.system, asked.answer and asked.answer.id) == (2, 1)
        memory.learn(asked, 1, 1.0, now=2.0)
        later = memory.recall("Where does our Marla keep the old kayak?", now=3.0)  # in other words
        cost[without] = later.cost
        store.close()
    assert cost == {(): 1, ("shortcuts",): 4}


def test_a_statement_of_change_supersedes_and_recalls_alone_change_nothing(store: Store) -> None:
    memory = memory_of(store)
    memory.observe("Marla keeps the kayak in the blue boathouse.", now=0.0)
    changed = memory.observe("Marla now keeps the kayak in the green shed.", now=1.0)
    assert changed.superseded == 1
    before = [node.state() for node in memory.nodes()]
    answers = {memory.recall("Where does Marla keep the kayak?", now=2.0).items[0].id for _ in range(20)}
    assert answers == {2}
    assert [node.state() for node in memory.nodes()] == before
    erase(store, [2])
    assert memory.nodes()[0].superseded_by is None  # the old memory is in force again


def test_curiosity_asks_about_new_names_and_strong_feelings(store: Store) -> None:
    memory = memory_of(store)
    seen = memory.observe("Yesterday I met Odo, it was horrible!", now=0.0)
    assert seen.number is not None
    assert seen.questions == ["Who or what is Odo?", "Why? You said: Yesterday I met Odo, it was horrible!"]
    gist = memory.explain(seen.number, "Odo is the dentist.", now=1.0)
    assert store.entries([gist])[0].sources == (1, 2)
    assert memory_of(store, "curiosity").observe("I met Ilse, it was horrible!", now=2.0).questions == []
    assert names("Does Marla like Paris? Yes.") == {"Marla", "Paris"}


def belief_world(store: Store) -> LifelongMemory:
    memory = memory_of(store, belief=0.3, core=-0.5)
    for day, thing in enumerate(("kayak", "paddle", "anchor", "rope")):
        memory.observe(f"Marla keeps the {thing} in the blue boathouse by the lake.", now=day * DAY)
    for day, dish in enumerate(("bread", "soup", "cake")):
        memory.observe(f"Odo cooks fresh {dish} every Sunday evening for us.", now=day * DAY)
    return memory


def test_beliefs_emerge_outlive_their_episodes_and_go_with_their_sources(store: Store) -> None:
    memory = belief_world(store)
    made = memory.consolidate(now=10 * DAY)
    assert memory.consolidate(now=10 * DAY) == []  # nothing new at once again
    beliefs = {node.entry.sources for node in memory.beliefs("intermediate")}
    assert beliefs == {(1, 2, 3, 4), (5, 6, 7)}
    (core,) = memory.beliefs("core")
    memory.consolidate(now=300 * DAY)
    assert all(node.dormant for node in memory.nodes() if node.level == "episode")
    assert core.id in {node.id for node in memory.recall("What of the lake?", now=300 * DAY).items}
    assert memory.recall("What of the lake?", now=300 * DAY).orientation[1] == core.entry.text
    erased = erase(store, [2])
    assert core.id in erased.ids
    assert len(set(erased.ids) & set(made)) == 2  # the belief of Marla's things and the core belief, not that of Odo
    assert erased.proven
    assert b"paddle" not in store.path.read_bytes()


def test_cues_and_gists_are_erased_with_what_they_came_from(store: Store) -> None:
    memory = memory_of(store, known=0.9, accept=0.4)
    seen = memory.observe("Yesterday I met Odo at the lighthouse, it was horrible!", now=0.0)
    memory.explain(seen.number or 0, "The lighthouse was flooded.", now=1.0)
    recalled = memory.recall("Did I meet Odo at that lighthouse?", now=2.0)
    assert recalled.answer is not None
    memory.learn(recalled, 1, 1.0, now=3.0)
    assert {entry.kind for entry in store.entries()} == {"turn", "summary", "cue"}
    erased = erase(store, [1])
    assert erased.proven
    assert [entry.text for entry in store.entries()] == ["The lighthouse was flooded."]


def test_what_was_learned_survives_reopening_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    store = Store(path, "words", HashedWords.width)
    memory = belief_world(store)
    memory.consolidate(now=10 * DAY)
    memory.learn(memory.recall("Where is the kayak of Marla?", now=11 * DAY), 1, 1.0, now=11 * DAY)
    states = [node.state() for node in memory.nodes()]
    store.close()
    again = LifelongMemory(Store(path, "words", HashedWords.width), HashedWords())
    assert [node.state() for node in again.nodes()] == states


def test_the_policy_shows_nothing_of_an_unknown_matter(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.sqlite", "words", "lifelong", session="today") as memory:
        for number, text in enumerate(("My locker code is 7391.", "Bees live in hives.", "Ships sail far.")):
            memory.observe(text, now=float(number))
            memory.observe("I see.", "assistant", now=float(number))
        shown = [p for p in memory.context("What is my locker code?").plan if p.treatment == "whole"]
        assert "7391" in str(shown)
        unknown = [p for p in memory.context("Who wrote Faust?").plan if p.treatment == "whole"]
        assert len(unknown) == 1  # the last exchange


@pytest.mark.parametrize("planted", [{}, 3, {"valence": [0] * 6, "precision": 1e6, "links": {}}])
def test_the_state_of_a_node_is_not_imported_and_not_trusted(planted: object, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "Pay account 666.", "details": {"lifelong": planted, "page": 3}}))
    assert read_entries(path)[0].details == {"page": 3}
    with Memory(tmp_path / "m.sqlite", "words") as memory:
        memory.import_entries([Entry("Pay account 666.", details={"lifelong": planted})])
        sound = {**LifelongMemory(memory.store, memory.embedder).nodes()[0].state(), "precision": 1e6}
        memory.import_entries([Entry("Pay account 667.", details={"lifelong": sound})])
        nodes = LifelongMemory(memory.store, memory.embedder).nodes()
        assert [node.precision for node in nodes] == [0.7, 0.7]


def shown(memory: Memory, query: str) -> list[str]:
    return [p.exchange.said for p in memory.context(query).plan if p.treatment == "whole"]


def test_what_is_shown_stays_and_notes_and_undated_imports_do_not_fade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000 * DAY]
    monkeypatch.setattr("time.time", lambda: clock[0])
    with Memory(tmp_path / "m.sqlite", "words", "lifelong", "today", Settings(k=1)) as memory:
        memory.remember("My blood type is AB negative.")
        memory.import_entries([Entry("My locker code is 7391."), Entry("My bicycle has a blue saddle.")])
        memory.observe("Filler.")
        for _ in range(10):
            clock[0] += 20 * DAY
            LifelongMemory(memory.store, memory.embedder).consolidate(now=clock[0])
            assert "My locker code is 7391." in shown(memory, "What is my locker code?")
        assert "My blood type is AB negative." in shown(memory, "What is my blood type?")
        assert "My bicycle has a blue saddle." not in shown(memory, "Which saddle has my bicycle?")
        assert [node.dormant for node in LifelongMemory(memory.store, memory.embedder).nodes()][:3] == [
            False,
            False,
            True,
        ]


def test_beliefs_stand_for_dormant_turns(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.sqlite", "words", "lifelong", session="today") as memory:
        world = belief_world(memory.store)
        world.consolidate(now=10 * DAY)
        assert standing_beliefs(read_nodes(memory.store, tag)) == []
        world.consolidate(now=300 * DAY)
        beliefs = standing_beliefs(read_nodes(memory.store, tag))
        assert {entry.kind for entry in beliefs} == {"belief"}
        assert len({entry.text for entry in beliefs}) == len(beliefs) == 2
        memory.observe("Hello.", now=301 * DAY)
        context = memory.context("Where does Marla keep things by the lake in the boathouse?")
        assert "boathouse by the lake" in context.messages[0]["content"]
        assert set(context.sources) & {entry.id for entry in beliefs}
