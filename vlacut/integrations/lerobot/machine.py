"""The stack machine of `pickles`: the operations that the client's messages take, and no other."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

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


Operation: TypeAlias = "Callable[[Machine], None]"


class Machine:
    """Runs one pickle.

    Args:
        data: its bytes.
        operations: by their codes.
    """

    def __init__(self, data: bytes, operations: Mapping[bytes, Operation]) -> None:
        self._operations = operations
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What is on the stack at its end; raises WireError, and what a broken one comes to."""
        for _ in range(_MOST_OPERATIONS):
            code = self._take(1)
            if code == b".":
                return self._stack.pop()
            operation = self._operations.get(code)
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

    def number(self, form: str) -> Any:
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
        if self.number("<B") > 5:
            raise WireError("the message is a pickle of a protocol beyond 5")

    def frame(self) -> None:
        self._take(8)  # a length that nothing here needs

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def counted(self, form: str, made: Callable[[bytes], Any] = bytes) -> None:
        self.push(made(self._take(self.number(form))))

    def long(self) -> None:
        length = self.number("<B")
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

    def remember(self) -> None:
        self.put(len(self._memo))

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
