"""Bytes from anywhere: handshake and frames are read or refused, and size nothing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.deployments import DIGEST, crossing_deployment

import vlacut.runtime
from vlacut.errors import WireError
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.frame import Frame
from vlacut.runtime.wire.handshake import answer, greet
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.protocol.envelope import checksum
from vlacut.runtime.wire.protocol.greeting import Greeting
from vlacut.runtime.wire.protocol.header import (
    ERROR,
    FETCH,
    HEADER_BYTES,
    PROBE,
    STATE,
    TENSORS,
    Header,
)
from vlacut.runtime.wire.route import Route

# Hypothesis draws from the constants of the modules that are loaded: none may come in between.
for module in pkgutil.walk_packages(vlacut.runtime.__path__, "vlacut.runtime."):
    importlib.import_module(module.name)

PLAN = crossing_deployment()[1]
FOREIGN = ("openpi", "dialects", "lerobot", "pictures")
TOOLS = Path(__file__).parents[2] / "tools"
# What reading costs beside the room for tensors: headers, frames, exceptions, Python's own.
OVERHEAD_BYTES = 200_000


def valid_frames(plan: Plan, receiver: Side, step: int = 0) -> list[bytes]:
    """One step's frames, as the other side sends them."""
    layout, frames = Layout(plan, receiver), []
    for variant, position, trip in layout._due:
        _, room = layout.room(variant, position, trip)
        payload = [np.full_like(array, 3) for array in (room.times, *room.tensors)]
        header = Header(TENSORS, variant, position, trip, step, room.nbytes)
        data = b"".join(array.tobytes() for array in payload)
        frames.append(header.pack(checksum(header, payload)) + data)
    return frames


def read_all(data: bytes, receiver: Side, guess: bool = True) -> tuple[list[Frame], WireError]:
    """What a connection makes of these bytes, until it gives up; it may be told what is due."""
    mine, other = socket.socketpair()
    connection = Connection(mine, Layout(PLAN, receiver), 60.0)
    frames: list[Frame] = []
    due = Route(PLAN, receiver, 0).due
    with other:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        try:
            while True:
                frames.append(
                    connection.receive(due=due[len(frames) % len(due)] if guess else None)
                )
        except WireError as error:
            return frames, error
        finally:
            connection.close()


@pytest.mark.parametrize("together", [True, False])
def test_frames_of_steps_that_are_over_are_dropped_and_counted(together: bool) -> None:
    """Whether they are read before a later step's frame, or with it."""
    mine, other = socket.socketpair()
    connection = Connection(mine, Layout(PLAN, Side.EDGE), 5.0)
    old, new = valid_frames(PLAN, Side.EDGE, 4), valid_frames(PLAN, Side.EDGE, 5)
    with other:
        other.sendall(b"".join([*old, new[0]]))
        if together:
            assert connection.superseded(4)
        assert connection.receive(5).header.step == 5
        assert connection.receiver.dropped == len(old)
        other.sendall(old[0])  # and what goes back in time is refused
        with pytest.raises(WireError, match="twice or out of turn"):
            connection.receive(5)
    connection.close()


HEADERS = st.builds(
    Header,
    st.sampled_from((TENSORS, ERROR, PROBE, STATE, FETCH)),
    st.integers(0, 2),
    st.integers(0, 20) | st.integers(0, 65535),
    st.integers(0, 4) | st.integers(0, 65535),
    st.integers(0, 3) | st.integers(0, 2**64 - 1),
    st.integers(0, 600) | st.integers(0, 2**64 - 1),
    st.integers(0, 4) | st.integers(0, 2**64 - 1),
)
FORGED = st.builds(
    lambda header, check, data: header.pack(check) + data,
    HEADERS,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=700),
)


@pytest.mark.parametrize("receiver", list(Side))
@pytest.mark.parametrize("guess", [True, False])
def test_valid_frames_are_read(receiver: Side, guess: bool) -> None:
    frames = valid_frames(PLAN, receiver)
    found, error = read_all(b"".join(frames), receiver, guess)
    assert len(found) == len(frames) > 0
    assert "closed the connection" in str(error)


@pytest.mark.parametrize("receiver", list(Side))
def test_a_frame_that_is_not_the_one_due_is_read_all_the_same(receiver: Side) -> None:
    """Its bytes were read into the room of another, and are put where they belong."""
    frames = valid_frames(PLAN, receiver)
    assert len(frames) > 1
    found, _ = read_all(b"".join(frames[1:]), receiver)
    assert [each.header.nbytes for each in found] == [
        len(data) - HEADER_BYTES for data in frames[1:]
    ]
    assert all((array == 3).all() for each in found for array in each.tensors)


