"""A robot takes other versions of its bundle between two steps."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.deployments import serving_thread
from support.programs import TARGET, looping_program
from support.proxy import wait_until

import vlacut as library
from vlacut.api import rolling
from vlacut.api.rolling import GONE_BACK, PREPARING, READY, REFUSED, TAKEN, TRYING, Rolling
from vlacut.bundle.reading import read_bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, InputError
from vlacut.hardware import Side
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.report import Source


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three of one policy, and one with other inputs."""
    folder = tmp_path_factory.mktemp("versions")
    paths = [folder / f"v{trips}" for trips in (1, 2, 3)]
    for trips, path in enumerate(paths, 1):
        compile_program(looping_program(trips=trips), TARGET, path)
    compile_program(looping_program(width=32), TARGET, folder / "other")
    return [*paths, folder / "other"]


@pytest.fixture
def server(versions: list[Path]) -> Iterator[Server]:
    made = library.serve(versions)
    with serving_thread(made):
        yield made


def opened(server: Server, path: Path, **options: Any) -> Rolling:
    address = "{}:{}".format(*server.address)
    return library.Rolling(library.connect(path, address, **options), trial=3)


def goldens(versions: list[Path]) -> dict[bytes, np.ndarray]:
    """The golden action of each version, by digest; all have one golden observation."""
    found = [read_bundle(path) for path in versions[:3]]
    return {bundle.digest: bundle.golden("action")["action"] for bundle in found}


def test_a_version_is_taken_between_two_steps(server: Server, versions: list[Path]) -> None:
    golden = goldens(versions)
    with opened(server, versions[0]) as policy:
        observed = policy.bundle.golden("observation")
        for path in versions[1:3]:
            before = policy.bundle.digest
            policy.swap(path)
            with pytest.raises(InputError, match="wait for that"):
                policy.swap(path)
            assert wait_until(lambda: policy.swapped.state == READY)
            assert policy.bundle.digest == before
            for state in (TRYING, TRYING, TAKEN, TAKEN):
                action = policy.step(observed)["action"]
                assert policy.swapped.state == state
                np.testing.assert_array_equal(action, golden[policy.bundle.digest])
            assert policy.bundle.digest == read_bundle(path).digest
            assert policy.last.source is Source.CHOSEN
        assert wait_until(lambda: server.robots == 1)
    assert wait_until(lambda: server.robots == 0)


def test_no_robot_misses_a_step_while_versions_change(server: Server, versions: list[Path]) -> None:
    golden, wrong = goldens(versions), list[str]()

    def drive(number: int) -> None:
        with opened(server, versions[0], deadline=60.0) as policy:
            observed = policy.bundle.golden("observation")
            for path in versions[1:3]:
                policy.swap(path)
                while policy.swapped.state in (PREPARING, READY, TRYING):
                    time.sleep(0.01)  # all are in one process: it has to load versions meanwhile
                    action = policy.step(observed)["action"]
                    last = policy.last
                    if not np.array_equal(action, golden[policy.bundle.digest]):
                        wrong.append(f"{number}: an action of no version")
                    if last.source is not Source.CHOSEN or last.overrun:
                        wrong.append(f"{number}: {last.source}, {last.overrun}")
                if policy.swapped.state != TAKEN:
                    wrong.append(f"{number}: {policy.swapped}")

    robots = [threading.Thread(target=drive, args=(number,)) for number in range(4)]
    for robot in robots:
        robot.start()
    for robot in robots:
        robot.join()
    assert not wrong
    assert wait_until(lambda: server.robots == 0)


def refused(policy: Rolling, path: Path, said: str) -> None:
    """It goes on with the version that it has."""
    policy.swap(path)
    assert wait_until(lambda: policy.swapped.state == REFUSED)
    assert said in policy.swapped.why
    golden = policy.bundle.golden("action")["action"]
    for _ in range(2):
        action = policy.step(policy.bundle.golden("observation"))["action"]
        np.testing.assert_array_equal(action, golden)


