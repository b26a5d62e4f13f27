"""Calibration: the sampling plan runs, the stopwatch counts, and the fit finds what is true."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from vlacut.errors import BackendError, InputError
from vlacut.hardware import Device, Profile, load_device, profile_text
from vlacut.measurement import background_load as background
from vlacut.measurement.background_load import watch_background_load
from vlacut.measurement.calibration.blocks import blocks
from vlacut.measurement.calibration.calibrating import (
    calibration_samples,
    forms_of,
    observe,
    starting_device,
)
from vlacut.measurement.calibration.codes import FORMS, products_of_codes
from vlacut.measurement.calibration.fitting import Fit, fit
from vlacut.measurement.calibration.machine import measured_machine
from vlacut.measurement.calibration.measuring import measure_samples
from vlacut.measurement.calibration.predicting import Observation, Predictions
from vlacut.measurement.calibration.samples import (
    batched_products,
    convolutions,
    elementwise,
    movements,
    rowwise,
)
from vlacut.measurement.stopwatch import measure
from vlacut.pricing.roofline import Cost, Kernel, device_seconds, sequence_seconds
from vlacut.split.workshop import Workshop


def _machine() -> Device:
    """A made-up machine, unlike the one that a fit starts from."""
    start = starting_device("true", "onnxruntime", measured_machine("", 2))
    truth = {
        "launch_s": 2e-6,
        "call_s": 2e-5,
        "overlap": 0.2,
        "memory.gemm": 0.3,
        "compute.pointwise.Gelu": 0.02,
        "launch.pointwise.Gelu": 1e-6,
        "compute.reduction.Softmax": 0.01,
        "launch.reduction.Softmax": 4e-6,
        "memory.movement.Transpose": 0.25,
        "launch.movement.Transpose": 3e-6,
        "wake_s": 2e-5,
        "speedup.gemm": 1.8,
        "speedup.pointwise.Gelu": 1.6,
    }
    return dataclasses.replace(
        start,
        peak={"float32": 7e11},
        memory_bandwidth=9e9,
        cache_bandwidth=6e10,
        cache_bytes=8_000_000,
        stack=start.stack.with_parameters(truth),
    )


def _kernels() -> Iterator[tuple[Kernel, ...]]:
    for rows in (1, 4, 64, 512):
        for width in (64, 512, 2048):
            cost = Cost(2 * rows * width**2, 4 * rows * width, 4 * rows * width, 4 * width**2, 1)
            yield (Kernel("gemm", cost, m=rows, n=width, k=width, operator="MatMul"),) * 4
    for elements in (64, 4096, 65536, 1 << 20):
        moved = {"bytes_read": 4 * elements, "bytes_written": 4 * elements, "kernels": 1}
        for kind, operator, flops in (
            ("pointwise", "Gelu", 8),
            ("reduction", "Softmax", 12),
            ("movement", "Transpose", 0),
        ):
            kernel = Kernel(kind, Cost(flops * elements, **moved), operator=operator)
            yield (kernel,) * (32 if elements < 1000 else 4)


def _observations(truth: Device, noise: float) -> tuple[Observation, ...]:
    numbers = np.random.default_rng(0)
    found = []
    for index, kernels in enumerate(_kernels()):
        weights = sum(kernel.cost.weight_bytes for kernel in kernels)
        seconds = sequence_seconds(kernels, truth, weights)
        seconds *= math.exp(noise * numbers.standard_normal())
        found.append(Observation(str(index), kernels, weights, seconds))
    return tuple(found)


def _fitted(operators: Sequence[Observation], blocks: Sequence[Observation]) -> Fit:
    half = len(blocks) // 2
    start = starting_device("here", "onnxruntime", measured_machine("", 2))
    return fit(operators, (blocks[:half], blocks[half:]), start)


def test_the_fit_finds_the_machine_that_was_measured() -> None:
    truth = _machine()
    observations = _observations(truth, 0.0)
    found = _fitted(observations, observations[::3])
    assert np.median(np.abs(found.errors)) < 0.02
    assert max(map(abs, found.errors)) < 0.15
    assert found.device.stack.spread < 0.05
    assert math.isclose(found.device.peak["float32"], 7e11, rel_tol=0.1)
    assert math.isclose(found.parameters["call_s"], 2e-5, rel_tol=0.2)
    assert math.isclose(found.parameters["speedup.gemm"], 1.8, rel_tol=0.1)
    assert math.isclose(found.parameters["launch.reduction.Softmax"], 4e-6, rel_tol=0.1)
    cost = Cost(2 * 200 * 1000**2, 800_000, 800_000, 4_000_000, 1)
    for unseen in (  # sizes that were not measured
        Kernel("gemm", cost, m=200, n=1000, k=1000, operator="MatMul"),
        Kernel("pointwise", Cost(8 * 300_000, 1_200_000, 1_200_000, 0, 1), operator="Gelu"),
    ):
        ratio = device_seconds(unseen, found.device, 4e6) / device_seconds(unseen, truth, 4e6)
        assert math.isclose(ratio, 1, rel_tol=0.05)


def test_products_of_codes_have_rates_of_their_own() -> None:
    truth = _machine()
    parts = {"rows.gemm.w4a8": 6.0, "rows.gemm.w4a8.vector": 1.5, "speedup.gemm.w4a8": 1.9}
    more = {"launch.gemm.w4a8": 5e-6, "depth.gemm.w4a8": 60.0}
    truth = dataclasses.replace(
        truth,
        peak={**truth.peak, "w4a8": 9e11},
        stack=truth.stack.with_parameters(parts | more),
    )
    observations = list(_observations(truth, 0.0))
    for rows in (1, 4, 64, 512):
        for width in (64, 512, 2048):
            cost = Cost(2 * rows * width**2, 4 * rows * width, 4 * rows * width, width**2 // 2, 1)
            sizes = {"m": rows, "n": width, "k": width, "operator": "MatMul", "form": "w4a8"}
            kernels = (Kernel("gemm", cost, **sizes),) * 4  # type: ignore[arg-type]
            seconds = sequence_seconds(kernels, truth, 2 * width**2)
            observations.append(Observation(f"w4a8 {rows}", kernels, 2 * width**2, seconds))
    found = _fitted(observations, observations[::3])
    assert math.isclose(found.device.peak["w4a8"], 9e11, rel_tol=0.1)
    assert math.isclose(found.device.peak["float32"], 7e11, rel_tol=0.1)
    errors = [one for one, of in zip(found.errors, observations, strict=False) if "w4a8" in of.name]
    assert max(map(abs, errors)) < 0.1
    unseen = Kernel(
        "gemm", Cost(2 * 20 * 1000**2, 0, 0, 500_000, 1), form="w4a8", m=20, n=1000, k=1000
    )
    ratio = device_seconds(unseen, found.device, 4e6) / device_seconds(unseen, truth, 4e6)
    assert math.isclose(ratio, 1, rel_tol=0.1)


def test_samples_of_codes_are_seen_in_their_form_and_run() -> None:
    first = {}
    for sample in products_of_codes():
        first.setdefault(sample.name.split()[0], sample)
    assert tuple(first) == FORMS
    measured = measure_samples(tuple(first.values()), "onnxruntime", 1, 1)
    for form, item in zip(
        FORMS, observe(first.values(), [one.shortest for one in measured]), strict=True
    ):
        assert [kernel.form for kernel in item.kernels if kernel.kind == "gemm"] == [form, form]
        assert item.seconds > 0


def test_the_spread_is_that_of_families_that_were_left_out() -> None:
    """Two families that contradict each other, each of which the fit follows half of the way."""
    observations = _observations(_machine(), 0.0)
    blocks = [
        dataclasses.replace(item, seconds=factor * item.seconds)
        for factor in (0.8, 1.25)
        for item in observations[::2]
    ]
    found = _fitted(observations, blocks)
    alike = _fitted(observations, [*observations[::2], *observations[::2]])
    assert found.device.stack.spread > 0.15
    assert found.device.stack.spread > 2 * alike.device.stack.spread
    largest = max(map(abs, found.errors[len(observations) :]))
    assert found.device.stack.spread > largest / 1.645


def test_derivatives_are_those_of_the_predictions() -> None:
    truth = _machine()
    observations = _observations(truth, 0.0)
    names = (
        *("launch_s", "call_s", "speedup.gemm", "wake_s", "memory.gemm", "launch.pointwise.Gelu"),
        *("launch.reduction.Softmax", "memory.movement.Transpose", "compute.pointwise.Gelu"),
    )

    def device(x: np.ndarray) -> Device:
        values = dict(zip(names, np.exp(x), strict=True))
        return dataclasses.replace(truth, stack=truth.stack.with_parameters(values))

    def seconds(x: np.ndarray) -> np.ndarray:
        there = device(x)
        items = ((item.kernels, there, item.working_set) for item in observations)
        return np.array([sequence_seconds(*item) for item in items])

    x = np.log([truth.stack.parameters()[name] for name in names])
    predictor = Predictions(observations, names)
    np.testing.assert_allclose(predictor.seconds(truth), seconds(x), rtol=1e-12)
    found = predictor.derivatives(x, device)
    for column, step in enumerate(1e-5 * np.eye(len(names))):
        slope = (np.log(seconds(x)) - np.log(seconds(x - step))) / 1e-5
        np.testing.assert_allclose(found[:, column], slope, atol=1e-3)
    assert np.all(np.abs(found).max(axis=0) > 0.01)


def test_what_is_slower_among_others_is_fitted_to_blocks() -> None:
    """Blocks that take a quarter more than their operators: what is predicted is the blocks."""
    truth = _machine()
    observations = _observations(truth, 0.0)
    blocks = [
        Observation("block", kernels, 1 << 20, 1.25 * sequence_seconds(kernels, truth, 1 << 20))
        for kernels in (one.kernels + other.kernels for one, other in _pairs(observations))
    ]
    found = _fitted(observations, blocks)
    errors = np.array(found.errors)
    assert np.median(np.abs(errors[len(observations) :])) < 0.03
    assert 0.03 < np.median(errors[: len(observations)]) < 0.25


def _pairs(observations: Sequence[Observation]) -> Iterator[tuple[Observation, Observation]]:
    yield from zip(observations[:12], observations[12:], strict=True)


def test_one_wild_measurement_does_not_bend_the_fit_and_noise_widens_its_interval() -> None:
    observations = list(_observations(_machine(), 0.05))
    observations[5] = dataclasses.replace(observations[5], seconds=20 * observations[5].seconds)
    found = _fitted(observations, observations[6:])
    others = [abs(error) for index, error in enumerate(found.errors) if index != 5]
    assert abs(found.errors[5]) > 2
    assert np.median(others) < 0.08
    assert 0.02 < found.device.stack.spread < 0.15
    assert set(found.deviations) == set(found.parameters)
    assert all(0 <= deviation < math.inf for deviation in found.deviations.values())


def test_a_fitted_profile_reads_back_as_written(tmp_path: Path) -> None:
    observations = _observations(_machine(), 0.0)
    found = _fitted(observations, observations).device
    names = ("peak", "memory_bandwidth", "memory_bytes", "cache_bytes", "cache_bandwidth")
    source = dict.fromkeys((*names, "multiprocessors"), "a test")
    device = dataclasses.replace(found, source=source)
    stacks = {device.stack.name: device.stack}
    (tmp_path / "here.toml").write_text(profile_text(Profile(device, "", {}, stacks)))
    read = load_device(str(tmp_path / "here.toml"))
    assert read.stack == device.stack
    for kernels in _kernels():
        assert sequence_seconds(kernels, read) == sequence_seconds(kernels, device)


@pytest.mark.slow
def test_samples_run_and_are_seen_as_the_kernels_they_are() -> None:
    plan = chain(batched_products(), convolutions(), elementwise(), rowwise(), movements())
    few = [sample for sample in plan if " 16x" in sample.name or "56" in sample.name[:12]]
    samples = [*few, *(sample for sample in blocks() if "x64 " in sample.name)]
    measured = measure_samples(samples, "onnxruntime", 2, 1)
    assert all(0 < times.shortest <= times.seconds for times in measured)
    observed = list(observe(samples, [times.shortest for times in measured]))
    seen = {kernel.kind for item in observed for kernel in item.kernels}
    assert seen == {"gemm", "conv", "pointwise", "reduction", "movement"}
    assert all(item.kernels for item in observed)


def test_a_back_end_that_runs_nothing_is_named() -> None:
    with pytest.raises(InputError, match="back end onnx runs nothing here"):
        measure_samples(tuple(batched_products())[:1], "onnx", 3)


@pytest.mark.parametrize(("backend", "forms"), [("onnxruntime", FORMS), ("torch", FORMS[:1])])
def test_forms_that_a_back_end_has_not_are_left_out(backend: str, forms: tuple[str, ...]) -> None:
    """PyTorch has no scales by block here, and is measured all the same."""
    assert forms_of(backend, 1) == forms
    found = {sample.name.split()[0] for sample in calibration_samples(forms)} & {*FORMS}
    assert found == {*forms}


def test_a_provider_is_taken_or_refused() -> None:
    """On a GPU inputs are there before a run, and what it makes stays there."""
    sample = tuple(batched_products())[:1]
    (found,) = measure_samples(sample, "onnxruntime", 1, 1, provider="cpu")
    assert found.seconds > 0
    with pytest.raises(InputError, match="provider rocm: back end onnxruntime has cuda, tensorrt"):
        measure_samples(sample, "onnxruntime", 1, provider="rocm")
    with pytest.raises(BackendError, match="cuda"):
        measure_samples(sample, "onnxruntime", 1, provider="cuda")


def test_engines_of_a_device_are_measured_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy up for each input, none for a run; the lane is closed at the end."""
    seen: list[str] = []

    class Opened:
        def take(self, key: str, array: np.ndarray) -> str:
            seen.append(f"take {array.shape}")
            return f"{key} there"

        def run(self, inputs: dict[str, str]) -> None:
            assert all(value.endswith("there") for value in inputs.values())
            seen.append("run")

    class Lane:
        def close(self) -> None:
            seen.append("close")

    class Engine:
        def open(self, join: Callable[[str, Callable[[], Lane]], Lane]) -> Opened:
            join("gpu", Lane)
            return Opened()

    monkeypatch.setattr(Workshop, "engine", lambda *_: Engine())
    (found,) = measure_samples(tuple(batched_products())[4:5], "onnxruntime", 1)
    assert found.seconds > 0
    assert "run" in seen
    count = sum(one.startswith("take") for one in seen)
    assert seen[:count] == ["take (1, 12, 1, 64)", *seen[1:count]]
    assert seen[count:] == ["run"] * (len(seen) - count - 1) + ["close"]


