"""A flood does not fill the kernel's queue of connections: who is known finds a place in it."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from support.deployments import DIGEST

from vlacut.runtime.cloud.gate import Gate
from vlacut.runtime.cloud.lobby import Lobby
from vlacut.runtime.cloud.reception import Reception
from vlacut.runtime.cloud.socket_filter import Rules, queue_of, set_rules
from vlacut.runtime.wire.sockets import listener

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="filters of Linux's kernel")

KNOWN, OTHER, FLOODS = "127.0.0.1", "127.0.0.2", "127.0.0.9"
PLACES = 512


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with listener(KNOWN, 0) as sock:
        yield sock


def connects(sock: socket.socket, source: str, seconds: float = 0.25) -> bool:
    """Whether an address gets a place in the queue of a socket that listens."""
    with socket.socket(sock.family) as mine:
        mine.settimeout(seconds)
        mine.bind((source, 0))
        with suppress(TimeoutError):
            mine.connect(sock.getsockname()[:2])
            return True
        return False


def test_the_kernel_drops_who_is_barred_and_hears_everybody_else(listening: socket.socket) -> None:
    set_rules(listening, Rules(barred=("10.0.0.1", FLOODS, "2001:db8::/64")))
    assert not connects(listening, FLOODS)
    assert connects(listening, KNOWN)
    assert connects(listening, OTHER)
    set_rules(listening, Rules())
    assert connects(listening, FLOODS)


def test_by_chance_is_heard_who_is_neither_known_nor_barred(listening: socket.socket) -> None:
    set_rules(listening, Rules(barred=(FLOODS,), known=(KNOWN, "::1"), halvings=12))
    assert connects(listening, KNOWN)
    assert not connects(listening, OTHER)  # one in 4096
    assert not connects(listening, FLOODS)
    set_rules(listening, Rules(halvings=1))
    assert connects(listening, OTHER, 20.0)  # one in two, and the kernel asks again


def test_a_network_of_ipv6_is_barred_as_one() -> None:
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(listener("::1", 0))
        except Exception as error:
            pytest.skip(f"no IPv6 here: {error}")
        set_rules(sock, Rules(barred=("::/64", FLOODS)))
        assert not connects(sock, "::1")
        set_rules(sock, Rules(barred=("0:0:0:1::/64", FLOODS)))
        assert connects(sock, "::1")
        set_rules(sock, Rules(known=("2001:db8::1",), halvings=12))
        assert not connects(sock, "::1")
        set_rules(sock, Rules(known=("2001:db8::1", "::1"), halvings=12))
        assert connects(sock, "::1")


def test_as_many_rules_as_there_may_be_are_taken(listening: socket.socket) -> None:
    of_4 = tuple(f"10.0.0.{number}" for number in range(64))
    of_6 = tuple(f"2001:db8:0:{number:x}::/64" for number in range(64))
    of_6_known = tuple(f"2001:db8::{number:x}" for number in range(64))
    for barred, known in ((of_4, of_6_known), (of_6, of_4), (of_6, of_6_known)):
        set_rules(listening, Rules(barred, known, 12))
        set_rules(listening, Rules(barred, (*known[1:], KNOWN), 12))
        assert connects(listening, KNOWN)


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reception]:
    """A reception that the machine gives no time to accept anybody."""
    monkeypatch.setattr("vlacut.runtime.wire.sockets._BACKLOG", PLACES)
    monkeypatch.setattr("vlacut.runtime.cloud.reception._AT_ONCE", 0)
    reception = Reception(
        *(KNOWN, 0, None, lambda: [DIGEST], lambda stranger: None, lambda *line: None)
    )
    yield reception
    reception.close()


def test_who_was_let_in_before_finds_a_place_whoever_floods(starved: Reception) -> None:
    starved.know(f"{KNOWN}:1")
    with ExitStack() as stack:
        for turn in range(30):
            for number in range(40):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.bind((f"127.0.1.{1 + (turn * 40 + number) % 250}", 0))
                sock.connect_ex(starved.address)
            time.sleep(0.021)
            starved._turn()
        assert connects(starved._listener, KNOWN, 2.0)


def test_who_is_turned_back_is_dropped_until_it_is_heard_again(listening: socket.socket) -> None:
    lines: list[str] = []
    lobby = Lobby(16, 4, 5.0, 1.0)
    gate = Gate(listening, lobby, lambda event, peer, why: lines.append(f"{event} {peer}: {why}"))
    lobby.know(OTHER)
    for address in (FLOODS, OTHER):
        lobby.note(address, 0.3, 100.0)
    assert lobby.turned_back(FLOODS, 100.0)
    gate.look(100.0)
    assert lines == [f"refused {FLOODS}:0: too many connections: dropped unheard"]
    assert not connects(listening, FLOODS)
    assert connects(listening, OTHER)
    gate.look(104.0)
    assert not connects(listening, FLOODS)
    gate.look(105.1)
    assert connects(listening, FLOODS)
    lobby.note(FLOODS, 0.03, 105.1)  # a seventh of what it took the first time
    assert lobby.turned_back(FLOODS, 105.1)
    assert len(lines) == 1


def test_rules_that_cannot_be_changed_any_more_are_given_up(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lobby = Lobby(16, 4, 5.0, 1.0)
    gate = Gate(listening, lobby, lambda *line: None)
    lobby.note(FLOODS, 0.3, 100.0)
    assert lobby.turned_back(FLOODS, 100.0)
    gate.look(100.0)
    assert not connects(listening, FLOODS)

    def says_nothing(sock: socket.socket) -> float:
        raise OSError("it does not say")

    monkeypatch.setattr("vlacut.runtime.cloud.gate.queue_of", says_nothing)
    gate.look(101.0)
    assert connects(listening, FLOODS)


def test_who_shares_a_network_with_one_that_is_known_is_not_dropped_unheard() -> None:
    lobby = Lobby(16, 4, 5.0, 1.0)
    lobby.note("2001:db8::1", 0.3, 0.0)
    assert lobby.turned_back("2001:db8::1", 0.0)
    assert lobby.barred(0.0) == ["2001:db8::/64"]
    lobby.know("2001:db8::2")
    assert lobby.barred(0.0) == []


def test_how_full_a_queue_is_is_what_the_kernel_says(listening: socket.socket) -> None:
    assert queue_of(listening) == 0
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        assert 8 / 4096 <= queue_of(listening) <= 8 / 64
