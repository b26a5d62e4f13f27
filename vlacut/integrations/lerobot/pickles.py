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
from typing import Any

from vlacut.errors import WireError
from vlacut.integrations.lerobot.machine import Machine
from vlacut.integrations.lerobot.operations import OPERATIONS
from vlacut.integrations.lerobot.stand_ins import Name, ReadRecord, StandInArray, StandInDtype

_MOST_ITEMS = 1 << 16  # of all containers, as often as they are in others


def read_pickle(data: bytes) -> Any:
    """What a pickle holds: numbers, text, bytes, None, tuples, lists and maps of such, arrays and
    scalars of numpy's as they are, and `ReadRecord`s.

    Raises WireError for whatever else, with the name that is not admitted.
    """
    machine = Machine(data, OPERATIONS)
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
    """Raise WireError if a value holds more than a message may, itself, or what is no value."""
    waiting, total = [value], 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, (Name, StandInArray, StandInDtype)):
            raise WireError("the message holds a class, or an array without content, in a value")
        held = one.values if isinstance(one, ReadRecord) else one
        items = held.values() if isinstance(held, dict) else held
        if not isinstance(held, (dict, list, tuple)):
            continue
        total += len(items)
        if total > _MOST_ITEMS:
            raise WireError(f"the message holds more than {_MOST_ITEMS} items, or itself")
        waiting.extend(items)
