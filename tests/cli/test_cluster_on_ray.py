"""A cluster on Ray: its settings, its servers without Ray, and, where it is installed, with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import Vlacut
from support.proxy import wait_until

import vlacut
from vlacut.api.cluster import member as members_of
from vlacut.api.cluster.asking import fetch_status
from vlacut.api.cluster.member import Member, Register
from vlacut.api.cluster.on_ray import RayCluster
from vlacut.api.cluster.scaling import Scaling
from vlacut.api.cluster.settings import RaySettings, read_settings
from vlacut.api.cluster.workers import read_workers, write_workers
from vlacut.api.connecting import Policy
from vlacut.errors import BundleError, InputError, PeerUnable, WireError
from vlacut.runtime.cloud.directory import Standing


def test_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[ray]\nbundles = ["/b"]\nworkers = 4\ngpus = 0\nmemory = "1GB"\n')
    assert read_settings(path) == RaySettings(("/b",), 4, gpus=0, memory="1GB")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has to hold one table"),
        ("[ray", "is no TOML"),
        (f"ray = {'[' * 5000}", "is no TOML"),
        ("[ray]\nbundles = ['b']", "ray.workers is missing"),
        ("[ray]\nbundle = ['b']", "did you mean bundles"),
        ("[ray]\nbundles = 'b'\nworkers = 1", "ray.bundles has to be a list"),
        ("[ray]\nbundles = ['b']\nworkers = true", "ray.workers has to be a whole number"),
        ("[ray]\nbundles = ['b']\nworkers = 0", "one bundle, worker and robot"),
        ("[ray]\nbundles = ['b']\nworkers = 1\nport = 0", "port is one to listen on"),
        ("[ray]\nbundles = ['b']\nworkers = 2\nmost_workers = 1", "no fewer than workers"),
        ("[ray]\nbundles = ['b']\nworkers = 1\nmetrics = 70000", "metrics is a port"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_settings(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "none.toml")


def test_members_share_robots_through_a_register_that_may_go_away(
    split_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register, there = Register(), [True]

    def report(standing: Standing) -> list[Standing]:
        if not there[0]:
            raise ConnectionError("no register")
        return register.report(standing)

    settings = RaySettings((str(split_bundle),), 2, port=17000)
    members = [Member(settings, "127.0.0.1", report) for _ in range(2)]
    first, second = (member.standing.address for member in members)
    assert first != second  # the port was taken
    for member in (*members, *members):
        member.tell()
    with vlacut.connect(split_bundle, first), vlacut.connect(split_bundle, first):
        assert [member.standing.robots for member in members] == [1, 1]
        there[0] = False
        for member in members:
            member.tell()
        assert wait_until(lambda: "the register is away: ConnectionError" in caplog.text)
        with vlacut.connect(split_bundle, second) as policy:
            policy.step(policy.bundle.golden("observation"))
        there[0] = True
    assert [member.drain() for member in members] == [0, 0]
    assert first in members[0].standing.address  # also of one that has ended
    assert wait_until(lambda: not register.all())


def test_members_have_pages_of_metrics_and_are_listed(
    split_bundle: Path, tmp_path: Path, vlacut: Vlacut
) -> None:
    settings = RaySettings((str(split_bundle),), 2, port=17100, metrics=17200)
    with ExitStack() as stack:
        members = [Member(settings, "127.0.0.1", Register().report) for _ in range(2)]
        for member in members:
            stack.callback(member.drain)
        standings = [member.standing for member in members]
        assert len({one.metrics for one in standings}) == 2
        listed, targets = tmp_path / "servers.toml", tmp_path / "targets.json"
        write_workers(listed, standings)
        write_workers(targets, standings)
        assert [one.address for one in read_workers(listed)] == [one.address for one in standings]
        assert [one["targets"] for one in json.loads(targets.read_text())] == [
            [one.metrics] for one in standings
        ]
        found = json.loads(vlacut("status", listed, "--json")[1])["servers"]
        assert [found[one.address]["health"] for one in standings] == ["ok", "ok"]
    rc, _, said = vlacut("status", listed)  # they have ended, and their pages with them
    assert (rc, "no server of" in said) == (1, True)
    with pytest.raises(InputError, match="has no page of metrics"):
        write_workers(listed, [standing(1)])
    with pytest.raises(InputError, match="cannot be written"):
        write_workers(tmp_path / "none" / "servers.toml", standings)


def test_a_list_needs_pages_of_metrics(tmp_path: Path, vlacut: Vlacut) -> None:
    path = tmp_path / "ray.toml"
    path.write_text("[ray]\nbundles = ['b']\nworkers = 1\n")
    rc, _, said = vlacut("cluster", "up", path, "--list", tmp_path / "servers.toml")
    assert (rc, "metrics = 9100" in said) == (2, True)


def standing(robots: int, load: float = 0.0) -> Standing:
    return Standing("a:1", frozenset(), robots, 10, load)


def test_servers_are_added_at_once() -> None:
    scaling = Scaling(2, 4)
    assert scaling.wanted([standing(8), standing(8)], 2, 0.0) == 2
    assert scaling.wanted([standing(9), standing(8)], 2, 1.0) == 3
    assert scaling.wanted([standing(9), standing(8)], 3, 2.0) == 3  # it is being started
    assert scaling.wanted([standing(1, load=1.0)] * 2, 2, 3.0) == 3  # their engines are full
    assert scaling.wanted([standing(10)] * 4, 4, 4.0) == 4
    assert scaling.wanted([standing(0)], 1, 5.0) == 2  # one was drained by hand


def test_servers_are_given_up_one_by_one_and_late() -> None:
    scaling = Scaling(1, 4, patience_s=60.0)
    three = [standing(4), standing(3), standing(3)]
    assert [scaling.wanted(three, 3, now) for now in (0.0, 59.0)] == [3, 3]
    assert scaling.wanted([standing(7)] * 3, 3, 59.5) == 3  # the minute begins anew
    assert [scaling.wanted(three, 3, now) for now in (60.0, 119.0, 120.0)] == [3, 3, 2]
    assert scaling.wanted([standing(0)], 1, 1000.0) == 1


@given(
    robots=st.lists(st.integers(0, 10), max_size=6), starting=st.integers(0, 3), now=st.floats(0, 9)
)
def test_how_many_servers_there_should_be_is_within_bounds(
    robots: list[int], starting: int, now: float
) -> None:
    servers = min(6, max(1, len(robots)) + starting)
    made = Scaling(1, 6, patience_s=0.0).wanted([standing(one) for one in robots], servers, now)
    assert 1 <= made <= 6
    assert made >= servers - 1
    if made < servers:  # those that stay are no fuller than asks for another
        assert Scaling(1, 6).wanted([standing(one) for one in robots], made, now) == made


def test_without_a_free_port(split_bundle: Path) -> None:
    settings = RaySettings((str(split_bundle),), 1)
    with pytest.raises(InputError, match=r"ports of 192\.0\.2\.1 from 7000 on is free"):
        Member(settings, "192.0.2.1", lambda standing: [standing])  # no address of this machine


def test_a_port_that_is_taken_while_engines_load(
    split_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next is tried; an error that is none of ports is raised."""
    taken = [socket.create_server(("127.0.0.1", 0))]
    with taken[0]:
        port = taken[0].getsockname()[1]
        asked: list[int] = []
        free = members_of._taken

        def late(host: str, port: int) -> str:
            asked.append(port)
            return "" if len(asked) == 1 else free(host, port)

        monkeypatch.setattr(members_of, "_taken", late)
        settings = RaySettings((str(split_bundle),), 1, port=port)
        made = Member(settings, "127.0.0.1", lambda standing: [standing])
        assert made.drain() == 0
        assert asked[:2] == [port, port]
        with pytest.raises(BundleError):
            Member(RaySettings(("nowhere",), 1), "127.0.0.1", lambda standing: [standing])


