"""openpi's msgpack: its bytes, and bytes that nobody should send."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.allocating import Allocated

from vlacut.errors import WireError
from vlacut.integrations.openpi.packing import pack, unpack

# What openpi-client 0.1.2 sends: {"observation/image": uint8 [2, 2, 3], "g": np.float32(0.5)}.
FRAME = (
    b"\x82\xb1observation/image\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x0c"
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\xc4\x05dtype\xa3|u1\xc4\x05shape\x93\x02\x02"
    b"\x03\xa1g\x83\xc4\x0d__npgeneric__\xc3\xc4\x04data\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00"
    b"\xc4\x05dtype\xa3<f4"
)
SENT = {
    "observation/image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "g": np.float32(0.5),
}


def marked(**entries: Any) -> bytes:
    """A map as vLLM-omni's clients mark arrays: with keys of text."""
    return pack(entries)


def test_the_bytes_are_openpis() -> None:
    assert pack(SENT) == FRAME
    found = unpack(FRAME)
    np.testing.assert_array_equal(found["observation/image"], SENT["observation/image"])
    assert found["g"] == SENT["g"]
    assert type(found["g"]) is np.float32
    assert not found["observation/image"].flags.writeable


def test_marks_in_text_are_read_too() -> None:
    data = marked(__ndarray__=True, data=b"\0\0\x80?", dtype="<f4", shape=[1])
    np.testing.assert_array_equal(unpack(data), np.ones(1, np.float32))


kinds = st.sampled_from(["|u1", "<f4", ">f4", "<f8", "<i8", ">i2", "|b1", "<f2", "<U3"])


@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    array = data.draw(arrays.arrays(np.dtype(data.draw(kinds)), arrays.array_shapes(min_dims=0)))
    found = unpack(pack({"a": {"b": array.T}, "l": [1, None, "x"]}))
    assert found["l"] == [1, None, "x"]
    assert found["a"]["b"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"]["b"], array.T)


ATTACKS = {
    "nothing": b"",
    "a map of 2**32 entries": b"\xdf\xff\xff\xff\xff",
    "a list of 2**32 entries": b"\xdd\xff\xff\xff\xff",
    "4 GiB of data": b"\xc6\xff\xff\xff\xff",
    "lists in lists, each of the most entries": b"\xdc\x02\x00" * 5000,
    "lists in lists, whole": b"\x91" * 400 + b"\xc0",
    "a number as a key": b"\x81\x01\x02",
    "an extension": b"\xd4\x05\x00",
    "a time, which msgpack makes by itself": b"\xd6\xff\x00\x00\x00\x01",
    "two messages": FRAME + FRAME,
    "half a message": FRAME[:-3],
    "no data": marked(__ndarray__=True, dtype="<f4", shape=[1]),
    "data in text": marked(__ndarray__=True, data="abcd", dtype="<f4", shape=[1]),
    "another size": marked(__ndarray__=True, data=b"\0" * 4, dtype="<f4", shape=[2**40]),
    "a size below 0": marked(__ndarray__=True, data=b"\0" * 4, dtype="<f4", shape=[-1, -1]),
    "a size of truth": marked(__ndarray__=True, data=b"\0", dtype="|u1", shape=[True]),
    "objects": marked(__ndarray__=True, data=b"\0" * 8, dtype="|O", shape=[1]),
    "records": marked(__ndarray__=True, data=b"\0" * 8, dtype="f4,f4", shape=[1]),
    "pieces of 3 GB": marked(__ndarray__=True, data=b"", dtype="(3000000000,)u1", shape=[0]),
    "text of 3 GB": marked(__ndarray__=True, data=b"", dtype="<U800000000", shape=[1]),
    "text of no length": marked(__ndarray__=True, data=b"", dtype="<U0", shape=[2**40]),
    "complex": marked(__ndarray__=True, data=b"\0" * 8, dtype="<c8", shape=[1]),
    "no such width": marked(__ndarray__=True, data=b"\0" * 3, dtype="<f3", shape=[1]),
    "a number of a list": marked(__npgeneric__=True, data=[1], dtype="<f4"),
    "a number that does not fit": marked(__npgeneric__=True, data=300, dtype="|u1"),
    "33 axes": marked(__ndarray__=True, data=b"\0", dtype="|u1", shape=[1] * 33),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_wrong_is_refused_and_sizes_nothing(name: str) -> None:
    allocated = Allocated()
    for _ in range(3):
        with allocated.measured(), pytest.raises(WireError, match="message"):
            unpack(ATTACKS[name])
    assert allocated.most < 8_000_000


@given(st.data())
def test_any_bytes_are_a_value_or_an_error(data: st.DataObject) -> None:
    seed = bytearray(data.draw(st.sampled_from([FRAME, *ATTACKS.values()]))[:500])
    for _ in range(data.draw(st.integers(0, 6))):
        if seed:
            seed[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        unpack(bytes(seed) + data.draw(st.binary(max_size=8)))


@pytest.mark.parametrize("value", [object(), {"a": np.array([None])}, np.zeros(1, complex), 2**70])
def test_what_clients_cannot_read_is_not_sent(value: object) -> None:
    with pytest.raises(WireError, match="cannot be packed for a client of openpi"):
        pack(value)
