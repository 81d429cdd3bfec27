"""FPF's claim: what is judged, and one seed of its movements and repairs."""

from __future__ import annotations

import pytest

from letheon.papers.fpf import (
    ARMS,
    FRUGAL,
    NETWORKS,
    PLACES,
    PRIMARY,
    convolutional_of,
    figures,
    judge,
    measured,
    moved,
    network_of,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.retain.dynamics import Move, roles


def rows(accuracy: float, drawn: int) -> list[dict[str, float]]:
    return [{"average accuracy": accuracy * (1 + i / 1000), "rows": drawn} for i in range(6)]


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    runs = {name: rows(0.8, 3000) for name in (*ARMS, *PLACES, *FRUGAL)}
    runs |= {"replay": rows(0.9, 7000), "k-fpf": rows(0.88, 1700), "fpf elsewhere": rows(0.5, 3000)}
    distance = {"head": 7.0, "norm": 6.0, "hidden": 1.0}
    moves = [
        {"distance": distance | {"bottom": 1.0 + i / 50}, "moves": [Move("across", "0.weight", 1, 0, 0.1, 0.1)]}
        for i in range(6)
    ]
    found, costly = Findings(primary=PRIMARY), Findings(primary=PRIMARY)
    judge(Results(runs), dict.fromkeys(NETWORKS, moves), found)
    assert (set(found.parts), set(found.parts.values())) == (set(PRIMARY), {"holds"})
    judge(Results(runs | {"k-fpf": rows(0.88, 7000)}), dict.fromkeys(NETWORKS, moves), costly)
    assert costly.parts["share of replay's rows that k-fpf draws"] == "fails"
    assert all(svg.startswith("<svg") for svg in figures(Results(runs), moves).values())


def test_one_seed_head_and_norms_move_most_and_repair_most() -> None:
    found = moved(network_of(0), 0)["distance"]
    assert min(found["head"], found["norm"], found["statistics"]) > 5 * found["hidden"]
    naive, elsewhere, fpf = (
        measured(ARMS[name], 0) for name in ("naive", "fpf elsewhere, rate 0.03", "fpf, rate 0.03")
    )
    assert fpf["average accuracy"] > elsewhere["average accuracy"] + 0.2 > naive["average accuracy"] + 0.2
    assert fpf["rows"] == 3200
    assert fpf["share of parameters"] == pytest.approx((1000 + 400) / (6500 + 10100 + 400 + 1000))


def test_every_frugal_setting_draws_a_quarter_of_what_replay_draws() -> None:
    replay = measured(ARMS["replay"], 0)["rows"]
    drawn = {text: measured(text, 0)["rows"] for text in FRUGAL["k-fpf"][::3]}
    assert all(0.2 * replay < rows < 0.3 * replay for rows in drawn.values())


def test_the_convolutional_network_has_a_bottom_a_middle_and_a_head() -> None:
    assert set(roles(convolutional_of(0)).values()) == {"bottom", "hidden", "norm", "statistics", "head"}
