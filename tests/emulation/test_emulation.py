"""Emulated links: what they deliver, to the byte and not before its time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from vlacut.emulation import DirectionShape, EmulatedLink, Proxy, Shape, shape_of
from vlacut.emulation.direction import LinkDirection
from vlacut.emulation.shape import interrupted
from vlacut.errors import HardwareError
from vlacut.hardware import Link
from vlacut.hardware.trace import Trace

STEADY = Trace((1e6,), (1.0,))
SEGMENT = 1448
Emulated = Proxy | EmulatedLink


def direction(shape: DirectionShape, begins: float | None = 0.0) -> LinkDirection:
    return LinkDirection(shape, SEGMENT, 0, begins)


def test_bytes_leave_one_after_the_other_and_arrive_a_delay_later() -> None:
    found = direction(DirectionShape(STEADY, delay_s=0.01))
    assert found.take(1000, 5.0) == pytest.approx(5.011)
    assert found.take(1000, 5.0) == pytest.approx(5.012)
    assert found.take(1000, 6.0) == pytest.approx(6.011)


def test_what_leaves_together_leaves_within_half_a_millisecond() -> None:
    """At the rate of the time, not the mean: a slow spell of a fast link comes piece by piece."""
    found = direction(DirectionShape(Trace((1e7, 1e9), (1.0, 1.0))))
    assert found.together(10**6, 0.2) == 5000
    assert found.together(10**6, 1.2) == 500_000
    assert found.together(800, 1.2) == 800
    found.take(58_000_000, 0.2)  # the link is busy until 1.05
    assert found.together(10**6, 0.3) == 500_000
    assert direction(DirectionShape(Trace((0.0, 1e9), (1.0, 1.0)))).together(10**6, 0.2) == SEGMENT


def test_until_it_begins_a_lane_only_delays() -> None:
    found = direction(DirectionShape(Trace((0.0, 1e3), (1.0, 1.0)), delay_s=0.01), begins=None)
    assert found.take(10**6, 3.0) == pytest.approx(3.01)
    found.begin(4.0)
    assert found.take(500, 4.0) == pytest.approx(5.51)  # an outage of a second comes first


def test_jitter_is_of_a_burst_and_overtakes_nothing() -> None:
    found = direction(DirectionShape(STEADY, jitter_s=0.02))
    starts = np.arange(2000) * 0.005
    ends = [(found.take(100, at), found.take(100, at)) for at in starts]
    late = np.array([first for first, _ in ends]) - starts - 100 / 1e6
    assert late.min() >= 0
    assert late.max() < 0.02
    assert late.mean() > 0.01  # an even chance between, and waits for the burst before
    assert all(second - first < 1e-4 + 1e-9 for first, second in ends)
    flat = np.array(ends).reshape(-1)
    assert (np.diff(flat) >= 0).all()


def test_a_lost_segment_holds_back_what_follows_for_a_round_trip() -> None:
    found = direction(DirectionShape(STEADY, loss=0.02, again_s=0.5))
    starts = np.arange(5000) * 10.0
    late = np.array([found.take(SEGMENT, at) for at in starts]) - starts - SEGMENT / 1e6
    lost = late > 0.1
    assert late[lost] == pytest.approx(0.5)
    assert late[~lost] == pytest.approx(0.0, abs=1e-9)
    assert lost.mean() == pytest.approx(0.02, abs=0.008)
    behind = direction(DirectionShape(STEADY, loss=0.999, again_s=0.5))
    held = behind.take(100 * SEGMENT, 0.0)
    assert behind.take(1, 0.2) >= held


def test_outages_cut_holes_into_a_trace() -> None:
    trace = interrupted(Trace((10.0, 20.0), (1.0, 1.0)), [(0.5, 1.0), (1.75, 0.25)])
    assert trace.rates == (10.0, 0.0, 0.0, 20.0, 0.0)
    assert trace.seconds == pytest.approx((0.5, 0.5, 0.5, 0.25, 0.25))
    assert interrupted(STEADY, [(2.0, 3.0)]).seconds == pytest.approx((2.0, 3.0))
    with pytest.raises(HardwareError, match="not within"):
        interrupted(Trace((10.0, 20.0), (1.0, 1.0)), [(1.5, 1.0)])


def test_a_shape_is_of_rates_of_messages() -> None:
    link = Link(80.0, 40.0, 0.02)
    shape = shape_of(link, Trace((0.0, 10.0), (1.0, 1.0)), loss=0.01)
    assert shape.up.trace.rates == (0.0, 10.0 * link.framing.share)
    assert shape.down.trace.rates == (0.0, 5.0 * link.framing.share)
    assert (shape.up.delay_s, shape.down.delay_s, shape.up.again_s) == (0.01, 0.01, 0.02)
    assert shape_of(link).up.trace.rates == (80.0,)


@pytest.mark.parametrize("bad", [{"delay_s": -1.0}, {"jitter_s": -1.0}, {"loss": 1.0}])
def test_what_no_link_can_do_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(HardwareError, match="must not be negative"):
        DirectionShape(STEADY, **bad)


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    def accept() -> None:
        sock, _ = listener.accept()
        with sock:
            serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def linked(
    serve: Callable[[socket.socket], None], kind: type[Emulated], shape: Shape, **options: bool
) -> Iterator[tuple[socket.socket, Emulated]]:
    """A connection over an emulated link to a server."""
    with (
        server(serve) as address,
        kind(address, shape, **options) as proxy,
        socket.create_connection(proxy.address, 20) as sock,
    ):
        yield sock, proxy


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def read(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(1 << 16):
        data += more
    return data


@pytest.mark.parametrize("kind", [Proxy, EmulatedLink])
def test_bytes_come_whole_and_not_before_their_time(kind: type[Emulated]) -> None:
    payload = np.random.default_rng(0).bytes(400_000)
    link = Link(4e6, 2e6, 0.02)
    with linked(echo, kind, shape_of(link)) as (sock, _):
        start = time.monotonic()
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)
        assert read(sock) == payload
        took = time.monotonic() - start
    # The slower way carries 0.2 s of bytes after the first of them has crossed both ways.
    assert 0.219 < took < 2.0


@pytest.mark.parametrize("kind", [Proxy, EmulatedLink])
def test_a_trace_starts_when_it_is_told_to(kind: type[Emulated]) -> None:
    trace = Trace((1e9, 0.0, 1e9), (0.2, 0.3, 60.0))
    shape = shape_of(Link(1e9, 1e9), trace)
    with linked(echo, kind, shape, begun=False) as (sock, proxy):
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
        began = proxy.begin()
        assert 0 <= time.monotonic() - began < 1
        time.sleep(max(0.0, began + 0.25 - time.monotonic()))
        sock.sendall(b"b")
        assert sock.recv(1) == b"b"
        assert time.monotonic() - began >= 0.5


def test_a_way_is_shared_by_its_connections() -> None:
    count, nbytes = 3, 100_000
    taken = []

    def take(sock: socket.socket) -> None:
        with sock:
            taken.append(len(read(sock)))

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(Proxy(listener.getsockname(), shape_of(Link(1e6, 1e6))))
        socks = [socket.create_connection(proxy.address) for _ in range(count)]
        ends = [listener.accept()[0] for _ in socks]
        threads = [threading.Thread(target=take, args=(end,)) for end in ends]
        start = time.monotonic()
        for sock, thread in zip(socks, threads, strict=True):
            thread.start()
            sock.sendall(bytes(nbytes))
            sock.close()
        for thread in threads:
            thread.join(20)
        took = time.monotonic() - start
    assert taken == [nbytes] * count
    assert took > 0.299


def test_an_end_that_hangs_up_ends_the_other() -> None:
    with linked(lambda sock: None, Proxy, shape_of(Link(1e6, 1e6))) as (sock, _):
        assert sock.recv(1) == b""


def test_nobody_behind_the_link_is_as_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(address, shape_of(Link(1e6, 1e6))))
        sock = stack.enter_context(socket.create_connection(proxy.address, 10))
        assert sock.recv(1) == b""


def test_the_same_seed_is_the_same_link() -> None:
    def arrivals(seed: int) -> list[float]:
        found = LinkDirection(
            DirectionShape(STEADY, jitter_s=0.1, loss=0.1, again_s=1.0), SEGMENT, seed, 0.0
        )
        return [found.take(SEGMENT, at * 1.0) for at in range(50)]

    assert arrivals(1) == arrivals(1)
    assert arrivals(1) != arrivals(2)


def test_a_shape_travels_as_text() -> None:
    from vlacut.bundle.serde import from_json, to_json

    shape = replace(shape_of(Link(1e6, 2e6, 0.01)), seed=3)
    assert from_json(Shape, to_json(shape), "shape") == shape