@pytest.mark.parametrize("receiver", list(Side))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(st.binary(max_size=200) | FORGED, max_size=4),
    before=st.integers(0, 3),
    guess=st.booleans(),
)
def test_forged_frames_are_refused(
    receiver: Side, parts: list[bytes], before: int, guess: bool
) -> None:
    """After some valid frames or none, no forged one is taken: its checksum is wrong."""
    valid = valid_frames(PLAN, receiver)[:before]
    found, _ = read_all(b"".join([*valid, *parts]), receiver, guess)
    assert len(found) == len(valid)


@pytest.mark.parametrize("receiver", list(Side))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 100_000), flipped=st.integers(1, 255), cut=st.booleans())
def test_an_altered_stream_never_gives_another_tensor(
    receiver: Side, at: int, flipped: int, cut: bool
) -> None:
    data = bytearray(b"".join(valid_frames(PLAN, receiver)))
    at %= len(data)
    data[at] ^= flipped
    found, _ = read_all(bytes(data[:at] if cut else data), receiver)
    for frame in found:
        assert all((array == 3).all() for array in frame.tensors)
    assert len(found) < len(valid_frames(PLAN, receiver))


def allocated_by_forged_frames() -> int:
    """Most bytes held at a time while the cloud reads frames that claim up to 2**64 bytes."""
    claims = [600, 2**20, 2**31, 2**40, 2**63, 2**64 - 1]
    read_all(b"", Side.CLOUD)
    tracemalloc.start()
    for kind in (TENSORS, ERROR, PROBE):
        for claim in claims:
            for _, position, trip in Layout(PLAN, Side.CLOUD)._due:
                forged = Header(kind, 0, position, trip, 0, claim).pack(0)
                read_all(forged + bytes(1000), Side.CLOUD)
    return tracemalloc.get_traced_memory()[1]


def test_no_bytes_size_an_allocation() -> None:
    """With nothing but what the plan says to hold them; in a process where nothing else runs."""
    code = "from test_fuzz import allocated_by_forged_frames as a; print(a())"
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words,
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < Layout(PLAN, Side.CLOUD).nbytes + OVERHEAD_BYTES


@pytest.mark.parametrize("side", list(Side))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=120), keep=st.integers(0, 80))
def test_no_greeting_is_believed_that_is_not_right(side: Side, data: bytes, keep: int) -> None:
    """Random bytes, or a right start that goes on at random."""
    token = bytes(range(16))
    right = Greeting(0, DIGEST, token, 1, 2).pack()
    data = right[:keep] + data
    mine, other = socket.socketpair()
    with mine, other:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        try:
            if side is Side.CLOUD:
                answer(mine, DIGEST, 60.0)
            else:
                greet(mine, DIGEST, token, 0, 60.0)
        except WireError:
            return
    assert data[:10] == right[:10]
    assert data[16:48] == DIGEST
    assert side is Side.CLOUD or (data[10:12], data[48:64]) == (bytes(2), token)


def under_a_fuzzer(folder: Path, seconds: int, *script: str) -> None:
    """Guided by coverage, for so long; see the script for what must hold."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris: pip install 'vlacut[fuzz]'")
    name, *wire = script or ("fuzz_wire.py",)
    words = [sys.executable, str(TOOLS / name), *wire, "--cpu-seconds", str(seconds)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "s of processor time" in done.stdout


@pytest.mark.slow
def test_nothing_breaks_the_parser_for_a_minute(tmp_path: Path) -> None:
    under_a_fuzzer(tmp_path, 60)


@pytest.mark.fuzz
def test_nothing_breaks_the_parser_for_ten_minutes(tmp_path: Path) -> None:
    under_a_fuzzer(tmp_path, 600)


@pytest.mark.slow
@pytest.mark.parametrize("wire", FOREIGN)
def test_nothing_breaks_an_endpoint_for_a_minute(tmp_path: Path, wire: str) -> None:
    under_a_fuzzer(tmp_path, 60, "fuzz_endpoints.py", wire)


@pytest.mark.fuzz
@pytest.mark.parametrize("wire", FOREIGN)
def test_nothing_breaks_an_endpoint_for_ten_minutes(tmp_path: Path, wire: str) -> None:
    under_a_fuzzer(tmp_path, 600, "fuzz_endpoints.py", wire)
