"""Fits what products reach on an A100 to published measurements, and prints the errors.

    .venv/bin/python tools/fit_products.py matmul_A100.csv

The file is ae/figure5/ab/real_hardware/matmul_A100.csv of LLMCompass (arXiv 2312.03134): lines of
M, N, K, ms, TFLOP/s, float16, each time with what it took to start the measurement. Fitted: part of
the peak rate and of the bandwidth, half_depth, and that start; half_tile, which these sizes do not
tell from 0, stays the profile's. The `cuda-graph` stack of a100 holds what this prints.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scipy.optimize import least_squares

from vlacut.hardware import Device, load_device
from vlacut.pricing.roofline import Cost, Kernel, device_seconds

NAMES = ("compute.gemm", "memory.gemm", "half_depth", "launch_s")
START = (0.9, 0.85, 64.0, 2e-5)
BOUNDS = ((0.3, 0.3, 1.0, 1e-6), (1.0, 1.0, 1e3, 1e-4))


def measured(path: Path) -> list[tuple[Kernel, float]]:
    """The products of the file, and their seconds."""
    found = []
    for line in path.read_text().splitlines():
        m, n, k, took, _ = (item.strip() for item in line.split(","))
        rows, columns, depth = int(m), int(n), int(k)
        cost = Cost(
            flops=2 * rows * columns * depth,
            bytes_read=2 * rows * depth,
            bytes_written=2 * rows * columns,
            weight_bytes=2 * columns * depth,
            kernels=1,
        )
        kernel = Kernel("gemm", cost, "float16", rows, columns, depth)
        found.append((kernel, float(took.removesuffix("ms")) * 1e-3))
    return found


def fitted(device: Device, x: Sequence[float]) -> Device:
    """The device with the parameters whose logarithms these are."""
    values = dict(zip(NAMES, map(math.exp, x), strict=True))
    return replace(device, stack=device.stack.with_parameters(values))


def main() -> None:
    """Fit and print."""
    rows, device = measured(Path(sys.argv[1])), load_device("a100+cuda-graph")

    def misses(x: Sequence[float]) -> list[float]:
        tried = fitted(device, x)
        return [math.log(device_seconds(kernel, tried) / took) for kernel, took in rows]

    logs = [[math.log(value) for value in values] for values in (START, *BOUNDS)]
    found = least_squares(misses, logs[0], bounds=(logs[1], logs[2]), diff_step=1e-3)
    for name, value in zip(NAMES, found.x, strict=True):
        print(f"{name} {math.exp(value):.3g}")
    for (kernel, took), miss in zip(rows, found.fun, strict=True):
        sizes = f"{kernel.m} x {kernel.n} x {kernel.k}"
        print(f"{sizes:23} measured {took * 1e3:8.4f} ms, error {math.expm1(miss):+.1%}")
    print(f"root mean square {math.sqrt(sum(found.fun**2) / len(rows)):.1%}")


if __name__ == "__main__":
    main()
