"""Who floods a server with connections keeps nobody with keys out."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cutting import run_whole
from support.deployments import DIGEST, crossing_deployment, served
from support.http import fetch
from support.programs import observation

from vlacut.api.metrics import serve_metrics
from vlacut.runtime.cloud.crowds import network_of
from vlacut.runtime.cloud.lobby import Lobby
from vlacut.runtime.cloud.refusals import Refusals
from vlacut.runtime.cloud.stranger import Stranger
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.security import cloud_context, edge_context

KNOWN, MOST, RESERVED = "10.0.0.1", 16, 4


def lobby() -> Lobby:
    made = Lobby(MOST, RESERVED, 5.0, 1.0)
    made.know(KNOWN)
    return made


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=80))
def test_it_is_bounded_and_who_floods_loses_its_own(moves: list[tuple[int, float]]) -> None:
    room, now = lobby(), 0.0
    first, _ = room.enter("10.0.0.2", now, "robot")
    theirs = []
    for address, wait in moves:
        now += wait / 100
        guest, out = room.enter(f"10.1.0.{address}", now, address)
        theirs.append(guest)
        assert out is not first  # six addresses: all have less than their share
        assert len(room) <= MOST
    assert first.here
    known, _ = room.enter(KNOWN, now, "known")
    for address in range(100):
        room.enter(f"10.2.0.{address}", now, address)
        assert len(room) <= MOST
    assert known.here  # whoever comes, from wherever
    assert sum(guest.here for guest in theirs) <= MOST


def test_a_machine_with_all_addresses_of_its_network_is_one() -> None:
    room = lobby()
    first, _ = room.enter("2001:db8:0:1::5", 0.0, "robot")
    for number in range(1000):
        room.enter(f"2001:db8:0:2:{number:x}::{number:x}", 0.0, number)
    assert first.here
    room.note("2001:db8:0:2::1", 1.0, 0.0)
    assert room.turned_back("2001:db8:0:2:ffff::1", 0.0)
    assert not room.turned_back("2001:db8:0:1::5", 0.0)
    room.know("2001:db8:0:2::7")  # in one network with who floods, and let in before
    assert not room.turned_back("2001:db8:0:2::7", 0.0)
    known, _ = room.enter("2001:db8:0:2::7", 0.0, "known")
    for number in range(100):
        room.enter(f"2001:db8:0:2::{number + 100:x}", 0.0, number)
    assert known.here
    assert [
        network_of(each) for each in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "::1")
    ] == [*("10.0.0.1", "10.0.0.1", "fe80::/64", "::/64")]


def test_the_fuller_the_sooner_who_says_nothing_has_to_leave() -> None:
    room = lobby()
    known, _ = room.enter(KNOWN, 0.0, None)
    alone, _ = room.enter("10.0.0.2", 0.0, None)
    assert room.overdue(4.0) == []
    for number in range(MOST):
        room.enter(f"10.1.0.{number}", 1.0, None)
    assert not alone.here or alone in room.overdue(1.5)
    assert room.limit_s(False) == 1.0
    assert known not in room.overdue(4.9)
    assert known in room.overdue(5.0)


def test_known_addresses_come_first_and_then_who_made_least_work() -> None:
    room = lobby()
    busy, _ = room.enter("10.1.0.1", 0.0, None)
    again, _ = room.enter("10.1.0.2", 0.0, None)
    quiet, _ = room.enter("10.1.0.2", 0.0, None)
    known, _ = room.enter(KNOWN, 0.0, None)
    room.note(KNOWN, 9.0, 0.0)
    room.note("10.1.0.1", 0.5, 0.0)
    turn = room.in_turn([busy, again, quiet, known], 0.1)
    assert turn == [known, again, quiet, busy]
    room.note("10.1.0.2", 0.1, 60.0)  # what was long ago counts no more
    assert room.in_turn([again, busy], 60.0) == [busy, again]


def test_who_is_turned_back_is_heard_again_after_5_s() -> None:
    """Also where no kernel has to be told of it, and nobody asks who is barred."""
    room = lobby()
    for number in range(3):
        room.note(f"10.1.0.{number}", 0.3, number)
        assert room.turned_back(f"10.1.0.{number}", number)
    room.note("10.1.0.0", 0.3, 4.9)
    assert room.turned_back("10.1.0.0", 4.9)
    assert not room.turned_back("10.1.0.0", 5.0)
    assert room.turned_back("10.1.0.1", 5.0)
    assert room.barred(6.5) == ["10.1.0.2"]
    assert not room.turned_back("10.1.0.2", 60.0)
    assert not room._barred  # also of those who never came again


def test_a_flood_is_a_few_lines() -> None:
    lines: list[tuple[str, str, str]] = []
    refusals = Refusals(lambda *line: lines.append(line))
    for number in range(1000):
        refusals.note("refused", f"10.0.0.{number % 3}:{number}", "no keys")
    assert len(lines) == 9
    refusals._began -= 2.0  # a second later
    refusals.note("refused", "10.0.0.9:1", "no keys")
    assert lines[9:] == [
        ("refused", "others", "991 more connections like these"),
        ("refused", "10.0.0.9:1", "no keys"),
    ]


def test_what_kept_the_reception_waiting_counts_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loaded machine stops threads where it likes: that is no work that an address has made."""
    noted: list[float] = []
    advance, note = Stranger.advance, Lobby.note

    def held_up(self: Stranger) -> bool:
        time.sleep(0.3)
        return advance(self)

    def noting(self: Lobby, address: str, seconds: float, now: float) -> None:
        noted.append(seconds)
        note(self, address, seconds, now)

    monkeypatch.setattr(Stranger, "advance", held_up)
    monkeypatch.setattr(Lobby, "note", noting)
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        policy.step(observation(program))
    assert noted
    assert 0 < sum(noted) < 0.1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01", b"hello"])
