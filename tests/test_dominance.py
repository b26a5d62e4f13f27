"""Where a cut and another change places: against the crossing of their prices, solved by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_graphs import all_cuts, random_graph

from vlacut.dominance import changes_at
from vlacut.hardware import Link
from vlacut.pricing import Side, price

LINK = Link(2e6, 1e6, 0.002)


def test_places_change_where_the_prices_cross() -> None:
    """A price is a + b / up with the round trip fixed, so two cross once at most, at db / da."""
    seen = {"crosses": 0, "never": 0}
    for seed in range(150):
        numbers = np.random.default_rng(seed)
        graph = random_graph(numbers)
        flows = (replace(flow, nbytes=flow.nbytes * 10**6) for flow in graph.flows)
        graph = replace(graph, flows=tuple(flows))
        rows = all_cuts(graph)[numbers.integers(0, len(all_cuts(graph)), 2)]
        mine, its = ([Side.CLOUD if one else Side.EDGE for one in row] for row in rows)
        fixed, moved = [], []
        for sides in (mine, its):
            cost = price(graph, sides, LINK)
            fixed.append(cost.edge_s + cost.cloud_s + cost.hop_s)
            moved.append(cost.bytes_up + 2 * cost.bytes_down)
        up = (moved[1] - moved[0]) / (fixed[0] - fixed[1]) if fixed[0] != fixed[1] else -1.0
        found = changes_at(graph, mine, its, LINK)
        if 1.1e3 < up < 0.9e12 and abs(up / LINK.up - 1) > 1e-3:
            assert found == pytest.approx(up, rel=1e-6), seed
            seen["crosses"] += 1
        elif not 0.9e3 < up < 1.1e12:
            assert found == 0, seed
            seen["never"] += 1
    assert min(seen.values()) > 10, seen
