"""Checks of JSON: each makes what it was given anew, out of what it knows, or says what is wrong.

A check is a function of a value; it raises NotGood for one that is not what it says. Nothing that
a check does not name is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], Any]
_SHOWN = 60


class NotGood(Exception):
    """What a file holds that is not known to be data."""


def shown(value: Any) -> str:
    """A value as an error line shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields; an optional one that is null or absent is left out."""
    others = optional or {}

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise NotGood(f"{shown(value)} where an object with {', '.join(needed)} should be")
        made = {}
        for name in (*needed, *others):
            if name in needed and name not in value:
                raise NotGood(f"an object without {name}: {shown(value)}")
            if name in needed or value.get(name) is not None:
                made[name] = within(name, (needed.get(name) or others[name]), value[name])
        for name in value:
            if name not in needed and name not in others:
                raise NotGood(f"a field {shown(name)} that no program of plain tensors has")
        return made

    return check


def union(kinds: Mapping[str, Check]) -> Check:
    """An object with exactly one of these fields."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) != 1:
            raise NotGood(f"{shown(value)} where one of {', '.join(kinds)} should be")
        ((kind, held),) = value.items()
        if kind not in kinds:
            raise NotGood(f"a {shown(kind)}, which may run code or is not known")
        return {kind: within(kind, kinds[kind], held)}

    return check


def many(each: Check) -> Check:
    """A list."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise NotGood(f"{shown(value)} where a list should be")
        return [each(item) for item in value]

    return check


def table(key: Check, each: Check) -> Check:
    """An object whose fields have names of the file's own."""

    def check(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise NotGood(f"{shown(value)} where an object should be")
        return {key(name): within(name, each, item) for name, item in value.items()}

    return check


def word(pattern: re.Pattern[str], what: str) -> Check:
    """A text of a form."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise NotGood(f"{shown(value)} where {what} should be")
        return value

    return check


def integer(low: int, high: int) -> Check:
    """An integer from `low` to `high`."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise NotGood(f"{shown(value)} where an integer of {low} to {high} should be")
        return value

    return check


def flag(value: Any) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise NotGood(f"{shown(value)} where a boolean should be")
    return value


def number(value: Any) -> float:
    """A floating-point number; what JSON has none of stands as text."""
    if value in ("Infinity", "-Infinity", "NaN") or type(value) in (int, float):
        return float(value)
    raise NotGood(f"{shown(value)} where a number should be")


def nullable(check: Check) -> Check:
    """Null, or what passes a check."""
    return lambda value: None if value is None else check(value)


def empty(value: Any) -> Any:
    """Nothing: an empty list or object."""
    if value not in ([], {}):
        raise NotGood(f"{shown(value)}, which may run code when loaded")
    return value


def passed_over(value: Any) -> None:
    """What is not read: it is known what it is, and nobody here needs it."""


def within(name: str, check: Check, value: Any) -> Any:
    """What a check makes of a value, with the field's name in what it says."""
    try:
        return check(value)
    except NotGood as error:
        text = str(error)
        raise (error if text.count(": ") > 2 else NotGood(f"{name}: {text}")) from None
