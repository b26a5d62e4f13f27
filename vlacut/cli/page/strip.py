"""The model as a strip: parts in the order in which a control step runs them, and what crosses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vlacut.cli.show.output import milliseconds, size

_LEAST = 1.0  # per cent of the strip, so that a short part can be seen and touched


class Cell(NamedTuple):
    """A part in the strip: from where and how wide in per cent, on which side, and what it is."""

    start: float
    width: float
    side: str
    text: str


class Holding(NamedTuple):
    """A block in a part, and its operators."""

    block: str
    operators: str
    total: int


class Stop(NamedTuple):
    """What a step does next: a part that runs, or tensors that cross.

    Attributes:
        kind: `edge` or `cloud` for a part there; `up`, `down` or `told` for what crosses, of which
            the last has no tensors.
        name: of the part.
        what: of the model it is, or the bytes that cross.
        facts: time, weights, or names of tensors.
        holds: the blocks of a part.
    """

    kind: str
    name: str
    what: str
    facts: Sequence[str]
    holds: Sequence[Holding] = ()


def strip(data: Mapping[str, Any]) -> tuple[list[Cell], list[Stop]]:
    """The strip of the chosen cut, and its stops in the order of the first time."""
    parts = {part["name"]: part for part in data["parts"]}
    runs = [(parts[one["part"]], one["times"]) for one in data["sequence"] if one["part"]]
    spent = [max(part["time_ms"] * times, 0.0) for part, times in runs]
    holds = _holdings(data)
    stops = [
        _run(parts[one["part"]], one["times"], holds.get(one["part"], []))
        if one["part"]
        else _crossing(one)
        for one in data["sequence"]
    ]
    return _cells(runs, spent), stops


def _cells(runs: Sequence[tuple[Mapping[str, Any], int]], spent: Sequence[float]) -> list[Cell]:
    whole = sum(spent) or 1.0
    widths = [max(100 * one / whole, _LEAST) for one in spent]
    scale, start, cells = 100 / (sum(widths) or 1.0), 0.0, []
    for (part, times), width, ms in zip(runs, widths, spent, strict=True):
        text = f"{part['name']}: {part['what']}, {part['side']}, {_ms(ms)} ms{_often(times)}"
        cells.append(Cell(round(start * scale, 3), round(width * scale, 3), part["side"], text))
        start += width
    return cells


def _run(part: Mapping[str, Any], times: int, holds: Sequence[Holding]) -> Stop:
    saved = part["saves_ms"]
    facts = [
        f"{_ms(part['time_ms'] * times)} ms{_often(times)}",
        f"{size(part['weights_bytes'])} of weights",
        f"{_ms(abs(saved))} ms {'slower' if saved >= 0 else 'faster'} on the other side",
    ]
    return Stop(part["side"], part["name"], part["what"], facts, holds)


def _crossing(one: Mapping[str, Any]) -> Stop:
    way = "up" if one["from"] == "edge" else "down"
    if not one["tensors"]:
        return Stop("told", "", "the cloud is told that a step has begun", [])
    total = one["bytes"] * one["times"]
    later = ["for the next control step"] if one["later"] else []
    often = [f"{one['times']} times {size(one['bytes'])}"] if one["times"] > 1 else []
    return Stop(way, "", f"{size(total)} {way}", [*often, *later, ", ".join(one["tensors"])])


def _holdings(data: Mapping[str, Any]) -> dict[str, list[Holding]]:
    found: dict[str, list[Holding]] = {}
    for one in (data["planning"] or {}).get("contents", ()):
        kinds = one["operators"]
        said = ", ".join(f"{kind} x {n}" if n > 1 else kind for kind, n in kinds.items())
        held = Holding(one["block"], said, sum(kinds.values()))
        found.setdefault(one["part"], []).append(held)
    return found


def _often(times: int) -> str:
    return f" in {times} trips" if times > 1 else ""


def _ms(value: float) -> str:
    return milliseconds(value / 1e3)
