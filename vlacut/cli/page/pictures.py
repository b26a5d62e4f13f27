"""The pictures of a bundle's figures, and the tables beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vlacut.cli.page.charts import LOOKS, Bar, Chart, Mark, Segment, bar, line, stacked
from vlacut.cli.page.scales import Scale, around, from_zero
from vlacut.cli.show.output import milliseconds, size

# What a step's time goes into, in the order of a step: key, look, and name.
SHARES = (
    ("edge_ms", "edge", "edge"),
    ("codec_ms", "codec", "codecs"),
    ("uplink_ms", "up", "uplink"),
    ("propagation_ms", "hops", "propagation"),
    ("cloud_ms", "cloud", "cloud"),
    ("downlink_ms", "down", "downlink"),
)
_CHAIN = ("edge_ms", "uplink_ms", "propagation_ms", "cloud_ms", "downlink_ms")


class Row(NamedTuple):
    """A row of a picture: its name, its bar, and numbers beside it."""

    name: str
    bar: Bar
    numbers: Sequence[str]
    note: str = ""


def strategies(data: Mapping[str, Any]) -> list[Row]:
    """Latency of every strategy, by where it goes; a mark where less is left by overlap."""
    rows = [(row, _shares_of(row)) for row in data["strategies"]]
    scale = from_zero([sum(shares.values()) for _, shares in rows])
    made = []
    for row, shares in rows:
        parts = [(name, look, shares[key], f"{ms(shares[key])} ms") for key, look, name in SHARES]
        mark = row["latency_ms"] if row["overlap_ms"] > 0 else None
        numbers = [ms(row["latency_ms"]), size(row["bytes_up"]), size(row["bytes_down"])]
        made.append(Row(row["name"], bar(parts, scale, mark), numbers, row["why_not"]))
    return made


def _shares_of(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        **{key: row[key] for key, _, _ in SHARES if key in row},
        "edge_ms": row["edge"]["time_ms"],
        "cloud_ms": row["cloud"]["time_ms"],
    }


def memory(data: Mapping[str, Any]) -> list[Row]:
    """Weights by side: of the chosen cut, and what is held for the other variants."""
    chosen, planning = data["strategies"][0], data["planning"]
    held = {
        side: (chosen[side]["weights_bytes"], planning["doubled_bytes"][side] if planning else 0)
        for side in ("edge", "cloud")
    }
    scale = from_zero([sum(both) for both in held.values()])
    made = []
    for side, (own, more) in held.items():
        parts = [(side, side, own, size(own)), ("pool", "pool", more, size(more))]
        share = f"{more / (own + more):.2%}" if own + more else "0 %"
        made.append(Row(side, bar(parts, scale, None), [size(own), size(more), share]))
    return made


def positions(data: Mapping[str, Any]) -> Chart | None:
    """Latency against the place of the cut in the chain of blocks (RoboECC, figure 2)."""
    planning = data["planning"]
    if planning is None or len(planning["positions"]) < 2:
        return None
    found, chosen = planning["positions"], data["strategies"][0]["latency_ms"]
    places = [one["blocks_on_edge"] for one in found]
    totals = [one["latency_ms"] for one in found]
    x = Scale(0, max(places))
    y = from_zero([*(sum(one[key] for key in _CHAIN) for one in found), chosen])
    named = [(name, look, [one[key] for one in found]) for key, look, name in SHARES
             if key in _CHAIN]  # fmt: skip
    best = min(range(len(found)), key=lambda index: totals[index])
    return Chart(
        title="Latency of a control step against the place of the cut",
        x="blocks on the edge",
        y="ms",
        x_ticks=x.ticks(plain, least=1),
        y_ticks=y.ticks(plain),
        areas=stacked(named, x, places, y),
        lines=(line("a step", "total", x, places, y, totals),),
        marks=(Mark(x.at(places[best]), f"{ms(totals[best])} ms"),),
        levels=(Mark(y.at(chosen), "chosen"),),
    )


def bandwidths(data: Mapping[str, Any]) -> Chart:
    """Latency, and age, against bandwidth (RoboECC, figure 3)."""
    curves = data["curves"]
    rates, lines = curves["up_bytes_per_s"], curves["lines"]
    x = Scale(rates[0], rates[-1], logarithmic=True)
    every = [max(ms, 1e-6) for one in lines for ms in one["latency_ms"]]
    y = around(every)
    ticks = y.ticks(plain)
    older = float(curves["age_per_latency"])
    ages = Scale(y.low * older, y.high * older, logarithmic=True)
    return Chart(
        title="Latency of a control step against the bandwidth of the uplink",
        x="uplink",
        y="latency, ms",
        x_ticks=x.ticks(lambda rate: f"{size(rate)}/s", 5),
        y_ticks=ticks,
        lines=tuple(
            line(one["name"], look, x, rates, y, [max(ms, 1e-6) for ms in one["latency_ms"]])
            for one, look in zip(lines, looks(lines), strict=True)
        ),
        marks=(Mark(x.at(data["link"]["up_bytes_per_s"]), "planned"),),
        right="mean age of the action in force, ms",
        right_ticks=ages.ticks(plain),
    )


def looks(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A look for each line: variants by number, what runs on one machine alone by its name."""
    numbers = iter(range(1, len(lines) + 1))
    return [
        f"look{(next(numbers) - 1) % LOOKS + 1}" if one["variant"] else one["name"] for one in lines
    ]


def intervals(data: Mapping[str, Any]) -> list[Row]:
    """The bandwidths at which each variant is best, on the axis of `bandwidths`."""
    rates, lines = data["curves"]["up_bytes_per_s"], data["curves"]["lines"]
    x = Scale(rates[0], rates[-1], logarithmic=True)
    return [
        _interval(one, look, x)
        for one, look in zip(data["pool"]["variants"], looks(lines), strict=False)
    ]


def _interval(one: Mapping[str, Any], look: str, x: Scale) -> Row:
    low, high = one["best_from_bytes_per_s"], one["best_to_bytes_per_s"]
    numbers = ["never", ms(one["latency_ms"])]
    segments: tuple[Segment, ...] = ()
    if low is not None:
        start, end = (
            min(max(x.at(max(place, x.low / 10)), 0.0), 100.0)
            for place in (low, x.high if high is None else high)
        )
        segments = (Segment(one["name"], look, start, round(end - start, 3), ""),)
        from_text = f"from {size(low)}/s" if low else ""
        to_text = "" if high is None else f"up to {size(high)}/s"
        numbers[0] = f"{from_text} {to_text}".strip() or "always"
    return Row(one["name"], Bar(segments), numbers)


def ms(value: float) -> str:
    """Milliseconds as everywhere else."""
    return milliseconds(value / 1e3)


def plain(value: float) -> str:
    """A number of an axis."""
    return f"{value:.10g}" if value < 1e4 else f"{value / 1e3:.10g}k"
