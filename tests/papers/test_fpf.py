"""FPF's claim: what is judged, and one seed of its movements and repairs."""

from __future__ import annotations

import math

import pytest

from letheon.papers import fpf
from letheon.papers.fpf import (
    ARMS,
    MIDDLE,
    NETWORKS,
    OFTEN,
    PRIMARY,
    SHARE,
    TRIED,
    TUNING_SEEDS,
    convolutional_of,
    figures,
    judge,
    measured,
    moved,
    network_of,
    strategy_of,
    tuned,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.retain.dynamics import Move, roles


def rows(accuracy: float, drawn: int) -> list[dict[str, float]]:
    return [{"average accuracy": accuracy * (1 + i / 1000), "rows": drawn} for i in range(6)]


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    runs = {name: rows(0.8, 3000) for name in (*ARMS, *TRIED)}
    runs |= {"replay": rows(0.9, 7000), "k-fpf": rows(0.88, 1700), "fpf elsewhere": rows(0.5, 3000)}
    distance = {"head": 7.0, "norm": 6.0, "hidden": 1.0}
    moves = [
        {"distance": distance | {"bottom": 1.0 + i / 50}, "moves": [Move("across", "0.weight", 1, 0, 0.1, 0.1)]}
        for i in range(6)
    ]
    found, costly = Findings(primary=PRIMARY), Findings(primary=PRIMARY)
    judge(Results(runs), dict.fromkeys(NETWORKS, moves), found)
    assert (set(found.parts), set(found.parts.values())) == (set(PRIMARY), {"holds"})
    assert (found.checks, found.verdict) == ({SHARE: True}, "holds")
    judge(Results(runs | {"k-fpf": rows(0.88, 7000)}), dict.fromkeys(NETWORKS, moves), costly)
    assert (costly.checks[SHARE], costly.verdict) == (False, "inconclusive")
    assert all(svg.startswith("<svg") for svg in figures(Results(runs), moves).values())


def test_one_seed_head_and_norms_move_most_and_repair_most() -> None:
    found = moved(network_of(0), 0)["distance"]
    assert min(found["head"], found["norm"], found["statistics"]) > 5 * found["hidden"]
    naive, elsewhere, ours = (
        measured(ARMS[name], 0) for name in ("naive", "fpf elsewhere, rate 0.03", "fpf, rate 0.03")
    )
    assert ours["average accuracy"] > elsewhere["average accuracy"] + 0.2 > naive["average accuracy"] + 0.2
    assert ours["rows"] == 3200
    assert ours["share of parameters"] == pytest.approx((1000 + 400) / (6500 + 10100 + 400 + 1000))


def test_every_frugal_setting_draws_a_quarter_of_what_replay_draws() -> None:
    replay = measured(ARMS["replay"], 0)["rows"]
    drawn = [measured(strategy_of("k-fpf", (*schedule, 0.1)), 0)["rows"] for schedule in OFTEN]
    assert all(0.2 * replay < rows < 0.3 * replay for rows in drawn)


def test_each_arm_has_the_setting_that_is_best_on_the_tuning_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place is best beyond its grid, another within it; k-FPF is chosen by schedule and rate."""
    peaks, seen = {"select=head/norm,k=0": 2.7, f"select={MIDDLE}": 0.1, "k=10": 0.3}, set()

    def fake(text: str, seed: int) -> dict[str, float]:
        seen.add(seed)
        peak = next((peak for part, peak in peaks.items() if part in text), 0.03)
        worse = 1.0 if "k=5," in text else 0.0
        return {"average accuracy": -abs(math.log(float(text.rpartition("=")[2]) / peak)) - worse}

    monkeypatch.setattr(fpf, "measured", fake)
    found = Findings()
    chosen = tuned(found)
    assert chosen["fpf"] == "fpf:capacity=100,select=head/norm,k=0,steps=100,rate=2.7"
    assert chosen["fpf elsewhere"].endswith(f"select={MIDDLE},k=0,steps=100,rate=0.1")
    assert chosen["fpf, all parameters"].endswith("select=all,k=0,steps=100,rate=0.03")
    assert chosen["k-fpf"].endswith("select=head/norm,k=10,steps=6,rate=0.3")
    assert seen == set(TUNING_SEEDS)
    words = f"on seeds {', '.join(map(str, TUNING_SEEDS))}"
    search = found.measured[f"scores of the search {words}"]
    assert set(search) == set(TRIED)
    assert list(search["fpf"])[-2:] == ["(0, 100, 2.7)", "(0, 100, 8.1)"], "the search goes on beyond the end"
    assert found.measured[f"chosen {words}"]["k-fpf"] == "(10, 6, 0.3)"


def test_the_convolutional_network_has_a_bottom_a_middle_and_a_head() -> None:
    assert set(roles(convolutional_of(0)).values()) == {"bottom", "hidden", "norm", "statistics", "head"}
