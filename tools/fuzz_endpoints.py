"""Fuzz the wires of other people's clients, guided by coverage (atheris, on libFuzzer).

    python tools/fuzz_endpoints.py openpi|dialects|lerobot|pictures [--cpu-seconds 600]
                                   [CORPUS_FOLDER] [-libfuzzer=option ...]

An input becomes a message of openpi's (msgpack with arrays), some of RoboArena's or vLLM-omni's on
one connection, one of LeRobot's (protobuf with a pickle in it), or a compressed picture of ROS's:
noise, a right one with bytes changed, or one put together of operations and forged sizes. It is
read as the endpoints read it, up to the tensors of a bundle with a camera and a state.
That may end in those or in an error of vlacut's, takes no memory that the message does not have,
and makes nothing but numbers, text, lists, maps, arrays and the two records: libFuzzer stops at
the first input that breaks this and writes it down. Needs `pip install
'vlacut[fuzz,openpi,lerobot,ros2]'`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import atheris
from fuzzing import fuzz

with atheris.instrument_imports(include=["vlacut.integrations"]):
    import numpy as np
    from fuzz_messages import (
        CAMERA,
        STATE,
        dialect_message,
        lerobot_pickle,
        openpi_message,
        picture,
    )
    from websockets.exceptions import ConnectionClosedOK

    from vlacut.errors import ObservationError, WireError
    from vlacut.integrations.fields import Fields
    from vlacut.integrations.lerobot.messages import data_of, fields_of
    from vlacut.integrations.lerobot.observing import read_instructions, read_observation
    from vlacut.integrations.lerobot.pickles import read_pickle
    from vlacut.integrations.lerobot.stand_ins import ReadRecord
    from vlacut.integrations.openpi.conversation import Conversation
    from vlacut.integrations.openpi.packing import unpack
    from vlacut.integrations.ros2.compressed import decoded
    from vlacut.tensor import TensorSpec

FIELDS = Fields((TensorSpec(STATE, "float32", (3,)), TensorSpec(CAMERA, "uint8", (4, 5, 3))))
MOST_BYTES = 1 << 20  # of a message below 2 kB: its items, exceptions, Python's own
PATHS = ("/", "/v1/realtime/robot/openpi")
MOST_PICTURE = 1 << 16
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


class Peer:
    """A client that says these messages on a path, and leaves; what it is told is put down."""

    def __init__(self, path: str, messages: list[str | bytes]) -> None:
        self.request = SimpleNamespace(path=path)
        self.protocol = SimpleNamespace(state=SimpleNamespace(name="OPEN"))
        self._messages, self.told = messages, 0

    def recv(self) -> str | bytes:
        if not self._messages:
            raise ConnectionClosedOK(None, None)
        return self._messages.pop()

    def send(self, _: str | bytes) -> None:
        self.told += 1

    def close(self, code: int, reason: str) -> None:
        assert code == 1011
        assert len(reason.encode()) <= 123  # what a frame that closes may hold


class Answering:
    """A policy of openpi's that takes what fits the bundle."""

    fields = FIELDS

    def reset(self) -> None:
        pass

    def infer(self, sent: dict[str, Any], _: Callable[[], bool]) -> dict[str, Any]:
        only_plain(sent, PLAIN)
        self.fields.observation({key: one for key, one in sent.items() if key != "prompt"})
        return {"actions": np.zeros((2, 3)), "server_timing": {}, "policy_timing": {}}


def read_dialects(source: atheris.FuzzedDataProvider) -> None:
    """As the server holds a conversation: whatever is said, each message has one answer."""
    messages = [dialect_message(source) for _ in range(source.ConsumeIntInRange(1, 3))]
    count, peer = len(messages), Peer(source.PickValueInList(list(PATHS)), messages)
    try:
        Conversation(Answering(), peer, lambda: True).hold()  # type: ignore[arg-type]
    except ConnectionClosedOK:
        assert peer.told == count
    else:
        assert peer.told >= 1  # refused, and closed


def read_pictures(source: atheris.FuzzedDataProvider) -> None:
    """As the node does."""
    made = decoded("front", picture(source), MOST_PICTURE)
    assert made.dtype == np.uint8
    assert made.ndim == 3
    assert made.nbytes <= MOST_PICTURE


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


def only_plain(value: Any, kinds: tuple[type, ...], deep: int = MOST_DEEP) -> None:
    """Fail if a value holds what is no data."""
    assert isinstance(value, kinds), f"a {type(value)} was made"
    assert not isinstance(value, np.ndarray) or value.dtype.kind in "biufSU"
    held = value.values if isinstance(value, ReadRecord) else value
    if deep and isinstance(held, (dict, list, tuple)):
        for one in held.values() if isinstance(held, dict) else held:
            only_plain(one, kinds, deep - 1)


WIRES = {
    "openpi": read_openpi,
    "dialects": read_dialects,
    "lerobot": read_lerobot,
    "pictures": read_pictures,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in WIRES:
        sys.exit(f"say which wire: {' or '.join(WIRES)}")
    logging.disable(logging.CRITICAL)  # a line for each message that is refused
    warnings.simplefilter("ignore")  # Pillow's, of what it is about to refuse
    wire = sys.argv.pop(1)
    # Three messages and their answers, with 256 kB of msgpack's own for each that is packed.
    most_bytes = MOST_BYTES + 6 * 256 * 1024 * (wire == "dialects")
    fuzz(partial(one_input, WIRES[wire]), most_bytes)
