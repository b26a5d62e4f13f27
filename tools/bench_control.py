"""What the control loop costs, with an inference beside it: ticks, samples, and their share.

A bundle's both sides run on this machine, the cloud as a process of its own on loopback; every
inference takes what the plan says (`--emulate`), or what the engines take. Ticks come at `--rate`,
samples of seven joints at 500 a second on a thread of their own. Reported are

- the time of a tick beyond copying the observation (a copy of it is timed right before each tick),
  and what of it is left without the time in which its thread was ready and had no processor, as the
  kernel counts it (/proc/thread-self/schedstat): on a busy machine that is the other programs';
- with `--intervals 5,0.2` the same for these switch intervals of the interpreter, in ms, in turns
  of a second within one run, so that load is alike for all;
- the processor time of `sense`, as a share of one processor at 500 samples a second;
- both together as a share of the inferences that were saved: those that ticks would have made.

RAPID states 5 to 7 % for the last (table IV of arXiv 2603.07949).

    python tools/bench_control.py policy.vlacut --chunk action,axis=1 --seconds 30
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np

from vlacut import ControlLoop, connect
from vlacut.control.controllers.naming import CONTROLLERS, RAPID
from vlacut.control.report import CommandReport, tally
from vlacut.control.signals.motion import MotionMeter
from vlacut.emulation.observation import planned_observation

SENSED = 500.0
JOINTS = 7
ALONE = 20_000  # samples that are scored to time one


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--chunk", default="", help="output with the commands")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--controller", choices=CONTROLLERS, default=RAPID)
    parser.add_argument("--intervals", default="", help="switch intervals in ms, in turns")
    parser.add_argument("--emulate", action="store_true", help="take the plan's times")
    asked = parser.parse_args()
    with (
        cloud(asked.bundle, asked.emulate) as address,
        connect(asked.bundle, address, emulate=asked.emulate) as policy,
    ):
        chunk = asked.chunk or next(iter(policy.plan.outputs))
        observation = planned_observation(policy.plan)
        with ControlLoop(policy, chunk, asked.rate, asked.controller) as loop:
            loop.prime(observation)
            intervals = [float(one) * 1e-3 for one in asked.intervals.split(",") if one]
            beyond, ready, reports = ticks(loop, observation, asked.rate, asked.seconds, intervals)
    report(beyond, ready, reports, asked.rate)
    turn = np.arange(len(beyond)) // round(asked.rate)
    for place, interval in enumerate(intervals):
        mine = turn % len(intervals) == place
        print(f"switch interval {interval * 1e3:g} ms")
        show(beyond[mine], ready[mine])


def ticks(
    loop: ControlLoop,
    observation: dict[str, np.ndarray],
    rate: float,
    seconds: float,
    intervals: Sequence[float],
) -> tuple[np.ndarray, np.ndarray, list[CommandReport]]:
    """Seconds of every tick beyond a copy of the observation, those of it in which the thread was
    ready and did not run, and the reports.
    """
    beyond, ready, reports = [], [], []
    with sensing(loop), Path("/proc/thread-self/schedstat").open("rb", buffering=0) as waits:
        due = time.perf_counter()
        for tick in range(round(rate * seconds)):
            if intervals and tick % round(rate) == 0:
                sys.setswitchinterval(intervals[tick // round(rate) % len(intervals)])
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + 1 / rate, time.perf_counter())
            began = time.perf_counter()
            copied = {name: np.array(array) for name, array in observation.items()}
            before = _waited_s(waits)
            between = time.perf_counter()
            loop.tick(copied)
            ended = time.perf_counter()
            ready.append(_waited_s(waits) - before)
            copying = between - began if loop.last.asked is not None else 0.0
            beyond.append(ended - between - copying)
            reports.append(loop.last)
    return np.array(beyond), np.array(ready), reports


def _waited_s(waits: FileIO) -> float:
    """For how long the thread that opened the file was ready and did not run, so far."""
    waits.seek(0)
    return int(waits.read(64).split()[1]) * 1e-9


@contextmanager
def sensing(loop: ControlLoop) -> Iterator[None]:
    """While entered, the joints are sensed on a thread."""
    over = threading.Event()
    numbers = np.random.default_rng(0)
    velocities, torques = numbers.standard_normal((2, 4096, JOINTS))

    def sense() -> None:
        due, place = time.perf_counter(), 0
        while not over.is_set():
            loop.sense(None, velocities[place % 4096], torques[place % 4096])
            place += 1
            due = max(due + 1 / SENSED, time.perf_counter() - 1 / SENSED)
            time.sleep(max(0.0, due - time.perf_counter()))

    thread = threading.Thread(target=sense, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sample_s() -> float:
    """Processor time of a sample of the joints."""
    meter, numbers = MotionMeter(SENSED), np.random.default_rng(0)
    velocities, torques = numbers.standard_normal((2, ALONE, JOINTS))
    began = time.process_time()
    for place in range(ALONE):
        meter.sense(None, velocities[place], torques[place], (place + 1) * 2_000_000)
    return (time.process_time() - began) / ALONE


def show(beyond: np.ndarray, ready: np.ndarray) -> None:
    """Print the quantiles of ticks."""
    for what, spent in (("", beyond), (" and waiting for a processor", beyond - ready)):
        low, high, higher = np.quantile(spent, (0.5, 0.99, 0.999)) * 1e3
        figures = f"median {low:.3f}, p99 {high:.3f}, p99.9 {higher:.3f}"
        print(f"tick beyond the copy{what}, ms: {figures}, longest {spent.max() * 1e3:.3f}")


def report(
    beyond: np.ndarray, ready: np.ndarray, reports: list[CommandReport], rate: float
) -> None:
    """Print what was found."""
    counted, sample = tally(reports), sample_s()
    steps = [one.step.latency_s for one in reports if one.step is not None]
    step_s = float(np.median(steps)) if steps else 0.0
    spent = len(beyond) * (float(np.median(beyond)) + SENSED / rate * sample)
    saved = counted.free * len(beyond) * step_s
    print(f"{len(beyond)} ticks, an inference under way in {_share(reports):.1%} of them")
    show(beyond, ready)
    print(f"a sample {sample * 1e6:.2f} us: {sample * SENSED:.3%} of a processor at 500 a second")
    share = f"{spent / saved:.2%} of the {saved:.2f} s" if saved else f"{spent:.2f} s; none"
    print(f"ticks and samples: {share} of inferences they saved")
    age = " ".join(f"{one * 1e3:.1f}" for one in counted.age_s)
    print(f"age of commands, ms: mean, p95, p99 {age}; no inference in {counted.free:.1%} of ticks")


def _share(reports: list[CommandReport]) -> float:
    return sum(one.in_flight is not None for one in reports) / max(1, len(reports))


@contextmanager
def cloud(bundle: Path, emulate: bool) -> Iterator[str]:
    """The bundle's cloud side, as a process; its address."""
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle), "--port", "0", "--json"]
    words += ["--emulate"] if emulate else []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
