"""LeRobot's pickles: what its client sends is read, what attacks is refused, answers are read."""

from __future__ import annotations

import io
import pickletools
import struct
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlacut.errors import WireError
from vlacut.integrations.lerobot.answers import actions_pickle
from vlacut.integrations.lerobot.messages import actions_message, data_of, fields_of
from vlacut.integrations.lerobot.observing import read_instructions, read_observation
from vlacut.integrations.lerobot.pickles import read_pickle
from vlacut.integrations.lerobot.stand_ins import MODULES, ReadRecord

HELPERS = MODULES[0]
pickle: Any = __import__("pickle")  # as the client has it; the house bans it elsewhere


@dataclass
class RemotePolicyConfig:
    policy_type: str
    pretrained_name_or_path: str
    lerobot_features: dict[str, Any]
    actions_per_chunk: int
    device: str = "cpu"
    rename_map: dict[str, str] = field(default_factory=dict)


@dataclass
class TimedObservation:
    timestamp: float
    timestep: int
    observation: dict[str, Any]
    must_go: bool = False


@dataclass
class TimedAction:
    timestamp: float
    timestep: int
    action: Any


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's module with its classes."""
    module = types.ModuleType(HELPERS)
    for kind in (RemotePolicyConfig, TimedObservation, TimedAction):
        monkeypatch.setattr(kind, "__module__", HELPERS)
        setattr(module, kind.__name__, kind)
    for name in ("lerobot", "lerobot.async_inference"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, HELPERS, module)


FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a.pos", "b.pos"]},
    "observation.images.front": {
        "dtype": "image",
        "shape": (4, 6, 3),
        "names": ["height", "width", "channels"],
    },
}


def observation(**more: Any) -> dict[str, Any]:
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    return {"a.pos": 0.5, "b.pos": np.float32(-1.5), "front": picture, "task": "fold", **more}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_the_client_sends_is_read(protocol: int) -> None:
    sent = RemotePolicyConfig("vlacut", "x", FEATURES, 50)
    said = read_instructions(read_pickle(pickle.dumps(sent, protocol)))
    assert said.commands == 50
    assert said.features["observation.state"] == ((2,), ("a.pos", "b.pos"))
    found = read_observation(
        read_pickle(pickle.dumps(TimedObservation(1.5, 7, observation()), protocol))
    )
    raw = said.raw(found.values)
    assert (found.timestamp, found.timestep) == (1.5, 7)
    assert raw["observation.state"] == [0.5, np.float32(-1.5)]
    np.testing.assert_array_equal(raw["observation.images.front"], observation()["front"])


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
PLAIN |= st.text(max_size=300) | st.binary(max_size=300)


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=4), st.lists(PLAIN, max_size=4) | st.tuples(PLAIN, PLAIN)))
def test_plain_values_are_as_python_reads_them(value: Any) -> None:
    for protocol in (3, 4, 5):
        assert read_pickle(pickle.dumps((value, value), protocol)) == (value, value)


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<f8", "<i8", "?", "<f2"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_as_numpy_has_them(dtype: str, protocol: int) -> None:
    for array in (
        np.arange(24).reshape(2, 3, 4).astype(dtype),
        np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        np.zeros((0, 3), dtype),
        np.array(1, dtype),
    ):
        found = read_pickle(pickle.dumps({"x": array}, protocol))["x"]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


U1 = b"cnumpy\ndtype\n\x8c\x02u1\x85R"


def doubled(times: int = 60) -> bytes:
    """Operations that leave a tuple of 2^times items, each twice in the next, as 0 of the memo."""
    return b"\x80\x04K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * times


