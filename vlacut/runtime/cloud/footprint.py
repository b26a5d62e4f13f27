"""The footprint of a plan: what the cloud's machine holds for it."""

from __future__ import annotations

from collections.abc import Mapping

from vlacut.hardware import Side
from vlacut.plans.memory import Memory
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.layout import Layout

_VERSIONS = 2  # of state: what a step builds on, and what it leaves


def cloud_memory(plan: Plan, device: int, weights: Mapping[str, int]) -> Memory:
    """The memory that a plan takes on the cloud's machine.

    Args:
        plan: gives the variants; its own `memory` is not read.
        device: bytes that the machine has.
        weights: bytes of every weight by name.
    """
    held = {name for part in plan.parts if part.side is Side.CLOUD for name in part.weights}
    return Memory(device, sum(weights[name] for name in held), robot_bytes(plan))


def robot_bytes(plan: Plan) -> int:
    """The most bytes of tensors that a robot's session in the cloud holds."""
    made = (
        {key for part in parts for key in part.outputs} for parts in plan.cloud_parts
    )  # a step holds them until its end
    step = max(sum(plan.spec[key].nbytes for key in keys) for keys in made)
    return Layout(plan, Side.CLOUD).nbytes + step + _VERSIONS * state_bytes(plan, Side.CLOUD)


def state_bytes(plan: Plan, side: Side) -> int:
    """The most bytes that one version of the state takes on a side."""
    held = [use.keeps[side] | use.first_keeps[side] for use in plan.state_uses]
    return max((sum(plan.spec[key].nbytes for key in keys) for keys in held), default=0)
