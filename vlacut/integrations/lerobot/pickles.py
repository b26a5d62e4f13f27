"""Pickles of LeRobot's client, read as data: nothing is imported, called or made but what is here.

A pickle is a program for a stack machine. This one knows the operations that the client's messages
take, and of the names in them those of two records, of arrays and of scalars of numpy; each is a
stand-in until its bytes are there. So a message makes at most as much as it holds: an array's shape
is believed only where its bytes fill it, and the memo is a map, for a pickle of 9 bytes makes
Python's own reader take 4 GB for a list. Any other name is refused.

Source: Python's Lib/pickletools.py, protocols 2 to 5; numpy's `ndarray.__reduce_ex__`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlacut.errors import WireError

RECORDS = ("RemotePolicyConfig", "TimedObservation")
# Where releases of LeRobot keep them: 0.4 and later, 0.3.
MODULES = ("lerobot.async_inference.helpers", "lerobot.scripts.server.helpers")
_MOST_AXES, _MOST_INTEGER = 8, 16
_KINDS = "biuf"


@dataclass
class ReadRecord:
    """One of the client's objects.

    Attributes:
        module, name: of its class, as the client has it.
        values: its attributes.
    """

    module: str
    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Name:
    """A name that is admitted; it is called by nobody."""

    module: str
    name: str


class _Dtype:
    """A dtype of numpy's; its byte order is told after its kind."""

    def __init__(self, code: Any) -> None:
        self._code, self._order = code, "|"

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("|", "<", ">", "="):
            raise WireError(f"the state of a dtype is {state!r:.60}")
        self._order = state[1]

    def made(self) -> np.dtype[Any]:
        if not isinstance(self._code, str) or len(self._code) > 4 or self._code[:1] not in _KINDS:
            raise WireError(f"arrays are of numbers and booleans, and one is of {self._code!r:.40}")
        try:
            return np.dtype(self._order.replace("|", "=") + self._code)
        except TypeError as error:
            raise WireError(f"there is no dtype {self._code!r:.40}") from error


class _Array:
    """An array, whose state is to come."""

    array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise WireError("the state of an array is no five things")
        _, shape, dtype, fortran, content = state
        self.array = _filled(content, dtype, shape, "F" if fortran is True else "C")


def read_pickle(data: bytes) -> Any:
    """What a pickle holds: numbers, text, bytes, None, tuples, lists and maps of such, arrays and
    scalars of numpy's as they are, and `ReadRecord`s.

    Raises WireError for whatever else, with the name that is not admitted.
    """
    machine = _Machine(data)
    try:
        return _plain(machine.run())
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise WireError(
            "the message is no pickle: it is cut short, or not of the format"
        ) from error
    except (TypeError, AttributeError) as error:
        raise WireError(f"the message is no pickle of this kind: {error}") from error


def _plain(value: Any) -> Any:
    """The array of a stand-in that is on the stack at the end."""
    if isinstance(value, _Array):
        if value.array is None:
            raise WireError("an array has no content")
        return value.array
    if isinstance(value, (_Name, _Dtype)):
        raise WireError("the message holds a class and no value")
    return value


