"""Device profiles and links."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from vlacut.errors import HardwareError
from vlacut.hardware import (
    KINDS,
    Device,
    device_names,
    load_device,
    load_profile,
    profile_file,
    profile_text,
    with_power_modes,
)
from vlacut.measurement.calibration.calibrating import starting_device
from vlacut.measurement.calibration.machine import measured_machine
from vlacut.pricing.roofline import (
    Cost,
    Kernel,
    compute_seconds,
    device_seconds,
    interval,
    memory_seconds,
    sequence_seconds,
)
from vlacut.tensor import dtype_bits

PROFILES = Path(profile_file.__file__).parent / "profiles"
MATRIX_TYPES = ("float32", "tf32", "bfloat16", "float8e4m3fn", "int8", "int4")


def test_every_profile_is_found_and_none_is_gone() -> None:
    assert set(device_names()) == {path.stem for path in PROFILES.glob("*.toml")}
    jetsons = {"jetson-agx-orin", "jetson-agx-orin-32gb", "jetson-orin-nx", "jetson-agx-thor"}
    servers = {"a100", "a100-40gb", "h100", "h200", "l4", "l40s", "rtx-4090", "rtx-5090"}
    assert set(device_names()) >= jetsons | servers


@pytest.mark.parametrize("name", device_names())
def test_a_profile_has_its_name_and_a_source_for_every_figure(name: str) -> None:
    device = load_device(name)
    table = tomllib.loads((PROFILES / f"{name}.toml").read_text())
    assert device.name == name
    assert set(table["source"]) == set(table) - {
        "name",
        "source",
        "stack",
        "stacks",
        "mode",
        "modes",
        "power",
    }
    assert "power" not in table or len(table["power"]["source"]) > 20
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


def test_a_profile_with_a_figure_missing_or_wrong_is_refused_by_figure(tmp_path: Path) -> None:
    text = (PROFILES / "a100.toml").read_text()
    for old, new, message in (
        ('memory_bytes = "', 'no_bytes = "', r"\[source\] lacks memory_bytes"),
        ("memory_bytes = 80e9", "memory_bytes = '80'", "memory_bytes is '80', must be a number"),
        ("half_tile = ", "half_tile = -", r"half_tile is -\d.*must not be negative"),
        ('fusion = "library"', 'fusion = "all"', "fusion is 'all', must be one of none"),
        ("gemm = 0.", "gemm = 2.", r"gemm is 2\..*must be in \(0, 1\]"),
        ('stack = "eager"', 'stack = "fast"', r"stack must be one of \[stacks\]"),
    ):
        assert old in text
        (tmp_path / "mine.toml").write_text(text.replace(old, new))
        with pytest.raises(HardwareError, match=message):
            load_device(str(tmp_path / "mine.toml"))


def test_modes_and_stacks_are_picked_by_name() -> None:
    assert load_device("a100+tensorrt").stack.name == "tensorrt"
    assert load_device("a100+tensorrt").name == "a100+tensorrt"
    assert load_device("a100+eager") == load_device("a100")
    with pytest.raises(HardwareError, match=r"unknown stack of a100: 'onnx'; it has eager"):
        load_device("a100+onnx")
    with pytest.raises(HardwareError, match=r"unknown power mode of a100: '30W'"):
        load_device("a100@30W")


@pytest.mark.parametrize("name", device_names())
def test_a_profile_written_is_read_back(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(profile_text(profile))
    assert load_profile(str(path)) == profile


def test_parameters_are_named_flat() -> None:
    stack = load_device("a100").stack
    assert stack.with_parameters(stack.parameters()) == stack
    changed = stack.with_parameters({"launch_s": 1e-3, "compute.gemm.int8": 0.25})
    assert (changed.launch_s, changed.compute_part("gemm", "int8")) == (1e-3, 0.25)
    assert changed.compute_part("gemm", "float32") == stack.compute["gemm"]
    with pytest.raises(HardwareError, match="no parameter 'speed'"):
        stack.with_parameters({"speed": 1.0})


def test_the_profiles_hold_what_the_fit_to_the_paper_gives() -> None:
    tool = Path(__file__).parents[2] / "tools" / "fit_paper.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=True)
    for name in ("a100", "jetson-agx-orin", "jetson-agx-thor@120W"):
        stack = load_device(name).stack
        fitted = (
            f"{name}: host_s {stack.host_s:.2e} "
            f"compute {stack.compute['gemm']:.3f} memory {stack.memory['gemm']:.3f}"
        )
        assert fitted in done.stdout
    mean, worst = map(float, re.findall(r"(?:mean|worst) ([0-9.]+)%", done.stdout))
    assert mean < 10
    assert worst < 25


def test_a_power_mode_scales_rates_with_clocks_and_multiprocessors() -> None:
    """Figures of nvpmodel's MODE_30W against MAXN: 612 of 1300 MHz, 8 of 16 SMs."""
    full, slow = load_device("jetson-agx-orin"), load_device("jetson-agx-orin@30W+eager")
    assert slow.name == "jetson-agx-orin@30W"
    assert slow.multiprocessors == 8
    for dtype, rate in full.peak.items():
        assert slow.peak[dtype] == pytest.approx(rate * 612 / 1300 / 2)
    assert slow.memory_bandwidth == full.memory_bandwidth
    assert slow.stack.host_s == pytest.approx(full.stack.host_s * 2.2 / 1.728)
    assert load_device("jetson-agx-orin@MAXN") == full
    dim = load_device("jetson-agx-orin@15W")
    assert dim.memory_bandwidth == pytest.approx(full.memory_bandwidth * 2133 / 3200)