def test_the_stopwatch_takes_the_shortest_run_of_a_turn() -> None:
    """Two jobs on a clock that stands still but for them; the first is disturbed every 7th time."""
    clock, calls = [0.0], [0]

    def disturbed() -> None:
        calls[0] += 1
        clock[0] += 1.0 if calls[0] % 7 == 0 else 1e-3

    def slow() -> None:
        clock[0] += 0.25

    watch = lambda: lambda: None  # noqa: E731 # a system that does not tell
    first, second = measure((disturbed, slow), 5, clock=lambda: clock[0], watch=watch)
    assert math.isclose(first.seconds, 1e-3)
    assert math.isclose(first.low, 1e-3)
    assert math.isclose(second.shortest, 0.25)
    assert (first.turns, second.turns) == (5, 5)
    assert first.background_load is None


@pytest.mark.parametrize(
    ("shares", "taken", "mean"),
    [
        ([0.0, 0.0, 0.04], [1, 2, 3], 0.04 / 3),
        ([0.0, 0.6, 0.0, 0.02], [1, 3, 4], 0.02 / 3),
        ([0.6, 0.5, 0.4, 0.3, 0.2], [3, 4, 5], 0.3),
    ],
)
def test_turns_that_others_disturbed_are_replaced(
    shares: list[float], taken: list[int], mean: float
) -> None:
    """Turn by turn a job takes a second more, so that its seconds say which turns counted."""
    clock, turn = [0.0], [0]

    def watch() -> Callable[[], float]:
        turn[0] += 1
        return lambda: shares[turn[0] - 1]

    def job() -> None:
        clock[0] += float(turn[0])

    (found,) = measure((job,), 3, clock=lambda: clock[0], watch=watch)
    assert turn[0] == len(shares)
    assert (found.shortest, found.seconds) == (min(taken), sorted(taken)[1])
    assert found.background_load is not None
    assert math.isclose(found.background_load, mean)


def test_others_are_what_is_busy_beside_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, spent = tmp_path / "stat", {"perf_counter": 0.0, "process_time": 0.0}
    monkeypatch.setattr(background, "_STAT", stat)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    for name in spent:
        monkeypatch.setattr(time, name, lambda name=name: spent[name])
    assert watch_background_load()() is None

    stat.write_text("cpu  100 0 50 9000 70 10 20 5 100 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    share = watch_background_load()
    spent.update(perf_counter=2.0, process_time=1.5)
    # Of 8 processor-seconds: 2.5 of users, 0.2 of the system, 0.3 stolen, and 1.5 of all its own.
    stat.write_text("cpu  350 0 70 9500 90 10 20 35 350 0 0\n")
    found = share()
    assert found is not None
    assert math.isclose(found, (2.5 + 0.2 + 0.3 - 1.5) / 8)
