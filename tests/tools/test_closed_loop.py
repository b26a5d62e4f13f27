"""The closed loop: experts succeed, episodes hang on their seed alone, time is what it is told."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.scripts import TOOLS

import vlacut

os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported
pytest.importorskip("mujoco", reason="MuJoCo is not installed: sh tools/closed_loop/setup.sh")
RANDOM_WEIGHTS = 3


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of the bench by name, as `python -m tools.closed_loop...` finds them."""
    monkeypatch.syspath_prepend(str(TOOLS.parent))

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"tools.closed_loop.{name}")

    yield module
    for name in [one for one in sys.modules if one.split(".")[0] == "tools"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["pick", "belt", "insert"])
def test_the_expert_succeeds(bench: Any, name: str) -> None:
    tasks, expert = bench("tasks"), bench("expert")
    task = tasks.TASKS[name]
    world = bench("world").World(task.xml)
    won = 0
    for seed in range(20):
        episode = tasks.begin(task, world, seed)
        for tick in range(task.most_ticks):
            episode.move(world, tick)
            world.step(expert.expert(world, episode, tick))
            if task.done(world, episode):
                won += 1
                break
    assert won >= 19


def test_a_label_leaves_the_world_as_it_was(bench: Any) -> None:
    tasks, expert = bench("tasks"), bench("expert")
    task = tasks.TASKS["belt"]
    world = bench("world").World(task.xml)
    episode = tasks.begin(task, world, 7)
    places = []
    for label in (False, True):
        tasks.begin(task, world, 7)
        for tick in range(30):
            if label:
                chunk = expert.chunk(world, episode, tick, 16)
                assert chunk.shape == (16, 5)
            episode.move(world, tick)
            world.step(expert.expert(world, episode, tick))
        places.append(world.data.qpos.copy())
    np.testing.assert_array_equal(*places)


@pytest.fixture
def deployed(bench: Any, tmp_path: Path) -> Any:
    torch.manual_seed(RANDOM_WEIGHTS)
    net = bench("policy").TokenPolicy().eval()
    program = bench("programs").token_program(net)
    machines = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
    vlacut.compile(program, **machines, out=tmp_path / "p.vlacut")
    return net, bench("rollout").Deployed(tmp_path / "p.vlacut")


def test_a_policy_is_what_is_deployed(bench: Any, deployed: Any) -> None:
    net, policy = deployed
    numbers = np.random.default_rng(0)
    given = {
        name: numbers.integers(0, 256, (64, 64, 3), np.uint8) for name in bench("policy").PICTURES
    }
    given |= {"tokens": np.array([1, 3]), "state": numbers.normal(size=10).astype(np.float32)}
    observed = {name: torch.from_numpy(array) for name, array in given.items()}
    with torch.inference_mode():
        expected = net.act({**observed, "words": observed["tokens"]}).numpy()
    np.testing.assert_allclose(policy.act(given)["actions"], expected, atol=1e-5)


def test_episodes_in_virtual_time(bench: Any, deployed: Any) -> None:
    """The same seed gives the same episode to the bit, and a command is as old as its inference."""
    from vlacut.control.controllers.simple import Periodic

    rollout = bench("rollout")
    task, world = rollout.world_of("belt")
    try:
        world.picture("front")
    except (RuntimeError, AttributeError, ImportError) as error:
        pytest.skip(f"nothing renders here: {error}")
    task.most_ticks = 24
    how = rollout.How(Periodic)
    runs = [
        rollout.drive(task, world, deployed[1], 3, rollout.fixed(0.2), how, None, None)
        for _ in range(2)
    ]
    commands = [[report.command for report in run.reports[4:]] for run in runs]
    np.testing.assert_array_equal(*commands)
    ages = {round(report.age_s, 3) for report in runs[0].reports[8:]}
    assert ages == {0.2, 0.25, 0.3, 0.35}  # a new chunk every 200 ms, 200 ms old when it comes
    world.close()
