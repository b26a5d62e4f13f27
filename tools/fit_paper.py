"""Fits A100, Orin and Thor on RoboECC's whole-model rows, and predicts the rows with a cut.

    .venv/bin/python tools/fit_paper.py

The rows are those of tools/roboecc.toml, the kernels those of tools/eager_kernels.py. Of a device
three figures are fitted to its two `calibrate` rows (OpenVLA and CogACT on this device alone), by
least squares on the logarithms, with a prior on each: see PRIORS. Orin runs at its data sheet's
clock and Thor in its mode of 120 W, as table I says. The figures of the `eager` stacks of the three
profiles are what this prints.

What the sides of a cut hold follows from the loads that the paper prints (see tools/paper_loads.py
for OpenVLA and CogACT against them), not from its times; see `cells`.

The predictions are not blind: the tables were known when kernels and priors were written down. The
cells that resist are those of `fixed`: half of the layers takes 64 % (OpenVLA on the A100) of the
time that the paper prints for all of them, and kernels that add up give half.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomllib
from eager_kernels import PREPROCESSING, Pieces, pieces
from scipy.optimize import least_squares

from vlacut.hardware import KINDS, Device, load_device
from vlacut.pricing.roofline import sequence_seconds

TABLES = Path(__file__).parent / "roboecc.toml"
NAMES = {"": "a100", "orin": "jetson-agx-orin", "thor": "jetson-agx-thor@120W"}
# Expected value, and standard deviation of the logarithm: seconds in which the host issues a kernel
# (PyTorch needs about 5 us on a server; Arm cores are slower), part of the bandwidth, and part of
# the peak rate that products reach (hardly anything is known).
HOST_S = {"": (5e-6, 0.4), "orin": (16e-6, 0.4), "thor": (12e-6, 0.4)}
MEMORY, COMPUTE = (0.85, 0.08), (0.3, 1.0)
ROW_SPREAD = 0.02
DECODES = {"openvla": 6, "cogact": 1}
DENOISES = {"openvla": 0, "cogact": 10}
LAYERS = 32


@dataclass(frozen=True)
class Times:
    """Seconds of the pieces of both models on a device."""

    vision: float
    prefill_layer: float
    decode_layer: float
    head: float
    denoise: float

    def layers(self, model: str, count: int) -> float:
        """So many of the LLM's layers, in prefill and decode."""
        return count * (self.prefill_layer + DECODES[model] * self.decode_layer)

    def ends(self, model: str) -> float:
        """The LLM's head for every word, and the action head."""
        return (1 + DECODES[model]) * self.head + DENOISES[model] * self.denoise

    def whole(self, model: str) -> float:
        """All of a model."""
        return self.vision + self.layers(model, LAYERS) + self.ends(model)


def times(made: Pieces, device: Device) -> Times:
    """Seconds of the pieces, each starting on an idle device."""
    found = [sequence_seconds(kernels, device) for kernels in made]
    return Times(found[0] + PREPROCESSING * device.stack.host_s, *found[1:])


def fit(made: Pieces, short: str, rows: Mapping[str, float]) -> Device:
    """The device with the figures that fit its rows, ms by model, and the priors best."""
    device, priors = load_device(NAMES[short]), (HOST_S[short], MEMORY, COMPUTE)

    def misses(x: Sequence[float]) -> list[float]:
        found = times(made, _with(device, x))
        return [
            *(math.log(found.whole(model) * 1e3 / ms) / ROW_SPREAD for model, ms in rows.items()),
            *((at - math.log(mean)) / spread for at, (mean, spread) in zip(x, priors, strict=True)),
        ]

    start = [math.log(mean) for mean, _ in priors]
    return _with(device, least_squares(misses, start, diff_step=1e-3).x)


def _with(device: Device, x: Sequence[float]) -> Device:
    host_s, memory, compute = (math.exp(item) for item in x)
    values = {f"memory.{kind}": min(memory, 1.0) for kind in KINDS}
    values |= {f"compute.{kind}": min(compute, 1.0) for kind in ("gemm", "conv", "attention")}
    return replace(device, stack=device.stack.with_parameters(values | {"host_s": host_s}))


def cells(row: Mapping[str, str], cloud: Times, edge: Times) -> tuple[float, float]:
    """Seconds of the cloud and of the edge in a row with a cut.

    `roboecc`: all layers in the cloud (12.1 GB), the rest on the edge. `fixed`: half of the layers
    on either side; OpenVLA's 6.3 GB in the cloud are the second half and the LLM's head, CogACT's
    6.6 GB on the edge the second half and the action head.
    """
    model = row["model"]
    if row["method"] == "roboecc":
        return cloud.layers(model, LAYERS), edge.vision + edge.ends(model)
    first, second = (edge, cloud) if model == "openvla" else (cloud, edge)
    half = LAYERS // 2
    one = first.vision + first.layers(model, half)
    other = second.layers(model, half) + second.ends(model)
    return (other, one) if model == "openvla" else (one, other)


def show_fit(device: Device, found: Times, rows: Mapping[str, float]) -> None:
    """Print what was fitted, and how well."""
    stack = device.stack
    print(
        f"{device.name}: host_s {stack.host_s:.2e} compute {stack.compute['gemm']:.3f} "
        f"memory {stack.memory['gemm']:.3f}"
    )
    for model, ms in rows.items():
        value = found.whole(model) * 1e3
        print(f"  whole {model}: {value:.1f} ms, paper {ms} ({value / ms - 1:+.1%})")
    print(
        f"  vision {1e3 * found.vision:.1f} prefill {1e3 * LAYERS * found.prefill_layer:.1f} "
        f"decode {1e3 * LAYERS * found.decode_layer:.1f} head {1e3 * found.head:.2f} "
        f"denoise {1e3 * found.denoise:.2f} ms"
    )


def predictions(
    rows: Sequence[Mapping[str, str]], by_device: Mapping[str, Times]
) -> Iterator[tuple[str, float, float]]:
    """Cell, paper and predicted, ms, of every row to predict."""
    for row in rows:
        found = cells(row, by_device[""], by_device[row["edge"]])
        for side, seconds in zip(("cloud", "edge"), found, strict=True):
            name = f"{row['model']:8}{row['edge']:6}{row['method']:8}{side}"
            yield name, float(row[f"{side}_ms"]), seconds * 1e3


def main() -> None:
    """Fit the three devices, predict, print."""
    rows = tomllib.loads(TABLES.read_text())["row"]
    made, by_device = pieces(), {}
    for short in NAMES:
        whole = {
            row["model"]: row["total_ms"]
            for row in rows
            if row["use"] == "calibrate" and row.get("edge", "") == short
        }
        device = fit(made, short, whole)
        by_device[short] = times(made, device)
        show_fit(device, by_device[short], whole)
    logs = []
    for cell, paper, value in predictions([r for r in rows if r["use"] == "predict"], by_device):
        logs.append(math.log(value / paper))
        print(f"{cell:27} paper {paper:6.1f} predicted {value:6.1f} {value / paper - 1:+6.1%}")
    errors = [abs(math.expm1(item)) for item in logs]
    spread = math.sqrt(sum(item**2 for item in logs) / len(logs))
    print(f"mean {sum(errors) / len(errors):.1%}, worst {max(errors):.1%}, spread {spread:.3f}")


if __name__ == "__main__":
    main()
