"""The ways that `bench_precision.py` compares: compiled, run in turns, and priced.

Beside the steps of all ways, the samples of a calibration are run in the same turns, so that a
moment in which the machine is slower is one for both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from decode_heavy import Decoder, Size
from one_thread import with_one_thread

import vlacut
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware.profile_file import profile_text
from vlacut.measurement.calibration.calibrating import calibration_samples, fit_profile, forms_of
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.calibration.measuring import clock_of, sample_runs
from vlacut.measurement.stopwatch import measure

_BACKEND = "onnxruntime"
_LINK = "10MB/s,20ms"
_STAND_IN = "jetson-agx-orin"
_TRIPS = 6
FLOAT = "float32"
_INT4 = "weights=int4 method=rtn observations=1 group=GROUP"
WAYS = {
    FLOAT: "",
    "w8a8": "quantise{weights=int8}",
    "w4a8": f"quantise{{{_INT4}}}",
    "w4a16": f"quantise{{{_INT4} activations=float}}",
    "prefill=w8a8+decode=w4a8": (
        f"quantise{{weights=int8 phases=prefill}},quantise{{{_INT4} phases=decode}}"
    ),
}


class Found(NamedTuple):
    """Of a way: seconds of a step and of a trip of the loop, and what the plan says of the step."""

    way: str
    step_s: float
    trip_s: float
    price_s: float


class Steps:
    """Steps of a bundle's robot, and how long a trip of the loop took in each."""

    def __init__(self, robot: vlacut.Policy, ids: np.ndarray) -> None:
        self._robot, self._ids = robot, ids
        self.trips: list[float] = []

    def __call__(self) -> None:
        """One step."""
        self._robot.step({"ids": self._ids})
        parts = self._robot.last.edge_s.items()
        spent: float = sum(took for name, took in parts if name.startswith("decode"))
        self.trips.append(spent / _TRIPS)


def options_of(way: str, chosen: argparse.Namespace, edge: str) -> dict[str, Any]:
    """What `plan` and `compile` are told of a way, all on the edge."""
    passes = WAYS[way].replace("GROUP", str(chosen.group))
    pipeline = (
        f"simplify,{passes and f'{passes},'}annotate-structure,"
        f"annotate-cost{{edge={edge} cloud=a100}},partition{{link={_LINK} pins=*=edge}}"
    )
    return {"pipeline": pipeline, "edge": edge, "cloud": "a100", "link": _LINK}


def compiled(size: Size, chosen: argparse.Namespace, way: str, path: Path) -> Path:
    """The bundle of a way. Where all runs on one side, no price changes it."""
    options = options_of(way, chosen, chosen.edge or _STAND_IN)
    program = Decoder(size, chosen.prompt, _TRIPS).program()
    vlacut.compile(program, out=path, golden=False, model_check=False, **options)
    return with_one_thread(path)


def measured(
    paths: Sequence[Path], size: Size, chosen: argparse.Namespace, folder: Path
) -> Mapping[str, list[Found]]:
    """Every way, a step each in turn: by the medians of the turns, and by the shortest runs."""
    ids = np.random.default_rng(1).integers(0, size.words, (1, chosen.prompt))
    samples = () if chosen.edge else calibration_samples(forms_of(_BACKEND, 1))
    with ExitStack() as stack, progress_bar() as progress:
        robots = [stack.enter_context(vlacut.connect(path, in_place=True)) for path in paths]
        ways = [Steps(robot, ids) for robot in robots]
        runs = stack.enter_context(sample_runs(samples, _BACKEND, 1, progress))
        taken = measure([*runs, *ways], chosen.rounds, progress, clock_of(1))
    found = {}
    for which, seconds, of_trips in (
        ("medians", [one.seconds for one in taken], median),
        ("shortest", [one.shortest for one in taken], min),
    ):
        known, steps = seconds[: len(samples)], seconds[len(samples) :]
        edge = chosen.edge or str(calibrated(samples, known, chosen.rounds, folder))
        prices = (priced(size, chosen, way, edge) for way in WAYS)
        trips = (of_trips(way.trips) for way in ways)
        found[which] = [Found(*row) for row in zip(WAYS, steps, trips, prices, strict=True)]
    return found


def calibrated(
    samples: Sequence[Sample], seconds: Sequence[float], turns: int, folder: Path
) -> Path:
    """The profile of this machine that these seconds give."""
    path = folder / "here.toml"
    profile = fit_profile("here", _BACKEND, turns, 1, samples, seconds).profile
    path.write_text(profile_text(profile), encoding="utf-8")
    return path


def priced(size: Size, chosen: argparse.Namespace, way: str, edge: str) -> float:
    """Seconds of a step by the plan of a way."""
    program = Decoder(size, chosen.prompt, _TRIPS).program()
    return vlacut.plan(program, **options_of(way, chosen, edge)).plan.variants[0].price.total_s