def test_what_is_no_version_is_refused(
    server: Server, versions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(versions[1], damaged)
    name = read_bundle(damaged).parts(Side.EDGE)[0].name
    part = damaged / "parts" / f"{name}.onnx"
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    stranger = tmp_path / "stranger"
    compile_program(looping_program(trips=7), TARGET, stranger)
    with opened(server, versions[0]) as policy:
        refused(policy, tmp_path / "none", "is no bundle")
        refused(policy, damaged, "is altered")
        refused(policy, versions[3], "its inputs are others than those of the version in force")
        refused(policy, stranger, "the cloud holds another bundle")
        monkeypatch.setattr(rolling, "largest_difference", lambda *_: 1e9)
        refused(policy, versions[1], "its golden step is off by 1e+09")
        monkeypatch.setattr(rolling, "largest_difference", lambda *_: float("nan"))
        refused(policy, versions[1], "its golden step is off by nan")
        monkeypatch.setattr(rolling, "_check_alike", lambda *_: 1 // 0)
        refused(policy, versions[1], "ZeroDivisionError")
    assert wait_until(lambda: server.robots == 0)
    with pytest.raises(InputError, match="is closed"):
        policy.swap(versions[1])


def test_a_version_whose_first_steps_fail_is_gone_back_from(
    server: Server, versions: list[Path]
) -> None:
    golden = goldens(versions)
    with opened(server, versions[0]) as policy:
        observed = policy.bundle.golden("observation")
        policy.swap(versions[1])
        assert wait_until(lambda: policy.swapped.state == READY)
        policy.step(observed)

        def broken(*_: Any) -> Any:
            raise BackendError("no such kernel")

        policy._policy.step = broken  # type: ignore[method-assign]
        action = policy.step(observed)["action"]
        np.testing.assert_array_equal(action, golden[read_bundle(versions[0]).digest])
        assert policy.swapped.state == GONE_BACK
        assert policy.swapped.why == "no such kernel"
        policy.swap(versions[2])  # the next may be better
        assert wait_until(lambda: policy.swapped.state == READY)
        action = policy.step(observed)["action"]
        np.testing.assert_array_equal(action, golden[read_bundle(versions[2]).digest])


def test_the_golden_action_is_never_given_to_a_robot(versions: list[Path]) -> None:
    """The cloud goes once the version is ready: what is given again is the old one's last."""
    server = library.serve(versions)
    with serving_thread(server):
        policy = opened(server, versions[0], deadline=2.0, timeout=2.0)
        golden = policy.bundle.golden("observation")
        other = {name: array * 0.5 for name, array in golden.items()}
        last = policy.step(other)["action"]
        policy.swap(versions[1])
        assert wait_until(lambda: policy.swapped.state == READY)
    with policy:
        np.testing.assert_array_equal(policy.step(other)["action"], last)
        assert policy.swapped.state == GONE_BACK
        assert policy.last.source is Source.STALE


class Fake:
    """A policy that remembers, as far as `Rolling` looks at one."""

    def __init__(self, name: str) -> None:
        self.name, self.log = name, list[str]()
        self.plan = SimpleNamespace(states=("memory",))

    def step(self, *_: object) -> str:
        return self.name

    def reset(self) -> None:
        self.log.append("reset")

    def close(self) -> None:
        self.log.append("close")


def test_one_that_remembers_is_taken_where_an_episode_begins() -> None:
    old, new = Fake("old"), Fake("new")
    policy: Any = Rolling(old, trial=2)  # type: ignore[arg-type]
    assert policy.step({}) == "old"
    policy._next = new
    assert [policy.step({}) for _ in range(2)] == ["old", "old"]
    policy.reset()
    assert [policy.step({}) for _ in range(3)] == ["new"] * 3
    assert wait_until(lambda: old.log == ["reset", "close"])
    policy.close()
    assert new.log == ["close"]


def test_one_that_is_ready_after_the_end_is_closed(
    server: Server, versions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(rolling, "_rehearse", lambda _: go.wait(60))
    policy = opened(server, versions[0])
    policy.swap(versions[1])
    assert wait_until(lambda: server.robots == 2)
    policy.close()
    go.set()
    assert wait_until(lambda: server.robots == 0)


def test_a_trial_has_steps() -> None:
    with pytest.raises(InputError, match="tried for 0 steps"):
        Rolling(Fake("old"), trial=0)  # type: ignore[arg-type]
