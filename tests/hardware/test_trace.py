"""Bandwidth traces: what the files say, and the quantile against the definition of one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.errors import HardwareError
from vlacut.hardware.trace import Trace, read_trace

TRACES = Path(os.environ.get("VLACUT_TRACES", "traces"))
rates = st.lists(
    st.tuples(st.floats(1e3, 1e9), st.sampled_from([0.1, 0.5, 1.0])), min_size=1, max_size=40
)


@given(rates, st.floats(0.01, 1.0))
def test_latency_at_the_bandwidth_reached_is_the_quantile_of_latency(
    rows: list[tuple[float, float]], share: float
) -> None:
    """Against numpy's weighted inverse of the distribution function, on the latencies."""
    trace = Trace(tuple(rate for rate, _ in rows), tuple(spent for _, spent in rows))
    latency = [0.1 + 1e6 / rate for rate in trace.rates]
    expected = np.quantile(latency, share, weights=np.array(trace.seconds), method="inverted_cdf")
    found = 0.1 + 1e6 / trace.reached(share)
    # A share that falls on a step of the distribution may go to either side of it by rounding.
    near = [
        np.quantile(latency, min(1, max(0, share + by)), weights=np.array(trace.seconds),
                    method="inverted_cdf")
        for by in (-1e-9, 1e-9)
    ]  # fmt: skip
    assert found == expected or found in near


def test_a_csv_file_and_a_folder_of_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.csv").write_text("time_s,mbit_per_s\n0,8\n0.1,16\n0.2,24\n9.0,32\n")
    (tmp_path / "deep/b.csv").write_text("time_s,mbit_per_s\n0,80\n1,160\n")
    one = read_trace(tmp_path / "a.csv")
    assert one.rates == (1e6, 2e6, 3e6, 4e6)
    assert one.seconds == pytest.approx((0.1,) * 4)  # the gap before the last is no bandwidth
    assert one.mean == pytest.approx(2.5e6)
    assert one.reached(0.75) == 2e6
    both = read_trace(tmp_path)
    assert both.rates == (1e6, 2e6, 3e6, 4e6, 10e6, 20e6)
    assert both.mean == pytest.approx((0.4 * 2.5e6 + 30e6) / 2.4)


def test_mahimahi_counts_packets_by_step(tmp_path: Path) -> None:
    (tmp_path / "up").write_text("0\n0\n50\n120\n250\n")
    trace = read_trace(tmp_path / "up")
    assert trace.rates == pytest.approx((45e3, 15e3, 30e3))  # 3, 1, 1 packets of 1500 bytes
    assert trace.seconds == pytest.approx((0.1, 0.1, 0.05))
    assert trace.mean == pytest.approx(5 * 1500 / 0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "milliseconds must not fall"),
        ("time_s,mbit_per_s\n", "at least one rate"),
        ("time_s,mbit_per_s\n1,1\n0,2\n", "does not grow"),
        ("time_s,mbit_per_s\n0,fast\n", "fast"),
        ("time_s,mbit_per_s\n0,-1\n", "below 0"),
        ("time,rate\n0,1\n", "header time_s,mbit_per_s"),
        ("5\n3\n", "must not fall"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(HardwareError, match=message):
        read_trace(path)


def test_no_file_and_no_share(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="no bandwidth trace at"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(HardwareError, match=r"without \.csv files"):
        read_trace(tmp_path)
    for share in (0.0, 1.5):
        with pytest.raises(HardwareError, match="must be above 0 and at most 1"):
            Trace((1.0,), (1.0,)).reached(share)


@pytest.mark.skipif(not TRACES.is_dir(), reason="no folder of recorded traces in VLACUT_TRACES")
def test_recorded_traces_read_as_they_are() -> None:
    for path in sorted(TRACES.rglob("*.csv"))[:8]:
        trace = read_trace(path)
        rates = [float(line.split(",")[1]) / 8 * 1e6 for line in path.read_text().split()[1:]]
        assert trace.mean == pytest.approx(sum(rates) / len(rates))
        assert min(rates) <= trace.reached(0.95) <= trace.reached(0.5) <= max(rates)