def _filled(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of some bytes, which its shape must fill."""
    if not isinstance(content, bytes) or not isinstance(dtype, _Dtype):
        raise WireError("an array has no bytes, or no dtype")
    right = isinstance(shape, tuple) and len(shape) <= _MOST_AXES
    if not right or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise WireError(f"an array has the shape {shape!r:.60}")
    made = dtype.made()
    if math.prod(shape) * made.itemsize != len(content):
        raise WireError(f"{len(content)} bytes are no array {list(shape)} of {made}")
    if order not in ("C", "F"):
        raise WireError(f"an array is in the order {order!r:.20}")
    return np.frombuffer(content, made).reshape(shape, order=order)


class _Machine:
    """Runs one pickle."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self._take(1)
            if code == b".":
                return self._stack.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise WireError(f"a pickle of LeRobot's has no operation {code!r}")
            operation(self)

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise WireError("the message is no pickle: it is cut short")
        self._at += count
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise WireError("the message is no pickle: it is cut short")
        line = self._data[self._at : end]
        self._at = end + 1
        return line.decode()

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    # What follows are the operations, by their names in pickletools.

    def proto(self) -> None:
        if self._number("<B") > 5:
            raise WireError("the message is a pickle of a protocol beyond 5")

    def frame(self) -> None:
        self._take(8)  # a length that nothing here needs

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def counted(self, form: str, made: Callable[[bytes], Any] = bytes) -> None:
        self.push(made(self._take(self._number(form))))

    def long(self) -> None:
        length = self._number("<B")
        if length > _MOST_INTEGER:
            raise WireError(f"an integer of {length} bytes is none of a robot's")
        self.push(int.from_bytes(self._take(length), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)][::-1]
        self.push(tuple(map(_plain_item, items)))

    def tuple(self) -> None:
        items = self._since_mark()
        self.push(tuple(map(_plain_item, items)))

    def append(self) -> None:
        item = self._stack.pop()
        self._into(list).append(_plain_item(item))

    def appends(self) -> None:
        items = self._since_mark()
        self._into(list).extend(map(_plain_item, items))

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put([key, value])

    def set_items(self) -> None:
        self._put(self._since_mark())

    def _put(self, items: list[Any]) -> None:
        into = self._into(dict)
        for key, value in zip(items[0::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise WireError(f"a map has the key {key!r:.40}")
            into[key] = _plain_item(value)

    def _into(self, kind: type) -> Any:
        found = self._stack[-1]
        if type(found) is not kind:
            raise WireError(f"the message adds to a {type(found).__name__}")
        return found

    def put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def get(self, place: int) -> None:
        self.push(self._memo[place])

    def name(self) -> None:
        self._named(self._line(), self._line())

    def stack_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._named(module, name)

    def _named(self, module: Any, name: Any) -> None:
        known = (module in MODULES and name in RECORDS) or (module, name) in _CALLED
        if not known and (module, name) not in _CLASSES:
            raise WireError(f"the message names {module!s:.60}.{name!s:.60}, which is not admitted")
        self.push(_Name(module, name))

    def new_object(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        if not isinstance(made, _Name) or made.name not in RECORDS or args != ():
            raise WireError("the message makes an object that is not admitted")
        self.push(ReadRecord(made.module, made.name))

    def reduce(self) -> None:
        args, called = self._stack.pop(), self._stack.pop()
        where = (called.module, called.name) if isinstance(called, _Name) else ("", "")
        if where not in _CALLED or not isinstance(args, tuple):
            raise WireError("the message calls what is not admitted")
        self.push(_CALLED[where](*args))

    def build(self) -> None:
        state = self._stack.pop()
        built = self._stack[-1]
        if isinstance(built, (_Array, _Dtype)):
            built.build(state)
        elif isinstance(built, ReadRecord) and type(state) is dict:
            built.values = state
        else:
            raise WireError("the message builds what is not admitted")


def _plain_item(value: Any) -> Any:
    """An item of a container: an array takes the place of its stand-in."""
    return value.array if isinstance(value, _Array) and value.array is not None else value


def _new_array(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()  # what it says of its shape is its state's to say


def _scalar(dtype: Any, content: Any) -> Any:
    return _filled(content, dtype, (), "C")[()]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _filled(content, dtype, shape, order)


def _new_dtype(code: Any, *_: Any) -> _Dtype:
    return _Dtype(code)


_CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    **{
        (f"{core}.{module}", name): made
        for core in ("numpy._core", "numpy.core")
        for module, name, made in (
            ("multiarray", "_reconstruct", _new_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "dtype"): _new_dtype,
}
_CLASSES = {("numpy", "ndarray")}

_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.proto,
    b"\x95": _Machine.frame,
    b"(": _Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m._number("<i")),
    b"K": lambda m: m.push(m._number("<B")),
    b"M": lambda m: m.push(m._number("<H")),
    b"\x8a": _Machine.long,
    b"G": lambda m: m.push(m._number(">d")),
    b"X": lambda m: m.counted("<I", bytes.decode),
    b"\x8c": lambda m: m.counted("<B", bytes.decode),
    b"\x8d": lambda m: m.counted("<Q", bytes.decode),
    b"B": lambda m: m.counted("<I"),
    b"C": lambda m: m.counted("<B"),
    b"\x8e": lambda m: m.counted("<Q"),
    b"\x96": lambda m: m.counted("<Q"),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": _Machine.tuple,
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"q": lambda m: m.put(m._number("<B")),
    b"r": lambda m: m.put(m._number("<I")),
    b"\x94": lambda m: m.put(len(m._memo)),
    b"h": lambda m: m.get(m._number("<B")),
    b"j": lambda m: m.get(m._number("<I")),
    b"c": _Machine.name,
    b"\x93": _Machine.stack_name,
    b"\x81": _Machine.new_object,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
