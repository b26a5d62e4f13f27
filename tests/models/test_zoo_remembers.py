"""RoboFlamingo, served by another process, with its memory in the program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.zoo import observation, program

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.plans.state import StateRule
from vlacut.runtime.whole import UncutEpisode, load_uncut
from vlacut.tensor.numerics import varied

OBSERVATIONS = 6
_PAGE_KB = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Cuts that read memory on different sides, so that switches move it."""
    return vlacut.compile(
        program("roboflamingo"),
        out=tmp_path_factory.mktemp("roboflamingo") / "bundle",
        edge="jetson-agx-orin",
        cloud="a100",
        link="10GB/s,0us",
        cloud_budget="300kB",
        pool="portfolio:4MB",
        bandwidth="10kB/s-10GB/s",
        model_check=False,
    )


@contextmanager
def cloud(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """Another process that serves it: its address, and its number."""
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle.root), "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        try:
            yield told["address"], server.pid
        finally:
            server.terminate()


def resident_kb(pid: int | str) -> int:
    """Of a process's memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB


def drive(bundle: Bundle, steps: int) -> None:
    plan = bundle.plan
    assert len(plan.states) == 2
    assert any(up or down for row in plan.moves for up, down in row)
    engines = load_uncut(bundle)
    assert engines is not None
    uncut = UncutEpisode(
        bundle.manifest.whole, engines, bundle.manifest.states, bundle.initial_state()
    )
    given = observation(program("roboflamingo"))
    observed = [varied(plan.inputs, given, seed) for seed in range(OBSERVATIONS)]
    index = {variant.name: number for number, variant in enumerate(plan.variants)}
    before, crossed, priced, switches = None, [0, 0], [0, 0], 0
    with (
        cloud(bundle) as (address, pid),
        vlacut.connect(bundle.root, address, selector="random") as policy,
    ):
        for step in range(steps):
            if step == steps // 2:
                policy.reset()
                uncut.reset()
                before = None
            given = observed[step * 7 % OBSERVATIONS]
            action = policy.step(given)["action"]
            tensors = uncut.step(given)
            np.testing.assert_array_equal(action, tensors[plan.outputs["action"]])
            report = policy.last
            variant = index[report.variant]
            moved = (0, 0) if before is None else plan.moves[before][variant]
            assert report.state is (
                StateRule.RESET
                if before is None
                else StateRule.MOVED
                if any(moved)
                else StateRule.KEPT
            )
            switches += before not in (None, variant)
            price = plan.variants[variant].price
            crossed = [crossed[0] + report.bytes_up, crossed[1] + report.bytes_down]
            priced = [
                priced[0] + price.bytes_up + moved[0],
                priced[1] + price.bytes_down + moved[1],
            ]
            before = variant
            if step == steps // 5:
                held = resident_kb("self"), resident_kb(pid)
        grown = resident_kb("self") - held[0], resident_kb(pid) - held[1]
    assert switches > steps // 3
    assert crossed == priced
    assert max(grown) < 4096, grown  # kB


def test_it_remembers_over_two_processes(bundle: Bundle) -> None:
    drive(bundle, 60)


@pytest.mark.slow
def test_it_remembers_for_ten_thousand_steps(bundle: Bundle) -> None:
    drive(bundle, 10_000)
