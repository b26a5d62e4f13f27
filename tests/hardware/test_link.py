"""Links: how users write them, and what they make of bytes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.errors import HardwareError
from vlacut.hardware import Framing, Link, parse_bytes, parse_link

numbers = st.decimals(min_value="0.01", max_value="9999", places=2).map(str)
scales = st.sampled_from([("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)])


@given(numbers, scales, numbers, scales, st.sampled_from([("B/s", 1), ("bit/s", 8), ("bps", 8)]))
def test_rates_of_a_link(
    up: str,
    up_scale: tuple[str, float],
    down: str,
    down_scale: tuple[str, float],
    unit: tuple[str, int],
) -> None:
    name, bits = unit
    text = f"{up}{up_scale[0]}{name}/{down} {down_scale[0]}{name}, 20ms"
    link = parse_link(text)
    assert math.isclose(link.up, float(up) * up_scale[1] / bits * 1448 / 1514)
    assert math.isclose(link.down, float(down) * down_scale[1] / bits * 1448 / 1514)
    assert math.isclose(link.hop_s, 0.010 + 50e-6)
    alike = parse_link(f"{up}{up_scale[0]}{name}")
    assert alike.up == alike.down == link.up
    assert alike.rtt == 0


@given(st.integers(1, 999), st.sampled_from([("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]))
def test_a_link_prints_as_it_parses(rtt: int, unit: tuple[str, float]) -> None:
    link = parse_link(f"10MB/s/40MB/s,{rtt}{unit[0]}")
    again = parse_link(str(link))
    assert (again.up, again.down) == (link.up, link.down)
    assert str(link) == f"10MB/s/40MB/s,{link.rtt * 1e3:.12g}ms"
    assert math.isclose(again.rtt, link.rtt, rel_tol=1e-5)
    assert math.isclose(link.rtt, rtt * unit[1])


@pytest.mark.parametrize(
    "text", ["", "10", "10MB", "MB/s", "0MB/s", "10MB/s,5", "-1MB/s", "1MB/s/"]
)
def test_a_link_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(HardwareError, match="link"):
        parse_link(text)


def test_a_file_sets_every_figure_of_a_link(tmp_path: Path) -> None:
    file = tmp_path / "wifi.toml"
    file.write_text(
        'up = "80Mbit/s"\ndown = "20MB/s"\nrtt = "8ms"\nmessage = "0.2ms"\n'
        "segment_bytes = 900\nheader_bytes = 100\ninitial_segments = 3\n"
    )
    link = parse_link(str(file))
    assert (link.up, link.down) == (9e6, 18e6)
    assert math.isclose(link.hop_s, 0.0042)
    assert link.framing == Framing(900, 100, 3)
    file.write_text('up = "80Mbit/s"')
    assert parse_link(str(file)) == parse_link("80Mbit/s")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "up is None"),
        ("up = 80", 'up is 80; write e.g. "80Mbit/s"'),
        ('up = "8MB/s"\nrtt = 20', 'rtt is 20; write e.g. "20ms"'),
        ('up = "8MB/s"\njitter = 1', "no entry 'jitter'"),
        ('up = "8MB/s"\nheader_bytes = 1.5', "header_bytes is 1.5, must be a whole number"),
        ('up = "8MB/s"\nsegment_bytes = 0', "hold a byte at least"),
        ("up = ", "not TOML"),
    ],
)
def test_a_link_file_is_refused_by_entry(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "link.toml").write_text(text)
    with pytest.raises(HardwareError, match=re.escape(wrong)):
        parse_link(str(tmp_path / "link.toml"))
    with pytest.raises(HardwareError, match="cannot be read"):
        parse_link(str(tmp_path / "none.toml"))


# A new connection over an emulated 80 Mbit/s link: arrival of the message, ms, and what of it is
# its bytes over the rate and half a round trip. Medians of measurements.
SLOW_START = [
    (5, 25e3, 9.2, 5.1),
    (5, 102.4e3, 20, 12.9),
    (5, 1024e3, 118, 107),
    (20, 25e3, 32, 12.6),
    (20, 102.4e3, 72, 20.4),
    (20, 1024e3, 178, 115),
    (50, 25e3, 77, 27.6),
    (50, 102.4e3, 177, 35.4),
    (50, 1024e3, 342, 130),
]


@pytest.mark.parametrize(("rtt", "nbytes", "measured", "ideal"), SLOW_START)
def test_the_first_burst_is_as_slow_as_measured(
    rtt: int, nbytes: float, measured: float, ideal: float
) -> None:
    link = parse_link(f"80Mbit/s,{rtt}ms")
    predicted = ideal + 1e3 * link.first_burst_s(int(nbytes), link.up)
    assert abs(predicted / measured - 1) < 0.09


links = st.builds(Link, st.floats(1e3, 1e10), st.floats(1e3, 1e10), st.floats(0, 1))
message_sizes = st.integers(0, 10**8)


@given(links, message_sizes, message_sizes, st.floats(1, 10))
def test_more_bytes_or_less_bandwidth_never_arrive_earlier(
    link: Link, some: int, more: int, factor: float
) -> None:
    some, more = sorted((some, more))
    assert _arrival(link, some, 1.0) <= _arrival(link, more, 1.0) * (1 + 1e-12)
    assert _arrival(link, more, factor) <= _arrival(link, more, 1.0) * (1 + 1e-12)


def _arrival(link: Link, nbytes: int, factor: float) -> float:
    rate = link.up * factor
    return link.hop_s + nbytes / rate + link.first_burst_s(nbytes, rate)


def test_no_round_trip_or_one_window_waits_for_nothing() -> None:
    link = parse_link("1MB/s,100ms")
    assert link.first_burst_s(14480, link.up) == 0
    assert math.isclose(link.first_burst_s(14481, link.up), 0.1 - 14480 / link.up)
    assert parse_link("1GB/s").first_burst_s(10**8, 1e9) == 0


@given(
    st.integers(0, 10**6),
    st.sampled_from([("B", 1), ("kB", 10**3), ("MB", 10**6), ("GB", 10**9), ("MiB", 2**20)]),
)
def test_sizes(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}") == number * unit[1]
    assert parse_bytes(f" {number}.5 {unit[0]} ") == round((number + 0.5) * unit[1])


@pytest.mark.parametrize("text", ["", "12", "GB", "12 GiBs", "1e3MB", "-1MB"])
def test_a_size_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(HardwareError, match="size"):
        parse_bytes(text)
