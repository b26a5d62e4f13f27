"""The runtime over real sockets: numbers, hostile peers, lost peers, several robots."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, crossing_deployment, deployment, served
from support.programs import observation

from vlacut.backend import Engine
from vlacut.errors import (
    BackendError,
    InputError,
    ObservationError,
    PeerLost,
    PeerRefused,
    WireError,
)
from vlacut.hardware import Link, Side, parse_link
from vlacut.plans.instructions import Transfer, flatten
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.local import run_both
from vlacut.runtime.network.selectors import Forecast, steady
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.handshake import answer
from vlacut.runtime.wire.layout import Layout, Room
from vlacut.runtime.wire.protocol.envelope import sealed
from vlacut.runtime.wire.protocol.greeting import Greeting
from vlacut.runtime.wire.protocol.header import PROBE, TENSORS, Header
from vlacut.runtime.wire.protocol.payloads import PROBE_BYTES
from vlacut.runtime.wire.route import Route, Send
from vlacut.runtime.wire.stream import IDLE_S

SLOW = parse_link("10kB/s,10ms")


@pytest.mark.parametrize("seed", range(40))
def test_a_cut_program_runs_over_the_wire(seed: int) -> None:
    program, plan, engines = deployment(seed, phases=1 + seed % 4)
    observed = observation(program, seed)
    action = run_both(plan, engines, 0, observed)
    for name, expected in run_whole(program, observed).items():
        np.testing.assert_array_equal(action[name], expected)


def test_two_robots_on_one_server_over_tcp() -> None:
    program, plan, engines = crossing_deployment()
    failed: list[BaseException] = []

    def robot(seed: int, address: tuple[str, int]) -> None:
        try:
            with EdgeSession(plan, DIGEST, engines, address) as policy:
                for step in range(20):
                    observed = observation(program, 100 * seed + step)
                    action = policy.step(observed)
                    for name, expected in run_whole(program, observed).items():
                        np.testing.assert_array_equal(action[name], expected)
                    assert policy.last.step == step
        except BaseException as error:
            failed.append(error)

    with served(plan, engines) as server:
        robots = [threading.Thread(target=robot, args=(seed, server.address)) for seed in range(2)]
        for thread in robots:
            thread.start()
        for thread in robots:
            thread.join(60)
    assert not failed


def test_the_report_accounts_for_the_step() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        policy.step(observation(program))
        report = policy.last
    price = plan.variants[0].price
    assert (report.bytes_up, report.bytes_down) == (price.bytes_up, price.bytes_down)
    sides = {part.name: part.side for part in plan.parts}
    assert {sides[name] for name in report.edge_s} == {Side.EDGE}
    assert {sides[name] for name in report.cloud_s} == {Side.CLOUD}
    assert set(report.edge_s) | set(report.cloud_s) == set(sides)
    assert 0 < report.network_s < report.latency_s


def test_sides_with_different_bundles_refuse_each_other() -> None:
    _, plan, engines = crossing_deployment()
    refused = r"another bundle \(000000000000\).*\(000102030405\)"
    with (
        served(plan, engines, digest=bytes(32)) as server,
        pytest.raises(WireError, match=refused),
    ):
        EdgeSession(plan, DIGEST, engines, server.address)


def test_nobody_there_is_one_line() -> None:
    _, plan, engines = crossing_deployment()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerLost, match=f"nobody answers at 127.0.0.1:{port}"):
        EdgeSession(plan, DIGEST, engines, ("127.0.0.1", port))
    with pytest.raises(InputError, match="name the cloud's HOST:PORT"):
        EdgeSession(plan, DIGEST, engines, None)


@pytest.mark.parametrize("silence", ["handshake", "step"])
def test_a_silent_cloud_is_lost_in_time(silence: str) -> None:
    program, plan, engines = crossing_deployment()
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def stall() -> None:
        sock, _ = listener.accept()
        if silence == "step":
            answer(sock, DIGEST, 5)
        stop.wait(20)
        sock.close()

    thread = threading.Thread(target=stall)
    thread.start()
    start = time.monotonic()
    with (
        pytest.raises(PeerLost),
        EdgeSession(plan, DIGEST, engines, listener.getsockname(), timeout=0.5) as policy,
    ):
        policy.step(observation(program))
    assert time.monotonic() - start < 5
    stop.set()
    thread.join()
    listener.close()


def test_a_cloud_that_hangs_up_after_the_handshake_is_not_stormed() -> None:
    program, plan, engines = crossing_deployment()
    greetings: list[float] = []

    def hang_up() -> None:
        with contextlib.suppress(OSError, WireError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    answer(sock, DIGEST, 5)
                    greetings.append(time.monotonic())

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=hang_up)
    thread.start()
    with (
        EdgeSession(plan, DIGEST, engines, listener.getsockname(), 1.0) as policy,
        pytest.raises(PeerLost),
    ):
        policy.step(observation(program))
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()
    assert 2 <= len(greetings) <= 12  # pauses of 10 to 20 ms, doubled each time, fill a second


def test_bad_clients_harm_nobody() -> None:
    program, plan, engines = crossing_deployment()
    good_greeting = Greeting(0, DIGEST, bytes(16), 0, 0).pack()
    forged = Header(TENSORS, 0, 0, 0, 0, 1 << 62).pack(0)
    hostile = [
        b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64,
        good_greeting[:20],
        good_greeting + b"\xff" * 64,
        good_greeting + forged,
        good_greeting + Header(TENSORS, 7, 0, 0, 0, 8).pack(0),
        good_greeting + Header(TENSORS, 0, 60000, 0, 0, 8).pack(0),
        good_greeting + Header(PROBE, 0, 0, 0, 0, 1 << 40).pack(0),
        good_greeting + Header(PROBE, 0, 0, 0, 0, PROBE_BYTES).pack(0) + b"x" * PROBE_BYTES,
    ]
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        for data in hostile:
            with socket.create_connection(server.address) as sock:
                sock.sendall(data)
                policy.step(observation(program))
        policy.step(observation(program))


def test_large_frames_both_ways_at_once_do_not_deadlock() -> None:
    """Each side sends before it reads, far more than socket buffers hold."""
    _, plan, _ = crossing_deployment()

    class Big(Layout):
        def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
            return 0, Room(np.empty(0, ">u8"), (np.empty(40_000_000, np.uint8),))

        @property
        def most_frames(self) -> int:
            return 1

    ends = socket.socketpair()
    data = np.arange(40_000_000, dtype=np.uint32).astype(np.uint8)
    received: list[np.ndarray] = []

    def side(sock: socket.socket) -> None:
        connection = Connection(sock, Big(plan, Side.EDGE), 20.0)
        connection.send(Header(TENSORS, 0, 0, 0, 0, data.nbytes), [data])
        received.append(connection.receive().tensors[0])
        connection.flush()

    threads = [threading.Thread(target=side, args=(sock,)) for sock in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(received) == 2
    assert all(np.array_equal(array, data) for array in received)
    for sock in ends:
        sock.close()


@pytest.mark.parametrize("until", [math.inf, 1e12])
def test_a_frame_may_pause_for_longer_than_one_call_waits(until: float) -> None:
    """Before it, within its header and within its tensor; a peer that stays silent is lost."""
    _, plan, _ = crossing_deployment()

    class Big(Layout):
        def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
            return 0, Room(np.empty(0, ">u8"), (np.empty(100_000, np.uint8),))

    mine, other = socket.socketpair()
    connection = Connection(mine, Big(plan, Side.EDGE), 5 * IDLE_S, checked=True)
    connection.until = until
    data = np.arange(100_000, dtype=np.uint32).astype(np.uint8)
    header = Header(TENSORS, 0, 0, 0, 0, data.nbytes)
    sent = sealed(header, [data]) + data.tobytes()

    def send() -> None:
        for start, end in ((0, 10), (10, 40_000), (40_000, len(sent))):
            time.sleep(1.2 * IDLE_S)
            other.sendall(sent[start:end])

    thread = threading.Thread(target=send)
    thread.start()
    assert np.array_equal(connection.receive().tensors[0], data)
    thread.join()
    start = time.monotonic()
    with pytest.raises(PeerLost, match="no answer for 1 s"):
        connection.receive(1)
    assert time.monotonic() - start > 4.9 * IDLE_S
    other.close()
    connection.close()


def test_bytes_move_both_ways_while_an_engine_runs() -> None:
    """One side computes until the other has received all it sent, and sent all it sends."""
    _, plan, _ = crossing_deployment()

    class Big(Layout):
        def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
            return 0, Room(np.empty(0, ">u8"), (np.empty(20_000_000, np.uint8),))

    data = np.arange(20_000_000, dtype=np.uint32).astype(np.uint8)
    header = Header(TENSORS, 0, 0, 0, 0, data.nbytes)
    ends = socket.socketpair()
    one, other = (Connection(sock, Big(plan, Side.EDGE), 20.0) for sock in ends)
    done = threading.Event()

    def far_side() -> None:
        other.send(header, [data])
        assert np.array_equal(other.receive().tensors[0], data)
        other.flush()
        done.set()

    thread = threading.Thread(target=far_side)
    thread.start()
    one.send(header, [data])
    assert one.outbox.nbytes
    with one.moving(0):
        assert done.wait(20)
    assert not one.outbox.nbytes
    assert np.array_equal(one.receive().tensors[0], data)
    thread.join(5)
    for sock in ends:
        sock.close()


@pytest.mark.parametrize("tls", [False, True])
def test_tensors_of_any_layout_are_sent_packed(tls: bool) -> None:
    """Transposed, strided, empty, without dimensions: as an engine may give them."""
    _, plan, _ = crossing_deployment()
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = [grid.T, grid[:, ::2], np.empty((0, 3), np.int64), np.array(7, np.int64)]
    total = sum(array.nbytes for array in tensors)

    class Whole(Layout):
        def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
            return 0, Room(np.empty(0, ">u8"), (np.empty(total, np.uint8),))

    ends = socket.socketpair()
    sender, receiver = (Connection(end, Whole(plan, Side.EDGE), 5.0) for end in ends)
    sender._tls = sender.outbox._tls = tls  # joins small buffers first
    sender.send(Header(TENSORS, 0, 0, 0, 0, total), tensors)
    expected = b"".join(np.ascontiguousarray(array).tobytes() for array in tensors)
    assert receiver.receive().tensors[0].tobytes() == expected
    sender.close()
    receiver.close()


def test_a_wrong_observation_is_named_before_anything_is_sent() -> None:
    program, plan, engines = crossing_deployment()
    observed = observation(program)
    name = next(iter(observed))
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        with pytest.raises(ObservationError, match=f"missing from the observation: {name}"):
            policy.step({key: array for key, array in observed.items() if key != name})
        with pytest.raises(ObservationError, match="unexpected tensor 'imge'; did you mean image"):
            policy.step({**observed, "imge": observed[name]})
        with pytest.raises(ObservationError, match="dtype is float64"):
            policy.step({**observed, name: observed[name].astype(float)})
        policy.step(observed)  # the session still works


class Short:
    """An engine that makes the right tensors, each a row too short."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = self._engine.run(inputs)
        return {key: array[:-1] if array.ndim else array for key, array in made.items()}


