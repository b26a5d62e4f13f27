"""The wire as bytes: test vectors, and what a checksum notices."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlacut.errors import WireError
from vlacut.runtime.wire.clock import CloudClock, Exchange
from vlacut.runtime.wire.protocol.envelope import Envelope, checksum, sealed
from vlacut.runtime.wire.protocol.greeting import (
    CHECKED,
    Greeting,
    Status,
    unpack_greeting,
    unpack_version,
)
from vlacut.runtime.wire.protocol.header import (
    ERROR,
    FETCH,
    HEADER_BYTES,
    PROBE,
    STATE,
    TENSORS,
    Header,
    unpack_header,
)


def test_header_vectors() -> None:
    """The bytes on the wire, as the docstring of `wire` specifies them."""
    header = Header(kind=1, variant=2, position=3, trip=4, step=5, nbytes=6, base=7)
    vector = bytes.fromhex("5643010000020003000400000a0b0c0d")
    vector += bytes.fromhex("000000000000000500000000000000070000000000000006")
    assert header.pack(0x0A0B0C0D) == vector
    assert unpack_header(vector) == (header, 0x0A0B0C0D)
    with pytest.raises(WireError, match="no frame"):
        unpack_header(bytes(40))


def test_greeting_vectors() -> None:
    greeting = Greeting(Status.FULL, bytes(range(32)), bytes(range(16)), 7, 8, CHECKED)
    vector = bytes.fromhex("564c4143555400000006000300000001")
    vector += bytes(range(32)) + bytes(range(16))
    vector += bytes.fromhex("00000000000000070000000000000008")
    assert greeting.pack() == vector
    assert unpack_greeting(vector) == greeting
    assert unpack_version(vector[:12]) == 6
    with pytest.raises(WireError, match="must be zero"):
        unpack_greeting(vector[:15] + b"\4" + vector[16:])
    with pytest.raises(WireError, match="is no vlacut"):
        unpack_version(b"HTTP/1.1 400")


def test_checksum_vectors() -> None:
    """By the words of the docstring of `wire`, with Python's integers."""
    data = np.random.default_rng(0).integers(0, 256, 3 * 4096 + 100, dtype=np.uint8)
    header = Header(TENSORS, 0, 1, 2, 3, data.nbytes)
    words = [int.from_bytes(data[at : at + 8].tobytes(), "little") for at in range(0, 12288, 8)]
    rows = [sum(words[at : at + 512]) % 2**64 for at in range(0, 1536, 512)]
    columns = [sum(words[at::512]) % 2**64 for at in range(512)]
    expected = zlib.crc32(header.pack(0))
    for total in (*rows, *columns):
        expected = zlib.crc32(total.to_bytes(8, "little"), expected)
    expected = zlib.crc32(data[12288:].tobytes(), expected)
    assert checksum(header, [data]) == expected
    assert checksum(header, []) == zlib.crc32(header.pack(0))
    # What the bytes mean is not summed up: a float array is its bytes.
    assert checksum(header, [data[:4096].view(np.float32).reshape(4, -1)]) == checksum(
        header, [data[:4096]]
    )


_PLACE = st.integers(0, 20_000)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20_000), st.booleans(), _PLACE, _PLACE, _PLACE, st.integers(1, 255))
def test_the_checksum_notices_changed_and_shifted_bytes(
    size: int, zeros: bool, marked: int, hit: int, repeated: int, flipped: int
) -> None:
    """Also where all but one byte are zero, which makes plain sums blind to shifts."""
    sent = np.zeros(size, np.uint8)
    if not zeros:
        sent = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    header = Header(TENSORS, 0, 0, 0, 0, size)
    sent[marked % size] = 77
    right = checksum(header, [sent])
    changed = sent.copy()
    changed[hit % size] ^= flipped
    assert checksum(header, [changed]) != right
    shifted = np.concatenate((sent[: repeated % size + 1], sent))[:size]  # bytes came twice
    assert (checksum(header, [shifted]) != right) == bool(np.any(shifted != sent))


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=40, max_size=40))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    """Half of them with what every header must have, or hardly one would be read."""
    right = b"\x56\x43\x01\0" + data[4:10] + b"\0\0" + data[12:]
    assert unpack_header(right)[0].pack(unpack_header(right)[1]) == right
    try:
        header, check = unpack_header(data)
    except WireError:
        return
    assert header.kind in (TENSORS, ERROR, PROBE, STATE, FETCH)
    assert header.pack(check) == data


def test_the_offset_is_ntp_s() -> None:
    """A cloud 1000 ns ahead, 30 ns up, 10 ns down: RFC 5905 errs by (30 - 10) / 2."""
    exchange = Exchange(t1=0, t2=1030, t3=1050, t4=60)
    assert exchange.delay_ns == 40
    assert exchange.offset_ns == 1010
    clock = CloudClock(exchange)
    assert abs(clock.offset_ns - 1000) <= clock.error_ns == 20
    clock.add(Exchange(t1=100, t2=1101, t3=1111, t4=112))
    assert (clock.offset_ns, clock.error_ns) == (1000, 1)
    for _ in range(64):  # what is long ago says little: clocks drift
        clock.add(exchange)
    assert clock.offset_ns == 1010
    hour = 3_600 * 10**9
    clock.add(Exchange(t1=0, t2=1030 + hour, t3=1050 + hour, t4=60))  # the cloud was suspended
    assert (clock.offset_ns, clock.error_ns) == (1010 + hour, 20)


def test_a_sealed_header_has_the_checksum_of_its_frame() -> None:
    data = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
    header = Header(TENSORS, 1, 2, 3, 4, data.nbytes)
    for payload in ([], [data]):
        assert sealed(header, payload) == header.pack(checksum(header, payload))
        assert unpack_header(sealed(header, payload)) == (header, checksum(header, payload))


def test_a_header_sealed_ahead_is_that_of_its_step() -> None:
    """Of no other, and of no frame whose tensors are covered; the last step has none after it."""
    data = np.arange(100, dtype=np.uint8)
    envelope = Envelope(TENSORS, 1, 2, 3, data.nbytes)
    assert envelope.place == (1, 2, 3)
    for ahead, step, base in ((5, 5, 0), (5, 6, 6), (2**64 - 1, 2**64 - 1, 9), (2**64, 7, 3)):
        envelope.seal_ahead(ahead, ahead)
        header = Header(TENSORS, 1, 2, 3, step, data.nbytes, base)
        for payload in ([], [data], [data[:60].tobytes(), data[60:]]):
            assert envelope.seal(step, payload, base) == header.pack(checksum(header, payload))
    assert (envelope.ahead_step, len(envelope.ahead)) == (2**64 - 1, HEADER_BYTES)
