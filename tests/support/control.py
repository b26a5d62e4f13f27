"""A control loop in virtual time: chunks whose commands say which observation they are from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vlacut.control.controllers.simple import WhenEmpty
from vlacut.control.cycle import Cycle
from vlacut.control.inferring.inference import Inference, Outlook
from vlacut.control.inferring.virtual import Course, Delayed
from vlacut.control.naming import make_executor
from vlacut.control.report import Route
from vlacut.control.situation import Controller
from vlacut.control.ways.chunk import ChunkReader, ChunkSpec
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import Starving
from vlacut.tensor import TensorSpec

TICK_NS = 50_000_000
LENGTH = 16
OUTPUT = TensorSpec("action", "float64", (1, LENGTH, 3))
INPUTS = {"image": TensorSpec("image", "float32", (4,))}
OBSERVATION = {"image": np.zeros(4, np.float32)}


def stamped(inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
    """Commands that hold when their observation was captured, their index, and a grip."""
    commands = np.zeros((1, LENGTH, 3))
    commands[..., 0] = inference.captured_ns
    commands[..., 1] = np.arange(LENGTH)
    commands[..., 2] = inference.number
    return {"action": commands}


def cycle_of(
    course: Callable[[Inference, int], Course],
    *,
    controller: Controller | None = None,
    executor: str = "async",
    playing: str = "",
    starve: str = "hold",
    expected: tuple[float, ...] = (0.2,),
    make: Callable[[Inference, int], Mapping[str, np.ndarray]] = stamped,
    spec: ChunkSpec | None = None,
    output: TensorSpec = OUTPUT,
    inputs: Mapping[str, TensorSpec] = INPUTS,
    **options: Any,
) -> Cycle:
    """A cycle whose inferences go as `course` says, and are expected to take `expected`."""
    declared = spec or ChunkSpec("action", switched=(2,))
    reader = ChunkReader(declared, output, inputs, TICK_NS * 1e-9)
    runs = make_executor(executor, inputs)
    return Cycle(
        reader,
        Delayed(make, course, lambda _: Outlook(expected, expected)),
        [Route(f"v{index}", "cut", "float32") for index in range(len(expected))],
        runs,
        make_playing(playing or runs.playing, reader),
        controller or WhenEmpty(),
        Starving(starve, reader),
        TICK_NS * 1e-9,
        **options,
    )