def test_without_ray(
    split_bundle: Path, vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "cluster.toml"
    path.write_text(f'[ray]\nbundles = ["{split_bundle}"]\nworkers = 1\n')
    status, _, error = vlacut("cluster", "up", path)
    assert status == 2
    assert "pip install 'vlacut[ray]'" in error


class Unplaced(SimpleNamespace):
    """A Ray that has no place for a server, and is told to end when it is asked for the first."""

    def __init__(self) -> None:
        asked = SimpleNamespace(remote=object)
        actor = SimpleNamespace(remote=lambda *_: type("Actor", (), {"standing": asked})())
        made = SimpleNamespace(options=lambda **_: actor)
        super().__init__(
            init=lambda **_: None,
            remote=lambda _: made,
            exceptions=SimpleNamespace(RayError=LookupError, GetTimeoutError=TimeoutError),
            shutdowns=[],
        )

    def get(self, refs: list[object], timeout: float | None = 0.0) -> list[object]:
        assert not refs, "it would wait for ever"
        return []

    def wait(self, refs: list[object], num_returns: int, timeout: float) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return [], refs

    def shutdown(self) -> None:
        self.shutdowns.append(1)


def test_it_can_be_ended_while_ray_has_no_place(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, before = Unplaced(), [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setitem(sys.modules, "ray", ray)
    path = tmp_path / "cluster.toml"
    path.write_text('[ray]\nbundles = ["b"]\nworkers = 2\n')
    try:
        status, said, _ = vlacut("cluster", "up", path)
    finally:
        for one, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(one, handler)
    assert (status, said, ray.shutdowns) == (0, "", [1])


class Slow(Unplaced):
    """A Ray whose servers say how full they are, but for those that are slow."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: set[int] = set()
        self.started: list[object] = []
        self.remote = lambda _: SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=self._new)
        )

    def _new(self, *_: object) -> object:
        number = len(self.started)
        asked = SimpleNamespace(remote=lambda: number)
        self.started.append(SimpleNamespace(standing=asked, drain=asked))
        actor = type("Actor", (), vars(self.started[-1]))()
        return actor

    def get(self, refs: Any, timeout: float | None = 0.0) -> Any:
        if isinstance(refs, list):
            return [self.get(one) for one in refs]
        return Standing(f"10.0.0.{refs}:7000", frozenset(), 1, 4, 0.1, f"10.0.0.{refs}:9100")

    def wait(self, refs: list[Any], num_returns: int, timeout: float) -> Any:
        return [one for one in refs if one not in self.slow], [
            one for one in refs if one in self.slow
        ]


def test_a_server_that_is_slow_to_answer_stays_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Slow()
    ray.exceptions.ActorDiedError = LookupError
    monkeypatch.setitem(sys.modules, "ray", ray)
    with RayCluster(RaySettings(("b",), 2, metrics=9100)) as cluster:
        listed = [one.address for one in cluster.ready()]
        ray.slow = set(range(len(ray.started)))
        assert [one.address for one in cluster.standings()] == listed
        ray.slow = set()
        assert [one.address for one in cluster.standings()] == listed
        cluster.drain(listed[0])
        assert [one.address for one in cluster.standings()] == listed[1:]


def ray_settings(bundle: Path, **more: Any) -> RaySettings:
    return RaySettings((str(bundle),), 2, gpus=0, cpus=0.1, host="127.0.0.1", port=17100, **more)


def admitted(bundle: Path, address: str) -> Policy:
    """A robot, once servers have heard of each other: they speak twice a second."""
    end = time.monotonic() + 60
    while True:
        try:
            return vlacut.connect(bundle, address)
        except PeerUnable:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.slow
def test_servers_by_load_on_ray(split_bundle: Path, tmp_path: Path) -> None:
    """Of two servers for two robots each, a third comes for the third robot, and goes again. One
    that could not start again is replaced.
    """
    pytest.importorskip("ray", reason="needs Ray: pip install 'vlacut[ray]'")
    bundle = tmp_path / "bundle"
    shutil.copytree(split_bundle, bundle)
    settings = ray_settings(bundle, most_workers=3, robots=2)
    with RayCluster(settings, scaling=Scaling(2, 3, patience_s=0.0)) as cluster, ExitStack() as on:
        first = cluster.ready(300)[0].address
        cluster.tend()
        assert len(cluster.standings()) == 2
        robots = [on.enter_context(admitted(split_bundle, first)) for _ in range(4)]
        cluster.tend()
        assert wait_until(lambda: len(cluster.standings()) == 3, 300)
        robots.append(on.enter_context(admitted(split_bundle, first)))
        assert sum(one.robots for one in cluster.standings()) == 5
        for robot in robots[1:]:
            robot.close()
        assert wait_until(lambda: sum(one.robots for one in cluster.standings()) == 1)
        cluster.tend()
        left = cluster.standings()
        assert [len(left), sum(one.robots for one in left)] == [2, 1]
        cluster.drain(next(one.address for one in left if one.robots))
        golden = robots[0].bundle.golden("observation")
        assert wait_until(  # the robot goes on to the other one between two steps
            lambda: (robots[0].step(golden), [one.robots for one in cluster.standings()])[1] == [1]
        )
        with pytest.raises(InputError, match="no server of this cluster"):
            cluster.drain(first + "0")
        (last,) = cluster.standings()
        bundle.rename(tmp_path / "away")
        os.kill(holder([last.address]), signal.SIGKILL)
        assert wait_until(lambda: not cluster.standings(), 60)
        (tmp_path / "away").rename(bundle)
        assert wait_until(lambda: (cluster.tend(), cluster.standings())[1], 300)


def healthy(listed: Path) -> set[str]:
    """The servers of a list whose pages say that they are well."""
    found = set()
    for worker in read_workers(listed):
        with contextlib.suppress(WireError):
            if fetch_status(*worker.metrics)["health"] == "ok":
                found.add(worker.address)
    return found


@pytest.mark.slow
def test_servers_on_ray(split_bundle: Path, tmp_path: Path) -> None:
    """One that is killed is started again by Ray; a robot of two addresses goes on meanwhile."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'vlacut[ray]'")
    path = tmp_path / "cluster.toml"
    path.write_text(
        f'[ray]\nbundles = ["{split_bundle}"]\nworkers = 2\ngpus = 0\ncpus = 0.1\n'
        f'host = "127.0.0.1"\nport = 17100\nmetrics = 17200\n'
    )
    listed = tmp_path / "servers.toml"
    words = [sys.executable, "-m", "vlacut", "cluster", "up", str(path), "--json"]
    words += ["--list", str(listed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        addresses = [one["address"] for one in json.loads(child.stdout.readline())["servers"]]
        try:
            with closing(vlacut.connect(split_bundle, ",".join(addresses))) as policy:
                golden = policy.bundle.golden("observation")
                policy.step(golden)
                os.kill(holder(addresses), signal.SIGKILL)
                end = time.monotonic() + 300
                policy.step(golden)
                policy.step(golden)
            for address in addresses:
                assert wait_until(lambda address=address: answers(split_bundle, address), 300)  # type: ignore[misc]
            assert time.monotonic() < end
            assert wait_until(lambda: healthy(listed) == set(addresses), 60)
        finally:
            child.terminate()
    assert child.returncode == 0


def answers(bundle: Path, address: str) -> bool:
    try:
        with vlacut.connect(bundle, address):
            return True
    except vlacut.PeerLost:
        return False


def holder(addresses: list[str]) -> int:
    """The process that listens at the first address."""
    port = f":{int(addresses[0].rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (row[9] for row in rows if row[1].endswith(port) and row[3] == "0A")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise AssertionError(f"nobody listens at {addresses[0]}")
