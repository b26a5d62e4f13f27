"""Device profiles and links."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from vlacut.cost import Cost, seconds
from vlacut.errors import HardwareError
from vlacut.hardware import Device, device_names, load_device, parse_bytes, parse_link
from vlacut.hardware import device as device_module
from vlacut.tensor import dtype_bits

PROFILES = Path(device_module.__file__).parent / "profiles"
MATRIX_TYPES = ("float32", "tf32", "bfloat16", "float8e4m3fn", "int8", "int4")


def test_the_devices_that_the_package_knows() -> None:
    jetsons = {"jetson-agx-orin", "jetson-agx-orin-32gb", "jetson-orin-nx", "jetson-agx-thor"}
    servers = {"a100", "a100-40gb", "h100", "h200", "l4", "l40s", "rtx-4090", "rtx-5090"}
    assert set(device_names()) == jetsons | servers


@pytest.mark.parametrize("name", device_names())
def test_a_profile_has_its_name_and_a_source_for_every_figure(name: str) -> None:
    device = load_device(name)
    table = tomllib.loads((PROFILES / f"{name}.toml").read_text())
    assert device.name == name
    assert set(table["source"]) == set(table) - {"name", "source"}
    assert all(len(line) > 20 for line in device.source.values())


@pytest.mark.parametrize("name", device_names())
def test_narrower_types_are_no_slower(name: str) -> None:
    device = load_device(name)
    for dtype in device.peak:
        assert dtype == "tf32" or dtype_bits(dtype) <= 32
    rates = [device.peak[dtype] for dtype in MATRIX_TYPES if dtype in device.peak]
    assert rates == sorted(rates)
    assert device.peak["float16"] == device.peak["bfloat16"]
    assert 10 < device.peak["bfloat16"] / device.memory_bandwidth < 1000  # flop a byte


def test_unknown_devices_are_answered_with_near_ones() -> None:
    with pytest.raises(HardwareError, match=r"unknown device 'jetson-orin'.*jetson-agx-orin"):
        load_device("jetson-orin")
    with pytest.raises(HardwareError, match=r"no such file: mine\.toml"):
        load_device("mine.toml")


def test_a_profile_without_a_source_is_refused_by_figure(tmp_path: Path) -> None:
    text = (PROFILES / "a100.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith('launch_s = "')]
    (tmp_path / "mine.toml").write_text("\n".join(kept))
    with pytest.raises(HardwareError, match=r"\[source\] lacks launch_s"):
        load_device(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text(text.replace("memory_bytes = 80e9", "memory_bytes = '80'"))
    with pytest.raises(HardwareError, match="memory_bytes is '80', must be a number"):
        load_device(str(tmp_path / "mine.toml"))


def test_the_profiles_hold_what_the_fit_to_the_paper_gives() -> None:
    tool = Path(__file__).parent.parent / "tools" / "fit_paper.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=True)
    for name in ("a100", "jetson-agx-orin", "jetson-agx-thor"):
        device = load_device(name)
        fitted = (
            f"{name}: launch_s {device.launch_s:.2e} "
            f"compute {device.compute_efficiency:.3f} memory {device.memory_efficiency:.3f}"
        )
        assert fitted in done.stdout


costs = st.builds(
    Cost,
    flops=st.integers(0, 10**13),
    bytes_read=st.integers(0, 10**9),
    bytes_written=st.integers(0, 10**9),
    weight_bytes=st.integers(0, 10**10),
    kernels=st.integers(0, 100),
)
devices = st.sampled_from(device_names()).map(load_device)
dtypes = st.sampled_from(["float32", "bfloat16", "int8", "float64"])


@given(costs, costs, devices, dtypes)
def test_more_work_never_takes_less(one: Cost, other: Cost, device: Device, dtype: str) -> None:
    both = seconds(one + other, device, dtype)
    assert both >= seconds(one, device, dtype) >= 0
    assert both <= (seconds(one, device, dtype) + seconds(other, device, dtype)) * (1 + 1e-12)


@given(costs, devices, dtypes, st.floats(1, 10), st.floats(1, 10))
def test_a_faster_device_never_takes_longer(
    cost: Cost, device: Device, dtype: str, memory: float, compute: float
) -> None:
    faster = Device(
        name="faster",
        peak={name: rate * compute for name, rate in device.peak.items()},
        memory_bandwidth=device.memory_bandwidth * memory,
        memory_bytes=device.memory_bytes,
        launch_s=device.launch_s,
        compute_efficiency=device.compute_efficiency,
        memory_efficiency=device.memory_efficiency,
        source=device.source,
    )
    assert seconds(cost, faster, dtype) <= seconds(cost, device, dtype)


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
    assert math.isclose(link.up, float(up) * up_scale[1] / bits)
    assert math.isclose(link.down, float(down) * down_scale[1] / bits)
    assert math.isclose(link.hop_s, 0.010)
    alike = parse_link(f"{up}{up_scale[0]}{name}")
    assert alike.up == alike.down == link.up
    assert alike.rtt == 0


@given(st.integers(1, 999), st.sampled_from([("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]))
def test_a_link_prints_as_it_parses(rtt: int, unit: tuple[str, float]) -> None:
    link = parse_link(f"10MB/s/40MB/s,{rtt}{unit[0]}")
    again = parse_link(str(link))
    assert (again.up, again.down) == (link.up, link.down)
    assert math.isclose(again.rtt, link.rtt, rel_tol=1e-5)
    assert math.isclose(link.rtt, rtt * unit[1])


@pytest.mark.parametrize(
    "text", ["", "10", "10MB", "MB/s", "0MB/s", "10MB/s,5", "-1MB/s", "1MB/s/"]
)
def test_a_link_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(HardwareError, match="link"):
        parse_link(text)


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
