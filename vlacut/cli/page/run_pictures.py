"""The pictures of a recorded run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from vlacut.cli.page.charts import LOOKS, Bar, Chart, Segment, line
from vlacut.cli.page.pictures import Row, plain
from vlacut.cli.page.scales import Scale, around, from_zero
from vlacut.cli.show.output import size
from vlacut.runtime.edge.report import Source


def times(run: Mapping[str, Any]) -> Chart:
    """Latency and age of the steps of a run."""
    time = run["over_time"]
    seconds = time["s"]
    x, y = _seconds(seconds), from_zero([*time["latency_ms"], *time["age_ms"]])
    return Chart(
        title="Latency and age of the steps",
        x="s",
        y="ms",
        x_ticks=x.ticks(plain),
        y_ticks=y.ticks(plain),
        lines=(
            line("age", "look2", x, seconds, y, time["age_ms"]),
            line("latency", "look1", x, seconds, y, time["latency_ms"]),
        ),
        bands=tuple(_fallen(x, seconds, time["source"])),
    )


def rates(run: Mapping[str, Any]) -> Chart:
    """The bandwidth that a run was expected to have."""
    time = run["over_time"]
    seconds, found = time["s"], [max(rate, 1.0) for rate in time["up_bytes_per_s"]]
    x, y = _seconds(seconds), around(found)
    return Chart(
        title="Bandwidth of the uplink, as it was expected before each step",
        x="s",
        y="bytes per second",
        x_ticks=x.ticks(plain),
        y_ticks=y.ticks(lambda rate: f"{size(rate)}/s", 5),
        lines=(line("uplink", "look3", x, seconds, y, found),),
    )


def variants(run: Mapping[str, Any]) -> list[Row]:
    """When each variant was chosen, on the axis of `times`."""
    time = run["over_time"]
    x, names = _seconds(time["s"]), [one["name"] for one in run["variants"]]
    made = []
    for number, (name, one) in enumerate(zip(names, run["variants"], strict=True)):
        look = f"look{number % LOOKS + 1}"
        spans = _spans(time["s"], [chosen == name for chosen in time["variant"]], x.high)
        segments = [
            Segment(name, look, x.at(start), round(x.at(end) - x.at(start), 3), "")
            for start, end in spans
        ]
        made.append(Row(name, Bar(tuple(segments)), [str(one["steps"]), str(one["made"])]))
    return made


def _fallen(x: Scale, seconds: Sequence[float], sources: Sequence[str]) -> Iterator[Segment]:
    """Where actions came from elsewhere than the chosen variant."""
    for source, look in ((Source.ALONE.value, "pool"), (Source.STALE.value, "hops")):
        for start, end in _spans(seconds, [one == source for one in sources], x.high):
            place = x.at(start)
            yield Segment(source, look, place, max(round(x.at(end) - place, 3), 0.2), "")


def _spans(
    seconds: Sequence[float], flags: Sequence[bool], end: float
) -> Iterator[tuple[float, float]]:
    """From when to when a flag is up, each step lasting until the next."""
    ends = [*seconds[1:], end]
    for up, group in groupby(zip(seconds, ends, flags, strict=True), key=lambda one: one[2]):
        steps = list(group)
        if up:
            yield steps[0][0], steps[-1][1]


def _seconds(seconds: Sequence[float]) -> Scale:
    return Scale(0.0, seconds[-1] * (1 + 1 / len(seconds)) or 1.0)