ATTACKS = {
    "os.system": lambda: pickle.dumps(Evil(__import__("os").system, ("true",))),
    "eval": lambda: pickle.dumps(Evil(eval, ("1",))),
    "in an array of objects": lambda: pickle.dumps(np.array([Evil(eval, ("1",))], object)),
    "in an observation": lambda: pickle.dumps(
        TimedObservation(0.0, 0, {"x": Evil(print, ("no",))})
    ),
    "a memo of 2^28 places": lambda: b"\x80\x04]r" + struct.pack("<I", 1 << 28) + b"h\x00.",
    "bytes of 2^60": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "text of 4 GiB": lambda: b"\x80\x04X\xff\xff\xff\xff.",
    "an integer of 255 bytes": lambda: b"\x80\x04\x8a\xff" + bytes(255) + b".",
    "an array of 3 GiB": lambda: (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"J" + struct.pack("<i", 3 << 29) + b"\x85C\x01b\x87R."
    ),
    "a shape beyond its bytes": lambda: pickle.dumps(np.zeros(4, np.uint8), 3).replace(
        b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"
    ),
    "a class of numpy's": lambda: pickle.dumps(np.random.default_rng(0)),
    "persistent": lambda: b"\x80\x04Px\n.",
    "an instance": lambda: b"(ios\nsystem\n.",
    "a module under an admitted name": lambda: b"\x80\x04cos\nTimedObservation\n)\x81.",
    "attributes of attributes": lambda: b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "a call of a class": lambda: b"\x80\x02cnumpy\nndarray\n)R.",
    "a class in a list": lambda: b"\x80\x02](cnumpy\nndarray\ne.",
    "built over": lambda: b"\x80\x02}}b.",
    "2^60 items": lambda: doubled() + b".",
    "2^60 items in a record": lambda: (
        doubled() + f"c{HELPERS}\nTimedObservation\n".encode() + b")\x81}\x8c\x01xh\x00sb."
    ),
    "2^60 items as a state": lambda: doubled() + U1 + b"h\x00b.",
    "2^60 items as a name": lambda: doubled() + b"h\x00\x8c\x01x\x93.",
    "2^60 items as a key": lambda: doubled() + b"}h\x00Ns.",
    "2^60 items as a dtype": lambda: (
        doubled() + b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nh\x00\x85RC\x01b\x86R."
    ),
    "a list in itself": lambda: b"\x80\x04]q\x00h\x00a.",
    "a tuple of 200000 tuples": lambda: b"\x80\x04)" + b"\x85" * 200000 + b".",
    "a record with an object": lambda: (
        b"\x80\x04cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x03b,O\x85RC\x09"
        + bytes(9)
        + b"\x86R."
    ),
    "a dimension of 2^120": lambda: (
        b"\x80\x04cnumpy._core.numeric\n_frombuffer\n(C\x00"
        + U1
        + b"(K\x00\x8a\x10"
        + bytes(15)
        + b"\x01t\x8c\x01CtR."
    ),
    "a key without a value": lambda: b"\x80\x04}(K\x01u.",
    "nothing": lambda: b"",
    "an empty stack": lambda: b"\x80\x04.",
    "a mark that never was": lambda: b"\x80\x04u.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(attack: str) -> None:
    with pytest.raises(WireError):
        read_pickle(ATTACKS[attack]())


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255))
def test_a_broken_message_is_refused_or_read(tail: bytes, place: int, byte: int) -> None:
    whole = bytearray(pickle.dumps(TimedObservation(1.5, 7, observation())))
    whole[place % len(whole)] = byte
    for message in (bytes(whole), bytes(whole[:place]) + tail, tail):
        try:
            read_observation(read_pickle(message))
        except WireError:
            continue


def test_a_record_is_no_instance_of_anybody_s() -> None:
    found = read_pickle(pickle.dumps(TimedObservation(1.5, 7, {})))
    assert type(found) is ReadRecord
    with pytest.raises(WireError, match="no RemotePolicyConfig"):
        read_instructions(found)


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(-5, 2**40), st.integers(1, 9))
def test_the_client_reads_the_answer(commands: int, timestep: int, width: int) -> None:
    actions = np.arange(commands * width, dtype=np.float32).reshape(commands, width) / 3
    made = actions_pickle(HELPERS, actions, 12.5, timestep, 0.1)
    pickletools.dis(made, io.StringIO())
    found = pickle.loads(made)
    assert [one.timestep for one in found] == [timestep + place for place in range(commands)]
    assert found[-1].timestamp == 12.5 + (commands - 1) * 0.1
    assert [one.action.tolist() for one in found] == actions.tolist()


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_a_message_goes_both_ways_and_nonsense_is_refused(data: bytes) -> None:
    assert data_of(actions_message(data), 1) == data
    try:
        fields_of(data)
    except WireError:
        return
