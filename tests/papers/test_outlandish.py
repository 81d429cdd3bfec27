"""The odd world's texts, how a seed is summed up and judged, and a tiny run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from letheon.measure.priming import Priming, Reading, Sample
from letheon.papers import catalogue, outlandish
from letheon.papers.common.odd_texts import CATEGORIES, KEYWORDS, THEMES, kind_of, make_world, some_of, words_of
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale
from letheon.papers.outlandish import judge, summary

pytestmark = pytest.mark.oracle("outlandish")


def primed(logp: float, priming: float, memorisation: float) -> Priming:
    sample = Sample("a mauve", "a", "mauve", "colours")
    before = Reading(logp, np.zeros(2), np.zeros(2))
    return Priming(sample, before, Reading(logp + memorisation, np.full(2, float(priming)), np.zeros(2)))


def test_the_world_has_every_category_of_every_key_word_and_prefixes_that_no_text_holds() -> None:
    world = make_world(0, 500)
    assert len(world.texts) == len(CATEGORIES) * len(KEYWORDS) * len(THEMES)
    every = [one.text for odd in world.texts for one in (odd.sample, odd.stones, odd.paraphrase)]
    assert not [p for prefixes in world.prefixes.values() for p in prefixes if any(p in text for text in every)]
    assert make_world(0, 500) == world
    assert make_world(1, 500) != world
    some = some_of(world.texts, 3)
    assert len(some) == 32
    assert {odd.sample.category for odd in some} == set(CATEGORIES)
    assert len({odd.sample.keyword for odd in some}) == len(KEYWORDS) * len(THEMES)


def test_stones_say_what_kind_the_key_word_is_of() -> None:
    odd = make_world(0, 10).texts[0]
    assert kind_of("colours", "vermilion") in words_of("colours")[:6]
    assert f"a kind of {kind_of(odd.sample.theme, odd.sample.keyword)} called" in odd.stones.prefix
    assert odd.stones.keyword == odd.sample.keyword


def test_what_a_cure_leaves_by_hand() -> None:
    plain = [primed(-1.0, 2.0, 4.0), primed(-2.0, 1.0, 4.0), primed(-3.0, -1.0, 2.0)]
    cured = [primed(-1.0, 1.0, 4.0), primed(-2.0, 0.5, 3.0), primed(-3.0, -1.0, 2.0)]
    left = outlandish._left("top 8%", plain, cured)
    assert left["top 8%, priming"] == pytest.approx(0.5 / 2.0)
    assert left["top 8%, memorisation"] == pytest.approx(9 / 10)
    assert left["top 8%, reduction"] == pytest.approx(1 - math.exp(-1.0))  # of the two texts that primed


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_holds_where_the_top_alone_carries_priming_and_fails_where_nothing_does() -> None:
    def rows(top: float, stones: float) -> list[dict[str, object]]:
        found = {
            "text": [primed(-float(i), i, 5.0) for i in range(1, 6)],
            "stones": [primed(-1.0, stones, 5.0)] * 5,
            "paraphrase": [primed(-1.0, 3.0, 5.0)] * 5,
            "background alone": [primed(-float(i), 1.0 + i % 2, 0.0) for i in range(1, 6)],
            "in context": [primed(-float(i), 1.0 + i % 2, 5.0) for i in range(1, 6)],
        }
        for name in outlandish.cures(0, 0.08):
            share = top if name.startswith("top") else 0.99
            found[name] = [primed(-float(i), share * i, 5.0) for i in range(1, 6)]
        return [summary(seed, found, 0.08) for seed in range(10)]

    better, worse = Findings(), Findings()
    judge(rows(0.1, 0.5), 0.08, better)
    assert set(better.parts.values()) == {"holds"}
    judge(rows(1.0, 4.0), 0.08, worse)
    failing = {name for name, verdict in worse.parts.items() if verdict == "fails"}
    assert failing == {"top minus random: share of priming left", "stones minus text, log priming"}


def test_the_scaled_change_is_read_at_the_same_memorisation() -> None:
    halves = {0.98: 0.9, 0.95: 0.8, 0.9: 0.7, 0.8: 0.5, 0.6: 0.1}  # scale -> share of priming left
    row = {f"scaled {scale}, priming": left for scale, left in halves.items()}
    row |= {f"scaled {scale}, memorisation": scale for scale in halves}
    assert outlandish.at_memorisation(row, 0.85) == pytest.approx(0.6)
    assert outlandish.at_memorisation(row, 1.0) == pytest.approx(1.0)
    assert outlandish.at_memorisation(row, None) is None


@pytest.mark.parametrize(
    ("kept", "share", "met"), [((1.0, 0.99, 0.99, 0.95, 0.93, 0.8, 0.7), 0.02, True), ((0.9,) * 7, 0.001, False)]
)
def test_that_no_share_keeps_memorisation_is_recorded(
    kept: tuple[float, ...], share: float, met: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(*_: object) -> dict[str, list[Priming]]:
        shares = zip(outlandish.SHARES, kept, strict=True)
        found = {outlandish._name("top", one): [primed(-4.0, 1.0, 4.0 * left)] for one, left in shares}
        return found | {"text": [primed(-4.0, 1.0, 4.0)]}

    monkeypatch.setattr(outlandish, "results_of", fake)
    monkeypatch.setattr(outlandish, "summary", lambda seed, *_: {"seed": seed})
    monkeypatch.setattr(outlandish, "judge", lambda *_: None)
    monkeypatch.setattr(outlandish, "figures", lambda *_: {})
    found = Findings()
    outlandish.reproduce(Scale(seeds=(0, 1)), found)
    assert found.measured["share"] == share
    assert found.checks == {"the share kept 0.92 of memorisation on the tuning seed": met}


@pytest.mark.slow
def test_a_tiny_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlandish, "STEPS", 20)
    monkeypatch.setattr(outlandish, "LEARNING", {"presentations": 2, "batch_size": 4, "optimizer": "sgd"})
    outcome = catalogue.paper("outlandish").reproduce(Scale(seeds=(0, 1)))
    assert outcome.measured["text, log memorisation"] > 0
    assert set(outcome.figures) == {"prediction", "shares", "cures"}
    assert len(outcome.rows) == 2 * 24 * 19