sizes = st.integers(1, 5000)
costs = st.builds(
    Cost,
    flops=st.integers(0, 10**13),
    bytes_read=st.integers(0, 10**9),
    bytes_written=st.integers(0, 10**9),
    weight_bytes=st.integers(0, 10**10),
    kernels=st.integers(0, 100),
)
kernels = st.builds(
    Kernel,
    kind=st.sampled_from(KINDS[:-1]),
    cost=costs,
    rate=st.sampled_from(["float32", "bfloat16", "int8", "float64"]),
    m=sizes,
    n=sizes,
    k=sizes,
    batch=st.integers(1, 64),
)
_start = starting_device("cpu", "onnxruntime", measured_machine("", 2))
_threads = {"wake_s": 2e-5, "speedup.gemm": 1.9, "speedup.pointwise": 1.5, "speedup.conv": 2.0}
_cpu = replace(_start, stack=_start.stack.with_parameters(_threads))
devices = st.sampled_from([*(load_device(name) for name in device_names()), _cpu])


@given(kernels, costs, devices)
def test_more_work_never_takes_less(kernel: Kernel, more: Cost, device: Device) -> None:
    both = device_seconds(replace(kernel, cost=kernel.cost + more), device)
    assert both >= device_seconds(kernel, device) >= 0


@given(sizes, sizes, sizes, sizes, devices)
def test_a_larger_product_never_takes_less(
    m: int, n: int, k: int, more: int, device: Device
) -> None:
    def took(m: int, n: int, k: int) -> float:
        kernel = Kernel("gemm", Cost(flops=2 * m * n * k, kernels=1), "bfloat16", m, n, k)
        return device_seconds(kernel, device)

    least = took(m, n, k) * (1 - 1e-12)
    assert min(took(m + more, n, k), took(m, n + more, k), took(m, n, k + more)) >= least
    assert took(m, n, k) >= 2 * m * n * k / device.peak_flops("bfloat16")


@given(st.lists(kernels, min_size=1, max_size=5), devices, st.floats(1, 10), st.floats(1, 10))
def test_a_faster_device_never_takes_longer(
    some: list[Kernel], device: Device, memory: float, compute: float
) -> None:
    faster = replace(
        device,
        peak={name: rate * compute for name, rate in device.peak.items()},
        memory_bandwidth=device.memory_bandwidth * memory,
        cache_bandwidth=device.cache_bandwidth * memory,
    )
    assert sequence_seconds(some, faster) <= sequence_seconds(some, device) * (1 + 1e-12)


@given(st.lists(kernels, min_size=1, max_size=8), devices, st.floats(0, 1e-3))
def test_the_queue_is_that_of_a_host_and_a_device(
    some: list[Kernel], device: Device, host_s: float
) -> None:
    device = replace(device, stack=device.stack.with_parameters({"host_s": host_s}))
    issued = done = device.stack.call_s
    for kernel in some:
        issued += kernel.cost.kernels * host_s
        done = max(done, issued) + device_seconds(kernel, device)
    assert math.isclose(sequence_seconds(some, device), done, rel_tol=1e-9)


def test_one_thread_does_what_is_done_before_the_others_wake() -> None:
    """Up to wake_s / (speedup - 1) of work: there both ways take as long."""

    def work(elements: int, device: Device) -> float:
        moved = {"bytes_read": 4 * elements, "bytes_written": 4 * elements, "kernels": 1}
        kernel = Kernel("pointwise", Cost(8 * elements, **moved), operator="Tanh")
        return device_seconds(kernel, device) - device.stack.launch_s - device.stack.batch_s

    awake = replace(_cpu, stack=_cpu.stack.with_parameters({"wake_s": 0.0}))
    some, many = 1000, 1_000_000
    assert work(some, awake) < 2e-5 / (1.5 - 1) < work(many, awake)
    assert math.isclose(work(some, _cpu), 1.5 * work(some, awake))
    assert math.isclose(work(many, _cpu), work(many, awake) + 2e-5)


def test_several_threads_are_no_slower_than_one() -> None:
    with pytest.raises(HardwareError, match="speedup must not be below 1"):
        _cpu.stack.with_parameters({"speedup.gemm": 0.9})


