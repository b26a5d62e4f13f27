"""Fuzz the wires of other people's clients, guided by coverage (atheris, on libFuzzer).

    python tools/fuzz_endpoints.py openpi|lerobot [--cpu-seconds 600] [CORPUS_FOLDER]
                                   [-libfuzzer=option ...]

An input becomes a message of openpi's (msgpack with arrays), or of LeRobot's (protobuf with a
pickle in it): noise, a right one with bytes changed, or one put together of operations and forged
sizes. It is read as the servers read it, up to the tensors of a bundle with a camera and a state.
That may end in those or in an error of vlacut's, takes no memory that the message does not have,
and makes nothing but numbers, text, lists, maps, arrays and the two records: libFuzzer stops at
the first input that breaks this and writes it down. Needs `pip install
'vlacut[fuzz,openpi,lerobot]'`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import atheris
from fuzzing import fuzz

with atheris.instrument_imports(include=["vlacut.integrations"]):
    import msgpack
    import numpy as np

    from vlacut.errors import ObservationError, WireError
    from vlacut.integrations.fields import Fields
    from vlacut.integrations.lerobot.messages import data_of, fields_of
    from vlacut.integrations.lerobot.observing import read_instructions, read_observation
    from vlacut.integrations.lerobot.operations import OPERATIONS
    from vlacut.integrations.lerobot.pickles import read_pickle
    from vlacut.integrations.lerobot.stand_ins import MODULES, ReadRecord
    from vlacut.integrations.openpi.packing import pack, unpack
    from vlacut.tensor import TensorSpec

STATE, CAMERA = "observation.state", "observation.images.front"
FIELDS = Fields((TensorSpec(STATE, "float32", (3,)), TensorSpec(CAMERA, "uint8", (4, 5, 3))))
MOST_BYTES = 1 << 20  # of a message below 2 kB: its items, exceptions, Python's own
RIGHT = pack({STATE: np.zeros(3), CAMERA: np.zeros((4, 5, 3), np.uint8), "prompt": "pick"})
NAMES = (
    *((MODULES[0], name) for name in ("TimedObservation", "RemotePolicyConfig", "TimedAction")),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("builtins", "eval"),
    ("os", "system"),
)
PLAIN = (int, float, bool, str, bytes, type(None), np.ndarray, np.generic, list, tuple, dict)
MOST_DEEP = 6  # what is looked at of a value; a memo may hold one in itself as often as it likes


def one_input(read: Callable[[atheris.FuzzedDataProvider], None], data: bytes) -> None:
    """Read a message of a wire, and check what came of it."""
    try:
        read(atheris.FuzzedDataProvider(data))
    except (WireError, ObservationError):
        return


def read_openpi(source: atheris.FuzzedDataProvider) -> None:
    """As the server does."""
    sent = unpack(openpi_message(source))
    only_plain(sent, (*PLAIN, np.ndarray))
    if isinstance(sent, dict):
        FIELDS.observation({key: one for key, one in sent.items() if key != "prompt"})


def openpi_message(source: atheris.FuzzedDataProvider) -> bytes:
    """Noise, a right message with bytes changed, or an array whose header is forged."""
    kind = source.ConsumeIntInRange(0, 2)
    if kind == 0:
        return bytes(source.ConsumeBytes(300))
    if kind == 1:
        changed = bytearray(RIGHT)
        for _ in range(source.ConsumeIntInRange(1, 4)):
            changed[source.ConsumeIntInRange(0, len(changed) - 1)] = source.ConsumeIntInRange(
                0, 255
            )
        return bytes(changed[: source.ConsumeIntInRange(0, len(changed))])
    shape = [source.ConsumeIntInRange(-2, 2**40) for _ in range(source.ConsumeIntInRange(0, 5))]
    forged = {
        b"__ndarray__": True,
        b"data": source.ConsumeBytes(80),
        b"dtype": source.PickValueInList(["<f4", "|u1", "|O", "<U2", "|V8", "<f8", ">f2", "|b1"]),
        b"shape": shape,
    }
    packed: bytes = msgpack.packb({source.PickValueInList([STATE, CAMERA, "x"]): forged})
    return packed


def read_lerobot(source: atheris.FuzzedDataProvider) -> None:
    """As the server does with instructions and observations."""
    if source.ConsumeBool():
        message = bytes(source.ConsumeBytes(300))
        fields_of(message)
        data_of(message, 1)
    value = read_pickle(lerobot_pickle(source))
    only_plain(value, (*PLAIN, ReadRecord))
    if source.ConsumeBool():
        read_instructions(value).check(FIELDS)
    else:
        FIELDS.observation(read_observation(value).values)


def lerobot_pickle(source: atheris.FuzzedDataProvider) -> bytes:
    """Noise, or operations one behind the other, with arguments of any size."""
    if source.ConsumeBool():
        return bytes(source.ConsumeBytes(400))
    codes = sorted(OPERATIONS)
    pieces = [b"\x80\x04"]
    for _ in range(source.ConsumeIntInRange(1, 40)):
        code = source.PickValueInList(codes)
        pieces.append(operation(code, source))
    return b"".join([*pieces, b"."])


def operation(code: bytes, source: atheris.FuzzedDataProvider) -> bytes:
    """One with what belongs to it, or forged."""
    if code == b"c":
        module, name = source.PickValueInList(list(NAMES))
        return b"c" + f"{module}\n{name}\n".encode()
    sized = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"B": "<I", b"C": "<B", b"\x8e": "<Q"}
    if code in sized or code == b"\x96":
        form = sized.get(code, "<Q")
        words = [name for pair in NAMES for name in pair] + [STATE, CAMERA, "shape", "names"]
        data = str(source.PickValueInList(words)).encode()
        most = 2 ** (8 * struct.calcsize(form)) - 1
        right = source.ConsumeIntInRange(0, 7) > 0
        length = len(data) if right else source.ConsumeIntInRange(0, most)
        return code + struct.pack(form, length) + data
    wide = {b"J": 4, b"K": 1, b"M": 2, b"G": 8, b"q": 1, b"r": 4, b"h": 1, b"j": 4, b"\x95": 8}
    return code + bytes(source.ConsumeBytes(wide.get(code, 0)).ljust(wide.get(code, 0), b"\0"))


def only_plain(value: Any, kinds: tuple[type, ...], deep: int = MOST_DEEP) -> None:
    """Fail if a value holds what is no data."""
    assert isinstance(value, kinds), f"a {type(value)} was made"
    assert not isinstance(value, np.ndarray) or value.dtype.kind in "biufSU"
    held = value.values if isinstance(value, ReadRecord) else value
    if deep and isinstance(held, (dict, list, tuple)):
        for one in held.values() if isinstance(held, dict) else held:
            only_plain(one, kinds, deep - 1)


WIRES = {"openpi": read_openpi, "lerobot": read_lerobot}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in WIRES:
        sys.exit(f"say which wire: {' or '.join(WIRES)}")
    fuzz(partial(one_input, WIRES[sys.argv.pop(1)]), MOST_BYTES)
