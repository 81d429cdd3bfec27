"""Personalised PageRank: the stationary equation, and nearness."""

from __future__ import annotations

import numpy as np
import pytest

from letheon.papers.common.pagerank import personalised_pagerank

TAKEN = {1: [10, 11], 2: [11, 12], 3: [20, 21], 4: [12]}


def test_the_scores_solve_the_linear_system() -> None:
    nodes = [("u", u) for u in sorted(TAKEN)] + [("i", i) for i in (10, 11, 12, 20, 21)]
    walk = np.zeros((len(nodes), len(nodes)))
    for user, items in TAKEN.items():
        for item in items:
            a, b = nodes.index(("u", user)), nodes.index(("i", item))
            walk[a, b] = walk[b, a] = 1
    walk /= walk.sum(0)
    exact = np.linalg.solve(np.eye(len(nodes)) - 0.85 * walk, 0.15 * np.eye(len(nodes))[0])
    found = personalised_pagerank(TAKEN, 1)
    for item, score in found.items():
        assert score == pytest.approx(exact[nodes.index(("i", item))], abs=1e-7)


def test_items_of_another_component_score_nothing_and_own_items_most() -> None:
    found = personalised_pagerank(TAKEN, 1)
    assert found[20] == found[21] == 0
    assert found[11] > found[12] > 0
    assert found[10] > found[12]
