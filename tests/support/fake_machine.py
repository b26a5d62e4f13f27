"""This machine as one with a GPU and TensorRT, both fake: see `fakes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cutting import all_on, sides_of, write_cuts
from support.programs import looping_program
from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.hardware import Side
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.program import Program
from vlacut.ir.state import State
from vlacut_backends.cuda.driver import driver
from vlacut_backends.tensorrt import handles
from vlacut_passes.alternatives import AddAlternatives

if TYPE_CHECKING:
    from fakes.fake_cuda import FakeDriver

CLOUD = ("node_active", "node_join", "node_refined", "node_action")
PINS = (*(f"{name}=cloud" for name in CLOUD), "node_embed=edge", "node_features=edge")
# The same GPU on both sides, so that one process can be both.
TARGET = Target("a100", "a100", "10GB/s,0us", pin=PINS)
FAKES = Path(__file__).parent / "fakes"
_CACHED = (driver, handles.tensorrt, handles.logger)
_MODULES = ("fake_device", "fake_cuda", "tensorrt")


@contextmanager
def fake_machine(
    patch: pytest.MonkeyPatch, engines: Path, tensorrt: str = "10.3.0", **figures: str
) -> Iterator[FakeDriver]:
    """In the block, in this process and those that it starts, there is a GPU.

    Args:
        patch: undone by its owner.
        engines: the folder of engines.
        tensorrt: the release.
        figures: of the fake driver and module: `SM="87"` is FAKE_SM of the environment.
    """
    patch.setenv("VLACUT_ENGINES", str(engines))
    patch.setenv("PYTHONPATH", str(FAKES))
    for name in [name for name in os.environ if name.startswith("FAKE_")]:
        patch.delenv(name)
    patch.setenv("FAKE_TENSORRT", tensorrt)
    for name, value in figures.items():
        patch.setenv(f"FAKE_{name}", value)
    patch.syspath_prepend(str(FAKES))
    _forget()
    import fake_device

    fake_device.install()
    try:
        yield fake_device.driver()
    finally:
        fake_device.remove()
        _forget()


def looping_bundle(folder: Path, target: Target = TARGET, remembers: bool = False) -> Bundle:
    """Two parts on each side, one of them in a loop with a carried state; that begins where the
    step before left it, if it remembers.
    """
    path, program = folder / "looping.vlacut", looping_program()
    if remembers:
        program = remembering(program)
    return compile_program(program, target, path, backend="tensorrt")[1]


def remembering(program: Program) -> Program:
    """The looping program, with its carried state as the program's own."""
    return replace(program, inputs=program.inputs[:1], state=(State("action", "state"),))


def bundle_with_fallback(folder: Path, patch: pytest.MonkeyPatch) -> Bundle:
    """One that remembers, of two variants: features in the cloud, and all on the edge."""
    cloud = ("node_active", "node_features")
    edge = ("node_embed", "node_join", "node_refined", "node_action")
    pins = (*(f"{name}=cloud" for name in cloud), *(f"{name}=edge" for name in edge))

    def add_all_edge(_: AddAlternatives, program: Program) -> None:
        dataflow = trace_dataflow(program)
        write_cuts(dataflow, sides_of(dataflow), all_on(dataflow, Side.EDGE))

    patch.setattr(AddAlternatives, "run", add_all_edge)  # a pool keeps to what was pinned
    target = replace(TARGET, pin=pins, pool="block")
    program = remembering(looping_program())
    return compile_program(program, target, folder / "b.vlacut", backend="tensorrt")[1]


def _forget() -> None:
    for cached in _CACHED:
        cached.cache_clear()
    for name in _MODULES:
        sys.modules.pop(name, None)