@pytest.mark.parametrize("side", list(Side))
def test_an_engine_that_makes_too_little_is_named_by_its_tensors(side: Side) -> None:
    """Nothing of it is sent: the other side would wait for the rest."""
    program, plan, engines = crossing_deployment()
    part = next(
        part
        for step in flatten(plan.variants[0].schedule)
        if isinstance(step, Transfer) and step.source is side
        for part in plan.parts
        if part.side is side and set(part.outputs) & set(step.tensors)
    )
    wrong = {**engines, part.name: Short(engines[part.name])}
    mine, others = (wrong, engines) if side is Side.EDGE else (engines, wrong)
    with (
        served(plan, others) as server,
        EdgeSession(plan, DIGEST, mine, server.address) as policy,
        pytest.raises(BackendError if side is Side.EDGE else PeerRefused, match="the plan has"),
    ):
        policy.step(observation(program))


def test_connections_seal_ahead_each_for_itself() -> None:
    """Robots share the server's routes, and are at different steps."""
    program, plan, engines = crossing_deployment()
    routes = {side: Route(plan, side, 0) for side in Side}
    for first in (0, 7):
        walks = {side: Walk(route, engines) for side, route in routes.items()}
        ends = dict(zip(Side, socket.socketpair(), strict=True))
        lines = {
            side: Connection(ends[side], Layout(plan, side), 5.0, checked=False) for side in Side
        }
        for step in (first, first + 1):
            serving = threading.Thread(
                target=walks[Side.CLOUD].run, args=({}, (), step, lines[Side.CLOUD])
            )
            serving.start()
            arrays = walks[Side.EDGE].run(
                observation(program), plan.outputs.values(), step, lines[Side.EDGE]
            )
            serving.join(5)
            expected = run_whole(program, observation(program))
            for name, array in zip(plan.outputs, arrays, strict=True):
                np.testing.assert_array_equal(array, expected[name])
        for line in lines.values():
            line.close()
    for route in routes.values():
        assert not any(stop.envelope.ahead for stop in route.stops if isinstance(stop, Send))


class Watching:
    """Always the first variant; keeps the forecasts it is given."""

    def __init__(self, looks_ahead: bool) -> None:
        self.looks_ahead = looks_ahead
        self.seen: list[Link] = []

    def select(self, forecast: Forecast) -> int:
        self.seen.append(forecast.over(SLOW))
        return 0


@pytest.mark.parametrize("looks_ahead", [False, True])
def test_a_selector_says_whether_it_looks_at_the_forecast(looks_ahead: bool) -> None:
    """Forecasts are made for those alone that do; others get the plan's link."""
    program, plan, engines = crossing_deployment()
    selector = Watching(looks_ahead)
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address, selector=selector, link=SLOW) as edge,
    ):
        for _ in range(3):
            edge.step(observation(program))
    planned = steady(plan.link).over(SLOW)
    assert (selector.seen[0] == SLOW) == looks_ahead
    assert (selector.seen[-1] == planned) == (not looks_ahead)


def test_off_loopback_needs_a_word() -> None:
    _, plan, engines = crossing_deployment()
    with pytest.raises(InputError, match="not authenticated"):
        Server([ready(plan, DIGEST, engines)], host="0.0.0.0")
