"""Robots of several servers: who is sent where, and comes back where."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import crossing_deployment, serving_thread
from support.programs import observation
from support.proxy import wait_until

from vlacut.errors import InputError, PeerLost, PeerRefused, PeerUnable, WireError
from vlacut.runtime.cloud import directory as directory_module
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.moving import pack_place, unpack_place
from vlacut.runtime.wire.protocol.greeting import PLACE_BYTES
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.runtime.wire.sockets import parse_addresses

PROGRAM, PLAN, ENGINES = crossing_deployment()
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


@contextmanager
def serving(digest: bytes = ONE, **options: Any) -> Iterator[Server]:
    server = Server([ready(PLAN, digest, ENGINES)], timeout=10.0, directory=Directory(), **options)
    with serving_thread(server):
        yield server


def tell(*servers: Server) -> None:
    """Every server hears of every other."""
    for server in servers:
        for other in servers:
            if other is not server:
                directory_of(server).report(other.standing)


def directory_of(server: Server) -> Directory:
    assert server._directory is not None
    return server._directory


def robot(server: Server, digest: bytes = ONE, **options: Any) -> EdgeSession:
    return EdgeSession(PLAN, digest, ENGINES, server.address, **options)


def step(session: EdgeSession) -> None:
    """A step, whose action is right."""
    made, expected = session.step(observation(PROGRAM)), run_whole(PROGRAM, observation(PROGRAM))
    for name, array in expected.items():
        np.testing.assert_array_equal(made[name], array)


def test_a_robot_is_sent_to_who_serves_its_bundle() -> None:
    with serving(ONE) as one, serving(OTHER) as other:
        with pytest.raises(PeerRefused, match="holds another bundle"):
            robot(one, OTHER)
        tell(one, other)
        with robot(one, OTHER) as session:
            step(session)
            assert (one.robots, other.robots) == (0, 1)
        assert wait_until(lambda: other.robots == 0)
        with pytest.raises(PeerRefused, match="holds another bundle"):
            robot(one, bytes(32))  # nobody has it


def test_robots_spread_evenly_and_of_many_full_servers_none_takes_one_more() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(most_robots=3)) for _ in range(3)]
        tell(*servers)
        for count in range(9):
            stack.enter_context(robot(servers[0]))
            numbers = sorted(server.robots for server in servers)
            assert sum(numbers) == count + 1
            assert numbers[-1] - numbers[0] <= 1
        tell(*servers)
        with pytest.raises(PeerUnable, match="is full"):
            robot(servers[0])


def test_servers_that_are_full_unknown_to_each_other_send_nobody_in_a_circle() -> None:
    with serving(most_robots=1) as one, serving(most_robots=1) as other:
        tell(one, other)
        with robot(one), robot(other), pytest.raises(PeerUnable, match="to each other: each of"):
            robot(one)


def test_the_robots_of_a_server_that_ends_go_on_elsewhere() -> None:
    """No step is lost, and the address that the robot knows is the one of the server that ends."""
    with serving() as other, serving() as one:
        with robot(one) as session:
            step(session)
            assert one.robots == 1
            tell(one, other)
            one.shutdown()
            for _ in range(20):
                step(session)
                time.sleep(0.01)
            assert other.robots == 1
        assert wait_until(lambda: other.robots == 0)


def test_a_robot_asks_the_next_of_its_servers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[:2]
    with serving() as one:
        with EdgeSession(PLAN, ONE, ENGINES, nobody, others=[one.address]) as session:
            step(session)
        with pytest.raises(PeerLost, match="nobody answers"):
            EdgeSession(PLAN, OTHER, ENGINES, nobody, others=[one.address])


def test_a_robot_comes_back_to_where_it_was_served() -> None:
    """There its state may be; though another is less full by then."""
    with serving() as one, serving() as other, ExitStack() as stack:
        sessions = [stack.enter_context(robot(other)) for _ in range(2)]
        tell(one, other)
        sessions.append(stack.enter_context(robot(one)))
        step(sessions[0])
        assert (one.robots, other.robots) == (1, 2)
        sessions[1].close()
        sessions[2].close()
        assert wait_until(lambda: (one.robots, other.robots) == (0, 1))
        tell(one, other)
        for each in list(other._robots._robots.values()):
            each.sock.shutdown(socket.SHUT_RDWR)  # the network fails
        step(sessions[0])
        assert (one.robots, other.robots) == (0, 1)


def test_the_same_keys_hold_at_the_next_server(keys: Path) -> None:
    tls = {"tls": cloud_context(keys / "cloud")}
    with serving(ONE, **tls) as one, serving(OTHER, **tls) as other:
        tell(one, other)
        with robot(one, OTHER, tls=edge_context(keys / "robot")) as session:
            step(session)


def test_a_robot_without_keys_is_not_sent_off_loopback() -> None:
    with serving() as one:
        directory_of(one).report(Standing("10.0.0.5:7000", frozenset([OTHER]), 0, 9, 0.0))
        with pytest.raises(PeerRefused, match="sent where it may not go: 10\\.0\\.0\\.5"):
            robot(one, OTHER)


def test_a_report_that_is_not_renewed_counts_no_more() -> None:
    directory = Directory(stale_s=0.05)
    standing = Standing("10.0.0.5:7000", frozenset([ONE]), 0, 1, 0.0)
    directory.report(standing)
    assert directory.place(ONE) == standing.address
    assert wait_until(lambda: not directory.all)
    assert directory.place(ONE) == ""


def test_a_robot_on_its_way_has_the_place_that_it_was_sent_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = Directory()
    standing = Standing("10.0.0.5:7000", frozenset([ONE]), 0, 2, 0.0)
    directory.report(standing)
    assert [directory.place(ONE) != "" for _ in range(3)] == [True, True, False]
    directory.report(standing)  # neither is there yet
    assert directory.place(ONE) == ""
    directory.report(replace(standing, robots=1))  # one is, and the other will be
    assert directory.place(ONE) == ""
    monkeypatch.setattr(directory_module, "_UNDER_WAY_S", 0.0)  # it went elsewhere
    assert directory.place(ONE) == standing.address
    directory.forget(standing.address)
    assert directory.place(ONE) == ""
    directory.replace([standing, replace(standing, address="10.0.0.6:7000")])
    directory.replace([standing])
    assert directory.all == [standing]


def test_the_engines_time_fills_a_server_as_places_do() -> None:
    directory = Directory()
    directory.report(Standing("a:1", frozenset([ONE]), 2, 64, 0.8))
    directory.report(Standing("b:1", frozenset([ONE]), 9, 64, 0.3))
    assert directory.place(ONE) == "b:1"
    mine = Standing("", frozenset([ONE]), 10, 64, 0.33)
    assert directory.place(ONE, mine) == ""  # which has one more by now
    assert directory.place(ONE, replace(mine, robots=20, load=0.6)) == "b:1"


def test_many_threads_find_places_at_once() -> None:
    directory, found = Directory(), list[str]()
    for name in "ab":
        directory.report(Standing(f"{name}:1", frozenset([ONE]), 0, 50, 0.0))
    threads = [
        threading.Thread(target=lambda: found.extend(directory.place(ONE) for _ in range(25)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count("a:1") == found.count("b:1") == 50


def test_places_on_the_wire() -> None:
    for place, address in (("10.0.0.5:7000", ("10.0.0.5", 7000)), ("[::1]:1", ("::1", 1))):
        data = pack_place(place)
        assert len(data) == PLACE_BYTES
        assert unpack_place(data).address == address
    odd = (b"a\nb:1", b"\x1b[2Ja:1", b"a\0b:1")
    for bad in (bytes(PLACE_BYTES), b"x" * PLACE_BYTES, b"\xff" * PLACE_BYTES, *odd):
        with pytest.raises(WireError, match="does not parse"):
            unpack_place(bad)
    for long in ("x" * 256 + ":1", "h\xf6st:1", "host"):
        with pytest.raises(InputError):
            pack_place(long)


def test_several_addresses() -> None:
    assert parse_addresses("a:1, [::1]:2") == [("a", 1), ("::1", 2)]
    for bad in ("a:1,", "a:1,a:1"):
        with pytest.raises(InputError):
            parse_addresses(bad)
