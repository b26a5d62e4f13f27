"""Pickles of LeRobot's client, read as data: nothing is imported, called or made but what is here.

A pickle is a program for a stack machine. This one knows the operations that the client's messages
take, and of the names in them those of two records, of arrays and of scalars of numpy; each is a
stand-in until its bytes are there. So a message makes at most as much as it holds: an array's shape
is believed only where its bytes fill it, and the memo is a map, for a pickle of 9 bytes makes
Python's own reader take 4 GB for a list. The memo may put one tuple into another twice, again and
again: 200 bytes hold 2^60 items, so that whatever walks a value waits until they are counted. Any
other name is refused.

Source: Python's Lib/pickletools.py, protocols 2 to 5; numpy's `ndarray.__reduce_ex__`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vlacut.errors import WireError
from vlacut.integrations.lerobot.stand_ins import (
    CALLED,
    CLASSES,
    MODULES,
    RECORDS,
    Name,
    ReadRecord,
    StandInArray,
    StandInDtype,
    shown,
)

_MOST_INTEGER = 16  # bytes of an integer
# A robot of 100 joints takes some 2000 operations; a byte of the message may be one, of 80 bytes.
_MOST_OPERATIONS = 1 << 16
_MOST_ITEMS = 1 << 16  # of all containers, as often as they are in others


def read_pickle(data: bytes) -> Any:
    """What a pickle holds: numbers, text, bytes, None, tuples, lists and maps of such, arrays and
    scalars of numpy's as they are, and `ReadRecord`s.

    Raises WireError for whatever else, with the name that is not admitted.
    """
    machine = _Machine(data)
    try:
        value = _plain(machine.run())
        _count(value)
        return value
    except (IndexError, KeyError, ValueError, OverflowError, struct.error) as error:
        raise WireError(
            "the message is no pickle: it is cut short, or not of the format"
        ) from error
    except (TypeError, AttributeError) as error:
        raise WireError(f"the message is no pickle of this kind: {error}") from error


def _plain(value: Any) -> Any:
    """The array of a stand-in that is on the stack at the end."""
    if isinstance(value, StandInArray):
        if value.array is None:
            raise WireError("an array has no content")
        return value.array
    if isinstance(value, (Name, StandInDtype)):
        raise WireError("the message holds a class and no value")
    return value


def _count(value: Any) -> None:
    """Raise WireError if a value holds more than a message may, or itself."""
    waiting, total = [value], 0
    while waiting:
        one = waiting.pop()
        held = one.values if isinstance(one, ReadRecord) else one
        items = held.values() if isinstance(held, dict) else held
        if not isinstance(held, (dict, list, tuple)):
            continue
        total += len(items)
        if total > _MOST_ITEMS:
            raise WireError(f"the message holds more than {_MOST_ITEMS} items, or itself")
        waiting.extend(items)


class _Machine:
    """Runs one pickle."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_MOST_OPERATIONS):
            code = self._take(1)
            if code == b".":
                return self._stack.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise WireError(f"a pickle of LeRobot's has no operation {code!r}")
            operation(self)
        raise WireError(f"the message is a pickle of more than {_MOST_OPERATIONS} operations")

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
                raise WireError(f"a map has the key {shown(key)}")
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
        if not isinstance(module, str) or not isinstance(name, str):
            raise WireError("the message names what is no text")
        known = (module in MODULES and name in RECORDS) or (module, name) in CALLED
        if not known and (module, name) not in CLASSES:
            raise WireError(f"the message names {module:.60}.{name:.60}, which is not admitted")
        self.push(Name(module, name))

    def new_object(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        if not isinstance(made, Name) or made.name not in RECORDS or args != ():
            raise WireError("the message makes an object that is not admitted")
        self.push(ReadRecord(made.module, made.name))

    def reduce(self) -> None:
        args, called = self._stack.pop(), self._stack.pop()
        where = (called.module, called.name) if isinstance(called, Name) else ("", "")
        if where not in CALLED or not isinstance(args, tuple):
            raise WireError("the message calls what is not admitted")
        self.push(CALLED[where](*args))

    def build(self) -> None:
        state = self._stack.pop()
        built = self._stack[-1]
        if isinstance(built, (StandInArray, StandInDtype)):
            built.build(state)
        elif isinstance(built, ReadRecord) and type(state) is dict:
            built.values = state
        else:
            raise WireError("the message builds what is not admitted")


def _plain_item(value: Any) -> Any:
    """An item of a container: an array takes the place of its stand-in."""
    return value.array if isinstance(value, StandInArray) and value.array is not None else value


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
