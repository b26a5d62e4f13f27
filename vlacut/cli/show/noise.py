"""Noise that a plan's model draws: what it is, and which seed it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from vlacut.plans.plan import Plan


def noise_json(plan: Plan) -> list[dict[str, Any]]:
    """The inputs that the edge draws, each with its distribution and its bytes."""
    return [{**vars(one), "bytes": _spec(plan, one.input).nbytes} for one in plan.noise]


def show_noise(console: Console, plan: Plan) -> None:
    """A line for each input that the edge draws."""
    for one in plan.noise:
        spec = _spec(plan, one.input)
        said = f"noise {spec} is drawn on the edge, {one}, where the observation lacks it"
        console.print(said, style="dim", markup=False)


def without_noise(plan: Plan, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An observation, by name, that lacks all noise, so that it is drawn."""
    drawn = {one.input for one in plan.noise}
    return {name: array for name, array in observation.items() if name not in drawn}


def noise_line(plan: Plan, observation: Mapping[str, np.ndarray], seed: int) -> str:
    """What was drawn for an observation, by name, with a seed; empty if nothing was."""
    names = [one.input for one in plan.noise if one.input not in observation]
    if not names:
        return ""
    return f"noise drawn with seed {seed}: {', '.join(names)}"


def _spec(plan: Plan, name: str) -> Any:
    return next(spec for spec in plan.inputs if spec.name == name)
