"""`run --rate`: the control loop from the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from vlacut.api import Policy
from vlacut.control.controllers.naming import CONTROLLERS, WHEN_EMPTY
from vlacut.control.executors import ASYNC, EXECUTORS
from vlacut.control.loop import ControlLoop
from vlacut.control.report import CommandReport
from vlacut.control.timeline import TRACK, command_ages, command_slices
from vlacut.control.ways.playing import PLAYINGS
from vlacut.control.ways.starving import HOLD, RULES
from vlacut.errors import Progress
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.timeline import trace_json

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--rate", type=click.FloatRange(0, min_open=True), help="Ticks per second: a loop."
    ),
    click.option("--chunk", default="", help="Output with the commands; the only one, without it."),
    click.option(
        "--controller",
        type=click.Choice(CONTROLLERS),
        default=WHEN_EMPTY,
        show_default=True,
        help="When it asks for an inference.",
    ),
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default=ASYNC,
        show_default=True,
        help="How inferences and commands take turns.",
    ),
    click.option("--playing", type=click.Choice(PLAYINGS), help="The executor's, without it."),
    click.option(
        "--starve",
        type=click.Choice(RULES),
        default=HOLD,
        show_default=True,
        help="What is done while no chunk has a command.",
    ),
    click.option("--tables", type=click.Path(path_type=Path), help="Of vlacut calibrate-actions."),
    click.option(
        "--precision-table",
        type=click.Path(path_type=Path),
        help="Of vlacut calibrate-precision, for the controller dyq.",
    ),
    click.option(
        "--record",
        type=click.Path(path_type=Path),
        help="Write the run: .npz; with --rate, the episode.",
    ),
)


def loop_options(command: F) -> F:
    """Adds the options of a control loop; `rate` is None where it is not one."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def loop_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `ControlLoop` takes of `loop_options`: a table only where one was given."""
    made = dict(options)
    table = made.pop("precision_table")
    return {**made, "playing": made["playing"] or "", **({"table": table} if table else {})}


@dataclass
class LoopRun:
    """A loop, as far as it came.

    Attributes:
        reports: of its ticks.
        steps: of the inferences whose chunks were in force.
    """

    reports: list[CommandReport] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)

    def timeline(self, about: Mapping[str, Any]) -> str:
        """The trace of steps and commands of a bundle, see `about_bundle`."""
        tracks = {TRACK: command_slices(self.reports)}
        return trace_json(self.steps, tracks, command_ages(self.reports), about)


def run_loop(
    session: Policy,
    observation: Mapping[str, np.ndarray],
    ticks: int,
    run: LoopRun,
    progress: Progress,
    *,
    rate: float,
    chunk: str,
    **options: Any,
) -> None:
    """Tick at a rate on one observation, from the first chunk on; into `run`, tick by tick.

    Raises what `ControlLoop` does.
    """
    name = chunk or next(iter(session.plan.outputs))
    with ControlLoop(session, name, rate, **loop_arguments(options)) as loop:
        loop.prime(observation)
        due = time.perf_counter()
        for tick in range(ticks):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + 1 / rate, time.perf_counter())
            loop.tick(observation)
            last = loop.last
            run.reports.append(last)
            if last.step is not None and (not run.steps or run.steps[-1] is not last.step):
                run.steps.append(last.step)
            progress("ticks", tick + 1, ticks)