def test_codes_are_unpacked_in_the_time_of_some_rows() -> None:
    """Whatever rows there are: so products of many rows hardly notice, and one row has its own."""
    stack = _cpu.stack.with_parameters({"rows.gemm.w4a16": 7.0, "rows.gemm.w4a16.vector": 3.0})
    cpu = replace(_cpu, peak={**_cpu.peak, "w4a16": 1e11}, stack=stack)

    def compute(rows: int) -> float:
        cost = Cost(2 * rows * 1000 * 2000, weight_bytes=1_000_000, kernels=1)
        return compute_seconds(
            Kernel("gemm", cost, m=rows, n=1000, k=2000, operator="MatMul", form="w4a16"), cpu
        )

    row = compute(1000) - compute(999)
    assert compute(64) == pytest.approx(compute(57) + 7 * row)
    assert compute(2) - 2 * row == pytest.approx(compute(64) - 64 * row)
    assert compute(1) - row < compute(2) - 2 * row
    with pytest.raises(HardwareError, match="launch, depth and rows must not be negative"):
        stack.with_parameters({"rows.gemm.w4a16": -1.0})


def test_a_large_product_takes_its_share_of_the_peak_and_a_gemv_that_of_the_bandwidth() -> None:
    device = load_device("a100")
    size, stack = 16384, device.stack
    large = Kernel("gemm", Cost(flops=2 * size**3, kernels=1), "bfloat16", size, size, size)
    least = 2 * size**3 / (device.peak["bfloat16"] * stack.compute["gemm"])
    assert least < device_seconds(large, device) < 1.2 * least
    weights = 2 * size**2
    gemv = Kernel("gemm", Cost(2 * size**2, 0, 0, weights, 1), "bfloat16", 1, size, size)
    least = weights / (device.memory_bandwidth * stack.memory["gemm"])
    assert least < device_seconds(gemv, device) < 1.1 * least


def test_what_the_cache_holds_between_executions_comes_from_it() -> None:
    device = load_device("a100")
    kernel = Kernel("gemm", Cost(0, 0, 0, 10**7, 1), "bfloat16")
    part = device.stack.memory["gemm"]
    start = device.stack.half_bytes / device.memory_bandwidth
    assert memory_seconds(kernel, device, 10**7) == pytest.approx(
        (1e7 / device.cache_bandwidth + start) / part
    )
    assert memory_seconds(kernel, device) == pytest.approx(
        (1e7 / device.memory_bandwidth + start) / part
    )


def test_the_interval_holds_90_percent_of_a_log_normal_spread() -> None:
    device = load_device("a100")
    device = replace(device, stack=device.stack.with_parameters({"spread": 0.1}))
    low, high = interval(2.0, device)
    inside = NormalDist(0, 0.1).cdf(math.log(high / 2)) - NormalDist(0, 0.1).cdf(math.log(low / 2))
    assert inside == pytest.approx(0.9, abs=1e-3)


NVPMODEL = """
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/17000000.ga10b/devfreq/17000000.ga10b/max_freq
< POWER_MODEL ID=0 NAME=MAXN >
TPC_POWER_GATING TPC_PG_MASK 0
GPU MAX_FREQ -1
EMC MAX_FREQ 0
< POWER_MODEL ID=1 NAME=MODE_15W >
CPU_ONLINE CORE_4 0
TPC_POWER_GATING TPC_PG_MASK 248
GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1113600
GPU MIN_FREQ 0
GPU MAX_FREQ 408000000
EMC MAX_FREQ 2133000000
< PM_CONFIG DEFAULT=0 >
"""


def test_a_board_gives_its_own_power_modes(tmp_path: Path) -> None:
    profile = load_profile("jetson-agx-orin")
    (tmp_path / "nvpmodel.conf").write_text(NVPMODEL)
    found = with_power_modes(profile, tmp_path / "nvpmodel.conf")
    assert found.mode_names() == ("MAXN", "15W")
    assert found.modes["MAXN"] == profile.modes["MAXN"]
    source = profile.modes["15W"].source
    assert replace(found.modes["15W"], source=source) == profile.modes["15W"]
    (tmp_path / "mine.toml").write_text(profile_text(found))
    mine = load_device(f"{tmp_path}/mine.toml@15W")
    assert mine.peak == load_device("jetson-agx-orin@15W").peak


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no power modes"),
        ("\0\xff", "has no power modes"),
        (NVPMODEL.replace("GPU MAX_FREQ 408000000", ""), "15W sets no MAX_FREQ of the GPU"),
        (NVPMODEL.replace("248", "255"), "must be above 0"),
    ],
)
def test_a_broken_file_of_power_modes_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "nvpmodel.conf").write_text(text)
    with pytest.raises(HardwareError, match=says):
        with_power_modes(load_profile("jetson-agx-orin"), tmp_path / "nvpmodel.conf")


def test_a_server_has_no_power_modes_to_replace(tmp_path: Path) -> None:
    (tmp_path / "nvpmodel.conf").write_text(NVPMODEL)
    with pytest.raises(HardwareError, match="a100 has no power modes"):
        with_power_modes(load_profile("a100"), tmp_path / "nvpmodel.conf")
