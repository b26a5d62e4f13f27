"""Peers that greet as they should and then do not: each ends alone, and others are served."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, crossing_deployment, initial_of, pool_deployment, served
from support.programs import observation, random_stateful
from support.proxy import wait_until

from vlacut.plans.plan import Plan
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.protocol.envelope import checksum
from vlacut.runtime.wire.protocol.greeting import GREETING_BYTES, Greeting
from vlacut.runtime.wire.protocol.header import ERROR, FETCH, PROBE, STATE, TENSORS, Header
from vlacut.runtime.wire.protocol.payloads import PROBE_BYTES

LAST = 2**64 - 1


def hello(flags: int = 0, digest: bytes = DIGEST, first_ns: int = 1) -> bytes:
    return Greeting(0, digest, os.urandom(16), first_ns, 0, flags).pack()


def frame(
    kind: int, *place: int, step: int = 0, base: int = 0, nbytes: int = 0, data: bytes = b""
) -> bytes:
    variant, position, trip = place or (0, 0, 0)
    header = Header(kind, variant, position, trip, step, nbytes or len(data), base)
    return header.pack(checksum(header, ())) + data


def bytewise(sock: socket.socket) -> None:
    for byte in hello():
        sock.send(bytes([byte]))
    sock.shutdown(socket.SHUT_WR)  # half closed: it still reads


def said(data: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(data)


def probing(sock: socket.socket) -> None:
    sock.sendall(hello() + frame(PROBE, step=1, base=1, data=bytes(PROBE_BYTES)) * 4)
    sock.shutdown(socket.SHUT_WR)


HOSTILE: dict[str, Callable[[socket.socket], None]] = {
    "byte by byte, then half closed": bytewise,
    "unknown flags": said(hello(flags=0xFFFFFFFE)),
    "noise": said(hello() + os.urandom(1 << 16)),
    "half a header": said(hello() + frame(TENSORS)[:20]),
    "a huge frame": said(hello() + frame(TENSORS, nbytes=2**63)),
    "another schedule": said(hello() + frame(TENSORS, 65535, 65535, 65535)),
    "the last step": said(hello() + frame(TENSORS, step=LAST, base=LAST)),
    "a step of another base": said(hello() + frame(TENSORS, step=3, base=2)),
    "a long error": said(hello() + frame(ERROR, data=b"\x1b[31m\n" * 100)),
    "a huge error": said(hello() + frame(ERROR, nbytes=1 << 40)),
    "a probe of another size": said(hello() + frame(PROBE, data=bytes(7))),
    "probes, then half closed": probing,
    "a fetch of no state": said(hello() + frame(FETCH, 0, 65535, 0, base=5)),
    "a fetch of a version to come": said(hello() + frame(FETCH, 0, 0, 0, base=LAST)),
    "state of a huge index": said(hello() + frame(STATE, 0, 65535, 0, base=1, data=bytes(32))),
    "state that is no state": said(hello() + frame(STATE, 0, 0, 0, base=1, data=bytes(3))),
    "two greetings": said(hello() * 2),
    "steps that go back": said(hello() + frame(TENSORS, step=5) + frame(TENSORS, step=4)),
}


@pytest.fixture(scope="module", params=["forgets", "remembers"])
def deployed(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Plan, Callable[[], None]]]:
    """A server, its plan, and a robot that makes a step as it should."""
    if request.param == "forgets":
        program, plan, engines = crossing_deployment()
        initial: dict[str, np.ndarray] = {}
    else:
        program = next(
            one
            for seed in range(50)
            if (one := random_stateful(seed)).states and len(one.phases) > 2
        )
        plan, engines = pool_deployment(program, 1)
        initial = initial_of(program)
    observed = observation(program)
    with served(plan, engines, timeout=1.0, initial=initial) as server:
        steps: list[dict[str, np.ndarray]] = []

        def step() -> None:
            with EdgeSession(
                plan, DIGEST, engines, server.address, timeout=20.0, initial=initial
            ) as policy:
                steps.append(policy.step(observed))
            expected = steps[0] if plan.states else run_whole(program, observed)
            for name, array in expected.items():
                np.testing.assert_array_equal(steps[-1][name], array)

        step()
        yield server, plan, step


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_peer_ends_alone(
    deployed: tuple[Server, Plan, Callable[[], None]],
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, _, step = deployed
    threads = threading.active_count()
    with socket.create_connection(server.address, 10) as sock:
        HOSTILE[what](sock)
        step()  # beside it
        sock.settimeout(10)
        end, came = time.monotonic() + 10, 0
        while time.monotonic() < end:
            try:
                chunk = sock.recv(1 << 16)
            except ConnectionError:
                break
            came += len(chunk)
            if not chunk:
                break
        else:
            pytest.fail(f"{what}: the server keeps it")
        assert came <= GREETING_BYTES + 1024
    assert wait_until(lambda: server.robots == 0)
    assert wait_until(lambda: threading.active_count() <= threads)
    step()
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert not any(record.exc_info for record in caplog.records)