def test_a_robot_with_keys_connects_beside_those_without(
    keys: Path, says: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred connections that stay, and are made again when they are ended."""
    program, plan, engines = crossing_deployment()
    observed = observation(program)
    ended = threading.Event()

    def keep(address: tuple[str, int]) -> None:
        held: list[socket.socket] = []
        with ExitStack() as stack:
            while not ended.is_set():
                with suppress(OSError):
                    held.append(stack.enter_context(socket.create_connection(address)))
                    held[-1].sendall(says)
                if len(held) >= 100:
                    held.pop(0).close()
                    time.sleep(0.002)

    with (
        caplog.at_level(logging.ERROR, "vlacut.server"),
        served(plan, engines, tls=cloud_context(keys / "cloud")) as server,
    ):
        hostile = threading.Thread(target=keep, args=(server.address,))
        hostile.start()
        before = threading.active_count()
        try:
            time.sleep(0.3)
            for _ in range(8):
                start = time.monotonic()
                tls = edge_context(keys / "robot")
                with EdgeSession(plan, DIGEST, engines, server.address, tls=tls) as policy:
                    action = policy.step(observed)
                assert time.monotonic() - start < 5.0
                for name, expected in run_whole(program, observed).items():
                    np.testing.assert_array_equal(action[name], expected)
                assert threading.active_count() <= before + 4  # none for who has no keys
        finally:
            ended.set()
            hostile.join(10)


def test_slow_clients_of_health_take_neither_threads_nor_descriptors() -> None:
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        host, port = serve_metrics(server, "127.0.0.1", 0).address
        before, threads = descriptors(), threading.active_count()
        with ExitStack() as stack:
            for _ in range(300):
                sock = stack.enter_context(socket.create_connection((host, port)))
                with suppress(OSError):
                    sock.sendall(b"GET /hea")
            for _ in range(5):
                assert fetch(f"http://{host}:{port}/healthz") == (200, "ok\n")
            assert descriptors() - before - 300 <= 40
            assert threading.active_count() == threads
        assert fetch(f"http://{host}:{port}/metrics")[0] == 200
