"""Operations of a pickle by their codes, of protocols 2 to 5: those that LeRobot's messages take.

Source: Python's Lib/pickletools.py.
"""

from __future__ import annotations

from vlacut.integrations.lerobot.machine import Machine, Operation

OPERATIONS: dict[bytes, Operation] = {
    b"\x80": Machine.proto,
    b"\x95": Machine.frame,
    b"(": Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": Machine.long,
    b"G": lambda m: m.push(m.number(">d")),
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
    b"t": Machine.tuple,
    b"a": Machine.append,
    b"e": Machine.appends,
    b"s": Machine.set_item,
    b"u": Machine.set_items,
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.remember(),
    b"h": lambda m: m.get(m.number("<B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"c": Machine.name,
    b"\x93": Machine.stack_name,
    b"\x81": Machine.new_object,
    b"R": Machine.reduce,
    b"b": Machine.build,
}
