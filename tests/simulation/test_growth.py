"""Growth: the queue of a GPU, and servers that share robots, by numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlacut.simulation.growth import Demand, Site, late_share, robots_per_gpu, traffic

TEN_HZ = Demand(0.1, 0.005, 0.02, 0.1)


def test_robots_that_ask_for_more_time_than_there_is_are_late() -> None:
    assert late_share(1, TEN_HZ) == 0
    assert late_share(25, TEN_HZ) > 0.9  # 1.25 s of every second
    assert robots_per_gpu(Demand(0.1, 0.09, 0.02, 0.1)) == 0


def test_no_more_fit_in_time_than_are_admitted() -> None:
    found = robots_per_gpu(TEN_HZ)
    assert 10 < found <= TEN_HZ.admitted == 20
    assert late_share(found, TEN_HZ) <= 1e-3 < late_share(found + 1, TEN_HZ)


@settings(max_examples=20)
@given(st.integers(1, 6), st.floats(0.001, 0.03), st.integers(0, 99))
def test_the_queue_is_that_of_one_engine(robots: int, cloud_s: float, seed: int) -> None:
    """The formula against engines that run one after the other."""
    demand = Demand(0.1, cloud_s, 0.0, 2 * cloud_s, jitter_s=0.01)
    numbers = np.random.default_rng(seed)
    due = numbers.random(robots)[:, None] * 0.1 + 0.1 * np.arange(20)
    free, late = 0.0, 0
    for arrival in sorted((due + numbers.random(due.shape) * 0.01).ravel()):
        free = max(free, arrival) + cloud_s
        late += free - arrival > 2 * cloud_s + 1e-12
    assert late_share(robots, demand, 20, seed) == pytest.approx(late / due.size, abs=2 / due.size)


@pytest.mark.parametrize(("per_second", "apart"), [(1.0, 2), (20.0, 4), (1000.0, 32)])
def test_robots_are_shared_evenly(per_second: float, apart: int) -> None:
    """Less so the more of them come between two reports: each server counts whom it sent alone."""
    site = Site(8, 32, seed=1)
    assert site.come(128, per_second) == 0
    assert sum(site.robots) == 128
    assert max(site.robots) - min(site.robots) <= apart


def test_a_site_that_is_full_refuses() -> None:
    site = Site(3, 4)
    assert site.come(20, 10.0) == 8
    assert site.robots == [4, 4, 4]


def test_traffic() -> None:
    found = traffic(100, 30)
    assert (found.servers, found.reports, found.standings, found.pages) == (4, 8, 32, 12)
